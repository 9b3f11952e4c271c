package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"spekeasy/contentkey"
)

// Ready returns the settings as they are in force: the vendor's preset and the
// defaults filled in, and everything checked. The error names the member that
// is wrong, never a value that may be secret.
func (s *Settings) Ready() (*Settings, error) {
	if !slices.Contains(Vendors(), s.Vendor) {
		return nil, fmt.Errorf("vendor: %q is none of %s", s.Vendor, strings.Join(Vendors(), ", "))
	}
	filled := s.filled()
	if err := filled.check(); err != nil {
		return nil, err
	}
	names := map[string]bool{filled.Name: true}
	for i := range filled.Fallback {
		f := &filled.Fallback[i]
		if !slices.Contains(Vendors(), f.Vendor) {
			return nil, fmt.Errorf("fallback[%d]: vendor: %q is none of %s", i, f.Vendor, strings.Join(Vendors(), ", "))
		}
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("fallback[%d]: %w", i, err)
		}
		if len(f.Fallback) > 0 {
			return nil, fmt.Errorf("fallback[%d]: fallback: has none of its own", i)
		}
		if names[f.Name] && !f.SameKeys {
			return nil, fmt.Errorf("fallback[%d]: name: %q is in use; another key provider needs another name", i, f.Name)
		}
		names[f.Name] = true
	}
	return &filled, nil
}

const maxName = 64

func (s *Settings) check() error {
	if len(s.Name) > maxName || strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return fmt.Errorf("name: at most %d of a-z, 0-9, '.', '_' and '-'", maxName)
	}
	for _, u := range []struct{ name, url string }{{"url", s.URL}, {"url_v2", s.URLV2}} {
		if err := checkURL(u.name, u.url); err != nil {
			return err
		}
		if strings.Contains(u.url, "{token}") && s.Auth.Token == "" {
			return fmt.Errorf("%s: has {token}, but auth.token is not set", u.name)
		}
	}
	for name, value := range s.Headers {
		if err := checkHeader(name, string(value)); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
	}
	if err := s.Auth.check(); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	for _, v := range []struct {
		name, value string
		of          []string
	}{
		{"method", s.Method, []string{"POST", "GET"}},
		{"speke", s.SPEKE, []string{"1.0", "2.0", "2.1", upTo20, ifSealed20, asReceived}},
		{"kid_policy", string(s.KIDPolicy), []string{string(KIDKeep), string(KIDAny), string(KIDOverride)}},
		{"cek", string(s.CEK), []string{string(CEKPass), string(CEKTerminate), string(CEKReEncrypt), string(CEKRefuse)}},
		{"periods", string(s.Periods), []string{string(PeriodsPass), string(PeriodsPin), string(PeriodsRefuse)}},
	} {
		if !slices.Contains(v.of, v.value) {
			return fmt.Errorf("%s: %q is none of %s", v.name, v.value, strings.Join(v.of, ", "))
		}
	}
	if s.KIDPolicy == KIDOverride && s.KIDOverride == "" {
		return fmt.Errorf("kid_policy: how %s is asked for other key IDs is not known; set headers or query and kid_policy any", s.Vendor)
	}
	if s.CEK == CEKReEncrypt && s.Recipient == (KeyPair{}) {
		return errors.New("recipient: certificate and key are required for cek re-encrypt")
	}
	if err := s.Recipient.check("recipient"); err != nil {
		return err
	}
	if s.IV != "" {
		if _, err := contentkey.ParseIV(s.IV); err != nil {
			return fmt.Errorf("iv: %w", err)
		}
	}
	for from, to := range s.Tracks {
		if from == "" || to == "" {
			return errors.New("tracks: names must not be empty")
		}
	}
	return s.checkNumbers()
}

func (s *Settings) checkNumbers() error {
	const most = 4096
	switch {
	case s.Timeout < 0:
		return errors.New("timeout: must be positive")
	case s.Hedge < 0:
		return errors.New("hedge: must not be negative")
	case *s.Retries < 0 || *s.Retries > 5:
		return errors.New("retries: must be between 0 and 5")
	case s.Concurrency < 0 || s.Concurrency > most:
		return fmt.Errorf("concurrency: must be between 1 and %d", most)
	case s.Breaker.Failures < 0 || s.Breaker.Pause < 0:
		return errors.New("breaker: must not be negative")
	case s.Heartbeat.Every != 0 && time.Duration(s.Heartbeat.Every) < minEvery:
		return fmt.Errorf("heartbeat.every: at least %s", minEvery)
	case s.Heartbeat.URL != "":
		return checkURL("heartbeat.url", s.Heartbeat.URL)
	}
	return nil
}

func checkHeader(name, value string) error {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, rune(c)) {
			return errors.New("name: not the name of a header")
		}
	}
	if name == "" {
		return errors.New("name: required")
	}
	return plain(name, value)
}

func (p *KeyPair) check(name string) error {
	if *p == (KeyPair{}) {
		return nil
	}
	if p.Certificate == "" || p.Key == "" {
		return fmt.Errorf("%s: certificate and key are required, both PEM", name)
	}
	if _, err := p.Load(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Load reads the pair. The error says what is wrong without a part of it.
func (p *KeyPair) Load() (tls.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(p.Certificate), []byte(p.Key))
	if err != nil {
		return tls.Certificate{}, errors.New("not a PEM certificate with its private key")
	}
	return pair, nil
}

// Roots reads the certificates of CA; nil stands for those of the system.
func (a *Auth) Roots() (*x509.CertPool, error) {
	if a.CA == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(a.CA)) {
		return nil, errors.New("auth: ca: no PEM certificate")
	}
	return pool, nil
}
