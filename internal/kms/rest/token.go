package rest

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"spekeasy/internal/kms"
)

// Token is a credential that is fetched when it is first needed and again
// before it expires. It may be used concurrently; one fetch runs at a time.
type Token struct {
	now   func() time.Time
	fetch func(context.Context) (value string, lifetime time.Duration, err error)

	turn  chan struct{} // holds one value while somebody uses the fields below
	value string
	until time.Time // zero: does not expire
}

// NewToken returns a token that fetch gets. A lifetime of zero means that it
// does not expire.
func NewToken(now func() time.Time, fetch func(context.Context) (value string, lifetime time.Duration, err error)) *Token {
	return &Token{now: now, fetch: fetch, turn: make(chan struct{}, 1)}
}

func (t *Token) get(ctx context.Context) (string, error) {
	if err := t.lock(ctx); err != nil {
		return "", err
	}
	defer t.unlock()
	if t.value != "" && (t.until.IsZero() || t.now().Before(t.until)) {
		return t.value, nil
	}
	value, lifetime, err := t.fetch(ctx)
	if err != nil {
		return "", err
	}
	t.value, t.until = value, time.Time{}
	if lifetime > 0 {
		t.until = t.now().Add(lifetime - min(lifetime/10, time.Minute))
	}
	return value, nil
}

// forget drops a value that the service refused, unless somebody replaced it
// in the meantime.
func (t *Token) forget(ctx context.Context, value string) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	if t.value == value {
		t.value = ""
	}
	return nil
}

func (t *Token) lock(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return cancelled(ctx, fmt.Errorf("%w: waiting for a token: %w", kms.ErrUnavailable, ctx.Err()))
	}
}

func (t *Token) unlock() { <-t.turn }

// DoWith is [Client.Do] for requests that carry a token. An answer of the
// given status means that the token is no longer good; it is replaced once.
func (c *Client) DoWith(ctx context.Context, t *Token, refused int, newRequest func(ctx context.Context, token string) (*http.Request, error)) (Answer, error) {
	for again := false; ; again = true {
		value, err := t.get(ctx)
		if err != nil {
			return Answer{}, err
		}
		a, err := c.Do(ctx, func(ctx context.Context) (*http.Request, error) { return newRequest(ctx, value) })
		if err != nil || a.Status != refused || again {
			return a, err
		}
		if err := t.forget(ctx, value); err != nil {
			return Answer{}, err
		}
	}
}
