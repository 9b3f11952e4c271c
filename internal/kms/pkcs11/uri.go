//go:build pkcs11

package pkcs11

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"spekeasy/internal/kms"
)

const defaultSessions = 8

// target is what a URI says.
type target struct {
	token, serial string // label and serial number of the token
	object        string // label of the key
	id            []byte // CKA_ID of the key
	module        string
	sessions      int
	pin           func() (string, error)
}

// parse reads a PKCS #11 URI strictly: what is not understood is refused,
// since it was meant to single out another key.
func parse(uri *url.URL, getenv func(string) string) (target, error) {
	params, err := kms.Query(uri, "module-path", "pin-source", "max-sessions")
	if err != nil {
		return target{}, err
	}
	t := target{module: params["module-path"], sessions: defaultSessions}
	if uri.Host != "" || uri.Opaque == "" {
		return target{}, errors.New("pkcs11 URI: want pkcs11:token=LABEL;object=LABEL?module-path=...&pin-source=..., without slashes")
	}
	seen := make(map[string]bool)
	for attribute := range strings.SplitSeq(uri.Opaque, ";") {
		name, raw, _ := strings.Cut(attribute, "=")
		value, err := url.PathUnescape(raw)
		if err != nil || value == "" || seen[name] {
			return target{}, fmt.Errorf("pkcs11 URI: attribute %q is empty, malformed or given twice", name)
		}
		seen[name] = true
		switch name {
		case "token":
			t.token = value
		case "serial":
			t.serial = value
		case "object":
			t.object = value
		case "id":
			t.id = []byte(value)
		case "type":
			if value != "secret-key" {
				return target{}, errors.New("pkcs11 URI: type must be secret-key")
			}
		default:
			return target{}, fmt.Errorf("pkcs11 URI: unknown attribute %q; known: token, serial, object, id, type", name)
		}
	}
	switch {
	case t.token == "" && t.serial == "":
		return target{}, errors.New("pkcs11 URI: token or serial is missing")
	case t.object == "" && t.id == nil:
		return target{}, errors.New("pkcs11 URI: object or id is missing")
	case !filepath.IsAbs(t.module):
		return target{}, errors.New("pkcs11 URI: module-path must be an absolute path")
	}
	if s, ok := params["max-sessions"]; ok {
		if t.sessions, err = strconv.Atoi(s); err != nil || t.sessions < 1 || t.sessions > 1024 {
			return target{}, errors.New("pkcs11 URI: max-sessions must be 1 to 1024")
		}
	}
	t.pin, err = pinSource(params["pin-source"], getenv)
	return t, err
}

// pinSource returns how the PIN is read, each time that it is needed.
func pinSource(source string, getenv func(string) string) (func() (string, error), error) {
	kind, where, _ := strings.Cut(source, ":")
	switch {
	case kind == "file" && filepath.IsAbs(where):
		return func() (string, error) {
			b, err := os.ReadFile(where)
			if err != nil {
				return "", fmt.Errorf("%w: PIN: %w", kms.ErrDenied, err)
			}
			defer clear(b)
			return notEmpty(strings.TrimRight(string(b), "\r\n"), where)
		}, nil
	case kind == "env" && where != "":
		return func() (string, error) { return notEmpty(getenv(where), where) }, nil
	}
	return nil, errors.New("pkcs11 URI: pin-source must be file:/PATH or env:NAME")
}

func notEmpty(pin, where string) (string, error) {
	if pin == "" {
		return "", fmt.Errorf("%w: PIN: %s is empty", kms.ErrDenied, where)
	}
	return pin, nil
}

// name is the part of a URI that names the key, in one way to write it.
func (t target) name() string {
	var parts []string
	for _, a := range []struct{ name, value string }{{"token", t.token}, {"serial", t.serial}, {"object", t.object}} {
		if a.value != "" {
			parts = append(parts, a.name+"="+url.PathEscape(a.value))
		}
	}
	if t.id != nil {
		id := "id="
		for _, b := range t.id {
			id += "%" + strings.ToUpper(hex.EncodeToString([]byte{b}))
		}
		parts = append(parts, id)
	}
	return "pkcs11:" + strings.Join(parts, ";")
}
