package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"spekeasy/internal/upstream"
)

// tokens gets OAuth access tokens by client credentials and keeps the latest
// one. Many requests that find none, or an old one, wait for one exchange.
type tokens struct {
	settings  *upstream.OAuth
	transport http.RoundTripper
	timeout   time.Duration
	now       func() time.Time

	mu      sync.Mutex
	token   string
	renew   time.Time // from when on another one is fetched
	before  string    // the one before, for redaction
	pending *fetch
}

// fetch is an exchange under way.
type fetch struct {
	done  chan struct{}
	token string
	err   error // both valid once done is closed
}

// assumedLifetime is that of a token whose issuer says nothing.
const assumedLifetime = 5 * time.Minute

// get returns a token other than refused, which is "" or one that the upstream
// did not take.
func (t *tokens) get(ctx context.Context, refused string) (string, error) {
	t.mu.Lock()
	if t.token != "" && t.token != refused && t.now().Before(t.renew) {
		defer t.mu.Unlock()
		return t.token, nil
	}
	f := t.pending
	if f == nil {
		f = &fetch{done: make(chan struct{})}
		t.pending = f
		go t.fetch(context.WithoutCancel(ctx), f) // others wait for it too
	}
	t.mu.Unlock()
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (t *tokens) fetch(ctx context.Context, f *fetch) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	token, lifetime, err := t.exchange(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = nil
	if err == nil {
		// A token is replaced before it ends: requests are under way.
		margin := min(max(lifetime/10, time.Second), time.Minute)
		if token != t.token {
			t.before = t.token
		}
		t.token, t.renew = token, t.now().Add(lifetime-margin)
	}
	f.token, f.err = token, err
	close(f.done)
}

func (t *tokens) recent() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []string{t.token, t.before}
}

// exchange asks the issuer. Its error holds neither the credential nor what
// the issuer said.
func (t *tokens) exchange(ctx context.Context) (token string, lifetime time.Duration, err error) {
	s := t.settings
	params := url.Values{"grant_type": {"client_credentials"}}
	if s.Scope != "" {
		params.Set("scope", s.Scope)
	}
	if s.Client == "params" {
		params.Set("client_id", s.ID)
		params.Set("client_secret", string(s.Secret))
	}
	to, body := s.TokenURL, params.Encode()
	if s.Params == "query" {
		if to, body = to+"?"+body, ""; strings.Contains(s.TokenURL, "?") {
			to = s.TokenURL + "&" + params.Encode()
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(body))
	if err != nil {
		return "", 0, errors.New("token request cannot be made")
	}
	r.Header.Set("Accept", "application/json")
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if s.Client == "basic" {
		// RFC 6749 wants the parts form-encoded; for what vendors hand out
		// that is the text itself.
		r.SetBasicAuth(s.ID, string(s.Secret))
	}
	res, err := t.transport.RoundTrip(r) //nolint:bodyclose // readBody closes it
	if err != nil {
		return "", 0, fmt.Errorf("token endpoint: %w", err)
	}
	b, err := readBody(res)
	if err != nil {
		return "", 0, fmt.Errorf("token endpoint: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return "", 0, fmt.Errorf("token endpoint answered %d", res.StatusCode)
	}
	var answer struct {
		AccessToken string      `json:"access_token"`
		TokenType   string      `json:"token_type"`
		ExpiresIn   json.Number `json:"expires_in"` // some write it as a text
	}
	if err := json.Unmarshal(b, &answer); err != nil || answer.AccessToken == "" || strings.ContainsAny(answer.AccessToken, "\r\n") {
		return "", 0, errors.New("token endpoint answered without an access_token")
	}
	if answer.TokenType != "" && !strings.EqualFold(answer.TokenType, "bearer") {
		return "", 0, errors.New("token endpoint answered a token that is no bearer token")
	}
	lifetime = assumedLifetime
	if n, err := answer.ExpiresIn.Float64(); err == nil && n > 0 && n < 1e9 {
		lifetime = time.Duration(n * float64(time.Second))
	}
	return answer.AccessToken, lifetime, nil
}
