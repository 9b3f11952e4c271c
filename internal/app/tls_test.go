package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writePair writes a certificate and its key; what is empty is left alone.
func writePair(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if path == "" {
			continue
		}
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(-time.Duration(len(name)) * time.Minute) // versions differ in time, however fast the test is
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertificateRenewal: a renewed certificate is served without a restart,
// and in the middle of a renewal the one before is.
func TestCertificateRenewal(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, "a", certFile, keyFile)
	var log bytes.Buffer
	now := time.Now()
	c := &certificate{certFile: certFile, keyFile: keyFile, log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	serves := func(want string) {
		t.Helper()
		pair, err := c.get(nil)
		if err != nil || pair.Leaf.Subject.CommonName != want {
			t.Errorf("serves %v, %v, want %s", pair.Leaf.Subject, err, want)
		}
	}
	serves("a")
	writePair(t, "bb", certFile, "") // its key is not there yet
	serves("a")                      // not looked at again within a second
	for range 3 {
		now = now.Add(recheck)
		serves("a")
	}
	if n := strings.Count(log.String(), "not renewed"); n != 1 {
		t.Errorf("%d lines of one fault:\n%s", n, log.String())
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	now = now.Add(recheck)
	serves("a")
	writePair(t, "ccc", certFile, keyFile)
	now = now.Add(recheck)
	serves("ccc")
	if !strings.Contains(log.String(), "certificate renewed") {
		t.Errorf("nothing said:\n%s", log.String())
	}
	if err := (&certificate{certFile: certFile, keyFile: filepath.Join(dir, "none")}).load(); err == nil {
		t.Error("a start without the key")
	}
}
