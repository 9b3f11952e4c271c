package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/internal/tenant"
)

// OAuth is the settings of the tokens that we issue; the zero value works.
type OAuth struct {
	Issuer   string        // iss and aud of the tokens; "spekeasy" by default
	Lifetime time.Duration // of a token; 10 minutes by default

	// Key signs the tokens: Ed25519, or ECDSA on P-256. By default it is made
	// for this process, so that tokens end with it and open no other server.
	Key crypto.Signer
}

// issuer issues tokens to clients for their credentials (RFC 6749, 4.4).
type issuer struct {
	name     string
	lifetime time.Duration
	signer   jose.Signer
	public   jose.JSONWebKey
	jwks     []byte
	clients  map[string][]oauthClient
	binding  sum           // key of what binds tokens to the secret they were issued for
	own      crypto.Signer // made for this process; in use if no other was given
}

type oauthClient struct {
	grant  *grant
	secret sum
}

// newIssuer returns an issuer. own is a key that was made for this process
// before; nil for none.
func newIssuer(o OAuth, own crypto.Signer) (*issuer, error) {
	i := &issuer{name: o.Issuer, lifetime: o.Lifetime, clients: make(map[string][]oauthClient)}
	if i.name == "" {
		i.name = "spekeasy"
	}
	if i.lifetime <= 0 {
		i.lifetime = 10 * time.Minute
	}
	if i.own = own; own == nil {
		_, made, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		i.own = made
	}
	key := o.Key
	if key == nil {
		key = i.own
	}
	algorithm := jose.EdDSA
	switch k := key.(type) {
	case ed25519.PrivateKey:
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() {
			return nil, errors.New("oauth: the signing key is on another curve than P-256")
		}
		algorithm = jose.ES256
	default:
		return nil, errors.New("oauth: the signing key is neither Ed25519 nor ECDSA on P-256")
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	i.binding = sha256.Sum256(append([]byte("spekeasy token binding\x00"), private...))
	i.public = jose.JSONWebKey{Key: key.Public(), Algorithm: string(algorithm), Use: "sig"}
	thumbprint, err := i.public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	i.public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	if i.jwks, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.public}}); err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	signing := jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: i.public.KeyID}}
	i.signer, err = jose.NewSigner(signing, (&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	return i, nil
}

// tokenType tells our access tokens from other JWTs (RFC 9068).
const tokenType = "at+jwt"

func (i *issuer) empty() bool { return len(i.clients) == 0 }

func (i *issuer) add(g *grant, c *tenant.OAuthClient) error {
	for _, other := range i.clients[c.ID] {
		if other.grant.Tenant != g.Tenant {
			return fmt.Errorf("oauth_client: %q belongs to tenant %s", c.ID, other.grant.Tenant)
		}
	}
	secret := sha256.Sum256([]byte(c.Secret))
	if c.SHA256 != "" {
		var err error
		if secret, err = c.SHA256.Bytes(); err != nil {
			return err
		}
	}
	for _, other := range i.clients[c.ID] {
		if other.secret == secret {
			return fmt.Errorf("oauth_client: the same secret as credential %s", other.grant.name())
		}
	}
	i.clients[c.ID] = append(i.clients[c.ID], oauthClient{g, secret})
	return nil
}

// claims of our own tokens.
type claims struct {
	jwt.Claims
	ClientID   string `json:"client_id"`
	Tenant     string `json:"tenant"`
	Credential string `json:"credential"`
	Secret     string `json:"secret"` // which of the credential's secrets it was issued for; tells nothing about it
}

// bound names a client's secret in tokens. Who does not have the signing key
// cannot try secrets with it.
func (i *issuer) bound(c *oauthClient) string {
	h := hmac.New(sha256.New, i.binding[:])
	h.Write(c.secret[:])
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// issue signs a token for a credential. It ends no later than the credential.
func (i *issuer) issue(id string, client *oauthClient, now time.Time) (*Token, error) {
	g := client.grant
	until := now.Add(i.lifetime)
	if !g.expires.IsZero() && g.expires.Before(until) {
		until = g.expires
	}
	text, err := jwt.Signed(i.signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: i.name, Subject: id, Audience: jwt.Audience{i.name}, ID: rand.Text(),
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(until),
		},
		ClientID: id, Tenant: g.Tenant, Credential: g.Credential, Secret: i.bound(client),
	}).Serialize()
	if err != nil {
		return nil, fmt.Errorf("oauth: signing a token: %w", err)
	}
	return &Token{
		AccessToken: text, TokenType: "Bearer", ExpiresIn: int(until.Sub(now) / time.Second),
		Tenant: g.Tenant, Credential: g.Credential,
	}, nil
}

// verify returns what one of our tokens opens. A credential that is gone, or
// whose secret is another one now, opens nothing, whatever was issued for it.
func (i *issuer) verify(token *jwt.JSONWebToken, now time.Time) (*grant, time.Time, error) {
	var c claims
	h := token.Headers[0]
	if h.Algorithm != i.public.Algorithm || h.KeyID != i.public.KeyID || h.ExtraHeaders[jose.HeaderType] != tokenType {
		return nil, time.Time{}, &refusal{kind: bearerRefused, why: "signed with another key than ours"}
	}
	if err := token.Claims(i.public.Key, &c); err != nil {
		return nil, time.Time{}, &refusal{kind: bearerRefused, why: "the signature is wrong"}
	}
	if err := check(&c.Claims, i.name, i.name, now); err != nil {
		return nil, time.Time{}, err
	}
	clients := i.clients[c.ClientID]
	for j := range clients {
		g := clients[j].grant
		if g.Tenant == c.Tenant && g.Credential == c.Credential && i.bound(&clients[j]) == c.Secret {
			return g, c.Expiry.Time(), nil
		}
	}
	return nil, time.Time{}, &refusal{kind: bearerRefused, why: "its credential is gone"}
}

// Token is the answer of a token endpoint (RFC 6749, 5.1).
type Token struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds

	// For records: whose it is.
	Tenant     string `json:"-"`
	Credential string `json:"-"`
}

// Format hides the token.
func (t Token) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(token of %s/%s)", t.Tenant, t.Credential)
}

// TokenError is the error of a token endpoint (RFC 6749, 5.2).
type TokenError struct {
	Status      int    `json:"-"`
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`

	cause error
}

func (e *TokenError) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Description
}

func (e *TokenError) Unwrap() error { return e.cause }

func invalidRequest(description string) error {
	return &TokenError{Status: http.StatusBadRequest, Code: "invalid_request", Description: description}
}

// IssuesTokens reports whether there are clients that tokens are issued to.
func (a *Authenticator) IssuesTokens() bool { return !a.issuer.empty() }

// JWKS is the key that our tokens are verified with, as a JWK set (RFC 7517).
func (a *Authenticator) JWKS() []byte { return a.issuer.jwks }

// Token answers a request for a token with the client credentials grant. The
// parameters are in the body, or in the query as some vendors' encryptors
// have them; the client's credentials are in Basic or in the body. Scopes are
// granted as asked, for they mean nothing here.
//
// The error is a [*TokenError], a [*ThrottledError] or unexpected.
func (a *Authenticator) Token(r *http.Request, body []byte) (*Token, error) {
	p, err := tokenParameters(r, body)
	if err != nil {
		return nil, err
	}
	id, client, err := a.issuer.client(r, p)
	now := a.now()
	if err == nil {
		err = client.grant.valid(now)
	}
	if errors.Is(err, ErrUnauthenticated) {
		if err = a.throttle.failed(a.source(r), err); errors.As(err, new(*ThrottledError)) {
			return nil, err
		}
		return nil, &TokenError{Status: http.StatusUnauthorized, Code: "invalid_client", cause: err}
	}
	if err != nil {
		return nil, err
	}
	switch p.Get("grant_type") {
	case "client_credentials":
	case "":
		return nil, invalidRequest("grant_type is missing")
	default:
		return nil, &TokenError{Status: http.StatusBadRequest, Code: "unsupported_grant_type", Description: "client_credentials is supported"}
	}
	a.remind(client.grant, now)
	return a.issuer.issue(id, client, now)
}

// tokenParameters merges query and body; no parameter may occur twice.
func tokenParameters(r *http.Request, body []byte) (url.Values, error) {
	p, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalidRequest("the query is malformed")
	}
	if p.Has("client_secret") {
		return nil, invalidRequest("client_secret must not be in the URL")
	}
	if len(body) > 0 {
		media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		form, err := url.ParseQuery(string(body))
		if media != "application/x-www-form-urlencoded" || err != nil {
			return nil, invalidRequest("the body is not a form")
		}
		for name, values := range form {
			p[name] = append(p[name], values...)
		}
	}
	for name, values := range p {
		if len(values) > 1 {
			return nil, invalidRequest("a parameter occurs twice")
		}
		if values[0] == "" {
			delete(p, name) // as if it were not there (RFC 6749, 3.2)
		}
	}
	return p, nil
}

// client finds out which client asks for a token.
func (i *issuer) client(r *http.Request, p url.Values) (id string, c *oauthClient, err error) {
	id, secret, basic := r.BasicAuth()
	switch {
	case !basic:
		id, secret = p.Get("client_id"), p.Get("client_secret")
	case p.Has("client_secret"):
		return "", nil, invalidRequest("the client's credentials are in two places")
	}
	if id == "" || secret == "" {
		return "", nil, &refusal{kind: "oauth client", why: "no credentials"}
	}
	c, err = i.match(id, secret)
	if err != nil && basic {
		// Client libraries encode both as in a form first (RFC 6749, 2.3.1),
		// people with curl do not.
		plainID, errID := url.QueryUnescape(id)
		plainSecret, errSecret := url.QueryUnescape(secret)
		if errID == nil && errSecret == nil && (plainID != id || plainSecret != secret) {
			id = plainID
			c, err = i.match(plainID, plainSecret)
		}
	}
	if named := p.Get("client_id"); err == nil && named != "" && named != id {
		return "", nil, invalidRequest("client_id is another one than in Authorization")
	}
	return id, c, err
}

func (i *issuer) match(id, secret string) (*oauthClient, error) {
	digest := sha256.Sum256([]byte(secret))
	var found *oauthClient
	clients := i.clients[id]
	for j := range clients {
		if subtle.ConstantTimeCompare(digest[:], clients[j].secret[:]) == 1 {
			found = &clients[j]
		}
	}
	switch {
	case found != nil:
		return found, nil
	case len(clients) == 0:
		return nil, &refusal{kind: "oauth client", claim: id, why: "unknown"}
	default:
		return nil, &refusal{kind: "oauth client", name: clients[0].grant.name(), claim: id, why: "wrong secret"}
	}
}
