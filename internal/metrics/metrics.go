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
	"sync"
	"time"

	"spekeasy/internal/keystore"
)

const namespace = "spekeasy"

// Metrics are the metrics of one server. It is safe for concurrent use.
type Metrics struct {
	requests requests

	store, keyManager calls
	audit             recording
	webhooks          webhooks
	ready             *vec[gauge]

	mu      sync.Mutex
	sources []func(*page)
}

// Build says what is running.
type Build struct {
	Version string // such as v1.2.0
	Commit  string // of the source, "" if unknown
}

// New returns metrics that are all zero.
func New(b Build) *Metrics {
	m := new(Metrics)
	info := m.gauge("build_info", "What is running; always 1.", "version", "commit")
	info.with(b.Version, b.Commit).set(1)
	m.source(collectRuntime)
	m.source(collectProcess)
	m.requests.init(m)
	m.store.init(m, "store", "database", "keys", "commit", "data_keys", "create_data_key")
	m.keyManager.init(m, "key_manager", "key manager", "wrap", "unwrap")
	m.audit.init(m)
	m.webhooks.init(m)
	m.ready = m.gauge("ready", "Whether a check of /readyz holds: 1 or 0.", "check")
	return m
}

// source has metrics read whenever somebody asks for them.
func (m *Metrics) source(collect func(*page)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, collect)
}

// Ready notes whether a check of readiness holds.
func (m *Metrics) Ready(check string, holds bool) {
	m.ready.with(check).set(truth(holds))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
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
	took   map[string]*histogram
	errors map[[2]string]*counter
}

func (c *calls) init(m *Metrics, name, what string, ops ...string) {
	took := m.latency(name+"_call_duration_seconds", "How long calls of the "+what+" took, failed ones included.", "op")
	errs := m.counter(name+"_errors_total", "Calls of the "+what+" that failed.", "op", "kind")
	c.took = make(map[string]*histogram)
	c.errors = make(map[[2]string]*counter)
	for _, op := range ops {
		c.took[op] = took.with(op)
		for _, kind := range []string{unavailable, refused, cancelled} {
			c.errors[[2]string{op, kind}] = errs.with(op, kind)
		}
	}
}

func (c *calls) note(call keystore.Call) {
	took := c.took[call.Op]
	if took == nil {
		return // an operation that we do not know has no series
	}
	took.observe(call.Took)
	if call.Err != nil {
		c.errors[[2]string{call.Op, kindOf(call)}].inc()
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
	records, failures *counter
	took              *histogram
}

func (r *recording) init(m *Metrics) {
	r.records = m.counter("audit_records_total", "Records written to the audit log.").with()
	r.failures = m.counter("audit_errors_total", "Records that could not be written; what they were about was refused.").with()
	r.took = m.latency("audit_record_duration_seconds", "How long requests waited for their audit record.").with()
}

// AuditRecord notes that a record was written, or was not.
func (m *Metrics) AuditRecord(took time.Duration, err error) {
	m.audit.took.observe(took)
	if err != nil {
		m.audit.failures.inc()
		return
	}
	m.audit.records.inc()
}
