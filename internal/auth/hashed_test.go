package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

func bcryptOf(t testing.TB, password string, cost int) tenant.Secret {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return tenant.Secret(h)
}

func TestHashedPassword(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(
		tenant.Credential{Name: "bcrypt", Basic: &tenant.Basic{User: "acme", PasswordHash: bcryptOf(t, "first", 4)}},
		tenant.Credential{Name: "argon2", Expires: at(noon.Add(time.Hour)), Basic: &tenant.Basic{
			User: "acme", PasswordHash: "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"}},
		tenant.Credential{Name: "plain", Basic: &tenant.Basic{User: "acme", Password: "third"}},
	), auth.Options{Now: c.now})
	for range 2 { // checked, then remembered
		opens(t, a, basicAuth("acme", "first"), "bcrypt")
		opens(t, a, basicAuth("acme", "password"), "argon2")
		opens(t, a, basicAuth("acme", "third"), "plain")
		refuses(t, a, basicAuth("acme", "fourth"))
		refuses(t, a, basicAuth("other", "first"))
	}
	c.advance(time.Hour)
	refuses(t, a, basicAuth("acme", "password"))
}

// TestHashedPasswordGuessing: guesses are checked as fast as the throttle
// allows and no faster, and whoever got in before does not notice.
func TestHashedPasswordGuessing(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(
		tenant.Credential{Name: "known", Basic: &tenant.Basic{User: "acme", PasswordHash: bcryptOf(t, "known", 4)}},
		tenant.Credential{Name: "fresh", Basic: &tenant.Basic{User: "beta", PasswordHash: bcryptOf(t, "fresh", 4)}},
	), auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 5, Every: time.Second}})
	opens(t, a, basicAuth("acme", "known"), "known")
	throttled := func(r *http.Request) bool {
		t.Helper()
		_, err := a.Authenticate(r, nil)
		if !errors.Is(err, auth.ErrUnauthenticated) {
			t.Fatalf("got %v", err)
		}
		var e *auth.ThrottledError
		return errors.As(err, &e)
	}
	for i := range 5 {
		if throttled(basicAuth("acme", fmt.Sprint(i))) {
			t.Errorf("guess %d is throttled", i)
		}
	}
	if !throttled(basicAuth("acme", "guess")) || !throttled(basicAuth("nobody", "guess")) {
		t.Error("the next guess is not throttled")
	}
	opens(t, a, basicAuth("acme", "known"), "known")
	if !throttled(basicAuth("beta", "fresh")) {
		t.Error("a password is checked against its hash for a source that may not fail")
	}
	elsewhere := basicAuth("beta", "fresh")
	elsewhere.RemoteAddr = "198.51.100.7:1"
	opens(t, a, elsewhere, "fresh")
	opens(t, a, basicAuth("beta", "fresh"), "fresh") // known now, from everywhere
}

// TestHashedPasswordCrowd: many encryptors that come at once with a password
// that nobody has seen yet are let in; a flood of guesses does not pile up.
func TestHashedPasswordCrowd(t *testing.T) {
	a := newAuth(t, customer(tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "acme", PasswordHash: bcryptOf(t, "secret", 6)}}),
		auth.Options{Throttle: auth.Throttle{Burst: 1 << 20}})
	var crowd sync.WaitGroup
	for range 64 {
		crowd.Go(func() {
			if _, err := a.Authenticate(basicAuth("acme", "secret"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	crowd.Wait()

	var mu sync.Mutex
	turnedAway := 0
	for i := range 200 {
		crowd.Go(func() {
			_, err := a.Authenticate(basicAuth("acme", fmt.Sprint(i)), nil)
			mu.Lock()
			defer mu.Unlock()
			if e := (*auth.ThrottledError)(nil); errors.As(err, &e) {
				turnedAway++
			}
		})
	}
	crowd.Wait()
	if turnedAway == 0 {
		t.Error("200 guesses at once all waited")
	}
}

// TestHashedPasswordGone: a client that went away while it waited is no
// failed attempt.
func TestHashedPasswordGone(t *testing.T) {
	a := newAuth(t, customer(tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "acme", PasswordHash: bcryptOf(t, "secret", 7)}}), auth.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sawGone := false
	var busy sync.WaitGroup
	for range 20 {
		busy.Go(func() { a.Authenticate(basicAuth("acme", "guess"), nil) })
	}
	for range 50 {
		if _, err := a.Authenticate(basicAuth("acme", "guess").WithContext(ctx), nil); errors.Is(err, context.Canceled) {
			sawGone = true
		}
	}
	busy.Wait()
	if !sawGone {
		t.Error("nobody who went away was noticed")
	}
}

func BenchmarkHashedPassword(b *testing.B) {
	a := newAuth(b, customer(tenant.Credential{Name: "c", Basic: &tenant.Basic{User: "acme", PasswordHash: bcryptOf(b, "a-password-of-some-length", 10)}}), auth.Options{})
	benchmark(b, a, basicAuth("acme", "a-password-of-some-length"))
}
