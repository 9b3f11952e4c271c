package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
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
	from, err := relational.ParseKeyPosition(after)
	if err != nil {
		return nil, "", err
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

// PageBindings implements [keystore.Pager]. Bindings of one content or key ID
// come in the order in which they were first recorded, all of a tenant in that
// of their key IDs: each walk follows an index.
func (db *DB) PageBindings(ctx context.Context, tenant string, f keystore.BindingFilter, after string, limit int) ([]keystore.Binding, string, error) {
	where, order := "tenant = :tenant AND (kid, identity) > (:kid, :identity)", "kid, identity"
	from := bindingPlace{kid: []byte{}} // before all others
	if after != "" {
		if err := from.parse(after); err != nil {
			return nil, "", fmt.Errorf("position %.100q: %w", after, keystore.ErrPosition)
		}
	}
	args := []any{
		sql.Named("tenant", tenant), sql.Named("limit", limit),
		sql.Named("kid", from.kid), sql.Named("identity", from.identity), sql.Named("seq", from.seq),
	}
	if f.ContentID != "" || f.KID != (contentkey.KID{}) {
		where, order = "seq > :seq", "seq"
	}
	if f.KID != (contentkey.KID{}) {
		where += " AND seq IN (SELECT seq FROM bindings WHERE tenant = :tenant AND kid = :only" +
			" UNION SELECT seq FROM bindings WHERE tenant = :tenant AND requested = :only AND requested <> kid)"
		args = append(args, sql.Named("only", f.KID[:]))
	}
	if f.ContentID != "" {
		where += " AND tenant = :tenant AND content_id = :content"
		args = append(args, sql.Named("content", f.ContentID))
	}
	rows, err := db.readers.QueryContext(ctx,
		"SELECT seq, identity, "+bindingColumns+" FROM bindings WHERE "+where+" ORDER BY "+order+" LIMIT :limit", args...)
	if err != nil {
		return nil, "", readError(ctx, "bindings", err)
	}
	defer rows.Close()
	var page []keystore.Binding
	var at bindingPlace
	for rows.Next() {
		b, err := scanBinding(tenant, &at, rows)
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
		next = at.String()
	}
	return page, next, nil
}

// bindingPlace is where a binding is in every order.
type bindingPlace struct {
	seq           int64
	kid, identity []byte
}

func (p *bindingPlace) String() string { return fmt.Sprintf("%d.%x.%x", p.seq, p.kid, p.identity) }

func (p *bindingPlace) parse(s string) error {
	_, err := fmt.Sscanf(s, "%d.%x.%x", &p.seq, &p.kid, &p.identity)
	return err
}

func scanBinding(tenant string, at *bindingPlace, rows *sql.Rows) (keystore.Binding, error) {
	b := keystore.Binding{Tenant: tenant}
	var requested []byte
	var scheme, systems string
	var first, last int64
	err := rows.Scan(&at.seq, &at.identity, &b.ContentID, &requested, &at.kid, &b.Track, &scheme,
		&b.Period.ID, &b.Period.Index, &b.Period.Start, &b.Period.End, &b.Profile, &systems, &b.IV, &first, &last)
	if err != nil {
		return b, err
	}
	copy(b.Requested[:], requested)
	copy(b.KID[:], at.kid)
	if len(requested) != len(b.Requested) || len(at.kid) != len(b.KID) || b.Scheme.UnmarshalText([]byte(scheme)) != nil {
		return b, fmt.Errorf("binding %d: %w: key IDs of %d and %d bytes, scheme %q",
			at.seq, keystore.ErrCorrupt, len(requested), len(at.kid), scheme)
	}
	b.Systems = strings.Fields(systems)
	b.FirstSeen, b.LastSeen = fromMicros(first), fromMicros(last)
	return b, nil
}
