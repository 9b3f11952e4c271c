// Package metrics counts what a server does, for Prometheus to read. A value
// of [Metrics] is made once and handed to whoever has something to tell; there
// is no global registry.
//
// No label names a tenant, a content ID or a key ID: their number has no
// bound, and who works on what is nobody's business. Tenants are told apart by
// their class. The exception is the expiry of credentials, which is of no use
// without saying whose it is.
package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"spekeasy/internal/keystore"
)

const namespace = "spekeasy"

// seconds are the buckets of all latencies: known keys take tens of
// microseconds, a sync to disk milliseconds, and an encryptor gives up after
// seconds.
var seconds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20}

// Metrics are the metrics of one server. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests requests

	store, keyManager calls
	audit             recording
	webhooks          webhooks
	ready             *prometheus.GaugeVec
}

// Build says what is running.
type Build struct {
	Version string // such as v1.2.0
	Commit  string // of the source, "" if unknown
}

// New returns metrics that are all zero.
func New(b Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	info := m.gauge("build_info", "What is running; always 1.", "version", "commit")
	info.WithLabelValues(b.Version, b.Commit).Set(1)
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.requests.init(m)
	m.store.init(m, "store", "database", "keys", "commit", "data_keys", "create_data_key")
	m.keyManager.init(m, "key_manager", "key manager", "wrap", "unwrap")
	m.audit.init(m)
	m.webhooks.init(m)
	m.ready = m.gauge("ready", "Whether a check of /readyz holds: 1 or 0.", "check")
	return m
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) latency(name, help string, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: seconds}, labels)
	m.registry.MustRegister(v)
	return v
}

// Ready notes whether a check of readiness holds.
func (m *Metrics) Ready(check string, holds bool) {
	value := 0.0
	if holds {
		value = 1
	}
	m.ready.WithLabelValues(check).Set(value)
}

// Call notes a call of the database or the key manager.
func (m *Metrics) Call(c keystore.Call) {
	if c.KeyManager {
		m.keyManager.note(c)
	} else {
		m.store.note(c)
	}
}

// Kinds of errors of a call.
const (
	unavailable = "unavailable" // could not be asked, or not in time
	refused     = "refused"     // answered, and something is wrong with what is kept there
	cancelled   = "cancelled"   // whoever asked went away
)

// calls are the calls of one backend. All series exist from the start, so
// that the first error shows as a rise.
type calls struct {
	took   map[string]prometheus.Observer
	errors map[[2]string]prometheus.Counter
}

func (c *calls) init(m *Metrics, name, what string, ops ...string) {
	took := m.latency(name+"_call_duration_seconds", "How long calls of the "+what+" took, failed ones included.", "op")
	errs := m.counter(name+"_errors_total", "Calls of the "+what+" that failed.", "op", "kind")
	c.took = make(map[string]prometheus.Observer)
	c.errors = make(map[[2]string]prometheus.Counter)
	for _, op := range ops {
		c.took[op] = took.WithLabelValues(op)
		for _, kind := range []string{unavailable, refused, cancelled} {
			c.errors[[2]string{op, kind}] = errs.WithLabelValues(op, kind)
		}
	}
}

func (c *calls) note(call keystore.Call) {
	took := c.took[call.Op]
	if took == nil {
		return // an operation that we do not know has no series
	}
	took.Observe(call.Took.Seconds())
	if call.Err != nil {
		c.errors[[2]string{call.Op, kindOf(call)}].Inc()
	}
}

func kindOf(c keystore.Call) string {
	switch {
	case errors.Is(c.Err, context.Canceled):
		return cancelled
	case errors.Is(c.Err, keystore.ErrCorrupt), errors.Is(c.Err, keystore.ErrWrongKEK), errors.Is(c.Err, keystore.ErrDeleted):
		return refused
	default:
		return unavailable
	}
}

// recording is the audit log.
type recording struct {
	records, failures prometheus.Counter
	took              prometheus.Observer
}

func (r *recording) init(m *Metrics) {
	r.records = m.counter("audit_records_total", "Records written to the audit log.").WithLabelValues()
	r.failures = m.counter("audit_errors_total", "Records that could not be written; what they were about was refused.").WithLabelValues()
	r.took = m.latency("audit_record_duration_seconds", "How long requests waited for their audit record.").WithLabelValues()
}

// AuditRecord notes that a record was written, or was not.
func (m *Metrics) AuditRecord(took time.Duration, err error) {
	m.audit.took.Observe(took.Seconds())
	if err != nil {
		m.audit.failures.Inc()
		return
	}
	m.audit.records.Inc()
}
