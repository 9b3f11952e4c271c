package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"spekeasy/internal/keystore"
)

// maxGroup is how many writes share one transaction at most.
const maxGroup = 256

var errClosed = fmt.Errorf("%w: the database is closed", keystore.ErrUnavailable)

// writer owns the one connection that writes.
type writer struct {
	log      *slog.Logger
	db       *sql.DB
	database [16]byte
	mark     *os.File

	migratedFrom, migratedTo int // schema versions

	conn  *sql.Conn
	stmts map[string]*sql.Stmt // by their text

	mu      sync.Mutex
	waiting []*job
	closed  bool

	wake chan struct{} // something waits, or the end was asked for
	done chan struct{} // closed when the loop has ended
}

// job is a write that waits for its transaction.
type job struct {
	ctx context.Context
	run func(*writer) error // may run again after a rollback
	err chan error          // holds one
}

func newWriter(log *slog.Logger) *writer {
	return &writer{
		log: log, stmts: make(map[string]*sql.Stmt),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// open makes the connection, brings the schema up to date and checks the
// mark.
func (w *writer) open(ctx context.Context, path string, o Options) (err error) {
	if w.db, err = connect(path, o, url.Values{"mode": {"rw"}, "_journal_mode": {"WAL"}}); err != nil {
		return err
	}
	w.db.SetMaxOpenConns(1)
	if err := w.connect(ctx, o.BusyTimeout); err != nil {
		return err
	}
	var mode string
	if err := w.conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system does not allow a write-ahead log (journal mode %s)", mode)
	}
	if w.migratedFrom, w.migratedTo, err = migrate(ctx, w.conn); err != nil {
		return err
	}
	var p progress
	var id []byte
	err = w.conn.QueryRowContext(ctx, "SELECT database, commits FROM progress").Scan(&id, &p.commits)
	if err != nil {
		return err
	}
	copy(p.database[:], id)
	w.database = p.database
	w.mark, err = openMark(path, p)
	return err
}

// connect waits for other processes that open the same new database: SQLite
// does not when it switches to WAL mode.
func (w *writer) connect(ctx context.Context, patience time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		w.conn, err = w.db.Conn(ctx)
		e, ok := errors.AsType[*sqlite.Error](err)
		if !ok || e.Code()&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// do runs a write and returns when it is durable. The write may happen even
// though the context ended first.
func (w *writer) do(ctx context.Context, run func(*writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, run: run, err: make(chan error, 1)}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errClosed
	}
	w.waiting = append(w.waiting, j)
	w.mu.Unlock()
	w.call()
	select {
	case err := <-j.err:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call has the loop look again.
func (w *writer) call() {
	select {
	case w.wake <- struct{}{}:
	default: // it will anyway
	}
}

// loop commits what waits, all of it together, until stop.
func (w *writer) loop() {
	defer close(w.done)
	for range w.wake {
		w.mu.Lock()
		closed, group := w.closed, w.waiting
		if w.waiting = nil; len(group) > maxGroup && !closed {
			group, w.waiting = group[:maxGroup], group[maxGroup:]
			w.call()
		}
		w.mu.Unlock()
		if closed {
			for _, j := range group {
				j.err <- errClosed
			}
			return
		}
		w.commit(group)
	}
}

// commit runs a group in one transaction. When a write of several fails, each
// is run by itself, so that it fails alone.
func (w *writer) commit(group []*job) {
	group = slices.DeleteFunc(group, func(j *job) bool {
		err := j.ctx.Err()
		if err != nil {
			j.err <- err
		}
		return err != nil
	})
	if len(group) == 0 {
		return
	}
	err := w.transaction(group)
	if err != nil && len(group) > 1 && !errors.Is(err, keystore.ErrUnavailable) {
		for _, j := range group {
			j.err <- w.transaction([]*job{j})
		}
		return
	}
	for _, j := range group {
		j.err <- err
	}
}

func (w *writer) transaction(group []*job) error {
	// Nothing here may be interrupted half-way: a caller that gives up leaves
	// its job behind.
	exec := func(query string) error {
		_, err := w.exec(query)
		return err
	}
	var commits uint64
	err := immediate(exec, func() error {
		for _, j := range group {
			if err := j.run(w); err != nil {
				return err
			}
		}
		if err := exec("UPDATE progress SET commits = commits + 1"); err != nil { // RETURNING would make a table of its own
			return err
		}
		return w.read([]any{&commits}, "SELECT commits FROM progress")
	})
	if err != nil {
		return sorted(err)
	}
	if _, err := w.mark.WriteAt(progress{w.database, commits}.text(), 0); err != nil {
		w.log.Warn("the database's mark is behind", "error", err)
	}
	return nil
}

// stmt returns the prepared statement for a query on the writing connection.
func (w *writer) stmt(query string) (*sql.Stmt, error) {
	if s := w.stmts[query]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = s
	return s, nil
}

// exec runs a statement in the transaction under way and reports whether it
// changed anything.
func (w *writer) exec(query string, args ...any) (changed bool, err error) {
	n, err := w.count(query, args...)
	return n > 0, err
}

// count is exec for how many rows are changed.
func (w *writer) count(query string, args ...any) (int64, error) {
	s, err := w.stmt(query)
	if err != nil {
		return 0, err
	}
	r, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// read reads one row in the transaction under way. The error is
// [sql.ErrNoRows] when there is none.
func (w *writer) read(into []any, query string, args ...any) error {
	s, err := w.stmt(query)
	if err != nil {
		return err
	}
	return s.QueryRow(args...).Scan(into...)
}

// stop ends the loop once the transaction under way is done, and refuses what
// waits.
func (w *writer) stop() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.call()
	<-w.done
}

func (w *writer) close() error {
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	if w.mark != nil {
		errs = append(errs, w.mark.Close())
	}
	if w.conn != nil {
		errs = append(errs, w.conn.Close())
	}
	if w.db != nil {
		errs = append(errs, w.db.Close())
	}
	return errors.Join(errs...)
}
