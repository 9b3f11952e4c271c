package metrics

import "time"

// Expiry is when something ends that an operator must renew in time.
type Expiry struct {
	Tenant string // whose credential; "" for a certificate of the server's own
	Name   string // of the credential, or "listener"
	At     time.Time
}

// Expiries has the ends of certificates and credentials read whenever
// somebody asks for metrics; certificates change while a server runs.
func (m *Metrics) Expiries(all func() []Expiry) {
	m.source(func(p *page) {
		certificate := p.family(namespace+"_certificate_expiry_timestamp_seconds", "When a certificate of the server expires, in Unix time.", typeGauge)
		credential := p.family(namespace+"_credential_expiry_timestamp_seconds", "When a credential expires, in Unix time; those that do not are left out.", typeGauge)
		for _, x := range all() {
			at := float64(x.At.Unix())
			if x.Tenant == "" {
				certificate.add(at, "certificate", x.Name)
			} else {
				credential.add(at, "credential", x.Name, "tenant", x.Tenant)
			}
		}
	})
}
