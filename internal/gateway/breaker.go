package gateway

import (
	"sync"
	"time"
)

// breaker leaves an upstream alone that fails again and again. After a pause
// it lets one request through; if that fares well all others follow.
type breaker struct {
	limit int // failures in a row; 0 never opens
	pause time.Duration

	mu       sync.Mutex
	failures int
	until    time.Time // when open: when the next request may try
	probe    bool      // it is under way
}

// enter reports whether a request may go.
func (b *breaker) enter(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limit == 0 || b.failures < b.limit {
		return true
	}
	if now.Before(b.until) || b.probe {
		return false
	}
	b.probe = true
	return true
}

// outcomes of a request for the breaker.
const (
	outcomeUp = iota
	outcomeDown
	outcomeUnknown // the encryptor left, nothing is known
)

func (b *breaker) leave(outcome int, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probe = false
	switch outcome {
	case outcomeUp:
		b.failures = 0
	case outcomeDown:
		b.failures++
		b.until = now.Add(b.pause)
	}
}

// state is closed (all is well), open (paused) or half-open (the next request
// decides).
func (b *breaker) state(now time.Time) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.limit == 0 || b.failures < b.limit:
		return "closed"
	case now.Before(b.until):
		return "open"
	default:
		return "half-open"
	}
}
