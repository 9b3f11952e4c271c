package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

var (
	_ keystore.Custodian = (*DB)(nil)
	_ keystore.Checker   = (*DB)(nil)
	_ keystore.Scrubber  = (*DB)(nil)
)

// Reseal implements [keystore.Custodian].
func (db *DB) Reseal(ctx context.Context, tenant string, changes []keystore.Reseal) (int, error) {
	return db.change(ctx, "sealing anew", func(w *writer) (done int, err error) {
		for i := range changes {
			c := &changes[i]
			changed, err := w.exec("UPDATE content_keys SET wrapped = ?, data_key = ? "+
				"WHERE tenant = ? AND kid = ? AND wrapped = ? AND data_key = ?",
				blob(c.Wrapped), c.DataKey, tenant, c.KID[:], blob(c.OldWrapped), c.OldDataKey)
			if err != nil {
				return 0, fmt.Errorf("content key %s: %w", c.KID, noDataKey(err))
			}
			if changed {
				done++
			}
		}
		return done, nil
	})
}

// RewrapDataKey implements [keystore.Custodian].
func (db *DB) RewrapDataKey(ctx context.Context, old, now keystore.DataKey) (bool, error) {
	done, err := db.change(ctx, "rewrapping", func(w *writer) (int, error) {
		changed, err := w.exec("UPDATE data_keys SET kek = ?, wrapped = ? WHERE tenant = ? AND id = ? AND wrapped = ?",
			now.KEK, now.Wrapped, old.Tenant, old.ID, old.Wrapped)
		return count(changed), err
	})
	return done == 1, err
}

// RemoveDataKey implements [keystore.Custodian]. The foreign key of the
// content keys holds a data key that is in use.
func (db *DB) RemoveDataKey(ctx context.Context, tenant string, id uint32) (bool, error) {
	done, err := db.change(ctx, "removing a data key", func(w *writer) (int, error) {
		_, err := w.exec("DELETE FROM data_keys WHERE tenant = ?1 AND id = ?2 "+
			"AND id < (SELECT max(id) FROM data_keys WHERE tenant = ?1)", tenant, id)
		if err != nil && !missingParent(err) {
			return 0, err
		}
		var left bool
		err = w.read([]any{&left}, "SELECT EXISTS (SELECT 1 FROM data_keys WHERE tenant = ? AND id = ?)", tenant, id)
		return count(!left), err
	})
	return done == 1, err
}

// Delete implements [keystore.Custodian].
func (db *DB) Delete(ctx context.Context, tenant string, kids []contentkey.KID, at time.Time) (int, error) {
	return db.each(ctx, "deleting", kids, "UPDATE content_keys SET deleted = ? WHERE deleted = 0 AND tenant = ? AND kid = ?",
		micros(at), tenant)
}

// Undelete implements [keystore.Custodian].
func (db *DB) Undelete(ctx context.Context, tenant string, kids []contentkey.KID) (int, error) {
	return db.each(ctx, "undeleting", kids,
		"UPDATE content_keys SET deleted = 0 WHERE deleted <> 0 AND length(wrapped) > 0 AND tenant = ? AND kid = ?", tenant)
}

// Purge implements [keystore.Custodian]. What it removes is overwritten in
// the database file (pragma secure_delete), but the file may hold more copies,
// see [DB.Scrub].
func (db *DB) Purge(ctx context.Context, tenant string, kids []contentkey.KID, before time.Time) (int, error) {
	return db.each(ctx, "purging", kids,
		"UPDATE content_keys SET wrapped = x'' WHERE deleted <> 0 AND deleted <= ? AND length(wrapped) > 0 AND tenant = ? AND kid = ?",
		micros(before), tenant)
}

// Scrub implements [keystore.Scrubber]. SQLite overwrites a row that it
// deletes, but not the copies that stay behind in the free space of a page
// when it moves rows to another one, nor those in the write-ahead log. So the
// whole database is rewritten, which takes as much space again in a temporary
// file and as much in the log for that time, and the log is emptied.
func (db *DB) Scrub(ctx context.Context) error {
	c, err := db.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	for _, step := range []func(context.Context, *sql.DB) error{rewrite, emptyLog} {
		// A log that somebody else is writing back is busy at once, whatever
		// the timeout.
		for try := 1; ; try++ {
			err := step(ctx, c)
			if err == nil {
				break
			}
			if !errors.Is(err, keystore.ErrUnavailable) || try == scrubTries {
				return err
			}
			select {
			case <-time.After(time.Duration(try) * 20 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

const scrubTries = 25 // some six seconds of pauses

func rewrite(ctx context.Context, c *sql.DB) error {
	if _, err := c.ExecContext(ctx, "VACUUM"); err != nil {
		return fmt.Errorf("rewriting the database: %w", sorted(err))
	}
	return nil
}

func emptyLog(ctx context.Context, c *sql.DB) error {
	var busy, pages, done int
	if err := c.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &done); err != nil {
		return fmt.Errorf("emptying the write-ahead log: %w", sorted(err))
	}
	if busy != 0 {
		return fmt.Errorf("emptying the write-ahead log: %w: it is in use", keystore.ErrUnavailable)
	}
	return nil
}

// each runs a statement, whose last parameter is the key ID, for each of the
// key IDs and returns how many rows changed.
func (db *DB) each(ctx context.Context, what string, kids []contentkey.KID, query string, args ...any) (int, error) {
	return db.change(ctx, what, func(w *writer) (done int, err error) {
		for i := range kids {
			changed, err := w.exec(query, append(args[:len(args):len(args)], kids[i][:])...)
			if err != nil {
				return 0, fmt.Errorf("content key %s: %w", kids[i], err)
			}
			done += count(changed)
		}
		return done, nil
	})
}

// change runs a write that counts what it did.
func (db *DB) change(ctx context.Context, what string, run func(*writer) (int, error)) (int, error) {
	var done int // no result: the write may go on after a caller that gave up
	err := db.writer.do(ctx, func(w *writer) (err error) {
		done, err = run(w)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return done, nil
}

func count(did bool) int {
	if did {
		return 1
	}
	return 0
}

// blob returns bytes that SQLite does not take for NULL.
func blob(b []byte) []byte { return append([]byte{}, b...) }

// missingParent reports whether a row would name a data key that is not
// stored.
func missingParent(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code() == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

// noDataKey gives the error of such a row its name.
func noDataKey(err error) error {
	if missingParent(err) {
		return fmt.Errorf("%w: %w", keystore.ErrNoDataKey, err)
	}
	return err
}

// Check implements [keystore.Checker].
func (db *DB) Check(ctx context.Context) (faults []string, err error) {
	for _, check := range []struct{ query, columns string }{
		{"PRAGMA integrity_check(20)", "integrity check"},
		{"SELECT DISTINCT \"table\" || ' has rows without their ' || parent FROM pragma_foreign_key_check", "references"},
	} {
		rows, err := db.readers.QueryContext(ctx, check.query)
		if err != nil {
			return faults, readError(ctx, check.columns, err)
		}
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return faults, readError(ctx, check.columns, errors.Join(err, rows.Close()))
			}
			if text != "ok" {
				faults = append(faults, text)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return faults, readError(ctx, check.columns, err)
		}
	}
	return faults, nil
}
