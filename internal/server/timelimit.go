package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"spekeasy/internal/requestid"
	"spekeasy/internal/telemetry"
)

// timeLimit is the context of a request that may take so long and no longer.
// Most requests are answered from memory and wait for nothing, so its timer
// starts when somebody first wants to know of its end. It also is the place
// for what is noted of a request on its way, which is none of its handlers'
// concern.
type timeLimit struct {
	context.Context // the connection's
	requestID       string
	end             time.Time
	seen            seen

	once    sync.Once
	started atomic.Bool
	timed   context.Context
	cancel  context.CancelFunc
}

func newTimeLimit(parent context.Context, d time.Duration, requestID string) *timeLimit {
	now := time.Now()
	return &timeLimit{Context: parent, requestID: requestID, end: now.Add(d), seen: seen{start: now}}
}

func (t *timeLimit) start() context.Context {
	t.once.Do(func() {
		t.timed, t.cancel = context.WithDeadline(t.Context, t.end)
		t.started.Store(true)
	})
	return t.timed
}

func (t *timeLimit) Deadline() (time.Time, bool) { return t.start().Deadline() }
func (t *timeLimit) Done() <-chan struct{}       { return t.start().Done() }

// Err tells what start's context would.
func (t *timeLimit) Err() error {
	if t.started.Load() || !time.Now().Before(t.end) {
		return t.start().Err()
	}
	return t.Context.Err()
}

// Value returns what is noted of the request, and else what the connection
// has.
func (t *timeLimit) Value(key any) any {
	switch key.(type) {
	case seenKey:
		return &t.seen
	case requestid.Key:
		return t.requestID
	case telemetry.Key:
		if t.seen.span != nil {
			return t.seen.span
		}
	}
	return t.Context.Value(key)
}

// release ends the context once the request is answered.
func (t *timeLimit) release() {
	t.once.Do(func() { t.timed, t.cancel = t.Context, func() {} })
	t.cancel()
}
