package telemetry

import (
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// The JSON encoding of OTLP 1.3, as far as we write it: identifiers are
// hexadecimal, 64-bit integers are strings.

const (
	scopeName   = "spekeasy"
	statusError = 2
)

type (
	tracesJSON struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	scopeSpans struct {
		Scope scope      `json:"scope"`
		Spans []spanJSON `json:"spans"`
	}
	logsJSON struct {
		ResourceLogs []resourceLogs `json:"resourceLogs"`
	}
	resourceLogs struct {
		Resource  resource    `json:"resource"`
		ScopeLogs []scopeLogs `json:"scopeLogs"`
	}
	scopeLogs struct {
		Scope scope     `json:"scope"`
		Logs  []logJSON `json:"logRecords"`
	}
	resource struct {
		Attributes []keyValue `json:"attributes"`
	}
	scope struct {
		Name string `json:"name"`
	}
	spanJSON struct {
		TraceID      string     `json:"traceId"`
		SpanID       string     `json:"spanId"`
		ParentSpanID string     `json:"parentSpanId,omitempty"`
		Name         string     `json:"name"`
		Kind         Kind       `json:"kind"`
		Start        string     `json:"startTimeUnixNano"`
		End          string     `json:"endTimeUnixNano"`
		Attributes   []keyValue `json:"attributes,omitempty"`
		Status       *status    `json:"status,omitempty"`
	}
	status struct {
		Code    int    `json:"code"`
		Message string `json:"message,omitempty"`
	}
	logJSON struct {
		Time         string     `json:"timeUnixNano"`
		Severity     int        `json:"severityNumber"`
		SeverityText string     `json:"severityText"`
		Body         value      `json:"body"`
		Attributes   []keyValue `json:"attributes,omitempty"`
		TraceID      string     `json:"traceId,omitempty"`
		SpanID       string     `json:"spanId,omitempty"`
	}
	keyValue struct {
		Key   string `json:"key"`
		Value value  `json:"value"`
	}
	value struct {
		String *string `json:"stringValue,omitempty"`
		Int    *string `json:"intValue,omitempty"`
		Bool   *bool   `json:"boolValue,omitempty"`
	}
)

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func encode(attributes []Attribute) []keyValue {
	out := make([]keyValue, 0, len(attributes))
	for _, a := range attributes {
		kv := keyValue{Key: a.Key}
		switch v := a.Value.(type) {
		case bool:
			kv.Value.Bool = &v
		case int64:
			text := strconv.FormatInt(v, 10)
			kv.Value.Int = &text
		case string:
			kv.Value.String = &v
		default:
			text := fmt.Sprint(v)
			kv.Value.String = &text
		}
		out = append(out, kv)
	}
	return out
}

// severity is the number of a level: DEBUG 5, INFO 9, WARN 13, ERROR 17.
func severity(l slog.Level) int { return min(max(int(l)+9, 1), 24) }
