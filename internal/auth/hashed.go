package auth

import (
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"spekeasy/internal/password"
)

// hashed checks passwords of which only a slow hash is known. A password is
// checked against its hash once and remembered as a MAC from then on. Checks
// are few at a time, since each takes a processor for long; and a source or
// user that failed too often gets none until it may fail again.
type hashed struct {
	decoy *password.Hash // one of the hashes; nil without any

	// wait says how long the sender of a refused request has to wait until it
	// may fail again.
	wait func(r *http.Request, refused error) time.Duration

	turns   chan struct{}
	waiting atomic.Int32

	mu     sync.Mutex
	proved *recent[sum, provedPassword]
}

// provedPassword is what a password opens that has this hash.
type provedPassword struct {
	grant      *grant
	user, hash string
}

const (
	maxProved  = 4096 // passwords remembered, twice
	maxWaiting = 64   // requests that wait for a check
)

func newHashed(wait func(*http.Request, error) time.Duration) *hashed {
	return &hashed{
		wait:   wait,
		turns:  make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		proved: newRecent[sum, provedPassword](maxProved, nil),
	}
}

func (h *hashed) remembered(mac sum) *grant {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, _ := h.proved.get(mac)
	return p.grant
}

// find returns the grant of the entry whose hash a password has that is not
// remembered, or refused. Whoever fails pays for one hash at least, so that the time does not
// tell which users there are and how their passwords are kept.
func (h *hashed) find(r *http.Request, mac sum, entries []basicEntry, user, pass string, refused *refusal) (*grant, error) {
	if wait := h.wait(r, refused); wait > 0 { // before it takes the place of another
		return nil, &ThrottledError{After: wait, refused: refused}
	}
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return nil, &ThrottledError{After: time.Second, refused: refused}
	}
	defer h.waiting.Add(-1)
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if g := h.remembered(mac); g != nil { // others brought it while we waited
		return g, nil
	}
	if wait := h.wait(r, refused); wait > 0 { // others failed while we waited
		return nil, &ThrottledError{After: wait, refused: refused}
	}
	checked := false
	for i := range entries {
		e := &entries[i]
		if e.hash == nil {
			continue
		}
		checked = true
		if e.hash.Matches(pass) {
			h.mu.Lock()
			h.proved.put(mac, provedPassword{e.grant, user, e.text})
			h.mu.Unlock()
			return e.grant, nil
		}
	}
	if !checked {
		h.decoy.Matches(pass)
	}
	return nil, refused
}
