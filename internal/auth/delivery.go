package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"

	"spekeasy/internal/tenant"
)

// delivery is the certificate in a request's DeliveryData, to which the keys
// are to be encrypted: KeyOS recognizes its customers by it. A certificate is
// public, so that it proves nothing; what protects the keys is that they are
// encrypted to certificates of the tenant and to nobody else, which
// [Authenticator.CheckRecipients] holds.
type delivery struct{ byPrint map[sum]*grant }

func newDelivery() *delivery { return &delivery{byPrint: make(map[sum]*grant)} }

func (*delivery) takes(c *tenant.Credential) bool { return c.DeliveryCertificate != nil }

func (d *delivery) empty() bool { return len(d.byPrint) == 0 }

func (d *delivery) add(g *grant, c *tenant.Credential) error {
	g.Sealed = true
	return claimPrint(d.byPrint, c.DeliveryCertificate.SHA256, g)
}

const (
	maxDeliveryCertificates = 16
	maxCertificate          = 16 << 10 // bytes of base64
)

// authenticate looks for a known certificate in the body without reading it
// as XML, which comes later and decides to whom keys are encrypted.
func (d *delivery) authenticate(_ *http.Request, body []byte) (*grant, error) {
	name := []byte("X509Certificate")
	refused := errAbsent
	for range maxDeliveryCertificates {
		i := bytes.Index(body, name)
		if i < 0 {
			break
		}
		body = body[i+len(name):]
		i = bytes.IndexByte(body, '>')
		if i < 0 {
			break
		}
		text, _, _ := bytes.Cut(body[i+1:], []byte{'<'})
		if len(text) > maxCertificate {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
		if err != nil || len(der) == 0 {
			continue
		}
		if g := d.byPrint[sha256.Sum256(der)]; g != nil {
			return g, nil
		}
		refused = &refusal{kind: "delivery certificate", why: "unknown"}
	}
	return nil, refused
}

func (d *delivery) challenge(error) []string { return []string{`DeliveryCertificate realm="spekeasy"`} }

// CheckRecipients holds, for a principal that is Sealed, that keys are
// encrypted, and to nobody but its tenant's certificates that are good now.
// The error wraps [ErrForbidden].
func (a *Authenticator) CheckRecipients(who *Principal, recipients []*x509.Certificate) error {
	if !who.Sealed {
		return nil
	}
	if len(recipients) == 0 {
		return fmt.Errorf("tenant %s: keys in clear for a delivery certificate: %w", who.Tenant, ErrForbidden)
	}
	for _, c := range recipients {
		g := a.delivery.byPrint[sha256.Sum256(c.Raw)]
		if g == nil || g.Tenant != who.Tenant || g.valid(a.now()) != nil {
			return fmt.Errorf("tenant %s: a recipient is not one of its delivery certificates: %w", who.Tenant, ErrForbidden)
		}
	}
	return nil
}
