package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
	"spekeasy/internal/store/storetest"
)

// TestMain lets tests run themselves as another process.
func TestMain(m *testing.M) {
	if role := os.Getenv("SQLITE_TEST_ROLE"); role != "" {
		if err := children[role](os.Getenv("SQLITE_TEST_PATH")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var children = map[string]func(path string) error{
	"open":        openOnce,
	"unprivilege": openUnprivileged,
	"load":        load,
}

// child returns the command that runs a role of this test as a process.
func child(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe)
	c.Env = append(os.Environ(), "SQLITE_TEST_ROLE="+role, "SQLITE_TEST_PATH="+path)
	return c
}

func openTest(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		return openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	})
}

func TestDocuments(t *testing.T) {
	storetest.RunDocuments(t, func(t *testing.T) storetest.Documented {
		return openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	})
}

func TestAudit(t *testing.T) {
	storetest.RunAudit(t, func(t *testing.T) storetest.Audited {
		return openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	})
}

func TestFeed(t *testing.T) {
	storetest.RunFeed(t, storetest.FeedOptions{}, func(t *testing.T) storetest.FeedStore {
		return openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	})
}

func TestNew(t *testing.T) {
	storetest.RunNew(t, func(t *testing.T) storetest.NewStore { return openTest(t, filepath.Join(t.TempDir(), "keys.db")) })
}

func TestClaims(t *testing.T) {
	storetest.RunClaims(t, func(t *testing.T) storetest.Kept { return openTest(t, filepath.Join(t.TempDir(), "keys.db")) })
}

func TestCustodian(t *testing.T) {
	storetest.RunCustodian(t, func(t *testing.T) storetest.Kept {
		return openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	})
}

func TestFileNamesAndModes(t *testing.T) {
	for _, name := range []string{"keys.db", "with space", "a?mode=memory", "100%", "#1", "file:x", "ünï"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		db := openTest(t, path)
		found(t, db)
		for _, suffix := range []string{"", "-wal", "-shm", "-mark"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Errorf("%q: %v", name, err)
			} else if info.Mode() != 0o600 {
				t.Errorf("%q%s has mode %v, want 0600", name, suffix, info.Mode())
			}
		}
		if err := db.Close(); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 2 {
			t.Errorf("%q: left after Close: %v, %v", name, left, err)
		}
	}
}

func openOnce(path string) error {
	db, err := Open(context.Background(), path, Options{})
	if err != nil {
		return err
	}
	return db.Close()
}

// TestFirstStartsAtOnce lets several processes, and several handles in each,
// create the same database.
func TestFirstStartsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if out, err := child(t, "open", path).CombinedOutput(); err != nil {
				t.Errorf("a process: %v: %s", err, out)
			}
		})
		wg.Go(func() {
			if err := openOnce(path); err != nil {
				t.Errorf("a handle: %v", err)
			}
		})
	}
	wg.Wait()
	db := openTest(t, path)
	scripts, err := relational.Migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	var versions int
	if err := db.readers.QueryRow("SELECT count(*) FROM schema_version").Scan(&versions); err != nil || versions != len(scripts) {
		t.Errorf("%d migrations were recorded, %v", versions, err)
	}
}

func TestForeignFiles(t *testing.T) {
	exec := func(path string, statements ...string) {
		db := openTest(t, path)
		for _, s := range statements {
			if _, err := db.writer.conn.ExecContext(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	exec(newer, "INSERT INTO schema_version (version) VALUES (99)")
	other := filepath.Join(dir, "other.db")
	exec(other, "DROP TABLE schema_version")
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("this is not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		text string
		err  error
	}{
		newer:                            {"its schema 99 is newer than ", nil},
		other:                            {"the database of another program", nil},
		text:                             {"not a database", keystore.ErrCorrupt},
		dir:                              {"unable to open database file", keystore.ErrUnavailable},
		filepath.Join(dir, "no", "k.db"): {"no such file or directory", keystore.ErrUnavailable},
	} {
		db, err := Open(t.Context(), path, Options{})
		if err == nil {
			db.Close()
			t.Errorf("%s is opened", path)
			continue
		}
		if !strings.Contains(err.Error(), want.text) || !strings.Contains(err.Error(), path) || want.err != nil && !errors.Is(err, want.err) {
			t.Errorf("%s: %v, want %q", path, err, want.text)
		}
	}
}

// TestOneBadWriteInAGroup mixes writes that the database refuses with others
// that share their transaction.
func TestOneBadWriteInAGroup(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	found(t, db)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			r := randomRecord()
			bad := i%10 == 0
			if bad {
				r.DataKey = 2 // there is none
			}
			_, err := db.Commit(t.Context(), []keystore.Record{r}, []keystore.Binding{bindingOf(&r)})
			if (err != nil) != bad || errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt) {
				t.Errorf("write %d: %v", i, err)
			}
			stored, err := db.Keys(t.Context(), "acme", []contentkey.KID{r.KID})
			if err != nil || (len(stored) == 1) == bad {
				t.Errorf("write %d: %d rows, %v", i, len(stored), err)
			}
		})
	}
	wg.Wait()
}

// TestOtherProcessWrites holds the database's lock from outside.
func TestOtherProcessWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	other := openTest(t, path)
	found(t, other)
	r := randomRecord()
	if _, err := other.Commit(t.Context(), []keystore.Record{r}, nil); err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), path, Options{BusyTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := other.writer.conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Commit(t.Context(), []keystore.Record{randomRecord()}, nil); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("a write while another process writes: %v", err)
	}
	if got, err := db.Keys(t.Context(), "acme", []contentkey.KID{r.KID}); err != nil || len(got) != 1 {
		t.Errorf("a read while another process writes: %d rows, %v", len(got), err)
	}
	if _, err := other.writer.conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Commit(t.Context(), []keystore.Record{randomRecord()}, nil); err != nil {
		t.Errorf("a write afterwards: %v", err)
	}
}
