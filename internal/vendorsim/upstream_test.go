package vendorsim_test

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"spekeasy/internal/vendorsim"
)

// TestWords holds the one-word form of what each simulator stands for, and
// that it can be told a shell as it is.
func TestWords(t *testing.T) {
	const base = "http://127.0.0.1:8080"
	for _, c := range []struct {
		vendor string
		auth   vendorsim.Auth
		word   string // USER, SECRET and ID stand for what follows from the seed
		v2     string
	}{
		{vendorsim.Axinom, "", "axinom+http://USER:SECRET@127.0.0.1:8080/api/Speke", "/api/SpekeV2"},
		{vendorsim.Insys, "", "insys+http://USER:SECRET@127.0.0.1:8080/kms/speke?tenantId=ID#token=/oauth/token,scope=kms.speke", "/kms/speke2?tenantId=ID"},
		{vendorsim.Insys, vendorsim.APIKey, "insys+http://:SECRET@127.0.0.1:8080/kms/speke?tenantId=ID", "/kms/speke2?tenantId=ID"},
		{vendorsim.Insys, vendorsim.Basic, "insys+http://USER:SECRET@127.0.0.1:8080/kms/speke?tenantId=ID", "/kms/speke2?tenantId=ID"},
		{vendorsim.PallyCon, "", "pallycon+http://SECRET@127.0.0.1:8080/cpix/getKey", "/v2/cpix/pallycon/getKey/"},
		{vendorsim.KeyOS, "", "keyos+http://SECRET@127.0.0.1:8080/copyProtection", "/v2/copyProtection"},
		{vendorsim.Generic, "", "generic+http://USER:SECRET@127.0.0.1:8080/speke/copyProtection", "/speke/copyProtection"},
	} {
		t.Run(c.vendor+string(c.auth), func(t *testing.T) {
			sim, err := vendorsim.New(c.vendor, vendorsim.Options{Auth: c.auth})
			if err != nil {
				t.Fatal(err)
			}
			up, err := sim.Upstream(base)
			if err != nil {
				t.Fatal(err)
			}
			fill := strings.NewReplacer("USER", up.User, "SECRET", url.User(up.Secret).String(), "ID", up.V1.Query().Get("tenantId"))
			word := up.Word()
			if want := fill.Replace(c.word); word != want || up.Secret == "" {
				t.Errorf("word %s, want %s", word, want)
			}
			if strings.ContainsAny(word, " ;&'\"\\`()|<>") {
				t.Errorf("a shell reads %s otherwise", word)
			}
			if want := fill.Replace(c.v2); up.V2.RequestURI() != want {
				t.Errorf("SPEKE 2 at %s, want %s", up.V2.RequestURI(), want)
			}
			for _, shown := range []string{fmt.Sprint(up), fmt.Sprintf("%+v %#v %s %x", up, up, up, up), slog.AnyValue(up).Resolve().String()} {
				if strings.Contains(shown, up.Secret) {
					t.Errorf("%q shows the secret", shown)
				}
			}
		})
	}
}

// TestHints escapes what would end a hint, and names a URL for SPEKE 2.x that
// is not the preset's.
func TestHints(t *testing.T) {
	parse := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	up := &vendorsim.Upstream{
		Vendor: vendorsim.Insys, Auth: vendorsim.OAuth, User: "app", Secret: "s/cret", Scope: "a b,c",
		V1: parse("https://tenant.example/kms/speke?tenantId=1"), V2: parse("https://tenant.example/other?x=1,2"),
		TokenURL: parse("https://auth.example/oauth/token"),
	}
	const want = "insys+https://app:s%2Fcret@tenant.example/kms/speke?tenantId=1#token=https://auth.example/oauth/token,scope=a%20b%2Cc,v2=/other?x=1%2C2"
	if got := up.Word(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
