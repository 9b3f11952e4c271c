// Package postgres keeps content keys in PostgreSQL, or in a database that
// speaks its protocol and SQL, for any number of spekeasy processes.
//
// It needs no extension and no privilege but those on its own tables. Nothing
// depends on the isolation level: what the database cannot serialize is tried
// again, as CockroachDB and YugabyteDB expect of their clients. Every call
// may be repeated without harm, so connections that are lost are replaced and
// calls sent again; an outage is reported as [keystore.ErrUnavailable] while
// it lasts and leaves nothing to restart.
//
// A key is safe once the server has confirmed its transaction. A failover to
// a standby that was behind takes that back, and a new key would be made
// under the same key ID: standbys that may take over must be synchronous.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
)

// DB is an open database. It may be used concurrently.
type DB struct {
	pool    *pgxpool.Pool
	timeout time.Duration
	closed  atomic.Bool
}

var (
	_ keystore.Store = (*DB)(nil)
	_ keystore.Pager = (*DB)(nil)
)

// Options are the settings of a [DB]; each has a usable zero value.
type Options struct {
	// Migrate brings the schema up to date, as [Migrate] does. Otherwise
	// Open refuses a database whose schema is older than this program's.
	Migrate bool

	// Timeout is how long a call may take, the wait for a connection and
	// further attempts included. Zero means 10 seconds.
	Timeout time.Duration
}

// Defaults for what the URL does not say.
const (
	defaultTimeout  = 10 * time.Second
	connectTimeout  = 5 * time.Second
	defaultMaxConns = 16
)

// Open connects to the database of a URL of the form
//
//	postgres://user:password@host:5432/database?sslmode=verify-full
//
// Beside libpq's parameters it may set pool_max_conns (default 16),
// pool_max_conn_lifetime and the other pool_ settings of pgx, and any
// parameter of the server such as statement_timeout. Behind PgBouncer in
// transaction mode it needs default_query_exec_mode=exec. Passwords can also
// come from a pgpass file or PGPASSWORD; no error repeats one.
//
// Several hosts may be named; the one that accepts writes is used.
func Open(ctx context.Context, dsn string, o Options) (*DB, error) {
	config, err := parse(dsn)
	if err != nil {
		return nil, err
	}
	return open(ctx, config, o)
}

func open(ctx context.Context, config *pgxpool.Config, o Options) (*DB, error) {
	if o.Migrate {
		if _, _, err := migrate(ctx, config); err != nil {
			return nil, err
		}
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name(config), err)
	}
	db := &DB{pool: pool, timeout: o.Timeout}
	if err := db.do(ctx, name(config), check); err != nil {
		pool.Close()
		return nil, err
	}
	return db, nil
}

// name says which database it is.
func name(c *pgxpool.Config) string {
	return fmt.Sprintf("postgres %s/%s", c.ConnConfig.Host, c.ConnConfig.Database)
}

var errURL = errors.New("the URL of the PostgreSQL database cannot be understood; " +
	"special characters in its password must be percent-encoded")

// parse reads a URL and sets what it leaves open. pgx's own errors can repeat
// parts of a password.
func parse(dsn string) (*pgxpool.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.User == nil && strings.Contains(dsn, "@") {
		return nil, errURL
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, explain(u)
	}
	if !u.Query().Has("pool_max_conns") {
		config.MaxConns = defaultMaxConns
	}
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "spekeasy"
	}
	if config.ConnConfig.ValidateConnect == nil {
		// A standby would not show what was just written.
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	return config, nil
}

// explain returns what pgx says of a URL that it refuses, once the secrets
// are taken out.
func explain(u *url.URL) error {
	public := *u
	if u.User != nil {
		public.User = url.User(u.User.Username())
	}
	q := u.Query()
	q.Del("password")
	q.Del("sslpassword")
	public.RawQuery = q.Encode()
	if _, err := pgxpool.ParseConfig(public.String()); err != nil {
		return err
	}
	return errURL
}

// check returns an error unless the database can be used.
func check(ctx context.Context, conn *pgx.Conn) error {
	if err := checkSettings(ctx, conn); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, conn)
	if err != nil {
		return err
	}
	scripts, err := relational.Migrations(migrationFiles)
	if err != nil {
		return err
	}
	if version < len(scripts) {
		return fmt.Errorf("its schema is version %d and this program needs %d: run spekeasy migrate", version, len(scripts))
	}
	return tooNew(version, scripts)
}

// checkSettings refuses a server that would lose keys or change texts.
func checkSettings(ctx context.Context, conn *pgx.Conn) error {
	var encoding, commit string
	err := conn.QueryRow(ctx, "SELECT coalesce(current_setting('server_encoding', true), ''), "+
		"coalesce(current_setting('synchronous_commit', true), '')").Scan(&encoding, &commit)
	if err != nil {
		return err
	}
	if encoding != "" && !strings.EqualFold(encoding, "UTF8") {
		return fmt.Errorf("its encoding is %s and must be UTF8", encoding)
	}
	if commit == "off" {
		return errors.New("its synchronous_commit is off: a crash would lose keys that were handed out; " +
			"add synchronous_commit=on to the URL")
	}
	return nil
}

// Close ends the store once the calls under way have ended.
func (db *DB) Close() error {
	db.closed.Store(true)
	db.pool.Close()
	return nil
}
