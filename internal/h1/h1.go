// Package h1 answers the HTTP/1.1 requests that encryptors send on a short
// path: a POST with a body of announced length and a handful of headers.
//
// net/http is made for all that HTTP may be, and each request pays for it: a
// goroutine that watches whether the client goes away, a context, deadlines
// and timers, two writes for one answer. Together that costs more than
// finding keys and signaling does. So a [Listener] reads requests of that
// plain form by itself, and hands a connection to net/http, for good, with
// its first request that is anything else: another method, chunks, an
// upgrade, an unusual header, a mistake. To judge those stays with net/http.
// What is taken here is a part of what net/http takes, and means the same to
// the handler; a fuzz test holds the two side by side.
package h1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listener accepts connections, answers plain requests, and gives net/http
// the connections that bring others. Close, which net/http calls when it is
// shut down, ends idle connections; [Listener.Drain] waits for the rest.
type Listener struct {
	inner   net.Listener
	server  *http.Server
	maxBody int

	others chan accepted // for net/http
	closed chan struct{}
	base   context.Context
	dates  dates

	mu      sync.Mutex
	closing bool
	conns   map[*conn]bool // whether it is between requests
	served  sync.WaitGroup // connections served here
}

type accepted struct {
	conn net.Conn
	err  error
}

// Listen returns a listener that answers plain requests with the handler,
// timeouts and error log of srv, to whose Serve it is then given. Bodies of up
// to maxBody bytes are read before the handler is called; requests with longer
// ones are left to srv.
func Listen(l net.Listener, srv *http.Server, maxBody int) *Listener {
	n := &Listener{
		inner: l, server: srv, maxBody: maxBody,
		others: make(chan accepted), closed: make(chan struct{}), conns: make(map[*conn]bool),
		base: context.WithValue(context.Background(), http.ServerContextKey, srv),
	}
	go n.accept()
	return n
}

// Accept returns the next connection that net/http has to serve.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.others:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr returns the address of the listener below.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close stops accepting connections and ends those between two requests. The
// answers under way are the last of their connections.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return nil
	}
	l.closing = true
	close(l.closed)
	err := l.inner.Close()
	for c, idle := range l.conns {
		if idle {
			c.net.Close() //nolint:errcheck // nothing was promised on it
		}
	}
	return err
}

// Drain waits until all answers under way are written. When ctx ends before,
// it closes their connections and returns the context's error.
func (l *Listener) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() { l.served.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.net.Close() //nolint:errcheck // it is given up
	}
	return ctx.Err()
}

// accept serves each connection. net/http hears of errors, and waits a while
// after those that pass.
func (l *Listener) accept() {
	for {
		c, err := l.inner.Accept()
		if err != nil {
			if !l.give(nil, err) {
				return
			}
			continue
		}
		if s := newConn(l, c); l.enter(s) {
			go s.serve()
		}
	}
}

// give gives net/http a connection or an error, unless the listener is closed.
func (l *Listener) give(c net.Conn, err error) bool {
	select {
	case l.others <- accepted{c, err}:
		return true
	case <-l.closed:
		return false
	}
}

// enter notes a new connection, or closes it if the listener is closed.
func (l *Listener) enter(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		c.net.Close() //nolint:errcheck // nothing was promised on it
		return false
	}
	l.conns[c] = true
	l.served.Add(1)
	return true
}

// leave forgets a connection that has ended or was handed over.
func (l *Listener) leave(c *conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.served.Done()
}

// setIdle notes whether a connection is between two requests. It reports
// false if the listener is closed and the connection is to end.
func (l *Listener) setIdle(c *conn, idle bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return !idle && !l.conns[c] // it was closed while idle
	}
	l.conns[c] = idle
	return true
}

// dates keeps the text of the Date header for the second that it is valid.
type dates struct {
	mu     sync.Mutex
	second int64
	text   []string
}

func (d *dates) at(now time.Time) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := now.Unix(); s != d.second || d.text == nil {
		d.second, d.text = s, []string{now.UTC().Format(http.TimeFormat)}
	}
	return d.text
}
