package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// upstreams are the key providers that requests are forwarded to.
type upstreams struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	open     *prometheus.GaugeVec
	opened   *prometheus.CounterVec
	copies   *prometheus.CounterVec
}

// upstreamResults are how a call of an upstream ends.
var upstreamResults = [...]string{
	"answered",    // with keys that passed our checks
	"refused",     // with an error of its own
	"invalid",     // with something that failed our checks
	"timeout",     // not in time
	"unreachable", // no connection
	"skipped",     // not asked, because its breaker is open
}

func (u *upstreams) init(m *Metrics) {
	u.requests = m.counter("upstream_requests_total", "Calls of an upstream key provider, by how they ended.", "upstream", "result")
	u.took = m.latency("upstream_request_duration_seconds", "How long an upstream key provider took.", "upstream")
	u.open = m.gauge("upstream_breaker_open", "Whether the breaker of an upstream is open, so that it is not asked: 1 or 0.", "upstream")
	u.opened = m.counter("upstream_breaker_opened_total", "How often the breaker of an upstream opened.", "upstream")
	u.copies = m.counter("upstream_copies_total", "Requests answered from a resilience copy or another upstream instead of this one.", "upstream")
}

// Upstream are the metrics of one upstream, resolved once so that calls cost
// little.
type Upstream struct {
	results map[string]prometheus.Counter
	took    prometheus.Observer
	open    prometheus.Gauge
	opened  prometheus.Counter
	copies  prometheus.Counter
}

// Upstream returns the metrics of an upstream of the configuration. They are
// the same for the same name.
func (m *Metrics) Upstream(name string) *Upstream {
	u := &Upstream{
		results: make(map[string]prometheus.Counter),
		took:    m.upstream.took.WithLabelValues(name),
		open:    m.upstream.open.WithLabelValues(name),
		opened:  m.upstream.opened.WithLabelValues(name),
		copies:  m.upstream.copies.WithLabelValues(name),
	}
	for _, r := range upstreamResults {
		u.results[r] = m.upstream.requests.WithLabelValues(name, r)
	}
	return u
}

// Called notes a call and how it ended: answered, refused, invalid, timeout,
// unreachable or, when it was not made at all, skipped. Other words count as
// invalid.
func (u *Upstream) Called(result string, took time.Duration) {
	c := u.results[result]
	if c == nil {
		c = u.results["invalid"]
	}
	c.Inc()
	if result != "skipped" {
		u.took.Observe(took.Seconds())
	}
}

// Breaker notes that the breaker opened or closed.
func (u *Upstream) Breaker(open bool) {
	if !open {
		u.open.Set(0)
		return
	}
	u.open.Set(1)
	u.opened.Inc()
}

// Copied notes a request that was answered without this upstream.
func (u *Upstream) Copied() { u.copies.Inc() }
