// Package sqlite keeps content keys in one file: the embedded store.
//
// All writes go through one goroutine, which commits together whatever waits
// for it, so that many new keys share one fsync. Reads have connections of
// their own and never wait for a write. The file is in WAL mode with
// synchronous=FULL: what a method returned survives a power cut.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"spekeasy/internal/keystore"
)

// DB is an open database. It may be used concurrently.
type DB struct {
	readers *sql.DB
	writer  *writer
	reads   []keysQuery
	dataKey *sql.Stmt
	connect func() (*sql.DB, error) // makes a connection that may write
	close   func() error
}

var (
	_ keystore.Store = (*DB)(nil)
	_ keystore.Pager = (*DB)(nil)

	_ keystore.NewCommitter = (*DB)(nil)
)

// Options are the settings of a [DB]; each has a usable zero value.
type Options struct {
	// BusyTimeout is how long a write waits for another process that is
	// writing. Zero means 5 seconds.
	BusyTimeout time.Duration

	// Log hears of what does not fail a call. Nil discards.
	Log *slog.Logger
}

// Open opens the database file, creates it if there is none, and brings its
// schema up to date. Several processes may do so at once.
//
// A file beside it, its name ending in "-mark", says which database was here
// and how far its transactions had come. Open returns
// [keystore.ErrCorrupt] when the database is behind its mark or gone: its
// write-ahead log was cut off or an old copy was put back, and keys that
// were handed out are missing.
func Open(ctx context.Context, path string, o Options) (*DB, error) {
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	db := &DB{writer: newWriter(o.Log)}
	if err := db.open(ctx, path, o); err != nil {
		_ = db.release()
		return nil, fmt.Errorf("sqlite %s: %w", path, sorted(err))
	}
	go db.writer.loop()
	db.close = sync.OnceValue(func() error {
		db.writer.stop()
		return db.release()
	})
	return db, nil
}

func (db *DB) open(ctx context.Context, path string, o Options) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := create(path); err != nil {
		return outage(err)
	}
	if err := db.writer.open(ctx, path, o); err != nil {
		return err
	}
	if db.readers, err = connect(path, o, url.Values{"mode": {"ro"}, "_query_only": {"1"}}); err != nil {
		return err
	}
	db.connect = func() (*sql.DB, error) { return connect(path, o, url.Values{"mode": {"rw"}}) }
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	db.readers.SetMaxOpenConns(readers)
	db.readers.SetMaxIdleConns(readers)
	return db.prepare(ctx)
}

// create makes an empty database file if there is none, readable by its owner
// only; SQLite gives its other files the same mode. It never has the database
// file itself open: closing it would drop the locks that SQLite holds on it
// elsewhere in this process.
func create(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(path + markSuffix); err == nil {
		return fmt.Errorf("%w: the database is gone, but %s shows that there was one; "+
			"restore it, or remove that file to begin anew", keystore.ErrCorrupt, path+markSuffix)
	}
	return createFile(path, nil)
}

// createFile makes a file with its content, as a whole or not at all, unless
// somebody was faster.
func createFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// connect returns a pool of connections with our settings and those given.
func connect(path string, o Options, more url.Values) (*sql.DB, error) {
	settings := url.Values{
		"_busy_timeout": {fmt.Sprint(o.BusyTimeout.Milliseconds())},
		"_foreign_keys": {"1"},
		"_synchronous":  {"FULL"},
		"_dqs":          {"0"},
		"_defensive":    {"1"},
		"_error_rc":     {"1"},
		"_pragma": {
			"trusted_schema(0)",
			"cell_size_check(1)",           // looks closer at what it reads
			"cache_size(-8192)",            // KiB
			"wal_autocheckpoint(16000)",    // pages; with a quarter of them new keys take a tenth longer
			"journal_size_limit(67108864)", // bytes that a log keeps once it was larger
			"secure_delete(1)",             // what a purge or a new seal replaced is overwritten
		},
	}
	maps.Copy(settings, more)
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: settings.Encode()}
	c, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// Close ends the store. Writes that wait are refused; one under way is
// finished.
func (db *DB) Close() error { return db.close() }

func (db *DB) release() error {
	var errs []error
	if db.readers != nil {
		errs = append(errs, db.readers.Close())
	}
	errs = append(errs, db.writer.close()) // last, so that it can tidy up the write-ahead log
	return sorted(errors.Join(errs...))
}

// outage marks an error of the file system.
func outage(err error) error {
	if errors.Is(err, keystore.ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
}

// sorted gives an error of SQLite its place among the errors of a
// [keystore.Store].
func sorted(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	switch {
	case !ok || errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt):
		return err
	case slices.Contains(outages, e.Code()&0xff):
		return fmt.Errorf("%w: %w", keystore.ErrUnavailable, err)
	case e.Code()&0xff == sqlite3.SQLITE_CORRUPT, e.Code()&0xff == sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", keystore.ErrCorrupt, err)
	default:
		return err
	}
}

// outages are the primary result codes that say that the file cannot be used
// now: locked by others, full or read-only disk, failing or missing device.
var outages = []int{
	sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY,
	sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL,
	sqlite3.SQLITE_PERM,
}

// micros is the stored form of a time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
