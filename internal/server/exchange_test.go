package server_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/tools/txtar"

	"spekeasy/contentkey"
	"spekeasy/internal/auth"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/keystore/keystoretest"
	"spekeasy/internal/packager"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
)

var update = flag.Bool("update", false, "write the answers into testdata/exchange")

const exchanges = "../../testdata/exchange/*.txtar"

// TestExchanges plays each exchange of testdata/exchange through the whole
// handler, from headers to bytes, over a real database. Each file is a
// sentence with the rules that it shows, the request, and the answer as it
// must be to the byte.
func TestExchanges(t *testing.T) {
	files, err := filepath.Glob(exchanges)
	if err != nil || len(files) < 100 {
		t.Fatalf("%d exchanges in %s, %v", len(files), exchanges, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := exchangeServer(t, ar)
			got := answerFiles(play(t, s, ar))
			again := answerFiles(play(t, s, ar))
			if !slices.EqualFunc(got, again, equalFile) {
				t.Errorf("the same request again has another answer (SX-SEQ-16)")
			}
			rest := slices.DeleteFunc(slices.Clone(ar.Files), func(f txtar.File) bool { return strings.HasPrefix(f.Name, "response.") })
			if *update {
				ar.Files = append(rest, got...)
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want := ar.Files[len(rest):]
			if !slices.EqualFunc(got, want, equalFile) {
				t.Errorf("answer differs\ngot:\n%s\nwant:\n%s", txtar.Format(&txtar.Archive{Files: got}), txtar.Format(&txtar.Archive{Files: want}))
			}
		})
	}
}

// exchangeServer returns the whole handler with the settings, keys and random
// bytes of an exchange.
func exchangeServer(t *testing.T, ar *txtar.Archive) http.Handler {
	t.Helper()
	return newServer(t, settings(t, ar), keyTable(t, ar), exchangeOptions(t, ar))
}

func exchangeOptions(t *testing.T, ar *txtar.Archive) serverOptions {
	return serverOptions{
		random:   randomBytes(t, ar),
		now:      func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) },
		provider: keyprovider.Options{SealFor: time.Minute},
	}
}

// randomBytes reads random.txt, which has random bytes in hexadecimal; the
// last line is repeated for ever. Without it all of them are zero.
func randomBytes(t *testing.T, ar *txtar.Archive) io.Reader {
	t.Helper()
	text, ok := file(ar, "random.txt")
	if !ok {
		return zeros{}
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	r := &scripted{}
	for i, line := range lines {
		b, err := hex.DecodeString(line)
		if err != nil || len(b) == 0 {
			t.Fatalf("random.txt line %d: %v", i+1, err)
		}
		if i == len(lines)-1 {
			r.again = b
		}
		r.rest = append(r.rest, b...)
	}
	return r
}

// scripted hands out bytes of a list and then others again and again.
type scripted struct{ rest, again []byte }

func (s *scripted) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		s.rest = s.again
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func equalFile(a, b txtar.File) bool { return a.Name == b.Name && bytes.Equal(a.Data, b.Data) }

func file(ar *txtar.Archive, name string) ([]byte, bool) {
	for _, f := range ar.Files {
		if f.Name == name {
			return f.Data, true
		}
	}
	return nil, false
}

// settings reads tenant.yaml over the settings that all exchanges share.
func settings(t *testing.T, ar *txtar.Archive) tenant.Settings {
	t.Helper()
	s := exampleTenant()
	if text, ok := file(ar, "tenant.yaml"); ok {
		if err := yaml.UnmarshalWithOptions(text, &s, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func exampleTenant() tenant.Settings {
	s := tenant.Settings{
		ID:          "example",
		Credentials: []tenant.Credential{{Name: "test", Basic: &tenant.Basic{User: "test", Password: "test"}}},
	}
	s.DRM.PlayReady.LAURL = "https://lic.example.com/playready"
	s.DRM.HLS.URL = "https://keys.example.com"
	s.DRM.ClearKey.LicenseURL = "https://lic.example.com/clearkey"
	return s
}

// fixedKeys is a key source for tests: keys from a table, all others from a
// digest of their key ID.
type fixedKeys map[contentkey.KID]keystore.Key

func (fixedKeys) Name() string { return "fixed" }

func (f fixedKeys) Make(_ string, kid contentkey.KID) (contentkey.Value, contentkey.IV, error) {
	sum := sha256.Sum256(kid[:])
	v, iv := contentkey.Value(sum[:16]), contentkey.IV(sum[16:])
	if k, ok := f[kid]; ok {
		v = k.Value
		if !k.IV.IsZero() {
			iv = k.IV
		}
	}
	return v, iv, nil
}

// keyTable reads keys.txt: per line a key ID, a key and perhaps an IV.
func keyTable(t *testing.T, ar *txtar.Archive) fixedKeys {
	t.Helper()
	table := fixedKeys{}
	text, _ := file(ar, "keys.txt")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		kid, err := contentkey.ParseKID(f[0])
		if err != nil {
			t.Fatal(err)
		}
		value, err := contentkey.ParseIV(f[1])
		if err != nil {
			t.Fatal(err)
		}
		k := keystore.Key{Value: contentkey.Value(value)}
		if len(f) > 2 {
			if k.IV, err = contentkey.ParseIV(f[2]); err != nil {
				t.Fatal(err)
			}
		}
		table[kid] = k
	}
	return table
}

// zeros is a source of bytes that are all the same, where an exchange has to
// repeat to the byte.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// newTestServer returns the whole handler over a fresh SQLite database, with
// one tenant whose credential is test:test.
func newTestServer(t testing.TB, s tenant.Settings, source keystore.Source) http.Handler {
	t.Helper()
	return newServer(t, s, source, serverOptions{
		random:   zeros{},
		now:      func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) },
		provider: keyprovider.Options{SealFor: time.Minute},
	})
}

type serverOptions struct {
	random   io.Reader
	now      func() time.Time
	provider keyprovider.Options
	recorder server.Recorder    // by default files in a directory of its own
	keys     *keystore.Keystore // by default over a database of its own
}

func newServer(t testing.TB, s tenant.Settings, source keystore.Source, o serverOptions) http.Handler {
	t.Helper()
	if o.keys == nil {
		o.keys, _ = keystoretest.Open(t, keystore.Options{})
	}
	built, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	if source != nil {
		built.Source = source
	}
	provider := keyprovider.New(o.keys, o.random, o.now, o.provider)
	if o.recorder == nil {
		o.recorder = openAudit(t, t.TempDir())
	}
	return server.New(authenticatorOf(t, s), tenant.Static{s.ID: built}, provider, o.recorder, "spekeasy/test", slog.New(slog.DiscardHandler)).
		WithPackagers(packager.New(o.keys))
}

// authenticator lets in test:test as a tenant.
func authenticator(t testing.TB, id string) *auth.Authenticator {
	t.Helper()
	s := exampleTenant()
	s.ID = id
	return authenticatorOf(t, s)
}

// authenticatorOf lets in the credentials of a tenant, test:test if it has
// none. Many tests fail on purpose, which it does not mind.
func authenticatorOf(t testing.TB, s tenant.Settings) *auth.Authenticator {
	t.Helper()
	if len(s.Credentials) == 0 {
		s.Credentials = exampleTenant().Credentials
	}
	a, err := auth.New([]tenant.Settings{s}, auth.Options{Throttle: auth.Throttle{Burst: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// play sends the request of an exchange.
func play(t *testing.T, s http.Handler, ar *txtar.Archive) *http.Response {
	t.Helper()
	head, ok := file(ar, "request.http")
	if !ok {
		t.Fatal("no request.http")
	}
	body, _ := file(ar, "request.xml")
	lines := strings.Split(strings.TrimSpace(string(head)), "\n")
	method, path, ok := strings.Cut(lines[0], " ")
	if !ok {
		t.Fatalf("request line %q", lines[0])
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	r.Header.Set("X-Request-Id", "test")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

// answerFiles writes an answer as files of an exchange.
func answerFiles(r *http.Response) []txtar.File {
	var head, body bytes.Buffer
	fmt.Fprintf(&head, "%d\n", r.StatusCode)
	for _, name := range slices.Sorted(mapKeys(r.Header)) {
		if name == "Content-Length" || name == "X-Request-Id" {
			continue // the one follows from the body, the other was given
		}
		for _, v := range r.Header[name] {
			fmt.Fprintf(&head, "%s: %s\n", name, v)
		}
	}
	_, _ = bufio.NewReader(r.Body).WriteTo(&body)
	name := "response.txt"
	if r.Header.Get("Content-Type") == "application/xml" {
		name = "response.xml"
	}
	if b := body.Bytes(); len(b) > 0 && b[len(b)-1] != '\n' {
		body.WriteByte('\n') // a txtar file ends with one
	}
	return []txtar.File{{Name: "response.http", Data: head.Bytes()}, {Name: name, Data: body.Bytes()}}
}

func mapKeys(h http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range h {
			if !yield(k) {
				return
			}
		}
	}
}
