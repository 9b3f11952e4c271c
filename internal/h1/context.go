package h1

import (
	"context"
	"sync"
	"time"
)

// watchAfter is how long a request has to take before anybody looks whether
// its client is still there.
const watchAfter = 10 * time.Millisecond

// requestContext is the context of one request. It ends when the request is
// answered or the client goes away. To see a client go takes a goroutine that
// reads on, which few requests need: it starts when somebody has asked for
// Done and the request has not been answered soon.
type requestContext struct {
	context.Context // the connection's
	conn            *conn

	mu     sync.Mutex
	ended  bool
	inner  context.Context // once somebody asked for Done
	cancel context.CancelFunc
	soon   *time.Timer // until the watch
}

func (r *requestContext) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inner == nil {
		r.inner, r.cancel = context.WithCancel(r.Context)
		if r.ended {
			r.cancel()
		} else {
			r.soon = time.AfterFunc(watchAfter, r.watch)
		}
	}
	return r.inner.Done()
}

func (r *requestContext) watch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.conn.watch(r.cancel)
	}
}

func (r *requestContext) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.inner != nil:
		return r.inner.Err()
	case r.ended:
		return context.Canceled
	default:
		return nil
	}
}

// Value knows of the inner context, so that contexts made from this one need
// no goroutine to follow it.
func (r *requestContext) Value(key any) any {
	r.mu.Lock()
	inner := r.inner
	r.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return r.Context.Value(key)
}

// end ends the context, and the watch if there is one.
func (r *requestContext) end() {
	r.mu.Lock()
	r.ended = true
	asked := r.inner != nil
	r.mu.Unlock()
	if asked {
		r.soon.Stop()
		r.cancel()
		r.conn.unwatch()
	}
}

// watch calls gone when the client closes the connection. A client that sent
// its next request already is there.
func (c *conn) watch(gone func()) {
	if c.start < c.end {
		return
	}
	c.setReadDeadline(time.Time{}, 0)
	done := make(chan struct{})
	c.watching = done
	go func() {
		defer close(done)
		n, err := c.net.Read(c.ahead[:])
		if c.seen = n; err != nil {
			gone()
		}
	}()
}

// unwatch ends a watch and keeps what it read.
func (c *conn) unwatch() {
	if c.watching == nil {
		return
	}
	c.net.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // if it does not wake, the client is gone
	<-c.watching
	c.watching = nil
	if c.seen > 0 {
		// Nothing was unread when the watch began.
		c.buf[0] = c.ahead[0]
		c.start, c.end, c.seen = 0, 1, 0
	}
}
