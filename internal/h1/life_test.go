package h1_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/h1"
	"spekeasy/internal/logtest"
)

// TestClientGoesAway is what the request's context tells a handler that waits.
func TestClientGoesAway(t *testing.T) {
	waiting, ended := make(chan struct{}), make(chan error, 1)
	addr, _ := start(t, &http.Server{IdleTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		close(waiting)
		<-ctx.Done()
		ended <- ctx.Err()
	})})
	c := dial(t, addr)
	c.send(post("/", "x"))
	<-waiting
	c.c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestClientStays is that a client is not taken for gone, and loses nothing,
// while somebody watches it: be it silent, or ahead with its next request.
func TestClientStays(t *testing.T) {
	watched := make(chan context.Context, 1)
	goOn := make(chan struct{})
	addr, _ := start(t, &http.Server{IdleTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Context().Done()
		time.Sleep(20 * time.Millisecond) // by then it is watched
		watched <- r.Context()
		<-goOn
		if err := r.Context().Err(); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		w.Write(body)
	})})
	c := dial(t, addr)
	for _, ahead := range []bool{false, true, true, false} {
		c.send(post("/", "one"))
		ctx := <-watched
		if ahead {
			c.send(post("/", "two"))
		}
		goOn <- struct{}{}
		if _, body := c.answer(); body != "one" {
			t.Fatal(body)
		}
		<-ctx.Done() // it ends with its request
		if !ahead {
			continue
		}
		<-watched
		goOn <- struct{}{}
		if _, body := c.answer(); body != "two" {
			t.Fatal(body)
		}
	}
}

// TestContext is what a request's context knows, and that it ends with the
// request even if nobody asked before.
func TestContext(t *testing.T) {
	contexts := make(chan context.Context, 1)
	srv := new(http.Server)
	srv.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		contexts <- ctx
		if got := ctx.Value(http.ServerContextKey); got != srv {
			t.Error(got)
		}
		if got, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr); !ok || !strings.HasPrefix(got.String(), "127.0.0.1:") {
			t.Error(got)
		}
		if host, _, err := net.SplitHostPort(r.RemoteAddr); host != "127.0.0.1" || err != nil {
			t.Error(r.RemoteAddr)
		}
	})
	addr, _ := start(t, srv)
	c := dial(t, addr)
	c.send(post("/", "x"))
	ended := <-contexts
	c.answer()
	c.send(post("/", "x")) // that it is answered means that the first one has ended
	<-contexts
	c.answer()
	if err := ended.Err(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestPanic is a handler that fails: its connection ends, and no other.
func TestPanic(t *testing.T) {
	var said logtest.Buffer
	addr, _ := start(t, &http.Server{ErrorLog: log.New(&said, "", 0), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.Context().Done()
		time.Sleep(20 * time.Millisecond) // by then it is watched
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/panic" {
			panic("broken")
		}
	})})
	other := dial(t, addr)
	for _, path := range []string{"/abort", "/panic"} {
		c := dial(t, addr)
		c.send(post(path, "x"))
		c.ended()
		other.send(post("/", "x"))
		other.answer()
	}
	if s := said.String(); !strings.Contains(s, "panic serving 127.0.0.1:") || !strings.Contains(s, ": broken\n") || strings.Contains(s, "abort") {
		t.Errorf("%q", s)
	}
}

// TestShutdown is that what is under way is answered, what is idle ends, and
// nothing new begins.
func TestShutdown(t *testing.T) {
	under, goOn := make(chan struct{}, 2), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			under <- struct{}{}
			<-goOn
		}
		io.WriteString(w, "done")
	})}
	addr, l := start(t, srv)
	fresh, idle, busy, handed := dial(t, addr), dial(t, addr), dial(t, addr), dial(t, addr)
	idle.send(post("/", "x"))
	idle.answer()
	busy.send(post("/wait", "x"))
	handed.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	<-under
	<-under
	done := make(chan error, 1)
	go func() { done <- errors.Join(srv.Shutdown(t.Context()), l.Drain(t.Context())) }()
	idle.ended()
	fresh.ended()
	if c, err := net.Dial("tcp", addr); err == nil {
		t.Error("a new connection")
		c.Close()
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(goOn)
	for _, c := range []*client{busy, handed} {
		if r, body := c.answer(); body != "done" || !r.Close {
			t.Error(r)
		}
		c.ended()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestDrainEnds is a request that does not end in time.
func TestDrainEnds(t *testing.T) {
	under, goOn := make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(under); <-goOn })}
	addr, l := start(t, srv)
	c := dial(t, addr)
	c.send(post("/", "x"))
	<-under
	defer close(goOn)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	c.ended()
}

// TestAcceptFails is a listener below that fails for a while: net/http waits
// and goes on.
func TestAcceptFails(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(echo), ErrorLog: log.New(io.Discard, "", 0)}
	l := h1.Listen(&failing{Listener: inner, left: 3}, srv, maxBody)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	c := dial(t, inner.Addr().String())
	c.send(post("/", "x"))
	c.answer()
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left > 0 {
		f.left--
		return nil, passing{}
	}
	return f.Listener.Accept()
}

type passing struct{}

func (passing) Error() string   { return "too many open files" }
func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }
