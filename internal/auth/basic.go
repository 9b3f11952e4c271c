package auth

import (
	"crypto/subtle"
	"fmt"
	"net/http"

	"spekeasy/internal/tenant"
)

// basic is HTTP Basic authentication (RFC 7617, SX-AUTH-06): a tenant ID with
// its management key, or any user name with its password. A user may have
// several passwords, so that one can be changed while the other still works.
type basic struct {
	keyed
	users map[string][]basicEntry
}

type basicEntry struct {
	grant *grant
	mac   sum
}

func newBasic() *basic { return &basic{keyed: newKeyed(), users: make(map[string][]basicEntry)} }

func (b *basic) empty() bool { return len(b.users) == 0 }

func (b *basic) add(g *grant, c *tenant.Credential) error {
	for _, e := range b.users[c.Basic.User] {
		if e.grant.Tenant != g.Tenant {
			return fmt.Errorf("basic: user %q belongs to tenant %s", c.Basic.User, e.grant.Tenant)
		}
	}
	b.users[c.Basic.User] = append(b.users[c.Basic.User], basicEntry{grant: g, mac: b.of(c.Basic.User, string(c.Basic.Password))})
	return nil
}

func (b *basic) authenticate(r *http.Request, _ []byte) (*grant, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return nil, errAbsent
	}
	// Both sides are MACs of one length, and an unknown user costs the same
	// MAC, so that the time of an answer tells nothing.
	mac := b.of(user, password)
	entries := b.users[user]
	var found *grant
	for i := range entries {
		if subtle.ConstantTimeCompare(mac[:], entries[i].mac[:]) == 1 {
			found = entries[i].grant
		}
	}
	switch {
	case found != nil:
		return found, nil
	case len(entries) == 0:
		return nil, &refusal{kind: "basic", why: "unknown user"}
	default:
		return nil, &refusal{kind: "basic", name: entries[0].grant.name(), why: "wrong password"}
	}
}

func (b *basic) challenge(error) []string { return []string{`Basic realm="spekeasy", charset="UTF-8"`} }
