// Package telemetry follows requests through the server: it reads the trace
// context that a request brings, times what the request waits for, and sends
// spans and logs to an OpenTelemetry collector (OTLP/HTTP, JSON encoding).
//
// It is small on purpose: see docs/design/002-telemetry.md. Spans have no
// attribute that could hold a key, a credential or a URL.
package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// TraceID is a trace's name, 16 bytes, not all of them zero.
type TraceID [16]byte

// String returns 32 lower-case hexadecimal digits.
func (t TraceID) String() string { return hex.EncodeToString(t[:]) }

// SpanID is a span's name, 8 bytes, not all of them zero.
type SpanID [8]byte

// String returns 16 lower-case hexadecimal digits.
func (s SpanID) String() string { return hex.EncodeToString(s[:]) }

// Kind is what a span stands for, in OTLP's numbers.
type Kind int

// Kinds of spans.
const (
	Internal Kind = 1
	Served   Kind = 2 // a request that we answered
	Client   Kind = 3 // a call that we made
)

// Attribute says something about a span or a log record. Value is a string,
// an int64 or a bool.
type Attribute struct {
	Key   string
	Value any
}

// Span is one timed step of a trace. A nil Span is one that nobody follows;
// all methods take it.
type Span struct {
	Trace   TraceID
	ID      SpanID
	Parent  SpanID // zero for the first one of a trace
	Sampled bool   // whether it is sent

	tracer *Tracer
	name   string
	kind   Kind
	start  time.Time

	mu         sync.Mutex
	attributes []Attribute
	failure    string
}

// Set adds an attribute to a span that is sent.
func (s *Span) Set(key string, value any) {
	if s == nil || !s.Sampled {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attributes = append(s.attributes, Attribute{key, value})
}

// Fail marks the span as failed. The text must hold no secret.
func (s *Span) Fail(text string) {
	if s == nil || !s.Sampled {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = text
}

// End sends the span.
func (s *Span) End(at time.Time) {
	if s == nil || !s.Sampled {
		return
	}
	s.tracer.send(s, at)
}

// Child begins a step within the span.
func (s *Span) Child(name string, kind Kind, start time.Time) *Span {
	if s == nil || !s.Sampled {
		return nil
	}
	return &Span{Trace: s.Trace, ID: s.tracer.spanID(), Parent: s.ID, Sampled: true, tracer: s.tracer, name: name, kind: kind, start: start}
}

// Traceparent is the header that hands the trace on to whom we call (W3C
// Trace Context); "" for a nil Span.
func (s *Span) Traceparent() string {
	if s == nil {
		return ""
	}
	flags := "00"
	if s.Sampled {
		flags = "01"
	}
	return "00-" + s.Trace.String() + "-" + s.ID.String() + "-" + flags
}

// Key is under which a context holds its *Span.
type Key struct{}

// FromContext returns the span that a context is about, or nil.
func FromContext(ctx context.Context) *Span {
	s, _ := ctx.Value(Key{}).(*Span)
	return s
}

// Tracer begins traces. A nil Tracer follows nothing but what others asked
// to be followed, and sends nothing.
type Tracer struct {
	sample float64 // share of the traces that begin here which are sent
	out    *Exporter
	random func() uint64
}

// NewTracer returns a tracer that sends spans to out, and of the traces that
// begin with us the given share, 0 to 1.
func NewTracer(out *Exporter, sample float64) *Tracer {
	return &Tracer{sample: sample, out: out, random: rand.Uint64}
}

// Start begins the span of a request that arrived. It continues the trace
// that the request's headers name, with the sender's word on whether it is
// sampled. Otherwise a sampled share begins a trace, and the rest is nil.
func (t *Tracer) Start(h http.Header, name string, start time.Time) *Span {
	p, ok := parent(h)
	if t == nil {
		if !ok {
			return nil
		}
		return &Span{Trace: p.trace, ID: p.span, name: name} // it names the trace in logs
	}
	s := &Span{tracer: t, name: name, kind: Served, start: start}
	switch {
	case ok:
		s.Trace, s.Parent, s.Sampled = p.trace, p.span, p.sampled
		if p.undecided {
			s.Sampled = t.samples()
		}
	case t.samples():
		binary.BigEndian.PutUint64(s.Trace[:8], t.random())
		binary.BigEndian.PutUint64(s.Trace[8:], t.random()|1) // never zero
		s.Sampled = true
	default:
		return nil
	}
	s.ID = t.spanID()
	return s
}

// samples decides on one trace.
func (t *Tracer) samples() bool {
	return t.sample >= 1 || t.sample > 0 && float64(t.random()>>11)/(1<<53) < t.sample
}

func (t *Tracer) spanID() (id SpanID) {
	binary.BigEndian.PutUint64(id[:], t.random()|1)
	return id
}

func (t *Tracer) send(s *Span, end time.Time) { t.out.addSpan(s, end) }
