package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Expiry is when something ends that an operator must renew in time.
type Expiry struct {
	Tenant string // whose credential; "" for a certificate of the server's own
	Name   string // of the credential, or "listener"
	At     time.Time
}

// Expiries has the ends of certificates and credentials read whenever
// somebody asks for metrics; certificates change while a server runs.
func (m *Metrics) Expiries(all func() []Expiry) {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	m.registry.MustRegister(&expiries{
		all:         all,
		certificate: desc("certificate_expiry_timestamp_seconds", "When a certificate of the server expires, in Unix time.", "certificate"),
		credential:  desc("credential_expiry_timestamp_seconds", "When a credential expires, in Unix time; those that do not are left out.", "tenant", "credential"),
	})
}

type expiries struct {
	all                     func() []Expiry
	certificate, credential *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (e *expiries) Describe(ch chan<- *prometheus.Desc) {
	ch <- e.certificate
	ch <- e.credential
}

// Collect implements [prometheus.Collector].
func (e *expiries) Collect(ch chan<- prometheus.Metric) {
	for _, x := range e.all() {
		at := float64(x.At.Unix())
		if x.Tenant == "" {
			ch <- prometheus.MustNewConstMetric(e.certificate, prometheus.GaugeValue, at, x.Name)
		} else {
			ch <- prometheus.MustNewConstMetric(e.credential, prometheus.GaugeValue, at, x.Tenant, x.Name)
		}
	}
}
