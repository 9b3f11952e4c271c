package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Health is how one upstream of a tenant fares.
type Health struct {
	Tenant   string `json:"tenant"`
	Upstream string `json:"upstream"`
	Vendor   string `json:"vendor"`
	Origin   string `json:"origin"` // scheme and host
	Fallback bool   `json:"fallback,omitzero"`

	State       string    `json:"state"` // of its breaker: closed (all is well), open, half-open
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	LastError   string    `json:"last_error,omitzero"` // in a sentence

	Answered uint64 `json:"answered"` // HTTP requests that were
	Retried  uint64 `json:"retried"`
	Hedged   uint64 `json:"hedged"`
	Copies   uint64 `json:"copies"` // requests answered from the resilience copy instead

	Failed map[Kind]uint64   `json:"failed,omitempty"` // key requests, by what was wrong
	Fixes  map[string]uint64 `json:"fixes,omitempty"`  // key requests whose answer needed the repair

	// Of the latest requests that were answered.
	LatencyMedian time.Duration `json:"latency_median_ns"`
	LatencyP95    time.Duration `json:"latency_p95_ns"`

	Heartbeat      time.Time `json:"heartbeat,omitzero"`       // the last one that was answered
	HeartbeatError string    `json:"heartbeat_error,omitzero"` // of the last one, if it was not
}

// stats counts what becomes of requests.
type stats struct {
	retried, hedged, copies atomic.Uint64

	mu          sync.Mutex
	lastSuccess time.Time
	lastFailure time.Time
	lastError   string
	answers     uint64
	latencies   [128]time.Duration
	byKind      map[Kind]uint64
	byFix       [numFixes]uint64
	beat        time.Time
	beatError   string
}

func (s *stats) answered(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latencies[s.answers%uint64(len(s.latencies))] = took
	s.answers++
}

func (s *stats) failed(f *Fault, now time.Time) {
	if f.Kind == Gone {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byKind == nil {
		s.byKind = make(map[Kind]uint64)
	}
	s.byKind[f.Kind]++
	s.lastFailure, s.lastError = now, f.Sentence
}

// fixed counts the repairs of an answer and tells of those that were never
// needed before.
func (s *stats) fixed(f fixes, first func(fixes)) {
	s.mu.Lock()
	var news fixes
	for x := range f.each {
		s.byFix[x]++
		news.addIf(x, s.byFix[x] == 1)
	}
	s.mu.Unlock()
	if news != 0 {
		first(news)
	}
}

func (s *stats) succeeded(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastSuccess = now
}

func (s *source) health(now time.Time) Health {
	st := &s.stats
	h := Health{
		Upstream: s.set.Name, Vendor: s.set.Vendor, Origin: s.set.Origin(), State: s.breaker.state(now),
		Retried: st.retried.Load(), Hedged: st.hedged.Load(), Copies: st.copies.Load(),
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	h.LastSuccess, h.LastFailure, h.LastError, h.Answered = st.lastSuccess, st.lastFailure, st.lastError, st.answers
	h.Heartbeat, h.HeartbeatError = st.beat, st.beatError
	if len(st.byKind) > 0 {
		h.Failed = make(map[Kind]uint64)
		for k, n := range st.byKind {
			h.Failed[k] = n
		}
	}
	for f, n := range st.byFix {
		if n > 0 {
			if h.Fixes == nil {
				h.Fixes = make(map[string]uint64)
			}
			h.Fixes[Fix(f).String()] = n
		}
	}
	if n := int(min(st.answers, uint64(len(st.latencies)))); n > 0 {
		sorted := slices.Sorted(slices.Values(st.latencies[:n]))
		h.LatencyMedian, h.LatencyP95 = sorted[n/2], sorted[n*95/100]
	}
	return h
}

// Health returns how the upstreams fare that were asked or prepared, by
// tenant.
func (g *Gateway) Health() []Health {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var out []Health
	for id, r := range g.routes {
		for i, s := range r.sources {
			h := s.health(g.now())
			h.Tenant, h.Fallback = id, i > 0
			out = append(out, h)
		}
	}
	slices.SortStableFunc(out, func(a, b Health) int { return strings.Compare(a.Tenant, b.Tenant) })
	return out
}

// beat asks an upstream again and again how it is.
func (s *source) beat(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(time.Duration(s.set.Heartbeat.Every))
	defer tick.Stop()
	for {
		if err := s.heartbeat(ctx); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "upstream's heartbeat failed", "upstream", s.set.Name, "origin", s.set.Origin(), "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// heartbeat asks once. The error is a sentence.
func (s *source) heartbeat(ctx context.Context) (err error) {
	defer func() {
		s.stats.mu.Lock()
		defer s.stats.mu.Unlock()
		if err != nil {
			s.stats.beatError = err.Error()
			return
		}
		s.stats.beat, s.stats.beatError = s.now(), ""
	}()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.set.Timeout))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.set.Heartbeat.URL, nil)
	if err != nil {
		return errors.New("the address cannot be used")
	}
	res, err := s.transport.RoundTrip(r) //nolint:bodyclose // readBody closes it
	if err != nil {
		return errors.New(s.red.line([]byte(err.Error()), maxWords))
	}
	b, err := readBody(res)
	switch {
	case err != nil:
		return errors.New("the answer broke off")
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", res.StatusCode)
	case !bytes.Contains(b, []byte(s.set.Heartbeat.Body)):
		return fmt.Errorf("the answer is not %q", s.set.Heartbeat.Body)
	}
	return nil
}

// Heartbeats asks those of a tenant's upstreams that have one, and returns
// what is wrong with each that does not answer it, by name.
func (g *Gateway) Heartbeats(ctx context.Context, tenant string) map[string]error {
	g.mu.RLock()
	r := g.routes[tenant]
	g.mu.RUnlock()
	failed := make(map[string]error)
	if r == nil {
		return failed
	}
	for _, s := range r.sources {
		if s.set.Heartbeat.URL == "" {
			continue
		}
		if err := s.heartbeat(ctx); err != nil {
			failed[s.set.Name] = err
		}
	}
	return failed
}
