package h1

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

const (
	// bufferSize holds most key requests with their headers. Longer ones make
	// the buffer of their connection grow, up to keptSize for good.
	bufferSize = 4 << 10
	keptSize   = 64 << 10

	// maxHead bounds the request line and headers of a plain request, in bytes.
	maxHead = 8 << 10

	// deadlineStep is how far deadlines may be off: they are set again only
	// after this time, since setting them takes as long as finding a key.
	deadlineStep = time.Second
)

// conn is one connection. Its goroutine reads a request, has it answered, and
// reads the next one.
type conn struct {
	listener *Listener
	net      net.Conn
	base     context.Context
	template *http.Request // what is the same for all requests

	buf        []byte // what was read and not used yet is buf[start:end]
	start, end int
	last       target // of the request before

	readBy  time.Time // when the deadline for reading was last set
	writeBy time.Time // and for writing

	watching chan struct{} // closed when a watch ends; nil without one
	ahead    [1]byte       // what a watch read
	seen     int           // how much of it
	head     []byte        // memory for the heads of answers
	vector   [2][]byte     // head and body of an answer
	unsent   net.Buffers   // of vector
}

func newConn(l *Listener, c net.Conn) *conn {
	return &conn{
		listener: l, net: c, template: template(c.RemoteAddr().String()),
		base: context.WithValue(l.base, http.LocalAddrContextKey, c.LocalAddr()),
	}
}

// template is a plain request from a client's address.
func template(remote string) *http.Request {
	return &http.Request{Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: remote}
}

// serve answers requests until the connection ends or net/http gets it.
func (c *conn) serve() {
	defer c.listener.leave(c)
	ours := true
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				c.logf("http: panic serving %s: %v\n%s", c.template.RemoteAddr, p, debug.Stack())
			}
		}
		if ours {
			c.net.Close() //nolint:errcheck // all that was written is written
		}
	}()
	c.buf = make([]byte, bufferSize)
	c.setReadDeadline(time.Now(), c.headTimeout())
	for more := true; more; {
		x, plain, cut, err := c.next()
		if err != nil {
			return
		}
		if !plain {
			ours = false
			c.handOver(cut)
			return
		}
		more = c.answer(x)
	}
}

// next reads the next request. It reports false when the request is not a
// plain one, or does not come as a whole, which cut then tells; nothing of it
// is used up in either case. The error means that there is no request.
func (c *conn) next() (x *exchange, plain bool, cut, err error) {
	if c.start == c.end {
		c.start, c.end = 0, 0
		if len(c.buf) > keptSize {
			c.buf = make([]byte, bufferSize)
		}
		if err := c.fill(); err != nil {
			return nil, false, nil, err
		}
	}
	if !c.listener.setIdle(c, false) {
		return nil, false, nil, net.ErrClosed
	}
	now := time.Now()
	size := 0
	for seen := 0; size == 0; {
		unread := c.buf[c.start:c.end]
		from := max(0, seen-len(crlf2)+1)
		if i := bytes.Index(unread[from:min(len(unread), maxHead)], crlf2); i >= 0 {
			size = from + i + len(crlf2)
			break
		}
		if len(unread) >= maxHead || bareLF(unread, seen) {
			return nil, false, nil, nil
		}
		if seen == 0 {
			c.setReadDeadline(now, c.headTimeout())
		}
		seen = len(unread)
		if err := c.fill(); err != nil {
			return nil, false, err, nil
		}
	}
	x, ok := c.parse(c.buf[c.start : c.start+size])
	if !ok {
		return nil, false, nil, nil
	}
	length := int(x.request.ContentLength)
	for timed := false; c.end-c.start < size+length; timed = true {
		if !timed {
			c.setReadDeadline(now, c.listener.server.ReadTimeout)
		}
		if err := c.fill(); err != nil {
			return nil, false, err, nil
		}
	}
	c.start += size + length
	x.body.Reset(c.buf[c.start-length : c.start])
	x.now = now
	return x, true, nil, nil
}

// bareLF reports whether a line that ends behind from does so without CR. Then
// the end of the head may look different, too.
func bareLF(b []byte, from int) bool {
	for i := from; i < len(b); i++ {
		if b[i] == '\n' && (i == 0 || b[i-1] != '\r') {
			return true
		}
	}
	return false
}

// fill reads more behind what is unread, for which it makes room. A body gets
// memory as it comes and not for announcing its length.
func (c *conn) fill() error {
	if c.end == len(c.buf) {
		if c.start > 0 {
			c.end = copy(c.buf, c.buf[c.start:c.end])
			c.start = 0
		} else {
			c.buf = append(c.buf, make([]byte, len(c.buf))...)
		}
	}
	n, err := c.net.Read(c.buf[c.end:])
	c.end += n
	if n > 0 {
		return nil // an error comes again
	}
	return cmp.Or(err, io.ErrNoProgress)
}

// answer calls the handler and writes its answer. It reports whether the
// connection goes on.
func (c *conn) answer(x *exchange) bool {
	c.handle(x)
	if err := x.response.finish(); err != nil || x.response.last || !c.listener.setIdle(c, true) {
		return false
	}
	if x.now.Sub(c.readBy) > deadlineStep {
		c.setReadDeadline(x.now, c.idleTimeout())
		c.readBy = x.now
	}
	return true
}

func (c *conn) handle(x *exchange) {
	defer x.context.end()
	c.listener.server.Handler.ServeHTTP(&x.response, x.request)
}

// setReadDeadline sets a deadline that holds for one request, so that the
// next wait sets its own.
func (c *conn) setReadDeadline(now time.Time, d time.Duration) {
	c.readBy = time.Time{}
	c.net.SetReadDeadline(deadline(now, d)) //nolint:errcheck // reading will fail as well
}

func deadline(now time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return now.Add(d)
}

func (c *conn) headTimeout() time.Duration {
	if d := c.listener.server.ReadHeaderTimeout; d != 0 {
		return d
	}
	return c.listener.server.ReadTimeout
}

func (c *conn) idleTimeout() time.Duration {
	if d := c.listener.server.IdleTimeout; d != 0 {
		return d
	}
	return c.listener.server.ReadTimeout
}

func (c *conn) logf(format string, args ...any) {
	if l := c.listener.server.ErrorLog; l != nil {
		l.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}

// handOver gives the connection to net/http, with what was read of it and
// what went wrong then.
func (c *conn) handOver(cut error) {
	c.net.SetDeadline(time.Time{}) //nolint:errcheck // reading will fail as well
	if !c.listener.give(&handed{Conn: c.net, read: bytes.Clone(c.buf[c.start:c.end]), cut: cut}, nil) {
		c.net.Close() //nolint:errcheck // it came too late
	}
}

// handed is a connection of which something was read already.
type handed struct {
	net.Conn
	read []byte
	cut  error
}

func (h *handed) Read(p []byte) (int, error) {
	switch {
	case len(h.read) > 0:
		n := copy(p, h.read)
		h.read = h.read[n:]
		return n, nil
	case h.cut != nil:
		return 0, h.cut
	}
	return h.Conn.Read(p)
}

// CloseWrite is how net/http ends a connection whose request it did not read
// to the end, without the answer being lost.
func (h *handed) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
