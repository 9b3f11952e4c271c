package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

var _ tenant.Store = (*DB)(nil)

const documentColumns = "kind, id, version, body, changed, deleted, sealed, coalesce(owner, ''), coalesce(data_key, 0)"

// CreateDocument implements [tenant.Store].
func (db *DB) CreateDocument(ctx context.Context, d tenant.Document) error {
	return db.writeDocument(ctx, &d, func(w *writer, owner, dataKey any) error {
		made, err := w.exec("INSERT INTO documents (kind, id, version, body, changed, deleted, sealed, owner, data_key) "+
			"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO NOTHING",
			string(d.Kind), d.ID, d.Version, blob(d.Body), micros(d.Changed), d.Deleted, blob(d.Sealed), owner, dataKey)
		if err == nil && !made {
			err = tenant.ErrExists
		}
		return err
	})
}

// ReplaceDocument implements [tenant.Store].
func (db *DB) ReplaceDocument(ctx context.Context, d tenant.Document) error {
	return db.writeDocument(ctx, &d, func(w *writer, owner, dataKey any) error {
		done, err := w.exec("UPDATE documents SET version = ?, body = ?, changed = ?, deleted = ?, sealed = ?, owner = ?, data_key = ? "+
			"WHERE kind = ? AND id = ? AND version = ?",
			d.Version, blob(d.Body), micros(d.Changed), d.Deleted, blob(d.Sealed), owner, dataKey, string(d.Kind), d.ID, d.Version-1)
		if err == nil && !done {
			err = tenant.ErrChanged
		}
		return err
	})
}

// writeDocument runs a write of a document and counts it. When the write
// finds its condition false, what is stored decides.
func (db *DB) writeDocument(ctx context.Context, d *tenant.Document, write func(w *writer, owner, dataKey any) error) error {
	err := db.writer.do(ctx, func(w *writer) error {
		var owner, dataKey any
		if len(d.Sealed) > 0 {
			owner, dataKey = d.Owner, d.DataKey
		}
		if err := write(w, owner, dataKey); err != nil {
			return noDataKey(err)
		}
		if d.Kind == tenant.KindAnswer {
			return nil
		}
		_, err := w.exec("UPDATE documents_revision SET revision = revision + 1")
		return err
	})
	if errors.Is(err, tenant.ErrExists) || errors.Is(err, tenant.ErrChanged) {
		stored, readErr := db.Document(ctx, d.Kind, d.ID)
		switch {
		case readErr != nil:
			return readErr
		case stored.Equal(d):
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", d.Kind, d.ID, err)
	}
	return nil
}

// Document implements [tenant.Store].
func (db *DB) Document(ctx context.Context, kind tenant.Kind, id string) (tenant.Document, error) {
	row := db.readers.QueryRowContext(ctx, "SELECT "+documentColumns+" FROM documents WHERE kind = ? AND id = ?", string(kind), id)
	d, err := scanDocument(row)
	if errors.Is(err, sql.ErrNoRows) {
		err = tenant.ErrAbsent
	}
	if err != nil {
		return tenant.Document{}, readError(ctx, string(kind)+" "+id, err)
	}
	return d, nil
}

// PageDocuments implements [tenant.Store].
func (db *DB) PageDocuments(ctx context.Context, kind tenant.Kind, prefix, after string, limit int) (page []tenant.Document, err error) {
	low, high := tenant.Bounds(prefix, after)
	rows, err := db.readers.QueryContext(ctx, "SELECT "+documentColumns+" FROM documents "+
		"WHERE kind = ? AND id > ? AND id < ? ORDER BY id LIMIT ?", string(kind), low, high, limit)
	if err != nil {
		return nil, readError(ctx, "documents", err)
	}
	defer rows.Close()
	for rows.Next() {
		d, err := scanDocument(rows)
		if err != nil {
			return nil, readError(ctx, "documents", err)
		}
		page = append(page, d)
	}
	if err := rows.Err(); err != nil {
		return nil, readError(ctx, "documents", err)
	}
	return page, nil
}

func scanDocument(row interface{ Scan(...any) error }) (d tenant.Document, err error) {
	var changed int64
	err = row.Scan(&d.Kind, &d.ID, &d.Version, &d.Body, &changed, &d.Deleted, &d.Sealed, &d.Owner, &d.DataKey)
	d.Changed = fromMicros(changed)
	return d, err
}

// Revision implements [tenant.Store].
func (db *DB) Revision(ctx context.Context) (n uint64, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT revision FROM documents_revision").Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		err = keystore.ErrCorrupt
	}
	if err != nil {
		return 0, readError(ctx, "revision", err)
	}
	return n, nil
}
