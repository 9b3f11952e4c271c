package auth_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

// from gives a request another source.
func from(address string, r *http.Request) *http.Request {
	r.RemoteAddr = address + ":1"
	return r
}

// attempt says how an attempt ended: "in", "401", or "429".
func attempt(t *testing.T, a *auth.Authenticator, r *http.Request) string {
	t.Helper()
	_, err := a.Authenticate(r, nil)
	var throttled *auth.ThrottledError
	switch {
	case err == nil:
		return "in"
	case errors.As(err, &throttled):
		return "429"
	case errors.Is(err, auth.ErrUnauthenticated):
		return "401"
	}
	t.Fatal(err)
	return ""
}

// TestHashedPasswordLockOut: a user whose password this process has not seen
// yet gets in while others, elsewhere, never stop guessing it.
func TestHashedPasswordLockOut(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "acme", PasswordHash: bcryptOf(t, "secret", 4)}}),
		auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 3, Every: time.Second}})
	last := ""
	for i := range 50 {
		last = attempt(t, a, from(fmt.Sprintf("198.51.100.%d", i%5), basicAuth("acme", "guess")))
	}
	if last != "429" {
		t.Fatalf("the last guess: %s", last)
	}
	if got := attempt(t, a, from("192.0.2.1", basicAuth("acme", "secret"))); got != "in" {
		t.Errorf("the user from an address of its own: %s", got)
	}
}

// TestThrottleTellsNothing: whether a name exists does not show in when the
// throttle sets in, for any way in that sends a name (SX-AUTH-08).
func TestThrottleTellsNothing(t *testing.T) {
	credentials := customer(
		tenant.Credential{Name: "basic", Basic: &tenant.Basic{User: "acme", Password: "secret"}},
		tenant.Credential{Name: "hashed", Basic: &tenant.Basic{User: "hashed", PasswordHash: bcryptOf(t, "secret", 4)}},
		tenant.Credential{Name: "digest", Digest: &tenant.Digest{User: "acme", Password: "secret"}},
		tenant.Credential{Name: "sigv4", SigV4: &tenant.SigV4{AccessKeyID: "acme", SecretAccessKey: "0123456789abcdef", Regions: []string{"eu-west-1"}}},
		tenant.Credential{Name: "app", OAuthClient: &tenant.OAuthClient{ID: "acme", Secret: "secret"}},
	)
	guess := map[string]func(a *auth.Authenticator, name string) error{
		"basic": func(a *auth.Authenticator, name string) error {
			_, err := a.Authenticate(basicAuth(name, "guess"), nil)
			return err
		},
		"digest": func(a *auth.Authenticator, name string) error {
			client := &digestClient{user: name, password: "guess", algorithm: "MD5", qop: "auth", nonce: "n", count: 1}
			_, err := a.Authenticate(client.authorize(request("/"), ""), nil)
			return err
		},
		"sigv4": func(a *auth.Authenticator, name string) error {
			_, err := a.Authenticate(request("/", "Authorization: AWS4-HMAC-SHA256 Credential="+name+
				"/20260301/eu-west-1/execute-api/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64),
				"X-Amz-Date: 20260301T120000Z"), nil)
			return err
		},
		"oauth client": func(a *auth.Authenticator, name string) error {
			r, body := tokenRequest("", "grant_type=client_credentials", name, "guess")
			_, err := a.Token(r, body)
			return err
		},
	}
	for kind, try := range guess {
		for _, names := range [][]string{{"acme", "nobody"}, {"hashed", "nobody"}} {
			var seen []string
			for _, name := range names {
				a := newAuth(t, credentials, auth.Options{Now: newClock(noon).now, Throttle: auth.Throttle{Burst: 3, Every: time.Hour}})
				course := ""
				for range 6 {
					a.ForgetSources() // as if each came from elsewhere: only the name counts
					err := try(a, name)
					var throttled *auth.ThrottledError
					course += fmt.Sprint(errors.As(err, &throttled), " ")
				}
				seen = append(seen, course)
			}
			if seen[0] != seen[1] || !strings.HasSuffix(seen[0], "true ") {
				t.Errorf("%s: %s is answered %s, %s is answered %s", kind, names[0], seen[0], names[1], seen[1])
			}
		}
	}
}

// TestStaleBesideAnotherKey: a request whose nonce is too old is told so,
// whatever else it carries, and does not count as a guess.
func TestStaleBesideAnotherKey(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(
		tenant.Credential{Name: "key", APIKey: &tenant.APIKey{Key: "key"}},
		tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "secret"}},
	), auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1, Every: time.Hour}})
	nonce, _ := nonceOf(t, a, "MD5", auth.ErrUnauthenticated)
	c.advance(time.Hour)
	client := &digestClient{user: "encoder", password: "secret", algorithm: "MD5", qop: "auth", nonce: nonce, count: 1}
	for range 3 {
		r := client.authorize(request("/", "x-api-key: of the proxy on the way"), "")
		_, err := a.Authenticate(r, nil)
		if _, stale := nonceOf(t, a, "MD5", err); !stale {
			t.Errorf("told %v", err)
		}
	}
}

// TestRemote: records have the client's address behind trusted proxies, and
// nobody else's word for it.
func TestRemote(t *testing.T) {
	a := newAuth(t, nil, auth.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	for _, c := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:1234", "", "192.0.2.1:1234"},
		{"192.0.2.1:1234", "203.0.113.9", "192.0.2.1:1234"},
		{"10.1.1.1:1234", "", "10.1.1.1:1234"},
		{"10.1.1.1:1234", "203.0.113.9", "203.0.113.9"},
		{"10.1.1.1:1234", "6.6.6.6, 203.0.113.9, 10.2.2.2", "203.0.113.9"},
		{"10.1.1.1:1234", "203.0.113.9:5678", "203.0.113.9"},
		{"10.1.1.1:1234", "[2001:db8::9]:5678", "2001:db8::9"},
		{"[::1]:1234", "::ffff:203.0.113.9", "203.0.113.9"},
		{"10.1.1.1:1234", "203.0.113.9, unknown", "10.1.1.1:1234"},
		{"10.1.1.1:1234", "10.3.3.3", "10.3.3.3"},
		{"@", "203.0.113.9", "@"}, // a socket of the machine
	} {
		r := request("/", "X-Forwarded-For: "+c.forwarded)
		r.RemoteAddr = c.peer
		if got := a.Remote(r); got != c.want {
			t.Errorf("%s for %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

// TestChangedSecretEndsTokens: a client whose secret is another one now has to
// ask for tokens again, also where only the secret was changed.
func TestChangedSecretEndsTokens(t *testing.T) {
	o := auth.Options{Now: newClock(noon).now}
	client := func(secret tenant.Secret) []tenant.Settings {
		return customer(tenant.Credential{Name: "app", OAuthClient: &tenant.OAuthClient{ID: "app", Secret: secret}})
	}
	a := newAuth(t, client("leaked"), o)
	token := issue(t, a, "app", "leaked")
	opens(t, a, bearerRequest(token), "app")
	refuses(t, succeed(t, a, client("new"), o), bearerRequest(token))
	opens(t, succeed(t, a, client("leaked"), o), bearerRequest(token), "app")
}
