package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
)

var _ keystore.Feed = (*DB)(nil)

// maxNumbered is how many bindings are numbered in one transaction.
const maxNumbered = 1000

const followBindings = "SELECT " + bindingColumns + ", seq FROM bindings WHERE tenant = $1 AND seq > $2 AND seq IS NOT NULL ORDER BY seq LIMIT $3"

// FollowBindings implements [keystore.Feed].
func (db *DB) FollowBindings(ctx context.Context, tenant, after string, limit int) ([]keystore.Followed, error) {
	from, err := relational.ParseFeedPosition(after)
	if err != nil {
		return nil, err
	}
	if err := storable(tenant); err != nil {
		return nil, err
	}
	var page []keystore.Followed
	err = db.do(ctx, "reading new bindings", func(ctx context.Context, conn *pgx.Conn) error {
		for {
			page = nil
			var last, seq int64
			var unnumbered bool
			b := &pgx.Batch{}
			b.Queue("SELECT coalesce((SELECT seq FROM feeds WHERE tenant = $1), 0), "+
				"EXISTS (SELECT 1 FROM bindings WHERE tenant = $1 AND seq IS NULL)", tenant).QueryRow(func(row pgx.Row) error {
				return row.Scan(&last, &unnumbered)
			})
			b.Queue(followBindings, tenant, from, limit).Query(func(rows pgx.Rows) (err error) {
				page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (keystore.Followed, error) {
					r, err := scanBinding(tenant, withSeq{row, &seq})
					return keystore.Followed{Binding: *r.Binding, Position: relational.FeedPosition(seq)}, err
				})
				return err
			})
			if err := conn.SendBatch(ctx, b).Close(); err != nil {
				return err
			}
			if from > last {
				return fmt.Errorf("position %s: %w", after, keystore.ErrPosition)
			}
			if len(page) == limit || !unnumbered {
				return nil
			}
			if n, err := number(ctx, conn, tenant); err != nil || n == 0 { // 0: others hold the rows; later
				return err
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// withSeq reads a row with one more column.
type withSeq struct {
	pgx.CollectableRow
	seq *int64
}

func (r withSeq) Scan(into ...any) error { return r.CollectableRow.Scan(append(into, r.seq)...) }

// number gives new bindings of a tenant their places in the feed, and returns
// how many. It does not wait for rows that a request is changing.
func number(ctx context.Context, conn *pgx.Conn, tenant string) (n int64, err error) {
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO feeds (tenant, seq) VALUES ($1, 0) ON CONFLICT (tenant) DO NOTHING", tenant)
		if err != nil {
			return err
		}
		var last int64
		if err := tx.QueryRow(ctx, "SELECT seq FROM feeds WHERE tenant = $1 FOR UPDATE", tenant).Scan(&last); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `WITH new AS (
				SELECT kid, identity, first_seen FROM bindings WHERE tenant = $1 AND seq IS NULL
				ORDER BY first_seen, kid, identity LIMIT $3 FOR UPDATE SKIP LOCKED
			), numbered AS (
				SELECT kid, identity, row_number() OVER (ORDER BY first_seen, kid, identity) AS n FROM new
			)
			UPDATE bindings SET seq = $2 + numbered.n FROM numbered
			WHERE bindings.tenant = $1 AND bindings.kid = numbered.kid AND bindings.identity = numbered.identity`,
			tenant, last, maxNumbered)
		if err != nil {
			return err
		}
		n = tag.RowsAffected()
		_, err = tx.Exec(ctx, "UPDATE feeds SET seq = $2 WHERE tenant = $1", tenant, last+n)
		return err
	})
	return n, err
}

// FeedEnd implements [keystore.Feed].
func (db *DB) FeedEnd(ctx context.Context, tenant string) (string, error) {
	if err := storable(tenant); err != nil {
		return "", err
	}
	var last int64
	err := db.do(ctx, "reading the end of the feed", func(ctx context.Context, conn *pgx.Conn) error {
		for {
			var unnumbered bool
			err := conn.QueryRow(ctx, "SELECT coalesce((SELECT seq FROM feeds WHERE tenant = $1), 0), "+
				"EXISTS (SELECT 1 FROM bindings WHERE tenant = $1 AND seq IS NULL)", tenant).Scan(&last, &unnumbered)
			if err != nil || !unnumbered {
				return err
			}
			if n, err := number(ctx, conn, tenant); err != nil || n == 0 {
				return err
			}
		}
	})
	return relational.FeedPosition(last), err
}

// Note implements [keystore.Feed].
func (db *DB) Note(ctx context.Context, name string) (value []byte, version int64, err error) {
	err = db.do(ctx, "reading note "+name, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, "SELECT value, version FROM notes WHERE name = $1", name).Scan(&value, &version)
		if errors.Is(err, pgx.ErrNoRows) {
			value, version = nil, 0
			return nil
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return value, version, nil
}

// SetNote implements [keystore.Feed]. It may say false although the note was
// kept, when the connection was lost at that moment; whoever reads it again
// sees so.
func (db *DB) SetNote(ctx context.Context, name string, value []byte, version int64) (done bool, err error) {
	query, args := "UPDATE notes SET value = $2, version = version + 1 WHERE name = $1 AND version = $3", []any{name, notNil(value), version}
	if version == 0 {
		query, args = "INSERT INTO notes (name, value, version) VALUES ($1, $2, 1) ON CONFLICT (name) DO NOTHING", args[:2]
	}
	err = db.do(ctx, "keeping note "+name, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, query, args...)
		done = tag.RowsAffected() == 1
		return err
	})
	return done && err == nil, err
}
