package server_test

import (
	"net/http"
	"net/http/httptest"
	"os"
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
	getsNoKeys(t, s, "cms")
}

// TestClearKeysStay asks for clear keys where they may leave encrypted only.
func TestClearKeysStay(t *testing.T) {
	s := packagerTenant()
	s.ClearKeys = "refuse"
	s.Credentials = append(s.Credentials, tenant.Credential{Name: "encoder", Basic: &tenant.Basic{User: "encoder", Password: "hunter2"}})
	getsNoKeys(t, s, "encoder")
}

// getsNoKeys asks on every path that hands out keys.
func getsNoKeys(t *testing.T, s tenant.Settings, user string) {
	t.Helper()
	document, err := os.ReadFile(keyRequest)
	if err != nil {
		t.Fatal(err)
	}
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
		r := httptest.NewRequestWithContext(t.Context(), a.method, a.path, strings.NewReader(string(document)))
		r.Header.Set("X-Speke-Version", "2.0")
		r.SetBasicAuth(user, "hunter2")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		refused := w.Code == http.StatusForbidden && w.Body.String() == "forbidden" ||
			w.Code == http.StatusUnprocessableEntity && w.Body.String() == "Missing CPIX element DeliveryDataList" ||
			w.Code == http.StatusOK && w.Body.String() == `{"response":"eyJzdGF0dXMiOiJBQ0NFU1NfREVOSUVEIn0="}` // {"status":"ACCESS_DENIED"}
		if !refused {
			t.Errorf("%s %s: %d %s", a.method, a.path, w.Code, w.Body)
		}
	}
}
