package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/telemetry"
)

// collector keeps what it is sent, by path.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string][]string
	header http.Header
	status func(n int) int // of the n-th request, counted from 1; nil means 200
	n      int
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{bodies: make(map[string][]string)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n++
		c.header = r.Header
		if c.status != nil {
			if status := c.status(c.n); status != http.StatusOK {
				w.WriteHeader(status)
				return
			}
		}
		c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) exporter(o telemetry.Options) *telemetry.Exporter {
	o.Endpoint = c.URL + "/"
	o.Client = c.Client()
	return telemetry.NewExporter(o)
}

// only returns the one body that came for a path, decoded.
func (c *collector) only(t *testing.T, path string) map[string]any {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bodies[path]) != 1 {
		t.Fatalf("%d bodies for %s", len(c.bodies[path]), path)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(c.bodies[path][0]), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// at walks decoded JSON.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok || m[p] == nil {
				t.Fatalf("no %q in %v", p, v)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || len(l) <= p {
				t.Fatalf("no item %d in %v", p, v)
			}
			v = l[p]
		}
	}
	return v
}

var noon = time.Unix(1800000000, 123)

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func header(name, value string) http.Header { return http.Header{name: {value}} }

// Headers as the specifications and AWS's guides show them, and broken ones.
func TestTraceOfHeaders(t *testing.T) {
	for _, c := range []struct {
		name, header, value string
		trace               string // "" for none
		sampled             bool
	}{
		{"W3C", "Traceparent", traceparent, "4bf92f3577b34da6a3ce929d0e0e4736", true},
		{"W3C, not sampled", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "4bf92f3577b34da6a3ce929d0e0e4736", false},
		{"W3C, a later version", "Traceparent", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", "4bf92f3577b34da6a3ce929d0e0e4736", true},
		{"W3C, version ff", "Traceparent", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "", false},
		{"W3C, upper case", "Traceparent", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "", false},
		{"W3C, zero trace", "Traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "", false},
		{"W3C, zero span", "Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "", false},
		{"W3C, too long for its version", "Traceparent", traceparent + "-x", "", false},
		{"W3C, cut", "Traceparent", traceparent[:54], "", false},
		{"X-Ray", "X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1", "5759e988bd862e3fe1be46a994272793", true},
		{"X-Ray, not sampled", "X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0", "5759e988bd862e3fe1be46a994272793", false},
		{"X-Ray, of a load balancer", "X-Amzn-Trace-Id", "Self=1-67891234-12456789abcdef012345678;Root=1-67891233-abcdef012345678912345678", "67891233abcdef012345678912345678", true},
		{"X-Ray without root", "X-Amzn-Trace-Id", "Parent=53995c3f42cd8ad8;Sampled=1", "", false},
		{"X-Ray, short root", "X-Amzn-Trace-Id", "Root=1-5759e988-bd862e3fe1be46a99427279", "", false},
		{"nonsense", "X-Amzn-Trace-Id", "hello", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := telemetry.NewTracer(nil, 1).Start(header(c.header, c.value), "x", noon)
			none := telemetry.NewTracer(nil, 0).Start(header(c.header, c.value), "x", noon)
			if c.trace == "" {
				if all == nil || !all.Sampled || all.Parent != (telemetry.SpanID{}) {
					t.Errorf("a new trace is %+v", all)
				}
				if none != nil {
					t.Errorf("continues %s", none.Trace)
				}
				return
			}
			if all.Trace.String() != c.trace || none.Trace.String() != c.trace {
				t.Errorf("trace %s and %s, want %s", all.Trace, none.Trace, c.trace)
			}
			if all.Sampled != c.sampled {
				t.Errorf("sampled %t", all.Sampled)
			}
			if named := (*telemetry.Tracer)(nil).Start(header(c.header, c.value), "x", noon); named.Trace.String() != c.trace || named.Sampled {
				t.Errorf("without a tracer: %s, sampled %t", named.Trace, named.Sampled)
			}
		})
	}
}

func TestTraceparentGoesOn(t *testing.T) {
	s := telemetry.NewTracer(nil, 0).Start(header("Traceparent", traceparent), "x", noon)
	got := s.Traceparent()
	if !strings.HasPrefix(got, traceparent[:36]) || got == traceparent || !strings.HasSuffix(got, "-01") || len(got) != len(traceparent) {
		t.Errorf("%s", got)
	}
	if got := (*telemetry.Span)(nil).Traceparent(); got != "" {
		t.Errorf("without a span %q", got)
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(traceparent, "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	f.Fuzz(func(t *testing.T, w3c, xray string) {
		h := http.Header{"Traceparent": {w3c}, "X-Amzn-Trace-Id": {xray}}
		if s := (*telemetry.Tracer)(nil).Start(h, "x", noon); s != nil {
			again := (*telemetry.Tracer)(nil).Start(header("Traceparent", "00-"+s.Trace.String()+"-00f067aa0ba902b7-01"), "x", noon)
			if again == nil || again.Trace != s.Trace {
				t.Errorf("%q and %q give the trace %s, which is none", w3c, xray, s.Trace)
			}
		}
	})
}

// A share of the traces that begin here is followed.
func TestSampling(t *testing.T) {
	tr := telemetry.NewTracer(nil, 0.25)
	n := 0
	for range 4000 {
		if tr.Start(http.Header{}, "x", noon) != nil {
			n++
		}
	}
	if n < 800 || n > 1200 {
		t.Errorf("%d of 4000", n)
	}
}

// Spans and logs arrive as OTLP/HTTP has them, tied to each other.
func TestExport(t *testing.T) {
	c := newCollector(t)
	x := c.exporter(telemetry.Options{
		Headers:  map[string]string{"x-api-key": "hunter2"},
		Resource: []telemetry.Attribute{{Key: "service.name", Value: "spekeasy"}},
	})
	span := telemetry.NewTracer(x, 1).Start(header("Traceparent", traceparent), "/speke/copyProtection", noon)
	span.Set("http.response.status_code", int64(503))
	span.Fail("Service Unavailable")
	ctx := context.WithValue(t.Context(), telemetry.Key{}, span)
	child := telemetry.FromContext(ctx).Child("store keys", telemetry.Client, noon.Add(time.Millisecond))
	child.End(noon.Add(2 * time.Millisecond))
	span.End(noon.Add(3 * time.Millisecond))

	var text bytes.Buffer
	log := slog.New(telemetry.LogHandler(slog.NewJSONHandler(&text, nil), x))
	log.With("a", 1).WithGroup("g").ErrorContext(ctx, "request refused", "status", 503, "sure", true, slog.Group("h", "i", "j"))
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	if got := c.header.Get("X-Api-Key"); got != "hunter2" || c.header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", c.header)
	}
	group := at(t, c.only(t, "/v1/traces"), "resourceSpans", 0)
	if got := at(t, group, "resource", "attributes", 0, "value", "stringValue"); got != "spekeasy" {
		t.Errorf("resource %v", got)
	}
	first, second := at(t, group, "scopeSpans", 0, "spans", 0), at(t, group, "scopeSpans", 0, "spans", 1)
	for name, want := range map[string]any{
		"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": span.ID.String(), "parentSpanId": "00f067aa0ba902b7",
		"name": "/speke/copyProtection", "kind": 2.0, "startTimeUnixNano": "1800000000000000123", "endTimeUnixNano": "1800000000003000123",
	} {
		if got := at(t, second, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if got := at(t, second, "attributes", 0, "value", "intValue"); got != "503" {
		t.Errorf("status code %v", got)
	}
	if got := at(t, second, "status", "code"); got != 2.0 {
		t.Errorf("status %v", got)
	}
	if at(t, first, "parentSpanId") != span.ID.String() || at(t, first, "kind") != 3.0 {
		t.Errorf("child %v", first)
	}

	record := at(t, c.only(t, "/v1/logs"), "resourceLogs", 0, "scopeLogs", 0, "logRecords", 0)
	for name, want := range map[string]any{"severityNumber": 17.0, "severityText": "ERROR", "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": span.ID.String()} {
		if got := at(t, record, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	var keys []string
	for _, a := range at(t, record, "attributes").([]any) {
		keys = append(keys, at(t, a, "key").(string))
	}
	if got := strings.Join(keys, " "); got != "a g.status g.sure g.h.i" {
		t.Errorf("attributes %s", got)
	}
	if !strings.Contains(text.String(), `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`) {
		t.Errorf("log %s", text.String())
	}
}

// What may be repeated is repeated; what is in vain is dropped and counted,
// and the operator told once.
func TestCollectorFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  func(n int) int
		dropped uint64
	}{
		{"once", func(n int) int { return map[bool]int{true: 503, false: 200}[n == 1] }, 0},
		{"refuses", func(int) int { return 400 }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			collector := newCollector(t)
			collector.status = c.status
			x := collector.exporter(telemetry.Options{})
			telemetry.NewTracer(x, 1).Start(http.Header{}, "x", noon).End(noon)
			err := x.Close(t.Context())
			if (err != nil) != (c.dropped > 0) {
				t.Errorf("Close: %v", err)
			}
			if spans, logs := x.Dropped(); spans != c.dropped || logs != 0 {
				t.Errorf("%d spans and %d logs dropped", spans, logs)
			}
		})
	}
}

// A collector that hangs holds up neither requests nor, for long, the end.
func TestCollectorHangs(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer srv.Close()
	defer close(hang)
	x := telemetry.NewExporter(telemetry.Options{Endpoint: srv.URL})
	tr := telemetry.NewTracer(x, 1)
	const n = 20000
	for range n {
		tr.Start(http.Header{}, "x", noon).End(noon)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_ = x.Close(ctx) // whoever notices the end first has the error
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("Close took %v", d)
	}
	if spans, _ := x.Dropped(); spans != n {
		t.Errorf("%d of %d dropped", spans, n)
	}
}
