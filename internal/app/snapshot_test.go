package app

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"spekeasy/internal/auth"
	"spekeasy/internal/config"
	"spekeasy/internal/limit"
	"spekeasy/internal/tenant"
)

// withPassword is a tenant whose user has the tenant's name.
func withPassword(id, password string) tenant.Settings {
	return tenant.Settings{ID: id, Credentials: []tenant.Credential{{Name: "c", Basic: &tenant.Basic{User: id, Password: tenant.Secret(password)}}}}
}

// opens returns the tenant that a user and password open, or "".
func opens(t *testing.T, c *Customers, user, password string) string {
	t.Helper()
	r := httptest.NewRequest("POST", "/", nil)
	r.SetBasicAuth(user, password)
	who, err := c.Authenticate(r, nil)
	if err != nil {
		if !errors.Is(err, auth.ErrUnauthenticated) {
			t.Fatal(err)
		}
		return ""
	}
	found, err := c.Tenant(t.Context(), who.Tenant)
	if err != nil {
		t.Fatal(err)
	}
	return found.ID
}

// TestCustomersChange holds what a change of the configuration and of stored
// tenants does, and that one that cannot be served changes nothing.
func TestCustomersChange(t *testing.T) {
	file := func(tenants ...tenant.Settings) *config.Config {
		c := config.Default()
		c.Tenants = tenants
		return c
	}
	c, err := NewCustomers(file(withPassword("a", "1")), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetStored([]tenant.Settings{withPassword("b", "1")}); err != nil {
		t.Fatal(err)
	}
	if opens(t, c, "a", "1") != "a" || opens(t, c, "b", "1") != "b" {
		t.Error("not both are let in")
	}
	if err := c.Configure(file(withPassword("a", "2"))); err != nil {
		t.Fatal(err)
	}
	if opens(t, c, "a", "1") != "" || opens(t, c, "a", "2") != "a" || opens(t, c, "b", "1") != "b" {
		t.Error("not the new password alone")
	}
	for name, f := range map[string]func() error{
		"the same ID twice": func() error { return c.Configure(file(withPassword("b", "2"))) },
		"a bad tenant":      func() error { return c.Configure(file(tenant.Settings{ID: "No!"})) },
		"a bad credential":  func() error { return c.Configure(file(withPassword("c", ""))) },
		"a user who is taken": func() error {
			other := withPassword("b", "2")
			other.ID = "d"
			return c.Configure(file(withPassword("a", "2"), other))
		},
	} {
		before := c.Now()
		if err := f(); err == nil || !strings.Contains(err.Error(), "tenant") {
			t.Errorf("%s: %v", name, err)
		}
		if c.Now() != before {
			t.Errorf("%s changed something", name)
		}
	}
	if opens(t, c, "a", "2") != "a" || opens(t, c, "b", "1") != "b" {
		t.Error("after faults not as before")
	}
	bad := withPassword("a", "3")
	bad.ID = "e"
	if err := c.SetStored([]tenant.Settings{withPassword("b", "1"), {ID: "No!"}, withPassword("a", "3"), bad, withPassword("f", "1")}); err != nil {
		t.Fatal(err)
	}
	if faults := c.Now().Faults; len(faults) != 3 || opens(t, c, "a", "2") != "a" || opens(t, c, "a", "3") != "" || opens(t, c, "f", "1") != "f" {
		t.Errorf("stored tenants that cannot be used: %+v", faults)
	}
	if err := c.SetStored(nil); err != nil || opens(t, c, "b", "1") != "" {
		t.Error("a tenant that is gone is let in", err)
	}
}

// TestCustomersLimits: a change elsewhere gives a tenant no new quota.
func TestCustomersLimits(t *testing.T) {
	limited := withPassword("a", "1")
	limited.Limits = tenant.Limits{Settings: limit.Settings{Rate: 0.001, Burst: 1}, NewKeysPerDay: 1}
	c := config.Default()
	c.Tenants = []tenant.Settings{limited}
	customers, err := NewCustomers(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	use := func() (gate, quota error) {
		t.Helper()
		a, err := customers.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		pass, gate := a.Gate.Enter("c")
		if gate == nil {
			pass.Leave()
		}
		return gate, a.NewKeys(1)
	}
	if gate, quota := use(); gate != nil || quota != nil {
		t.Fatal(gate, quota)
	}
	if err := customers.SetStored([]tenant.Settings{withPassword("b", "1")}); err != nil {
		t.Fatal(err)
	}
	if gate, quota := use(); gate == nil || quota == nil {
		t.Error("another tenant came, and what was used up is there again")
	}
	limited.Limits.Burst, limited.Limits.NewKeysPerDay = 2, 2
	c = config.Default()
	c.Tenants = []tenant.Settings{limited}
	if err := customers.Configure(c); err != nil {
		t.Fatal(err)
	}
	if gate, quota := use(); gate != nil || quota != nil {
		t.Error("new limits do not hold", gate, quota)
	}
}
