package auth

import (
	"crypto/subtle"
	"fmt"
	"net/http"

	"spekeasy/internal/password"
	"spekeasy/internal/tenant"
)

// basic is HTTP Basic authentication (RFC 7617, SX-AUTH-06): a tenant ID with
// its management key, or any user name with its password. A user may have
// several passwords, so that one can be changed while the other still works.
type basic struct {
	keyed
	users  map[string][]basicEntry
	hashed *hashed
}

// basicEntry has a MAC of the password, or else its hash.
type basicEntry struct {
	grant *grant
	mac   sum
	hash  *password.Hash
	text  string // of the hash
}

func newBasic(hashed *hashed) *basic {
	return &basic{keyed: newKeyed(), users: make(map[string][]basicEntry), hashed: hashed}
}

func (*basic) takes(c *tenant.Credential) bool { return c.Basic != nil }

func (b *basic) empty() bool { return len(b.users) == 0 }

func (b *basic) add(g *grant, c *tenant.Credential) error {
	user := c.Basic.User
	for _, e := range b.users[user] {
		if e.grant.Tenant != g.Tenant {
			return fmt.Errorf("basic: user %q belongs to tenant %s", user, e.grant.Tenant)
		}
	}
	e := basicEntry{grant: g}
	if c.Basic.PasswordHash != "" {
		var err error
		e.text = string(c.Basic.PasswordHash)
		if e.hash, err = password.Parse(e.text); err != nil {
			return fmt.Errorf("basic: password_hash: %w", err)
		}
		b.hashed.decoy = e.hash
	} else {
		e.mac = b.of(user, string(c.Basic.Password))
	}
	for _, other := range b.users[user] {
		if e.hash == nil && other.mac == e.mac {
			return fmt.Errorf("basic: the same password as credential %s", other.grant.name())
		}
	}
	b.users[user] = append(b.users[user], e)
	return nil
}

// remember takes over which passwords were found to have which hashes, as far
// as those still open something.
func (b *basic) remember(former *basic) {
	h := former.hashed
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, proved := range []map[sum]provedPassword{h.proved.old, h.proved.young} {
		for mac, p := range proved {
			for _, e := range b.users[p.user] {
				if e.hash != nil && e.text == p.hash {
					p.grant = e.grant
					b.hashed.proved.put(mac, p)
				}
			}
		}
	}
}

func (b *basic) authenticate(r *http.Request, _ []byte) (*grant, error) {
	user, pass, ok := r.BasicAuth()
	if !ok {
		return nil, errAbsent
	}
	// Both sides are MACs of one length, and an unknown user costs the same
	// MAC, so that the time of an answer tells nothing.
	mac := b.of(user, pass)
	entries := b.users[user]
	var found *grant
	for i := range entries {
		if e := &entries[i]; e.hash == nil && subtle.ConstantTimeCompare(mac[:], e.mac[:]) == 1 {
			found = e.grant
		}
	}
	if found == nil && b.hashed.decoy != nil {
		found = b.hashed.remembered(mac)
	}
	if found != nil {
		return found, nil
	}
	refused := &refusal{kind: "basic", claim: user, why: "unknown user"}
	if len(entries) > 0 {
		refused.name, refused.why = entries[0].grant.name(), "wrong password"
	}
	if b.hashed.decoy == nil {
		return nil, refused
	}
	return b.hashed.find(r, mac, entries, user, pass, refused)
}

func (b *basic) challenge(error) []string { return []string{`Basic realm="spekeasy", charset="UTF-8"`} }
