package app

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"spekeasy/internal/auth"
	"spekeasy/internal/config"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
)

// Snapshot is the customers at one moment, ready to serve. It never changes.
type Snapshot struct {
	Config   *config.Config    // that it was built from
	Settings []tenant.Settings // of all tenants
	Tenants  tenant.Static
	Auth     *auth.Authenticator

	limits map[string]tenant.Limits // by tenant
}

// Customers is who may ask for keys. They change while requests are answered:
// each step of a request sees one snapshot, and a later step the same or a
// newer one. Limits that stay as they are go on counting, and so does what
// package auth counts.
type Customers struct {
	log *slog.Logger

	mu     sync.Mutex        // one change at a time
	stored []tenant.Settings // beside those of the configuration

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
	return c.build(to, c.stored)
}

// SetStored has these tenants serve beside those of the configuration. After
// an error everything is as before.
func (c *Customers) SetStored(stored []tenant.Settings) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.build(c.Now().Config, stored)
}

func (c *Customers) build(from *config.Config, stored []tenant.Settings) error {
	settings := append(from.Tenants[:len(from.Tenants):len(from.Tenants)], stored...)
	former := c.Now()
	s := &Snapshot{Config: from, Settings: settings, Tenants: make(tenant.Static, len(settings)), limits: make(map[string]tenant.Limits, len(settings))}
	for i := range settings {
		t, err := settings[i].Build()
		if err == nil && s.Tenants[t.ID] != nil {
			err = errors.New("the ID occurs twice")
		}
		if err != nil {
			return fmt.Errorf("tenant %q: %w", settings[i].ID, err)
		}
		s.Tenants[t.ID], s.limits[t.ID] = t, settings[i].Limits
		if former != nil && former.Tenants[t.ID] != nil && former.limits[t.ID] == settings[i].Limits {
			t.Gate, t.NewKeys = former.Tenants[t.ID].Gate, former.Tenants[t.ID].NewKeys // go on counting
		}
	}
	o, err := authOptions(from, c.log)
	if err != nil {
		return err
	}
	if former != nil {
		o.Former = former.Auth
	}
	if s.Auth, err = auth.New(settings, o); err != nil {
		return err
	}
	c.stored = stored
	c.now.Store(s)
	return nil
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
