package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"spekeasy/internal/kms"
)

// Token is a credential that is fetched when it is first needed and again
// before it expires. It may be used concurrently; one fetch runs at a time.
type Token struct {
	now   func() time.Time
	fetch Fetch

	turn  chan struct{} // holds one value while somebody uses the fields below
	value string
	until time.Time // zero: does not expire
}

// Fetch gets a credential from where it is issued. A lifetime of zero means
// that it does not expire.
type Fetch func(context.Context) (value string, lifetime time.Duration, err error)

// NewToken returns a token that fetch gets.
func NewToken(now func() time.Time, fetch Fetch) *Token {
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

// RequestToken is the body of a [Fetch] for services that answer as OAuth 2.0
// does (RFC 6749, 5.1). The client's Words are [TokenWords].
func RequestToken(ctx context.Context, c *Client, newRequest func(context.Context) (*http.Request, error)) (string, time.Duration, error) {
	a, err := c.Do(ctx, newRequest)
	if err != nil {
		return "", 0, err
	}
	var t struct {
		Value    string  `json:"access_token"`
		Type     string  `json:"token_type"`
		Lifetime seconds `json:"expires_in"`
	}
	err = a.Into(&t, func(a Answer) error { return fmt.Errorf("%w: %s", kms.ErrDenied, c.Explain(a)) })
	if err != nil {
		return "", 0, err
	}
	if t.Value == "" || t.Lifetime < 0 || !strings.EqualFold(t.Type, "Bearer") {
		return "", 0, fmt.Errorf("%w: the answer holds no bearer token", kms.ErrUnavailable)
	}
	if t.Lifetime == 0 { // Azure App Service leaves it out
		t.Lifetime = 300
	}
	return t.Value, time.Duration(t.Lifetime) * time.Second, nil
}

// seconds reads a number, which Azure's metadata server writes as a string.
type seconds int64

// UnmarshalJSON implements [json.Unmarshaler].
func (s *seconds) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 32)
	*s = seconds(n)
	return err
}

// TokenWords reads an OAuth 2.0 error (RFC 6749, 5.2).
func TokenWords(a Answer) string {
	var body struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(a.Body, &body) // no words are an answer too
	return strings.TrimSpace(body.Error + " " + body.Description)
}
