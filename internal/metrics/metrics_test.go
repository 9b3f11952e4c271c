package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/metrics"
)

// scrape returns the lines of all metrics as Prometheus would read them.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			name, _, _ := strings.Cut(line, "{")
			t.Errorf("no line %s among\n%s", line, grep(text, name))
		}
	}
}

func grep(text, name string) (found string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, name) {
			found += line
		}
	}
	return found
}

// Only what can become of a delivery is counted.
func TestWebhooks(t *testing.T) {
	m := metrics.New(metrics.Build{})
	for _, result := range []string{"delivered", "delivered", "failed", "eaten"} {
		m.Webhook(result)
	}
	text := scrape(t, m)
	wants(t, text, `spekeasy_webhook_events_total{result="delivered"} 2`, `spekeasy_webhook_events_total{result="failed"} 1`,
		`spekeasy_webhook_events_total{result="dead"} 0`)
	if strings.Contains(text, "eaten") {
		t.Error("a result that there is not is counted")
	}
}

// A status becomes the result that alerts are written for.
func TestKeyRequests(t *testing.T) {
	m := metrics.New(metrics.Build{Version: "v1.2.3", Commit: "abc"})
	for status, n := range map[int]int{200: 3, 400: 1, 401: 1, 403: 1, 413: 1, 422: 1, 429: 1, 500: 1, 502: 1, 503: 1, 504: 1} {
		for range n {
			m.KeyRequest("2.0", "live", status, 2*time.Millisecond)
		}
	}
	m.KeyRequest("", "", 401, time.Millisecond)
	m.KeyRequest("9.9", "live", 200, time.Millisecond)
	text := scrape(t, m)
	wants(t, text,
		`spekeasy_build_info{commit="abc",version="v1.2.3"} 1`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="delivered"} 3`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="invalid"} 3`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="unauthorized"} 1`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="forbidden"} 1`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="throttled"} 1`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="error"} 1`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="upstream"} 2`,
		`spekeasy_key_requests_total{class="live",profile="2.0",result="unavailable"} 1`,
		`spekeasy_key_requests_total{class="unknown",profile="unknown",result="unauthorized"} 1`,
		`spekeasy_key_requests_total{class="live",profile="unknown",result="delivered"} 1`,
		`spekeasy_key_requests_total{class="live",profile="1.0",result="error"} 0`,
		`spekeasy_key_request_duration_seconds_bucket{profile="2.0",result="delivered",le="0.001"} 0`,
		`spekeasy_key_request_duration_seconds_bucket{profile="2.0",result="delivered",le="0.0025"} 3`,
	)
}

// However many classes tenants have, the number of series is bounded.
func TestClassesAreBounded(t *testing.T) {
	m := metrics.New(metrics.Build{})
	var racers sync.WaitGroup
	for i := range 200 {
		racers.Go(func() { m.KeyRequest("1.0", fmt.Sprintf("c%d", i%100), 200, 0) })
	}
	racers.Wait()
	text := scrape(t, m)
	classes, total := 0, 0
	for line := range strings.Lines(text) {
		var n int
		if strings.HasPrefix(line, "spekeasy_key_requests_total") && strings.Contains(line, `profile="1.0",result="delivered"`) {
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
				t.Fatal(err)
			}
			classes++
			total += n
		}
	}
	if classes != 32 || total != 200 {
		t.Errorf("%d classes with %d requests, want 32 with 200", classes, total)
	}
}

// Issue 3: latency and errors of the key manager are metrics.
func TestCalls(t *testing.T) {
	m := metrics.New(metrics.Build{})
	call := func(manager bool, op string, err error) {
		m.Call(keystore.Call{KeyManager: manager, Op: op, Took: 3 * time.Millisecond, Err: err})
	}
	call(true, "unwrap", nil)
	call(true, "unwrap", fmt.Errorf("x: %w", keystore.ErrUnavailable))
	call(true, "unwrap", fmt.Errorf("x: %w", keystore.ErrWrongKEK))
	call(false, "keys", context.DeadlineExceeded)
	call(false, "keys", context.Canceled)
	call(false, "commit", errors.New("disk full"))
	call(false, "something new", nil)
	wants(t, scrape(t, m),
		`spekeasy_key_manager_call_duration_seconds_count{op="unwrap"} 3`,
		`spekeasy_key_manager_errors_total{kind="unavailable",op="unwrap"} 1`,
		`spekeasy_key_manager_errors_total{kind="refused",op="unwrap"} 1`,
		`spekeasy_key_manager_errors_total{kind="unavailable",op="wrap"} 0`,
		`spekeasy_store_call_duration_seconds_count{op="keys"} 2`,
		`spekeasy_store_errors_total{kind="unavailable",op="keys"} 1`,
		`spekeasy_store_errors_total{kind="cancelled",op="keys"} 1`,
		`spekeasy_store_errors_total{kind="unavailable",op="commit"} 1`,
	)
}

func TestKeystoreAuditAndExpiry(t *testing.T) {
	m := metrics.New(metrics.Build{})
	m.Keystore(func() keystore.Stats {
		return keystore.Stats{Created: 7, OtherIV: 1, OtherContent: 2, OtherScheme: 3, CacheHits: 40, CacheMisses: 5, CachedKeys: 6, KnownBindings: 8}
	})
	expires := time.Unix(1800000000, 0)
	m.Expiries(func() []metrics.Expiry {
		return []metrics.Expiry{{Name: "listener", At: expires}, {Tenant: "acme", Name: "encoders", At: expires.Add(time.Second)}}
	})
	m.AuditRecord(time.Millisecond, nil)
	m.AuditRecord(time.Millisecond, errors.New("disk full"))
	m.Ready("store", true)
	m.Ready("clock", false)
	wants(t, scrape(t, m),
		`spekeasy_content_keys_created_total 7`,
		`spekeasy_content_key_conflicts_total{kind="scheme"} 3`,
		`spekeasy_cache_hits_total 40`, `spekeasy_cache_misses_total 5`, `spekeasy_cache_keys 6`, `spekeasy_cache_bindings 8`,
		`spekeasy_certificate_expiry_timestamp_seconds{certificate="listener"} 1.8e+09`,
		`spekeasy_credential_expiry_timestamp_seconds{credential="encoders",tenant="acme"} 1.800000001e+09`,
		`spekeasy_audit_records_total 1`, `spekeasy_audit_errors_total 1`, `spekeasy_audit_record_duration_seconds_count 2`,
		`spekeasy_ready{check="store"} 1`, `spekeasy_ready{check="clock"} 0`,
	)
}

// Upstreams of several tenants under one name are told as one.
func TestUpstreams(t *testing.T) {
	m := metrics.New(metrics.Build{})
	failed := map[string]uint64{"timeout": 2}
	m.Upstreams(func() []metrics.Upstream {
		return []metrics.Upstream{
			{Name: "axinom", Answered: 10, Retried: 1, Hedged: 2, Copies: 3, Failed: failed, Median: 30 * time.Millisecond, P95: time.Second, LastSuccess: time.Unix(1700000000, 0), FailingSince: time.Unix(1700000009, 0)},
			{Name: "other", Open: true},
			{Name: "axinom", Answered: 5, Failed: map[string]uint64{"timeout": 1, "refused": 4}, Fixed: map[string]uint64{"namespace": 7},
				Open: true, Median: 40 * time.Millisecond, LastSuccess: time.Unix(1700000001, 0), FailingSince: time.Unix(1700000005, 0)},
		}
	})
	for range 2 { // asking changes nothing
		wants(t, scrape(t, m),
			`spekeasy_upstream_answers_total{upstream="axinom"} 15`,
			`spekeasy_upstream_retries_total{upstream="axinom"} 1`,
			`spekeasy_upstream_hedges_total{upstream="axinom"} 2`,
			`spekeasy_upstream_copies_total{upstream="axinom"} 3`,
			`spekeasy_upstream_failures_total{kind="timeout",upstream="axinom"} 3`,
			`spekeasy_upstream_failures_total{kind="refused",upstream="axinom"} 4`,
			`spekeasy_upstream_fixes_total{fix="namespace",upstream="axinom"} 7`,
			`spekeasy_upstream_breaker_open{upstream="axinom"} 1`,
			`spekeasy_upstream_latency_seconds{quantile="0.5",upstream="axinom"} 0.04`,
			`spekeasy_upstream_latency_seconds{quantile="0.95",upstream="axinom"} 1`,
			`spekeasy_upstream_failing_since_timestamp_seconds{upstream="axinom"} 1.700000005e+09`,
			`spekeasy_upstream_failing_since_timestamp_seconds{upstream="other"} 0`,
			`spekeasy_upstream_last_success_timestamp_seconds{upstream="axinom"} 1.700000001e+09`,
			`spekeasy_upstream_last_success_timestamp_seconds{upstream="other"} 0`,
		)
	}
	if failed["timeout"] != 2 {
		t.Error("what was told was changed")
	}
}

// The path of a request stays free of allocations.
func TestKeyRequestAllocatesNothing(t *testing.T) {
	m := metrics.New(metrics.Build{})
	m.Class("live")
	if n := testing.AllocsPerRun(1000, func() { m.KeyRequest("2.0", "live", 200, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkKeyRequest(b *testing.B) {
	m := metrics.New(metrics.Build{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.KeyRequest("2.0", "live", 200, time.Millisecond)
		}
	})
}
