package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/relational"
)

// files returns what is in the files of a database, by their names.
func files(t *testing.T, path string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) == 0 {
		t.Fatalf("no files at %s: %v", path, err)
	}
	all := make(map[string][]byte)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = b
	}
	return all
}

// TestScrubLeavesNothing looks for what a purge removed in every file, while
// the database is open and another process reads it. Keys in no order make
// SQLite split pages, which leaves a copy of one row in some thousand.
func TestScrubLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	db, other := openTest(t, path), openTest(t, path)
	found(t, db)
	var records []keystore.Record
	var kids []contentkey.KID
	for range 40 {
		for range 100 {
			r := randomRecord()
			records = append(records, r)
			kids = append(kids, r.KID)
		}
		if _, err := db.Commit(t.Context(), records[len(records)-100:], nil); err != nil {
			t.Fatal(err)
		}
	}
	doomed := kids[:2000]
	if _, err := db.Delete(t.Context(), "acme", doomed, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Keys(t.Context(), "acme", kids); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Purge(t.Context(), "acme", doomed, time.Now()); n != 2000 || err != nil {
		t.Fatal(n, err)
	}
	if err := db.Scrub(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := files(t, path)
	for i, r := range records {
		places := 0
		for _, b := range all {
			places += bytes.Count(b, r.Wrapped[20:40])
		}
		if want := count(i >= 2000); places != want {
			t.Fatalf("key %d after 2000 were purged: in %d places, want %d", i, places, want)
		}
	}
}

// TestMissingDataKeyIsNamed is what tells a server that its data key was
// retired.
func TestMissingDataKeyIsNamed(t *testing.T) {
	db := openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	found(t, db)
	r := randomRecord()
	if _, err := db.Commit(t.Context(), []keystore.Record{r}, nil); err != nil {
		t.Fatal(err)
	}
	bad := randomRecord()
	bad.DataKey = 2
	if _, err := db.Commit(t.Context(), []keystore.Record{bad}, nil); !errors.Is(err, keystore.ErrNoDataKey) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Commit: %v", err)
	}
	change := keystore.Reseal{KID: r.KID, OldWrapped: r.Wrapped, OldDataKey: 1, Wrapped: []byte("x"), DataKey: 2}
	if _, err := db.Reseal(t.Context(), "acme", []keystore.Reseal{change}); !errors.Is(err, keystore.ErrNoDataKey) {
		t.Errorf("Reseal: %v", err)
	}
}

func TestMigrateSaysWhatItDid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	scripts, err := relational.Migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	n := len(scripts)
	for _, want := range [][2]int{{0, n}, {n, n}} {
		if from, to, err := Migrate(t.Context(), path, Options{}); from != want[0] || to != want[1] || err != nil {
			t.Errorf("Migrate: from %d to %d, want %v: %v", from, to, want, err)
		}
	}
}

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	db := openTest(t, path)
	found(t, db)
	fill(t, db, 500)
	if faults, err := db.Check(t.Context()); len(faults) != 0 || err != nil {
		t.Errorf("a sound database: %q, %v", faults, err)
	}
	for _, s := range []string{"PRAGMA foreign_keys = 0", "DELETE FROM data_keys"} {
		if _, err := db.writer.conn.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if faults, err := db.Check(t.Context()); len(faults) != 1 || !strings.Contains(faults[0], "content_keys has rows without their data_keys") || err != nil {
		t.Errorf("a lost data key: %q, %v", faults, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pageSize := int(binary.BigEndian.Uint16(b[16:]))
	copy(b[40*pageSize:], bytes.Repeat([]byte{0x5a}, 64)) // a page header; the middle of a page may be free space
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	db = openTest(t, path)
	faults, err := db.Check(t.Context())
	if len(faults) < 2 && !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("a damaged page: %q, %v", faults, err)
	}
}
