package auth

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Throttle bounds failed attempts. Members that are zero have the defaults
// given.
type Throttle struct {
	// Burst is how many attempts may fail at once before failures are
	// answered with 429: 20.
	Burst int

	// Every is the time after which one more may fail: 2 seconds.
	Every time.Duration

	// Size bounds the sources and credentials that are remembered: 16,384.
	Size int
}

// throttle counts failures by source and by credential. For each it keeps
// one time, at which all its failures will be forgotten; each failure moves
// that on (the generic cell rate algorithm).
type throttle struct {
	every, ahead time.Duration
	size         int
	now          func() time.Time

	mu     sync.Mutex
	forget map[string]time.Time
}

func newThrottle(o Throttle, now func() time.Time) *throttle {
	if o.Burst <= 0 {
		o.Burst = 20
	}
	if o.Every <= 0 {
		o.Every = 2 * time.Second
	}
	if o.Size <= 0 {
		o.Size = 16384
	}
	return &throttle{
		every: o.Every, ahead: o.Every * time.Duration(o.Burst), size: o.Size, now: now,
		forget: make(map[string]time.Time),
	}
}

// ThrottledError is an [ErrUnauthenticated] beyond what [Throttle] allows to
// its source or to the credential that it claims to be. A good credential
// gets in however many others have failed; only a password that is kept as a
// slow hash, and that this process has not seen yet, waits its turn among the
// guesses of others.
type ThrottledError struct {
	After   time.Duration // when to try again
	refused error         // for the log
}

func (e *ThrottledError) Unwrap() error { return e.refused }

func (e *ThrottledError) Error() string { return "too many failed attempts: " + e.refused.Error() }

// failed counts a refusal and returns it, or a [ThrottledError] beyond the
// bounds.
func (t *throttle) failed(source string, refused error) error {
	if already := (*ThrottledError)(nil); errors.As(refused, &already) {
		return refused
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for _, key := range countedBy(source, refused) {
		until, one := t.check(key, now)
		wait = max(wait, one)
		if one == 0 {
			if len(t.forget) >= t.size {
				t.shrink(now)
			}
			t.forget[key] = until
		}
	}
	if wait > 0 {
		return &ThrottledError{After: wait, refused: refused}
	}
	return refused
}

// wait returns how long it takes until an attempt like the refused one may
// fail again.
func (t *throttle) wait(source string, refused error) (wait time.Duration) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range countedBy(source, refused) {
		_, one := t.check(key, now)
		wait = max(wait, one)
	}
	return wait
}

// wait returns how long the sender of a request that was refused has to wait
// until it may fail again.
func (a *Authenticator) wait(r *http.Request, refused error) time.Duration {
	return a.throttle.wait(a.source(r), refused)
}

// countedBy returns what a failure counts for.
func countedBy(source string, refused error) []string {
	keys := []string{"address " + source}
	if r := (*refusal)(nil); errors.As(refused, &r) && r.name != "" {
		keys = append(keys, "credential "+r.name)
	}
	return keys
}

// check returns when one more failure would be forgotten, and how long to
// wait if it is one too many.
func (t *throttle) check(key string, now time.Time) (until time.Time, wait time.Duration) {
	until = t.forget[key]
	if until.Before(now) {
		until = now
	}
	until = until.Add(t.every)
	return until, max(0, until.Sub(now)-t.ahead)
}

// shrink drops what is forgotten anyway, and if that is not enough then half
// of the rest, whichever it is.
func (t *throttle) shrink(now time.Time) {
	for key, at := range t.forget {
		if !at.After(now) {
			delete(t.forget, key)
		}
	}
	for key := range t.forget {
		if len(t.forget) <= t.size/2 {
			break
		}
		delete(t.forget, key)
	}
}

// source is where a request comes from: the peer, or who a trusted proxy says
// that its peer was. IPv6 addresses count by their /64, which one customer has
// as a whole.
func (a *Authenticator) source(r *http.Request) string {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	peer := addr.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0 && a.trusts(peer); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		peer = hop.Unmap()
	}
	if peer.Is6() {
		if p, err := peer.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return peer.String()
}

func (a *Authenticator) trusts(addr netip.Addr) bool {
	for _, p := range a.trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
