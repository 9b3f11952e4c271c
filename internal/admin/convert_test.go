package admin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"spekeasy/adminapi"
	"spekeasy/internal/gateway"
	"spekeasy/internal/tenant"
)

// members collects the names that a type has in JSON, with those below.
func members(typ reflect.Type, path string, all map[string]bool) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || strings.Contains(path, "fallback.") { // which is an upstream again
		return
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			members(f.Type, path, all)
		default:
			all[path+name] = true
			members(f.Type, path+name+".", all)
		}
	}
}

// TestSameForm: the API's settings and credentials are those of the
// configuration file, and what it tells of upstreams is what the gateway does,
// to the last member; only secrets are the API's alone.
func TestSameForm(t *testing.T) {
	for _, c := range []struct {
		api, ours any
		secrets   []string
	}{
		{adminapi.TenantSettings{}, tenant.Settings{}, []string{"key_source.seed"}},
		{adminapi.Credential{}, tenant.Credential{}, []string{
			"basic.password", "api_key.key", "token.token", "digest.password", "oauth_client.secret", "sigv4.secret_access_key",
			"widevine_signer.aes_key", "widevine_signer.aes_iv",
		}},
		{adminapi.UpstreamHealth{}, gateway.Health{}, nil},
		{adminapi.Exchange{}, gateway.Exchange{}, nil},
	} {
		api, ours := make(map[string]bool), make(map[string]bool)
		members(reflect.TypeOf(c.api), "", api)
		members(reflect.TypeOf(c.ours), "", ours)
		if ours["key_source"] {
			delete(ours, "id") // beside the settings
		}
		if len(ours) < 20 {
			t.Fatalf("only %d members", len(ours))
		}
		for _, name := range c.secrets {
			if !api[name] || ours[name] {
				t.Errorf("%s: in the API %v, in documents %v", name, api[name], ours[name])
			}
			delete(api, name)
		}
		for name := range ours {
			if !api[name] {
				t.Errorf("%s of %T is not in the API", name, c.ours)
			}
		}
		for name := range api {
			if !ours[name] {
				t.Errorf("%s of %T is in the API only", name, c.api)
			}
		}
	}
}

// TestSettingsThereAndBack holds that settings come back as they went.
func TestSettingsThereAndBack(t *testing.T) {
	const text = `{"aliases":["a"],"key_source":{"kind":"hkdf"},"kid_rule":"uuidv5","kid_reuse":"refuse","clear_keys":"refuse",` +
		`"drm":{"widevine":{"provider":"p"},"fairplay":{"uri":"skd://{kid}"}},"v1_scheme":"cbcs","max_keys":3,` +
		`"contract":{"separate_audio":true},"certificates":{"refuse_expired":true},"output":{"hdcp":{"UHD":"TYPE-1"}},` +
		`"limits":{"rate":2.5,"credential":{"burst":1},"new_keys_per_day":7},"brands":{"tv":{"limits":{"concurrency":2}}},"playback":{"clear_key":true,"origins":["https://tv.example"]}}`
	var in adminapi.TenantSettings
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		t.Fatal(err)
	}
	s, err := settingsOf("acme", &in, nil)
	if err != nil || s.ID != "acme" || s.Limits.Rate != 2.5 || s.Brands["tv"].Limits.Concurrency != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	out, err := settingsFor(&s)
	if err != nil || !reflect.DeepEqual(out, in) {
		t.Errorf("%+v, %v; want %+v", out, err, in)
	}
}
