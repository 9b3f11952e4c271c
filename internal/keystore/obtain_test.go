package keystore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// TestSameKeyForEver holds SX-SEQ-16: the same request gets the same keys and
// IVs, from memory, from the database and after a restart.
func TestSameKeyForEver(t *testing.T) {
	f := start(t, keystore.Options{})
	first := f.obtain(ask("movie", kid(1), kid(2)))
	for i, k := range first {
		if !k.Created || k.Value == (contentkey.Value{}) || k.IV.IsZero() || k.OtherIV || k.OtherContent || k.OtherScheme {
			t.Errorf("new key %d: %+v", i, k)
		}
		first[i].Created = false
	}
	if first[0].Value == first[1].Value || first[0].IV == first[1].IV {
		t.Error("two keys are alike")
	}
	check := func(when string) {
		t.Helper()
		if got := f.obtain(ask("movie", kid(1), kid(2))); !slices.Equal(got, first) {
			t.Errorf("%s: other keys", when)
		}
		if got := f.obtain(ask("movie", kid(2), kid(1))); got[0].Value != first[1].Value || got[1].Value != first[0].Value {
			t.Errorf("%s: other keys in another order", when)
		}
		got, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(2), kid(1), kid(2)})
		if err != nil || !slices.Equal(got, []keystore.Key{first[1], first[0], first[1]}) {
			t.Errorf("%s: Lookup: %v", when, err)
		}
	}
	check("from memory")
	f.openKeystore()
	check("from the database")
	f.restart()
	check("after a restart")
	other := ask("movie", kid(1))
	other.Tenant = "other"
	if got := f.obtain(other); got[0].Value == first[0].Value || !got[0].Created {
		t.Error("two tenants share a key")
	}
}

// TestDurableBeforeAnswer holds that a key that cannot be stored is not
// handed out, and that the retry completes the request.
func TestDurableBeforeAnswer(t *testing.T) {
	f := start(t, keystore.Options{})
	for _, method := range []string{"Keys", "DataKeys", "CreateDataKey", "Commit"} {
		f.spy.fail = func(m string) error {
			if m == method {
				return keystore.ErrUnavailable
			}
			return nil
		}
		keys, err := f.Obtain(t.Context(), ask("movie", kid(1)))
		if keys != nil || !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%s fails: %d keys, %v", method, len(keys), err)
		}
		if f.stored(kid(1)) != nil {
			t.Errorf("%s fails: a key is stored", method)
		}
	}
	f.spy.fail = nil
	if got := f.obtain(ask("movie", kid(1))); !got[0].Created {
		t.Error("the retry did not create the key")
	}
	if f.stored(kid(1)) == nil {
		t.Error("the key is not stored")
	}
}

// TestKnownKeysNeedNoDatabase holds the hot path: nothing is asked for what
// is known.
func TestKnownKeysNeedNoDatabase(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1), kid(2)))
	f.spy.taken()
	wraps, unwraps := f.kek.wraps.Load(), f.kek.unwraps.Load()
	f.advance(time.Minute - time.Microsecond)
	f.obtain(ask("movie", kid(1), kid(2)))
	f.obtain(ask("movie", kid(1)))
	if _, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(1)}); err != nil {
		t.Error(err)
	}
	if calls := f.spy.taken(); len(calls) != 0 {
		t.Errorf("known keys asked the store: %v", calls)
	}
	f.obtain(ask("movie", kid(1), kid(3), kid(4), kid(2)))
	if calls := f.spy.taken(); !slices.Equal(calls, []string{"Keys", "Commit"}) {
		t.Errorf("two new keys among known ones asked the store: %v", calls)
	}
	if f.kek.wraps.Load() != wraps || f.kek.unwraps.Load() != unwraps {
		t.Error("requests of a known tenant asked the key manager")
	}
}

// TestRacers lets fifty requests race over three keystores, as three
// processes on one database would be.
func TestRacers(t *testing.T) {
	f := start(t, keystore.Options{})
	stores := []*keystore.Keystore{f.Keystore}
	for range 2 {
		f.openKeystore()
		stores = append(stores, f.Keystore)
	}
	answers := make([][]keystore.Key, 51)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			a := ask("movie", kid(1), kid(2), kid(3))
			if i%2 == 1 {
				slices.Reverse(a.Wants)
			}
			keys, err := stores[i%3].Obtain(t.Context(), a)
			if err != nil {
				t.Error(err)
				return
			}
			if i%2 == 1 {
				slices.Reverse(keys)
			}
			answers[i] = keys
		})
	}
	wg.Wait()
	created := 0
	for i, keys := range answers {
		for j, k := range keys {
			if k.Created {
				created++
			}
			if k.Value != answers[0][j].Value || k.IV != answers[0][j].IV {
				t.Errorf("racer %d got another key %d", i, j)
			}
		}
	}
	if created != 3 {
		t.Errorf("%d keys are said to be created, want 3", created)
	}
	var total uint64
	for _, k := range stores {
		total += k.Stats().Created
	}
	if total != 3 {
		t.Errorf("%d keys are counted as created, want 3", total)
	}
}

// TestTwoWantsOneKID is what a KID override makes of two content keys for the
// same track: one key.
func TestTwoWantsOneKID(t *testing.T) {
	f := start(t, keystore.Options{})
	a := ask("movie", kid(1), kid(2))
	a.Wants[0].KID, a.Wants[1].KID = kid(9), kid(9)
	for _, created := range []bool{true, false} {
		got := f.obtain(a)
		if got[0].Value != got[1].Value || got[0].KID != kid(9) || got[0].Created != created || got[1].Created != created {
			t.Errorf("created %v: %+v", created, got)
		}
	}
	all := f.bindings()
	if len(all) != 2 || all[0].Requested != kid(1) || all[1].Requested != kid(2) || all[0].KID != kid(9) || all[1].KID != kid(9) {
		t.Errorf("bindings: %+v", all)
	}
}

// TestIV holds design decision 4: the first IV seen for a key ID stays.
func TestIV(t *testing.T) {
	explicit, other := contentkey.IV{1, 2, 3}, contentkey.IV{4, 5, 6}
	with := func(iv contentkey.IV) *keystore.Ask {
		a := ask("movie", kid(1))
		a.Wants[0].IV, a.Wants[0].HasIV = iv, true
		return a
	}
	t.Run("explicit at first", func(t *testing.T) {
		f := start(t, keystore.Options{})
		steps := []struct {
			name    string
			ask     *keystore.Ask
			differs bool
			bound   contentkey.IV
		}{
			{"the creating request", with(explicit), false, explicit},
			{"its retry", with(explicit), false, explicit},
			{"without an IV", ask("movie", kid(1)), false, explicit},
			{"with another", with(other), true, other},
			{"with another again", with(other), true, other},
			{"with the first", with(explicit), false, explicit},
		}
		for _, s := range steps {
			got := f.obtain(s.ask)[0]
			if got.IV != explicit || got.OtherIV != s.differs {
				t.Errorf("%s: IV %v, differs %v", s.name, got.IV, got.OtherIV)
			}
			if all := f.bindings(); len(all) != 1 || all[0].IV != s.bound.String() {
				t.Errorf("%s: bindings %+v, want the IV %v", s.name, all, s.bound)
			}
		}
		if n := f.Stats().OtherIV; n != 2 {
			t.Errorf("counted %d other IVs, want 2", n)
		}
		f.restart()
		if got := f.obtain(with(other))[0]; got.IV != explicit || !got.OtherIV {
			t.Errorf("after a restart: IV %v, differs %v", got.IV, got.OtherIV)
		}
	})
	t.Run("made at first", func(t *testing.T) {
		f := start(t, keystore.Options{})
		made := f.obtain(ask("movie", kid(1)))[0].IV
		if got := f.obtain(with(explicit))[0]; got.IV != made || !got.OtherIV {
			t.Errorf("an explicit IV replaced the stored one: %v", got.IV)
		}
		if all := f.bindings(); len(all) != 1 || all[0].IV != explicit.String() {
			t.Errorf("bindings %+v", all)
		}
	})
}

func TestReuse(t *testing.T) {
	f := start(t, keystore.Options{})
	first := f.obtain(ask("movie", kid(1)))[0]

	other := ask("other movie", kid(1))
	if got := f.obtain(other)[0]; got.Value != first.Value || !got.OtherContent || got.OtherScheme {
		t.Errorf("another content: %+v", got)
	}
	cenc := ask("movie", kid(1))
	cenc.Scheme = contentkey.Cenc
	if got := f.obtain(cenc)[0]; got.Value != first.Value || got.OtherContent || !got.OtherScheme {
		t.Errorf("another scheme: %+v", got)
	}
	cenc.Scheme = 0
	if got := f.obtain(cenc)[0]; got.OtherScheme {
		t.Error("no scheme counts as another")
	}
	if len(f.bindings()) != 4 {
		t.Errorf("bindings: %+v", f.bindings())
	}
	if s := f.Stats(); s.OtherContent != 1 || s.OtherScheme != 1 {
		t.Errorf("counted: %+v", s)
	}
	if got := f.obtain(ask("movie", kid(1)))[0]; got.OtherContent || got.OtherScheme {
		t.Errorf("the first content again: %+v", got)
	}
}

// TestReuseRefused asks for a new key and a refused one together, with what
// the keystore knows in memory and without.
func TestReuseRefused(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	f.obtain(ask("both", kid(1))) // known, but the policy may change
	before := len(f.bindings())
	for _, fresh := range []bool{false, true} {
		if fresh {
			f.restart()
		}
		scheme := ask("movie", kid(7), kid(1))
		scheme.Scheme, scheme.Reuse.RefuseScheme = contentkey.Cenc, true
		content := ask("both", kid(7), kid(1))
		content.Reuse.RefuseKID = true
		unknown := ask("third", kid(7), kid(1))
		unknown.Reuse.RefuseKID = true
		for _, c := range []struct {
			ask    *keystore.Ask
			scheme bool
		}{{scheme, true}, {content, false}, {unknown, false}} {
			keys, err := f.Obtain(t.Context(), c.ask)
			e, ok := errors.AsType[*keystore.ReuseError](err)
			if keys != nil || !ok || e.KID != kid(1) || e.Scheme != c.scheme {
				t.Errorf("refused reuse: %d keys, %v", len(keys), err)
			}
			if f.stored(kid(7)) != nil || len(f.bindings()) != before {
				t.Errorf("a refused request left traces: %+v", f.bindings())
			}
		}
		alone := ask("both", kid(1))
		alone.Reuse.RefuseKID = true
		if _, err := f.Obtain(t.Context(), alone); err == nil {
			t.Error("a known binding of another content is not refused")
		}
		own := ask("movie", kid(1))
		own.Reuse = keystore.ReusePolicy{RefuseKID: true, RefuseScheme: true}
		f.obtain(own)
	}
}

func TestDeleted(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	gone := keystore.Record{
		Tenant: "acme", KID: kid(2), DataKey: 1, Source: "random", ContentID: "movie", Created: noon, Deleted: noon,
	}
	if _, err := f.db.Commit(t.Context(), []keystore.Record{gone}, nil); err != nil {
		t.Fatal(err)
	}
	before := len(f.bindings())
	for _, kids := range [][]contentkey.KID{{kid(2)}, {kid(1), kid(2)}, {kid(2), kid(3)}, {kid(3), kid(2)}} {
		keys, err := f.Obtain(t.Context(), ask("movie", kids...))
		if keys != nil || !errors.Is(err, keystore.ErrDeleted) {
			t.Errorf("a deleted key among %v: %d keys, %v", kids, len(keys), err)
		}
	}
	if _, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(1), kid(2)}); !errors.Is(err, keystore.ErrDeleted) {
		t.Errorf("Lookup of a deleted key: %v", err)
	}
	if f.stored(kid(3)) != nil || len(f.bindings()) != before {
		t.Error("a refused request left traces")
	}
}

func TestLookup(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	f.spy.taken()
	for _, kids := range [][]contentkey.KID{{kid(2)}, {kid(1), kid(2)}} {
		if keys, err := f.Lookup(t.Context(), "acme", kids); keys != nil || !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("Lookup %v: %d keys, %v", kids, len(keys), err)
		}
	}
	if _, err := f.Lookup(t.Context(), "other", []contentkey.KID{kid(1)}); !errors.Is(err, keystore.ErrNotFound) {
		t.Errorf("Lookup by another tenant: %v", err)
	}
	if slices.Contains(f.spy.taken(), "Commit") || f.stored(kid(2)) != nil {
		t.Error("Lookup wrote something")
	}
	if keys, err := f.Lookup(t.Context(), "acme", nil); err != nil || len(keys) != 0 {
		t.Errorf("Lookup of nothing: %v, %v", keys, err)
	}
}

func TestTenantNames(t *testing.T) {
	for _, name := range []string{"a", "0", "acme", "acme-2.eu_west", "x234567890123456789012345678901234567890123456789012345678901234"} {
		if err := keystore.CheckTenant(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{
		"", "-a", ".a", "_a", "A", "acmE", "a b", "a/b", "ä", "a\x00", "a\n", keystore.CustodyTenant,
		"x2345678901234567890123456789012345678901234567890123456789012345",
	} {
		if err := keystore.CheckTenant(name); !errors.Is(err, keystore.ErrTenant) {
			t.Errorf("%q is accepted as a tenant", name)
		}
	}
	f := start(t, keystore.Options{})
	a := ask("movie", kid(1))
	a.Tenant = keystore.CustodyTenant
	if _, err := f.Obtain(t.Context(), a); !errors.Is(err, keystore.ErrTenant) {
		t.Errorf("Obtain: %v", err)
	}
	if _, err := f.Lookup(t.Context(), a.Tenant, nil); !errors.Is(err, keystore.ErrTenant) {
		t.Errorf("Lookup: %v", err)
	}
	if _, err := f.SealSecret(t.Context(), "A", "p", "n", nil); !errors.Is(err, keystore.ErrTenant) {
		t.Errorf("SealSecret: %v", err)
	}
	// What belongs to no tenant may be sealed there.
	sealed, err := f.SealSecret(t.Context(), a.Tenant, "p", "n", []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := f.OpenSecret(t.Context(), a.Tenant, "p", "n", sealed); string(text) != "s" || err != nil {
		t.Errorf("OpenSecret: %q, %v", text, err)
	}
}

func TestClosed(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(t.Context()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if keys, err := f.Obtain(t.Context(), ask("movie", kid(1))); keys != nil || !errors.Is(err, keystore.ErrClosed) {
		t.Errorf("Obtain after Close: %v", err)
	}
	if _, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(1)}); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Lookup after Close: %v", err)
	}
	if s := f.Stats(); s.CachedKeys != 0 || s.KnownBindings != 0 {
		t.Errorf("still in memory: %+v", s)
	}
}

func TestCancelled(t *testing.T) {
	f := start(t, keystore.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Obtain(ctx, ask("movie", kid(1))); !errors.Is(err, context.Canceled) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("a cancelled request: %v", err)
	}
	late, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer stop()
	if _, err := f.Obtain(late, ask("movie", kid(1))); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("a request that is too late: %v", err)
	}
	if f.stored(kid(1)) != nil {
		t.Error("a key is stored")
	}
}
