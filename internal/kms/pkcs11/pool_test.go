//go:build pkcs11

package pkcs11

import (
	"context"
	"errors"
	"testing"
	"time"

	"spekeasy/internal/kms"
)

// A module that hangs holds up nobody beyond their deadline.
func TestHangingModule(t *testing.T) {
	for name, c := range map[string]struct{ hang, recover func(*pool) }{
		"all sessions are busy":  {func(p *pool) { p.places <- struct{}{} }, func(p *pool) { <-p.places }},
		"no session can be made": {func(p *pool) { p.mu.Lock() }, func(p *pool) { p.mu.Unlock() }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(nil, target{sessions: 1})
			p.closed = true // so that calls that go on do not reach a module
			c.hang(p)
			defer c.recover(p)
			never := func(session) ([]byte, error) { panic("there is no session") }

			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := p.run(ctx, never); !errors.Is(err, kms.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("deadline: %v", err)
			}
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			if _, err := p.run(ctx, never); !errors.Is(err, context.Canceled) || errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}
