package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
)

var _ keystore.Feed = (*DB)(nil)

// FollowBindings implements [keystore.Feed].
func (db *DB) FollowBindings(ctx context.Context, tenant, after string, limit int) ([]keystore.Followed, error) {
	from, err := relational.ParseFeedPosition(after)
	if err != nil {
		return nil, err
	}
	rows, err := db.readers.QueryContext(ctx, "SELECT seq, identity, "+bindingColumns+
		" FROM bindings INDEXED BY bindings_feed WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?", tenant, from, limit)
	if err != nil {
		return nil, readError(ctx, "new bindings", err)
	}
	defer rows.Close()
	var page []keystore.Followed
	at := bindingPlace{seq: from}
	for rows.Next() {
		b, err := scanBinding(tenant, &at, rows)
		if err != nil {
			return nil, readError(ctx, "new bindings", err)
		}
		page = append(page, keystore.Followed{Binding: b, Position: relational.FeedPosition(at.seq)})
	}
	if err := rows.Err(); err != nil {
		return nil, readError(ctx, "new bindings", err)
	}
	if len(page) > 0 || from == 0 {
		return page, nil
	}
	end, err := db.lastBinding(ctx, tenant)
	if err == nil && from > end {
		err = fmt.Errorf("position %s: %w", after, keystore.ErrPosition)
	}
	return nil, err
}

// FeedEnd implements [keystore.Feed].
func (db *DB) FeedEnd(ctx context.Context, tenant string) (string, error) {
	end, err := db.lastBinding(ctx, tenant)
	return relational.FeedPosition(end), err
}

// lastBinding returns the highest seq of a tenant's bindings, 0 for none.
func (db *DB) lastBinding(ctx context.Context, tenant string) (seq int64, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM bindings WHERE tenant = ?", tenant).Scan(&seq)
	if err != nil {
		return 0, readError(ctx, "the feed of bindings", err)
	}
	return seq, nil
}

// Note implements [keystore.Feed].
func (db *DB) Note(ctx context.Context, name string) (value []byte, version int64, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT value, version FROM notes WHERE name = ?", name).Scan(&value, &version)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, readError(ctx, "note "+name, err)
	}
	return value, version, nil
}

// SetNote implements [keystore.Feed].
func (db *DB) SetNote(ctx context.Context, name string, value []byte, version int64) (done bool, err error) {
	n, err := db.change(ctx, "keeping note "+name, func(w *writer) (int, error) {
		var changed bool
		var err error
		if version == 0 {
			changed, err = w.exec("INSERT INTO notes (name, value, version) VALUES (?, ?, 1) ON CONFLICT (name) DO NOTHING", name, blob(value))
		} else {
			changed, err = w.exec("UPDATE notes SET value = ?, version = version + 1 WHERE name = ? AND version = ?", blob(value), name, version)
		}
		return count(changed), err
	})
	return n == 1, err
}
