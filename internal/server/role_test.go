package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
)

// TestRoles: who may only read what keys there are gets none, whichever way
// the request takes, and whoever has both roles gets them.
func TestRoles(t *testing.T) {
	wildcard := regexp.MustCompile(`\{[^}]*\}`)
	// forbidden reports whether a request is refused as not allowed; Widevine's
	// protocol says so with status 200.
	forbidden := func(h http.Handler, method, path string) bool {
		r := httptest.NewRequest(method, wildcard.ReplaceAllString(path, "x"), strings.NewReader("<x/>"))
		r.SetBasicAuth("reader", "secret")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var answer struct{ Response []byte }
		_ = json.Unmarshal(w.Body.Bytes(), &answer) // other answers are no JSON
		return w.Code == http.StatusForbidden || strings.Contains(string(answer.Response), "ACCESS_DENIED")
	}
	for _, c := range []struct {
		roles []tenant.Role
		none  bool
	}{
		{[]tenant.Role{tenant.RoleEntitlement}, true},
		{[]tenant.Role{tenant.RoleEntitlement, tenant.RoleEncryptor}, false},
		{nil, false},
	} {
		s := exampleTenant()
		s.Aliases = []string{"x"} // routes that name the tenant
		s.Credentials = []tenant.Credential{{Name: "reader", Basic: &tenant.Basic{User: "reader", Password: "secret"}, Roles: c.roles}}
		h := realServer(t, s)
		n := 0
		packagers := []server.Route{
			{Method: http.MethodPost, Path: "/cenc/getcontentkey/x", Audited: true},
			{Method: http.MethodPost, Path: "/playready/packaging/x", Audited: true},
			{Method: http.MethodGet, Path: "/cpix/content/x", Audited: true},
			{Method: http.MethodPost, Path: "/cpix", Audited: true},
		}
		for _, route := range append(server.Routes(), packagers...) {
			if !route.Audited {
				continue
			}
			n++
			if forbidden(h, route.Method, route.Path) != c.none {
				t.Errorf("%v: %s %s is forbidden: %t", c.roles, route.Method, route.Path, !c.none)
			}
		}
		if n < 10 {
			t.Errorf("only %d routes give keys", n)
		}
	}
}
