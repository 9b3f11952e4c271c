package auth

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrUnavailable reports that an issuer's keys cannot be had, so that nobody
// can say whether a token is good.
var ErrUnavailable = errors.New("the issuer's keys cannot be had")

// jwks is the keys of an issuer, fetched when they are needed first, when a
// token names a key that is not there, and now and then.
type jwks struct {
	url    string
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time     // when keys were had
	tried   time.Time     // when they were last asked for
	failed  error         // why they were not had then
	running chan struct{} // closed when the fetch under way is over
}

const (
	jwksTimeout = 5 * time.Second
	jwksSize    = 256 << 10 // bytes
	jwksKeys    = 100
	jwksFresh   = 10 * time.Minute // after which keys are fetched again, beside their use
	jwksAge     = 24 * time.Hour   // after which keys that cannot be fetched again are not used
	jwksPause   = 30 * time.Second // between two fetches
)

func newJWKS(url string, client *http.Client, now func() time.Time) *jwks {
	if client == nil {
		client = &http.Client{}
	}
	c := *client
	c.Timeout = jwksTimeout
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &jwks{url: url, client: &c, now: now}
}

// find returns the keys that a token with this key ID ("" for none) and
// algorithm may be signed with. Without any it asks the issuer, though not
// more often than every jwksPause.
func (j *jwks) find(ctx context.Context, kid, algorithm string) ([]jose.JSONWebKey, error) {
	j.mu.Lock()
	now := j.now()
	if now.Sub(j.fetched) > jwksAge {
		j.keys = nil
	}
	keys := j.match(kid, algorithm)
	var running chan struct{}
	if len(keys) == 0 || now.Sub(j.fetched) > jwksFresh {
		running = j.start(now)
	}
	j.mu.Unlock()
	if len(keys) > 0 {
		return keys, nil
	}
	if running != nil {
		select {
		case <-running:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if keys = j.match(kid, algorithm); len(keys) == 0 && j.failed != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, j.failed)
	}
	return keys, nil
}

func (j *jwks) match(kid, algorithm string) (keys []jose.JSONWebKey) {
	for i := range j.keys {
		k := &j.keys[i]
		if (kid == "" || k.KeyID == kid) && (k.Algorithm == "" || k.Algorithm == algorithm) {
			keys = append(keys, *k)
		}
	}
	return keys
}

// start fetches the keys beside the caller, unless that was tried just now.
// The channel is closed when it is over.
func (j *jwks) start(now time.Time) chan struct{} {
	if j.running != nil || !j.tried.IsZero() && now.Sub(j.tried) < jwksPause {
		return j.running
	}
	done := make(chan struct{})
	j.running, j.tried = done, now
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), jwksTimeout)
		defer cancel()
		keys, err := j.fetch(ctx)
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.running, j.failed = nil, err; err == nil {
			j.keys, j.fetched = keys, j.now()
		}
		close(done)
	}()
	return done
}

func (j *jwks) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	res, err := j.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", j.url, res.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, jwksSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", j.url, err)
	}
	if len(text) > jwksSize {
		return nil, fmt.Errorf("%s: more than %d bytes", j.url, jwksSize)
	}
	return parseJWKS(text)
}

// parseJWKS reads the keys of a set that signatures can be verified with.
// Keys of kinds that we do not know are passed over (RFC 7517, 5).
func parseJWKS(text []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("not a JWK set")
	}
	if len(set.Keys) > jwksKeys {
		return nil, fmt.Errorf("more than %d keys", jwksKeys)
	}
	keys := []jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(raw); err != nil || !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
			continue
		}
		if r, ok := k.Key.(*rsa.PublicKey); ok && r.N.BitLen() < 2048 {
			continue
		}
		keys = append(keys, k)
	}
	return keys, nil
}
