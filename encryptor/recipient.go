package encryptor

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"time"
)

// rsaSize is the key size of AWS's encryptors (SX-CKE-11).
const rsaSize = 2048

// Recipient is who content keys are encrypted to: a certificate and, to open
// them, its private key. Printing and logging it does not show the key.
type Recipient struct {
	ID          string // DeliveryData@id; "recipient-" and a number by default
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey // nil if the answers are for somebody else to open
}

// NewRecipient makes a throw-away recipient: an RSA-2048 key and a
// certificate, signed by itself with SHA-512 as AWS's services want it
// (SX-CKE-12) and valid for a day around now.
func NewRecipient(now time.Time) (*Recipient, error) {
	key, err := rsa.GenerateKey(rand.Reader, rsaSize)
	if err != nil {
		return nil, fmt.Errorf("recipient key: %w", err)
	}
	template := x509.Certificate{
		SerialNumber:       big.NewInt(now.UnixNano()),
		Subject:            pkix.Name{CommonName: "encryptor.example.com"},
		NotBefore:          now.Add(-time.Hour),
		NotAfter:           now.Add(23 * time.Hour),
		SignatureAlgorithm: x509.SHA512WithRSA,
		KeyUsage:           x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("recipient certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("recipient certificate: %w", err)
	}
	return &Recipient{Certificate: cert, Key: key}, nil
}

const hidden = "(recipient)"

// Format hides the private key from every verb of package fmt.
func (Recipient) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue hides the private key from log/slog.
func (Recipient) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the private key from encoders such as encoding/json.
func (Recipient) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// rsaBits returns the size of a certificate's RSA key, 0 for other keys.
func rsaBits(c *x509.Certificate) int {
	if pub, ok := c.PublicKey.(*rsa.PublicKey); ok {
		return pub.N.BitLen()
	}
	return 0
}
