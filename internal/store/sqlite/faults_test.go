package sqlite

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
)

// openKeystore opens a keystore over a database file with a fixed KEK.
func openKeystore(ctx context.Context, path string) (*keystore.Keystore, *DB, error) {
	kek, err := envkey.Open(&url.URL{Scheme: "env", Opaque: "KEK"}, func(string) (string, bool) {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)), true
	})
	if err != nil {
		return nil, nil, err
	}
	db, err := Open(ctx, path, Options{})
	if err != nil {
		return nil, nil, err
	}
	k, err := keystore.Open(ctx, db, kek, keystore.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return k, db, nil
}

func ask(kids ...contentkey.KID) *keystore.Ask {
	a := &keystore.Ask{Tenant: "acme", ContentID: "movie", Profile: "2.0", Scheme: contentkey.Cbcs}
	for _, kid := range kids {
		a.Wants = append(a.Wants, keystore.Want{Requested: kid, KID: kid})
	}
	return a
}

// handOut makes a database with keys that were handed out, and returns them.
// Their key IDs are the same each time and spread over the table.
func handOut(t *testing.T, path string, n int) map[contentkey.KID]contentkey.Value {
	t.Helper()
	k, db, err := openKeystore(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[contentkey.KID]contentkey.Value)
	random := rand.NewChaCha8([32]byte{})
	for len(out) < n {
		kids := make([]contentkey.KID, 100)
		for i := range kids {
			_, _ = random.Read(kids[i][:])
		}
		keys, err := k.Obtain(t.Context(), ask(kids...))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			out[key.KID] = key.Value
		}
	}
	if err := errors.Join(k.Close(t.Context()), db.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedPages damages each page of a database in several ways and asks
// for every key: it is the right one or an error, never another one.
func TestDamagedPages(t *testing.T) {
	const page = 4096
	dir := t.TempDir()
	sound := filepath.Join(dir, "sound.db")
	want := handOut(t, sound, 300)
	file, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	right, refused, hidden, unopened := 0, 0, 0, 0
	for i := range len(file) / page {
		damage := []func([]byte){
			func(p []byte) { clear(p) },
			func(p []byte) { clear(p[512*random.IntN(8):][:512]) }, // a sector that was not written
			func(p []byte) { // a burst of noise
				for i := range p[random.IntN(page-64):][:64] {
					p[i] = byte(random.Uint32())
				}
			},
			func(p []byte) { p[random.IntN(page)] ^= 1 << random.IntN(8) },
		}[i%4]
		bad := bytes.Clone(file)
		damage(bad[i*page : (i+1)*page])
		path := filepath.Join(dir, fmt.Sprintf("bad-%d.db", i))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		k, db, err := openKeystore(t.Context(), path)
		if err != nil {
			if !errors.Is(err, keystore.ErrCorrupt) && !errors.Is(err, keystore.ErrWrongKEK) {
				t.Errorf("page %d: opening: %v", i+1, err)
			}
			unopened++
			continue
		}
		for kid, value := range want {
			keys, err := k.Lookup(t.Context(), "acme", []contentkey.KID{kid})
			if errors.Is(err, keystore.ErrNotFound) {
				keys, err = k.Obtain(t.Context(), ask(kid))
				hidden++
			}
			switch {
			case err != nil:
				refused++
				if !errors.Is(err, keystore.ErrCorrupt) {
					t.Errorf("page %d: key %s: %v", i+1, kid, err)
				}
			case keys[0].Value != value:
				t.Fatalf("page %d: another key was made for %s", i+1, kid)
			default:
				right++
			}
		}
		_ = errors.Join(k.Close(t.Context()), db.Close())
		for _, suffix := range []string{"", "-mark", "-wal", "-shm"} {
			_ = os.Remove(path + suffix)
		}
	}
	t.Logf("%d pages: %d keys right, %d refused, of these %d hidden; %d databases refused",
		len(file)/page, right, refused, hidden, unopened)
	if right == 0 || refused == 0 || hidden == 0 || unopened == 0 {
		t.Error("the damage does not show all outcomes")
	}
}

// TestLostDataKey takes a tenant's data key away from its content keys.
func TestLostDataKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	handed := handOut(t, path, 100)
	db := openTest(t, path)
	for _, s := range []string{"PRAGMA foreign_keys = 0", "DELETE FROM data_keys WHERE tenant = 'acme'"} {
		if _, err := db.writer.conn.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	k, db, err := openKeystore(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer k.Close(context.Background())
	for kid := range handed {
		if _, err := k.Obtain(t.Context(), ask(kid)); !errors.Is(err, keystore.ErrCorrupt) {
			t.Fatalf("a key without its data key: %v", err)
		}
	}
	if _, err := k.Obtain(t.Context(), ask(randomRecord().KID)); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("a new key beside such keys: %v", err)
	}
}

// TestLostLog cuts the write-ahead log, takes it away, and puts an old copy
// of the database back.
func TestLostLog(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	k, db, err := openKeystore(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "old.db")
	copyFile(t, old, path)
	copyFile(t, old+"-wal", path+"-wal")
	var kids []contentkey.KID
	for range 20 {
		kid := randomRecord().KID
		if _, err := k.Obtain(t.Context(), ask(kid)); err != nil {
			t.Fatal(err)
		}
		kids = append(kids, kid)
	}
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	for name, lose := range map[string]func(path string) error{
		"cut in half":         func(p string) error { return os.Truncate(p+"-wal", int64(len(wal)/2)) },
		"cut by a byte":       func(p string) error { return os.Truncate(p+"-wal", int64(len(wal)-1)) },
		"empty":               func(p string) error { return os.Truncate(p+"-wal", 0) },
		"gone":                func(p string) error { return os.Remove(p + "-wal") },
		"noise at its middle": func(p string) error { return os.WriteFile(p+"-wal", noise(wal), 0o600) },
		"an old copy": func(p string) error {
			copyFile(t, p, old)
			copyFile(t, p+"-wal", old+"-wal")
			return nil
		},
		"all but the mark": func(p string) error { return errors.Join(os.Remove(p), os.Remove(p+"-wal")) },
	} {
		crashed := filepath.Join(t.TempDir(), "keys.db")
		for _, suffix := range []string{"", "-wal", "-mark"} {
			copyFile(t, crashed+suffix, path+suffix)
		}
		if err := lose(crashed); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the refusal changes nothing
			if db, err := Open(t.Context(), crashed, Options{}); !errors.Is(err, keystore.ErrCorrupt) || !strings.Contains(err.Error(), "-mark") {
				t.Errorf("%s: %v", name, err)
				if db != nil {
					db.Close()
				}
			}
		}
	}

	crashed := filepath.Join(t.TempDir(), "keys.db")
	for _, suffix := range []string{"", "-wal", "-mark"} {
		copyFile(t, crashed+suffix, path+suffix)
	}
	again, db2, err := openKeystore(t.Context(), crashed)
	if err != nil {
		t.Fatalf("with its whole log: %v", err)
	}
	if _, err := again.Lookup(t.Context(), "acme", kids); err != nil {
		t.Errorf("with its whole log: %v", err)
	}
	if err := errors.Join(again.Close(t.Context()), db2.Close(), k.Close(t.Context()), db.Close()); err != nil {
		t.Error(err)
	}
}

func noise(b []byte) []byte {
	b = bytes.Clone(b)
	for i := range 64 {
		b[len(b)/2+i] ^= 0x5a
	}
	return b
}

func TestMark(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	handOut(t, path, 100)
	mark, err := os.ReadFile(path + "-mark")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		ok   bool
	}{
		"as it was":         {string(mark), true},
		"behind":            {string(mark[:48]) + fmt.Sprintf(" %020d\n", 1), true},
		"ahead":             {string(mark[:48]) + fmt.Sprintf(" %020d\n", 1_000_000), false},
		"another database":  {strings.Replace(string(mark), string(mark[16:48]), strings.Repeat("0", 32), 1), false},
		"empty":             {"", false},
		"cut short":         {string(mark[:60]), false},
		"no text of ours":   {strings.Repeat("x", len(mark)), false},
		"a negative number": {string(mark[:48]) + fmt.Sprintf(" %020d\n", -1), false},
	} {
		if err := os.WriteFile(path+"-mark", []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), path, Options{})
		if c.ok != (err == nil) || err != nil && !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if db != nil {
			db.Close()
		}
	}
	if err := os.Remove(path + "-mark"); err != nil {
		t.Fatal(err)
	}
	db := openTest(t, path) // an operator may accept what is there
	found(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(path + "-mark")
	if err != nil || string(now) <= string(mark) {
		t.Errorf("the mark did not move on: %q, %q, %v", mark, now, err)
	}
}

// TestFullAndReadOnlyDisk fails writes inside SQLite.
func TestFullAndReadOnlyDisk(t *testing.T) {
	for name, pragma := range map[string]struct{ on, off string }{
		"full":      {"PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"},
		"read-only": {"PRAGMA query_only = 1", "PRAGMA query_only = 0"},
	} {
		t.Run(name, func(t *testing.T) {
			k, db, err := openKeystore(t.Context(), filepath.Join(t.TempDir(), "keys.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			defer k.Close(context.Background())
			set := func(pragma string) {
				if _, err := db.writer.conn.ExecContext(t.Context(), pragma); err != nil {
					t.Fatal(err)
				}
			}
			first := randomRecord().KID
			before, err := k.Obtain(t.Context(), ask(first))
			if err != nil {
				t.Fatal(err)
			}
			set(pragma.on)
			var failed []contentkey.KID
			for range 300 { // a full database still has room in its last pages
				kid := randomRecord().KID
				keys, err := k.Obtain(t.Context(), ask(kid))
				if err == nil {
					continue
				}
				failed = append(failed, kid)
				if keys != nil || !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt) {
					t.Fatalf("%d keys, %v", len(keys), err)
				}
			}
			if len(failed) < 100 {
				t.Fatalf("only %d writes failed", len(failed))
			}
			if got, err := k.Lookup(t.Context(), "acme", []contentkey.KID{first}); err != nil || got[0].Value != before[0].Value {
				t.Errorf("a known key: %v", err)
			}
			set(pragma.off)
			if got, err := k.Obtain(t.Context(), ask(failed...)); err != nil || !got[0].Created {
				t.Errorf("when there is room again: %v", err)
			}
		})
	}
}

func openUnprivileged(path string) error {
	if os.Getuid() == 0 { // root may write everywhere
		if err := errors.Join(syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
			return err
		}
	}
	db, err := Open(context.Background(), path, Options{})
	if err == nil {
		db.Close()
		return errors.New("a file that cannot be written was opened")
	}
	if !errors.Is(err, keystore.ErrUnavailable) {
		return fmt.Errorf("another error: %w", err)
	}
	return nil
}

func TestFileCannotBeWritten(t *testing.T) {
	dir, err := os.MkdirTemp("", "sqlite") // t.TempDir keeps other users out
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "keys.db")
	handOut(t, path, 100)
	if err := errors.Join(os.Chmod(path, 0o444), os.Chmod(dir, 0o555)); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "unprivilege", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}
