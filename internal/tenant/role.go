package tenant

import (
	"errors"
	"fmt"
	"slices"
)

// Role is something that a credential may do for its tenant.
type Role string

// The roles.
const (
	// RoleEncryptor asks for content keys.
	RoleEncryptor Role = "encryptor"

	// RoleEntitlement reads what content keys are for: key IDs, contents,
	// tracks and periods, never a key. It is for the service that decides who
	// may play what.
	RoleEntitlement Role = "entitlement"
)

// Has reports whether the credential has a role.
func (c *Credential) Has(r Role) bool {
	if len(c.Roles) == 0 {
		return r == RoleEncryptor
	}
	return slices.Contains(c.Roles, r)
}

// checkRoles refuses a secret-less credential that reads: what it stands for
// is written in every request of an encryptor.
func (c *Credential) checkRoles() error {
	for _, r := range c.Roles {
		if r != RoleEncryptor && r != RoleEntitlement {
			return fmt.Errorf("roles: %q is neither %s nor %s", string(r), RoleEncryptor, RoleEntitlement)
		}
	}
	if c.DeliveryCertificate != nil && c.Has(RoleEntitlement) {
		return errors.New("roles: a delivery certificate is no secret, so that nobody may read with it")
	}
	return nil
}
