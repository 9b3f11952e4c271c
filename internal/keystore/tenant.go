package keystore

import (
	"errors"
	"fmt"
)

// ErrTenant reports a text that cannot name a tenant.
var ErrTenant = errors.New("not a tenant name: want 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit")

// CheckTenant reports whether the text can name a tenant. Names are part of
// what a wrapped key is bound to, so there is one spelling of each.
func CheckTenant(name string) error {
	if len(name) == 0 || len(name) > 64 {
		return fmt.Errorf("tenant %.64q: %w", name, ErrTenant)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return fmt.Errorf("tenant %q: %w", name, ErrTenant)
		}
	}
	return nil
}
