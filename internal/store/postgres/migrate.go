package postgres

import (
	"context"
	"embed"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"spekeasy/internal/store/relational"
)

// Not every database undoes the definition of a table with its transaction,
// so a script may run again after it was interrupted anywhere.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrate brings the schema of the database up to date and returns its
// version before and after. Of several processes that do so at once, one does
// it and the others find it done. A schema that is newer than this program is
// an error and left alone.
func Migrate(ctx context.Context, dsn string) (from, to int, err error) {
	config, err := parse(dsn)
	if err != nil {
		return 0, 0, err
	}
	return migrate(ctx, config)
}

func migrate(ctx context.Context, config *pgxpool.Config) (from, to int, err error) {
	from, to, err = migrateOn(ctx, config.ConnConfig)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", name(config), sorted(err))
	}
	return from, to, nil
}

func migrateOn(ctx context.Context, config *pgx.ConnConfig) (from, to int, err error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, 0, connectionError{withoutConfig(err)}
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := checkSettings(ctx, conn); err != nil {
		return 0, 0, err
	}
	scripts, err := relational.Migrations(migrationFiles)
	if err != nil {
		return 0, 0, err
	}
	for attempt := 1; ; attempt++ {
		from, err := apply(ctx, conn, scripts)
		if err == nil || attempt == attempts[conflict] || !raced(err) {
			return from, len(scripts), err
		}
		pause(ctx, attempt)
	}
}

// collisions are what two processes meet that create the same table at once
// and both believe that it is missing: unique_violation of a system table,
// duplicate_table, duplicate_object, and "tuple concurrently updated".
var collisions = []string{"23505", "42P07", "42710", "XX000"}

// raced reports whether another process may have got in the way.
func raced(err error) bool {
	return faultOf(err) == conflict || slices.Contains(collisions, sqlState(err))
}

// apply runs the scripts that are due and returns the version before.
func apply(ctx context.Context, conn *pgx.Conn, scripts []string) (from int, err error) {
	from, err = schemaVersion(ctx, conn)
	if err == nil {
		err = tooNew(from, scripts)
	}
	if err != nil || from == len(scripts) {
		return from, err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS spekeasy_schema "+
		"(version integer PRIMARY KEY, applied timestamptz NOT NULL DEFAULT now())")
	if err != nil {
		return from, err
	}
	for i := from; i < len(scripts); i++ {
		if err := applyOne(ctx, conn, i+1, scripts[i]); err != nil {
			return from, fmt.Errorf("migration to schema %d: %w", i+1, err)
		}
	}
	return from, nil
}

func applyOne(ctx context.Context, conn *pgx.Conn, version int, script string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		// The row is also the lock: who comes second waits here. Advisory
		// locks do nothing on CockroachDB.
		tag, err := tx.Exec(ctx, "INSERT INTO spekeasy_schema (version) VALUES ($1) ON CONFLICT (version) DO NOTHING", version)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		_, err = conn.PgConn().Exec(ctx, script).ReadAll()
		return err
	})
}

// schemaVersion returns the number of migrations that were applied.
func schemaVersion(ctx context.Context, conn *pgx.Conn) (version int, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM spekeasy_schema").Scan(&version)
	if sqlState(err) == undefinedTable {
		return 0, nil
	}
	return version, err
}

func tooNew(version int, scripts []string) error {
	if version > len(scripts) {
		return fmt.Errorf("its schema %d is newer than %d, the newest that this program knows", version, len(scripts))
	}
	return nil
}
