package auth

import (
	"bytes"
	"crypto/md5" //nolint:gosec // RFC 7616 has it, and encoders know nothing else
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"spekeasy/internal/tenant"
)

// Digest is the settings of HTTP Digest authentication; the zero value works.
type Digest struct {
	// Algorithms are offered in this order: SHA-256 and MD5 by default. Some
	// clients look at the first only.
	Algorithms []string

	// Integrity offers qop=auth-int too, which covers the body. It is
	// accepted in any case.
	Integrity bool

	// Lifetime of a nonce; 5 minutes by default. Whoever has an older one
	// gets a new one without being asked for the password again.
	Lifetime time.Duration

	// Key signs nonces; random by default. Servers that clients reach by turns
	// share it.
	Key []byte

	// Size bounds the nonces that are remembered against replay: 16,384.
	Size int
}

// digestAuth is HTTP Digest authentication (RFC 7616, SX-AUTH-06, -07), which
// on-premises encoders use where Basic would show the password.
type digestAuth struct {
	algorithms []digestAlgorithm
	qop        string // as offered
	nonces     *nonces
	ownKey     bool // the nonces' key was made for this process
	users      map[string][]digestEntry
	decoy      digestEntry // nobody's
}

type digestAlgorithm struct {
	name string
	hash func(parts ...string) string // of the parts joined by ":"
}

type digestEntry struct {
	grant   *grant
	ha1     []string // by algorithm, hexadecimal
	rfc2069 bool
}

const realm = "spekeasy"

// opaque is of no use to us, but the RFCs have it.
const opaque = "c3Bla2Vhc3k"

func digestAlgorithms() []digestAlgorithm {
	return []digestAlgorithm{
		{"SHA-256", func(parts ...string) string {
			d := sha256.Sum256([]byte(strings.Join(parts, ":")))
			return hex.EncodeToString(d[:])
		}},
		{"MD5", func(parts ...string) string {
			d := md5.Sum([]byte(strings.Join(parts, ":"))) //nolint:gosec // see the import
			return hex.EncodeToString(d[:])
		}},
	}
}

func newDigest(o Digest, now func() time.Time) (*digestAuth, error) {
	d := &digestAuth{qop: "auth", users: make(map[string][]digestEntry), ownKey: len(o.Key) == 0}
	if o.Integrity {
		d.qop = "auth, auth-int"
	}
	if len(o.Algorithms) == 0 {
		d.algorithms = digestAlgorithms()
	}
	for _, name := range o.Algorithms {
		i := slices.IndexFunc(digestAlgorithms(), func(a digestAlgorithm) bool { return a.name == name })
		if i < 0 {
			return nil, fmt.Errorf("digest: algorithm %q is neither SHA-256 nor MD5", name)
		}
		d.algorithms = append(d.algorithms, digestAlgorithms()[i])
	}
	if o.Lifetime <= 0 {
		o.Lifetime = 5 * time.Minute
	}
	if o.Size <= 0 {
		o.Size = 16384
	}
	switch {
	case d.ownKey:
		o.Key = make([]byte, sha256.Size)
		rand.Read(o.Key)
	case len(o.Key) < sha256.Size/2:
		return nil, errors.New("digest: the key must have at least 16 bytes")
	}
	for _, a := range d.algorithms {
		d.decoy.ha1 = append(d.decoy.ha1, a.hash(realm, rand.Text()))
	}
	d.nonces = newNonces(o.Key, o.Lifetime, o.Size/2, now)
	return d, nil
}

// follow takes over the nonces of a former authenticator, so that none of them
// is good twice and clients can go on with them.
func (d *digestAuth) follow(former *digestAuth) {
	n, before := d.nonces, former.nonces
	switch {
	case d.ownKey && former.ownKey:
		n.key = before.key
	case !bytes.Equal(n.key, before.key):
		return
	}
	if n.lifetime == before.lifetime {
		d.nonces = before
		return
	}
	n.floor = n.now() // which counts the older ones had is not known here
}

func (*digestAuth) takes(c *tenant.Credential) bool { return c.Digest != nil }

func (d *digestAuth) empty() bool { return len(d.users) == 0 }

func (d *digestAuth) add(g *grant, c *tenant.Credential) error {
	user := c.Digest.User
	for _, e := range d.users[user] {
		if e.grant.Tenant != g.Tenant {
			return fmt.Errorf("digest: user %q belongs to tenant %s", user, e.grant.Tenant)
		}
	}
	e := digestEntry{grant: g, rfc2069: c.Digest.RFC2069}
	for _, a := range d.algorithms {
		e.ha1 = append(e.ha1, a.hash(user, realm, string(c.Digest.Password)))
	}
	for _, other := range d.users[user] {
		if slices.Equal(other.ha1, e.ha1) {
			return fmt.Errorf("digest: the same password as credential %s", other.grant.name())
		}
	}
	d.users[user] = append(d.users[user], e)
	return nil
}

// errStale says that everything is right but the nonce, so that the client
// may try again with a new one by itself.
var errStale = fmt.Errorf("digest: the nonce is not fresh: %w", ErrUnauthenticated)

func (d *digestAuth) authenticate(r *http.Request, body []byte) (*grant, error) {
	rest, ok := scheme(r, "Digest")
	if !ok {
		return nil, errAbsent
	}
	p, err := d.parse(rest, r)
	if err != nil {
		return nil, &refusal{kind: "digest", why: err.Error()}
	}
	entries := d.users[p.user]
	name := ""
	if len(entries) > 0 {
		name = entries[0].grant.name()
	} else { // an unknown user costs the same
		entries = []digestEntry{d.decoy}
	}
	ha2 := p.ha2(r.Method, body)
	var found *digestEntry
	for i := range entries {
		e := &entries[i]
		if subtle.ConstantTimeCompare([]byte(p.expected(e.ha1[p.algorithm], ha2)), []byte(p.response)) == 1 {
			found = e
		}
	}
	switch {
	case found == nil || found.grant == nil:
		return nil, &refusal{kind: "digest", name: name, claim: p.user, why: "wrong user or password"}
	case p.qop == "" && !found.rfc2069:
		return nil, &refusal{kind: "digest", name: name, claim: p.user, why: "no qop, and rfc2069 is not allowed"}
	case !d.nonces.use(p.nonce, p.count, p.qop != ""):
		return nil, errStale
	}
	return found.grant, nil
}

func (d *digestAuth) challenge(refused error) []string {
	stale := ""
	if errors.Is(refused, errStale) {
		stale = ", stale=true"
	}
	var out []string
	for _, a := range d.algorithms {
		out = append(out, fmt.Sprintf(`Digest realm="%s", qop="%s", algorithm=%s, nonce="%s", opaque="%s", charset=UTF-8%s`,
			realm, d.qop, a.name, d.nonces.make(), opaque, stale))
	}
	return out
}

// digestParams is what a client answers to a challenge.
type digestParams struct {
	user, nonce, uri, response string
	qop, nc, cnonce            string
	count                      uint32 // nc
	algorithm                  int    // index in algorithms
	hash                       func(parts ...string) string
}

// parse reads and checks everything but the response itself. The error does
// not say what was sent.
func (d *digestAuth) parse(text string, r *http.Request) (*digestParams, error) {
	m, err := parseParams(text)
	if err != nil {
		return nil, err
	}
	p := &digestParams{
		user: m["username"], nonce: m["nonce"], uri: m["uri"], response: strings.ToLower(m["response"]),
		qop: m["qop"], nc: m["nc"], cnonce: m["cnonce"],
	}
	algorithm := m["algorithm"]
	if algorithm == "" {
		algorithm = "MD5"
	}
	p.algorithm = slices.IndexFunc(d.algorithms, func(a digestAlgorithm) bool { return strings.EqualFold(a.name, algorithm) })
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	o, hasOpaque := m["opaque"]
	switch {
	case p.user == "" || p.nonce == "" || p.uri == "" || p.response == "":
		return nil, errors.New("username, nonce, uri or response is missing")
	case p.algorithm < 0:
		return nil, errors.New("algorithm is not on offer")
	case m["realm"] != realm || hasOpaque && o != opaque:
		return nil, errors.New("realm or opaque is not ours")
	case p.uri != target:
		return nil, errors.New("uri is not that of the request")
	}
	p.hash = d.algorithms[p.algorithm].hash
	switch p.qop {
	case "":
		return p, nil
	case "auth", "auth-int":
		n, err := strconv.ParseUint(p.nc, 16, 32)
		if err != nil || len(p.nc) != 8 || p.cnonce == "" {
			return nil, errors.New("nc or cnonce is missing or malformed")
		}
		p.count = uint32(n)
		return p, nil
	}
	return nil, errors.New("qop is not on offer")
}

func (p *digestParams) ha2(method string, body []byte) string {
	if p.qop == "auth-int" {
		return p.hash(method, p.uri, p.hash(string(body)))
	}
	return p.hash(method, p.uri)
}

// expected is the response that the password with this HA1 gives.
func (p *digestParams) expected(ha1, ha2 string) string {
	if p.qop == "" {
		return p.hash(ha1, p.nonce, ha2)
	}
	return p.hash(ha1, p.nonce, p.nc, p.cnonce, p.qop, ha2)
}
