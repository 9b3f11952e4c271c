package storetest

import (
	"fmt"
	"sync"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// NewStore is a store that creates keys without being asked before whether
// they exist.
type NewStore interface {
	Store
	keystore.NewCommitter
}

// RunNew runs the suite for that. Each call of open returns a new empty store,
// which the suite closes.
func RunNew(t *testing.T, open func(*testing.T) NewStore) {
	run(t, open, map[string]func(*testing.T, NewStore){
		"new keys":           newKeys,
		"all or nothing":     newOrNothing,
		"racers":             newRacers,
		"more than at once":  newMany,
		"without a data key": newWithoutDataKey,
	})
}

func commitNew(t *testing.T, s NewStore, keys []keystore.Record, bindings ...keystore.Binding) bool {
	t.Helper()
	done, err := s.CommitNew(t.Context(), keys, bindings)
	if err != nil {
		t.Fatalf("CommitNew: %v", err)
	}
	return done
}

// allBindings are those of the tenant.
func allBindings(t *testing.T, s Store) []keystore.Binding {
	t.Helper()
	all, _, err := s.PageBindings(t.Context(), tenant, keystore.BindingFilter{}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func newKeys(t *testing.T, s NewStore) {
	found(t, s)
	if !commitNew(t, s, []keystore.Record{record(1), record(2)}, binding(1), binding(2)) {
		t.Fatal("new keys are said to exist")
	}
	equal(t, "keys", keys(t, s, tenant, kid(1), kid(2)), []keystore.Record{record(1), record(2)})
	if got := allBindings(t, s); len(got) != 2 {
		t.Errorf("bindings %+v", got)
	}
	// A binding may be there although its key is new to this request: another
	// request's KID rule gave the same key ID.
	again := binding(2)
	again.LastSeen = noon.Add(1)
	if !commitNew(t, s, []keystore.Record{record(3)}, again, binding(3)) {
		t.Fatal("a new key is said to exist")
	}
	if got := allBindings(t, s); len(got) != 3 {
		t.Errorf("bindings %+v", got)
	}
}

func newOrNothing(t *testing.T, s NewStore) {
	found(t, s, "other")
	gone := record(2)
	gone.Deleted = noon
	commit(t, s, []keystore.Record{record(1), gone})
	theirs := record(3)
	theirs.Tenant = "other"
	commit(t, s, []keystore.Record{theirs})
	for _, numbers := range [][]int{{1}, {2}, {1, 2}, {1, 4}, {4, 1}, {4, 2, 5}, {4, 5, 1}} {
		var list []keystore.Record
		var bound []keystore.Binding
		for _, n := range numbers {
			r := record(n)
			r.Wrapped = []byte("of the second request")
			list, bound = append(list, r), append(bound, binding(n))
		}
		if commitNew(t, s, list, bound...) {
			t.Errorf("%v: keys that exist are said to be new", numbers)
		}
		equal(t, fmt.Sprint("keys after ", numbers), keys(t, s, tenant, kid(1), kid(2), kid(3), kid(4), kid(5)), []keystore.Record{record(1), gone})
		if got := allBindings(t, s); len(got) != 0 {
			t.Errorf("bindings after %v: %+v", numbers, got)
		}
	}
	if !commitNew(t, s, []keystore.Record{record(3)}, binding(3)) {
		t.Error("another tenant's key is in the way")
	}
}

func newRacers(t *testing.T, s NewStore) {
	found(t, s)
	const n = 50
	won := make([]bool, n)
	var start, wait sync.WaitGroup
	start.Add(1)
	for i := range n {
		wait.Go(func() {
			mine := []keystore.Record{record(1), record(2 + i%5)}
			for j := range mine {
				mine[j].Wrapped = fmt.Appendf(nil, "key of racer %d", i)
			}
			start.Wait()
			var err error
			if won[i], err = s.CommitNew(t.Context(), mine, []keystore.Binding{binding(1), binding(2 + i%5)}); err != nil {
				t.Errorf("racer %d: %v", i, err)
			}
		})
	}
	start.Done()
	wait.Wait()
	all := keys(t, s, tenant, kid(1), kid(2), kid(3), kid(4), kid(5), kid(6))
	if len(all) != 2 || len(allBindings(t, s)) != 2 {
		t.Fatalf("%d keys and %d bindings of one racer", len(all), len(allBindings(t, s)))
	}
	for i := range won {
		if mine := fmt.Sprintf("key of racer %d", i); won[i] != (string(all[0].Wrapped) == mine) || won[i] != (string(all[1].Wrapped) == mine) {
			t.Errorf("racer %d: %v, and the keys are %q and %q", i, won[i], all[0].Wrapped, all[1].Wrapped)
		}
	}
}

// newMany is more than a statement may insert: a store may decline that, and
// must do it whole if it does not.
func newMany(t *testing.T, s NewStore) {
	found(t, s)
	for _, n := range []int{1, 20, 64, 65, 300} {
		var list []keystore.Record
		var kids []contentkey.KID
		var bound []keystore.Binding
		for i := range n {
			list, bound = append(list, record(1000*n+i)), append(bound, binding(1000*n+i))
			kids = append(kids, kid(1000*n+i))
		}
		want := 0
		if commitNew(t, s, list, bound...) {
			want = n
		} else if n <= 20 {
			t.Errorf("%d new keys are said to exist", n)
		}
		if got := keys(t, s, tenant, kids...); len(got) != want {
			t.Errorf("%d keys of %d", len(got), n)
		}
	}
}

func newWithoutDataKey(t *testing.T, s NewStore) {
	found(t, s)
	r := record(1)
	r.DataKey = 99
	if done, err := s.CommitNew(t.Context(), []keystore.Record{r}, []keystore.Binding{binding(1)}); done || err == nil {
		t.Errorf("%v, %v", done, err)
	}
	if got := keys(t, s, tenant, kid(1)); len(got) != 0 || len(allBindings(t, s)) != 0 {
		t.Errorf("%+v was stored", got)
	}
}
