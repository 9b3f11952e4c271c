package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"spekeasy/internal/audit"
	"spekeasy/internal/store/relational"
)

var _ audit.Store = (*DB)(nil)

// AppendAudit implements [audit.Store].
func (db *DB) AppendAudit(ctx context.Context, p *audit.Page, begin bool) error {
	err := db.writer.do(ctx, func(w *writer) error {
		query, args := "UPDATE audit_parts SET head_seq = ?, head_hash = ?, written = ? WHERE id = ? AND head_seq = ? AND head_hash = ?",
			[]any{p.Last.Seq, p.Last.Hash[:], micros(p.Time), p.Part, p.Before.Seq, p.Before.Hash[:]}
		if begin {
			query, args = "INSERT INTO audit_parts (id, before_seq, before_hash, head_seq, head_hash, written) "+
				"VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
				[]any{p.Part, p.Before.Seq, p.Before.Hash[:], p.Last.Seq, p.Last.Hash[:], micros(p.Time)}
		}
		moved, err := w.exec(query, args...)
		if err != nil {
			return err
		}
		if !moved {
			return auditMoved(w, p)
		}
		_, err = w.exec("INSERT INTO audit_pages (part, before_seq, before_hash, last_seq, last_hash, written, lines) "+
			"VALUES (?, ?, ?, ?, ?, ?, ?)",
			p.Part, p.Before.Seq, p.Before.Hash[:], p.Last.Seq, p.Last.Hash[:], micros(p.Time), p.Lines)
		return err
	})
	if err != nil {
		return fmt.Errorf("audit part %s: %w", p.Part, err)
	}
	return nil
}

// auditMoved accepts a page that is the end of its part already.
func auditMoved(w *writer, p *audit.Page) error {
	var seq uint64
	var hash []byte
	err := w.read([]any{&seq, &hash}, "SELECT head_seq, head_hash FROM audit_parts WHERE id = ?", p.Part)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return audit.ErrMoved
	case err != nil:
		return err
	case seq == p.Last.Seq && string(hash) == string(p.Last.Hash[:]):
		return nil
	}
	return audit.ErrMoved
}

// AuditParts implements [audit.Store].
func (db *DB) AuditParts(ctx context.Context, after string, limit int) ([]audit.Part, error) {
	return readAudit(ctx, db, func(rows *sql.Rows) (p audit.Part, err error) {
		var before, head []byte
		var written int64
		err = rows.Scan(&p.ID, &p.Before.Seq, &before, &p.Head.Seq, &head, &written)
		p.Written = fromMicros(written)
		return p, errors.Join(err, relational.AuditHash(&p.Before.Hash, before), relational.AuditHash(&p.Head.Hash, head))
	}, "SELECT id, before_seq, before_hash, head_seq, head_hash, written FROM audit_parts WHERE id > ? ORDER BY id LIMIT ?", after, limit)
}

// AuditPages implements [audit.Store].
func (db *DB) AuditPages(ctx context.Context, part string, after uint64, limit int) ([]audit.Page, error) {
	return readAudit(ctx, db, func(rows *sql.Rows) (audit.Page, error) {
		p := audit.Page{Part: part}
		var before, last []byte
		var written int64
		err := rows.Scan(&p.Before.Seq, &before, &p.Last.Seq, &last, &written, &p.Lines)
		p.Time = fromMicros(written)
		return p, errors.Join(err, relational.AuditHash(&p.Before.Hash, before), relational.AuditHash(&p.Last.Hash, last))
	}, "SELECT before_seq, before_hash, last_seq, last_hash, written, lines FROM audit_pages "+
		"WHERE part = ? AND before_seq >= ? ORDER BY before_seq LIMIT ?", part, after, limit)
}

// readAudit collects rows of the audit log.
func readAudit[T any](ctx context.Context, db *DB, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := db.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, readError(ctx, "the audit log", err)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, readError(ctx, "the audit log", err)
		}
		all = append(all, v)
	}
	if err := rows.Err(); err != nil {
		return nil, readError(ctx, "the audit log", err)
	}
	return all, nil
}

// DeleteAudit implements [audit.Store].
func (db *DB) DeleteAudit(ctx context.Context, part string) error {
	err := db.writer.do(ctx, func(w *writer) error {
		if _, err := w.exec("DELETE FROM audit_parts WHERE id = ?", part); err != nil {
			return err
		}
		_, err := w.exec("DELETE FROM audit_pages WHERE part = ?", part)
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting audit part %s: %w", part, err)
	}
	return nil
}
