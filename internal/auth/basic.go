package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
)

// BasicCredential is a user name and password. A user may have several, so
// that a password can be changed while the old one still works.
type BasicCredential struct {
	Name     string // for records
	Tenant   string
	User     string
	Password string
}

// Basic is HTTP Basic authentication (RFC 7617): a tenant ID with its
// management key, or any user name with its password.
type Basic struct {
	key   [sha256.Size]byte // of this process, so that what is kept in memory opens nothing elsewhere
	users map[string][]basicEntry
}

type basicEntry struct {
	principal Principal
	digest    [sha256.Size]byte
}

// NewBasic returns the method for a list of credentials. An empty user name
// or password is an error.
func NewBasic(credentials []BasicCredential) (*Basic, error) {
	b := &Basic{users: make(map[string][]basicEntry)}
	rand.Read(b.key[:])
	for _, c := range credentials {
		if c.User == "" || c.Password == "" {
			return nil, fmt.Errorf("basic credential %q: user and password must not be empty", c.Name)
		}
		b.users[c.User] = append(b.users[c.User], basicEntry{
			principal: Principal{Tenant: c.Tenant, Credential: c.Name},
			digest:    b.digest(c.Password),
		})
	}
	return b, nil
}

// digest hides a password under the key. It is no MAC, and need not be one:
// nobody who chooses passwords gets to see a digest.
func (b *Basic) digest(password string) [sha256.Size]byte {
	var scratch [128]byte
	return sha256.Sum256(append(append(scratch[:0], b.key[:]...), password...))
}

func (b *Basic) authenticate(r *http.Request, _ []byte) (*Principal, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil, errAbsent
	}
	// Both sides are digests of one length, and an unknown user costs the same
	// digest, so that the time of an answer tells nothing.
	digest := b.digest(password)
	var found *Principal
	for i := range b.users[user] {
		if e := &b.users[user][i]; subtle.ConstantTimeCompare(digest[:], e.digest[:]) == 1 {
			found = &e.principal
		}
	}
	if found == nil {
		return nil, fmt.Errorf("basic user %q: %w", user, ErrUnauthenticated)
	}
	return found, nil
}

func (b *Basic) challenge() string { return `Basic realm="spekeasy", charset="UTF-8"` }
