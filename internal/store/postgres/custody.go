package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

var _ keystore.Custodian = (*DB)(nil)

// removal is how long removing a data key may take: the database looks
// through all content keys of the tenant for one that refers to it.
const removal = 5 * time.Minute

const resealKeys = `UPDATE content_keys k SET wrapped = v.wrapped, data_key = v.data_key
	FROM unnest($2::bytea[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bigint[])
		AS v (kid, old_wrapped, old_data_key, wrapped, data_key)
	WHERE k.tenant = $1 AND k.kid = v.kid AND k.wrapped = v.old_wrapped AND k.data_key = v.old_data_key`

// Reseal implements [keystore.Custodian].
func (db *DB) Reseal(ctx context.Context, tenant string, changes []keystore.Reseal) (int, error) {
	total := 0
	for {
		n := min(len(changes), maxRows)
		kids, old, wrapped := make([][]byte, n), make([][]byte, n), make([][]byte, n)
		oldDataKeys, dataKeys := make([]int64, n), make([]int64, n)
		for i := range n {
			c := &changes[i]
			kids[i], old[i], wrapped[i] = c.KID[:], notNil(c.OldWrapped), notNil(c.Wrapped)
			oldDataKeys[i], dataKeys[i] = int64(c.OldDataKey), int64(c.DataKey)
		}
		done, err := db.change(ctx, "sealing anew", resealKeys, tenant, kids, old, oldDataKeys, wrapped, dataKeys)
		total += done
		if changes = changes[n:]; err != nil || len(changes) == 0 {
			return total, err
		}
	}
}

// RewrapDataKey implements [keystore.Custodian].
func (db *DB) RewrapDataKey(ctx context.Context, old, now keystore.DataKey) (bool, error) {
	if err := storable(now.KEK); err != nil {
		return false, err
	}
	done, err := db.change(ctx, fmt.Sprintf("rewrapping data key %d of %s", old.ID, old.Tenant),
		"UPDATE data_keys SET kek = $3, wrapped = $4 WHERE tenant = $1 AND id = $2 AND wrapped = $5",
		old.Tenant, int64(old.ID), now.KEK, notNil(now.Wrapped), notNil(old.Wrapped))
	return done == 1, err
}

// RemoveDataKey implements [keystore.Custodian]. The foreign key of the
// content keys holds a data key that is in use.
func (db *DB) RemoveDataKey(ctx context.Context, tenant string, id uint32) (gone bool, err error) {
	if err := storable(tenant); err != nil {
		return false, err
	}
	err = db.within(ctx, removal, fmt.Sprintf("removing data key %d of %s", id, tenant), func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DELETE FROM data_keys WHERE tenant = $1 AND id = $2 "+
			"AND id < (SELECT max(id) FROM data_keys WHERE tenant = $1)", tenant, int64(id))
		if err != nil && sqlState(err) != foreignKey {
			return err
		}
		return conn.QueryRow(ctx, "SELECT NOT EXISTS (SELECT 1 FROM data_keys WHERE tenant = $1 AND id = $2)", tenant, int64(id)).Scan(&gone)
	})
	return gone && err == nil, err
}

// Delete implements [keystore.Custodian].
func (db *DB) Delete(ctx context.Context, tenant string, kids []contentkey.KID, at time.Time) (int, error) {
	return db.change(ctx, "deleting", "UPDATE content_keys SET deleted = $3 "+
		"WHERE tenant = $1 AND kid = ANY ($2::bytea[]) AND deleted IS NULL", tenant, ids(kids), at)
}

// Undelete implements [keystore.Custodian].
func (db *DB) Undelete(ctx context.Context, tenant string, kids []contentkey.KID) (int, error) {
	return db.change(ctx, "undeleting", "UPDATE content_keys SET deleted = NULL "+
		"WHERE tenant = $1 AND kid = ANY ($2::bytea[]) AND deleted IS NOT NULL AND octet_length(wrapped) > 0", tenant, ids(kids))
}

// Purge implements [keystore.Custodian]. The database keeps older states of
// a row in its files until it vacuums the table, and in its log for as long
// as that is kept.
func (db *DB) Purge(ctx context.Context, tenant string, kids []contentkey.KID, before time.Time) (int, error) {
	return db.change(ctx, "purging", "UPDATE content_keys SET wrapped = ''::bytea "+
		"WHERE tenant = $1 AND kid = ANY ($2::bytea[]) AND deleted <= $3 AND octet_length(wrapped) > 0", tenant, ids(kids), before)
}

func ids(kids []contentkey.KID) [][]byte {
	all := make([][]byte, len(kids))
	for i := range kids {
		all[i] = kids[i][:]
	}
	return all
}

// change runs a statement, whose first argument is the tenant, and returns
// how many rows it changed.
func (db *DB) change(ctx context.Context, what, query, tenant string, args ...any) (n int, err error) {
	if err := storable(tenant); err != nil {
		return 0, err
	}
	err = db.do(ctx, what, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, query, append([]any{tenant}, args...)...)
		n = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
