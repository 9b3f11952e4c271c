package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/store/sqlite"
)

// TestFounded is how a first start is told from a later one.
func TestFounded(t *testing.T) {
	f := start(t, keystore.Options{})
	kek, founded, err := keystore.Founded(t.Context(), f.db)
	if err != nil || !founded || kek != "kek-1" {
		t.Errorf("after the first start: %q, %v, %v", kek, founded, err)
	}
	f.restart()
	if n := f.kek.wraps.Load(); n != 1 {
		t.Errorf("two starts made %d custody records", n)
	}
	f.spy.fail = func(string) error { return keystore.ErrUnavailable }
	if _, _, err := keystore.Founded(t.Context(), f.spy); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("a database that is down: %v", err)
	}
}

// TestStarts is how a server with a KEK file starts: it makes the file only
// for a store that never had one.
func TestStarts(t *testing.T) {
	dir := t.TempDir()
	kekFile := filepath.Join(dir, "kek")
	begin := func() ([]keystore.Key, error) {
		db, err := sqlite.Open(t.Context(), filepath.Join(dir, "keys.db"), sqlite.Options{})
		if err != nil {
			return nil, err
		}
		defer db.Close()
		_, founded, err := keystore.Founded(t.Context(), db)
		if err != nil {
			return nil, err
		}
		if !founded {
			if err := filekey.Create(kekFile, noon); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, err
			}
		}
		kek, err := filekey.Open(kekFile)
		if err != nil {
			return nil, err
		}
		k, err := keystore.Open(t.Context(), db, kek, keystore.Options{})
		if err != nil {
			return nil, err
		}
		defer k.Close(t.Context())
		return k.Obtain(t.Context(), ask("movie", kid(1)))
	}
	first, err := begin()
	if err != nil {
		t.Fatal(err)
	}
	again, err := begin()
	if err != nil || again[0].Value != first[0].Value {
		t.Fatalf("a second start: %v", err)
	}
	kept := kekFile + ".kept"
	if err := os.Rename(kekFile, kept); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := begin(); !errors.Is(err, kms.ErrKeyUnusable) {
			t.Errorf("without the KEK file: %v", err)
		}
	}
	if err := filekey.Create(kekFile, noon); err != nil { // it was not made by the starts
		t.Fatal(err)
	}
	if _, err := begin(); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("with another KEK file: %v", err)
	}
	if err := os.Rename(kept, kekFile); err != nil {
		t.Fatal(err)
	}
	if again, err = begin(); err != nil || again[0].Value != first[0].Value {
		t.Errorf("with the KEK file back: %v", err)
	}
}

// TestCustodyRecordLost holds that a store with keys is never founded anew.
func TestCustodyRecordLost(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "acme", ID: 1, Wrapped: []byte("w"), Created: noon}); err != nil {
		t.Fatal(err)
	}
	if _, founded, err := keystore.Founded(t.Context(), db); founded || !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Founded: %v, %v", founded, err)
	}
	if _, err := keystore.Open(t.Context(), db, ring(t, 1), keystore.Options{}); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Open: %v", err)
	}
}

func TestWrongKEK(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	open := func(kek keystore.KeyManager) error {
		k, err := keystore.Open(t.Context(), f.db, kek, keystore.Options{})
		if err == nil {
			k.Close(t.Context())
		}
		return err
	}
	if err := open(ring(t, 1)); err != nil {
		t.Errorf("the same KEK: %v", err)
	}
	if err := open(ring(t, 2)); !errors.Is(err, keystore.ErrWrongKEK) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("another KEK: %v", err)
	}
	if err := open(renamed{ring(t, 2), "kek-2", "kek-1"}); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("another KEK under the same name: %v", err)
	}
	down := &manager{KeyManager: ring(t, 1)}
	outage := errors.New("connection refused")
	down.fail.Store(&outage)
	if err := open(down); !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrWrongKEK) || !errors.Is(err, outage) {
		t.Errorf("a key manager that is down: %v", err)
	}
	rows, err := f.db.DataKeys(t.Context(), keystore.CustodyTenant)
	if err != nil || len(rows) != 1 {
		t.Errorf("custody records after all: %d, %v", len(rows), err)
	}
}

// renamed is a key manager whose KEK goes by another name.
type renamed struct {
	keystore.KeyManager
	own, name string
}

func (r renamed) KeyID() string { return r.name }

func (r renamed) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	return r.KeyManager.Unwrap(ctx, strings.Replace(keyID, r.name, r.own, 1), ciphertext, aad)
}

// TestFirstStartsRace lets processes with two different new KEKs meet on one
// empty database: one KEK wins, and all with the other are told.
func TestFirstStartsRace(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, founded, err := keystore.Founded(t.Context(), db); err != nil || founded {
		t.Errorf("an empty database is founded: %v, %v", founded, err)
	}
	errs := make([]error, 10)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			k, err := keystore.Open(t.Context(), db, ring(t, byte(1+i%2)), keystore.Options{})
			if err == nil {
				k.Close(t.Context())
			}
			errs[i] = err
		})
	}
	wg.Wait()
	kek, founded, err := keystore.Founded(t.Context(), db)
	if err != nil || !founded {
		t.Fatalf("founded %v, %v", founded, err)
	}
	for i, err := range errs {
		switch won := kek == fmt.Sprintf("kek-%d", 1+i%2); {
		case won && err != nil:
			t.Errorf("start %d has the KEK that won: %v", i, err)
		case !won && !errors.Is(err, keystore.ErrWrongKEK):
			t.Errorf("start %d has the KEK that lost: %v", i, err)
		}
	}
}

// TestKeyManagerAskedOnce lets many requests of one tenant wait for its data
// key.
func TestKeyManagerAskedOnce(t *testing.T) {
	f := start(t, keystore.Options{})
	f.kek.wait = make(chan struct{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := f.Obtain(t.Context(), ask("movie", kid(i))); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	close(f.kek.wait)
	wg.Wait()
	if n := f.kek.wraps.Load(); n != 2 { // custody, acme
		t.Errorf("%d data keys were wrapped, want 2", n)
	}
	f.restart()
	before := f.kek.unwraps.Load()
	for i := range 50 {
		wg.Go(func() {
			if _, err := f.Obtain(t.Context(), ask("movie", kid(i), kid(i+100))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.kek.unwraps.Load() - before; n != 1 {
		t.Errorf("%d data keys were unwrapped after a restart, want 1", n)
	}
	if s := f.Stats(); s.KeyManagerCalls != 2 || s.KeyManagerErrors != 0 {
		t.Errorf("counted: %+v", s)
	}
}

// TestDataKeyRace lets keystores make a tenant's first data key at once.
func TestDataKeyRace(t *testing.T) {
	f := start(t, keystore.Options{})
	var stores []*keystore.Keystore
	for range 8 {
		f.openKeystore()
		stores = append(stores, f.Keystore)
	}
	f.kek.wait = make(chan struct{})
	var wg sync.WaitGroup
	for i, k := range stores {
		wg.Go(func() {
			if _, err := k.Obtain(t.Context(), ask("movie", kid(i))); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all keystores have made a data key", func() bool { return f.kek.wraps.Load() == 1+8 })
	close(f.kek.wait)
	wg.Wait()
	rows, err := f.db.DataKeys(t.Context(), "acme")
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d data keys, %v", len(rows), err)
	}
	f.openKeystore()
	for i := range stores {
		if _, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(i)}); err != nil {
			t.Errorf("a key of a keystore that lost the race: %v", err)
		}
	}
}

// TestKeyManagerOutage holds that an outage stops only tenants whose data key
// is not open yet.
func TestKeyManagerOutage(t *testing.T) {
	f := start(t, keystore.Options{KeyManagerTimeout: 50 * time.Millisecond})
	f.obtain(ask("movie", kid(1)))
	other := ask("movie", kid(1))
	other.Tenant = "other"
	for name, outage := range map[string]func(){
		"refuses": func() { err := errors.New("connection refused"); f.kek.fail.Store(&err) },
		"hangs":   func() { f.kek.fail.Store(nil); f.kek.wait = make(chan struct{}) },
	} {
		outage()
		if keys, err := f.Obtain(t.Context(), other); keys != nil || !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%s: a new tenant: %d keys, %v", name, len(keys), err)
		}
		f.obtain(ask("movie", kid(1), kid(2)))
		f.obtain(ask("movie", kid(3)))
		if f.Stats().KeyManagerErrors == 0 {
			t.Errorf("%s: the error is not counted", name)
		}
	}
	f.kek.wait = nil
	f.kek.fail.Store(nil)
	f.obtain(other)
}

// TestImpatientRequest holds that a request that gives up does not spoil the
// data key for those who wait.
func TestImpatientRequest(t *testing.T) {
	f := start(t, keystore.Options{})
	f.kek.wait = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := f.Obtain(ctx, ask("movie", kid(1))); !errors.Is(err, context.Canceled) {
			t.Errorf("the impatient request: %v", err)
		}
	})
	eventually(t, "the key manager is asked", func() bool { return f.kek.wraps.Load() == 2 })
	wg.Go(func() {
		if _, err := f.Obtain(t.Context(), ask("movie", kid(2))); err != nil {
			t.Errorf("the patient request: %v", err)
		}
	})
	cancel()
	time.Sleep(10 * time.Millisecond)
	close(f.kek.wait)
	wg.Wait()
	if n := f.kek.wraps.Load(); n != 2 {
		t.Errorf("%d wraps, want 2", n)
	}
}

// TestWrongDataKEK gives one tenant's data key to a KEK that is gone.
func TestWrongDataKEK(t *testing.T) {
	f := start(t, keystore.Options{})
	row := keystore.DataKey{Tenant: "acme", ID: 1, KEK: "retired", Wrapped: []byte("wrapped"), Created: noon}
	if _, err := f.db.CreateDataKey(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	_, err := f.Obtain(t.Context(), ask("movie", kid(1)))
	if !errors.Is(err, keystore.ErrWrongKEK) || !strings.Contains(fmt.Sprint(err), "retired") {
		t.Errorf("%v, want %v and the KEK's name", err, keystore.ErrWrongKEK)
	}
	if rows, _ := f.db.DataKeys(t.Context(), "acme"); len(rows) != 1 {
		t.Errorf("a new data key was made beside one that does not open")
	}
}

// TestNewerDataKey lets another process rotate the data key.
func TestNewerDataKey(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: -1})
	first := f.obtain(ask("movie", kid(1)))[0]
	rotate(t, f, 2)
	older := f.Keystore
	f.openKeystore()
	second := f.obtain(ask("movie", kid(2)))[0]
	if r := f.stored(kid(2)); r.DataKey != 2 {
		t.Errorf("a new key is sealed under data key %d, want 2", r.DataKey)
	}
	if _, err := older.Lookup(t.Context(), "acme", []contentkey.KID{kid(2)}); err != nil {
		t.Error(err)
	}
	if _, err := older.Obtain(t.Context(), ask("movie", kid(3))); err != nil || f.stored(kid(3)).DataKey != 2 {
		t.Errorf("a keystore that has met the newer data key still seals under the older one: %v", err)
	}
	for name, k := range map[string]*keystore.Keystore{"the one that knew the first": older, "the new one": f.Keystore} {
		got, err := k.Lookup(t.Context(), "acme", []contentkey.KID{kid(1), kid(2)})
		if err != nil || got[0].Value != first.Value || got[1].Value != second.Value {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// rotate stores one more data key of the tenant acme, wrapped as the keystore
// does.
func rotate(t *testing.T, f *fixture, id uint32) {
	t.Helper()
	row := keystore.DataKey{Tenant: "acme", ID: id, KEK: f.kek.KeyID(), Created: noon}
	aad := "\x01\x00\x00\x00\x08data-key\x00\x00\x00\x04acme\x00\x00\x00\x01" + fmt.Sprint(id)
	var err error
	if row.Wrapped, err = f.kek.Wrap(t.Context(), []byte("0123456789abcdef0123456789abcdef"), []byte(aad)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.CreateDataKey(t.Context(), row); err != nil {
		t.Fatal(err)
	}
}
