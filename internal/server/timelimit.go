package server

import (
	"context"
	"sync"
	"time"
)

// timeLimit is the context of a request that may take so long and no longer.
// Most requests are answered from memory and wait for nothing, so its timer
// starts when somebody first wants to know of its end.
type timeLimit struct {
	context.Context // the connection's
	end             time.Time

	once   sync.Once
	timed  context.Context
	cancel context.CancelFunc
}

func newTimeLimit(parent context.Context, d time.Duration) *timeLimit {
	return &timeLimit{Context: parent, end: time.Now().Add(d)}
}

func (t *timeLimit) start() context.Context {
	t.once.Do(func() { t.timed, t.cancel = context.WithDeadline(t.Context, t.end) })
	return t.timed
}

func (t *timeLimit) Deadline() (time.Time, bool) { return t.start().Deadline() }
func (t *timeLimit) Done() <-chan struct{}       { return t.start().Done() }
func (t *timeLimit) Err() error                  { return t.start().Err() }

// release ends the context once the request is answered.
func (t *timeLimit) release() {
	t.once.Do(func() { t.timed, t.cancel = t.Context, func() {} })
	t.cancel()
}
