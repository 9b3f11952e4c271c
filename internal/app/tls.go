package app

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"spekeasy/internal/config"
)

// listenerTLS is how the listener speaks TLS. Each handshake goes by the
// settings and credentials of its moment.
type listenerTLS struct {
	customers *Customers
	log       *slog.Logger
	now       atomic.Pointer[handshakes]
}

// handshakes are one version of the settings.
type handshakes struct {
	files          *certificate
	silent, asking *tls.Config // asking is for a certificate of the client
}

// newListenerTLS returns nil for plain HTTP.
func newListenerTLS(c *config.TLS, customers *Customers, log *slog.Logger) (*listenerTLS, error) {
	if !c.On() {
		return nil, nil
	}
	l := &listenerTLS{customers: customers, log: log}
	h, err := l.load(c)
	if err != nil {
		return nil, err
	}
	l.now.Store(h)
	return l, nil
}

func (l *listenerTLS) load(c *config.TLS) (*handshakes, error) {
	h := &handshakes{files: &certificate{certFile: c.CertFile, keyFile: c.KeyFile, log: l.log, now: time.Now}}
	if err := h.files.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	h.silent = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: h.files.get, NextProtos: []string{"h2", "http/1.1"}}
	if c.MinVersion == "1.3" {
		h.silent.MinVersion = tls.VersionTLS13
	}
	// Who issued the client's certificate is for package auth to judge: one
	// that is known by its fingerprint needs no issuer.
	h.asking = h.silent.Clone()
	h.asking.ClientAuth = tls.RequestClientCert
	return h, nil
}

// config returns what the listener is given.
func (l *listenerTLS) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		h := l.now.Load()
		if l.customers.Now().Auth.AsksForCertificates() {
			return h.asking, nil
		}
		return h.silent, nil
	}}
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
