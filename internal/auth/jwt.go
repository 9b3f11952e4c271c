package auth

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/internal/tenant"
)

// trust is an external issuer whose tokens for one audience are accepted.
type trust struct {
	issuer, audience string
	keys             *jwks
	entries          []trustEntry
}

// trustEntry is a credential: tokens whose claims have these values.
type trustEntry struct {
	grant  *grant
	claims map[string]string
}

func (b *bearer) addTrust(g *grant, c *tenant.JWT) error {
	if c.Issuer == b.own.name {
		return fmt.Errorf("jwt: issuer: %q is this server's own", c.Issuer)
	}
	var t *trust
	for _, other := range b.trusted {
		if other.issuer == c.Issuer && other.audience == c.Audience && other.keys.url == c.JWKS {
			t = other
		}
	}
	if t == nil {
		t = &trust{issuer: c.Issuer, audience: c.Audience, keys: b.jwks(c.JWKS)}
		b.trusted = append(b.trusted, t)
	}
	for _, e := range t.entries {
		if e.grant.Tenant != g.Tenant && maps.Equal(e.claims, c.Claims) {
			return fmt.Errorf("jwt: the same tokens as credential %s; tell them apart by claims", e.grant.name())
		}
	}
	t.entries = append(t.entries, trustEntry{g, c.Claims})
	return nil
}

// verifyTrusted returns what a token of another issuer opens. Which tenant it
// opens must be beyond doubt.
func (b *bearer) verifyTrusted(ctx context.Context, token *jwt.JSONWebToken, issuer string, now time.Time) (*grant, time.Time, error) {
	var refused error = &refusal{kind: bearerRefused, why: "the issuer is not trusted"}
	var found *grant
	var until time.Time
	for _, t := range b.trusted {
		if t.issuer != issuer {
			continue
		}
		c, all, err := t.verify(ctx, token, now)
		if err != nil {
			refused = err
			continue
		}
		refused = &refusal{kind: bearerRefused, why: "no tenant has its claims"}
		for i := range t.entries {
			e := &t.entries[i]
			if !e.matches(all) {
				continue
			}
			if found != nil && found.Tenant != e.grant.Tenant {
				return nil, time.Time{}, &refusal{kind: bearerRefused, why: "it fits " + found.name() + " and " + e.grant.name()}
			}
			if found == nil || found.valid(now) != nil {
				found, until = e.grant, c.Expiry.Time()
			}
		}
	}
	if found == nil {
		return nil, time.Time{}, refused
	}
	return found, until, nil
}

// verify checks signature and times, and returns all claims.
func (t *trust) verify(ctx context.Context, token *jwt.JSONWebToken, now time.Time) (*jwt.Claims, map[string]any, error) {
	h := token.Headers[0]
	keys, err := t.keys.find(ctx, h.KeyID, h.Algorithm)
	if err != nil {
		return nil, nil, err
	}
	for i := range keys {
		var c jwt.Claims
		var all map[string]any
		if err := token.Claims(keys[i].Key, &c, &all); err != nil {
			continue
		}
		if err := check(&c, t.issuer, t.audience, now); err != nil {
			return nil, nil, err
		}
		return &c, all, nil
	}
	return nil, nil, &refusal{kind: bearerRefused, why: "no key of its issuer fits"}
}

// matches reports whether the claims have the values of the credential; a
// claim with several values has each of them.
func (e *trustEntry) matches(all map[string]any) bool {
	for name, want := range e.claims {
		switch got := all[name].(type) {
		case string:
			if got != want {
				return false
			}
		case []any:
			found := false
			for _, v := range got {
				found = found || v == want
			}
			if !found {
				return false
			}
		default:
			return false
		}
	}
	return true
}
