package config_test

import (
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"spekeasy/internal/config"
)

// TestReload holds for every member whether a changed file has an effect on a
// running server.
func TestReload(t *testing.T) {
	live := []string{"admin.credentials", "log.level", "tls.cert_file", "tls.key_file", "tls.client_ca_file", "tls.min_version", "trusted_proxies", "tenants",
		"auth.digest.algorithms", "auth.digest.integrity", "auth.digest.lifetime", "auth.digest.key", "auth.oauth.issuer", "auth.oauth.lifetime", "auth.oauth.signing_key_file"}
	changed := 0
	var each func(v reflect.Value, path string)
	old, next := withTLS(), withTLS()
	each = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue
			}
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			field, name := v.Field(i), path+name
			if field.Kind() == reflect.Struct {
				each(field, name+".")
				continue
			}
			before := reflect.New(field.Type()).Elem()
			before.Set(field)
			alter(t, field, name)
			changed++
			merged, kept := old.Reload(next)
			switch {
			case slices.Contains(live, name):
				if len(kept) != 0 || !reflect.DeepEqual(merged, next) {
					t.Errorf("%s: is not taken over; kept %v", name, kept)
				}
			case !slices.Equal(kept, []string{name}) || !reflect.DeepEqual(merged, old):
				t.Errorf("%s: is taken over; kept %v", name, kept)
			}
			field.Set(before)
		}
	}
	each(reflect.ValueOf(next).Elem(), "")
	if changed < 25 {
		t.Errorf("only %d members", changed)
	}
}

func withTLS() *config.Config {
	c := config.Default()
	c.TLS.CertFile, c.TLS.KeyFile = "cert", "key"
	return c
}

// alter gives a member another value.
func alter(t *testing.T, v reflect.Value, name string) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.Float64:
		v.SetFloat(v.Float() + 1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), v.Len()+1, v.Len()+1))
	default:
		t.Fatalf("%s is a %s", name, v.Kind())
	}
}

// TestReloadTLS: a listener goes on as it began, with TLS or without.
func TestReloadTLS(t *testing.T) {
	plain, secure := config.Default(), withTLS()
	for _, c := range []struct{ old, next *config.Config }{{plain, secure}, {secure, plain}} {
		c.next.Log.Level = slog.LevelDebug
		merged, kept := c.old.Reload(c.next)
		if !slices.Equal(kept, []string{"tls"}) || merged.TLS != c.old.TLS || merged.Log.Level != slog.LevelDebug {
			t.Errorf("kept %v, %+v", kept, merged.TLS)
		}
		c.next.Log.Level = slog.LevelInfo
	}
}
