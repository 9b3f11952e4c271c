package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

const (
	clientID     = "app client/1"
	clientSecret = "s3cret+with %41 & more"
)

func oauthClients() []tenant.Settings {
	return customer(
		tenant.Credential{Name: "app", OAuthClient: &tenant.OAuthClient{ID: clientID, Secret: clientSecret}},
		tenant.Credential{Name: "next", OAuthClient: &tenant.OAuthClient{ID: clientID, SHA256: sha256Hex("next secret")}}, // rotation
		tenant.Credential{Name: "short", Expires: at(noon.Add(time.Minute)), OAuthClient: &tenant.OAuthClient{ID: "short", Secret: "short secret"}},
	)
}

// tokenRequest asks for a token; body "" leaves everything to the query.
func tokenRequest(query, body, user, password string) (*http.Request, []byte) {
	r := request("/oauth/token" + query)
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	return r, []byte(body)
}

func bearerRequest(token string) *http.Request { return request("/", "Authorization: Bearer "+token) }

// TestTokenEndpoint asks for a token in every way that is allowed.
func TestTokenEndpoint(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, oauthClients(), auth.Options{Now: c.now})
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {clientSecret}, "scope": {"speke"}}
	for name, ask := range map[string]func() (*http.Request, []byte){
		"query and Basic, as Insys": func() (*http.Request, []byte) {
			return tokenRequest("?grant_type=client_credentials&scope=kms", "", clientID, clientSecret)
		},
		"body and Basic": func() (*http.Request, []byte) {
			return tokenRequest("", "grant_type=client_credentials", clientID, clientSecret)
		},
		"encoded Basic, as RFC 6749": func() (*http.Request, []byte) {
			return tokenRequest("", "grant_type=client_credentials", url.QueryEscape(clientID), url.QueryEscape(clientSecret))
		},
		"body alone": func() (*http.Request, []byte) { return tokenRequest("", form.Encode(), "", "") },
		"client_id too": func() (*http.Request, []byte) {
			return tokenRequest("?client_id="+url.QueryEscape(clientID), "grant_type=client_credentials", clientID, clientSecret)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, body := ask()
			token, err := a.Token(r, body)
			if err != nil {
				t.Fatal(err)
			}
			if token.TokenType != "Bearer" || token.ExpiresIn != 600 {
				t.Errorf("type %s, %d s", token.TokenType, token.ExpiresIn)
			}
			opens(t, a, bearerRequest(token.AccessToken), "app")
			opens(t, a, request("/", "Authorization: bearer  "+token.AccessToken), "app")
		})
	}
	r, body := tokenRequest("", "grant_type=client_credentials", clientID, "next secret")
	token, err := a.Token(r, body)
	if err != nil {
		t.Fatal(err)
	}
	opens(t, a, bearerRequest(token.AccessToken), "next")
}

func TestTokenFaults(t *testing.T) {
	a := newAuth(t, oauthClients(), auth.Options{Now: newClock(noon.Add(time.Hour)).now, Throttle: auth.Throttle{Burst: 100}})
	good := "grant_type=client_credentials"
	for name, c := range map[string]struct {
		query, body, user, password string
		code                        string
	}{
		"no credentials":            {"", good, "", "", "invalid_client"},
		"wrong secret":              {"", good, clientID, "hunter2", "invalid_client"},
		"wrong secret in the body":  {"", good + "&client_id=short&client_secret=x", "", "", "invalid_client"},
		"unknown client":            {"", good, "nobody", clientSecret, "invalid_client"},
		"no secret":                 {"", good, clientID, "", "invalid_client"},
		"expired":                   {"", good, "short", "short secret", "invalid_client"},
		"the digest as a secret":    {"", good, clientID, string(sha256Hex("next secret")), "invalid_client"},
		"no grant type":             {"", "", clientID, clientSecret, "invalid_request"},
		"empty grant type":          {"?grant_type=", "", clientID, clientSecret, "invalid_request"},
		"another grant":             {"", "grant_type=password", clientID, clientSecret, "unsupported_grant_type"},
		"parameter twice":           {"?" + good, good, clientID, clientSecret, "invalid_request"},
		"secret in the URL":         {"?" + good + "&client_id=short&client_secret=short+secret", "", "", "", "invalid_request"},
		"credentials in two places": {"", good + "&client_secret=x", clientID, clientSecret, "invalid_request"},
		"another client_id":         {"?client_id=short", good, clientID, clientSecret, "invalid_request"},
		"malformed query":           {"?%zz", good, clientID, clientSecret, "invalid_request"},
		"malformed body":            {"", "%zz", clientID, clientSecret, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			r, body := tokenRequest(c.query, c.body, c.user, c.password)
			token, err := a.Token(r, body)
			var refused *auth.TokenError
			if token != nil || !errors.As(err, &refused) || refused.Code != c.code {
				t.Fatalf("got %v, %v, want %s", token, err, c.code)
			}
			want := http.StatusBadRequest
			if c.code == "invalid_client" {
				want = http.StatusUnauthorized
			}
			if refused.Status != want {
				t.Errorf("status %d", refused.Status)
			}
			text, _ := json.Marshal(refused)
			for _, secret := range []string{"hunter2", clientSecret} {
				if strings.Contains(string(text)+err.Error(), secret) {
					t.Errorf("it tells the secret: %s %v", text, err)
				}
			}
		})
	}
	r, body := tokenRequest("", good, clientID, clientSecret)
	r.Header.Set("Content-Type", "application/json")
	if _, err := a.Token(r, body); err == nil {
		t.Error("a body that is no form is read")
	}
}

func TestTokenThrottle(t *testing.T) {
	a := newAuth(t, oauthClients(), auth.Options{Throttle: auth.Throttle{Burst: 2, Every: time.Hour}})
	for i := range 3 {
		r, body := tokenRequest("", "grant_type=client_credentials", clientID, "guess")
		_, err := a.Token(r, body)
		if e := (*auth.ThrottledError)(nil); errors.As(err, &e) != (i == 2) {
			t.Errorf("guess %d: %v", i, err)
		}
	}
	r, body := tokenRequest("", "grant_type=client_credentials", clientID, clientSecret)
	if _, err := a.Token(r, body); err != nil {
		t.Errorf("the secret while others guess it: %v", err)
	}
}

func issue(t testing.TB, a *auth.Authenticator, id, secret string) string {
	t.Helper()
	r, body := tokenRequest("", "grant_type=client_credentials", id, secret)
	token, err := a.Token(r, body)
	if err != nil {
		t.Fatal(err)
	}
	return token.AccessToken
}

// TestTokenEnds: with its lifetime, with its credential, with its key.
func TestTokenEnds(t *testing.T) {
	c := newClock(noon)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := auth.Options{Now: c.now, OAuth: auth.OAuth{Key: key, Lifetime: 20 * time.Minute}}
	a := newAuth(t, oauthClients(), o)
	long, short := issue(t, a, clientID, clientSecret), issue(t, a, "short", "short secret")

	opens(t, newAuth(t, oauthClients(), o), bearerRequest(long), "app") // another server, or the next process, with the same key
	refuses(t, newAuth(t, oauthClients(), auth.Options{Now: c.now}), bearerRequest(long))
	refuses(t, newAuth(t, oauthClients()[:0], o), bearerRequest(long))
	withdrawn := customer(tenant.Credential{Name: "next", OAuthClient: &tenant.OAuthClient{ID: clientID, Secret: "next secret"}})
	refuses(t, newAuth(t, withdrawn, o), bearerRequest(long))
	elsewhere := oauthClients()
	elsewhere[0].ID = "other"
	refuses(t, newAuth(t, elsewhere, o), bearerRequest(long))
	o.OAuth.Issuer = "https://other.example.com"
	refuses(t, newAuth(t, oauthClients(), o), bearerRequest(long))

	c.advance(59 * time.Second)
	opens(t, a, bearerRequest(short), "short")
	c.advance(time.Second) // sharp: the credential ends here, whatever the token says
	refuses(t, a, bearerRequest(short))
	c.advance(19 * time.Minute)
	opens(t, a, bearerRequest(long), "app")
	c.advance(time.Minute) // more than what clocks may differ
	refuses(t, a, bearerRequest(long))
}

// TestTokenForged: tokens that are nearly ours.
func TestTokenForged(t *testing.T) {
	c := newClock(noon)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuth(t, oauthClients(), auth.Options{Now: c.now, OAuth: auth.OAuth{Key: key}, Throttle: auth.Throttle{Burst: 1000}})
	good := issue(t, a, clientID, clientSecret)
	part := strings.Split(good, ".")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(a.JWKS(), &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%s: %v", a.JWKS(), err)
	}
	parsed, err := jwt.ParseSigned(good, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := parsed.Claims(set, &all); err != nil { // as anybody would verify it
		t.Fatal(err)
	}
	kid := set.Keys[0].KeyID
	sign := func(k any, alg jose.SignatureAlgorithm, kid, typ string, edit func(map[string]any)) string {
		claims := make(map[string]any)
		for k, v := range all {
			claims[k] = v
		}
		if edit != nil {
			edit(claims)
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: k}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", kid))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(s).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	_, alien, _ := ed25519.GenerateKey(rand.Reader)
	header := func(h string) string { return base64.RawURLEncoding.EncodeToString([]byte(h)) }
	public := []byte(key.Public().(ed25519.PublicKey))
	for name, token := range map[string]string{
		"nothing":              "",
		"no JWT":               "x.y.z",
		"too long":             strings.Repeat("a", 10000),
		"signature cut":        good[:len(good)-4],
		"claims changed":       part[0] + "." + header(`{"iss":"spekeasy","aud":"spekeasy","exp":9999999999}`) + "." + part[2],
		"no algorithm":         header(`{"alg":"none","typ":"at+jwt"}`) + "." + part[1] + ".",
		"public key as HMAC":   sign(public, jose.HS256, kid, "at+jwt", nil),
		"another key":          sign(alien, jose.EdDSA, kid, "at+jwt", nil),
		"another kid":          sign(key, jose.EdDSA, "x", "at+jwt", nil),
		"another type":         sign(key, jose.EdDSA, kid, "JWT", nil),
		"no end":               sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { delete(c, "exp") }),
		"another audience":     sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { c["aud"] = "x" }),
		"no audience":          sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { delete(c, "aud") }),
		"another issuer":       sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { c["iss"] = "x" }),
		"another tenant":       sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { c["tenant"] = "other" }),
		"another credential":   sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { c["credential"] = "short" }),
		"not valid yet":        sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { c["nbf"] = noon.Add(time.Minute).Unix() }),
		"issued in the future": sign(key, jose.EdDSA, kid, "at+jwt", func(c map[string]any) { c["iat"] = noon.Add(time.Minute).Unix() }),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, a, bearerRequest(token)) })
	}
	opens(t, a, bearerRequest(sign(key, jose.EdDSA, kid, "at+jwt", nil)), "app")
}

// TestSigningKeys: Ed25519 and P-256 sign, others are refused at the start.
func TestSigningKeys(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	a := newAuth(t, oauthClients(), auth.Options{OAuth: auth.OAuth{Key: p256}})
	opens(t, a, bearerRequest(issue(t, a, clientID, clientSecret)), "app")
	for _, key := range []crypto.Signer{p384, rsa2048} {
		if _, err := auth.New(oauthClients(), auth.Options{OAuth: auth.OAuth{Key: key}}); err == nil {
			t.Errorf("%T is taken", key)
		}
	}
}

func FuzzBearer(f *testing.F) {
	a := newAuth(f, oauthClients(), auth.Options{})
	other := newAuth(f, oauthClients(), auth.Options{})
	f.Add(issue(f, other, clientID, clientSecret))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		r := request("/")
		r.Header["Authorization"] = []string{"Bearer " + token}
		if who, err := a.Authenticate(r, nil); err == nil {
			t.Errorf("%q opens %v", token, who)
		}
	})
}

func FuzzTokenRequest(f *testing.F) {
	a := newAuth(f, oauthClients(), auth.Options{})
	f.Add("grant_type=client_credentials", "client_id=a&client_secret=b", "Basic YTpi")
	f.Add("%", "=&=", "Basic JTQxOiU=")
	f.Fuzz(func(t *testing.T, query, body, header string) {
		r := request("/oauth/token")
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{header}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if token, err := a.Token(r, []byte(body)); err == nil {
			t.Errorf("%q %q %q gets %v", query, body, header, token)
		}
	})
}

func BenchmarkBearer(b *testing.B) {
	a := newAuth(b, oauthClients(), auth.Options{})
	benchmark(b, a, bearerRequest(issue(b, a, clientID, clientSecret)))
}
