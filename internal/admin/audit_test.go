package admin_test

import (
	"net/http"
	"slices"
	"testing"

	"spekeasy/adminapi"
	"spekeasy/internal/audit"
	"spekeasy/internal/config"
)

// TestAuditPages reads the audit log in pages, from wherever it is kept.
func TestAuditPages(t *testing.T) {
	for database, where := range map[string]string{"": "files", config.DatabaseOnly: "database"} {
		t.Run(where, func(t *testing.T) {
			c := configuration(t.TempDir())
			c.Audit.Database = database
			s := start(t, c)
			var want []string
			for _, id := range []string{"a", "b", "c", "d", "e"} {
				s.ok(t, "POST", "/tenants", `{"id":"`+id+`"}`)
				want = append(want, id)
			}
			var got []string
			for query := "?limit=2"; ; {
				page := decode[adminapi.Page[audit.Record]](t, s.do(t, adminapi.RoleViewer, "GET", "/audit"+query, ""))
				for _, r := range page.Items {
					if r.Event == audit.TenantCreate {
						got = append(got, r.Tenant)
					}
				}
				if page.Next == "" {
					break
				}
				query = "?limit=2&cursor=" + page.Next
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if w := s.do(t, adminapi.RoleViewer, "GET", "/audit?cursor=AAAA", ""); w.Code != http.StatusBadRequest {
				t.Errorf("a cursor of no list: %d %s", w.Code, w.Body)
			}
		})
	}
}

// TestAuditNowhere: a log that only goes to standard output is not read.
func TestAuditNowhere(t *testing.T) {
	c := configuration(t.TempDir())
	c.Audit.Stdout = config.StdoutOnly
	s := start(t, c)
	if w := s.do(t, adminapi.RoleViewer, "GET", "/audit", ""); w.Code != http.StatusNotFound {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
