package app

import (
	"context"

	"spekeasy/internal/gateway"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// providers answers each tenant with its own keys: ours, or its upstream's.
type providers struct {
	local   *keyprovider.Local
	gateway *gateway.Gateway
}

// Provide implements [spekeasy/internal/server.Provider].
func (p *providers) Provide(ctx context.Context, t *tenant.Tenant, req *speke.Request) (*speke.Answer, error) {
	if t.Upstream != nil {
		return p.gateway.Provide(ctx, t, req)
	}
	return p.local.Provide(ctx, t, req)
}
