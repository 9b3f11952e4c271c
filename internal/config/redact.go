package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"

	"spekeasy/internal/tenant"
)

// plain are members whose values tell an operator's choices and can hold no
// secret. Whatever is not among them is left out of a redacted configuration,
// so that a new member is safe until somebody thinks about it.
var plain = map[string]bool{
	"listen": true, "data": true, "dir": true, "lifetime": true, "bytes": true, "reuse": true, "level": true, "format": true,
	"sync": true, "segment_bytes": true, "retain": true, "stdout": true, "min_version": true, "cert_file": true, "key_file": true,
	"client_ca_file": true, "signing_key_file": true, "algorithms": true, "issuer": true, "trusted_proxies": true, "sample": true,
	"id": true, "name": true, "class": true, "kind": true, "kid_rule": true, "override_kid_rule": true, "kid_reuse": true,
	"scheme_reuse": true, "v1_scheme": true, "max_keys": true, "not_before": true, "expires": true,
	"rate": true, "burst": true, "concurrency": true, "new_keys_per_day": true, "cenc_version": true, "cenc_method": true,
	"refuse_track_types": true,
}

// locations are members whose values are URLs that may carry a password.
var locations = map[string]bool{"store": true, "key_manager": true, "former_key_managers": true, "endpoint": true, "la_url": true, "license_url": true}

const redacted = "(left out)"

// Redact returns the text of a configuration file without whatever could be
// secret. References such as ${NAME} stay, what they stand for does not come
// in. A text that is not YAML gives an error and nothing else.
func Redact(text []byte) ([]byte, error) {
	var file yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.UseOrderedMap()); err != nil {
		_, fault := reword(err, nil)
		return nil, fault
	}
	return yaml.Marshal(redact("", file))
}

func redact(name string, v any) any {
	switch v := v.(type) {
	case yaml.MapSlice:
		out := make(yaml.MapSlice, 0, len(v))
		for _, item := range v {
			key := fmt.Sprint(item.Key)
			out = append(out, yaml.MapItem{Key: key, Value: redact(key, item.Value)})
		}
		return out
	case []any:
		out := make([]any, 0, len(v))
		for _, item := range v {
			out = append(out, redact(name, item))
		}
		return out
	case nil, bool:
		return v
	}
	text := fmt.Sprint(v)
	switch {
	case plain[name], isReference(text):
		return v
	case locations[name]:
		if u, err := url.Parse(text); err == nil {
			return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, Opaque: u.Opaque}).String()
		}
	}
	return redacted
}

// isReference reports whether a text is ${NAME} or ${file:PATH} alone.
func isReference(s string) bool {
	return strings.HasPrefix(s, "${") && strings.IndexByte(s, '}') == len(s)-1
}

// Secrets returns what a configuration holds that must not be told: passwords,
// tokens, seeds, and the passwords and parameters of URLs.
func (c *Config) Secrets() []string {
	var all []string
	add := func(s string) {
		if s != "" {
			all = append(all, s)
		}
	}
	for _, text := range append([]string{c.Store, c.KeyManager}, c.FormerKeyManagers...) {
		u, err := url.Parse(text)
		if err != nil {
			add(text)
			continue
		}
		password, _ := u.User.Password()
		add(password)
	}
	for i := range c.Tenants {
		add(c.Tenants[i].KeySource.Seed)
	}
	collect(reflect.ValueOf(c), add)
	return all
}

// collect finds every [tenant.Secret].
func collect(v reflect.Value, add func(string)) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			collect(v.Elem(), add)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			collect(v.Field(i), add)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			collect(v.Index(i), add)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			collect(v.MapIndex(key), add)
		}
	case reflect.String:
		if v.Type() == reflect.TypeFor[tenant.Secret]() {
			add(v.String())
		}
	default:
	}
}
