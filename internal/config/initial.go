package config

import (
	_ "embed"
	"strconv"
	"strings"
)

//go:embed initial.yaml
var initialText string

// Initial is what a new configuration file begins with.
type Initial struct {
	Data         string // directory
	Tenant       string // the first one, whose user in HTTP Basic has the same name
	PasswordHash string // that user's
	AdminHash    string // of the password of root, who may do everything in the admin API
}

// File returns a configuration file with every setting, its default and its
// meaning.
func (i Initial) File() []byte {
	return []byte(strings.NewReplacer(
		"@DATA@", strconv.Quote(i.Data), "@TENANT@", i.Tenant, "@PASSWORD_HASH@", strconv.Quote(i.PasswordHash),
		"@ADMIN_HASH@", strconv.Quote(i.AdminHash),
	).Replace(initialText))
}
