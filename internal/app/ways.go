package app

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/config"
)

// Check builds what a configuration asks for as far as nothing outside of it
// has to be opened but the files that it names, to find faults before the
// start.
func Check(c *config.Config) error {
	log := slog.New(slog.DiscardHandler)
	customers, err := NewCustomers(c, log)
	if err != nil {
		return err
	}
	_, err = newListenerTLS(&c.TLS, customers, log)
	return err
}

// authOptions are the settings of the ways in.
func authOptions(c *config.Config, log *slog.Logger) (auth.Options, error) {
	d, oauth := c.Auth.Digest, c.Auth.OAuth
	key, err := signingKey(oauth.SigningKey)
	if err != nil {
		return auth.Options{}, fmt.Errorf("auth.oauth.signing_key_file: %w", err)
	}
	cas, err := clientCAs(c.TLS.ClientCAFile)
	if err != nil {
		return auth.Options{}, fmt.Errorf("tls.client_ca_file: %w", err)
	}
	return auth.Options{
		ClientCAs:      cas,
		Log:            log,
		TrustedProxies: c.TrustedProxies,
		Digest: auth.Digest{
			Algorithms: d.Algorithms, Integrity: d.Integrity, Lifetime: time.Duration(d.Lifetime), Key: []byte(d.Key),
		},
		OAuth: auth.OAuth{Issuer: oauth.Issuer, Lifetime: time.Duration(oauth.Lifetime), Key: key},
	}, nil
}

// signingKey reads the key of our tokens; nil without a file.
func signingKey(path string) (crypto.Signer, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("%s: no PEM block PRIVATE KEY", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: not a PKCS #8 key", path)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: not a key that signs", path)
	}
	return signer, nil
}
