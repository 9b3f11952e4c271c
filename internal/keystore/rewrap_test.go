package keystore_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/store/sqlite"
)

// operator opens the operator's side beside the fixture's keystore, as a
// command beside a server does. A store other than nil stands in front of the
// fixture's database.
func (f *fixture) operator(store keystore.Store, kek keystore.KeyManager) *keystore.Custody {
	f.t.Helper()
	if store == nil {
		store = f.db
	}
	k, err := keystore.Open(f.t.Context(), store, kek, keystore.Options{
		Clock: func() time.Time { return time.UnixMicro(f.now.Load()) },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { k.Close(context.Background()) })
	c, err := k.Custody()
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

// rings returns a key manager with KEKs made of the given bytes, the first of
// which wraps.
func rings(t testing.TB, bytesOf ...byte) keystore.KeyManager {
	t.Helper()
	var list []string
	for _, b := range bytesOf {
		list = append(list, fmt.Sprintf("kek-%d:%s", b, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))))
	}
	r, err := envkey.Open(&url.URL{Scheme: "env", Opaque: "KEK"}, func(string) (string, bool) { return strings.Join(list, ","), true })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill creates keys of two tenants and returns them.
func (f *fixture) fill(n int) map[string]contentkey.Value {
	f.t.Helper()
	all := make(map[string]contentkey.Value)
	for _, tenant := range []string{"acme", "other"} {
		for i := 0; i < n; i += 100 {
			var kids []contentkey.KID
			for j := range min(100, n-i) {
				kids = append(kids, kid(i+j))
			}
			a := ask("movie", kids...)
			a.Tenant = tenant
			for _, k := range f.obtain(a) {
				all[tenant+" "+k.KID.String()] = k.Value
			}
		}
	}
	return all
}

// holds reads every key anew and compares it.
func (f *fixture) holds(kek keystore.KeyManager, want map[string]contentkey.Value) {
	f.t.Helper()
	got := make(map[string]contentkey.Value)
	c := f.operator(nil, kek)
	for _, tenant := range []string{"acme", "other"} {
		for k, err := range c.Keys(f.t.Context(), tenant) {
			if err != nil {
				f.t.Fatal(err)
			}
			got[tenant+" "+k.KID.String()] = k.Value
		}
	}
	if !maps.Equal(got, want) {
		f.t.Errorf("%d keys are not the %d that were handed out", len(got), len(want))
	}
}

func (f *fixture) rewrap(c *keystore.Custody, o keystore.RewrapOptions) keystore.RewrapReport {
	f.t.Helper()
	r, err := c.Rewrap(f.t.Context(), o)
	if err != nil {
		f.t.Fatalf("Rewrap: %v", err)
	}
	return r
}

// dataKeys returns the IDs and KEKs of all data keys.
func (f *fixture) dataKeys() map[string]string {
	f.t.Helper()
	all := make(map[string]string)
	for tenant, err := range keystore.Tenants(f.t.Context(), f.db) {
		if err != nil {
			f.t.Fatal(err)
		}
		rows, err := f.db.DataKeys(f.t.Context(), tenant)
		if err != nil {
			f.t.Fatal(err)
		}
		for _, row := range rows {
			all[fmt.Sprint(tenant, " ", row.ID)] = row.KEK
		}
	}
	return all
}

func wantDataKeys(t *testing.T, f *fixture, when string, want map[string]string) {
	t.Helper()
	if got := f.dataKeys(); !maps.Equal(got, want) {
		t.Errorf("data keys %s:\n got %v\nwant %v", when, got, want)
	}
}

func TestRotateDataKeys(t *testing.T) {
	f := start(t, keystore.Options{})
	keys := f.fill(1100)
	c := f.operator(nil, f.kek)
	if r := f.rewrap(c, keystore.RewrapOptions{}); r.Looked != 2200 || r.Resealed+r.NewDataKeys+r.Rewrapped+r.Removed+r.Unused != 0 {
		t.Errorf("with nothing to do: %+v", r)
	}
	seen := 0
	r := f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true, Progress: func(p keystore.RewrapReport) {
		if p.Looked < seen {
			t.Error("progress goes backwards")
		}
		seen = p.Looked
	}})
	if r.NewDataKeys != 2 || r.Resealed != 2200 || r.Left != 0 || r.Unused != 2 || r.Removed != 0 || seen != 2200 ||
		!r.Removable.Equal(noon.Add(time.Hour)) {
		t.Errorf("a rotation: %+v, progress to %d", r, seen)
	}
	f.holds(f.kek, keys)
	two := map[string]string{"_custody 1": "kek-1", "acme 1": "kek-1", "acme 2": "kek-1", "other 1": "kek-1", "other 2": "kek-1"}
	wantDataKeys(t, f, "after the rotation", two)

	f.advance(time.Hour - time.Microsecond)
	if r := f.rewrap(c, keystore.RewrapOptions{}); r.Removed != 0 || r.Unused != 2 {
		t.Errorf("within the hour: %+v", r)
	}
	if r := f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true, MinAge: time.Hour}); r.NewDataKeys != 0 {
		t.Errorf("young data keys were rotated: %+v", r)
	}
	f.advance(time.Microsecond)
	before := f.dataKeys()
	if r := f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true, MinAge: time.Hour, DryRun: true}); r.NewDataKeys != 2 || r.Left != 2200 || r.Resealed != 0 {
		t.Errorf("a dry run: %+v", r)
	}
	if r := f.rewrap(c, keystore.RewrapOptions{DryRun: true}); r.Removed != 2 {
		t.Errorf("a dry run: %+v", r)
	}
	wantDataKeys(t, f, "after the dry runs", before)
	if r := f.rewrap(c, keystore.RewrapOptions{}); r.Removed != 2 || r.Unused != 0 || r.Resealed != 0 {
		t.Errorf("after the hour: %+v", r)
	}
	delete(two, "acme 1")
	delete(two, "other 1")
	wantDataKeys(t, f, "after the hour", two)
	f.holds(f.kek, keys)
	f.restart()
	f.holds(f.kek, keys)
}

// TestServersFollowARotation is about processes that have a data key in
// memory while another one rotates it.
func TestServersFollowARotation(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: -1})
	keys := f.fill(10)
	server := f.Keystore
	c := f.operator(nil, f.kek)
	f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true})

	// It opens what is under a data key that it does not know, and goes on
	// sealing under its own for a minute.
	for i := range 10 {
		if got := f.obtain(ask("movie", kid(i))); got[0].Value != keys["acme "+kid(i).String()] {
			t.Fatalf("key %d has changed", i)
		}
	}
	for _, step := range []struct {
		after time.Duration
		kid   int
		want  uint32
	}{{0, 100, 2}, {time.Minute, 101, 2}} {
		f.advance(step.after)
		f.obtain(ask("movie", kid(step.kid)))
		if got := f.stored(kid(step.kid)).DataKey; got != step.want {
			t.Errorf("%v after the rotation a key is sealed under data key %d", step.after, got)
		}
	}

	// One that was not asked for anything in between: it still seals under
	// the old data key, which a later rewrap finds.
	f.openKeystore()
	idle := f.Keystore
	f.obtain(ask("movie", kid(102)))
	f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true})
	f.obtain(ask("movie", kid(103)))
	if got := f.stored(kid(103)).DataKey; got != 2 {
		t.Errorf("at once after the rotation a key is sealed under data key %d", got)
	}
	f.advance(time.Hour)
	if r := f.rewrap(c, keystore.RewrapOptions{}); r.Resealed != 1 || r.Removed != 4 {
		t.Errorf("after the hour: %+v", r)
	}

	// Its clock stood still: the data key that it seals under is gone.
	f.now.Store(noon.Add(time.Minute).UnixMicro())
	for i, k := range []*keystore.Keystore{idle, server} {
		if keys, err := k.Obtain(t.Context(), ask("movie", kid(104+i))); err != nil || !keys[0].Created {
			t.Errorf("process %d whose data key was removed: %v", i, err)
		}
	}
}

// TestStaleReader reads records as they were before a rotation ended.
func TestStaleReader(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: -1})
	key := f.obtain(ask("movie", kid(1)))[0]
	old := *f.stored(kid(1))
	c := f.operator(nil, f.kek)
	f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true})
	f.advance(time.Hour)
	f.rewrap(c, keystore.RewrapOptions{})

	f.openKeystore() // it knows no data key yet
	stale := true
	f.spy.records = func(all []keystore.Record) {
		if stale && len(all) == 1 {
			all[0], stale = old, false
		}
	}
	if got := f.obtain(ask("movie", kid(1))); got[0].Value != key.Value || stale {
		t.Error("another key")
	}
	f.spy.records = func(all []keystore.Record) { all[0] = old }
	if _, err := f.Obtain(t.Context(), ask("movie", kid(1))); !errors.Is(err, keystore.ErrCorrupt) || !errors.Is(err, keystore.ErrNoDataKey) {
		t.Errorf("a record whose data key is gone: %v", err)
	}
}

// TestLateRequest holds that a process that stood still does not store what
// it sealed long ago.
func TestLateRequest(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	a := ask("movie", kid(2))
	a.Source = &keystore.Derived{Label: "slow", Key: func(contentkey.KID) (contentkey.Value, error) {
		f.advance(10*time.Minute + time.Microsecond)
		return contentkey.Value{1}, nil
	}}
	if _, err := f.Obtain(t.Context(), a); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("sealed ten minutes ago: %v", err)
	}
	if f.stored(kid(2)) != nil {
		t.Error("it is stored")
	}
}

func TestRotateKEK(t *testing.T) {
	f := start(t, keystore.Options{})
	keys := f.fill(100)
	c := f.operator(nil, rings(t, 2, 1))
	if r := f.rewrap(c, keystore.RewrapOptions{DryRun: true}); !maps.Equal(r.OldKEKs, map[string]int{"kek-1": 3}) || r.Rewrapped != 0 {
		t.Errorf("a dry run: %+v", r)
	}
	r := f.rewrap(c, keystore.RewrapOptions{})
	if r.Rewrapped != 3 || len(r.OldKEKs) != 0 || r.Resealed != 0 {
		t.Errorf("a rotation: %+v", r)
	}
	wantDataKeys(t, f, "after the rotation", map[string]string{"_custody 1": "kek-2", "acme 1": "kek-2", "other 1": "kek-2"})
	f.obtain(ask("movie", kid(1), kid(7))) // the server has its data keys still
	f.holds(rings(t, 2), keys)             // the old KEK is not needed
	if _, err := keystore.Open(t.Context(), f.db, rings(t, 1), keystore.Options{}); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("with the old KEK alone: %v", err)
	}
	rows := func() []byte {
		all, err := f.db.DataKeys(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		return all[0].Wrapped
	}
	before := rows()
	if r := f.rewrap(c, keystore.RewrapOptions{}); r.Rewrapped != 0 || !bytes.Equal(before, rows()) {
		t.Errorf("once more: %+v", r)
	}
	if r := f.rewrap(c, keystore.RewrapOptions{SameKEK: true}); r.Rewrapped != 3 || bytes.Equal(before, rows()) {
		t.Errorf("under the same name: %+v", r)
	}
	f.holds(rings(t, 2), keys)
}

// TestAnotherKeyManager moves from one key manager to another.
func TestAnotherKeyManager(t *testing.T) {
	f := start(t, keystore.Options{})
	keys := f.fill(10)
	former := &manager{KeyManager: rings(t, 1)}
	both := keystore.WithFormer(rings(t, 3), rings(t, 9), former)
	f.rewrap(f.operator(nil, both), keystore.RewrapOptions{})
	f.holds(rings(t, 3), keys)
	if keystore.WithFormer(former) != keystore.KeyManager(former) {
		t.Error("a key manager without former ones is wrapped")
	}

	f = start(t, keystore.Options{})
	if _, err := keystore.Open(t.Context(), f.db, keystore.WithFormer(rings(t, 3), rings(t, 9)), keystore.Options{}); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("neither has the KEK: %v", err)
	}
	outage := errors.New("connection refused")
	former.fail.Store(&outage)
	if _, err := keystore.Open(t.Context(), f.db, both, keystore.Options{}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("the former one is down: %v", err)
	}
}

// liar is a key manager that wraps something else than it is given.
type liar struct{ keystore.KeyManager }

func (l liar) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	return l.KeyManager.Wrap(ctx, bytes.Repeat([]byte{1}, len(plaintext)), aad)
}

// TestNothingIsReplacedUnproven gives data keys to a key manager that loses
// them.
func TestNothingIsReplacedUnproven(t *testing.T) {
	f := start(t, keystore.Options{})
	keys := f.fill(10)
	if _, err := f.operator(nil, liar{rings(t, 2, 1)}).Rewrap(t.Context(), keystore.RewrapOptions{}); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("a key manager that loses keys: %v", err)
	}
	wantDataKeys(t, f, "afterwards", map[string]string{"_custody 1": "kek-1", "acme 1": "kek-1", "other 1": "kek-1"})
	f.holds(f.kek, keys)
}

// TestDamageDoesNotStopARotation has a row that does not open.
func TestDamageDoesNotStopARotation(t *testing.T) {
	f := start(t, keystore.Options{})
	keys := f.fill(20)
	bad := *f.stored(kid(7))
	bad.Wrapped = bytes.Clone(bad.Wrapped)
	bad.Wrapped[20] ^= 1
	n, err := f.db.Reseal(t.Context(), "acme", []keystore.Reseal{{
		KID: kid(7), OldWrapped: f.stored(kid(7)).Wrapped, OldDataKey: 1, Wrapped: bad.Wrapped, DataKey: 1,
	}})
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c := f.operator(nil, f.kek)
	for range 2 {
		r := f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true})
		if r.Damaged != 1 || r.Left != 1 || !errors.Is(r.FirstDamage, keystore.ErrCorrupt) || !strings.Contains(r.FirstDamage.Error(), kid(7).String()) {
			t.Errorf("%+v", r)
		}
		f.advance(2 * time.Hour)
	}
	f.rewrap(c, keystore.RewrapOptions{})
	if got := f.dataKeys(); len(got) != 4 || got["acme 1"] == "" || got["acme 3"] == "" || got["other 3"] == "" {
		t.Errorf("data keys that remain: %v", got)
	}
	// What made it damaged is undone: nothing was lost.
	good := bytes.Clone(bad.Wrapped)
	good[20] ^= 1
	n, err = f.db.Reseal(t.Context(), "acme", []keystore.Reseal{{KID: kid(7), OldWrapped: bad.Wrapped, OldDataKey: 1, Wrapped: good, DataKey: 1}})
	if n != 1 || err != nil {
		t.Fatal(n, err)
	}
	f.holds(f.kek, keys)
}

// cut is a store that fails from the n-th change on.
type cut struct {
	*sqlite.DB
	mu   sync.Mutex
	left int
}

var errCut = errors.New("cut off")

func (c *cut) spend() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cut) CreateDataKey(ctx context.Context, k keystore.DataKey) (keystore.DataKey, error) {
	if err := c.spend(); err != nil {
		return keystore.DataKey{}, err
	}
	return c.DB.CreateDataKey(ctx, k)
}

func (c *cut) Reseal(ctx context.Context, tenant string, all []keystore.Reseal) (int, error) {
	if err := c.spend(); err != nil { // half of it happens
		_, halfErr := c.DB.Reseal(ctx, tenant, all[:len(all)/2])
		return 0, errors.Join(err, halfErr)
	}
	return c.DB.Reseal(ctx, tenant, all)
}

func (c *cut) RewrapDataKey(ctx context.Context, old, now keystore.DataKey) (bool, error) {
	if err := c.spend(); err != nil {
		return false, err
	}
	return c.DB.RewrapDataKey(ctx, old, now)
}

func (c *cut) RemoveDataKey(ctx context.Context, tenant string, id uint32) (bool, error) {
	if err := c.spend(); err != nil {
		return false, err
	}
	return c.DB.RemoveDataKey(ctx, tenant, id)
}

// TestInterruptedRewrap ends a rotation of everything at each of its changes,
// and completes it.
func TestInterruptedRewrap(t *testing.T) {
	ended := 0
	for n := 0; ; n++ {
		f := start(t, keystore.Options{})
		keys := f.fill(501)
		f.rewrap(f.operator(nil, f.kek), keystore.RewrapOptions{NewDataKeys: true})
		f.advance(2 * time.Hour)
		o := keystore.RewrapOptions{NewDataKeys: true, MinAge: time.Hour}
		kek := rings(t, 2, 1)
		_, err := f.operator(&cut{DB: f.db, left: n}, kek).Rewrap(t.Context(), o)
		f.holds(kek, keys)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut off at change %d: %v", n, err)
		}
		ended++
		f.rewrap(f.operator(nil, kek), o)
		f.holds(rings(t, 2), keys)
		wantDataKeys(t, f, fmt.Sprintf("when completed after change %d", n), map[string]string{
			"_custody 1": "kek-2", "acme 2": "kek-2", "acme 3": "kek-2", "other 2": "kek-2", "other 3": "kek-2",
		})
	}
	if ended < 8 {
		t.Errorf("only %d interruptions", ended)
	}
}

// TestRotateUnderLoad rotates again and again while two servers read and
// create, and while another operator does the same.
func TestRotateUnderLoad(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: -1})
	keys := f.fill(300)
	servers := []*keystore.Keystore{f.Keystore}
	f.openKeystore()
	servers = append(servers, f.Keystore)
	operators := []*keystore.Custody{f.operator(nil, f.kek), f.operator(nil, f.kek)}

	var mu sync.Mutex // of keys
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, k := range servers {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond): // some room for writes of others
				}
				old, fresh := kid(n%300), kid(10_000+i*10_000+n)
				got, err := k.Obtain(t.Context(), ask("movie", old, fresh))
				if errors.Is(err, keystore.ErrUnavailable) {
					continue // the clock jumped while it was under way
				}
				if err != nil {
					t.Errorf("server %d: %v", i, err)
					return
				}
				mu.Lock()
				if keys["acme "+old.String()] != got[0].Value {
					t.Errorf("key %s has changed", old)
				}
				keys["acme "+fresh.String()] = got[1].Value
				mu.Unlock()
			}
		})
	}
	var removed int
	for range 12 {
		var rotations sync.WaitGroup
		for _, c := range operators {
			rotations.Go(func() {
				r, err := c.Rewrap(t.Context(), keystore.RewrapOptions{NewDataKeys: true, MinAge: time.Minute})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				removed += r.Removed
				mu.Unlock()
			})
		}
		rotations.Wait()
		f.advance(40 * time.Minute)
	}
	close(stop)
	wg.Wait()
	f.rewrap(operators[0], keystore.RewrapOptions{})
	f.holds(f.kek, keys)
	if removed < 10 || len(keys) < 350 {
		t.Errorf("%d data keys removed, %d keys: too few to prove anything", removed, len(keys))
	}
}
