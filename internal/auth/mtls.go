package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"spekeasy/internal/tenant"
)

// mtls is mutual TLS: the certificate with which the client proved, in the
// handshake, that it has the key. A credential names the certificate by its
// fingerprint, whoever issued it, or by its subject, if one of our client CAs
// issued it.
type mtls struct {
	roots     *x509.CertPool // of subjects; nil for none
	byPrint   map[sum]*grant
	bySubject map[string]*grant // as in RFC 2253
	now       func() time.Time

	mu     sync.Mutex
	proved *recent[sum, provedToken] // by fingerprint: certificates that a CA vouches for
}

const maxProvedCertificates = 1024 // twice

func newMTLS(roots *x509.CertPool, now func() time.Time) *mtls {
	return &mtls{
		roots: roots, byPrint: make(map[sum]*grant), bySubject: make(map[string]*grant), now: now,
		proved: newRecent[sum, provedToken](maxProvedCertificates, nil),
	}
}

func (*mtls) takes(c *tenant.Credential) bool { return c.MTLS != nil }

func (m *mtls) empty() bool { return len(m.byPrint) == 0 && len(m.bySubject) == 0 }

func (m *mtls) add(g *grant, c *tenant.Credential) error {
	if c.MTLS.Subject != "" {
		if m.roots == nil {
			return errors.New("mtls: a subject needs the client CAs of tls.client_ca_file")
		}
		return claim(m.bySubject, c.MTLS.Subject, g)
	}
	return claimPrint(m.byPrint, c.MTLS.SHA256, g)
}

// named is what belongs to a credential.
type named interface{ name() string }

// claim lets one credential have a key.
func claim[K comparable, V named](all map[K]V, key K, v V) error {
	if other, taken := all[key]; taken {
		return fmt.Errorf("the same as credential %s", other.name())
	}
	all[key] = v
	return nil
}

func claimPrint(all map[sum]*grant, print tenant.Fingerprint, g *grant) error {
	d, err := print.Bytes()
	if err != nil {
		return err
	}
	return claim(all, d, g)
}

func (m *mtls) authenticate(r *http.Request, _ []byte) (*grant, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, errAbsent
	}
	leaf, now := r.TLS.PeerCertificates[0], m.now()
	print := sha256.Sum256(leaf.Raw)
	g := m.byPrint[print]
	if g == nil {
		m.mu.Lock()
		known, ok := m.proved.get(print)
		m.mu.Unlock()
		if ok && now.Before(known.until) {
			g = known.grant
		}
	}
	if g == nil {
		var err error
		if g, err = m.verify(r.TLS.PeerCertificates, print, now); err != nil {
			return nil, err
		}
	}
	g.certificateEnds.Store(leaf.NotAfter.Unix())
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return nil, &refusal{kind: "client certificate", name: g.name(), why: "outside its time"}
	}
	return g, nil
}

// verify finds the credential of a subject, if a CA of ours issued the
// certificate for clients.
func (m *mtls) verify(chain []*x509.Certificate, print sum, now time.Time) (*grant, error) {
	leaf := chain[0]
	g := m.bySubject[leaf.Subject.String()]
	if g == nil {
		return nil, &refusal{kind: "client certificate", why: "unknown"}
	}
	o := x509.VerifyOptions{
		Roots: m.roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(o); err != nil {
		return nil, &refusal{kind: "client certificate", name: g.name(), why: "issued by none of the client CAs, or outside its time"}
	}
	m.mu.Lock()
	m.proved.put(print, provedToken{g, now.Add(maxProvedFor)})
	m.mu.Unlock()
	return g, nil
}

func (m *mtls) challenge(error) []string { return []string{`ClientCertificate realm="spekeasy"`} }
