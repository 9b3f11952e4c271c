package server_test

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/server"
	"spekeasy/internal/telemetry"
)

// watched notes what an observer is told.
type watched struct {
	mu   sync.Mutex
	told []string
}

func (o *watched) KeyRequest(profile, class string, status int, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, fmt.Sprintf("%s %s %d", profile, class, status))
	if took < 0 || took > time.Minute {
		o.told = append(o.told, took.String())
	}
}

// Each key request is counted once, with what was known of it; nothing else
// is counted.
func TestKeyRequestsAreObserved(t *testing.T) {
	var seen watched
	var spans []string
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		spans = append(spans, string(text))
	}))
	defer collector.Close()
	exporter := telemetry.NewExporter(telemetry.Options{Endpoint: collector.URL})

	s := newServer(t, exampleTenant(), nil, serverOptions{random: rand.Reader, now: time.Now})
	s.(*server.Server).Observe(&seen, telemetry.NewTracer(exporter, 0))
	send := func(method, path, user, body string, header ...string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.SetBasicAuth(user, user)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	const path = "/speke/v2.0/copyProtection"
	send("POST", path, "test", string(v2Request(1, "")), "X-Speke-Version", "2.0")
	send("POST", path, "test", "<no")
	send("POST", path, "nobody", string(v2Request(1, "")), "X-Speke-Version", "2.0")
	send("GET", path, "test", "")
	send("GET", "/speke/v1.0/heartbeat", "example", "")
	send("GET", "/nowhere", "example", "")
	want := []string{"2.0 default 200", " default 422", "  401", "  405"}
	if !slices.Equal(seen.told, want) {
		t.Errorf("told %q, want %q", seen.told, want)
	}

	// A request that brings a sampled trace is followed, the others are not.
	send("POST", path, "test", string(v2Request(1, "")), "X-Speke-Version", "2.0",
		"Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X-Request-Id", "job-7")
	if err := exporter.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(spans, "")
	if strings.Count(text, `"spanId"`) != 1 {
		t.Errorf("spans %s", text)
	}
	for _, want := range []string{
		`"traceId":"4bf92f3577b34da6a3ce929d0e0e4736"`, `"name":"/speke/v2.0/copyProtection"`, `"stringValue":"job-7"`,
		`"key":"spekeasy.profile","value":{"stringValue":"2.0"}`, `"key":"http.response.status_code","value":{"intValue":"200"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
