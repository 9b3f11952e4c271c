package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"spekeasy/internal/keystore"
)

// fault is what an error means for the call.
type fault int

const (
	lasting  fault = iota // repeating the call does not help
	conflict              // with another transaction; it works soon
	lost                  // the connection or the server is gone; there may be another
	outage                // the database cannot be asked now
	damage                // of what is stored
)

// attempts are how often a call is made that meets nothing but such faults.
var attempts = map[fault]int{conflict: 12, lost: 4}

var errClosed = fmt.Errorf("%w: the database is closed", keystore.ErrUnavailable)

// connectionError is an error that cost the connection, or kept it from
// being made.
type connectionError struct{ error }

func (e connectionError) Unwrap() error { return e.error }

// do runs f on a connection. f may run several times, as everything that a
// [keystore.Store] does may be repeated. Errors begin with what.
func (db *DB) do(ctx context.Context, what string, f func(context.Context, *pgx.Conn) error) error {
	return db.within(ctx, db.timeout, what, f)
}

// within is do with another limit of time.
func (db *DB) within(ctx context.Context, limit time.Duration, what string, f func(context.Context, *pgx.Conn) error) error {
	if db.closed.Load() {
		return fmt.Errorf("%s: %w", what, errClosed)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := db.once(limited, f)
		kind := faultOf(err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case limited.Err() != nil:
			return fmt.Errorf("%s: %w: no answer within %v", what, keystore.ErrUnavailable, limit)
		case attempt >= attempts[kind]:
			return fmt.Errorf("%s: %w", what, sorted(err))
		}
		pause(limited, attempt)
	}
}

// pause waits before the next attempt, longer each time and never quite as
// long as others do.
func pause(ctx context.Context, attempt int) {
	d := min(5*time.Millisecond<<attempt, 200*time.Millisecond)
	select {
	case <-time.After(d/2 + rand.N(d/2)):
	case <-ctx.Done():
	}
}

func (db *DB) once(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	conn, err := db.pool.Acquire(ctx)
	if err != nil {
		return connectionError{withoutConfig(err)}
	}
	defer conn.Release()
	err = f(ctx, conn.Conn())
	switch {
	case sqlState(err) == readOnly: // it has become a standby
		_ = conn.Conn().Close(ctx)
	case err != nil && sqlState(err) == "" && conn.Conn().IsClosed():
		err = connectionError{err}
	}
	return err
}

// withoutConfig takes the configuration, which has the password, from an
// error.
func withoutConfig(err error) error {
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return e.Unwrap()
	}
	return err
}

// sqlState returns the code of an error that the server reported, or "".
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// Codes of PostgreSQL, "Appendix A. PostgreSQL Error Codes".
const (
	undefinedTable = "42P01"
	foreignKey     = "23503" // the only one is that of content keys to their data key
	readOnly       = "25006" // read_only_sql_transaction
)

var (
	conflicts = []string{"40001", "40P01"}  // serialization_failure, deadlock_detected
	losses    = []string{readOnly, "40003", // statement_completion_unknown
		"53300",                                     // too_many_connections
		"57P01", "57P02", "57P03", "57P04", "57P05", // shutdown, crash, starting up, database dropped, idle session
	}
	lossClasses = []string{"08"} // connection exceptions
	outages     = []string{
		"3D000", // the database does not exist
		"55P03", // lock_not_available
		"57014", // query_canceled, by a statement timeout or an administrator
		"58000", "58030",
	}
	outageClasses = []string{"28", "53"}                // authorization, resources: memory, disk
	damages       = []string{"58P01", "XX001", "XX002"} // a file is missing; data_corrupted, index_corrupted
)

func faultOf(err error) fault {
	code := sqlState(err)
	if code == "" {
		if _, ok := errors.AsType[connectionError](err); ok {
			return lost
		}
		return lasting
	}
	class := code[:min(2, len(code))]
	switch {
	case slices.Contains(conflicts, code):
		return conflict
	case slices.Contains(losses, code), slices.Contains(lossClasses, class):
		return lost
	case slices.Contains(outages, code), slices.Contains(outageClasses, class):
		return outage
	case slices.Contains(damages, code):
		return damage
	default:
		return lasting
	}
}

// sorted gives an error its place among the errors of a [keystore.Store].
func sorted(err error) error {
	switch faultOf(err) {
	case conflict, lost, outage:
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	case damage:
		return fmt.Errorf("%w: %w", keystore.ErrCorrupt, err)
	default:
		if sqlState(err) == foreignKey {
			return fmt.Errorf("%w: %w", keystore.ErrNoDataKey, err)
		}
		return err
	}
}
