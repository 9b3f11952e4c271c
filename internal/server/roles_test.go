package server_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/tenant"
)

// TestEntitlementGetsNoKeys asks on every path that hands out keys with a
// credential that may only read what keys are for.
func TestEntitlementGetsNoKeys(t *testing.T) {
	s := packagerTenant()
	s.Credentials = append(s.Credentials, tenant.Credential{
		Name: "cms", Basic: &tenant.Basic{User: "cms", Password: "hunter2"}, Roles: []tenant.Role{tenant.RoleEntitlement},
	})
	h := newServer(t, s, nil, serverOptions{random: zeros{}, now: time.Now})
	type ask struct{ method, path string }
	asks := []ask{
		{http.MethodPost, "/playready/packaging/" + s.ID}, {http.MethodPost, "/cenc/getcontentkey/" + s.ID},
		{http.MethodPost, "/cpix"}, {http.MethodGet, "/cpix/content/movie"},
	}
	for _, path := range keyRoutes(t, s.ID) {
		asks = append(asks, ask{http.MethodPost, path})
	}
	for _, a := range asks {
		r := httptest.NewRequestWithContext(t.Context(), a.method, a.path, strings.NewReader("<CPIX/>"))
		r.SetBasicAuth("cms", "hunter2")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		refused := w.Code == http.StatusForbidden && w.Body.String() == "forbidden" ||
			w.Code == http.StatusOK && w.Body.String() == `{"response":"eyJzdGF0dXMiOiJBQ0NFU1NfREVOSUVEIn0="}` // {"status":"ACCESS_DENIED"}
		if !refused {
			t.Errorf("%s %s: %d %s", a.method, a.path, w.Code, w.Body)
		}
	}
}
