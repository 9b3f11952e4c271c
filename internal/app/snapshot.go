package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"spekeasy/internal/auth"
	"spekeasy/internal/config"
	"spekeasy/internal/gateway"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
)

// Snapshot is the customers at one moment, ready to serve. It never changes.
type Snapshot struct {
	Config   *config.Config    // that it was built from
	Settings []tenant.Settings // that the tenants are built from
	Tenants  tenant.Static
	Auth     *auth.Authenticator

	// Faults are what is wrong with stored tenants and credentials, which are
	// left out.
	Faults []Fault

	limits map[string]tenant.Limits // by tenant
	brands map[string]map[string]tenant.Brand
}

// Fault is a stored tenant, or a credential of one, that cannot be used: in
// the configuration it would be an error.
type Fault struct {
	Tenant, Credential string
	Err                error
}

// Customers is who may ask for keys. They change while requests are answered:
// each step of a request sees one snapshot, and a later step the same or a
// newer one. Limits that stay as they are go on counting, and so does what
// package auth counts.
type Customers struct {
	log *slog.Logger

	mu     sync.Mutex        // one change at a time
	stored []tenant.Settings // beside those of the configuration
	follow func(tenant.Static) error

	now atomic.Pointer[Snapshot]
}

var (
	_ server.Authenticator = (*Customers)(nil)
	_ server.Tenants       = (*Customers)(nil)
)

// NewCustomers builds the customers of a configuration.
func NewCustomers(c *config.Config, log *slog.Logger) (*Customers, error) {
	customers := &Customers{log: log}
	if err := customers.Configure(c); err != nil {
		return nil, err
	}
	return customers, nil
}

// Configure has the configuration's tenants and settings of the ways in take
// the place of the former configuration's. After an error everything is as
// before.
func (c *Customers) Configure(to *config.Config) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if former := c.Now(); former != nil {
		s, err := c.snapshot(to, c.stored, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		for _, f := range s.Faults {
			if !slices.ContainsFunc(former.Faults, f.same) {
				return fmt.Errorf("tenant %q is in the store: %w", f.Tenant, f.Err)
			}
		}
	}
	return c.build(to, c.stored)
}

func (f *Fault) same(o Fault) bool { return f.Tenant == o.Tenant && f.Credential == o.Credential }

// Tell has follow told of the tenants now and whenever they change.
func (c *Customers) Tell(follow func(tenant.Static) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow = follow
	return follow(c.Now().Tenants)
}

// SetStored has these tenants serve beside those of the configuration. Those
// that cannot are left out, and named in the snapshot. After an error
// everything is as before.
func (c *Customers) SetStored(stored []tenant.Settings) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.build(c.Now().Config, stored)
}

// CheckStored returns what would be wrong with these tenants beside those of
// the configuration, and changes nothing.
func (c *Customers) CheckStored(stored []tenant.Settings) ([]Fault, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.snapshot(c.Now().Config, stored, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return s.Faults, nil
}

func (c *Customers) build(from *config.Config, stored []tenant.Settings) error {
	s, err := c.snapshot(from, stored, c.log)
	if err != nil {
		return err
	}
	for _, f := range s.Faults {
		c.log.Error("a stored tenant or credential cannot be used", "tenant", f.Tenant, "credential", f.Credential, "error", f.Err)
	}
	c.stored = stored
	c.now.Store(s)
	if c.follow != nil {
		if err := c.follow(s.Tenants); err != nil { // each was checked by itself
			c.log.Error("an upstream is not ready", "error", err)
		}
	}
	return nil
}

func (c *Customers) snapshot(from *config.Config, stored []tenant.Settings, log *slog.Logger) (*Snapshot, error) {
	former := c.Now()
	s := &Snapshot{
		Config: from, Tenants: make(tenant.Static, len(from.Tenants)+len(stored)),
		limits: make(map[string]tenant.Limits), brands: make(map[string]map[string]tenant.Brand),
	}
	settings := slices.Clone(from.Tenants)
	for i, one := range slices.Concat(from.Tenants, stored) {
		t, err := one.Build()
		if err == nil && s.Tenants[t.ID] != nil {
			err = errors.New("the ID occurs twice")
		}
		if err == nil && t.Upstream != nil {
			err = gateway.Check(t)
		}
		if err != nil && i < len(from.Tenants) {
			return nil, fmt.Errorf("tenant %q: %w", one.ID, err)
		}
		if err != nil {
			s.Faults = append(s.Faults, Fault{Tenant: one.ID, Err: err})
			continue
		}
		if i >= len(from.Tenants) {
			settings = append(settings, one)
		}
		s.Tenants[t.ID], s.limits[t.ID], s.brands[t.ID] = t, one.Limits, one.Brands
		if former != nil && former.Tenants[t.ID] != nil {
			for name, b := range one.Brands {
				if before, ok := former.brands[t.ID][name]; ok && before == b {
					t.Brands[name] = former.Tenants[t.ID].Brands[name]
				}
			}
		}
		if former != nil && former.Tenants[t.ID] != nil && former.limits[t.ID] == one.Limits {
			t.Gate, t.NewKeys = former.Tenants[t.ID].Gate, former.Tenants[t.ID].NewKeys // go on counting
		}
	}
	o, err := authOptions(from, log)
	if err != nil {
		return nil, err
	}
	var configured error
	o.Faulty = func(tenantID, credential string, err error) {
		if slices.ContainsFunc(from.Tenants, func(t tenant.Settings) bool { return t.ID == tenantID }) {
			configured = errors.Join(configured, fmt.Errorf("tenant %s: credential %q: %w", tenantID, credential, err))
		} else {
			s.Faults = append(s.Faults, Fault{tenantID, credential, err})
		}
	}
	if former != nil {
		o.Former = former.Auth
	}
	s.Settings = settings
	s.Auth, err = auth.New(settings, o)
	return s, errors.Join(err, configured)
}

// Now returns the present snapshot.
func (c *Customers) Now() *Snapshot { return c.now.Load() }

// Tenant implements [server.Tenants].
func (c *Customers) Tenant(ctx context.Context, id string) (*tenant.Tenant, error) {
	return c.Now().Tenants.Tenant(ctx, id)
}

// Authenticate and what follows implement [server.Authenticator].
func (c *Customers) Authenticate(r *http.Request, body []byte) (*auth.Principal, error) {
	return c.Now().Auth.Authenticate(r, body)
}

// Challenge is [auth.Authenticator.Challenge].
func (c *Customers) Challenge(h http.Header, err error) { c.Now().Auth.Challenge(h, err) }

// CheckRecipients is [auth.Authenticator.CheckRecipients].
func (c *Customers) CheckRecipients(who *auth.Principal, recipients []*x509.Certificate) error {
	return c.Now().Auth.CheckRecipients(who, recipients)
}

// IssuesTokens is [auth.Authenticator.IssuesTokens].
func (c *Customers) IssuesTokens() bool { return c.Now().Auth.IssuesTokens() }

// Remote is [auth.Authenticator.Remote].
func (c *Customers) Remote(r *http.Request) string { return c.Now().Auth.Remote(r) }

// JWKS is [auth.Authenticator.JWKS].
func (c *Customers) JWKS() []byte { return c.Now().Auth.JWKS() }

// Token is [auth.Authenticator.Token].
func (c *Customers) Token(r *http.Request, body []byte) (*auth.Token, error) {
	return c.Now().Auth.Token(r, body)
}
