// Package auth finds out who sent a request. Each way in is one file and one
// method; a request is let in by the first method to which it shows a good
// credential. Credentials are data of package tenant.
package auth

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"spekeasy/internal/tenant"
)

// Principal is who a credential proved to be. It is shared and must not be
// changed.
type Principal struct {
	Tenant     string // whose keys may be asked for
	Credential string // name of the credential, for records; never the secret

	// Encryptor and Entitlement say which roles the credential has; see
	// [tenant.Role].
	Encryptor, Entitlement bool

	// Brand is what the request itself says it is for, a label below the
	// tenant that proves nothing. Only some vendors' routes have one.
	Brand string

	// Sealed means that the credential is no secret, and that keys may go to
	// the tenant's delivery certificates only, encrypted. Whoever answers must
	// ask [Authenticator.CheckRecipients].
	Sealed bool
}

// LogValue implements [slog.LogValuer].
func (p *Principal) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("tenant", p.Tenant), slog.String("credential", p.Credential)}
	if p.Brand != "" {
		attrs = append(attrs, slog.String("brand", p.Brand))
	}
	return slog.GroupValue(attrs...)
}

var (
	// ErrUnauthenticated reports a credential that is missing, wrong or
	// expired, or whose tenant does not exist. There is one answer to all of
	// them, so that nobody learns which it was (SX-AUTH-08).
	ErrUnauthenticated = errors.New("unauthenticated")

	// ErrForbidden reports a valid credential that may not do this.
	ErrForbidden = errors.New("forbidden")

	// errAbsent is a method's word that the request carries no credential of
	// its kind, so that the next one may look.
	errAbsent = errors.New("no such credential in the request")
)

// Options are the optional settings of [New]; the zero value works.
type Options struct {
	Now func() time.Time // time.Now by default
	Log *slog.Logger     // told of credentials that end soon; nobody by default

	// TrustedProxies are the addresses whose X-Forwarded-For is believed when
	// failed attempts are counted by source.
	TrustedProxies []netip.Prefix

	Throttle Throttle
	Digest   Digest
	OAuth    OAuth

	// ClientCAs issue the client certificates that are known by their subject.
	ClientCAs *x509.CertPool

	// HTTP fetches the keys of external issuers; a plain client by default.
	HTTP *http.Client

	// Former is the authenticator whose place the new one takes; nil for none.
	// What clients and strangers have done with it still counts: failed
	// attempts, nonces, passwords that were checked, tokens that it issued.
	Former *Authenticator

	// Faulty is told of a credential that cannot be used, such as one that
	// another tenant has too, and that is left out. Without Faulty it is an
	// error.
	Faulty func(tenantID, credential string, err error)
}

// Authenticator lets requests in by the credentials that it was made with.
type Authenticator struct {
	methods  []method
	now      func() time.Time
	log      *slog.Logger
	trusted  []netip.Prefix
	throttle *throttle
	issuer   *issuer
	basic    *basic
	digest   *digestAuth
	bearer   *bearer
	mtls     *mtls
	delivery *delivery
	grants   []*grant
}

// method is one way in.
type method interface {
	// takes reports whether a credential is of this kind.
	takes(c *tenant.Credential) bool

	// add adds a credential of this kind. The error never holds a secret.
	add(g *grant, c *tenant.Credential) error

	// empty reports whether there is no credential of this kind.
	empty() bool

	// authenticate returns what the request's credential of this kind opens,
	// errAbsent when there is none, or an error that wraps
	// ErrUnauthenticated. body is the whole request body, which some kinds
	// cover with a signature.
	authenticate(r *http.Request, body []byte) (*grant, error)

	// challenge returns the values of WWW-Authenticate that invite this kind
	// after a refusal.
	challenge(refused error) []string
}

// New returns an authenticator for the credentials of all customers. Without
// any it lets nobody in. Credentials that are not [tenant.Credential.Check]ed
// or that two tenants share are an error.
func New(customers []tenant.Settings, o Options) (*Authenticator, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{now: o.Now, log: o.Log, trusted: o.TrustedProxies, throttle: newThrottle(o.Throttle, o.Now)}
	var err error
	if a.digest, err = newDigest(o.Digest, o.Now); err != nil {
		return nil, err
	}
	var ownKey crypto.Signer
	if o.Former != nil {
		ownKey = o.Former.issuer.own
	}
	if a.issuer, err = newIssuer(o.OAuth, ownKey); err != nil {
		return nil, err
	}
	a.basic, a.bearer = newBasic(newHashed(a.wait)), newBearer(a.issuer, o.HTTP, o.Now)
	a.mtls, a.delivery = newMTLS(o.ClientCAs, o.Now), newDelivery()
	if o.Former != nil {
		a.follow(o.Former)
	}
	// In the order of trying: the cheap ones first.
	a.methods = []method{new(iam), a.mtls, newSigV4(o.Now), newAPIKeys(), newTokens(), newSigners(), a.digest, a.bearer, a.basic, a.delivery}
	for i := range customers {
		t := &customers[i]
		for j := range t.Credentials {
			c := &t.Credentials[j]
			err := a.add(t.ID, c)
			if err != nil && o.Faulty == nil {
				return nil, fmt.Errorf("tenant %s: credential %q: %w", t.ID, c.Name, err)
			}
			if err != nil {
				o.Faulty(t.ID, c.Name, err)
			}
		}
	}
	if o.Former != nil {
		a.basic.remember(o.Former.basic)
		a.bearer.former = nil
	}
	a.methods = slices.DeleteFunc(a.methods, method.empty)
	return a, nil
}

// follow takes over what does not depend on credentials.
func (a *Authenticator) follow(former *Authenticator) {
	a.throttle = former.throttle
	a.digest.follow(former.digest)
	a.bearer.former = former.bearer.sets
	a.basic.keyed = former.basic.keyed
	a.basic.hashed.turns = former.basic.hashed.turns
}

// add gives a credential to the method of its kind.
func (a *Authenticator) add(tenantID string, c *tenant.Credential) error {
	if err := c.Check(); err != nil {
		return err
	}
	g := &grant{Principal: Principal{
		Tenant: tenantID, Credential: c.Name, Encryptor: c.Has(tenant.RoleEncryptor), Entitlement: c.Has(tenant.RoleEntitlement),
	}}
	g.notBefore, g.expires, _ = c.Validity() // checked
	for _, m := range a.methods {
		if m.takes(c) {
			if err := m.add(g, c); err != nil {
				return err
			}
			a.grants = append(a.grants, g)
			a.remind(g, a.now())
			return nil
		}
	}
	return errors.New("of a kind that is not known here")
}

// Authenticate returns who sent the request. The error wraps
// [ErrUnauthenticated], then perhaps as a [*ThrottledError], or says why it
// could not be found out.
//
// One good credential is enough: what else a request carries, such as the key
// that a proxy wanted, does no harm.
func (a *Authenticator) Authenticate(r *http.Request, body []byte) (*Principal, error) {
	var refused, unable error
	for _, m := range a.methods {
		g, err := m.authenticate(r, body)
		if err == nil {
			now := a.now()
			if err = g.valid(now); err == nil {
				a.remind(g, now)
				return &g.Principal, nil
			}
		}
		switch {
		case err == errAbsent: //nolint:errorlint // never wrapped
		case !errors.Is(err, ErrUnauthenticated):
			unable = err
		case refused == nil || err == errStale: //nolint:errorlint // never wrapped
			refused = err
		}
	}
	switch {
	case unable != nil:
		return nil, unable
	case refused == nil:
		return nil, ErrUnauthenticated
	case refused == errStale: //nolint:errorlint // never wrapped
		return nil, refused // the password was right
	}
	return nil, a.throttle.failed(a.source(r), refused)
}

// AsksForCertificates reports whether the listener should ask clients for a
// certificate. It need not verify it.
func (a *Authenticator) AsksForCertificates() bool { return !a.mtls.empty() }

// Challenge adds the WWW-Authenticate headers of a 401 answer to a request
// that was refused with err.
func (a *Authenticator) Challenge(h http.Header, err error) {
	for _, m := range a.methods {
		for _, c := range m.challenge(err) {
			if !slices.Contains(h.Values("WWW-Authenticate"), c) {
				h.Add("WWW-Authenticate", c)
			}
		}
	}
}

// grant is what a credential opens, and when.
type grant struct {
	Principal
	notBefore, expires time.Time    // zero: no bound
	reminded           atomic.Int64 // day of the last reminder, counted from 1970
	certificateEnds    atomic.Int64 // of the client certificate seen last, in seconds from 1970; 0 for none
}

// valid holds that a credential outside its time looks like a wrong one.
func (g *grant) valid(now time.Time) error {
	if !g.notBefore.IsZero() && now.Before(g.notBefore) {
		return &refusal{kind: "credential", name: g.name(), why: "not valid before " + g.notBefore.Format(time.RFC3339)}
	}
	if !g.expires.IsZero() && !now.Before(g.expires) {
		return &refusal{kind: "credential", name: g.name(), why: "expired " + g.expires.Format(time.RFC3339)}
	}
	return nil
}

// name identifies a credential in logs.
func (g *grant) name() string { return g.Tenant + "/" + g.Credential }

// reminder is how long before its end a credential is warned of.
const reminder = 14 * 24 * time.Hour

// remind writes to the log that a credential ends soon, at the start and then
// once a day as long as it is in use.
func (a *Authenticator) remind(g *grant, now time.Time) {
	end := g.expires
	if c := g.certificateEnds.Load(); c != 0 && (end.IsZero() || c < end.Unix()) {
		end = time.Unix(c, 0).UTC()
	}
	if end.IsZero() || now.Add(reminder).Before(end) {
		return
	}
	day := now.Unix() / (24 * 60 * 60)
	if last := g.reminded.Load(); last == day || !g.reminded.CompareAndSwap(last, day) {
		return
	}
	text := "credential expires soon"
	if !now.Before(end) {
		text = "credential has expired"
	}
	a.log.Warn(text, "tenant", g.Tenant, "credential", g.Credential, "expires", end)
}

// Remind writes to the log which credentials end soon, also those that nobody
// uses; each is named once a day.
func (a *Authenticator) Remind() {
	now := a.now()
	for _, g := range a.grants {
		a.remind(g, now)
	}
}

// refusal is a credential that was shown and opened nothing. It is for logs:
// it never says what was sent.
type refusal struct {
	kind  string // way in
	name  string // the credential that it claimed to be, if there is one
	claim string // who it claimed to be, as it was sent: for the throttle, never shown
	why   string
}

func (e *refusal) Error() string {
	text := e.kind
	if e.name != "" {
		text += " " + e.name
	}
	return text + ": " + e.why
}

// GoString keeps what was sent out of %#v too.
func (e *refusal) GoString() string { return e.Error() }

func (e *refusal) Unwrap() error { return ErrUnauthenticated }

// sum is the form in which secrets are kept and looked up, so that the
// time of an answer tells nothing about them.
type sum = [sha256.Size]byte

// keyed makes digests that are of use in this process only. Nobody outside
// sees them, so that the key in front makes a MAC of SHA-256 that is good
// enough, at half of HMAC's price.
type keyed struct{ key sum }

func newKeyed() (k keyed) {
	rand.Read(k.key[:])
	return k
}

// of covers a user and a password; a user has no colon.
func (k *keyed) of(user, password string) sum {
	var room [256]byte // most are shorter
	b := append(room[:0], k.key[:]...)
	b = append(b, user...)
	b = append(b, ':')
	b = append(b, password...)
	return sha256.Sum256(b)
}

// secrets finds the credential of a secret by the digest of the secret: the
// cost does not grow with their number.
type secrets map[sum]*grant

func (s secrets) add(g *grant, secret tenant.Secret, fingerprint tenant.Fingerprint) error {
	d := sha256.Sum256([]byte(secret))
	if fingerprint != "" {
		var err error
		if d, err = fingerprint.Bytes(); err != nil {
			return err
		}
	}
	if other := s[d]; other != nil {
		return fmt.Errorf("the same secret as credential %s", other.name())
	}
	s[d] = g
	return nil
}

func (s secrets) find(secret string) *grant { return s[sha256.Sum256([]byte(secret))] }

// scheme returns what follows the name of an authentication scheme in the
// Authorization header (RFC 9110, 11.6.2).
func scheme(r *http.Request, name string) (rest string, ok bool) {
	h := r.Header.Get("Authorization")
	if len(h) <= len(name) || h[len(name)] != ' ' || !strings.EqualFold(h[:len(name)], name) {
		return "", false
	}
	return strings.TrimLeft(h[len(name)+1:], " "), true
}
