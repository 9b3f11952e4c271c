package playback

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/contentkey"
	"spekeasy/internal/tenant"
)

// Audience is the aud of playback tokens, so that no other JWT is taken for
// one.
const Audience = "spekeasy-playback"

// maxToken bounds a token, in bytes.
const maxToken = 8 << 10

// Claims are what a playback token says. Expiry, ID, tenant and at least one
// of contents and key IDs are required.
type Claims struct {
	jwt.Claims
	Tenant   string           `json:"tenant"`
	Contents []string         `json:"contents,omitempty"` // content IDs, as encryptors named them
	KIDs     []contentkey.KID `json:"kids,omitempty"`
	Origins  []string         `json:"origins,omitempty"` // web origins that may use it; any if empty
}

// covers reports whether the token is for a key, by its ID or by one of the
// contents that it was asked for. No token covers everything.
func (c *Claims) covers(kid contentkey.KID, contents map[string]bool) bool {
	return c == nil || slices.Contains(c.KIDs, kid) ||
		slices.ContainsFunc(c.Contents, func(id string) bool { return contents[id] })
}

// Issue signs a token. ID, audience and the time of issue are filled in; a
// token that is not valid from a given time on is valid from now on.
func Issue(ctx context.Context, secrets *Secrets, t *tenant.Tenant, c Claims, now time.Time) (string, *Claims, error) {
	if c.ID == "" {
		c.ID = rand.Text()
	}
	c.Audience, c.IssuedAt, c.Tenant = jwt.Audience{Audience}, jwt.NewNumericDate(now), t.ID
	if c.NotBefore == nil {
		c.NotBefore = c.IssuedAt
	}
	if err := c.check(t.Playback); err != nil {
		return "", nil, err
	}
	secret, err := secrets.signing(ctx, t)
	if err != nil {
		return "", nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", nil, fmt.Errorf("playback token: %w", err)
	}
	text, err := jwt.Signed(signer).Claims(c).Serialize()
	if err != nil {
		return "", nil, fmt.Errorf("playback token: %w", err)
	}
	return text, &c, nil
}

// check holds what every token has to say, at any time.
func (c *Claims) check(p *tenant.Playback) error {
	if p == nil {
		p = new(tenant.Playback)
	}
	begin := c.NotBefore
	if begin == nil {
		begin = c.IssuedAt
	}
	switch {
	case !c.Audience.Contains(Audience):
		return errors.New("its audience is not " + Audience)
	case c.ID == "" || len(c.ID) > 128:
		return errors.New("it has no ID (jti) of at most 128 characters")
	case len(c.Contents) == 0 && len(c.KIDs) == 0:
		return errors.New("it is bound to neither content nor key IDs")
	case c.Expiry == nil || begin == nil:
		return errors.New("it has no expiry (exp) and no beginning (nbf or iat)")
	case c.Expiry.Time().Sub(begin.Time()) <= 0:
		return errors.New("it ends before it begins")
	case c.Expiry.Time().Sub(begin.Time()) > p.Lifetime():
		return fmt.Errorf("it is valid for longer than %s", p.Lifetime())
	}
	return nil
}

// The refusals of a token. Which of them it was is told only once the
// signature is known to be good.
var (
	errTokenMissing = refuse(http.StatusUnauthorized, "a playback token is required")
	errTokenExpired = refuse(http.StatusUnauthorized, "the playback token has expired")
	errTokenEarly   = refuse(http.StatusUnauthorized, "the playback token is not valid yet")
	errTokenRevoked = refuse(http.StatusUnauthorized, "the playback token was revoked")
	errOrigin       = refuse(http.StatusForbidden, "the playback token is not for this web origin")
)

func tokenInvalid(why error) error {
	return &Error{Status: http.StatusUnauthorized, Text: "the playback token is not valid", why: why}
}

// earlyBy is how far the clock of a token's issuer may be ahead of ours.
const earlyBy = 30 * time.Second

// Read returns the claims of a token without knowing whether it is good.
func Read(text string) (*Claims, error) {
	var c Claims
	token, err := parse(text)
	if err == nil {
		err = token.UnsafeClaimsWithoutVerification(&c)
	}
	return &c, err
}

func parse(text string) (*jwt.JSONWebToken, error) {
	if len(text) > maxToken {
		return nil, errors.New("too long")
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return nil, errors.New("not a JWT signed with HS256") // the error may quote it
	}
	return token, nil
}

// Verify returns the claims of a good token and the tenant that it belongs
// to. The error is an [*Error] that says what is wrong with it. Origins are
// not looked at.
func Verify(ctx context.Context, tenants Tenants, secrets *Secrets, text string, now time.Time) (*Claims, *tenant.Tenant, error) {
	token, err := parse(text)
	if err != nil {
		return nil, nil, tokenInvalid(err)
	}
	var c Claims
	if err := token.UnsafeClaimsWithoutVerification(&c); err != nil {
		return nil, nil, tokenInvalid(errors.New("its claims cannot be read"))
	}
	t, err := tenants.Tenant(ctx, c.Tenant)
	if errors.Is(err, tenant.ErrNotFound) {
		return nil, nil, tokenInvalid(errors.New("no such tenant"))
	}
	if err != nil {
		return nil, nil, err
	}
	if t.Playback == nil {
		return nil, nil, tokenInvalid(fmt.Errorf("tenant %s has no playback", t.ID))
	}
	secret, err := secrets.signing(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	if err := token.Claims(secret, new(Claims)); err != nil {
		return nil, nil, tokenInvalid(errors.New("the signature is not that of its tenant"))
	}
	if err := c.check(t.Playback); err != nil {
		return nil, nil, tokenInvalid(err)
	}
	switch {
	case !now.Before(c.Expiry.Time()):
		return &c, t, errTokenExpired
	case c.NotBefore != nil && now.Add(earlyBy).Before(c.NotBefore.Time()):
		return &c, t, errTokenEarly
	}
	revoked, err := secrets.revoked(ctx, t.ID, c.ID)
	if err != nil {
		return nil, nil, err
	}
	if revoked {
		return &c, t, errTokenRevoked
	}
	return &c, t, nil
}

// TokenParameter is the query parameter that takes a token, for key URLs and
// players that cannot set headers. Such a URL must never be logged.
const TokenParameter = "token"

// tokenOf returns the token of a request, "" if there is none.
func tokenOf(r *http.Request) string {
	if h := r.Header.Get("Authorization"); len(h) > 7 && strings.EqualFold(h[:7], "Bearer ") {
		return strings.TrimSpace(h[7:])
	}
	if r.URL.RawQuery == "" {
		return ""
	}
	return r.URL.Query().Get(TokenParameter)
}

// authorize finds out what a call may have.
func (s *Service) authorize(ctx context.Context, r *http.Request, body []byte) (*grant, error) {
	text := tokenOf(r)
	if text == "" {
		return s.credential(ctx, r, body)
	}
	c, t, err := Verify(ctx, s.Tenants, s.Secrets, text, s.Now())
	if err != nil {
		if c == nil {
			return nil, err
		}
		return &grant{tenant: t, settings: t.Playback, credential: credentialName(c), token: c}, err
	}
	g := &grant{tenant: t, settings: t.Playback, credential: credentialName(c), token: c}
	origin := r.Header.Get("Origin")
	for _, allowed := range [][]string{c.Origins, g.webOrigins(origin)} {
		if len(allowed) > 0 && !slices.Contains(allowed, origin) {
			return g, errOrigin
		}
	}
	return g, nil
}

// webOrigins are the tenant's for a call from a browser, which says its
// origin.
func (g *grant) webOrigins(origin string) []string {
	if origin == "" {
		return nil
	}
	return g.settings.Origins
}

// credentialName is how a token stands in records.
func credentialName(c *Claims) string { return "playback token " + c.ID }

// credential takes an encryptor's credential where its tenant allows that.
func (s *Service) credential(ctx context.Context, r *http.Request, body []byte) (*grant, error) {
	if r.Header.Get("Authorization") == "" {
		return nil, errTokenMissing
	}
	who, err := s.Credentials.Authenticate(r, body)
	if err != nil {
		return nil, err
	}
	t, err := s.Tenants.Tenant(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	if t.Playback == nil || !t.Playback.AcceptCredentials || who.Sealed || !who.Encryptor {
		return nil, errTokenMissing
	}
	return &grant{tenant: t, settings: t.Playback, credential: who.Credential}, nil
}
