package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"spekeasy/internal/tenant"
)

var _ tenant.Store = (*DB)(nil)

const documentColumns = "kind, id, version, body, changed, deleted, sealed, coalesce(owner, ''), coalesce(data_key, 0)"

// The first thing that a write does is to count itself: writes then come one
// after the other, and none is seen before the number that tells of it.
const countChange = "WITH counted AS (UPDATE documents_revision SET revision = revision + CASE WHEN $1::text = 'answer' THEN 0 ELSE 1 END RETURNING 1) "

const insertDocument = countChange + `INSERT INTO documents (kind, id, version, body, changed, deleted, sealed, owner, data_key)
	SELECT $1::text, $2::text, $3::bigint, $4::bytea, $5::timestamptz, $6::boolean, $7::bytea, $8::text, $9::bigint FROM counted ON CONFLICT (kind, id) DO NOTHING`

const updateDocument = countChange + `UPDATE documents SET version = $3, body = $4, changed = $5, deleted = $6, sealed = $7, owner = $8, data_key = $9
	FROM counted WHERE kind = $1 AND id = $2 AND version = $3::bigint - 1`

// CreateDocument implements [tenant.Store].
func (db *DB) CreateDocument(ctx context.Context, d tenant.Document) error {
	return db.writeDocument(ctx, &d, insertDocument, tenant.ErrExists)
}

// ReplaceDocument implements [tenant.Store].
func (db *DB) ReplaceDocument(ctx context.Context, d tenant.Document) error {
	return db.writeDocument(ctx, &d, updateDocument, tenant.ErrChanged)
}

// writeDocument runs a statement that writes a document. When its condition is
// false, what is stored decides.
func (db *DB) writeDocument(ctx context.Context, d *tenant.Document, query string, refused error) error {
	what := fmt.Sprintf("%s %s", d.Kind, d.ID)
	if err := storable(string(d.Kind), d.ID, d.Owner); err != nil {
		return err
	}
	var owner *string
	var dataKey *int64
	if len(d.Sealed) > 0 {
		id := int64(d.DataKey)
		owner, dataKey = &d.Owner, &id
	}
	var done bool
	err := db.do(ctx, what, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, query, string(d.Kind), d.ID, int64(d.Version), notNil(d.Body), d.Changed, d.Deleted, notNil(d.Sealed), owner, dataKey)
		done = tag.RowsAffected() > 0
		return err
	})
	if err != nil || done {
		return err
	}
	stored, err := db.Document(ctx, d.Kind, d.ID)
	switch {
	case err != nil:
		return err
	case stored.Equal(d):
		return nil
	}
	return fmt.Errorf("%s: %w", what, refused)
}

// Document implements [tenant.Store].
func (db *DB) Document(ctx context.Context, kind tenant.Kind, id string) (d tenant.Document, err error) {
	what := fmt.Sprintf("%s %s", kind, id)
	if err := storable(string(kind), id); err != nil {
		return d, err
	}
	err = db.do(ctx, what, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT "+documentColumns+" FROM documents WHERE kind = $1 AND id = $2", string(kind), id)
		if err == nil {
			d, err = pgx.CollectExactlyOneRow(rows, scanDocument)
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%s: %w", what, tenant.ErrAbsent)
	}
	if err != nil {
		return tenant.Document{}, err
	}
	return d, nil
}

// PageDocuments implements [tenant.Store].
func (db *DB) PageDocuments(ctx context.Context, kind tenant.Kind, prefix, after string, limit int) (page []tenant.Document, err error) {
	if err := storable(string(kind), prefix, after); err != nil {
		return nil, err
	}
	low, high := tenant.Bounds(prefix, after)
	err = db.do(ctx, "reading documents", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT "+documentColumns+" FROM documents WHERE kind = $1 AND id > $2 AND id < $3 ORDER BY id LIMIT $4",
			string(kind), low, high, limit)
		if err == nil {
			page, err = pgx.CollectRows(rows, scanDocument)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

func scanDocument(row pgx.CollectableRow) (d tenant.Document, err error) {
	err = row.Scan(&d.Kind, &d.ID, &d.Version, &d.Body, &d.Changed, &d.Deleted, &d.Sealed, &d.Owner, &d.DataKey)
	d.Changed = d.Changed.UTC()
	return d, err
}

// Revision implements [tenant.Store].
func (db *DB) Revision(ctx context.Context) (n uint64, err error) {
	err = db.do(ctx, "reading the revision", func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT revision FROM documents_revision WHERE one = 1").Scan(&n)
	})
	return n, err
}
