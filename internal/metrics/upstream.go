package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Upstream is how a key provider fares that requests are forwarded to.
// Entries with the same name, of several tenants, are told as one: counts are
// added, of the rest the worst counts.
type Upstream struct {
	Name string

	Answered uint64 // HTTP requests that were
	Retried  uint64 // HTTP requests that were sent once more
	Hedged   uint64 // HTTP requests that were sent to be faster than the first
	Copies   uint64 // key requests answered from the resilience copy instead

	Failed map[string]uint64 // key requests, by what was wrong
	Fixed  map[string]uint64 // key requests whose answer was repaired, by how

	Open        bool          // whether the breaker is, so that it is not asked
	Median, P95 time.Duration // of the latest answers
	LastSuccess time.Time     // zero if there was none

	FailingSince time.Time // zero while it serves
}

// Upstreams has the state of all upstreams read whenever somebody asks for
// metrics.
func (m *Metrics) Upstreams(all func() []Upstream) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "upstream", name), help, append([]string{"upstream"}, labels...), nil)
	}
	m.registry.MustRegister(&upstreams{
		all:         all,
		answered:    desc("answers_total", "HTTP requests that an upstream key provider answered."),
		retried:     desc("retries_total", "HTTP requests that were sent to an upstream once more."),
		hedged:      desc("hedges_total", "HTTP requests that were sent to an upstream beside a slow one."),
		copies:      desc("copies_total", "Key requests answered from the resilience copy instead."),
		failed:      desc("failures_total", "Key requests that an upstream did not serve, by what was wrong.", "kind"),
		fixed:       desc("fixes_total", "Key requests whose answer from an upstream had to be repaired, by how.", "fix"),
		open:        desc("breaker_open", "Whether the breaker of an upstream is open, so that it is not asked: 1 or 0."),
		latency:     desc("latency_seconds", "How long an upstream took for its latest answers.", "quantile"),
		failing:     desc("failing_since_timestamp_seconds", "Since when an upstream fails, in Unix time; 0 while it serves."),
		lastSuccess: desc("last_success_timestamp_seconds", "When an upstream last served a key request, in Unix time; 0 for never."),
	})
}

type upstreams struct {
	all func() []Upstream

	answered, retried, hedged, copies, failed, fixed, open, latency, failing, lastSuccess *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (u *upstreams) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{u.answered, u.retried, u.hedged, u.copies, u.failed, u.fixed, u.open, u.latency, u.failing, u.lastSuccess} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (u *upstreams) Collect(ch chan<- prometheus.Metric) {
	byName := make(map[string]*Upstream)
	for _, x := range u.all() {
		if s := byName[x.Name]; s != nil {
			s.add(&x)
			continue
		}
		x.Failed, x.Fixed = maps.Clone(x.Failed), maps.Clone(x.Fixed)
		byName[x.Name] = &x
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		x := byName[name]
		count := func(d *prometheus.Desc, n uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), append([]string{name}, labels...)...)
		}
		gauge := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{name}, labels...)...)
		}
		count(u.answered, x.Answered)
		count(u.retried, x.Retried)
		count(u.hedged, x.Hedged)
		count(u.copies, x.Copies)
		for kind, n := range x.Failed {
			count(u.failed, n, kind)
		}
		for fix, n := range x.Fixed {
			count(u.fixed, n, fix)
		}
		gauge(u.latency, x.Median.Seconds(), "0.5")
		gauge(u.latency, x.P95.Seconds(), "0.95")
		open, failing, last := 0.0, 0.0, 0.0
		if x.Open {
			open = 1
		}
		if !x.FailingSince.IsZero() {
			failing = float64(x.FailingSince.Unix())
		}
		if !x.LastSuccess.IsZero() {
			last = float64(x.LastSuccess.Unix())
		}
		gauge(u.open, open)
		gauge(u.failing, failing)
		gauge(u.lastSuccess, last)
	}
}

// add adds another tenant's upstream of the same name.
func (s *Upstream) add(x *Upstream) {
	s.Answered += x.Answered
	s.Retried += x.Retried
	s.Hedged += x.Hedged
	s.Copies += x.Copies
	for _, c := range []struct {
		to   *map[string]uint64
		from map[string]uint64
	}{{&s.Failed, x.Failed}, {&s.Fixed, x.Fixed}} {
		for k, n := range c.from {
			if *c.to == nil {
				*c.to = make(map[string]uint64)
			}
			(*c.to)[k] += n
		}
	}
	s.Open = s.Open || x.Open
	s.Median, s.P95 = max(s.Median, x.Median), max(s.P95, x.P95)
	if s.FailingSince.IsZero() || !x.FailingSince.IsZero() && x.FailingSince.Before(s.FailingSince) {
		s.FailingSince = x.FailingSince
	}
	if x.LastSuccess.After(s.LastSuccess) {
		s.LastSuccess = x.LastSuccess
	}
}
