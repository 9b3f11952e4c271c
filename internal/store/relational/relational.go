// Package relational is what the SQL databases share: how the scripts of
// their schemas, a column and the positions in their lists are read.
package relational

import (
	"fmt"
	"io/fs"

	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
)

// Migrations returns the scripts migrations/*.sql in order; the first makes
// schema 1.
func Migrations(files fs.FS) ([]string, error) {
	names, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var scripts []string
	for _, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, string(b))
	}
	return scripts, nil
}

// AuditHash reads a column into a hash of the audit log. The error is
// [keystore.ErrCorrupt].
func AuditHash(h *audit.Hash, column []byte) error {
	if len(column) != len(h) {
		return fmt.Errorf("%w: an audit hash of %d bytes", keystore.ErrCorrupt, len(column))
	}
	copy(h[:], column)
	return nil
}
