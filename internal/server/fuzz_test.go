package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/server"
)

// digestKeys stands for the keystore where a fuzz target has no time for one:
// keys are digests of key IDs.
type digestKeys struct{}

func (digestKeys) Obtain(_ context.Context, ask *keystore.Ask) ([]keystore.Key, error) {
	keys := make([]keystore.Key, len(ask.Wants))
	for i, w := range ask.Wants {
		sum := sha256.Sum256(w.KID[:])
		keys[i] = keystore.Key{KID: w.KID, Value: contentkey.Value(sum[:16]), IV: contentkey.IV(sum[16:])}
	}
	return keys, nil
}

// FuzzHandler holds that no request makes the handler panic or answer with an
// error of its own: whatever comes is answered, refused, or not for us. What
// is answered is well-formed for encoding/xml too.
func FuzzHandler(f *testing.F) {
	files, err := filepath.Glob(exchanges)
	if err != nil || len(files) < 100 {
		f.Fatalf("%d exchanges, %v", len(files), err)
	}
	for _, name := range files {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		head, _ := file(ar, "request.http")
		body, _ := file(ar, "request.xml")
		h := headers(head)
		f.Add(string(head[:4]), uint8(1), h.Get("X-Speke-Version"), h.Get("Authorization"), string(body))
	}
	f.Add("POST", uint8(0), "2.0", "Basic Og==", "")
	now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
	h := server.New(authenticator(f, "example"), tenants{}, keyprovider.New(digestKeys{}, zeros{}, now, keyprovider.Options{SealFor: time.Minute}),
		audit.Off{}, "spekeasy/test", slog.New(slog.DiscardHandler))
	paths := append([]string{"/speke/heartbeat", "/"}, keyPaths...)
	f.Fuzz(func(t *testing.T, method string, path uint8, version, authorization, body string) {
		for _, c := range []byte(method) {
			if c < 'A' || c > 'Z' {
				return // net/http lets nothing else through
			}
		}
		if method == "" || method == "CONNECT" {
			return
		}
		r := ask(t, h, method, paths[int(path)%len(paths)], strings.NewReader(body), "X-Speke-Version", version, "Authorization", authorization)
		out := text(t, r)
		switch r.StatusCode {
		case http.StatusOK:
			if r.Header.Get("Content-Type") != "application/xml" {
				return // the heartbeat
			}
			d := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(out, "\ufeff")))
			for {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil && strings.Contains(err.Error(), "invalid XML name") {
					return // it knows the letters of XML's fourth edition only
				}
				if err != nil {
					t.Fatalf("%v in %s", err, out)
				}
			}
		case http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
			if strings.ContainsAny(out, "\r\n") || len(out) > 200 {
				t.Fatalf("%d with %q", r.StatusCode, out)
			}
		default:
			t.Fatalf("%d %s for %q", r.StatusCode, out, body)
		}
	})
}

// FuzzAuthorization holds that an Authorization header lets nobody in but the
// credential that it is read as by net/http.
func FuzzAuthorization(f *testing.F) {
	for _, value := range []string{"Basic dGVzdDp0ZXN0", "basic dGVzdDp0ZXN0", "Basic  dGVzdDp0ZXN0", "Basic dGVzdDp0ZXN0 ", "Basic dGVzdDp0ZXN0=", "Basic", "", "Basic Og==", "Bearer dGVzdDp0ZXN0", `Digest username="test"`} {
		f.Add(value)
	}
	h, _ := serverWith(f, tenants{}, provider{errors.New("reached")})
	f.Fuzz(func(t *testing.T, value string) {
		r := ask(t, h, "POST", keyPath, nil, "Authorization", value)
		req := http.Request{Header: http.Header{"Authorization": {value}}}
		user, password, _ := req.BasicAuth()
		want := http.StatusUnauthorized
		if user == "test" && password == "test" {
			want = http.StatusUnprocessableEntity // the body is empty
		}
		if r.StatusCode != want {
			t.Fatalf("%d for %q", r.StatusCode, value)
		}
	})
}
