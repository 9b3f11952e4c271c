package vendorsim_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"spekeasy/internal/vendorsim"
)

// TestWords holds the one-word form: what a simulator prints is read back as
// what it is.
func TestWords(t *testing.T) {
	for _, c := range []struct {
		vendor   string
		auth     vendorsim.Auth
		v1, v2   string // paths with query
		token    string
		wordHead string
	}{
		{vendorsim.Axinom, "", "/api/Speke", "/api/SpekeV2", "", "axinom+http://"},
		{vendorsim.Insys, vendorsim.OAuth, "/kms/speke?tenantId=", "/kms/speke2?tenantId=", "/oauth/token", "insys+http://"},
		{vendorsim.Insys, vendorsim.APIKey, "/kms/speke?tenantId=", "/kms/speke2?tenantId=", "", "insys+http://:"},
		{vendorsim.Insys, vendorsim.Basic, "/kms/speke?tenantId=", "/kms/speke2?tenantId=", "", "insys+http://"},
		{vendorsim.PallyCon, "", "/cpix/getKey", "/v2/cpix/pallycon/getKey/", "", "pallycon+http://"},
		{vendorsim.KeyOS, "", "/copyProtection", "/v2/copyProtection", "", "keyos+http://"},
		{vendorsim.Generic, "", "/speke/copyProtection", "/speke/copyProtection", "", "generic+http://"},
	} {
		t.Run(c.vendor+string(c.auth), func(t *testing.T) {
			sim, err := vendorsim.New(c.vendor, vendorsim.Options{Auth: c.auth})
			if err != nil {
				t.Fatal(err)
			}
			made, err := sim.Upstream("http://127.0.0.1:8080")
			if err != nil {
				t.Fatal(err)
			}
			word := made.Word()
			if !strings.HasPrefix(word, c.wordHead) || strings.ContainsAny(word, " ;&'\"\\$`()|<>") {
				t.Fatalf("word %s", word)
			}
			if !vendorsim.IsUpstream(word) {
				t.Fatal("IsUpstream is false")
			}
			up, err := vendorsim.ParseUpstream(word)
			if err != nil {
				t.Fatal(err)
			}
			if again := up.Word(); again != word {
				t.Errorf("word %s reads as %s", word, again)
			}
			if up.Auth != made.Auth || up.User != made.User || up.Secret != made.Secret || up.Secret == "" || up.Scope != made.Scope {
				t.Error("the credential is another one")
			}
			if !strings.HasPrefix(up.V1.RequestURI(), c.v1) || !strings.HasPrefix(up.V2.RequestURI(), c.v2) {
				t.Errorf("URLs %s and %s", up.V1.RequestURI(), up.V2.RequestURI())
			}
			if (up.TokenURL != nil) != (c.token != "") || up.TokenURL != nil && up.TokenURL.String() != "http://127.0.0.1:8080"+c.token {
				t.Errorf("token URL %v", up.TokenURL)
			}
			for _, shown := range []string{fmt.Sprint(up), fmt.Sprintf("%+v %#v %s %x", up, up, up, up), slog.AnyValue(up).Resolve().String()} {
				if strings.Contains(shown, up.Secret) {
					t.Errorf("%q shows the secret", shown)
				}
			}
		})
	}
}

func TestHints(t *testing.T) {
	const word = "insys+https://app:s%2Fcret@tenant.example/kms/speke?tenantId=1#token=https:%2F%2Fauth.example/oauth/token,scope=a%20b,v2=/other?tenantId=1"
	up, err := vendorsim.ParseUpstream(word)
	if err != nil {
		t.Fatal(err)
	}
	if up.Secret != "s/cret" || up.Scope != "a b" || up.TokenURL.String() != "https://auth.example/oauth/token" ||
		up.V2.String() != "https://tenant.example/other?tenantId=1" || up.V1.String() != "https://tenant.example/kms/speke?tenantId=1" {
		t.Errorf("%s %s %s", up.V1, up.V2, up.TokenURL)
	}
	again, err := vendorsim.ParseUpstream(up.Word())
	if err != nil {
		t.Fatal(err)
	}
	if again.V2.String() != up.V2.String() || again.Scope != up.Scope || again.TokenURL.String() != up.TokenURL.String() {
		t.Errorf("%s reads as %s", word, again.Word())
	}
}

func TestBadWords(t *testing.T) {
	for name, word := range map[string]string{
		"empty":              "",
		"another vendor":     "acme+http://hunter2@host/path",
		"another transport":  "axinom+ftp://user:hunter2@host/path",
		"a plain URL":        "https://user:hunter2@host/path",
		"no credential":      "axinom+http://host/api/Speke#hunter2",
		"no password":        "axinom+http://hunter2@host/api/Speke",
		"no secret":          "keyos+http://@host/copyProtection",
		"no host":            "axinom+http://user:hunter2@/api/Speke",
		"user for PallyCon":  "pallycon+http://user:hunter2@host/cpix/getKey",
		"a bad port":         "axinom+http://user:hunter2@host:99999999999x/",
		"an unknown hint":    "insys+http://user:hunter2@host/kms/speke#hunter2=x",
		"a hint of no value": "insys+http://user:hunter2@host/kms/speke#token=",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := vendorsim.ParseUpstream(word)
			if !errors.Is(err, vendorsim.ErrUpstream) {
				t.Fatalf("error %v", err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q quotes the word", err)
			}
		})
	}
}
