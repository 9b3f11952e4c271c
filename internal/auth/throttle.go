package auth

import (
	"errors"
	"hash/maphash"
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

	// Size bounds the sources that are remembered, and the names: 16,384.
	Size int
}

// throttle counts failures by source, and by who the request claims to be,
// whether there is anybody of that name or not: else a stranger could tell
// users by it. For each it keeps one time, at which all its failures will be
// forgotten; each failure moves that on (the generic cell rate algorithm).
type throttle struct {
	every, ahead time.Duration
	size         int
	now          func() time.Time
	seed         maphash.Seed

	mu              sync.Mutex
	sources, claims failures
}

// failures are the times at which failures will be forgotten, by a hash of
// what they count for: what strangers choose takes no more room than that.
type failures map[uint64]time.Time

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
		every: o.Every, ahead: o.Every * time.Duration(o.Burst), size: o.Size, now: now, seed: maphash.MakeSeed(),
		sources: make(failures), claims: make(failures),
	}
}

// ThrottledError is an [ErrUnauthenticated] beyond what [Throttle] allows to
// its source or to the credential that it claims to be. A good credential
// gets in however many others have failed; only a password that is kept as a
// slow hash, and that this process has not seen yet, waits when others have
// failed from the same source.
type ThrottledError struct {
	After   time.Duration // when to try again
	refused error         // for the log
}

func (e *ThrottledError) Unwrap() error { return e.refused }

func (e *ThrottledError) Error() string { return "too many failed attempts: " + e.refused.Error() }

// failed counts a refusal and returns it, or a [ThrottledError] beyond the
// bounds. What a source does beyond its own bounds counts for nobody else.
func (t *throttle) failed(source string, refused error) error {
	if already := (*ThrottledError)(nil); errors.As(refused, &already) {
		return refused
	}
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	wait := t.count(t.sources, source, now)
	if claim := claimOf(refused); wait == 0 && claim != "" {
		wait = t.count(t.claims, claim, now)
	}
	if wait > 0 {
		return &ThrottledError{After: wait, refused: refused}
	}
	return refused
}

// count counts a failure, or returns how long to wait if it is one too many.
func (t *throttle) count(all failures, name string, now time.Time) time.Duration {
	key := maphash.String(t.seed, name)
	until, wait := t.check(all, key, now)
	if wait > 0 {
		return wait
	}
	if len(all) >= t.size {
		t.shrink(all, now)
	}
	all[key] = until
	return 0
}

// wait returns how long the sender of a request that was refused has to wait
// until it may fail again. Only a source that has failed itself is held to
// what others did in the same name: somebody who guesses a user's password
// from elsewhere must not lock the user out.
func (a *Authenticator) wait(r *http.Request, refused error) time.Duration {
	t := a.throttle
	source := maphash.String(t.seed, a.source(r))
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	_, wait := t.check(t.sources, source, now)
	if claim := claimOf(refused); wait == 0 && claim != "" && t.sources[source].After(now) {
		_, wait = t.check(t.claims, maphash.String(t.seed, claim), now)
	}
	return wait
}

// claimOf returns who a refused request claims to be, "" for nobody.
func claimOf(refused error) string {
	if r := (*refusal)(nil); errors.As(refused, &r) && r.claim != "" {
		return r.kind + " " + r.claim
	}
	return ""
}

// check returns when one more failure would be forgotten, and how long to
// wait if it is one too many.
func (t *throttle) check(all failures, key uint64, now time.Time) (until time.Time, wait time.Duration) {
	until = all[key]
	if until.Before(now) {
		until = now
	}
	until = until.Add(t.every)
	return until, max(0, until.Sub(now)-t.ahead)
}

// shrink drops what is forgotten anyway, and if that is not enough then half
// of the rest, whichever it is.
func (t *throttle) shrink(all failures, now time.Time) {
	for key, at := range all {
		if !at.After(now) {
			delete(all, key)
		}
	}
	for key := range all {
		if len(all) <= t.size/2 {
			break
		}
		delete(all, key)
	}
}

// source is where a request comes from, for the throttle. IPv6 addresses count
// by their /64, which one customer has as a whole.
func (a *Authenticator) source(r *http.Request) string {
	peer := a.peer(r)
	if !peer.IsValid() {
		return r.RemoteAddr
	}
	if peer.Is6() {
		if p, err := peer.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return peer.String()
}

// Remote returns the address of whoever sent a request, for records: the peer
// of the connection, or who trusted proxies say that theirs was.
func (a *Authenticator) Remote(r *http.Request) string {
	direct, err := netip.ParseAddrPort(r.RemoteAddr)
	if peer := a.peer(r); err == nil && peer != direct.Addr().Unmap() {
		return peer.String()
	}
	return r.RemoteAddr
}

// peer is the address of the peer, or what a trusted proxy says that its peer
// was.
func (a *Authenticator) peer(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	peer := addr.Addr().Unmap()
	if !a.trusts(peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0 && a.trusts(peer); i-- {
		hop := strings.TrimSpace(hops[i])
		next, err := netip.ParseAddr(hop)
		if err != nil { // some proxies add the port
			withPort, err := netip.ParseAddrPort(hop)
			if err != nil {
				break
			}
			next = withPort.Addr()
		}
		peer = next.Unmap()
	}
	return peer
}

func (a *Authenticator) trusts(addr netip.Addr) bool {
	for _, p := range a.trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
