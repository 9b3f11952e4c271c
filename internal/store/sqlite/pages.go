package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

const bindingColumns = "content_id, requested, kid, track, scheme, " +
	"period_id, period_index, period_start, period_end, profile, systems, iv, first_seen, last_seen"

// Tenants implements [keystore.Pager].
func (db *DB) Tenants(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := db.readers.QueryContext(ctx,
		"SELECT DISTINCT tenant FROM data_keys WHERE tenant > ? ORDER BY tenant LIMIT ?", after, limit)
	if err != nil {
		return nil, readError(ctx, "tenants", err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return nil, readError(ctx, "tenants", err)
		}
		all = append(all, tenant)
	}
	if err := rows.Err(); err != nil {
		return nil, readError(ctx, "tenants", err)
	}
	return all, nil
}

// PageKeys implements [keystore.Pager].
func (db *DB) PageKeys(ctx context.Context, tenant, after string, limit int) ([]keystore.Record, string, error) {
	from := []byte{} // before every key ID
	if after != "" {
		kid, err := contentkey.ParseKID(after)
		if err != nil {
			return nil, "", fmt.Errorf("position %q: %w", after, err)
		}
		from = kid[:]
	}
	rows, err := db.readers.QueryContext(ctx,
		"SELECT "+recordColumns+" FROM content_keys WHERE tenant = ? AND kid > ? ORDER BY kid LIMIT ?", tenant, from, limit)
	var page []keystore.Record
	if err == nil {
		page, err = appendRecords(nil, tenant, rows)
	}
	if err != nil {
		return nil, "", readError(ctx, "content keys", err)
	}
	next := ""
	if len(page) == limit {
		next = page[limit-1].KID.String()
	}
	return page, next, nil
}

// PageBindings implements [keystore.Pager]. The order is that in which the
// bindings were first recorded.
func (db *DB) PageBindings(ctx context.Context, tenant string, f keystore.BindingFilter, after string, limit int) ([]keystore.Binding, string, error) {
	query := "SELECT seq, " + bindingColumns + " FROM bindings WHERE tenant = :tenant AND seq > :after"
	args := []any{sql.Named("tenant", tenant), sql.Named("limit", limit)}
	if f.ContentID != "" {
		query += " AND content_id = :content"
		args = append(args, sql.Named("content", f.ContentID))
	}
	if f.KID != (contentkey.KID{}) {
		query += " AND (kid = :kid OR requested = :kid AND requested <> kid)"
		args = append(args, sql.Named("kid", f.KID[:]))
	}
	seq := int64(0)
	if after != "" {
		var err error
		if seq, err = strconv.ParseInt(after, 10, 64); err != nil {
			return nil, "", fmt.Errorf("position %q: %w", after, err)
		}
	}
	args = append(args, sql.Named("after", seq))
	rows, err := db.readers.QueryContext(ctx, query+" ORDER BY seq LIMIT :limit", args...)
	if err != nil {
		return nil, "", readError(ctx, "bindings", err)
	}
	defer rows.Close()
	var page []keystore.Binding
	for rows.Next() {
		b, err := scanBinding(tenant, &seq, rows)
		if err != nil {
			return nil, "", readError(ctx, "bindings", err)
		}
		page = append(page, b)
	}
	if err := rows.Err(); err != nil {
		return nil, "", readError(ctx, "bindings", err)
	}
	next := ""
	if len(page) == limit {
		next = strconv.FormatInt(seq, 10)
	}
	return page, next, nil
}

func scanBinding(tenant string, seq *int64, rows *sql.Rows) (keystore.Binding, error) {
	b := keystore.Binding{Tenant: tenant}
	var requested, kid []byte
	var scheme, systems string
	var first, last int64
	err := rows.Scan(seq, &b.ContentID, &requested, &kid, &b.Track, &scheme,
		&b.Period.ID, &b.Period.Index, &b.Period.Start, &b.Period.End, &b.Profile, &systems, &b.IV, &first, &last)
	if err != nil {
		return b, err
	}
	copy(b.Requested[:], requested)
	copy(b.KID[:], kid)
	if len(requested) != len(b.Requested) || len(kid) != len(b.KID) || b.Scheme.UnmarshalText([]byte(scheme)) != nil {
		return b, fmt.Errorf("binding %d: %w: key IDs of %d and %d bytes, scheme %q",
			*seq, keystore.ErrCorrupt, len(requested), len(kid), scheme)
	}
	b.Systems = strings.Fields(systems)
	b.FirstSeen, b.LastSeen = fromMicros(first), fromMicros(last)
	return b, nil
}
