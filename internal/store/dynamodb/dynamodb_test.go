package dynamodb

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/internal/store/storetest"
	"spekeasy/internal/testserver"
)

// server is a DynamoDB of its own for these tests.
var server *testserver.Server

// TestMain starts the server, and lets tests run themselves as another
// process.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{ // the default chain, as far as it is ours
		"AWS_ACCESS_KEY_ID": "id-of-the-tests", "AWS_SECRET_ACCESS_KEY": "hide-me-and-seek-me",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if role := os.Getenv("DYNAMODB_TEST_ROLE"); role != "" {
		if err := children[role](os.Getenv("DYNAMODB_TEST_URL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if server, err = testserver.NewDynamoDB(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	return m.Run()
}

var tables atomic.Int64

// newTable returns the URL of a table that does not exist yet.
func newTable() string { return tableAt("http://" + server.Addr) }

// tableAt is newTable with another way to the server.
func tableAt(endpoint string) string {
	return fmt.Sprintf("dynamodb://Test_Keys.%d?region=local&endpoint=%s", tables.Add(1), url.QueryEscape(endpoint))
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

var children = map[string]func(dsn string) error{
	"migrate": func(dsn string) error {
		_, _, err := Migrate(context.Background(), dsn, Options{})
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
	c.Env = append(append(os.Environ(), "DYNAMODB_TEST_ROLE="+role, "DYNAMODB_TEST_URL="+dsn), env...)
	c.Stderr = os.Stderr
	return c
}

func raceInProcess(dsn string) error {
	db, err := Open(context.Background(), dsn, Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	n, err := strconv.Atoi(os.Getenv("DYNAMODB_TEST_RACERS"))
	if err != nil {
		return err
	}
	return storetest.Race(context.Background(), db, n, os.Stdin, os.Stdout)
}

func TestRacersInThreeProcesses(t *testing.T) {
	dsn := newTable()
	openTest(t, dsn)
	storetest.RaceProcesses(t, func(n int) *exec.Cmd {
		return child(t, "race", dsn, fmt.Sprintf("DYNAMODB_TEST_RACERS=%d", n))
	})
}

func TestDocuments(t *testing.T) {
	storetest.RunDocuments(t, func(t *testing.T) storetest.Documented { return openTest(t, newTable()) })
}

func TestFeed(t *testing.T) {
	const settle = 500 * time.Millisecond
	storetest.RunFeed(t, storetest.FeedOptions{Settle: settle}, func(t *testing.T) storetest.FeedStore {
		db := openTest(t, newTable())
		db.settle = settle
		return db
	})
}

func TestClaims(t *testing.T) {
	storetest.RunClaims(t, func(t *testing.T) storetest.Kept { return openTest(t, newTable()) })
}

func TestCustodian(t *testing.T) {
	storetest.RunCustodian(t, func(t *testing.T) storetest.Kept { return openTest(t, newTable()) })
}

// TestServerKilled kills the server again and again under load.
func TestServerKilled(t *testing.T) {
	dsn := newTable()
	storetest.Outages(t, func(t *testing.T) storetest.Store { return openTest(t, dsn) }, server.Kill, server.Start)
}
