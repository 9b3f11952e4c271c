package binding_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"spekeasy/internal/binding"
	"spekeasy/internal/gateway"
)

// TestAlarms: webhooks of the tenant hear that an upstream fails and that it
// serves again, signed like all events, and again when they did not take it.
func TestAlarms(t *testing.T) {
	f := start(t)
	secret := []byte("0123456789abcdef01234567")
	came := make(chan []byte, 10)
	tries := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		if r.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			t.Error("not signed")
		}
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		came <- body
	}))
	defer srv.Close()
	others := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another tenant's webhook was told") }))
	defer others.Close()
	hooks := binding.NewWebhooks(f.feed, func() []binding.Webhook {
		return []binding.Webhook{
			{Tenant: "acme", Name: "hook", URL: srv.URL, Secrets: [][]byte{secret}},
			{Tenant: "other", Name: "hook", URL: others.URL, Secrets: [][]byte{secret}},
		}
	}, binding.WebhookOptions{Poll: 10 * time.Millisecond, Backoff: func(int) time.Duration { return time.Millisecond }})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { hooks.Run(ctx); close(done) }()

	since := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	a := gateway.Alarm{
		Tenant: "acme", Upstream: "axinom", Origin: "https://vendor.example", Failing: true, At: since, Since: since, Failures: 1, Error: "it cannot be reached",
	}
	ids := make(map[string]bool)
	for _, want := range []string{"failing", "recovered"} {
		hooks.Alarm(a)
		select {
		case body := <-came:
			var e binding.UpstreamEvent
			if err := json.Unmarshal(body, &e); err != nil {
				t.Fatal(err)
			}
			if e.SpecVersion != "1.0" || e.Source != "/tenants/acme" || e.Subject != "axinom" || e.Type != "spekeasy.upstream."+want || ids[e.ID] ||
				!e.Time.Equal(a.At) || e.Data.LastError != a.Error || !e.Data.Since.Equal(since) || e.Data.Failures != a.Failures || !e.Data.LastSuccess.IsZero() {
				t.Errorf("%s", body)
			}
			ids[e.ID] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is not told", want)
		}
		a.Failing, a.At, a.Failures = false, since.Add(time.Hour), 9
	}
	stop()
	<-done
	for range 200 { // nobody takes them any more: this must not wait
		hooks.Alarm(a)
	}
}
