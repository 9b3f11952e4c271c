package admin_test

import (
	"testing"

	"spekeasy/adminapi"
	"spekeasy/internal/tenant"
)

// TestDamagedRows: a row that cannot be read is named in its list and hides
// none of the others; it can be deleted.
func TestDamagedRows(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	for _, id := range []string{"acme", "beta"} {
		s.ok(t, "POST", "/tenants", `{"id":"`+id+`"}`)
	}
	for _, name := range []string{"c", "d"} {
		s.ok(t, "POST", "/tenants/acme/credentials", `{"name":"`+name+`","basic":{"user":"`+name+`"}}`)
	}
	for _, name := range []string{"carol", "dave"} {
		s.ok(t, "POST", "/admins", `{"name":"`+name+`","role":"viewer"}`)
	}
	for kind, id := range map[tenant.Kind]string{tenant.KindTenant: "beta", tenant.KindCredential: "acme/c", tenant.KindAdmin: "carol"} {
		d, err := s.AdminAPI.Store.Document(t.Context(), kind, id)
		if err != nil {
			t.Fatal(err)
		}
		d.Version++
		if err := s.AdminAPI.Store.ReplaceDocument(t.Context(), d); err != nil { // its mark is that of another version
			t.Fatal(err)
		}
	}
	tenants := decode[adminapi.Page[adminapi.Tenant]](t, s.ok(t, "GET", "/tenants", "")).Items
	if len(tenants) != 3 || tenants[0].ID != "acme" || tenants[0].Fault != "" || tenants[1].ID != "beta" || tenants[1].Fault == "" || tenants[2].ID != "file" {
		t.Errorf("%+v", tenants)
	}
	credentials := decode[adminapi.Page[adminapi.CredentialInfo]](t, s.ok(t, "GET", "/tenants/acme/credentials", "")).Items
	if len(credentials) != 2 || credentials[0].Name != "c" || credentials[0].State != adminapi.StateDamaged || credentials[1].State != adminapi.StateActive {
		t.Errorf("%+v", credentials)
	}
	admins := decode[adminapi.Page[adminapi.Admin]](t, s.ok(t, "GET", "/admins", "")).Items
	if len(admins) != 5 || admins[0].Name != "carol" || admins[0].State != adminapi.StateDamaged || admins[1].State != adminapi.StateActive {
		t.Errorf("%+v", admins)
	}
	for _, path := range []string{"/tenants/acme/credentials/c", "/tenants/beta", "/admins/carol"} {
		s.ok(t, "DELETE", path, "", "If-Match", "*")
	}
	if left := decode[adminapi.Page[adminapi.Tenant]](t, s.ok(t, "GET", "/tenants", "")).Items; len(left) != 2 {
		t.Errorf("%+v", left)
	}
}
