package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// maxRows is how many rows of a kind are written in one transaction.
const maxRows = 1000

const recordColumns = "kid, wrapped, data_key, source, content_id, scheme, created, deleted"

const selectKeys = "SELECT " + recordColumns + " FROM content_keys WHERE tenant = $1 AND kid = ANY ($2::bytea[])"

const insertKeys = "INSERT INTO content_keys (tenant, " + recordColumns + `)
	SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::bigint[], $5::text[], $6::text[], $7::text[],
		$8::timestamptz[], $9::timestamptz[])
	ON CONFLICT (tenant, kid) DO NOTHING RETURNING tenant, kid`

// Keys implements [keystore.Store].
func (db *DB) Keys(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Record, error) {
	if len(kids) == 0 {
		return nil, ctx.Err()
	}
	if err := storable(tenant); err != nil {
		return nil, err
	}
	ids := make([][]byte, len(kids))
	for i := range kids {
		ids[i] = kids[i][:]
	}
	var all []keystore.Record
	err := db.do(ctx, "reading content keys", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, selectKeys, tenant, ids)
		if err == nil {
			all, err = collectRecords(rows, tenant)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func collectRecords(rows pgx.Rows, tenant string) ([]keystore.Record, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (keystore.Record, error) {
		r := keystore.Record{Tenant: tenant}
		var kid []byte
		var scheme string
		var deleted *time.Time
		err := row.Scan(&kid, &r.Wrapped, &r.DataKey, &r.Source, &r.ContentID, &scheme, &r.Created, &deleted)
		if err != nil {
			return r, err
		}
		copy(r.KID[:], kid)
		if len(kid) != len(r.KID) || r.Scheme.UnmarshalText([]byte(scheme)) != nil {
			return r, fmt.Errorf("content key %s: %w: key ID of %d bytes, scheme %q", r.KID, keystore.ErrCorrupt, len(kid), scheme)
		}
		r.Created = r.Created.UTC()
		if deleted != nil {
			r.Deleted = deleted.UTC()
		}
		return r, nil
	})
}

// storable reports a text that PostgreSQL cannot hold.
func storable(texts ...string) error {
	for _, s := range texts {
		if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
			return fmt.Errorf("the text %.40q cannot be stored: it has a NUL or is not UTF-8", s)
		}
	}
	return nil
}

// DataKeys implements [keystore.Store].
func (db *DB) DataKeys(ctx context.Context, tenant string) ([]keystore.DataKey, error) {
	if err := storable(tenant); err != nil {
		return nil, err
	}
	var all []keystore.DataKey
	err := db.do(ctx, "reading data keys", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT id, kek, wrapped, created FROM data_keys WHERE tenant = $1 ORDER BY id", tenant)
		if err == nil {
			all, err = collectDataKeys(rows, tenant)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func collectDataKeys(rows pgx.Rows, tenant string) ([]keystore.DataKey, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (keystore.DataKey, error) {
		k := keystore.DataKey{Tenant: tenant}
		err := row.Scan(&k.ID, &k.KEK, &k.Wrapped, &k.Created)
		k.Created = k.Created.UTC()
		return k, err
	})
}

// CreateDataKey implements [keystore.Store]. A tenant that has content keys
// and no data key has lost it: then a first one is refused as
// [keystore.ErrCorrupt].
func (db *DB) CreateDataKey(ctx context.Context, k keystore.DataKey) (keystore.DataKey, error) {
	what := fmt.Sprintf("storing data key %d of %s", k.ID, k.Tenant)
	if err := storable(k.Tenant, k.KEK); err != nil {
		return keystore.DataKey{}, fmt.Errorf("%s: %w", what, err)
	}
	var stored []keystore.DataKey
	err := db.do(ctx, what, func(ctx context.Context, conn *pgx.Conn) error {
		b := &pgx.Batch{}
		b.Queue("INSERT INTO data_keys (tenant, id, kek, wrapped, created) "+
			"SELECT $1::text, $2::bigint, $3::text, $4::bytea, $5::timestamptz "+
			"WHERE EXISTS (SELECT 1 FROM data_keys WHERE tenant = $1::text) "+
			"OR NOT EXISTS (SELECT 1 FROM content_keys WHERE tenant = $1::text) "+
			"ON CONFLICT (tenant, id) DO NOTHING", k.Tenant, int64(k.ID), k.KEK, notNil(k.Wrapped), k.Created)
		b.Queue("SELECT id, kek, wrapped, created FROM data_keys WHERE tenant = $1 AND id = $2", k.Tenant, int64(k.ID)).
			Query(func(rows pgx.Rows) (err error) {
				stored, err = collectDataKeys(rows, k.Tenant)
				return err
			})
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return keystore.DataKey{}, err
	}
	if len(stored) == 0 {
		return keystore.DataKey{}, fmt.Errorf("%s: %w: the tenant has content keys, but what wrapped them is lost",
			what, keystore.ErrCorrupt)
	}
	return stored[0], nil
}

// notNil returns bytes that are not stored as NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Commit implements [keystore.Store]. Up to a thousand keys and bindings take
// one round trip, and a second one when a key existed.
func (db *DB) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	if err := allStorable(keys, bindings); err != nil {
		return nil, fmt.Errorf("storing: %w", err)
	}
	if len(keys)+len(bindings) == 0 {
		return nil, ctx.Err()
	}
	stored := make([]keystore.Record, 0, len(keys))
	for len(keys)+len(bindings) > 0 {
		k, b := min(len(keys), maxRows), min(len(bindings), maxRows)
		part, err := db.commit(ctx, keys[:k], bindings[:b])
		if err != nil {
			return nil, err
		}
		stored = append(stored, part...)
		keys, bindings = keys[k:], bindings[b:]
	}
	return stored, nil
}

func allStorable(keys []keystore.Record, bindings []keystore.Binding) error {
	for i := range keys {
		r := &keys[i]
		if err := storable(r.Tenant, r.Source, r.ContentID); err != nil {
			return fmt.Errorf("content key %s: %w", r.KID, err)
		}
	}
	for i := range bindings {
		b, p := &bindings[i], &bindings[i].Period
		err := storable(b.Tenant, b.ContentID, b.Track, p.ID, p.Index, p.Start, p.End, b.Profile, b.IV)
		if err == nil {
			err = storable(b.Systems...)
		}
		if err != nil {
			return fmt.Errorf("binding of content key %s: %w", b.KID, err)
		}
	}
	return nil
}

// ref is what a content key is found by.
type ref struct {
	tenant string
	kid    contentkey.KID
}

func (db *DB) commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	fresh := distinct(keys)
	var created map[ref]bool
	err := db.do(ctx, "storing", func(ctx context.Context, conn *pgx.Conn) error {
		created = make(map[ref]bool, len(fresh))
		b := &pgx.Batch{} // one transaction
		if len(fresh) > 0 {
			b.Queue(insertKeys, columns(fresh)...).Query(func(rows pgx.Rows) error {
				var r ref
				var kid []byte
				_, err := pgx.ForEachRow(rows, []any{&r.tenant, &kid}, func() error {
					copy(r.kid[:], kid)
					created[r] = true
					return nil
				})
				return err
			})
		}
		queueBindings(b, bindings)
		return conn.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return nil, err
	}

	have := make(map[ref]keystore.Record, len(fresh))
	missing := make(map[string][]contentkey.KID)
	for _, r := range fresh {
		if at := (ref{r.Tenant, r.KID}); created[at] {
			have[at] = r
		} else {
			missing[r.Tenant] = append(missing[r.Tenant], r.KID)
		}
	}
	for tenant, kids := range missing { // as a rule there is one tenant
		records, err := db.Keys(ctx, tenant, kids)
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			have[ref{tenant, r.KID}] = r
		}
	}
	stored := make([]keystore.Record, len(keys))
	for i := range keys {
		r, ok := have[ref{keys[i].Tenant, keys[i].KID}]
		if !ok {
			return nil, fmt.Errorf("storing content key %s: %w: it exists and cannot be read", keys[i].KID, keystore.ErrCorrupt)
		}
		stored[i] = r
	}
	return stored, nil
}

// distinct returns the first record of each key. The order is that in which
// all transactions take their rows, so that none waits for another that waits
// for it.
func distinct(keys []keystore.Record) []keystore.Record {
	keys = slices.Clone(keys)
	order := func(a, b keystore.Record) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), bytes.Compare(a.KID[:], b.KID[:]))
	}
	slices.SortStableFunc(keys, order)
	return slices.CompactFunc(keys, func(a, b keystore.Record) bool { return order(a, b) == 0 })
}

// columns returns the arguments of insertKeys.
func columns(keys []keystore.Record) []any {
	n := len(keys)
	tenants, kids, wrapped, dataKeys := make([]string, n), make([][]byte, n), make([][]byte, n), make([]int64, n)
	sources, contents, schemes := make([]string, n), make([]string, n), make([]string, n)
	created, deleted := make([]time.Time, n), make([]*time.Time, n)
	for i := range keys {
		r := &keys[i]
		tenants[i], kids[i], wrapped[i], dataKeys[i] = r.Tenant, r.KID[:], notNil(r.Wrapped), int64(r.DataKey)
		sources[i], contents[i], schemes[i] = r.Source, r.ContentID, r.Scheme.String()
		created[i] = r.Created
		if !r.Deleted.IsZero() {
			deleted[i] = &r.Deleted
		}
	}
	return []any{tenants, kids, wrapped, dataKeys, sources, contents, schemes, created, deleted}
}
