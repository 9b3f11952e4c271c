// Package tenant describes the customers of a key server: whose keys these
// are, how they are made and signaled, and what policy they are under.
//
// [Settings] is what an operator writes; [Settings.Build] checks it and turns
// it into a [Tenant], which is ready to serve and never changes.
package tenant

import (
	"context"
	"errors"
	"time"

	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/limit"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// ErrNotFound reports a tenant that does not exist.
var ErrNotFound = errors.New("no such tenant")

// Tenant is a customer, ready to serve. It is shared and must not be changed;
// copies of it count against the same limits.
type Tenant struct {
	ID           string
	Policy       speke.Policy
	Source       keystore.Source
	KIDRule      kidrule.Rule
	OverrideRule kidrule.Rule // on routes where a request may ask for other key IDs
	Class        string       // what its requests are counted under
	Aliases      []string     // other names, on routes where a request names its tenant
	Reuse        keystore.ReusePolicy
	Certificates CertificatePolicy
	RefuseClear  bool     // content keys leave encrypted or not at all
	TrackMap     TrackMap // for packagers
	CPIXLabels   Labels   // the same
	Webhooks     []Webhook

	Upstream *upstream.Settings // whose keys are answered; nil for our own
	DRM      drm.Settings       // with an upstream: how its signaling is completed

	Playback *Playback // what players get; nil for nothing

	Gate    *limit.Gate            // where its requests pass; nil without limits
	Brands  map[string]*limit.Gate // where requests for brands with bounds of their own pass
	NewKeys func(n int) error      // counts keys before they are made; nil without a quota
}

// Named reports whether a request that names its tenant so may mean this one.
// The IDs of vendors are GUIDs, in any case.
func (t *Tenant) Named(name string) bool {
	return strings.EqualFold(name, t.ID) ||
		slices.ContainsFunc(t.Aliases, func(alias string) bool { return strings.EqualFold(name, alias) })
}

// CertificatePolicy says to which certificates content keys may be encrypted,
// beyond what the specification demands of them (SX-CKE-12).
type CertificatePolicy struct {
	RefuseExpired bool
	Pins          [][sha256.Size]byte // SHA-256 of the DER; none means that any certificate will do
}

// Check judges a certificate at a time. The error says what is wrong with it.
func (p *CertificatePolicy) Check(c *x509.Certificate, now time.Time) error {
	if p.RefuseExpired && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
		return fmt.Errorf("certificate is valid from %s to %s", c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
	}
	if len(p.Pins) > 0 && !slices.Contains(p.Pins, sha256.Sum256(c.Raw)) {
		return errors.New("certificate is not one of the tenant's")
	}
	return nil
}

// Static is a fixed set of tenants, as a configuration file has them.
type Static map[string]*Tenant

// Tenant finds a tenant by its ID.
func (s Static) Tenant(_ context.Context, id string) (*Tenant, error) {
	if t := s[id]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("tenant %q: %w", id, ErrNotFound)
}
