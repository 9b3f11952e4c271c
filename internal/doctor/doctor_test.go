package doctor_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/doctor"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/store/sqlite"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ring(t *testing.T, b byte) keystore.KeyManager {
	t.Helper()
	r, err := envkey.Open(&url.URL{Scheme: "env", Opaque: "KEK"}, func(string) (string, bool) {
		return fmt.Sprintf("kek-%d:%s", b, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))), true
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func kid(n int) contentkey.KID { return contentkey.KID{byte(n), byte(n >> 8), 15: 0xab} }

// filled returns the path of a database with keys of two tenants.
func filled(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.db")
	change(t, path, func(db *sqlite.DB, k *keystore.Keystore, _ *keystore.Custody) error {
		for _, tenant := range []string{"acme", "other"} {
			a := &keystore.Ask{Tenant: tenant, ContentID: "movie", Profile: "2.0", Scheme: contentkey.Cbcs}
			for i := range 600 {
				a.Wants = append(a.Wants, keystore.Want{Requested: kid(i), KID: kid(i)})
			}
			if _, err := k.Obtain(t.Context(), a); err != nil {
				return err
			}
		}
		return nil
	})
	return path
}

// change works on a database as a server or an operator does.
func change(t *testing.T, path string, f func(*sqlite.DB, *keystore.Keystore, *keystore.Custody) error) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	k, err := keystore.Open(t.Context(), db, ring(t, 1), keystore.Options{Clock: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close(context.Background())
	c, err := k.Custody()
	if err != nil {
		t.Fatal(err)
	}
	if err := f(db, k, c); err != nil {
		t.Fatal(err)
	}
}

// vandalize changes a database behind our back.
func vandalize(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range append([]string{"PRAGMA foreign_keys = 0"}, statements...) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func examine(t *testing.T, path string, kek keystore.KeyManager) *doctor.Examination {
	t.Helper()
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	x := &doctor.Examination{Now: noon.Add(time.Hour)}
	x.Database(t.Context(), db)
	if kek != nil {
		x.KeyManager(t.Context(), kek)
	}
	seen := 0
	err = x.Rows(t.Context(), db, kek, func(n int) {
		if n <= seen {
			t.Error("progress goes backwards")
		}
		seen = n
	})
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// text is how findings of a severity or worse read.
func text(x *doctor.Examination, least doctor.Severity) string {
	var all strings.Builder
	for _, f := range x.Findings {
		if f.Severity >= least {
			fmt.Fprintf(&all, "%s: %s -> %s\n", f.Severity, f.What, f.Do)
		}
	}
	return all.String()
}

func TestHealthy(t *testing.T) {
	x := examine(t, filled(t), ring(t, 1))
	if bad := text(x, doctor.Note); bad != "" {
		t.Errorf("found: %s", bad)
	}
	for _, want := range []string{
		"The database is sound", "wraps and unwraps with KEK kek-1",
		"1200 keys and 1200 bindings of 2 tenant(s)", "No row is from the future",
	} {
		if !strings.Contains(text(x, doctor.Good), want) {
			t.Errorf("not found: %s", want)
		}
	}
}

// TestNotes is what an operator may want to know.
func TestNotes(t *testing.T) {
	path := filled(t)
	change(t, path, func(db *sqlite.DB, _ *keystore.Keystore, c *keystore.Custody) error {
		_, err := c.Delete(t.Context(), "acme", []contentkey.KID{kid(1), kid(2), kid(3)})
		return err
	})
	change(t, path, func(db *sqlite.DB, _ *keystore.Keystore, c *keystore.Custody) error {
		_, err := db.Purge(t.Context(), "acme", []contentkey.KID{kid(1)}, noon)
		if err == nil {
			_, err = db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "other", ID: 1, KEK: "x", Wrapped: []byte("x")})
		}
		return err
	})
	kek := keystore.WithFormer(ring(t, 2), ring(t, 1))
	x := examine(t, path, kek)
	if x.Count(doctor.Warning)+x.Count(doctor.Error) > 0 {
		t.Errorf("found: %s", text(x, doctor.Warning))
	}
	for _, want := range []string{
		"3 data keys are wrapped under KEK kek-1, not under the present one, kek-2. The old one is still needed.",
		"2 content keys are deleted and not purged", "1199 keys",
	} {
		if !strings.Contains(text(x, doctor.Good), want) {
			t.Errorf("not found: %s\n%s", want, text(x, doctor.Good))
		}
	}
}

type down struct{ keystore.KeyManager }

var errDown = errors.New("connection refused")

func (down) Wrap(context.Context, []byte, []byte) ([]byte, error)           { return nil, errDown }
func (down) Unwrap(context.Context, string, []byte, []byte) ([]byte, error) { return nil, errDown }

// liar unwraps something else than it wrapped.
type liar struct{ keystore.KeyManager }

func (l liar) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	return l.KeyManager.Wrap(ctx, make([]byte, len(plaintext)), aad)
}

func TestDamage(t *testing.T) {
	seventh := kid(7)
	first := fmt.Sprintf("%x", seventh[:])
	for name, c := range map[string]struct {
		damage []string
		kek    keystore.KeyManager
		want   []string
	}{
		"another KEK": {nil, ring(t, 2), []string{
			"error: 3 data keys do not open under the KEK that they name: _custody 1 (KEK kek-1), acme 1 (KEK kek-1), other 1 (KEK kek-1). -> Put the KEK back",
		}},
		"a key manager that is down": {nil, down{ring(t, 1)}, []string{
			"error: The key manager does not wrap and unwrap with KEK kek-1: connection refused. -> Look at the key manager",
			"error: 3 data keys could not be opened, because the key manager did not answer",
		}},
		"a key manager that lies": {nil, liar{ring(t, 1)}, []string{"error: The key manager unwraps something else"}},
		"no key manager":          {nil, nil, []string{"error: 1200 content keys were not opened"}},
		"a changed row": {
			[]string{"UPDATE content_keys SET wrapped = zeroblob(61) WHERE tenant = 'acme' AND kid = x'" + first + "'"}, ring(t, 1),
			[]string{"error: 1 content keys do not open under their data key", kid(7).String() + " of acme", "-> Restore"},
		},
		"many changed rows": {
			[]string{"UPDATE content_keys SET wrapped = x'01' WHERE tenant = 'acme'"}, ring(t, 1),
			[]string{"error: 600 content keys do not open", " and 595 more."},
		},
		"rows of another tenant": {
			[]string{"UPDATE content_keys SET wrapped = (SELECT wrapped FROM content_keys k WHERE k.tenant = 'other' AND k.kid = content_keys.kid) WHERE tenant = 'acme' AND kid = x'" + first + "'"},
			ring(t, 1), []string{"error: 1 content keys do not open under their data key"},
		},
		"a lost data key": {
			[]string{"DELETE FROM data_keys WHERE tenant = 'acme'", "INSERT INTO data_keys SELECT 'acme', 2, kek, wrapped, created FROM data_keys WHERE tenant = 'other'"}, ring(t, 1),
			[]string{
				"error: The database is damaged: content_keys has rows without their data_keys",
				"error: 600 content keys name a data key that is not there", "error: 1 data keys do not open",
				"note: 600 content keys are sealed under a data key that is not their tenant's newest",
			},
		},
		"a lost key": {
			[]string{"DELETE FROM content_keys WHERE tenant = 'acme' AND kid = x'" + first + "'"}, ring(t, 1),
			[]string{"error: 1 bindings are of a content key that is not there: " + kid(7).String() + ` of acme, content "movie". -> Restore`},
		},
		"no custody record": {
			[]string{"DELETE FROM data_keys WHERE tenant = '_custody'"}, ring(t, 1),
			[]string{"error: The custody record is missing, so no server starts on this store.", "-> Repeat the restore"},
		},
		"a clock that is wrong": {
			[]string{"UPDATE content_keys SET created = created + 3 * 3600 * 1000000 WHERE tenant = 'other'"}, ring(t, 1),
			[]string{"warning: The newest row was written 2h0m0s in the future, on 2026-11-22T15:00:00Z", "-> Set the clocks"},
		},
		"nothing": {
			[]string{"DELETE FROM content_keys", "DELETE FROM data_keys", "DELETE FROM bindings"}, ring(t, 1),
			[]string{"note: No keys were ever kept in this store."},
		},
	} {
		path := filled(t)
		vandalize(t, path, c.damage...)
		x := examine(t, path, c.kek)
		found := text(x, doctor.Note)
		for _, want := range c.want {
			if !strings.Contains(found, want) {
				t.Errorf("%s: not found: %s\n%s", name, want, found)
			}
		}
		if strings.Contains(text(x, doctor.Good), "Every content key opens") && x.Count(doctor.Error) > 0 && name != "no custody record" && name != "a key manager that lies" {
			t.Errorf("%s: both good and bad:\n%s", name, text(x, doctor.Good))
		}
	}
}

func TestCancelled(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filled(t), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x := &doctor.Examination{Now: noon}
	if err := x.Rows(ctx, db, ring(t, 1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Rows: %v", err)
	}
}

func TestFiles(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  []string
	}{
		"as it should be":    {func(string) error { return nil }, nil},
		"a readable KEK":     {func(dir string) error { return os.Chmod(dir+"/kek", 0o640) }, []string{"error: Others than its owner can use", "/kek: its mode is 0640", "-> chmod 600"}},
		"a writable log":     {func(dir string) error { return os.WriteFile(dir+"/keys.db-wal", nil, 0o620) }, []string{"error: Others than its owner can use", "/keys.db-wal: its mode is 0620"}},
		"a listed directory": {func(dir string) error { return os.Chmod(dir, 0o755) }, []string{"warning: Others can see what is in the data directory"}},
		"an open directory":  {func(dir string) error { return os.Chmod(dir, 0o777) }, []string{"error: Others can put files into the data directory"}},
		"no directory":       {os.RemoveAll, []string{"error: The data directory cannot be examined"}},
		"a leftover": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/.kek-1", nil, 0o600), os.Chtimes(dir+"/.kek-1", noon, noon.Add(-2*time.Hour)))
		}, []string{"warning: ", ".kek-1 was left behind", "-> rm "}},
		"a file under way": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/.kek-1", nil, 0o600), os.Chtimes(dir+"/.kek-1", noon, noon.Add(-time.Minute)))
		}, nil},
		"a long log": {func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/keys.db-wal", nil, 0o600), os.Truncate(dir+"/keys.db-wal", 600<<20))
		}, []string{"warning: The write-ahead log has 600 MiB"}},
		"a link to a readable KEK": {func(dir string) error {
			return errors.Join(os.Rename(dir+"/kek", dir+"/real"), os.Chmod(dir+"/real", 0o644), os.Symlink("real", dir+"/kek"))
		}, []string{"error: Others than its owner can use"}},
		"a link to nowhere": {func(dir string) error { return errors.Join(os.Remove(dir+"/kek"), os.Symlink("gone", dir+"/kek")) }, []string{"points nowhere"}},
	} {
		dir := filepath.Join(t.TempDir(), "data")
		err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+"/keys.db", nil, 0o600), os.WriteFile(dir+"/kek", nil, 0o600))
		if err := errors.Join(err, c.spoil(dir)); err != nil {
			t.Fatal(err)
		}
		if name == "a writable log" { // whatever the umask is
			if err := os.Chmod(dir+"/keys.db-wal", 0o620); err != nil {
				t.Fatal(err)
			}
		}
		x := &doctor.Examination{Now: noon}
		x.Files(doctor.Paths{Data: dir, Database: dir + "/keys.db", KEK: dir + "/kek"})
		found := text(x, doctor.Warning)
		if len(c.want) == 0 && found != "" {
			t.Errorf("%s: found %s", name, found)
		}
		for _, want := range c.want {
			if !strings.Contains(found, want) {
				t.Errorf("%s: not found: %s\n%s", name, want, found)
			}
		}
		if !strings.Contains(text(x, doctor.Good), "whoever copies the directory has every key") {
			t.Errorf("%s: the KEK beside the database is not mentioned", name)
		}
	}
}

func TestOwner(t *testing.T) {
	path, want := "/etc/passwd", fmt.Sprintf("belongs to user 0, and this is user %d", os.Getuid())
	if os.Getuid() == 0 { // who can give a file away
		path, want = filepath.Join(t.TempDir(), "kek"), "belongs to user 65534, and this is user 0"
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
	}
	x := &doctor.Examination{Now: noon}
	x.Files(doctor.Paths{KEK: path})
	if found := text(x, doctor.Warning); !strings.Contains(found, want) {
		t.Errorf("found: %s", found)
	}
}
