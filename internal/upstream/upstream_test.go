package upstream_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"spekeasy/internal/upstream"
)

// TestWords: what the parts of a word become, for each vendor.
func TestWords(t *testing.T) {
	for word, want := range map[string]func(*upstream.Settings) bool{
		"axinom+http://tenant:k%2Fey@127.0.0.1:1/api/Speke": func(s *upstream.Settings) bool {
			return s.URL == "http://127.0.0.1:1/api/Speke" && s.URLV2 == "http://127.0.0.1:1/api/SpekeV2" && s.Auth.Basic.User == "tenant" && s.Auth.Basic.Password == "k/ey"
		},
		"insys+https://id:secret@h/kms/speke?tenantId=7#token=/oauth/token,scope=a%20b": func(s *upstream.Settings) bool {
			return s.URL == "https://h/kms/speke?tenantId=7" && s.URLV2 == "https://h/kms/speke2?tenantId=7" && s.Auth.OAuth.TokenURL == "https://h/oauth/token" &&
				s.Auth.OAuth.ID == "id" && s.Auth.OAuth.Secret == "secret" && s.Auth.OAuth.Scope == "a b" && s.Auth.OAuth.Params == "query"
		},
		"insys+https://:secret@h/kms/speke": func(s *upstream.Settings) bool {
			return s.Auth.Header.Name == "X-API-KEY" && s.Auth.Header.Value == "secret"
		},
		"pallycon+https://t%2F0k@h/cpix/getKey": func(s *upstream.Settings) bool {
			return s.URL == "https://h/cpix/getKey?enc-token={token}" && s.URLV2 == "https://h/v2/cpix/pallycon/getKey/{token}" && s.Auth.Token == "t/0k" &&
				s.CEK == upstream.CEKTerminate && s.KIDPolicy == upstream.KIDAny && s.Heartbeat.URL == "https://h/cpix/getKey/heartbeat" && s.Heartbeat.Body == "SUCCESS"
		},
		"pallycon+https://h/cpix/getKey?enc-token=t%2F0k": func(s *upstream.Settings) bool {
			return s.URL == "https://h/cpix/getKey?enc-token={token}" && s.Auth.Token == "t/0k"
		},
		"keyos+https://userkey@h/copyProtection": func(s *upstream.Settings) bool {
			return s.Auth.Header.Name == "keyos-userkey" && s.Auth.Header.Value == "userkey" && s.URLV2 == "https://h/v2/copyProtection"
		},
		"generic+https://u:p@h/speke#v2=https://other/speke2": func(s *upstream.Settings) bool {
			return s.URLV2 == "https://other/speke2" && s.SPEKE == "as-received" && s.ContentType == "application/xml" && s.Method == "POST"
		},
		"generic+http://h/speke": func(s *upstream.Settings) bool { return s.Auth.IsZero() },
		"ezdrm+https://u:p@h/KeyGenerator/cpix.aspx": func(s *upstream.Settings) bool {
			return s.Method == "GET" && s.Query["u"] == "u" && s.Query["k"] == "{kid}" && s.Query["c"] == "{contentId}" && *s.FanOut
		},
		"vudrm+https://:key@h/client/speke": func(s *upstream.Settings) bool { return s.Auth.Header.Name == "API-KEY" },
		"irdeto+https://u:p@h/tkm/v2/acme/contents": func(s *upstream.Settings) bool {
			return s.URL == "https://h/tkm/v2/acme/contents/{contentId}/copyProtectionData"
		},
	} {
		s, err := upstream.ParseWord(word)
		if err != nil {
			t.Errorf("%s: %v", word, err)
			continue
		}
		ready, err := s.Ready()
		if err != nil || !want(ready) {
			text, _ := json.Marshal(ready)
			t.Errorf("%s: %v %s", word, err, text)
		}
	}
}

// TestBadWords: each is refused, and none is quoted.
func TestBadWords(t *testing.T) {
	for _, word := range []string{
		"", "axinom", "https://u:t0psecret@h/", "acme+https://u:t0psecret@h/", "axinom+ftp://u:t0psecret@h/", "axinom+https://u@h/t0psecret",
		"axinom+https://u:t0psecret@h:port/", "axinom+https://u:t0psecret@/api", "axinom+https://u:t0p%secret@h/", "keyos+https://u:t0psecret@h/",
		"insys+https://u:t0psecret@h/#t0psecret=1", "insys+https://u:t0psecret@h/#scope=%zz", "insys+https://u:t0psecret@h/#token=%3A%3A%3Ft0psecret",
		"pallycon+https://h/cpix/getKey?t0psecret=1",
	} {
		s, err := upstream.ParseWord(word)
		if err == nil {
			t.Errorf("%s was taken", word)
			continue
		}
		if strings.Contains(fmt.Sprintf("%v %+v %#v", err, s, s), "t0psecret") {
			t.Errorf("%s: %v shows the secret", word, err)
		}
	}
}

// TestHidden: settings show no secret, whichever way they are printed.
func TestHidden(t *testing.T) {
	s := &upstream.Settings{
		Vendor: "generic", URL: "https://h/path/t0psecret", Headers: map[string]upstream.Secret{"A": "t0psecret"}, Query: map[string]upstream.Secret{"A": "t0psecret"},
		Auth: upstream.Auth{
			Basic: &upstream.Basic{User: "u", Password: "t0psecret"}, Bearer: &upstream.Bearer{Token: "t0psecret"}, Token: "t0psecret",
			OAuth: &upstream.OAuth{Secret: "t0psecret"}, Header: &upstream.Value{Value: "t0psecret"}, Query: &upstream.Value{Value: "t0psecret"},
			SigV4: &upstream.SigV4{SecretAccessKey: "t0psecret", SessionToken: "t0psecret"}, MTLS: upstream.KeyPair{Key: "t0psecret"},
		},
		Recipient: upstream.KeyPair{Key: "t0psecret"},
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "settings", s, "auth", s.Auth, "secret", s.Auth.Token)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb+verb+verb+verb, s, *s, s.Auth, s.Auth.Token)
	}
	s.URL = ""
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	log.Write(text)
	for _, form := range []string{"t0psecret", "74307073", "[116 48"} {
		if strings.Contains(log.String(), form) {
			t.Error(log.String())
		}
	}
}

// TestFaults: each fault is found and named by its member, without a secret.
func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                            "vendor: ",
		`{vendor: acme}`:                "vendor: ",
		`{vendor: generic}`:             "url: required",
		`{vendor: generic, url: "h/x"}`: "url: not an absolute",
		`{vendor: generic, url: "https://u:t0p@h/"}`:                                                                         "url: not an absolute",
		`{vendor: generic, url: "https://h/{user}"}`:                                                                         "url: {user}",
		`{vendor: generic, url: "https://h/{kid"}`:                                                                           "url: { without }",
		`{vendor: generic, url: "https://h/{token}"}`:                                                                        "url: has {token}",
		`{vendor: generic, url: "https://h/", name: "A b"}`:                                                                  "name: ",
		`{vendor: generic, url: "https://h/", method: PUT}`:                                                                  "method: ",
		`{vendor: generic, url: "https://h/", speke: "3"}`:                                                                   "speke: ",
		`{vendor: generic, url: "https://h/", cek: re-encrypt}`:                                                              "recipient: ",
		`{vendor: generic, url: "https://h/", recipient: {certificate: t0p, key: t0p}}`:                                      "recipient: not a PEM",
		`{vendor: generic, url: "https://h/", auth: {mtls: {certificate: t0p}}}`:                                             "auth: mtls: ",
		`{vendor: generic, url: "https://h/", auth: {basic: {user: "a:b", password: t0p}}}`:                                  "auth: basic: user: ",
		`{vendor: generic, url: "https://h/", auth: {basic: {user: a, password: t0p}, bearer: {token: t0p}}}`:                "auth: only one",
		`{vendor: generic, url: "https://h/", auth: {bearer: {token: "t0p\nx"}}}`:                                            "auth: bearer: token: ",
		`{vendor: generic, url: "https://h/", auth: {oauth: {id: a, secret: t0p}}}`:                                          "auth: oauth: token_url: ",
		`{vendor: generic, url: "https://h/", auth: {oauth: {id: a, secret: t0p, token_url: "https://h", params: head}}}`:    "auth: oauth: params: ",
		`{vendor: generic, url: "https://h/", auth: {sigv4: {access_key_id: a}}}`:                                            "auth: sigv4: ",
		`{vendor: generic, url: "https://h/", auth: {header: {name: "a b", value: t0p}}}`:                                    "auth: header: name: ",
		`{vendor: generic, url: "https://h/", headers: {"a:": t0p}}`:                                                         "headers: name: ",
		`{vendor: generic, url: "https://h/", kid_policy: override}`:                                                         "kid_policy: ",
		`{vendor: generic, url: "https://h/", kid_policy: maybe}`:                                                            "kid_policy: ",
		`{vendor: generic, url: "https://h/", periods: drop}`:                                                                "periods: ",
		`{vendor: generic, url: "https://h/", iv: abc}`:                                                                      "iv: ",
		`{vendor: generic, url: "https://h/", tracks: {VIDEO: ""}}`:                                                          "tracks: ",
		`{vendor: generic, url: "https://h/", timeout: -1s}`:                                                                 "timeout: ",
		`{vendor: generic, url: "https://h/", retries: 9}`:                                                                   "retries: ",
		`{vendor: generic, url: "https://h/", concurrency: 5000}`:                                                            "concurrency: ",
		`{vendor: generic, url: "https://h/", heartbeat: {url: "https://h/", every: 1s}}`:                                    "heartbeat.every: ",
		`{vendor: generic, url: "https://h/", fallback: [{vendor: acme}]}`:                                                   "fallback[0]: vendor: ",
		`{vendor: generic, url: "https://h/", fallback: [{vendor: generic, url: "https://i/"}]}`:                             "fallback[0]: name: ",
		`{vendor: generic, url: "https://h/", fallback: [{same_keys: true, url: "i"}]}`:                                      "fallback[0]: url: ",
		`{vendor: generic, url: "https://h/", fallback: [{vendor: axinom, url: "https://i/", fallback: [{vendor: ezdrm}]}]}`: "fallback[0]: fallback: ",
	} {
		var s upstream.Settings
		if err := yaml.UnmarshalWithOptions([]byte(text), &s, yaml.Strict()); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		_, err := s.Ready()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "t0p") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// FuzzParseWord: no word makes the parser panic or quote it.
func FuzzParseWord(f *testing.F) {
	f.Add("axinom+https://TENANT:KEY@host.example/api/Speke")
	f.Add("insys+http://a:b@h/?x=y#token=/t,scope=s,v2=/u")
	f.Add("pallycon+https://h/cpix/getKey?enc-token=t")
	f.Fuzz(func(t *testing.T, word string) {
		s, err := upstream.ParseWord(word)
		if err != nil {
			return
		}
		if ready, err := s.Ready(); err == nil && !strings.HasPrefix(ready.URL, "http") {
			t.Errorf("%q", ready.URL)
		}
	})
}
