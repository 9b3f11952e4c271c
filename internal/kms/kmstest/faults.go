package kmstest

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Faults answers requests in place of a server. The zero value lets all
// requests through.
type Faults struct {
	mu    sync.Mutex
	queue []http.HandlerFunc
	seen  int
}

// Next has the following requests answered by these handlers, one each.
func (f *Faults) Next(handlers ...http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, handlers...)
}

// Seen returns how many requests have come, those answered by a fault
// included.
func (f *Faults) Seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// Wrap returns a handler that asks h unless a fault is due.
func (f *Faults) Wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.seen++
		handle := h.ServeHTTP
		if len(f.queue) > 0 {
			handle, f.queue = f.queue[0], f.queue[1:]
		}
		f.mu.Unlock()
		handle(w, r)
	})
}

// Answer is a fault: the given status and body.
func Answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// RetryAfter is a fault: throttled, with the seconds to wait.
func RetryAfter(seconds int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		w.WriteHeader(http.StatusTooManyRequests)
	}
}

// Redirect is a fault: go and ask somebody else.
func Redirect(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, location, http.StatusTemporaryRedirect)
	}
}

// Huge is a fault: a body that does not end within any limit.
func Huge(w http.ResponseWriter, _ *http.Request) {
	chunk := []byte(strings.Repeat(" ", 1<<16))
	for range 64 {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// Slow is a fault: no answer before the client has gone.
func Slow(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the server sees the client go only then
	select {
	case <-r.Context().Done():
	case <-time.After(20 * time.Second):
	}
}

// HangUp is a fault: the connection is closed without an answer.
func HangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// CutOff is a fault: the connection breaks in the middle of the body.
func CutOff(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte(`{"a":`))
}

// Hosts sends requests for a host to the server at the URL it maps to, so
// that a client can be tested with the names of the real services. Requests
// for hosts that are not in the map fail.
type Hosts map[string]string

// RoundTrip implements [http.RoundTripper].
func (h Hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	to, ok := h[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("no way to %s in this test", r.URL.Host)
	}
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	sent := r.Clone(r.Context())
	if sent.Host == "" {
		sent.Host = r.URL.Host
	}
	sent.URL.Scheme, sent.URL.Host = u.Scheme, u.Host
	return http.DefaultTransport.RoundTrip(sent)
}
