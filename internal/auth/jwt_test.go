package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

// idp is an issuer of tokens that tests turn on and off.
type idp struct {
	*httptest.Server
	mu      sync.Mutex
	keys    []any // public keys as they are in the set
	status  int
	fetches int
}

func newIDP(t *testing.T) *idp {
	i := &idp{status: http.StatusOK}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetches++
		if i.status != http.StatusOK {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(i.status)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": i.keys})
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *idp) set(status int, keys ...any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.status, i.keys = status, keys
}

func (i *idp) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *idp) trust(name string, claims map[string]string) tenant.Credential {
	return tenant.Credential{Name: name, JWT: &tenant.JWT{Issuer: "https://idp.example.com/", JWKS: i.URL + "/keys", Audience: "keys", Claims: claims}}
}

// signKey signs tokens of the issuer.
type signKey struct {
	kid string
	alg jose.SignatureAlgorithm
	key any
}

func (k signKey) public() any {
	j := jose.JSONWebKey{Key: k.key, KeyID: k.kid, Algorithm: string(k.alg), Use: "sig"}
	return j.Public()
}

func (k signKey) token(t *testing.T, edit map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": "https://idp.example.com/", "aud": []string{"other", "keys"}, "sub": "encoder",
		"exp": noon.Add(time.Hour).Unix(), "iat": noon.Unix(), "tid": "acme", "roles": []string{"packager", "viewer"},
	}
	for name, v := range edit {
		if claims[name] = v; v == nil {
			delete(claims, name)
		}
	}
	o := &jose.SignerOptions{}
	if k.kid != "" {
		o = o.WithHeader("kid", k.kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: k.alg, Key: k.key}, o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func rsaKey(t *testing.T, kid string, bits int) signKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return signKey{kid, jose.RS256, k}
}

func ecKey(t *testing.T, kid string) signKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signKey{kid, jose.ES256, k}
}

func TestExternalIssuer(t *testing.T) {
	c := newClock(noon)
	i := newIDP(t)
	r, e, alien := rsaKey(t, "r", 2048), ecKey(t, "e"), ecKey(t, "e")
	i.set(http.StatusOK, map[string]any{"kty": "new kind"}, "no key", map[string]any{"kty": "oct", "k": "AAAA", "kid": "s"}, r.public(), e.public())
	customers := []tenant.Settings{
		{ID: "acme", Credentials: []tenant.Credential{i.trust("idp", map[string]string{"tid": "acme", "roles": "packager"})}},
		{ID: "other", Credentials: []tenant.Credential{i.trust("idp", map[string]string{"tid": "other"})}},
		{ID: "both", Credentials: []tenant.Credential{i.trust("idp", map[string]string{"roles": "both"})}},
	}
	a := newAuth(t, customers, auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1000}})
	opens(t, a, bearerRequest(r.token(t, nil)), "idp")
	opens(t, a, bearerRequest(e.token(t, nil)), "idp")
	opens(t, a, bearerRequest(e.token(t, map[string]any{"aud": "keys"})), "idp")
	if who, err := a.Authenticate(bearerRequest(e.token(t, map[string]any{"tid": "other"})), nil); err != nil || who.Tenant != "other" {
		t.Errorf("the other tenant's: %v, %v", who, err)
	}
	anonymous := e
	anonymous.kid = ""
	opens(t, a, bearerRequest(anonymous.token(t, nil)), "idp")
	ps := r
	ps.alg = jose.PS256 // the set says RS256
	for name, token := range map[string]string{
		"another key":          alien.token(t, nil),
		"another algorithm":    ps.token(t, nil),
		"unknown kid":          ecKey(t, "x").token(t, nil),
		"a shared secret":      signKey{"s", jose.HS256, []byte("0123456789abcdef0123456789abcdef")}.token(t, nil),
		"another issuer":       e.token(t, map[string]any{"iss": "https://idp.example.com"}),
		"another audience":     e.token(t, map[string]any{"aud": "other"}),
		"no audience":          e.token(t, map[string]any{"aud": nil}),
		"no end":               e.token(t, map[string]any{"exp": nil}),
		"expired":              e.token(t, map[string]any{"exp": noon.Add(-time.Minute).Unix()}),
		"not valid yet":        e.token(t, map[string]any{"nbf": noon.Add(time.Minute).Unix()}),
		"no tenant":            e.token(t, map[string]any{"tid": nil}),
		"an unknown tenant":    e.token(t, map[string]any{"tid": "nobody"}),
		"another role":         e.token(t, map[string]any{"roles": []string{"viewer"}}),
		"a role of no text":    e.token(t, map[string]any{"roles": 7}),
		"two tenants' claims":  e.token(t, map[string]any{"roles": []string{"packager", "both"}}),
		"claims of wrong type": e.token(t, map[string]any{"exp": "soon"}),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, a, bearerRequest(token)) })
	}
}

// TestExternalIssuerKeys: keys are fetched when needed, not for every token
// that names an unknown one, and their loss is not the client's fault.
func TestExternalIssuerKeys(t *testing.T) {
	c := newClock(noon)
	i := newIDP(t)
	old, next := ecKey(t, "old"), ecKey(t, "next")
	i.set(http.StatusServiceUnavailable)
	a := newAuth(t, customer(i.trust("idp", nil)), auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1000}})
	unavailable := func(token string) {
		t.Helper()
		if who, err := a.Authenticate(bearerRequest(token), nil); who != nil || !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("got %v, %v, want unavailable", who, err)
		}
	}
	fetched := func(want int) {
		t.Helper()
		if got := i.count(); got != want {
			t.Errorf("%d fetches, want %d", got, want)
		}
	}
	fetched(0) // nothing at the start
	unavailable(old.token(t, nil))
	unavailable(old.token(t, nil))
	fetched(1)
	i.set(http.StatusOK, old.public())
	c.advance(31 * time.Second)
	for n := range 5 {
		opens(t, a, bearerRequest(old.token(t, map[string]any{"jti": strings.Repeat("x", n)})), "idp")
	}
	fetched(2)

	// Rotation: a token with a new key brings the new key.
	i.set(http.StatusOK, old.public(), next.public())
	refuses(t, a, bearerRequest(next.token(t, nil))) // within the pause
	fetched(2)
	c.advance(31 * time.Second)
	opens(t, a, bearerRequest(next.token(t, nil)), "idp")
	fetched(3)
	for range 10 {
		refuses(t, a, bearerRequest(ecKey(t, "unknown").token(t, nil)))
	}
	fetched(3)

	// The issuer is away: what was fetched serves for a day.
	i.set(http.StatusFound)
	far := map[string]any{"exp": noon.Add(100 * time.Hour).Unix()}
	c.advance(12 * time.Hour)
	opens(t, a, bearerRequest(next.token(t, far)), "idp")
	c.advance(13 * time.Hour)
	unavailable(next.token(t, far))

	// Withdrawn keys are gone after the next fetch.
	i.set(http.StatusOK, next.public())
	c.advance(time.Minute)
	opens(t, a, bearerRequest(next.token(t, far)), "idp")
	c.advance(time.Minute)
	refuses(t, a, bearerRequest(old.token(t, far)))
}

// TestExternalIssuerLimits: an answer that is too large, has too many keys or
// is no set, or keys that are too weak.
func TestExternalIssuerLimits(t *testing.T) {
	good := ecKey(t, "e")
	many := make([]any, 101)
	for n := range many {
		many[n] = good.public()
	}
	for name, keys := range map[string][]any{"too large": {good.public(), strings.Repeat("x", 300<<10)}, "too many": many} {
		t.Run(name, func(t *testing.T) {
			i := newIDP(t)
			i.set(http.StatusOK, keys...)
			a := newAuth(t, customer(i.trust("idp", nil)), auth.Options{Now: newClock(noon).now})
			if _, err := a.Authenticate(bearerRequest(good.token(t, nil)), nil); !errors.Is(err, auth.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("weak", func(t *testing.T) {
		t.Setenv("GODEBUG", "rsa1024min=0")
		weak := rsaKey(t, "w", 1024)
		i := newIDP(t)
		i.set(http.StatusOK, weak.public())
		refuses(t, newAuth(t, customer(i.trust("idp", nil)), auth.Options{Now: newClock(noon).now}), bearerRequest(weak.token(t, nil)))
	})
}

// TestExternalIssuerConfusion: settings that leave open whose a token is.
func TestExternalIssuerConfusion(t *testing.T) {
	i := newIDP(t)
	claims := map[string]string{"tid": "x"}
	if _, err := auth.New([]tenant.Settings{
		{ID: "acme", Credentials: []tenant.Credential{i.trust("idp", claims)}},
		{ID: "other", Credentials: []tenant.Credential{i.trust("idp", claims)}},
	}, auth.Options{}); err == nil {
		t.Error("two tenants trust the same tokens")
	}
	own := i.trust("idp", nil)
	own.JWT.Issuer = "spekeasy"
	if _, err := auth.New(customer(own), auth.Options{}); err == nil {
		t.Error("an external issuer has our own name")
	}
}
