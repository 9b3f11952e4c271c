package tenant_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const widevineProxy = `{url: 'https://license.example/x', provider: acme, aes_key: '` + "1ae8ccd0e7985cc0b6203a55855a1034afc252980e970ca90e5202689f947ab9" + `', aes_iv: 'd58ce954203b7c9a9a9d467f59839249'}`

// TestPlayback holds that players get nothing by default, and what the
// settings say otherwise.
func TestPlayback(t *testing.T) {
	built, err := read(t, "max_keys: 1").Build()
	if err != nil || built.Playback != nil || built.Playback.MayBeClear(nil) {
		t.Errorf("%v, %v", built.Playback, err)
	}
	built, err = read(t, `
playback:
  clear_key: true
  origins: [https://tv.example, 'http://127.0.0.1:8000']
  max_lifetime: 90m
  key_number: 2
  widevine: `+widevineProxy+`
  playready: {url: 'http://127.0.0.1:1/x', headers: {X-Key: s3cret}}
  fairplay: {url: 'https://ksm.example/', token: s3cret, certificate: AAAA, lease_seconds: 60, hdcp: TYPE-0}
`).Build()
	if err != nil {
		t.Fatal(err)
	}
	p := built.Playback
	if p.Lifetime() != 90*time.Minute || p.KeyNumber != 2 || p.FairPlay.Lease != 60 || p.Widevine.Provider != "acme" {
		t.Errorf("%+v", p)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		for _, v := range []any{p, *p} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "s3cret") || strings.Contains(text, "1ae8") || strings.Contains(text, "733363726574") {
				t.Errorf("%s prints a secret: %s", verb, text)
			}
		}
	}
	const clearKey, widevine = "e2719d58-a985-b3c9-781a-b030af78d30e", "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"
	for systems, want := range map[string]bool{"": false, clearKey: true, widevine: false, clearKey + " " + widevine: false} {
		if got := p.MayBeClear(strings.Fields(systems)); got != want {
			t.Errorf("%q may be clear: %v", systems, got)
		}
	}
}

// TestPlaybackFaults: what cannot be used is refused by name, and no secret is
// in the error.
func TestPlaybackFaults(t *testing.T) {
	for text, want := range map[string]string{
		"{secret: s3cret}": "secret: ",
		"{secret: AAAA}":   "secret: ",
		"{key_number: -1}": "key_number: ",
		"{key_number: 1, secret: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=}": "key_number: ",
		"{max_lifetime: -1h}":                                                                     "max_lifetime: ",
		"{accept_studio_keys: true}":                                                              "accept_studio_keys: ",
		"{origins: [tv.example]}":                                                                 "origins: ",
		"{origins: ['https://tv.example/']}":                                                      "origins: ",
		"{widevine: {url: 'http://license.example', provider: a}}":                                "widevine: url: https",
		"{widevine: {url: 'https://license.example', provider: a, aes_key: s3cret}}":              "widevine: aes_key: ",
		"{widevine: " + strings.Replace(widevineProxy, "provider: acme", "provider: ''", 1) + "}": "widevine: provider: ",
		"{widevine: " + strings.Replace(widevineProxy, "{", "{security_level: 6, ", 1) + "}":      "widevine: security_level: ",
		"{playready: {url: nowhere}}":                                                             "playready: url: ",
		"{playready: {url: 'https://x.example', headers: {'a b': s3cret}}}":                       "playready: headers: ",
		"{fairplay: {url: 'http://ksm.example'}}":                                                 "fairplay: url: ",
		"{fairplay: {url: 'https://ksm.example', certificate: '*'}}":                              "fairplay: certificate: ",
		"{fairplay: {url: 'https://ksm.example', hdcp: MUCH}}":                                    "fairplay: hdcp: ",
		"{fairplay: {url: 'https://ksm.example', lease_seconds: -1}}":                             "fairplay: lease_seconds",
	} {
		_, err := read(t, "playback: "+text).Build()
		if err == nil || !strings.HasPrefix(err.Error(), "playback: "+want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", text, err)
		}
	}
	s := read(t, "max_keys: 1")
	s.ID = "spekeasy.playback"
	if _, err := s.Build(); err == nil {
		t.Error("a tenant may have the name of the secrets")
	}
}
