package server

import (
	"context"
	"net/http"
	"time"

	"spekeasy/internal/telemetry"
)

// Observer counts key requests that have been answered. profile and the
// tenant's class are empty if a request was refused before they were known.
type Observer interface {
	KeyRequest(profile, class string, status int, took time.Duration)
}

// Observe has key requests counted and their traces followed from here on;
// either may be nil. It is called before the first request.
func (s *Server) Observe(by Observer, t *telemetry.Tracer) { s.observer, s.tracer = by, t }

// seen is what is noted of a key request on its way.
type seen struct {
	start          time.Time
	span           *telemetry.Span // nil if nobody follows it
	profile, class string
}

type seenKey struct{}

// note returns where to note what is known of a request.
func note(ctx context.Context) *seen {
	if s, ok := ctx.Value(seenKey{}).(*seen); ok {
		return s
	}
	return new(seen) // nobody counts this route's requests
}

// begin begins to follow a request.
func (s *Server) begin(l *timeLimit, route *Route, r *http.Request) {
	if l.seen.span = s.tracer.Start(r.Header, route.Path, l.seen.start); l.seen.span != nil {
		l.seen.span.Set("http.request.method", r.Method)
		l.seen.span.Set("http.route", route.Path)
		l.seen.span.Set("spekeasy.request_id", l.requestID)
	}
}

// end counts a request that has been answered; err is why it was refused.
func (s *Server) end(l *timeLimit, route *Route, err error) {
	status := http.StatusOK
	if err != nil {
		if status, _ = answerTo(err); status == http.StatusOK {
			status = statusInWords(err)
		}
	}
	now := time.Now()
	if s.observer != nil && route.Audited {
		s.observer.KeyRequest(l.seen.profile, l.seen.class, status, now.Sub(l.seen.start))
	}
	if span := l.seen.span; span != nil {
		span.Set("http.response.status_code", int64(status))
		if l.seen.profile != "" {
			span.Set("spekeasy.profile", l.seen.profile)
			span.Set("spekeasy.tenant_class", l.seen.class)
		}
		if status >= http.StatusInternalServerError {
			span.Fail(http.StatusText(status))
		}
		span.End(now)
	}
}
