package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
	"spekeasy/internal/testserver"
)

// newest is the schema of this program.
const newest = 4

// TestMigrateFromEachSchema migrates databases that earlier releases left and
// reads what is in them. Each release that changes the schema adds one.
func TestMigrateFromEachSchema(t *testing.T) {
	files, err := filepath.Glob("testdata/schema-*.sql")
	if err != nil {
		t.Fatal(err)
	}
	if scripts, err := relational.Migrations(migrationFiles); err != nil || len(files) != len(scripts) {
		t.Fatalf("%d databases for %d schemas, %v", len(files), len(scripts), err)
	}
	alive, gone := record(1), record(2)
	gone.Wrapped, gone.Source, gone.ContentID, gone.Scheme = []byte{}, "import", "", 0
	gone.Deleted = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		for i, file := range files {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dsn := newDatabase(t, s)
			execSQL(t, dsn, string(script))
			if from, to, err := Migrate(t.Context(), dsn); from != i+1 || to != len(files) || err != nil {
				t.Errorf("%s: from %d to %d, %v", file, from, to, err)
			}
			db := openTest(t, dsn)
			keys, _, err := db.PageKeys(t.Context(), "acme", "", 10)
			if err != nil || !reflect.DeepEqual(keys, []keystore.Record{alive, gone}) {
				t.Errorf("%s: keys %+v, %v", file, keys, err)
			}
			for _, f := range []keystore.BindingFilter{{}, {KID: alive.KID}, {ContentID: "movie"}} {
				bound, _, err := db.PageBindings(t.Context(), "acme", f, "", 10)
				if err != nil || !reflect.DeepEqual(bound, []keystore.Binding{binding(1)}) {
					t.Errorf("%s: bindings %+v, %v", file, bound, err)
				}
			}
			tenants, err := db.Tenants(t.Context(), "", 10)
			if err != nil || !reflect.DeepEqual(tenants, []string{"_custody", "acme"}) {
				t.Errorf("%s: tenants %v, %v", file, tenants, err)
			}
			stored, err := db.Commit(t.Context(), []keystore.Record{record(1), record(3)}, []keystore.Binding{binding(1), binding(3)})
			if err != nil || !reflect.DeepEqual(stored, []keystore.Record{alive, record(3)}) {
				t.Errorf("%s: Commit: %+v, %v", file, stored, err)
			}
		}
	})
}

// TestMigrateAtOnce lets processes, and callers within them, create the same
// schema.
func TestMigrateAtOnce(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		for range 3 {
			dsn := newDatabase(t, s)
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					if err := child(t, "migrate", dsn).Run(); err != nil {
						t.Errorf("a process: %v", err)
					}
				})
				wg.Go(func() {
					if _, to, err := Migrate(t.Context(), dsn); to != newest || err != nil {
						t.Error(to, err)
					}
				})
			}
			wg.Wait()
			db := openTest(t, dsn)
			var versions int
			if err := db.pool.QueryRow(t.Context(), "SELECT count(*) FROM spekeasy_schema").Scan(&versions); err != nil || versions != newest {
				t.Errorf("%d migrations were recorded, %v", versions, err)
			}
		}
	})
}

// TestMigrateAgain runs each script on tables that it has made, as after an
// interruption on a database that does not undo them.
func TestMigrateAgain(t *testing.T) {
	dsn := newDatabase(t, servers[15])
	db := openTest(t, dsn)
	found(t, db)
	if _, err := db.Commit(t.Context(), []keystore.Record{record(1)}, nil); err != nil {
		t.Fatal(err)
	}
	execSQL(t, dsn, "DELETE FROM spekeasy_schema")
	if from, to, err := Migrate(t.Context(), dsn); from != 0 || to != newest || err != nil {
		t.Fatal(from, to, err)
	}
	if got, err := db.Keys(t.Context(), "acme", []contentkey.KID{record(1).KID}); err != nil || len(got) != 1 {
		t.Errorf("%d keys, %v", len(got), err)
	}
}

// TestMigrateWaits holds the lock of another process that migrates and that
// then fails.
func TestMigrateWaits(t *testing.T) {
	dsn := newDatabase(t, servers[15])
	openTest(t, dsn)
	execSQL(t, dsn, "DELETE FROM spekeasy_schema")
	other, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), "BEGIN; INSERT INTO spekeasy_schema (version) VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, _, err := Migrate(t.Context(), dsn+"&statement_timeout=1000")
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(1500 * time.Millisecond):
	}
	if _, err := other.Exec(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOpenRefuses opens what cannot be used. No error shows a password.
func TestOpenRefuses(t *testing.T) {
	s := servers[18]
	sql := func(dsn string, statements ...string) string {
		execSQL(t, dsn, statements...)
		return dsn
	}
	migrated := func() string {
		dsn := newDatabase(t, s)
		openTest(t, dsn)
		return dsn
	}
	const secret = "hush-hush"
	latin := s.URL("latin")
	execSQL(t, s.URL("postgres"), "CREATE DATABASE latin ENCODING LATIN1 LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0",
		"CREATE ROLE guest LOGIN PASSWORD '"+secret+"'")
	for name, c := range map[string]struct {
		dsn  string
		text string
		err  error
	}{
		"not migrated":          {newDatabase(t, s), "run spekeasy migrate", nil},
		"newer":                 {sql(migrated(), "INSERT INTO spekeasy_schema VALUES (99)"), "its schema 99 is newer than ", nil},
		"another encoding":      {latin, "encoding is LATIN1", nil},
		"not durable":           {migrated() + "&synchronous_commit=off", "synchronous_commit", nil},
		"read-only":             {migrated() + "&default_transaction_read_only=on", "read only", keystore.ErrUnavailable},
		"wrong password":        {"postgres://app:" + secret + "@" + s.Addr + "/postgres", "28P01", keystore.ErrUnavailable},
		"wrong, as a parameter": {"postgres://app@" + s.Addr + "/postgres?password=" + secret, "28P01", keystore.ErrUnavailable},
		"no such database":      {s.URL("absent"), "3D000", keystore.ErrUnavailable},
		"no such user":          {"postgres://nobody:" + secret + "@" + s.Addr + "/postgres", "28P01", keystore.ErrUnavailable},
		"no privilege":          {strings.Replace(migrated(), "app:"+urlPassword(s), "guest:"+secret, 1), "42501", nil},
		"no server":             {"postgres://app:" + secret + "@127.0.0.1:1/keys", "connection refused", keystore.ErrUnavailable},
		"no such host":          {"postgres://app:" + secret + "@db.invalid/keys", "db.invalid", keystore.ErrUnavailable},
		"a slash in a password": {"postgres://app:" + secret + "/x@" + s.Addr + "/keys", "percent-encoded", nil},
		"a hash in a password":  {"postgres://app:" + secret + "#x@" + s.Addr + "/keys", "percent-encoded", nil},
		"digits, then a query":  {"postgres://app:1?" + secret + "@" + s.Addr + "/keys", "percent-encoded", nil},
		"a percent sign":        {"postgres://app:%zz" + secret + "@" + s.Addr + "/keys", "percent-encoded", nil},
		"not a number":          {"postgres://app:" + secret + "@" + s.Addr + "/keys?pool_max_conns=many&password=" + secret, "pool_max_conns", nil},
		"no such mode":          {"postgres://app:" + secret + "@" + s.Addr + "/keys?sslmode=maybe", "sslmode", nil},
		"words":                 {"host=127.0.0.1 password=" + secret, "percent-encoded", nil},
		"another scheme":        {"mysql://app:" + secret + "@" + s.Addr + "/keys", "percent-encoded", nil},
	} {
		for what, open := range map[string]func() error{
			"Open": func() error {
				db, err := Open(t.Context(), c.dsn, Options{Timeout: 5 * time.Second})
				if err == nil {
					db.Close()
				}
				return err
			},
			"Migrate": func() error { _, _, err := Migrate(t.Context(), c.dsn); return err },
		} {
			if what == "Migrate" && name == "not migrated" {
				continue
			}
			err := open()
			if err == nil {
				t.Errorf("%s: %s gives no error", name, what)
				continue
			}
			text := fmt.Sprintf("%v %+v %q", err, err, err)
			if !strings.Contains(text, c.text) || c.err != nil && !errors.Is(err, c.err) ||
				c.err == nil && (errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt)) {
				t.Errorf("%s: %s: %v, want %q", name, what, err, c.text)
			}
			for _, password := range []string{secret, s.Password, urlPassword(s)} {
				if strings.Contains(text, password) {
					t.Errorf("%s: %s shows a password: %v", name, what, err)
				}
			}
		}
	}
}

// urlPassword returns the server's password as its URL has it.
func urlPassword(s *testserver.Postgres) string {
	_, rest, _ := strings.Cut(s.URL(""), "app:")
	password, _, _ := strings.Cut(rest, "@")
	return password
}

// TestSettings shows that the URL decides, and what holds when it does not.
func TestSettings(t *testing.T) {
	dsn := newDatabase(t, servers[15])
	plain := openTest(t, dsn).pool.Config()
	if plain.MaxConns != 16 || plain.ConnConfig.ConnectTimeout != 5*time.Second || plain.ConnConfig.RuntimeParams["application_name"] != "spekeasy" {
		t.Errorf("by default: %d connections, %v, %v", plain.MaxConns, plain.ConnConfig.ConnectTimeout, plain.ConnConfig.RuntimeParams)
	}
	set := openTest(t, dsn+"&pool_max_conns=3&connect_timeout=7&application_name=ours&statement_timeout=1234")
	c := set.pool.Config()
	if c.MaxConns != 3 || c.ConnConfig.ConnectTimeout != 7*time.Second {
		t.Errorf("%d connections, %v", c.MaxConns, c.ConnConfig.ConnectTimeout)
	}
	var name, timeout string
	err := set.pool.QueryRow(t.Context(), "SELECT current_setting('application_name'), current_setting('statement_timeout')").Scan(&name, &timeout)
	if err != nil || name != "ours" || timeout != "1234ms" {
		t.Errorf("application %q, statement timeout %q, %v", name, timeout, err)
	}
}
