package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"spekeasy/internal/audit"
	"spekeasy/internal/store/relational"
)

var _ audit.Store = (*DB)(nil)

// A page is stored only by the statement that moved the head to its end.
const (
	beginPart = `WITH moved AS (INSERT INTO audit_parts (id, before_seq, before_hash, head_seq, head_hash, written)
		VALUES ($1::text, $2::bigint, $3::bytea, $4::bigint, $5::bytea, $6::timestamptz) ON CONFLICT (id) DO NOTHING RETURNING 1) `
	movePart = `WITH moved AS (UPDATE audit_parts SET head_seq = $4::bigint, head_hash = $5::bytea, written = $6::timestamptz
		WHERE id = $1::text AND head_seq = $2::bigint AND head_hash = $3::bytea RETURNING 1) `
	insertPage = `INSERT INTO audit_pages (part, before_seq, before_hash, last_seq, last_hash, written, lines)
		SELECT $1::text, $2::bigint, $3::bytea, $4::bigint, $5::bytea, $6::timestamptz, $7::bytea FROM moved`
)

// AppendAudit implements [audit.Store].
func (db *DB) AppendAudit(ctx context.Context, p *audit.Page, begin bool) error {
	what := "audit part " + p.Part
	query := movePart + insertPage
	if begin {
		query = beginPart + insertPage
	}
	moved := true
	err := db.do(ctx, what, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, query, p.Part, int64(p.Before.Seq), p.Before.Hash[:], int64(p.Last.Seq), p.Last.Hash[:], p.Time, p.Lines)
		if err != nil || tag.RowsAffected() > 0 {
			moved = true
			return err
		}
		var seq uint64
		var hash []byte
		err = conn.QueryRow(ctx, "SELECT head_seq, head_hash FROM audit_parts WHERE id = $1", p.Part).Scan(&seq, &hash)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
		moved = err == nil && seq == p.Last.Seq && string(hash) == string(p.Last.Hash[:])
		return err
	})
	if err == nil && !moved {
		err = fmt.Errorf("%s: %w", what, audit.ErrMoved)
	}
	return err
}

// AuditParts implements [audit.Store].
func (db *DB) AuditParts(ctx context.Context, after string, limit int) ([]audit.Part, error) {
	return readAudit(ctx, db, func(row pgx.CollectableRow) (p audit.Part, err error) {
		var before, head []byte
		err = row.Scan(&p.ID, &p.Before.Seq, &before, &p.Head.Seq, &head, &p.Written)
		p.Written = p.Written.UTC()
		return p, errors.Join(err, relational.AuditHash(&p.Before.Hash, before), relational.AuditHash(&p.Head.Hash, head))
	}, "SELECT id, before_seq, before_hash, head_seq, head_hash, written FROM audit_parts WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
}

// AuditPages implements [audit.Store].
func (db *DB) AuditPages(ctx context.Context, part string, after uint64, limit int) ([]audit.Page, error) {
	return readAudit(ctx, db, func(row pgx.CollectableRow) (audit.Page, error) {
		p := audit.Page{Part: part}
		var before, last []byte
		err := row.Scan(&p.Before.Seq, &before, &p.Last.Seq, &last, &p.Time, &p.Lines)
		p.Time = p.Time.UTC()
		return p, errors.Join(err, relational.AuditHash(&p.Before.Hash, before), relational.AuditHash(&p.Last.Hash, last))
	}, "SELECT before_seq, before_hash, last_seq, last_hash, written, lines FROM audit_pages "+
		"WHERE part = $1 AND before_seq >= $2 ORDER BY before_seq LIMIT $3", part, int64(after), limit)
}

// readAudit collects rows of the audit log.
func readAudit[T any](ctx context.Context, db *DB, scan pgx.RowToFunc[T], query string, args ...any) (all []T, err error) {
	err = db.do(ctx, "reading the audit log", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, query, args...)
		if err == nil {
			all, err = pgx.CollectRows(rows, scan)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// DeleteAudit implements [audit.Store].
func (db *DB) DeleteAudit(ctx context.Context, part string) error {
	return db.do(ctx, "deleting audit part "+part, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "WITH gone AS (DELETE FROM audit_parts WHERE id = $1) DELETE FROM audit_pages WHERE part = $1", part)
		return err
	})
}
