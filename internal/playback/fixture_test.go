package playback_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/keystore/keystoretest"
	"spekeasy/internal/playback"
	"spekeasy/internal/tenant"
)

const (
	widevine  = "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"
	clearKey  = "e2719d58-a985-b3c9-781a-b030af78d30e"
	hlsAES128 = "3ea8778f-7742-4bf9-b18b-e834b2acbd47"
)

// The content keys of the fixture. Two are for players that get keys in
// clear, one serves Widevine, one nobody asked for.
var (
	videoKID   = kid("00112233-4455-6677-8899-aabbccddeeff") // movie
	audioKID   = kid("ffeeddcc-bbaa-9988-7766-554433221100") // movie
	studioKID  = kid("9eb4050d-e44b-4802-932e-27d75083e266") // blockbuster
	orphanKID  = kid("0294b959-9d75-5de2-bbf0-fdca3fa5eab7") // imported
	strangeKID = kid("0782f02b-200e-4a22-9ef3-077ad05e4ad2") // does not exist
)

func kid(text string) contentkey.KID {
	k, err := contentkey.ParseKID(text)
	if err != nil {
		panic(err)
	}
	return k
}

// records keeps what is to be recorded, or refuses it.
type records struct {
	mu   sync.Mutex
	all  []audit.Record
	fail bool
}

func (r *records) Record(_ context.Context, rec *audit.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail {
		return audit.ErrUnavailable
	}
	r.all = append(r.all, *rec)
	return nil
}

func (r *records) last() audit.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) == 0 {
		return audit.Record{}
	}
	return r.all[len(r.all)-1]
}

// house is a service over a real keystore, with a clock of its own.
type house struct {
	t       *testing.T
	keys    *keystore.Keystore
	custody *keystore.Custody
	secrets *playback.Secrets
	tenants tenant.Static
	records *records
	now     time.Time
	mux     *http.ServeMux
	log     strings.Builder
}

// newHouse has the tenants acme, with the given settings, and other.
func newHouse(t *testing.T, p tenant.Playback) *house {
	t.Helper()
	h := &house{t: t, tenants: tenant.Static{}, records: new(records), now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), mux: http.NewServeMux()}
	h.keys, _ = keystoretest.Open(t, keystore.Options{})
	var err error
	if h.custody, err = h.keys.Custody(); err != nil {
		t.Fatal(err)
	}
	h.secrets = playback.NewSecrets(h.keys)
	settings := []tenant.Settings{
		{ID: "acme", Playback: &p, Credentials: []tenant.Credential{{Name: "encoder", Basic: &tenant.Basic{User: "enc", Password: "oder"}}}},
		{ID: "other", Playback: &tenant.Playback{ClearKey: true, AcceptStudioKeys: true}},
		{ID: "closed"},
	}
	for i := range settings {
		if h.tenants[settings[i].ID], err = settings[i].Build(); err != nil {
			t.Fatal(err)
		}
	}
	ways, err := auth.New(settings, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h.obtain("movie", []string{clearKey, hlsAES128}, videoKID, audioKID)
	h.obtain("blockbuster", []string{clearKey, widevine}, studioKID)
	imported, err := h.custody.NewImport("acme", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imported.Add(t.Context(), []keystore.ImportedKey{{KID: orphanKID, Value: contentkey.Value{1}}}); err != nil {
		t.Fatal(err)
	}
	service := playback.New(playback.Options{
		Tenants: h.tenants, Keys: h.keys, Bindings: h.custody, Secrets: h.secrets, Credentials: ways, Audit: h.records,
		Now: func() time.Time { return h.now }, Log: slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	for pattern, handler := range service.Handlers() {
		h.mux.Handle(pattern, handler)
	}
	return h
}

func (h *house) obtain(content string, systems []string, kids ...contentkey.KID) {
	h.t.Helper()
	ask := &keystore.Ask{Tenant: "acme", ContentID: content, Source: keystore.Random{Reader: rand.Reader}}
	for _, k := range kids {
		ask.Wants = append(ask.Wants, keystore.Want{Requested: k, KID: k, Systems: systems})
	}
	if _, err := h.keys.Obtain(h.t.Context(), ask); err != nil {
		h.t.Fatal(err)
	}
}

// key is a content key as the keystore has it.
func (h *house) key(k contentkey.KID) keystore.Key {
	h.t.Helper()
	keys, err := h.keys.Lookup(h.t.Context(), "acme", []contentkey.KID{k})
	if err != nil {
		h.t.Fatal(err)
	}
	return keys[0]
}

// token issues one for an hour from now on, for the content movie unless
// change says otherwise.
func (h *house) token(of string, change func(*playback.Claims)) string {
	h.t.Helper()
	c := playback.Claims{Contents: []string{"movie"}}
	c.ID, c.NotBefore, c.Expiry = "ticket-1", jwt.NewNumericDate(h.now), jwt.NewNumericDate(h.now.Add(time.Hour))
	if change != nil {
		change(&c)
	}
	text, _, err := playback.Issue(h.t.Context(), h.secrets, h.tenants[of], c, h.now)
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

// answered is what came back.
type answered struct {
	status int
	header http.Header
	body   string
}

// call sends a request; headers are pairs of name and value.
func (h *house) call(method, target, token, body string, headers ...string) answered {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), method, target, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.mux.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answered{w.Code, w.Result().Header, string(b)}
}

func (h *house) want(a answered, status int, body string) {
	h.t.Helper()
	if a.status != status || a.body != body {
		h.t.Errorf("%d %q, want %d %q", a.status, a.body, status, body)
	}
}

// licensed reads the key IDs and keys of a Clear Key license.
func (h *house) licensed(a answered) map[string]string {
	h.t.Helper()
	var v struct {
		Keys []struct{ Kty, K, Kid string }
		Type string
	}
	if a.status != http.StatusOK {
		h.t.Fatalf("%d %s", a.status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || v.Type != "temporary" {
		h.t.Fatalf("%s: %v", a.body, err)
	}
	out := make(map[string]string)
	for _, k := range v.Keys {
		if k.Kty != "oct" {
			h.t.Errorf("kty %q", k.Kty)
		}
		out[k.Kid] = k.K
	}
	return out
}
