package auth

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/internal/tenant"
)

// bearer is OAuth 2.0 bearer tokens (RFC 6750) that are signed JWTs: those
// that we issue to clients, and those of issuers that tenants trust. A token
// is verified once and then remembered for a while.
type bearer struct {
	keyed
	own     *issuer
	trusted []*trust
	client  *http.Client
	sets    map[string]*jwks // one per URL, however many credentials name it
	former  map[string]*jwks // to go on with, until all credentials are added
	now     func() time.Time

	mu     sync.Mutex
	proved *recent[sum, provedToken]
}

// provedToken is what a token opens, until it ends.
type provedToken struct {
	grant *grant
	until time.Time
}

const (
	maxToken      = 8 << 10         // bytes
	maxProvedFor  = 5 * time.Minute // after which keys may have been withdrawn
	maxTokens     = 4096            // remembered, twice
	tokenSkew     = 30 * time.Second
	bearerRefused = "bearer token"
)

func newBearer(own *issuer, client *http.Client, now func() time.Time) *bearer {
	return &bearer{
		keyed: newKeyed(), own: own, client: client, sets: make(map[string]*jwks), now: now,
		proved: newRecent[sum, provedToken](maxTokens, nil),
	}
}

func (b *bearer) jwks(url string) *jwks {
	if b.sets[url] == nil {
		b.sets[url] = b.former[url]
	}
	if b.sets[url] == nil {
		b.sets[url] = newJWKS(url, b.client, b.now)
	}
	return b.sets[url]
}

func (*bearer) takes(c *tenant.Credential) bool { return c.OAuthClient != nil || c.JWT != nil }

func (b *bearer) empty() bool { return b.own.empty() && len(b.trusted) == 0 }

func (b *bearer) add(g *grant, c *tenant.Credential) error {
	if c.OAuthClient != nil {
		return b.own.add(g, c.OAuthClient)
	}
	return b.addTrust(g, c.JWT)
}

func (b *bearer) authenticate(r *http.Request, _ []byte) (*grant, error) {
	text, ok := scheme(r, "Bearer")
	if !ok {
		return nil, errAbsent
	}
	if len(text) > maxToken {
		return nil, &refusal{kind: bearerRefused, why: "too long"}
	}
	mac, now := b.of("", text), b.now()
	b.mu.Lock()
	known, ok := b.proved.get(mac)
	b.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.grant, nil
	}
	g, until, err := b.verify(r.Context(), text, now)
	if err != nil {
		return nil, err
	}
	if latest := now.Add(maxProvedFor); until.After(latest) {
		until = latest
	}
	b.mu.Lock()
	b.proved.put(mac, provedToken{g, until})
	b.mu.Unlock()
	return g, nil
}

// tokenAlgorithms are those that a token may be signed with: those with a
// public key, so that nobody takes a public key for a shared secret.
var tokenAlgorithms = []jose.SignatureAlgorithm{
	jose.EdDSA, jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
}

// verify returns what a token opens and when it ends.
func (b *bearer) verify(ctx context.Context, text string, now time.Time) (*grant, time.Time, error) {
	token, err := jwt.ParseSigned(text, tokenAlgorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, time.Time{}, &refusal{kind: bearerRefused, why: "not a JWT with an algorithm on the list"}
	}
	var says struct {
		Issuer string `json:"iss"`
	}
	if err := token.UnsafeClaimsWithoutVerification(&says); err != nil || says.Issuer == "" {
		return nil, time.Time{}, &refusal{kind: bearerRefused, why: "no issuer"}
	}
	if !b.own.empty() && says.Issuer == b.own.name {
		return b.own.verify(token, now)
	}
	return b.verifyTrusted(ctx, token, says.Issuer, now)
}

// check holds the claims that every token must have.
func check(c *jwt.Claims, issuer, audience string, now time.Time) error {
	if c.Expiry == nil {
		return &refusal{kind: bearerRefused, why: "it never ends"}
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{audience}, Time: now}, tokenSkew); err != nil {
		return &refusal{kind: bearerRefused, why: err.Error()}
	}
	return nil
}

func (b *bearer) challenge(error) []string { return []string{`Bearer realm="spekeasy"`} }
