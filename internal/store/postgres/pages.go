package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
)

// Tenants implements [keystore.Pager].
func (db *DB) Tenants(ctx context.Context, after string, limit int) ([]string, error) {
	if err := storable(after); err != nil {
		return nil, err
	}
	var all []string
	err := db.do(ctx, "reading tenants", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT DISTINCT tenant FROM data_keys WHERE tenant > $1 ORDER BY tenant LIMIT $2", after, limit)
		if err == nil {
			all, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// PageKeys implements [keystore.Pager].
func (db *DB) PageKeys(ctx context.Context, tenant, after string, limit int) ([]keystore.Record, string, error) {
	if err := storable(tenant); err != nil {
		return nil, "", err
	}
	from, err := relational.ParseKeyPosition(after)
	if err != nil {
		return nil, "", err
	}
	var page []keystore.Record
	err = db.do(ctx, "reading content keys", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT "+recordColumns+" FROM content_keys "+
			"WHERE tenant = $1 AND kid > $2 ORDER BY kid LIMIT $3", tenant, from, limit)
		if err == nil {
			page, err = collectRecords(rows, tenant)
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(page) == limit {
		next = page[limit-1].KID.String()
	}
	return page, next, nil
}

// PageBindings implements [keystore.Pager]. The order is that of the answered
// key ID and then of the identity.
func (db *DB) PageBindings(ctx context.Context, tenant string, f keystore.BindingFilter, after string, limit int) ([]keystore.Binding, string, error) {
	if err := storable(tenant, f.ContentID); err != nil {
		return nil, "", err
	}
	from, err := hex.DecodeString(after)
	if err != nil || len(from) != 0 && len(from) != len(contentkey.KID{})+len(identified{}.id) {
		return nil, "", fmt.Errorf("position %.100q: %w", after, keystore.ErrPosition)
	}
	kid := min(len(from), len(contentkey.KID{}))
	query, args := pageQuery(f, []any{tenant, from[:kid], from[kid:], limit})
	var page []identified
	err = db.do(ctx, "reading bindings", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, query, args...)
		if err == nil {
			page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (identified, error) { return scanBinding(tenant, row) })
		}
		return err
	})
	if err != nil {
		return nil, "", err
	}
	all := make([]keystore.Binding, len(page))
	for i := range page {
		all[i] = *page[i].Binding
	}
	next := ""
	if len(page) == limit {
		last := page[limit-1]
		next = hex.EncodeToString(append(last.KID[:], last.id[:]...))
	}
	return all, next, nil
}

// pageQuery returns the query for a page and its arguments, of which tenant,
// position and limit are given.
func pageQuery(f keystore.BindingFilter, args []any) (string, []any) {
	query := "SELECT " + bindingColumns + " FROM bindings WHERE tenant = $1 AND (kid, identity) > ($2, $3)"
	const order = " ORDER BY kid, identity LIMIT $4"
	if f.ContentID != "" {
		args = append(args, contentDigest(f.ContentID), f.ContentID)
		query += fmt.Sprintf(" AND content = $%d AND content_id = $%d", len(args)-1, len(args))
	}
	if f.KID == (contentkey.KID{}) {
		return query + order, args
	}
	// One index knows the answered key IDs, another those requested. As one
	// condition with OR, both can be passed over for a walk through everything.
	args = append(args, f.KID[:])
	kid := fmt.Sprintf("$%d", len(args))
	return strings.Join([]string{
		"(", query, " AND kid = ", kid, order, ") UNION ALL (",
		query, " AND requested = ", kid, " AND requested <> kid", order, ")", order,
	}, ""), args
}
