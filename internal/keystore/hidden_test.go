package keystore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// TestKeysAreHidden prints everything that holds content keys, and every
// error that requests for them can give, and looks for their bytes.
func TestKeysAreHidden(t *testing.T) {
	secret := contentkey.Value{0xde, 0xad, 0xbe, 0xef, 0xca, 0xfe, 0xba, 0xbe, 0xfe, 0xed, 0xfa, 0xce, 0xd0, 0x0d, 0xf0, 0x0d}
	source := &keystore.Derived{Label: "fixed", Key: func(contentkey.KID) (contentkey.Value, error) { return secret, nil }}
	var logged bytes.Buffer
	f := start(t, keystore.Options{Log: slog.New(slog.NewTextHandler(&logged, nil))})
	wanted := func(content string, kids ...contentkey.KID) *keystore.Ask {
		a := ask(content, kids...)
		a.Source = source
		return a
	}
	keys := f.obtain(wanted("movie", kid(1)))
	if keys[0].Value != secret {
		t.Fatal("the source was not used")
	}
	hkdf, err := keystore.NewHKDF(bytes.Repeat(secret[:], 2))
	if err != nil {
		t.Fatal(err)
	}
	derived, _, err := hkdf.Make("acme", kid(1))
	if err != nil {
		t.Fatal(err)
	}

	errs := []error{}
	fails := func(a *keystore.Ask) {
		t.Helper()
		_, err := f.Obtain(t.Context(), a)
		if err == nil {
			t.Fatal("no error")
		}
		errs = append(errs, err)
	}
	reuse := wanted("other", kid(1))
	reuse.Reuse.RefuseKID = true
	fails(reuse)
	f.spy.fail = func(m string) error {
		if m == "Commit" {
			return keystore.ErrUnavailable
		}
		return nil
	}
	fails(wanted("movie", kid(2)))
	f.spy.fail = nil
	f.restart()
	f.spy.records = func(all []keystore.Record) {
		for i := range all {
			all[i].Wrapped = append([]byte{1}, secret[:]...)
		}
	}
	fails(wanted("movie", kid(1)))
	f.spy.records = nil
	outage := errors.New("down")
	f.restart()
	f.kek.fail.Store(&outage)
	fails(wanted("movie", kid(1)))
	f.kek.fail.Store(nil)
	f.obtain(wanted("movie", kid(1)))

	var out bytes.Buffer
	imported := keystore.ImportedKey{KID: kid(9), Value: secret}
	things := []any{imported, &imported, keystore.StoredKey{Value: secret}, keys, keys[0], &keys[0], f.Keystore, *hkdf, hkdf, source, *source, f.stored(kid(1)), f.Stats(), wanted("movie", kid(1)), errs}
	for _, err := range errs {
		things = append(things, err)
	}
	log := slog.New(slog.NewJSONHandler(&out, nil))
	for _, x := range things {
		for _, verb := range []string{"%v\n", "%+v\n", "%#v\n", "%s\n", "%x\n", "%X\n", "%d\n", "%q\n"} {
			fmt.Fprintf(&out, verb, x)
			fmt.Fprintf(&out, verb, []any{x})
			fmt.Fprintf(&out, verb, struct{ X any }{x})
		}
		log.Info("thing", "x", x)
		if text, err := json.Marshal(x); err == nil {
			out.Write(text)
		}
	}
	out.Write(logged.Bytes())
	text := strings.ToLower(out.String())
	for _, key := range []contentkey.Value{secret, derived} {
		part := key[:4]
		for name, leak := range map[string]string{
			"raw":       string(part),
			"hex":       hex.EncodeToString(part),
			"hex bytes": fmt.Sprintf("%#x, %#x", part[0], part[1]),
			"spaced":    fmt.Sprintf("% x", part),
			"decimal":   fmt.Sprintf("%d %d %d", part[0], part[1], part[2]),
			"json":      fmt.Sprintf("%d,%d,%d", part[0], part[1], part[2]),
			"base64":    base64.StdEncoding.EncodeToString(key[:6])[:7],
		} {
			if strings.Contains(text, strings.ToLower(leak)) {
				i := strings.Index(text, strings.ToLower(leak))
				t.Errorf("a key shows as %s: %.200q", name, text[max(0, i-150):])
			}
		}
	}
}
