package metrics

import (
	"maps"
	"slices"
	"time"
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
	m.source(func(p *page) {
		family := func(name, help, kind string) *family { return p.family(namespace+"_upstream_"+name, help, kind) }
		answers := family("answers_total", "HTTP requests that an upstream key provider answered.", typeCounter)
		retries := family("retries_total", "HTTP requests that were sent to an upstream once more.", typeCounter)
		hedges := family("hedges_total", "HTTP requests that were sent to an upstream beside a slow one.", typeCounter)
		copies := family("copies_total", "Key requests answered from the resilience copy instead.", typeCounter)
		failures := family("failures_total", "Key requests that an upstream did not serve, by what was wrong.", typeCounter)
		fixes := family("fixes_total", "Key requests whose answer from an upstream had to be repaired, by how.", typeCounter)
		open := family("breaker_open", "Whether the breaker of an upstream is open, so that it is not asked: 1 or 0.", typeGauge)
		latency := family("latency_seconds", "How long an upstream took for its latest answers.", typeGauge)
		failing := family("failing_since_timestamp_seconds", "Since when an upstream fails, in Unix time; 0 while it serves.", typeGauge)
		success := family("last_success_timestamp_seconds", "When an upstream last served a key request, in Unix time; 0 for never.", typeGauge)
		for _, x := range byName(all()) {
			answers.add(float64(x.Answered), "upstream", x.Name)
			retries.add(float64(x.Retried), "upstream", x.Name)
			hedges.add(float64(x.Hedged), "upstream", x.Name)
			copies.add(float64(x.Copies), "upstream", x.Name)
			for _, kind := range slices.Sorted(maps.Keys(x.Failed)) {
				failures.add(float64(x.Failed[kind]), "kind", kind, "upstream", x.Name)
			}
			for _, fix := range slices.Sorted(maps.Keys(x.Fixed)) {
				fixes.add(float64(x.Fixed[fix]), "fix", fix, "upstream", x.Name)
			}
			open.add(truth(x.Open), "upstream", x.Name)
			latency.add(x.Median.Seconds(), "quantile", "0.5", "upstream", x.Name)
			latency.add(x.P95.Seconds(), "quantile", "0.95", "upstream", x.Name)
			since, last := 0.0, 0.0
			if !x.FailingSince.IsZero() {
				since = float64(x.FailingSince.Unix())
			}
			if !x.LastSuccess.IsZero() {
				last = float64(x.LastSuccess.Unix())
			}
			failing.add(since, "upstream", x.Name)
			success.add(last, "upstream", x.Name)
		}
	})
}

// byName returns one upstream for each name, sorted.
func byName(all []Upstream) (list []*Upstream) {
	known := make(map[string]*Upstream)
	for _, x := range all {
		if s := known[x.Name]; s != nil {
			s.add(&x)
			continue
		}
		x.Failed, x.Fixed = maps.Clone(x.Failed), maps.Clone(x.Fixed)
		known[x.Name] = &x
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		list = append(list, known[name])
	}
	return list
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
