package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"spekeasy/internal/tenant"
)

// Roles of the admin API, each of which may do what the one before may.
const (
	RoleViewer          = "viewer"
	RoleOperator        = "operator"
	RoleSecurityOfficer = "security-officer"
)

// Roles returns all roles in ascending order.
func Roles() []string { return []string{RoleViewer, RoleOperator, RoleSecurityOfficer} }

// AdminCredential lets somebody into the admin API.
type AdminCredential struct {
	tenant.Credential `yaml:",inline"`
	Role              string `yaml:"role"`
}

// AdminKinds are the ways into the admin API.
func AdminKinds() []string { return []string{"basic", "api_key", "mtls", "jwt"} }

// Check judges a credential by itself. The error never holds a secret.
func (c *AdminCredential) Check() error {
	if err := tenant.CheckName(c.Name); err != nil {
		return err
	}
	if !slices.Contains(Roles(), c.Role) {
		return fmt.Errorf("role: %q is none of %s", c.Role, strings.Join(Roles(), ", "))
	}
	if err := c.Credential.Check(); err != nil {
		return err
	}
	if !slices.Contains(AdminKinds(), c.Kind()) {
		return fmt.Errorf("%s: not a way into the admin API, which has %s", c.Kind(), strings.Join(AdminKinds(), ", "))
	}
	return nil
}

func (c *Config) checkAdmin() (errs []error) {
	seen := make(map[string]bool)
	for i := range c.Admin.Credentials {
		a := &c.Admin.Credentials[i]
		err := a.Check()
		if err == nil && seen[a.Name] {
			err = errors.New("the name occurs twice")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("admin.credentials[%d] (%s): %w", i, a.Name, err))
		}
		seen[a.Name] = true
	}
	return errs
}
