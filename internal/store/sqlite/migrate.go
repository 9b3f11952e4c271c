package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"

	"spekeasy/internal/store/relational"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrate brings the schema of a database file up to date, as [Open] does,
// and returns its version before and after.
func Migrate(ctx context.Context, path string, o Options) (from, to int, err error) {
	db, err := Open(ctx, path, o)
	if err != nil {
		return 0, 0, err
	}
	from, to = db.writer.migratedFrom, db.writer.migratedTo
	return from, to, db.Close()
}

// migrate brings the schema up to date in one transaction, and returns the
// version that it was at and the one it is at. Of several processes that
// start at once, one does it and the others find it done.
func migrate(ctx context.Context, conn *sql.Conn) (from, to int, err error) {
	scripts, err := relational.Migrations(migrationFiles)
	if err != nil {
		return 0, 0, err
	}
	exec := func(query string) error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), query)
		return err
	}
	err = immediate(exec, func() (err error) {
		if from, err = schemaVersion(ctx, conn); err != nil {
			return err
		}
		if from > len(scripts) {
			return fmt.Errorf("its schema %d is newer than %d, the newest that this program knows", from, len(scripts))
		}
		for i := from; i < len(scripts); i++ {
			if _, err := conn.ExecContext(ctx, scripts[i]); err != nil {
				return fmt.Errorf("migration to schema %d: %w", i+1, err)
			}
			if _, err := conn.ExecContext(ctx, "INSERT INTO schema_version (version) VALUES (?)", i+1); err != nil {
				return fmt.Errorf("migration to schema %d: %w", i+1, err)
			}
		}
		return nil
	})
	return from, len(scripts), err
}

// schemaVersion returns the number of migrations that were applied.
func schemaVersion(ctx context.Context, conn *sql.Conn) (version int, err error) {
	var tables, ours int
	err = conn.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE name = 'schema_version') "+
		"FROM sqlite_schema WHERE type = 'table'").Scan(&tables, &ours)
	if err != nil {
		return 0, err
	}
	if ours == 0 {
		if tables > 0 {
			return 0, fmt.Errorf("the file is the database of another program")
		}
		_, err := conn.ExecContext(ctx, "CREATE TABLE schema_version (version INTEGER PRIMARY KEY) STRICT")
		return 0, err
	}
	err = conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&version)
	return version, err
}

// immediate runs f in a transaction that may write. exec runs a statement.
func immediate(exec func(query string) error, f func() error) error {
	if err := exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = exec("COMMIT")
	}
	if err != nil {
		// Some errors have rolled back already; then this one says so.
		_ = exec("ROLLBACK")
	}
	return err
}
