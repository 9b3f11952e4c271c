// Package ops is what operators and their tools ask a server: whether it
// lives, whether it is ready, its metrics and its profiles.
package ops

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Check is one thing that a server needs. It runs in the background, so that
// however often somebody asks, nobody but us decides how often a database or
// a key manager is bothered.
type Check struct {
	Name  string // a-z and _
	Every time.Duration

	// Degrades marks what a server can do without for a while: it is
	// reported, and the server stays ready.
	Degrades bool

	Run func(context.Context) error // nil if all is well
}

// checkTimeout bounds a check.
const checkTimeout = 5 * time.Second

// Options are the optional settings of [NewHealth].
type Options struct {
	Log  *slog.Logger                // told of changes; nil discards
	Tell func(check string, ok bool) // told of every result; nil for nobody
}

// Health knows how a server is. It is safe for concurrent use.
type Health struct {
	checks []Check
	o      Options

	mu       sync.Mutex
	failing  []error // per check; nil while it holds
	draining bool
}

// NewHealth returns health that is well until [Health.Run] finds otherwise: a
// server that came so far has just used everything.
func NewHealth(checks []Check, o Options) *Health {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Tell == nil {
		o.Tell = func(string, bool) {}
	}
	for _, c := range checks {
		o.Tell(c.Name, true)
	}
	return &Health{checks: checks, o: o, failing: make([]error, len(checks))}
}

// Run runs the checks until ctx ends.
func (h *Health) Run(ctx context.Context) {
	var running sync.WaitGroup
	for i := range h.checks {
		running.Go(func() {
			tick := time.NewTicker(h.checks[i].Every)
			defer tick.Stop()
			for {
				h.run(ctx, i)
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		})
	}
	running.Wait()
}

func (h *Health) run(ctx context.Context, i int) {
	c := &h.checks[i]
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := c.Run(limited)
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	before := h.failing[i]
	h.failing[i] = err
	h.mu.Unlock()
	h.o.Tell(c.Name, err == nil)
	switch {
	case err != nil && before == nil:
		h.o.Log.ErrorContext(ctx, "check fails", "check", c.Name, "error", err)
	case err == nil && before != nil:
		h.o.Log.InfoContext(ctx, "check holds again", "check", c.Name)
	}
}

// Drain makes the server not ready: it takes no new work.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
}

// ready returns whether the server is ready, and a line for each check. What
// is wrong with one is for the log: anybody may ask for readiness.
func (h *Health) ready() (ok bool, text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ok = !h.draining
	var lines strings.Builder
	for i, c := range h.checks {
		state := "ok"
		if h.failing[i] != nil {
			state = "failing"
			ok = ok && c.Degrades
		}
		fmt.Fprintf(&lines, "%s %s\n", c.Name, state)
	}
	switch {
	case h.draining:
		return false, "draining\n" + lines.String()
	case !ok:
		return false, "not ready\n" + lines.String()
	}
	return true, "ready\n" + lines.String()
}

// Ready answers /readyz: 200 if requests should be sent here, else 503.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) {
	ok, text := h.ready()
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	say(w, r, status, text)
}

// Live answers /livez: 200 as long as the process answers at all. What it
// needs is none of its business, since a restart would not mend that.
func Live(w http.ResponseWriter, r *http.Request) { say(w, r, http.StatusOK, "alive\n") }

func say(w http.ResponseWriter, r *http.Request, status int, text string) {
	h := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		status, text = http.StatusMethodNotAllowed, "method not allowed\n"
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // whoever asked is gone
}
