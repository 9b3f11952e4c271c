package keystore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// startNew is start with a store that may create keys unread, and a first
// request that makes the keystore expect new ones. reads counts the calls that
// read keys from then on.
func startNew(t *testing.T) (f *fixture, reads *atomic.Int64) {
	t.Helper()
	reads = new(atomic.Int64)
	f = start(t, keystore.Options{})
	f.Keystore = another(t, f, reads)
	f.obtain(ask("first", kid(1000)))
	reads.Store(0)
	return f, reads
}

// another is a keystore of another process.
func another(t *testing.T, f *fixture, reads *atomic.Int64) *keystore.Keystore {
	t.Helper()
	k, err := keystore.Open(t.Context(), f.db, f.kek, keystore.Options{Observe: func(_ context.Context, c keystore.Call) {
		if c.Op == "keys" {
			reads.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(context.Background()) })
	return k
}

// TestNewKeys: keys that are new, as most are, are not read before.
func TestNewKeys(t *testing.T) {
	f, reads := startNew(t)
	got := f.obtain(ask("movie", kid(1), kid(2), kid(1)))
	if reads.Load() != 0 {
		t.Errorf("%d reads", reads.Load())
	}
	if !got[0].Created || !got[1].Created || got[0].Value == got[1].Value || got[2].Value != got[0].Value {
		t.Error("not two new keys")
	}
	if len(f.bindings()) != 3 || f.Stats().Created != 3 {
		t.Errorf("bindings %+v, %d keys created", f.bindings(), f.Stats().Created)
	}
	again := f.obtain(ask("movie", kid(1), kid(2)))
	f.restart()
	later := f.obtain(ask("movie", kid(1), kid(2)))
	for i := range later {
		for _, k := range []keystore.Key{again[i], later[i]} {
			if k.Created || k.Value != got[i].Value || k.IV != got[i].IV {
				t.Errorf("key %d is another one later", i)
			}
		}
	}
}

// TestNewKeysThatAreNot: what another process made, imported or deleted
// meanwhile counts as if it had been read.
func TestNewKeysThatAreNot(t *testing.T) {
	f, reads := startNew(t)
	theirs, err := another(t, f, new(atomic.Int64)).Obtain(t.Context(), ask("movie", kid(1)))
	if err != nil {
		t.Fatal(err)
	}
	got := f.obtain(ask("movie", kid(2), kid(1)))
	if got[1].Value != theirs[0].Value || got[1].Created || !got[0].Created || reads.Load() != 1 {
		t.Errorf("created %v and %v with %d reads", got[0].Created, got[1].Created, reads.Load())
	}
	f.obtain(ask("movie", kid(3))) // expects new ones again

	gone := keystore.Record{Tenant: "acme", KID: kid(4), DataKey: 1, Source: "random", ContentID: "movie", Created: noon, Deleted: noon}
	if _, err := f.db.Commit(t.Context(), []keystore.Record{gone}, nil); err != nil {
		t.Fatal(err)
	}
	before := len(f.bindings())
	for _, kids := range [][]contentkey.KID{{kid(4), kid(5)}, {kid(5), kid(4)}} {
		if keys, err := f.Obtain(t.Context(), ask("movie", kids...)); keys != nil || !errors.Is(err, keystore.ErrDeleted) {
			t.Errorf("a deleted key among new ones: %d keys, %v", len(keys), err)
		}
		f.obtain(ask("movie", kid(3), kid(1)))
	}
	if f.stored(kid(5)) != nil || len(f.bindings()) > before+2 {
		t.Error("a refused request left traces")
	}
}

// TestNewKeysBesideKnown: what is in memory is known to exist.
func TestNewKeysBesideKnown(t *testing.T) {
	f, _ := startNew(t)
	known := f.obtain(ask("movie", kid(1)))
	got := f.obtain(ask("movie", kid(1), kid(2)))
	if got[0].Value != known[0].Value || got[0].Created || !got[1].Created {
		t.Error("a known key beside a new one")
	}
}

// TestNewKeysWithinQuota: a quota is asked before anything is stored.
func TestNewKeysWithinQuota(t *testing.T) {
	f, _ := startNew(t)
	full := errors.New("full")
	a := ask("movie", kid(1), kid(2))
	a.Admit = func(n int) error {
		if n != 2 {
			t.Errorf("asked for %d keys", n)
		}
		return full
	}
	if _, err := f.Obtain(t.Context(), a); !errors.Is(err, full) {
		t.Errorf("beyond the quota: %v", err)
	}
	if f.stored(kid(1)) != nil || f.stored(kid(2)) != nil {
		t.Error("a refused request left traces")
	}
}

// TestNewKeysRacers is [TestRacers] for processes that all expect new keys.
func TestNewKeysRacers(t *testing.T) {
	f, _ := startNew(t)
	processes := []*keystore.Keystore{f.Keystore}
	for i := range 2 {
		k := another(t, f, new(atomic.Int64))
		if _, err := k.Obtain(t.Context(), ask("first", kid(2000+i))); err != nil {
			t.Fatal(err)
		}
		processes = append(processes, k)
	}
	answers := make([][]keystore.Key, 51)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() {
			var err error
			if answers[i], err = processes[i%3].Obtain(t.Context(), ask("movie", kid(1), kid(2+i/3%2))); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	created := 0
	values := make(map[contentkey.KID]contentkey.Value)
	for _, keys := range answers {
		for _, k := range keys {
			if k.Created {
				created++
			}
			if v, ok := values[k.KID]; ok && v != k.Value {
				t.Errorf("two keys for %s", k.KID)
			}
			values[k.KID] = k.Value
		}
	}
	if created != 3 || len(values) != 3 {
		t.Errorf("%d keys, of which %d are said to be created", len(values), created)
	}
}
