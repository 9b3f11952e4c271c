package admin

import (
	"context"
	"net/http"

	"spekeasy/adminapi"
	"spekeasy/internal/gateway"
)

// Upstreams is what there is to tell of the key services behind tenants. What
// it knows is this server's own and ends with it.
type Upstreams interface {
	// Health returns how the upstreams of all tenants fare.
	Health() []gateway.Health

	// Exchange returns what became of a key request of the tenant, as long as
	// it is remembered.
	Exchange(tenant, requestID string) (*gateway.Exchange, bool)

	// Exchanges returns those that are remembered, the latest first.
	Exchanges(tenant string) []*gateway.Exchange
}

func (c *call) listUpstreams(context.Context, *struct{}) (*body[adminapi.Page[adminapi.UpstreamHealth]], error) {
	all := c.api.Upstreams.Health()
	p := adminapi.Page[adminapi.UpstreamHealth]{Items: make([]adminapi.UpstreamHealth, len(all))}
	for i := range all {
		if err := convert(&p.Items[i], &all[i]); err != nil {
			return nil, err
		}
	}
	return &body[adminapi.Page[adminapi.UpstreamHealth]]{p}, nil
}

func (c *call) listExchanges(ctx context.Context, in *TenantPath) (*body[adminapi.Page[adminapi.Exchange]], error) {
	if err := c.api.knownTenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	all := c.api.Upstreams.Exchanges(in.Tenant)
	p := adminapi.Page[adminapi.Exchange]{Items: make([]adminapi.Exchange, len(all))}
	for i := range all {
		if err := convert(&p.Items[i], all[i]); err != nil {
			return nil, err
		}
	}
	return &body[adminapi.Page[adminapi.Exchange]]{p}, nil
}

func (c *call) showExchange(ctx context.Context, in *struct {
	TenantPath
	Request string `path:"requestId" maxLength:"128" doc:"Request ID, as in the answer's header and the log."`
}) (*body[adminapi.Exchange], error) {
	if err := c.api.knownTenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	x, ok := c.api.Upstreams.Exchange(in.Tenant, in.Request)
	if !ok {
		return nil, problem(http.StatusNotFound, "No exchange of this request ID is remembered by this server.")
	}
	out := &body[adminapi.Exchange]{}
	return out, convert(&out.Body, x)
}
