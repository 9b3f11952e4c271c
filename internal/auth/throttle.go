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

// ThrottledError reports a failed attempt beyond what [Throttle] allows to
// its source or to the credential that it claims to be. A good credential
// gets in however many others have failed.
type ThrottledError struct {
	After   time.Duration // when to try again
	refused error         // for the log
}

func (e *ThrottledError) Error() string { return "too many failed attempts: " + e.refused.Error() }

// failed counts a refusal and returns it, or a [ThrottledError] beyond the
// bounds.
func (t *throttle) failed(source string, refused error) error {
	keys := [2]string{"address " + source}
	if r := (*refusal)(nil); errors.As(refused, &r) && r.name != "" {
		keys[1] = "credential " + r.name
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for _, key := range keys {
		if key != "" {
			wait = max(wait, t.count(key, now))
		}
	}
	if wait > 0 {
		return &ThrottledError{After: wait, refused: refused}
	}
	return refused
}

// count adds a failure, and returns how long to wait if there were too many
// already.
func (t *throttle) count(key string, now time.Time) time.Duration {
	at := t.forget[key]
	if at.Before(now) {
		at = now
	}
	if wait := at.Add(t.every).Sub(now) - t.ahead; wait > 0 {
		return wait
	}
	if len(t.forget) >= t.size {
		t.shrink(now)
	}
	t.forget[key] = at.Add(t.every)
	return 0
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
