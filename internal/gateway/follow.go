package gateway

import (
	"errors"
	"fmt"
	"time"

	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
)

// Check reports what cannot be used of a tenant's upstream, which it does not
// ask. The error names the setting, never a secret.
func Check(t *tenant.Tenant) error {
	sources, err := newSources(t, time.Now)
	for _, s := range sources {
		s.close()
	}
	return err
}

func newSources(t *tenant.Tenant, now func() time.Time) (all []*source, err error) {
	for _, set := range append([]upstream.Settings{*t.Upstream}, t.Upstream.Fallback...) {
		s, err := newSource(&set, t.ID, now)
		if err != nil {
			return all, fmt.Errorf("upstream %s of tenant %s: %w", set.Name, t.ID, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// Follow has the gateway know the upstreams of these tenants and no others:
// heartbeats begin, and those of upstreams that are gone end. Requests under
// way go on.
func (g *Gateway) Follow(tenants tenant.Static) error {
	var errs []error
	for _, t := range tenants {
		if t.Upstream != nil {
			errs = append(errs, g.Prepare(t))
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, r := range g.routes {
		if t := tenants[id]; t == nil || t.Upstream == nil {
			r.close()
			delete(g.routes, id)
		}
	}
	return errors.Join(errs...)
}
