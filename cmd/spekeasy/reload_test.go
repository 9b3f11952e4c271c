package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// reload sends SIGHUP and waits until the log has the text once more.
func (p *process) reload(t *testing.T, want string) {
	t.Helper()
	before := strings.Count(p.stderr.String(), want)
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); strings.Count(p.stderr.String(), want) == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log does not say %q\n%s", want, p.stderr.String())
		}
	}
}

// TestReload: twenty new configurations under load, with other passwords, TLS
// files and client certificates. Nobody who may ask is refused or cut off.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "spekeasy.yaml")
	for _, n := range []string{"0", "1"} {
		out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
			"-keyout", filepath.Join(dir, n+".key"), "-out", filepath.Join(dir, n+".pem"), "-subj", "/CN="+n).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), 8)
	if err != nil {
		t.Fatal(err)
	}
	configure := func(n int, more string) {
		t.Helper()
		text := fmt.Sprintf(`
listen: 127.0.0.1:0
data: %[1]s/data
tls: {cert_file: %[1]s/%[2]d.pem, key_file: %[1]s/%[2]d.key}
tenants:
- id: acme
  credentials:
  - {name: always, basic: {user: acme, password: always}}
  - {name: hashed, basic: {user: hashed, password_hash: "%[5]s"}}
  - {name: this-time, basic: {user: changing, password: password-%[3]d}}
%[4]s`, dir, n%2, n, more, hash)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure(0, "")
	server := startProcess(t, "exec spekeasy serve --config "+file)
	defer func() {
		_ = server.cmd.Process.Signal(syscall.SIGTERM)
		if err := server.cmd.Wait(); err != nil {
			t.Errorf("the end: %v", err)
		}
	}()
	body, err := os.ReadFile("../../examples/request-v2.xml")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[string]int) // common names of the server's certificates
	client := func(keepAlive bool) *http.Client {
		return &http.Client{Transport: &http.Transport{
			DisableKeepAlives: !keepAlive,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
				mu.Lock()
				defer mu.Unlock()
				seen[s.PeerCertificates[0].Subject.CommonName]++
				return nil
			}},
		}}
	}
	ask := func(c *http.Client, user, password string) (int, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.url+"/speke/v2.0/copyProtection", bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		r.SetBasicAuth(user, password)
		r.Header.Set("X-Speke-Version", "2.0")
		res, err := c.Do(r)
		if err != nil {
			return 0, err
		}
		defer res.Body.Close()
		_, err = io.Copy(io.Discard, res.Body)
		return res.StatusCode, err
	}

	var asked atomic.Int64
	var load sync.WaitGroup
	stop := make(chan struct{})
	for i := range 6 {
		user, password := "acme", "always"
		if i%3 == 2 {
			user, password = "hashed", "secret"
		}
		load.Go(func() {
			c := client(i%2 == 0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, err := ask(c, user, password); err != nil || status != http.StatusOK {
					t.Errorf("%s after %d requests: %d, %v", user, asked.Load(), status, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	checks := client(true)
	want := func(password string, want int) {
		t.Helper()
		if status, err := ask(checks, "changing", password); err != nil || status != want {
			t.Errorf("%s: %d, %v, want %d", password, status, err, want)
		}
	}
	for n := 1; n <= 20; n++ {
		before := asked.Load()
		configure(n, "")
		server.reload(t, "configuration reloaded")
		want(fmt.Sprintf("password-%d", n), http.StatusOK)
		want(fmt.Sprintf("password-%d", n-1), http.StatusUnauthorized)
		for end := time.Now().Add(10 * time.Second); asked.Load() < before+20 && time.Now().Before(end); {
			time.Sleep(time.Millisecond) // some load on each
		}
	}

	configure(21, "cache:\n  bytes: lots\nlog: {level: loud}\n")
	server.reload(t, "configuration not reloaded")
	want("password-20", http.StatusOK)
	configure(22, "cache: {bytes: 1048576, off: true}\naudit: {sync: always}\nlog: {level: debug}\n")
	server.reload(t, "configuration reloaded")
	want("password-22", http.StatusOK)

	close(stop)
	load.Wait()
	log := server.stderr.String()
	for _, text := range []string{"line 12", "audit.sync, cache.bytes, cache.off", "level=DEBUG"} {
		if !strings.Contains(log, text) {
			t.Errorf("%q is not in the log:\n%.2000s", text, log)
		}
	}
	if strings.Contains(log, "password-2") {
		t.Error("a password is in the log")
	}
	if seen["0"] < 5 || seen["1"] < 5 {
		t.Errorf("certificates seen: %v", seen)
	}
	t.Logf("%d requests, certificates seen: %v", asked.Load(), seen)
}
