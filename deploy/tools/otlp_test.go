package tools

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"spekeasy/internal/telemetry"
)

// What we send is what OpenTelemetry's own messages read, without a field that
// they do not know.
func TestOTLP(t *testing.T) {
	bodies := make(map[string][]byte)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		bodies[r.URL.Path] = body
	}))
	defer collector.Close()
	x := telemetry.NewExporter(telemetry.Options{Endpoint: collector.URL, Resource: []telemetry.Attribute{{Key: "service.name", Value: "spekeasy"}}})
	start := time.Unix(1800000000, 5)
	span := telemetry.NewTracer(x, 1).Start(http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}, "/speke/copyProtection", start)
	span.Set("http.response.status_code", int64(503))
	span.Set("sure", true)
	span.Fail("Service Unavailable")
	span.End(start.Add(time.Second))
	ctx := context.WithValue(t.Context(), telemetry.Key{}, span)
	slog.New(telemetry.LogHandler(slog.DiscardHandler, x)).Log(ctx, slog.LevelError, "not seen: the handler is off")
	slog.New(telemetry.LogHandler(slog.NewTextHandler(io.Discard, nil), x)).WarnContext(ctx, "request refused", "status", 503)
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}

	var spans trace.TracesData
	if err := protojson.Unmarshal(bodies["/v1/traces"], &spans); err != nil {
		t.Fatalf("%v\n%s", err, bodies["/v1/traces"])
	}
	s := spans.ResourceSpans[0].ScopeSpans[0].Spans[0]
	if s.Kind != trace.Span_SPAN_KIND_SERVER || s.Status.Code != trace.Status_STATUS_CODE_ERROR || s.StartTimeUnixNano != 1800000000000000005 ||
		s.EndTimeUnixNano != 1800000001000000005 || s.Attributes[0].Value.GetIntValue() != 503 || !s.Attributes[1].Value.GetBoolValue() {
		t.Errorf("%+v", s)
	}
	var records logs.LogsData
	if err := protojson.Unmarshal(bodies["/v1/logs"], &records); err != nil {
		t.Fatalf("%v\n%s", err, bodies["/v1/logs"])
	}
	all := records.ResourceLogs[0].ScopeLogs[0].LogRecords
	if len(all) != 1 || all[0].SeverityNumber != logs.SeverityNumber_SEVERITY_NUMBER_WARN || all[0].Body.GetStringValue() != "request refused" ||
		all[0].Attributes[0].Value.GetIntValue() != 503 {
		t.Errorf("%+v", all)
	}
}
