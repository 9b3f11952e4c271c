package server_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/limit"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// pool is a key provider that all tenants share, as they share a database: a
// few requests at a time, each for a while.
type pool struct {
	places chan struct{}
	takes  time.Duration
}

func (p *pool) Provide(ctx context.Context, _ *tenant.Tenant, _ *speke.Request) (*speke.Answer, error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.places }()
	time.Sleep(p.takes)
	return &speke.Answer{Body: []byte("<CPIX/>")}, nil
}

// twoTenants is a server for the tenants quiet and noisy, each with a user of
// its own name.
func twoTenants(t *testing.T, p server.Provider, noisy tenant.Limits) http.Handler {
	t.Helper()
	var all []tenant.Settings
	for _, name := range []string{"quiet", "noisy"} {
		s := exampleTenant()
		s.ID, s.Credentials = name, []tenant.Credential{{Name: "user", Basic: &tenant.Basic{User: name, Password: tenant.Secret(name)}}}
		if name == "noisy" {
			s.Limits = noisy
		}
		all = append(all, s)
	}
	return serverFor(t, p, slog.New(slog.DiscardHandler), all...)
}

func askAs(t *testing.T, h http.Handler, name string) *httptest.ResponseRecorder {
	t.Helper()
	body, err := os.ReadFile(keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/speke/v2.0/copyProtection", bytes.NewReader(body))
	r.Header.Set("X-Speke-Version", "2.0")
	r.SetBasicAuth(name, name)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestFlood: one tenant's flood leaves another's latency where it was. Time
// is the test's own, so that latency is exactly what requests wait for each
// other.
func TestFlood(t *testing.T) {
	const takes = 5 * time.Millisecond
	latency := func(t *testing.T, flood int, limits tenant.Limits) (p99 time.Duration, answered, refused int) {
		synctest.Test(t, func(t *testing.T) {
			h := twoTenants(t, &pool{places: make(chan struct{}, 8), takes: takes}, limits)
			end := time.Now().Add(1500 * time.Millisecond)
			var noise sync.WaitGroup
			defer noise.Wait()
			for range flood {
				noise.Go(func() {
					for time.Now().Before(end) {
						if w := askAs(t, h, "noisy"); w.Code == http.StatusTooManyRequests {
							time.Sleep(20 * time.Millisecond) // it does not care about Retry-After
						}
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			var all []time.Duration
			for range 100 {
				start := time.Now()
				if w := askAs(t, h, "quiet"); w.Code == http.StatusOK {
					answered++
				} else {
					refused++
				}
				all = append(all, time.Since(start))
				time.Sleep(10 * time.Millisecond)
			}
			slices.Sort(all)
			p99 = all[98]
		})
		return p99, answered, refused
	}
	alone, _, _ := latency(t, 0, tenant.Limits{})
	bare, _, _ := latency(t, 100, tenant.Limits{})
	held, answered, refused := latency(t, 100, tenant.Limits{Settings: limit.Settings{Concurrency: 4}})
	t.Logf("p99 alone %s, beside a flood %s, beside one with a limit %s", alone, bare, held)
	if alone != takes || held != alone {
		t.Errorf("p99 is %s alone and %s beside a flood with a limit", alone, held)
	}
	if bare <= 2*alone {
		t.Errorf("p99 is %s beside a flood without limits: this test would show nothing", bare)
	}
	if answered != 100 || refused != 0 {
		t.Errorf("%d answered, %d refused", answered, refused)
	}
}

// TestLimits holds the words of refusals and when to come back.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := twoTenants(t, &pool{places: make(chan struct{}, 8)}, tenant.Limits{Settings: limit.Settings{Rate: 0.25, Burst: 2}})
		for range 2 {
			if w := askAs(t, h, "noisy"); w.Code != http.StatusOK {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		w := askAs(t, h, "noisy")
		if w.Code != http.StatusTooManyRequests || w.Body.String() != "too many requests" || w.Header().Get("Retry-After") != "4" {
			t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
		}
		if w := askAs(t, h, "quiet"); w.Code != http.StatusOK {
			t.Errorf("the other tenant: %d", w.Code)
		}
		time.Sleep(4 * time.Second)
		if w := askAs(t, h, "noisy"); w.Code != http.StatusOK {
			t.Errorf("when told to come back: %d", w.Code)
		}
	})
}

// TestBrandLimits: one application of a tenant leaves room for the others.
func TestBrandLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := exampleTenant()
		s.ID, s.Credentials = "acme", []tenant.Credential{{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "acme"}}}
		s.Brands = map[string]tenant.Brand{"tv": {Limits: limit.Settings{Rate: 0.25, Burst: 1}}}
		h := serverFor(t, &pool{places: make(chan struct{}, 8)}, slog.New(slog.DiscardHandler), s)
		body, err := os.ReadFile(keyRequest)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(brand string) int {
			r := httptest.NewRequest(http.MethodPost, "/kms/cpix?brandGuid="+brand, bytes.NewReader(body))
			r.Header.Set("X-Speke-Version", "2.0")
			r.SetBasicAuth("acme", "acme")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		if first, second := ask("tv"), ask("tv"); first != http.StatusOK || second != http.StatusTooManyRequests {
			t.Errorf("the brand: %d, then %d", first, second)
		}
		for _, brand := range []string{"", "other", "other"} {
			if code := ask(brand); code != http.StatusOK {
				t.Errorf("brand %q: %d", brand, code)
			}
		}
		time.Sleep(4 * time.Second)
		if code := ask("tv"); code != http.StatusOK {
			t.Errorf("the brand later: %d", code)
		}
	})
}

// TestNewKeysQuota: known keys go on being answered when the quota of new
// ones is used up.
func TestNewKeysQuota(t *testing.T) {
	s := exampleTenant()
	s.Limits.NewKeysPerDay = 1
	h := realServer(t, s)
	body, err := os.ReadFile(keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/speke/v2.0/copyProtection", strings.NewReader(body))
		r.Header.Set("X-Speke-Version", "2.0")
		r.SetBasicAuth("test", "test")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	other := strings.ReplaceAll(string(body), "5c9d7e3a", "5c9d7e3b")
	for range 3 {
		if w := ask(string(body)); w.Code != http.StatusOK {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		w := ask(other)
		if w.Code != http.StatusTooManyRequests || w.Body.String() != "too many new content keys" {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if after := w.Header().Get("Retry-After"); after != "86400" && after != "86399" {
			t.Errorf("retry after %s", after)
		}
	}
}

// TestThrottled holds the answer to one failed attempt too many, and that a
// good credential from the same address is answered.
func TestThrottled(t *testing.T) {
	s := exampleTenant()
	built, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.New([]tenant.Settings{s}, auth.Options{Throttle: auth.Throttle{Burst: 2, Every: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	h := server.New(a, tenant.Static{s.ID: built}, tells{}, audit.Off{}, "spekeasy/test", slog.New(slog.DiscardHandler))
	for range 2 {
		if w := askAs(t, h, "nobody"); w.Code != http.StatusUnauthorized {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	w := askAs(t, h, "nobody")
	if w.Code != http.StatusTooManyRequests || w.Body.String() != "too many requests" || w.Header().Get("Retry-After") != "3600" {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	if w := askAs(t, h, "test"); w.Code != http.StatusOK {
		t.Errorf("a good credential: %d %s", w.Code, w.Body)
	}
}
