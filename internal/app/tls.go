package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/config"
)

// listenerTLS is how the listener speaks TLS; nil for plain HTTP.
func listenerTLS(c *config.TLS, a *auth.Authenticator, log *slog.Logger) (*tls.Config, error) {
	if !c.On() {
		return nil, nil
	}
	files := &certificate{certFile: c.CertFile, keyFile: c.KeyFile, log: log, now: time.Now}
	if err := files.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get}
	if c.MinVersion == "1.3" {
		t.MinVersion = tls.VersionTLS13
	}
	if a.AsksForCertificates() {
		// Who issued it is for package auth to judge: a certificate that is
		// known by its fingerprint needs no issuer.
		t.ClientAuth = tls.RequestClientCert
	}
	return t, nil
}

// clientCAs reads the CAs of client certificates; nil without a file.
func clientCAs(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in PEM", path)
	}
	return pool, nil
}

// certificate is the listener's, from files that somebody else renews.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	mu      sync.Mutex
	pair    *tls.Certificate
	seen    [2]stamp
	checked time.Time
}

// stamp tells versions of a file apart.
type stamp struct {
	size     int64
	modified time.Time
}

// recheck is how often the files are looked at, at most.
const recheck = time.Second

// get returns the certificate as the files have it. While they are of no use,
// as in the middle of a renewal, the one before serves.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked) >= recheck {
		c.checked = now
		if seen, err := c.stamps(); err != nil || seen != c.seen {
			c.reload()
		}
	}
	return c.pair, nil
}

func (c *certificate) reload() {
	before := c.seen
	if err := c.load(); err != nil {
		if before != c.seen { // once per version of the files
			c.log.Error("certificate not renewed", "error", err)
		}
		return
	}
	c.log.Info("certificate renewed", "file", c.certFile, "expires", c.pair.Leaf.NotAfter)
}

func (c *certificate) load() error {
	seen, err := c.stamps()
	c.seen = seen
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair = &pair
	return nil
}

func (c *certificate) stamps() (s [2]stamp, err error) {
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return s, err
		}
		s[i] = stamp{info.Size(), info.ModTime()}
	}
	return s, nil
}

// strictTransport has browsers and clients that know it never speak plain
// HTTP to us again.
func strictTransport(next http.Handler) http.Handler {
	value := []string{"max-age=31536000"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Strict-Transport-Security"] = value
		next.ServeHTTP(w, r)
	})
}
