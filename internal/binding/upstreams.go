package binding

import (
	"context"
	"net/http"

	"spekeasy/internal/gateway"
	"spekeasy/internal/tenant"
)

// Upstreams is what there is to tell of the key services behind tenants.
type Upstreams interface {
	// Health returns how the upstreams of all tenants fare.
	Health() []gateway.Health

	// Exchange returns what became of a key request of the tenant, as long as
	// it is remembered.
	Exchange(tenant, requestID string) (*gateway.Exchange, bool)

	// Exchanges returns those that are remembered, the latest first.
	Exchanges(tenant string) []*gateway.Exchange
}

// upstreams says how the tenant's upstreams fare.
func (a *API) upstreams(_ context.Context, w http.ResponseWriter, _ *http.Request, t *tenant.Tenant) error {
	own := make([]gateway.Health, 0, 1)
	for _, h := range a.o.Upstreams.Health() {
		if h.Tenant == t.ID {
			own = append(own, h)
		}
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		Upstreams []gateway.Health `json:"upstreams"`
	}{own})
	return nil
}

// exchanges lists the tenant's latest key requests that went upstream.
func (a *API) exchanges(_ context.Context, w http.ResponseWriter, _ *http.Request, t *tenant.Tenant) error {
	list := a.o.Upstreams.Exchanges(t.ID)
	if list == nil {
		list = []*gateway.Exchange{}
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		Exchanges []*gateway.Exchange `json:"exchanges"`
	}{list})
	return nil
}

// exchange says what became of one of them.
func (a *API) exchange(_ context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error {
	x, ok := a.o.Upstreams.Exchange(t.ID, r.PathValue("request"))
	if !ok {
		return notFound("no exchange of this request ID is remembered by this server")
	}
	writeJSON(w, http.StatusOK, "application/json", x)
	return nil
}
