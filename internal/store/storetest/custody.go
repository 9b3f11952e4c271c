package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Kept is what a backend offers whose keys can be rotated and deleted.
type Kept interface {
	Store
	keystore.Custodian
}

// RunCustodian runs the suite of [keystore.Custodian]. Each call of open
// returns a new empty store, which the suite closes.
func RunCustodian(t *testing.T, open func(*testing.T) Kept) {
	run(t, open, map[string]func(*testing.T, Kept){
		"a record takes a new seal":             reseal,
		"a stale change is left out":            resealStale,
		"racers reseal a record once":           resealRacers,
		"a data key takes a new wrapping":       rewrapDataKey,
		"racers rewrap a data key once":         rewrapRacers,
		"a data key in use is not removed":      removeDataKey,
		"deleted keys come back until purged":   deleteUndeletePurge,
		"delete and purge race":                 purgeRacers,
		"a binding that was never asked for":    neverAsked,
		"operators honour a cancelled context":  custodianCancelled,
		"a walk meets all while records change": walkWhileResealed,
	})
}

// second stores the tenant's data key 2.
func second(t *testing.T, s Kept) keystore.DataKey {
	t.Helper()
	k := keystore.DataKey{Tenant: tenant, ID: 2, KEK: "kek", Wrapped: []byte("w2"), Created: noon}
	if _, err := s.CreateDataKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return k
}

// change is the change of a record's seal to data key 2.
func change(r keystore.Record) keystore.Reseal {
	return keystore.Reseal{
		KID: r.KID, OldWrapped: r.Wrapped, OldDataKey: r.DataKey,
		Wrapped: []byte("resealed " + r.KID.String()), DataKey: 2,
	}
}

func mustReseal(t *testing.T, s Kept, want int, changes ...keystore.Reseal) {
	t.Helper()
	done, err := s.Reseal(t.Context(), tenant, changes)
	if err != nil || done != want {
		t.Fatalf("Reseal: %d of %d took it, want %d: %v", done, len(changes), want, err)
	}
}

func reseal(t *testing.T, s Kept) {
	found(t, s, "other")
	second(t, s)
	theirs := record(1)
	theirs.Tenant = "other"
	gone := record(3)
	gone.Wrapped, gone.Deleted = []byte{}, noon
	commit(t, s, []keystore.Record{record(1), record(2), gone, theirs})
	first, empty := change(record(1)), change(gone)
	empty.Wrapped = nil
	mustReseal(t, s, 2, first, empty)

	want := record(1)
	want.Wrapped, want.DataKey = first.Wrapped, 2
	gone.DataKey = 2
	got := keys(t, s, tenant, kid(1), kid(2), kid(3))
	if len(got) == 3 && len(got[2].Wrapped) == 0 {
		got[2].Wrapped = []byte{} // nil is as good
	}
	equal(t, "the records", got, []keystore.Record{want, record(2), gone})
	equal(t, "another tenant's", keys(t, s, "other", kid(1)), []keystore.Record{theirs})
	mustReseal(t, s, 0)
}

func resealStale(t *testing.T, s Kept) {
	found(t, s)
	second(t, s)
	commit(t, s, []keystore.Record{record(1), record(2), record(3)})
	otherWrapped, otherDataKey, missing, good := change(record(1)), change(record(2)), change(record(9)), change(record(3))
	otherWrapped.OldWrapped = []byte("what was there before")
	otherDataKey.OldDataKey = 2
	mustReseal(t, s, 1, otherWrapped, otherDataKey, missing, good)
	mustReseal(t, s, 0, good)
	equal(t, "the records", keys(t, s, tenant, kid(1), kid(2)), []keystore.Record{record(1), record(2)})

	// A purge that came first is not undone.
	if n, err := s.Delete(t.Context(), tenant, []contentkey.KID{kid(1)}, noon); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := s.Purge(t.Context(), tenant, []contentkey.KID{kid(1)}, noon); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	mustReseal(t, s, 0, change(record(1)))
	if got := keys(t, s, tenant, kid(1)); len(got[0].Wrapped) != 0 || got[0].DataKey != 1 {
		t.Errorf("a purged key after Reseal: %+v", got[0])
	}
}

func resealRacers(t *testing.T, s Kept) {
	found(t, s)
	second(t, s)
	const n = 20
	var all []keystore.Record
	for i := range n {
		all = append(all, record(i))
	}
	commit(t, s, all)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for racer := range 10 {
		wg.Go(func() {
			var changes []keystore.Reseal
			for _, r := range all {
				c := change(r)
				c.Wrapped = fmt.Appendf(nil, "of racer %d", racer)
				changes = append(changes, c)
			}
			done, err := s.Reseal(t.Context(), tenant, changes)
			if err != nil {
				t.Errorf("racer %d: %v", racer, err)
			}
			taken.Add(int64(done))
		})
	}
	wg.Wait()
	if taken.Load() != n {
		t.Errorf("%d changes of %d records", taken.Load(), n)
	}
}

func rewrapDataKey(t *testing.T, s Kept) {
	found(t, s)
	old := second(t, s)
	now := old
	now.KEK, now.Wrapped = "new-kek", []byte("\x00rewrapped\xff")
	stale := old
	stale.Wrapped = []byte("what was there before")
	for i, step := range []struct {
		name string
		old  keystore.DataKey
		want bool
	}{
		{"as stored", old, true},
		{"once more", old, false},
		{"stale", stale, false},
		{"missing", keystore.DataKey{Tenant: tenant, ID: 7, Wrapped: []byte("w")}, false},
		{"of another tenant", keystore.DataKey{Tenant: "other", ID: 1, Wrapped: []byte("w")}, false},
	} {
		next := now
		next.Tenant, next.ID, next.Wrapped = step.old.Tenant, step.old.ID, append(now.Wrapped[:len(now.Wrapped):len(now.Wrapped)], byte(i))
		done, err := s.RewrapDataKey(t.Context(), step.old, next)
		if done != step.want || err != nil {
			t.Errorf("%s: %t, %v", step.name, done, err)
		}
	}
	all, err := s.DataKeys(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	now.Wrapped = append(now.Wrapped, 0)
	equal(t, "data keys", all, []keystore.DataKey{{Tenant: tenant, ID: 1, KEK: "kek", Wrapped: []byte("w"), Created: noon}, now})
}

func rewrapRacers(t *testing.T, s Kept) {
	old := keystore.DataKey{Tenant: tenant, ID: 1, KEK: "old", Wrapped: []byte("w"), Created: noon}
	if _, err := s.CreateDataKey(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			now := old
			now.KEK, now.Wrapped = "new", fmt.Appendf(nil, "of racer %d", i)
			done, err := s.RewrapDataKey(t.Context(), old, now)
			if err != nil {
				t.Error(err)
			}
			if done {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Errorf("%d racers rewrapped the data key", taken.Load())
	}
}

func removeDataKey(t *testing.T, s Kept) {
	found(t, s, "other")
	second(t, s)
	theirs := record(1)
	theirs.Tenant = "other"
	commit(t, s, []keystore.Record{record(1), theirs})
	remove := func(name, tenant string, id uint32, want bool) {
		t.Helper()
		gone, err := s.RemoveDataKey(t.Context(), tenant, id)
		if err != nil || gone != want {
			t.Errorf("%s: gone %t, want %t: %v", name, gone, want, err)
		}
	}
	remove("a data key in use", tenant, 1, false)
	remove("the highest", tenant, 2, false)
	mustReseal(t, s, 1, change(record(1)))
	remove("one that nothing uses", tenant, 1, true)
	remove("once more", tenant, 1, true)
	remove("the only one", "other", 1, false)
	all, err := s.DataKeys(t.Context(), tenant)
	if err != nil || len(all) != 1 || all[0].ID != 2 {
		t.Errorf("data keys that are left: %+v, %v", all, err)
	}
	if all, err = s.DataKeys(t.Context(), "other"); err != nil || len(all) != 1 {
		t.Errorf("data keys of another tenant: %+v, %v", all, err)
	}
}

func deleteUndeletePurge(t *testing.T, s Kept) {
	found(t, s, "other")
	theirs := record(1)
	theirs.Tenant = "other"
	commit(t, s, []keystore.Record{record(1), record(2), record(3), theirs})
	all := []contentkey.KID{kid(1), kid(2), kid(9)}
	did := func(name string, want, done int, err error) {
		t.Helper()
		if done != want || err != nil {
			t.Errorf("%s: %d, want %d: %v", name, done, want, err)
		}
	}
	n, err := s.Undelete(t.Context(), tenant, all)
	did("undeleting what lives", 0, n, err)
	n, err = s.Purge(t.Context(), tenant, all, noon.Add(time.Hour))
	did("purging what lives", 0, n, err)
	n, err = s.Delete(t.Context(), tenant, all, noon.Add(time.Hour))
	did("deleting", 2, n, err)
	n, err = s.Delete(t.Context(), tenant, all, noon.Add(2*time.Hour))
	did("deleting twice", 0, n, err)

	gone := []keystore.Record{record(1), record(2), record(3)}
	gone[0].Deleted, gone[1].Deleted = noon.Add(time.Hour), noon.Add(time.Hour)
	equal(t, "after deleting", keys(t, s, tenant, kid(1), kid(2), kid(3)), gone)
	again := record(1)
	again.Wrapped = []byte("another key")
	equal(t, "creating it again", commit(t, s, []keystore.Record{again}), gone[:1])

	n, err = s.Undelete(t.Context(), tenant, all[1:])
	did("undeleting", 1, n, err)
	equal(t, "after undeleting", keys(t, s, tenant, kid(2)), []keystore.Record{record(2)})
	n, err = s.Purge(t.Context(), tenant, all, noon.Add(time.Hour-time.Microsecond))
	did("purging too early", 0, n, err)
	n, err = s.Purge(t.Context(), tenant, all, noon.Add(time.Hour))
	did("purging", 1, n, err)
	n, err = s.Purge(t.Context(), tenant, all, noon.Add(time.Hour))
	did("purging twice", 0, n, err)
	n, err = s.Undelete(t.Context(), tenant, all)
	did("undeleting what is purged", 0, n, err)

	got := keys(t, s, tenant, kid(1), kid(2), kid(3))
	if len(got) != 3 || len(got[0].Wrapped) != 0 || !got[0].Deleted.Equal(gone[0].Deleted) || got[0].ContentID != gone[0].ContentID {
		t.Fatalf("after purging: %+v", got)
	}
	equal(t, "the others after purging", got[1:], []keystore.Record{record(2), record(3)})
	if stored := commit(t, s, []keystore.Record{again}); len(stored[0].Wrapped) != 0 || stored[0].Deleted.IsZero() {
		t.Errorf("a purged key is created again: %+v", stored)
	}
	equal(t, "another tenant's", keys(t, s, "other", kid(1)), []keystore.Record{theirs})
}

// purgeRacers deletes, undeletes and purges one key at once: it ends in one
// of the states that an order of the calls gives.
func purgeRacers(t *testing.T, s Kept) {
	found(t, s)
	for i := range 20 {
		r := record(i)
		one := []contentkey.KID{r.KID}
		commit(t, s, []keystore.Record{r})
		if _, err := s.Delete(t.Context(), tenant, one, noon); err != nil {
			t.Fatal(err)
		}
		var undeleted, purged atomic.Int64
		var wg sync.WaitGroup
		wg.Go(func() {
			n, err := s.Undelete(t.Context(), tenant, one)
			undeleted.Store(int64(n))
			if err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			n, err := s.Purge(t.Context(), tenant, one, noon)
			purged.Store(int64(n))
			if err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if undeleted.Load()+purged.Load() != 1 {
			t.Errorf("undeleted %d, purged %d", undeleted.Load(), purged.Load())
		}
		got := keys(t, s, tenant, r.KID)[0]
		if purged.Load() == 1 {
			if len(got.Wrapped) != 0 || got.Deleted.IsZero() {
				t.Errorf("a purged key: %+v", got)
			}
			continue
		}
		equal(t, "an undeleted key", got, r)
	}
}

// neverAsked is how the binding of an imported key begins.
func neverAsked(t *testing.T, s Kept) {
	b := binding(1)
	b.Profile, b.Systems, b.IV, b.LastSeen = "", nil, "", time.Time{}
	commit(t, s, nil, b)
	got := bindings(t, s, keystore.BindingFilter{})
	if len(got) == 1 && len(got[0].Systems) == 0 {
		got[0].Systems = nil
	}
	equal(t, "the binding", got, []keystore.Binding{b})

	asked := binding(1)
	asked.FirstSeen, asked.LastSeen = noon.Add(time.Hour), noon.Add(time.Hour)
	commit(t, s, nil, asked)
	asked.FirstSeen = noon
	equal(t, "once asked for", bindings(t, s, keystore.BindingFilter{}), []keystore.Binding{asked})
	commit(t, s, nil, b)
	equal(t, "imported again", bindings(t, s, keystore.BindingFilter{}), []keystore.Binding{asked})
}

func custodianCancelled(t *testing.T, s Kept) {
	found(t, s)
	second(t, s)
	commit(t, s, []keystore.Record{record(1)})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	one := []contentkey.KID{kid(1)}
	old := keystore.DataKey{Tenant: tenant, ID: 1, KEK: "kek", Wrapped: []byte("w")}
	for what, call := range map[string]func() error{
		"Reseal":        func() error { _, err := s.Reseal(ctx, tenant, []keystore.Reseal{change(record(1))}); return err },
		"RewrapDataKey": func() error { _, err := s.RewrapDataKey(ctx, old, old); return err },
		"RemoveDataKey": func() error { _, err := s.RemoveDataKey(ctx, tenant, 1); return err },
		"Delete":        func() error { _, err := s.Delete(ctx, tenant, one, noon); return err },
		"Undelete":      func() error { _, err := s.Undelete(ctx, tenant, one); return err },
		"Purge":         func() error { _, err := s.Purge(ctx, tenant, one, noon); return err },
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", what, err)
		}
	}
	equal(t, "the record", keys(t, s, tenant, kid(1)), []keystore.Record{record(1)})
}

// walkWhileResealed pages through keys that change their seal under way.
func walkWhileResealed(t *testing.T, s Kept) {
	found(t, s)
	second(t, s)
	const n = 300
	var all []keystore.Record
	for i := range n {
		all = append(all, record(i))
	}
	commit(t, s, all)
	var seen []contentkey.KID
	for after := ""; ; {
		page, next, err := s.PageKeys(t.Context(), tenant, after, 50)
		if err != nil {
			t.Fatal(err)
		}
		var changes []keystore.Reseal
		for _, r := range page {
			seen = append(seen, r.KID)
			if r.DataKey == 1 {
				changes = append(changes, change(r))
			}
		}
		mustReseal(t, s, len(changes), changes...)
		if after = next; next == "" {
			break
		}
	}
	slices.SortFunc(seen, func(a, b contentkey.KID) int { return slices.Compare(a[:], b[:]) })
	if len(slices.Compact(seen)) != n {
		t.Errorf("%d of %d records were met", len(slices.Compact(seen)), n)
	}
	if gone, err := s.RemoveDataKey(t.Context(), tenant, 1); !gone || err != nil {
		t.Errorf("data key 1 after all of it: gone %t, %v", gone, err)
	}
}
