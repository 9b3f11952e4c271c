package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

const recordColumns = "kid, wrapped, data_key, source, content_id, scheme, created, deleted"

// keysQuery reads a fixed number of key IDs.
type keysQuery struct {
	kids int
	stmt *sql.Stmt
}

// prepare makes the statements for reads that requests wait for.
func (db *DB) prepare(ctx context.Context) error {
	for _, n := range []int{64, 16, 8, 4, 2, 1} {
		s, err := db.readers.PrepareContext(ctx, "SELECT "+recordColumns+" FROM content_keys WHERE tenant = ? AND kid IN (?"+
			strings.Repeat(", ?", n-1)+")")
		if err != nil {
			return err
		}
		db.reads = append(db.reads, keysQuery{n, s})
	}
	var err error
	db.dataKey, err = db.readers.PrepareContext(ctx,
		"SELECT id, kek, wrapped, created FROM data_keys WHERE tenant = ? ORDER BY id")
	return err
}

// Keys implements [keystore.Store]. A query takes microseconds and is not
// interrupted: to be ready for that would double its cost.
func (db *DB) Keys(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Record, error) {
	kids = slices.Clone(kids)
	slices.SortFunc(kids, func(a, b contentkey.KID) int { return slices.Compare(a[:], b[:]) })
	kids = slices.Compact(kids)
	var all []keystore.Record
	for len(kids) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, readError(ctx, "content keys", err)
		}
		// The largest query that is filled, else the smallest that holds the
		// rest, filled up with the last key ID.
		q := db.reads[0]
		for _, smaller := range db.reads[1:] {
			if len(kids) <= smaller.kids {
				q = smaller
			}
		}
		n := min(q.kids, len(kids))
		args := make([]any, 1, 1+q.kids)
		args[0] = tenant
		for i := range q.kids {
			args = append(args, kids[min(i, n-1)][:])
		}
		rows, err := q.stmt.QueryContext(context.WithoutCancel(ctx), args...)
		if err == nil {
			all, err = appendRecords(all, tenant, rows)
		}
		if err != nil {
			return nil, readError(ctx, "content keys", err)
		}
		kids = kids[n:]
	}
	return all, nil
}

func appendRecords(all []keystore.Record, tenant string, rows *sql.Rows) ([]keystore.Record, error) {
	defer rows.Close()
	for rows.Next() {
		r, err := scanRecord(tenant, rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

func scanRecord(tenant string, scan func(...any) error) (keystore.Record, error) {
	r := keystore.Record{Tenant: tenant}
	var kid []byte
	var scheme string
	var created, deleted int64
	err := scan(&kid, &r.Wrapped, &r.DataKey, &r.Source, &r.ContentID, &scheme, &created, &deleted)
	if err != nil {
		return r, err
	}
	copy(r.KID[:], kid)
	if len(kid) != len(r.KID) || r.Scheme.UnmarshalText([]byte(scheme)) != nil {
		return r, fmt.Errorf("content key %s: %w: key ID of %d bytes, scheme %q", r.KID, keystore.ErrCorrupt, len(kid), scheme)
	}
	r.Created, r.Deleted = fromMicros(created), fromMicros(deleted)
	return r, nil
}

// readError names what was read and sorts the error.
func readError(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("reading %s: %w", what, sorted(err))
}

// DataKeys implements [keystore.Store].
func (db *DB) DataKeys(ctx context.Context, tenant string) ([]keystore.DataKey, error) {
	rows, err := db.dataKey.QueryContext(ctx, tenant)
	if err != nil {
		return nil, readError(ctx, "data keys", err)
	}
	defer rows.Close()
	var all []keystore.DataKey
	for rows.Next() {
		k := keystore.DataKey{Tenant: tenant}
		var created int64
		if err := rows.Scan(&k.ID, &k.KEK, &k.Wrapped, &created); err != nil {
			return nil, readError(ctx, "data keys", err)
		}
		k.Created = fromMicros(created)
		all = append(all, k)
	}
	if err := rows.Err(); err != nil {
		return nil, readError(ctx, "data keys", err)
	}
	return all, nil
}

// CreateDataKey implements [keystore.Store].
func (db *DB) CreateDataKey(ctx context.Context, k keystore.DataKey) (keystore.DataKey, error) {
	var stored keystore.DataKey
	err := db.writer.do(ctx, func(w *writer) error {
		var orphans bool
		err := w.read([]any{&orphans}, "SELECT EXISTS (SELECT 1 FROM content_keys WHERE tenant = ?1) "+
			"AND NOT EXISTS (SELECT 1 FROM data_keys WHERE tenant = ?1)", k.Tenant)
		if err != nil {
			return err
		}
		if orphans {
			return fmt.Errorf("%w: it has content keys, but what wrapped them is lost", keystore.ErrCorrupt)
		}
		_, err = w.exec("INSERT INTO data_keys (tenant, id, kek, wrapped, created) VALUES (?, ?, ?, ?, ?) "+
			"ON CONFLICT (tenant, id) DO NOTHING", k.Tenant, k.ID, k.KEK, k.Wrapped, micros(k.Created))
		if err != nil {
			return err
		}
		var created int64
		stored = keystore.DataKey{Tenant: k.Tenant, ID: k.ID}
		err = w.read([]any{&stored.KEK, &stored.Wrapped, &created},
			"SELECT kek, wrapped, created FROM data_keys WHERE tenant = ? AND id = ?", k.Tenant, k.ID)
		stored.Created = fromMicros(created)
		return err
	})
	if err != nil {
		return keystore.DataKey{}, fmt.Errorf("storing data key %d of %s: %w", k.ID, k.Tenant, err)
	}
	return stored, nil
}

// Commit implements [keystore.Store].
func (db *DB) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	if len(keys)+len(bindings) == 0 {
		return nil, ctx.Err()
	}
	var stored []keystore.Record
	err := db.writer.do(ctx, func(w *writer) error {
		stored = make([]keystore.Record, len(keys))
		for i := range keys {
			r, err := w.createKey(&keys[i])
			if err != nil {
				return fmt.Errorf("content key %s: %w", keys[i].KID, err)
			}
			stored[i] = r
		}
		for i := range bindings {
			if err := w.mergeBinding(&bindings[i]); err != nil {
				return fmt.Errorf("binding of content key %s: %w", bindings[i].KID, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("storing: %w", err)
	}
	return stored, nil
}

const insertKey = "INSERT INTO content_keys (tenant, " + recordColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"

// keyRow are the values of insertKey.
func keyRow(r *keystore.Record) []any {
	return []any{
		r.Tenant, r.KID[:], blob(r.Wrapped), r.DataKey, r.Source, r.ContentID, r.Scheme.String(),
		micros(r.Created), micros(r.Deleted),
	}
}

// CommitNew implements [keystore.NewCommitter]. Rows that nobody stored before
// take one statement each for keys and for bindings.
func (db *DB) CommitNew(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) (bool, error) {
	if len(keys) > maxRows || len(bindings) > maxRows {
		return false, nil
	}
	var isNew bool
	err := db.writer.do(ctx, func(w *writer) (err error) {
		if isNew, err = w.createKeys(keys); err != nil || !isNew {
			return err
		}
		return w.mergeBindings(bindings)
	})
	if err != nil {
		return false, fmt.Errorf("storing new keys: %w", err)
	}
	return isNew, nil
}

// maxRows is how many rows one statement inserts at most. There is a prepared
// one for each number.
const maxRows = 64

// createKeys stores records unless there is one of them.
func (w *writer) createKeys(keys []keystore.Record) (bool, error) {
	var args []any
	for i := range keys {
		args = append(args, keyRow(&keys[i])...)
	}
	n, err := w.count(rows(insertKey, len(keys))+" ON CONFLICT DO NOTHING", args...)
	if err != nil {
		return false, noDataKey(err)
	}
	if n == int64(len(keys)) {
		return true, nil
	}
	for i := range keys { // those that went in before one that was there
		k := &keys[i]
		if _, err := w.exec("DELETE FROM content_keys WHERE tenant = ? AND kid = ? AND wrapped = ?", k.Tenant, k.KID[:], blob(k.Wrapped)); err != nil {
			return false, err
		}
	}
	return false, nil
}

// rows is a statement that inserts n rows, made of one that inserts one.
func rows(insert string, n int) string {
	return insert + strings.Repeat(", "+insert[strings.LastIndexByte(insert, '('):], n-1)
}

// createKey stores a record unless there is one, and returns the one there
// is.
func (w *writer) createKey(r *keystore.Record) (keystore.Record, error) {
	_, err := w.exec(insertKey, keyRow(r)...)
	if err == nil {
		return *r, nil
	}
	if !taken(err) {
		return keystore.Record{}, noDataKey(err)
	}
	stored, err := scanRecord(r.Tenant, func(into ...any) error {
		return w.read(into, "SELECT "+recordColumns+" FROM content_keys WHERE tenant = ? AND kid = ?", r.Tenant, r.KID[:])
	})
	if errors.Is(err, sql.ErrNoRows) {
		// The witness index knows the key ID, the table does not.
		return keystore.Record{}, fmt.Errorf("%w: its row is lost", keystore.ErrCorrupt)
	}
	return stored, err
}

// taken reports whether a row with the same unique columns exists.
func taken(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && (e.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE)
}

const insertBinding = "INSERT INTO bindings (identity, tenant, " + bindingColumns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

const unlessBound = " ON CONFLICT (tenant, kid, identity) DO NOTHING"

// bindingRow are the values of insertBinding.
func bindingRow(b *keystore.Binding) []any {
	id, p := b.Identity(), b.Period
	return []any{
		id[:], b.Tenant, b.ContentID, b.Requested[:], b.KID[:], b.Track, b.Scheme.String(),
		p.ID, p.Index, p.Start, p.End,
		b.Profile, joinSystems(b.Systems), b.IV, micros(b.FirstSeen), micros(b.LastSeen),
	}
}

// mergeBindings is mergeBinding for several that are probably new.
func (w *writer) mergeBindings(bindings []keystore.Binding) error {
	var args []any
	for i := range bindings {
		args = append(args, bindingRow(&bindings[i])...)
	}
	n, err := w.count(rows(insertBinding, len(bindings))+unlessBound, args...)
	if err != nil || n == int64(len(bindings)) {
		return err
	}
	for i := range bindings {
		if err := w.mergeBinding(&bindings[i]); err != nil {
			return fmt.Errorf("binding of content key %s: %w", bindings[i].KID, err)
		}
	}
	return nil
}

// mergeBinding creates a binding or brings the stored one up to date.
func (w *writer) mergeBinding(b *keystore.Binding) error {
	row := bindingRow(b)
	created, err := w.exec(insertBinding+unlessBound, row...)
	if created || err != nil {
		return err
	}
	var profile, systems, iv string
	var lastSeen int64
	err = w.read([]any{&profile, &systems, &iv, &lastSeen},
		"SELECT profile, systems, iv, last_seen FROM bindings WHERE tenant = ? AND kid = ? AND identity = ?",
		b.Tenant, b.KID[:], row[0])
	if err != nil {
		return err
	}
	all := joinSystems(append(strings.Fields(systems), b.Systems...))
	if seen := micros(b.LastSeen); seen >= lastSeen {
		profile, lastSeen = b.Profile, seen
		if b.IV != "" {
			iv = b.IV
		}
	}
	_, err = w.exec("UPDATE bindings SET profile = ?, systems = ?, iv = ?, last_seen = ? "+
		"WHERE tenant = ? AND kid = ? AND identity = ?", profile, all, iv, lastSeen, b.Tenant, b.KID[:], row[0])
	return err
}

func joinSystems(ids []string) string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), " ")
}
