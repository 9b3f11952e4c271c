package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/storetest"
	"spekeasy/internal/testserver"
)

// servers are those of the versions that the tests run against.
var servers = map[int]*testserver.Postgres{15: nil, 18: nil}

// TestMain starts the servers, and lets tests run themselves as another
// process.
func TestMain(m *testing.M) {
	if role := os.Getenv("POSTGRES_TEST_ROLE"); role != "" {
		if err := children[role](os.Getenv("POSTGRES_TEST_URL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for version := range servers {
		s, err := testserver.NewPostgres(version)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer s.Stop()
		servers[version] = s
	}
	return m.Run()
}

// eachServer runs a test against each version.
func eachServer(t *testing.T, test func(*testing.T, *testserver.Postgres)) {
	for version, s := range servers {
		t.Run(fmt.Sprint(version), func(t *testing.T) { test(t, s) })
	}
}

var databases atomic.Int64

// newDatabase creates an empty database and returns its URL.
func newDatabase(t testing.TB, s *testserver.Postgres) string {
	t.Helper()
	name := fmt.Sprintf("test%d", databases.Add(1))
	execSQL(t, s.URL("postgres"), "CREATE DATABASE "+name)
	return s.URL(name)
}

// execSQL runs statements on a connection of its own.
func execSQL(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, s := range statements {
		if _, err := conn.PgConn().Exec(t.Context(), s).ReadAll(); err != nil {
			t.Fatalf("%v: %s", err, s)
		}
	}
}

func openTest(t testing.TB, dsn string) *DB {
	t.Helper()
	db, err := Open(t.Context(), dsn, Options{Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestStore(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		storetest.Run(t, func(t *testing.T) storetest.Store { return openTest(t, newDatabase(t, s)) })
	})
}

func TestDocuments(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		storetest.RunDocuments(t, func(t *testing.T) storetest.Documented { return openTest(t, newDatabase(t, s)) })
	})
}

func TestFeed(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		storetest.RunFeed(t, storetest.FeedOptions{}, func(t *testing.T) storetest.FeedStore { return openTest(t, newDatabase(t, s)) })
	})
}

// TestFeedSerializable runs the suite under the isolation of CockroachDB.
func TestFeedSerializable(t *testing.T) {
	storetest.RunFeed(t, storetest.FeedOptions{}, func(t *testing.T) storetest.FeedStore {
		return openTest(t, newDatabase(t, servers[18])+"&default_transaction_isolation=serializable")
	})
}

func TestClaims(t *testing.T) {
	storetest.RunClaims(t, func(t *testing.T) storetest.Kept { return openTest(t, newDatabase(t, servers[18])) })
}

func TestCustodian(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		storetest.RunCustodian(t, func(t *testing.T) storetest.Kept { return openTest(t, newDatabase(t, s)) })
	})
	t.Run("serializable", func(t *testing.T) {
		storetest.RunCustodian(t, func(t *testing.T) storetest.Kept {
			return openTest(t, newDatabase(t, servers[18])+"&default_transaction_isolation=serializable")
		})
	})
}

// TestMissingDataKeyIsNamed is what tells a server that its data key was
// retired.
func TestMissingDataKeyIsNamed(t *testing.T) {
	db := openTest(t, newDatabase(t, servers[18]))
	found(t, db)
	r, bad := record(1), record(2)
	bad.DataKey = 2
	if _, err := db.Commit(t.Context(), []keystore.Record{r}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Commit(t.Context(), []keystore.Record{bad}, nil); !errors.Is(err, keystore.ErrNoDataKey) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Commit: %v", err)
	}
	change := keystore.Reseal{KID: r.KID, OldWrapped: r.Wrapped, OldDataKey: 1, Wrapped: []byte("x"), DataKey: 2}
	if _, err := db.Reseal(t.Context(), r.Tenant, []keystore.Reseal{change}); !errors.Is(err, keystore.ErrNoDataKey) {
		t.Errorf("Reseal: %v", err)
	}
}

// TestStoreWithoutPreparedStatements runs the suite as behind PgBouncer.
func TestStoreWithoutPreparedStatements(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return openTest(t, newDatabase(t, servers[15])+"&default_query_exec_mode=exec")
	})
}

// TestStoreSerializable runs the suite under the isolation of CockroachDB.
func TestStoreSerializable(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return openTest(t, newDatabase(t, servers[18])+"&default_transaction_isolation=serializable")
	})
}

// trips counts what is sent and waited for.
type trips struct{ n int }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n++
	return ctx
}

func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n++
	return ctx
}

func (c *trips) TracePrepareStart(ctx context.Context, _ *pgx.Conn, d pgx.TracePrepareStartData) context.Context {
	c.n++
	return ctx
}

func (*trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData)     {}
func (*trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
func (*trips) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// TestRoundTrips counts how often the calls of a key request wait for the
// server, once statements are prepared.
func TestRoundTrips(t *testing.T) {
	config, err := parse(newDatabase(t, servers[18]) + "&pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	count := &trips{}
	config.ConnConfig.Tracer = count
	db, err := open(t.Context(), config, Options{Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found(t, db)
	commit := func(n byte) func() error {
		return func() error {
			_, err := db.Commit(t.Context(), []keystore.Record{record(n), record(n + 1)},
				[]keystore.Binding{binding(n), binding(n + 1), binding(n + 2)})
			return err
		}
	}
	read := func() error {
		_, err := db.Keys(t.Context(), "acme", []contentkey.KID{record(1).KID, record(2).KID})
		return err
	}
	for _, c := range []struct {
		name string
		call func() error
		want int
	}{
		{"", commit(1), -1}, {"", commit(1), -1}, {"", read, -1}, // prepares
		{"new keys", commit(11), 1},
		{"keys of somebody faster", commit(11), 2},
		{"reading keys", read, 1},
	} {
		count.n = 0
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
		if c.want >= 0 && count.n != c.want {
			t.Errorf("%s: %d round trips, want %d", c.name, count.n, c.want)
		}
	}
}

var children = map[string]func(dsn string) error{
	"migrate": func(dsn string) error {
		_, _, err := Migrate(context.Background(), dsn)
		return err
	},
	"race": raceInProcess,
}

// child returns the command that runs a role of this test as a process.
func child(t *testing.T, role, dsn string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe)
	c.Env = append(append(os.Environ(), "POSTGRES_TEST_ROLE="+role, "POSTGRES_TEST_URL="+dsn), env...)
	c.Stderr = os.Stderr
	return c
}

func raceInProcess(dsn string) error {
	db, err := Open(context.Background(), dsn, Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	n, err := strconv.Atoi(os.Getenv("POSTGRES_TEST_RACERS"))
	if err != nil {
		return err
	}
	return storetest.Race(context.Background(), db, n, os.Stdin, os.Stdout)
}

func TestRacersInThreeProcesses(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		dsn := newDatabase(t, s)
		openTest(t, dsn)
		storetest.RaceProcesses(t, func(n int) *exec.Cmd {
			return child(t, "race", dsn, fmt.Sprintf("POSTGRES_TEST_RACERS=%d", n))
		})
	})
}

// TestServerKilled kills the server again and again under load.
func TestServerKilled(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		dsn := newDatabase(t, s)
		storetest.Outages(t, func(t *testing.T) storetest.Store { return openTest(t, dsn) }, s.Kill, s.Start)
	})
}
