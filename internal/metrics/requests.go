package metrics

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// result is what became of a key request.
type result int

const (
	delivered result = iota
	invalid          // 4xx: the request is not as the specification or the tenant wants it
	unauthorized
	forbidden
	throttled
	unreachable   // 503: database, key manager or audit log
	upstreamFault // 502, 504
	internalFault // other 5xx: a fault of ours
	results
)

var resultNames = [results]string{
	"delivered", "invalid", "unauthorized", "forbidden", "throttled", "unavailable", "upstream", "error",
}

func resultOf(status int) result {
	switch {
	case status < http.StatusBadRequest:
		return delivered
	case status == http.StatusUnauthorized:
		return unauthorized
	case status == http.StatusForbidden:
		return forbidden
	case status == http.StatusTooManyRequests:
		return throttled
	case status == http.StatusServiceUnavailable:
		return unreachable
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout:
		return upstreamFault
	case status < http.StatusInternalServerError:
		return invalid
	default:
		return internalFault
	}
}

// Profiles of SPEKE and protocols of packagers; the last stands for requests
// that were refused before theirs was known.
var profileNames = [...]string{"1.0", "2.0", "2.1", "get-content-key", "playready-packaging", "cpix", "unknown"}

func profileOf(name string) int {
	for i, p := range profileNames {
		if p == name {
			return i
		}
	}
	return len(profileNames) - 1
}

const (
	noClass    = "unknown" // of requests whose tenant was never known
	otherClass = "other"   // of those that came after maxClasses
	maxClasses = 32
)

// class are the requests of tenants of one class.
type class [len(profileNames)][results]*counter

// requests are the key requests.
type requests struct {
	total *vec[counter]
	took  [len(profileNames)][results]*histogram

	mu      sync.Mutex // of those who add a class
	classes atomic.Pointer[map[string]*class]
}

func (r *requests) init(m *Metrics) {
	r.total = m.counter("key_requests_total", "Key requests, by what became of them.", "profile", "result", "class")
	took := m.latency("key_request_duration_seconds", "How long key requests took, from their header read to their answer written.", "profile", "result")
	for i, p := range profileNames {
		for j, name := range resultNames {
			r.took[i][j] = took.with(p, name)
		}
	}
	r.classes.Store(&map[string]*class{})
	r.add(noClass)
	r.add(otherClass)
}

// KeyRequest notes a key request that has been answered. profile and class of
// the tenant are empty if it was refused before they were known. It does not
// allocate.
func (m *Metrics) KeyRequest(profile, class string, status int, took time.Duration) {
	p, res := profileOf(profile), resultOf(status)
	m.requests.class(class)[p][res].inc()
	m.requests.took[p][res].observe(took)
}

// Class makes the series of a class of tenants, so that they are there before
// the first request.
func (m *Metrics) Class(name string) { m.requests.class(name) }

func (r *requests) class(name string) *class {
	if name == "" {
		name = noClass
	}
	if c := (*r.classes.Load())[name]; c != nil {
		return c
	}
	return r.add(name)
}

func (r *requests) add(name string) *class {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := *r.classes.Load()
	if c := known[name]; c != nil {
		return c
	}
	if len(known) >= maxClasses {
		return known[otherClass]
	}
	c := new(class)
	for i, p := range profileNames {
		for j, res := range resultNames {
			c[i][j] = r.total.with(p, res, name)
		}
	}
	more := maps.Clone(known)
	more[name] = c
	r.classes.Store(&more)
	return c
}
