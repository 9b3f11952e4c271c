package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/store/sqlite"
)

// pipes is a listener whose connections are in memory, so that the test's own
// time governs them.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.ended); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// drip sends a text and then a byte each second, and returns after how long
// the other end hung up.
func drip(c net.Conn, text string) time.Duration {
	start := time.Now()
	_, err := io.WriteString(c, text)
	for err == nil {
		time.Sleep(time.Second)
		_, err = io.WriteString(c, "x")
	}
	return time.Since(start)
}

// TestSlowClients: whoever is slow to send a header, to send a body, to take
// an answer or to ask again loses the connection in time, however many they
// are, and others are answered meanwhile.
func TestSlowClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &App{log: slog.New(slog.DiscardHandler)}
		a.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		})
		srv, l := a.httpServer(), &pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()

		const head = "POST /speke/v1.0/copyProtection HTTP/1.1\r\nHost: a\r\n"
		ends := make(chan string, 1000)
		report := func(name string, lasted time.Duration) { ends <- fmt.Sprintf("%s %ds", name, int(lasted.Seconds())) }
		for range 300 {
			go func() { report("header", drip(l.dial(), head+"X-A: ")) }()
			go func() {
				c := l.dial()
				go io.Copy(io.Discard, c) //nolint:errcheck // it takes the answer, whatever it is
				report("body", drip(c, head+"Content-Length: 1000000\r\n\r\n"))
			}()
		}
		go func() {
			c := l.dial()
			start := time.Now()
			fmt.Fprint(c, head+"Content-Length: 0\r\n\r\n")
			time.Sleep(90 * time.Second) // and takes nothing
			if n, err := io.Copy(io.Discard, c); n > 512<<10 || err != nil {
				t.Errorf("%d bytes of the answer wait for who does not take it, %v", n, err)
			}
			report("answer", time.Since(start))
		}()
		go func() {
			c := l.dial()
			start := time.Now()
			fmt.Fprint(c, head+"Content-Length: 0\r\n\r\n")
			in := bufio.NewReader(c)
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if n, err := io.Copy(io.Discard, res.Body); n != 1<<20 || err != nil {
				t.Error(n, err)
			}
			if time.Since(start) != 0 {
				t.Errorf("a client that is not slow waited %s", time.Since(start))
			}
			_, err = in.ReadByte()
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			report("idle", time.Since(start))
		}()
		got := make(map[string]int)
		for range 602 {
			got[<-ends]++
		}
		// A byte each second shows the end of the connection within a second.
		if got["header 10s"]+got["header 11s"] != 300 || got["body 30s"]+got["body 31s"] != 300 || got["answer 90s"] != 1 || got["idle 120s"] != 1 {
			t.Errorf("connections ended after %v", got)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
}

// testBackends are an embedded database and a file.
func testBackends() Backends {
	return Backends{
		Stores: map[string]OpenStore{"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
			return sqlite.Open(ctx, u.Path, sqlite.Options{Log: log})
		}},
		KeyManagers: map[string]OpenKeyManager{"file": func(_ context.Context, u *url.URL, create bool) (keystore.KeyManager, error) {
			if create {
				if err := filekey.Create(u.Path, time.Now()); err != nil {
					return nil, err
				}
			}
			return filekey.Open(u.Path)
		}},
	}
}

// runApp serves a configuration until the test ends and returns the address.
func runApp(t *testing.T, c *config.Config) string {
	t.Helper()
	a, err := New(t.Context(), c, testBackends(), "spekeasy/test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-served, a.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// TestRawAnswers sends bytes, good and bad, and holds of every answer that it
// names no server but as SPEKE wants it, and that it has HSTS where the
// listener speaks TLS.
func TestRawAnswers(t *testing.T) {
	key, err := os.ReadFile("../../examples/request-v2.xml")
	if err != nil {
		t.Fatal(err)
	}
	post := func(path string, headers ...string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n" + strings.Join(headers, "\r\n") + "\r\n"
	}
	withKey := func(headers ...string) string {
		return post("/speke/v2.0/copyProtection", append(headers, "X-Speke-Version: 2.0", fmt.Sprintf("Content-Length: %d\r\n", len(key)))...) + string(key)
	}
	dir := t.TempDir()
	plain := config.Dev("127.0.0.1:0", filepath.Join(dir, "plain"), "http://127.0.0.1:1")
	overTLS := config.Dev("127.0.0.1:0", filepath.Join(dir, "tls"), "http://127.0.0.1:1")
	overTLS.TLS.CertFile, overTLS.TLS.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, "a", overTLS.TLS.CertFile, overTLS.TLS.KeyFile)
	addresses := map[bool]string{false: runApp(t, plain), true: runApp(t, overTLS)}
	const basic = "Authorization: Basic ZGV2OmRldg=="
	for _, c := range []struct {
		name, send, want string
		ours             bool // the answer is the handler's, not net/http's
	}{
		{"a key request", withKey(basic), "200 OK", true},
		{"a wrong password", withKey("Authorization: Basic ZGV2OmRldXg="), "401 Unauthorized", true},
		{"another path", "GET /.git/config HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n\r\n", "404 Not Found", true},
		{"another method", "DELETE /speke/v2.0/copyProtection HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n\r\n", "405 Method Not Allowed", true},
		{"TRACE", "TRACE /speke/v2.0/copyProtection HTTP/1.1\r\nHost: keys\r\nX-Api-Key: hunter2\r\nConnection: close\r\n\r\n", "405 Method Not Allowed", true},
		{"a body that is announced too long", post("/speke/v2.0/copyProtection", basic, "Content-Length: 1048577\r\n"), "413 Request Entity Too Large", true},
		{"a body that is not a request", post("/speke/v2.0/copyProtection", basic, "Content-Length: 4\r\n") + "abcd", "422 Unprocessable Entity", true},
		{"a heartbeat", "GET /speke/v1.0/heartbeat HTTP/1.1\r\nHost: keys\r\nConnection: close\r\n\r\n", "200 OK", true},
		{"headers that are too long", post("/speke/v2.0/copyProtection", "X-Long: "+strings.Repeat("x", 80<<10), ""), "431 Request Header Fields Too Large", false},
		{"not HTTP", "\x16\x03\x01 hello\r\n\r\n", "400 Bad Request", false},
		{"no host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400 Bad Request", false},
		{"two lengths", post("/speke/v2.0/copyProtection", basic, "Content-Length: 4", "Content-Length: 5\r\n") + "abcd", "400 Bad Request", false},
		{"a length that is no number", post("/speke/v2.0/copyProtection", basic, "Content-Length: 0x4\r\n") + "abcd", "400 Bad Request", false},
		{"an unknown transfer coding", post("/speke/v2.0/copyProtection", basic, "Transfer-Encoding: gzip, chunked\r\n") + "0\r\n\r\n", "501 Not Implemented", false},
		{"a header with a blank in its name", post("/speke/v2.0/copyProtection", basic, "X-A : b\r\n"), "400 Bad Request", false},
		{"a header with a line feed", post("/speke/v2.0/copyProtection", basic, "X-A: b\x00c\r\n"), "400 Bad Request", false},
		{"HTTP/2 without its handshake", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 Bad Request", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, secure := range []bool{false, true} {
				answer := rawAnswer(t, addresses[secure], secure, c.send)
				status, rest, _ := strings.Cut(answer, "\r\n")
				if !strings.HasPrefix(status, "HTTP/1.1 "+c.want) {
					t.Fatalf("TLS %v: %.200s", secure, answer)
				}
				head, _, _ := strings.Cut(strings.ToLower(rest), "\r\n\r\n")
				for _, name := range []string{"server:", "x-powered-by:", "via:"} {
					if strings.Contains("\r\n"+head, "\r\n"+name) {
						t.Errorf("TLS %v: a header %s\n%s", secure, name, head)
					}
				}
				if strings.Contains(strings.ToLower(answer), "golang") || strings.Contains(answer, "hunter2") {
					t.Errorf("TLS %v: %s", secure, answer)
				}
				if hsts := strings.Contains(head, "strict-transport-security: max-age="); hsts != (secure && c.ours) {
					t.Errorf("TLS %v: HSTS is %v\n%s", secure, hsts, head)
				}
			}
		})
	}
	t.Run("plain HTTP to the port of TLS", func(t *testing.T) {
		if answer := rawAnswer(t, addresses[true], false, withKey(basic)); !strings.HasPrefix(answer, "HTTP/1.0 400 Bad Request\r\n") || strings.Contains(answer, "cpix") {
			t.Errorf("%.300s", answer)
		}
	})
}

// rawAnswer sends bytes and returns what comes until the other end hangs up.
func rawAnswer(t *testing.T, address string, secure bool, send string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, send) //nolint:errcheck // the server may hang up before the end
	answer, err := io.ReadAll(c)
	if err != nil && len(answer) == 0 {
		t.Fatal(err)
	}
	return string(answer)
}
