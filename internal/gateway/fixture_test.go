package gateway_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/keystore/keystoretest"
	"spekeasy/internal/logtest"
	"spekeasy/internal/requestid"
	"spekeasy/internal/store/sqlite"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

// bench is a gateway over a real database, with the log it writes.
type bench struct {
	t     testing.TB
	gate  *gateway.Gateway
	keys  *keystore.Keystore
	store *sqlite.DB
	log   *logtest.Buffer
}

func newBench(t testing.TB) *bench { return newBenchAt(t, time.Now) }

func newBenchAt(t testing.TB, now func() time.Time) *bench {
	t.Helper()
	keys, store := keystoretest.Open(t, keystore.Options{})
	b := &bench{t: t, keys: keys, store: store, log: &logtest.Buffer{}}
	b.gate = gateway.New(keys, rand.Reader, now, gateway.Options{Log: b.logger()})
	t.Cleanup(func() {
		if err := b.gate.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// tenant builds the tenant acme over an upstream.
func (b *bench) tenant(up *upstream.Settings, change ...func(*tenant.Settings)) *tenant.Tenant {
	b.t.Helper()
	s := tenant.Settings{ID: "acme", Upstream: up}
	for _, f := range change {
		f(&s)
	}
	built, err := s.Build()
	if err != nil {
		b.t.Fatal(err)
	}
	return built
}

// answer is a delivered answer, as the encryptor sees it.
type answer struct {
	*speke.Answer
	read *encryptor.Answer
}

// ask plays a request through parsing and the gateway, and lets the encryptor
// check the answer.
func (b *bench) ask(tn *tenant.Tenant, r *encryptor.Request) (*answer, error) {
	b.t.Helper()
	req, err := speke.ParseRequest(r.Header, r.Body, &tn.Policy)
	if err != nil {
		b.t.Fatalf("the request does not pass: %v", err)
	}
	got, err := b.gate.Provide(requestid.With(b.t.Context(), "REQ-1"), tn, req)
	if err != nil {
		return nil, err
	}
	h := http.Header{"Content-Type": {"application/xml"}}
	speke.AnswerHeader(h, r.Header, "test")
	read, err := encryptor.ReadAnswer(r, h, got.Body)
	if err != nil {
		b.t.Fatalf("%v in\n%s", err, got.Body)
	}
	for _, v := range read.Check() {
		if !v.Advice {
			b.t.Errorf("the encryptor finds: %s", v)
		}
	}
	if b.t.Failed() && testing.Verbose() {
		b.t.Logf("request\n%s\nanswer\n%s", r.Body, got.Body)
	}
	return &answer{got, read}, nil
}

func (b *bench) must(tn *tenant.Tenant, r *encryptor.Request) *answer {
	b.t.Helper()
	a, err := b.ask(tn, r)
	if err != nil {
		b.t.Fatalf("%v\nlog: %s", err, b.log)
	}
	return a
}

func build(t testing.TB, o encryptor.Options) *encryptor.Request {
	t.Helper()
	if o.ContentID == "" {
		o.ContentID = "movie-1"
	}
	r, err := o.Build()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sim is a vendor's simulator with the requests that it saw.
type sim struct {
	*httptest.Server
	busy sync.WaitGroup // with requests
	mu   sync.Mutex
	seen []vendorsim.Exchange
	keys keystore.Source
	word string
}

func startSim(t testing.TB, vendor string, o vendorsim.Options) *sim {
	t.Helper()
	s := &sim{}
	if o.Observe == nil {
		o.Observe = func(x vendorsim.Exchange) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.seen = append(s.seen, x)
		}
	}
	server, err := vendorsim.New(vendor, o)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.busy.Add(1)
		defer s.busy.Done()
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	up, err := server.Upstream(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.word = up.Word()
	seed := o.Seed
	if seed == "" {
		seed = vendorsim.DefaultSeed
	}
	if s.keys, err = vendorsim.Keys(seed); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sim) upstream(t testing.TB, change ...func(*upstream.Settings)) *upstream.Settings {
	t.Helper()
	up, err := upstream.ParseWord(s.word)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(up)
	}
	return up
}

// requests returns what was asked. A request is noted after its answer, which
// its client may have by then.
func (s *sim) requests() []vendorsim.Exchange {
	s.busy.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]vendorsim.Exchange(nil), s.seen...)
}

// bound returns the key IDs that are durably recorded for a content ID, read
// from the database.
func (b *bench) bound(contentID string) map[contentkey.KID]keystore.Binding {
	b.t.Helper()
	page, _, err := b.store.PageBindings(b.t.Context(), "acme", keystore.BindingFilter{ContentID: contentID}, "", 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	out := make(map[contentkey.KID]keystore.Binding)
	for _, x := range page {
		out[x.KID] = x
	}
	return out
}

// last is the latest exchange that the gateway remembers.
func (b *bench) last() *gateway.Exchange {
	b.t.Helper()
	all := b.gate.Exchanges("acme")
	if len(all) == 0 {
		b.t.Fatal("no exchange is remembered")
	}
	return all[0]
}

func contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in %s", p, text)
		}
	}
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
func hexOf(b []byte) string    { return hex.EncodeToString(b) }

// stub is a server of a test's own.
func stub(t testing.TB, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s
}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func cancelAfter(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(d, cancel)
	return ctx, cancel
}

// forward sends a request on to a simulator.
func forward(t testing.TB, s *sim, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	to, err := http.NewRequestWithContext(r.Context(), r.Method, s.URL+r.URL.RequestURI(), r.Body)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	to.Header = r.Header.Clone()
	res, err := http.DefaultTransport.RoundTrip(to)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res, body
}

func containsText(text, part string) bool { return strings.Contains(text, part) }

var loopback = []net.IP{net.IPv4(127, 0, 0, 1)}

// provideLocally answers with our own keys.
func provideLocally(ctx context.Context, b *bench, tn *tenant.Tenant, r *encryptor.Request) (*speke.Answer, error) {
	req, err := speke.ParseRequest(r.Header, r.Body, &tn.Policy)
	if err != nil {
		return nil, err
	}
	return keyprovider.New(b.keys, rand.Reader, time.Now, keyprovider.Options{}).Provide(ctx, tn, req)
}
