package auth_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

// succeed returns an authenticator for other credentials in the place of a.
func succeed(t *testing.T, a *auth.Authenticator, customers []tenant.Settings, o auth.Options) *auth.Authenticator {
	t.Helper()
	o.Former = a
	return newAuth(t, customers, o)
}

// TestFormerNonces: a change of credentials makes no nonce good twice, and
// none stale that a client is using.
func TestFormerNonces(t *testing.T) {
	credential := tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "secret"}}
	other := tenant.Credential{Name: "other", Digest: &tenant.Digest{User: "other", Password: "secret"}}
	for name, key := range map[string][]byte{"own key": nil, "shared key": []byte("0123456789abcdef")} {
		t.Run(name, func(t *testing.T) {
			c := newClock(noon)
			o := auth.Options{Now: c.now, Digest: auth.Digest{Key: key}}
			a := newAuth(t, customer(credential), o)
			nonce, _ := nonceOf(t, a, "MD5", auth.ErrUnauthenticated)
			client := &digestClient{user: "encoder", password: "secret", algorithm: "MD5", qop: "auth", nonce: nonce, count: 1}
			sent := client.authorize(request("/"), "").Header.Get("Authorization")
			replay := func() *http.Request { return request("/", "Authorization: "+sent) }
			opens(t, a, replay(), "c")

			b := succeed(t, a, customer(credential, other), o)
			refuses(t, b, replay())
			client.count = 2
			opens(t, b, client.authorize(request("/"), ""), "c")

			gone := succeed(t, b, customer(other), o)
			client.count = 3
			refuses(t, gone, client.authorize(request("/"), ""))

			o.Digest.Lifetime = time.Hour
			longer := succeed(t, b, customer(credential), o)
			refuses(t, longer, replay())
			client.count = 1
			c.advance(time.Second)
			client.nonce, _ = nonceOf(t, longer, "MD5", auth.ErrUnauthenticated)
			opens(t, longer, client.authorize(request("/"), ""), "c")
		})
	}
}

// TestFormerFailures: a change of credentials gives nobody more guesses.
func TestFormerFailures(t *testing.T) {
	o := auth.Options{Now: newClock(noon).now, Throttle: auth.Throttle{Burst: 2, Every: time.Hour}}
	a := newAuth(t, customer(tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "acme", Password: "secret"}}), o)
	refuses(t, a, basicAuth("acme", "one"))
	refuses(t, a, basicAuth("acme", "two"))
	b := succeed(t, a, customer(tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "acme", Password: "new secret"}}), o)
	if got := attempt(t, b, basicAuth("acme", "secret")); got != "429" {
		t.Errorf("the third wrong password: %s", got)
	}
	opens(t, b, basicAuth("acme", "new secret"), "c")
}

// TestFormerPasswords: a password that was checked against its hash need not
// be checked again, unless the hash is another or gone. That it is not checked
// shows where the throttle would not let it be.
func TestFormerPasswords(t *testing.T) {
	o := auth.Options{Now: newClock(noon).now, Throttle: auth.Throttle{Burst: 1, Every: time.Hour}}
	one, two := bcryptOf(t, "one", 4), bcryptOf(t, "two", 4)
	hashed := func(name string, hash tenant.Secret) tenant.Credential {
		return tenant.Credential{Name: name, Basic: &tenant.Basic{User: "acme", PasswordHash: hash}}
	}
	a := newAuth(t, customer(hashed("c", one), hashed("gone", two)), o)
	opens(t, a, basicAuth("acme", "one"), "c")
	opens(t, a, basicAuth("acme", "two"), "gone")
	refuses(t, a, basicAuth("acme", "guess")) // from now on none is checked

	b := succeed(t, a, customer(hashed("renamed", one), hashed("new", bcryptOf(t, "three", 4))), o)
	opens(t, b, basicAuth("acme", "one"), "renamed")
	refuses(t, b, basicAuth("acme", "two"))
	if got := attempt(t, b, basicAuth("acme", "three")); got != "429" {
		t.Errorf("a password that was never checked: %s", got)
	}
	elsewhere := []tenant.Settings{{ID: "beta", Credentials: []tenant.Credential{hashed("c", one)}}}
	who, err := succeed(t, b, elsewhere, o).Authenticate(basicAuth("acme", "one"), nil)
	if err != nil || who.Tenant != "beta" {
		t.Errorf("the credential of another tenant now opens %+v, %v", who, err)
	}
}

// TestFormerTokens: tokens stay good as long as their credential is there.
func TestFormerTokens(t *testing.T) {
	o := auth.Options{Now: newClock(noon).now}
	a := newAuth(t, oauthClients(), o)
	token := issue(t, a, clientID, clientSecret)
	opens(t, a, bearerRequest(token), "app")
	b := succeed(t, succeed(t, a, nil, o), oauthClients(), o) // none meanwhile
	opens(t, b, bearerRequest(token), "app")
	if string(a.JWKS()) != string(b.JWKS()) {
		t.Error("another key is published")
	}
	refuses(t, succeed(t, b, oauthClients()[:0], o), bearerRequest(token))
	others := oauthClients()
	others[0].Credentials = others[0].Credentials[1:]
	refuses(t, succeed(t, b, others, o), bearerRequest(token))
}

// TestFormerIssuer: the keys of another issuer need not be fetched again,
// which matters when it is away.
func TestFormerIssuer(t *testing.T) {
	c := newClock(noon)
	i, key := newIDP(t), ecKey(t, "e")
	i.set(http.StatusOK, key.public())
	o := auth.Options{Now: c.now}
	a := newAuth(t, customer(i.trust("idp", nil)), o)
	opens(t, a, bearerRequest(key.token(t, nil)), "idp")
	i.set(http.StatusServiceUnavailable)
	b := succeed(t, a, customer(i.trust("idp", map[string]string{"tid": "acme"})), o)
	opens(t, b, bearerRequest(key.token(t, nil)), "idp")
	if _, err := newAuth(t, customer(i.trust("idp", nil)), o).Authenticate(bearerRequest(key.token(t, nil)), nil); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("without a former authenticator: %v", err)
	}
	if i.count() != 2 {
		t.Errorf("%d fetches", i.count())
	}
}
