// Package storetest is the behaviour suite that every backend of the keystore
// must pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Store is what a backend offers.
type Store interface {
	keystore.Store
	keystore.Pager
}

// Run runs the suite. Each call of open returns a new empty store, which the
// suite closes.
func Run(t *testing.T, open func(*testing.T) Store) {
	run(t, open, map[string]func(*testing.T, Store){
		"create if absent":                 createIfAbsent,
		"fifty racers get one key":         racers,
		"tenants are apart":                tenantsApart,
		"order of results":                 orderOfResults,
		"many keys at once":                manyKeys,
		"a write that cannot be is alone":  failsAlone,
		"deleted keys are visible":         deletedKeys,
		"times keep their microseconds":    times,
		"odd texts":                        oddTexts,
		"data keys":                        dataKeys,
		"racers create one data key":       dataKeyRacers,
		"bindings merge":                   bindingsMerge,
		"bindings differ by each member":   bindingsDiffer,
		"bindings merge under racers":      bindingRacers,
		"pages of keys":                    pagesOfKeys,
		"pages of bindings":                pagesOfBindings,
		"pages of tenants":                 pagesOfTenants,
		"a cancelled context is honoured":  cancelled,
		"a closed store answers no longer": closed,
	})
}

// run runs each test of a suite on a store of its own.
func run[S interface{ Close() error }](t *testing.T, open func(*testing.T) S, tests map[string]func(*testing.T, S)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test(t, s)
		})
	}
}

const tenant = "acme"

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

// kid returns a key ID for a number; neighbours are far apart.
func kid(n int) contentkey.KID {
	return contentkey.KID{byte(n), byte(n >> 8), byte(n >> 16), 0xfe, 15: 0x77}
}

func record(n int) keystore.Record {
	return keystore.Record{
		Tenant: tenant, KID: kid(n), Wrapped: fmt.Appendf(nil, "\x00wrapped key %d\xff", n), DataKey: 1,
		Source: "random", ContentID: fmt.Sprintf("content-%d", n), Scheme: contentkey.Cbcs, Created: noon,
	}
}

func binding(n int) keystore.Binding {
	return keystore.Binding{
		Tenant: tenant, ContentID: fmt.Sprintf("content-%d", n), Requested: kid(n), KID: kid(n + 1), Track: "VIDEO",
		Scheme: contentkey.Cenc, Period: contentkey.Period{ID: "p", Index: "7", Start: "s", End: "e"},
		Profile: "2.0", Systems: []string{"edef8ba9"}, IV: "AAECAwQFBgcICQoLDA0ODw==", FirstSeen: noon, LastSeen: noon,
	}
}

// found stores the data key that records of a tenant refer to.
func found(t *testing.T, s Store, tenants ...string) {
	t.Helper()
	for _, name := range append(tenants, tenant) {
		k := keystore.DataKey{Tenant: name, ID: 1, KEK: "kek", Wrapped: []byte("w"), Created: noon}
		if _, err := s.CreateDataKey(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
}

func commit(t *testing.T, s Store, keys []keystore.Record, bindings ...keystore.Binding) []keystore.Record {
	t.Helper()
	stored, err := s.Commit(t.Context(), keys, bindings)
	if err != nil {
		t.Fatalf("Commit: %v", err)
	}
	if len(stored) != len(keys) {
		t.Fatalf("Commit returned %d records for %d keys", len(stored), len(keys))
	}
	return stored
}

// keys reads records in ascending order of key ID.
func keys(t *testing.T, s Store, tenant string, kids ...contentkey.KID) []keystore.Record {
	t.Helper()
	all, err := s.Keys(t.Context(), tenant, kids)
	if err != nil {
		t.Fatalf("Keys: %v", err)
	}
	slices.SortFunc(all, func(a, b keystore.Record) int { return bytes.Compare(a.KID[:], b.KID[:]) })
	return all
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func createIfAbsent(t *testing.T, s Store) {
	found(t, s)
	if got := keys(t, s, tenant, kid(1)); len(got) != 0 {
		t.Errorf("an empty store has %+v", got)
	}
	first := record(1)
	equal(t, "the first Commit", commit(t, s, []keystore.Record{first}), []keystore.Record{first})
	equal(t, "Keys after it", keys(t, s, tenant, kid(1)), []keystore.Record{first})

	second := record(1)
	second.Wrapped, second.Source, second.ContentID = []byte("another key"), "hkdf", "other"
	second.Scheme, second.Created = contentkey.Cenc, noon.Add(time.Hour)
	equal(t, "the second Commit", commit(t, s, []keystore.Record{second}), []keystore.Record{first})
	equal(t, "Keys after both", keys(t, s, tenant, kid(1)), []keystore.Record{first})
}

func racers(t *testing.T, s Store) {
	found(t, s)
	const n = 50
	answers := make([][]keystore.Record, n)
	var start, wg sync.WaitGroup
	start.Add(1)
	for i := range n {
		wg.Go(func() {
			mine := []keystore.Record{record(1), record(2)}
			for j := range mine {
				mine[j].Wrapped = fmt.Appendf(nil, "key of racer %d", i)
			}
			if i%2 == 1 {
				slices.Reverse(mine)
			}
			start.Wait()
			stored, err := s.Commit(t.Context(), mine, []keystore.Binding{binding(1)})
			if err != nil {
				t.Errorf("racer %d: %v", i, err)
				return
			}
			if i%2 == 1 {
				slices.Reverse(stored)
			}
			read, err := s.Keys(t.Context(), tenant, []contentkey.KID{kid(1), kid(2)})
			if err != nil || len(read) != 2 {
				t.Errorf("racer %d reads %d keys after its Commit, %v", i, len(read), err)
			}
			answers[i] = stored
		})
	}
	start.Done()
	wg.Wait()
	want := keys(t, s, tenant, kid(1), kid(2))
	for i, got := range answers {
		equal(t, fmt.Sprintf("racer %d", i), got, want)
	}
}

func tenantsApart(t *testing.T, s Store) {
	found(t, s, "other")
	theirs := record(1)
	theirs.Tenant, theirs.Wrapped = "other", []byte("theirs")
	commit(t, s, []keystore.Record{record(1), theirs})
	equal(t, "ours", keys(t, s, tenant, kid(1)), []keystore.Record{record(1)})
	equal(t, "theirs", keys(t, s, "other", kid(1)), []keystore.Record{theirs})
	if got := keys(t, s, "third", kid(1)); len(got) != 0 {
		t.Errorf("a third tenant reads %+v", got)
	}
}

func orderOfResults(t *testing.T, s Store) {
	found(t, s)
	commit(t, s, []keystore.Record{record(2)})
	changed := record(2)
	changed.Wrapped = []byte("too late")
	again := record(3)
	again.Wrapped = []byte("again")
	got := commit(t, s, []keystore.Record{record(3), changed, record(1), again})
	equal(t, "Commit", got, []keystore.Record{record(3), record(2), record(1), record(3)})
}

func manyKeys(t *testing.T, s Store) {
	found(t, s)
	var all []keystore.Record
	var kids []contentkey.KID
	for n := range 300 {
		all = append(all, record(n))
		kids = append(kids, kid(n))
	}
	equal(t, "Commit", commit(t, s, all), all)
	for _, n := range []int{0, 1, 2, 7, 8, 9, 63, 64, 65, 72, 129, 300} {
		got := keys(t, s, tenant, append(kids[:n:n], kid(1000), kid(0))...)
		if want := max(1, n); len(got) != want {
			t.Errorf("%d of %d keys read", len(got), want)
		}
		for _, r := range got {
			i := int(r.KID[0]) | int(r.KID[1])<<8
			equal(t, "a record", r, all[i])
		}
	}
}

// failsAlone mixes writes that must fail with writes that must not.
func failsAlone(t *testing.T, s Store) {
	found(t, s)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			ctx := t.Context()
			if n%4 == 0 {
				ctx = cancelled
			}
			_, err := s.Commit(ctx, []keystore.Record{record(n)}, []keystore.Binding{binding(n)})
			if n%4 == 0 && !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled write: %v", err)
			}
			if n%4 != 0 && err != nil {
				t.Errorf("a write beside cancelled ones: %v", err)
			}
		})
	}
	wg.Wait()
	for n := range 40 {
		if got := keys(t, s, tenant, kid(n)); n%4 != 0 && len(got) != 1 {
			t.Errorf("key %d is not stored", n)
		}
	}
}

func deletedKeys(t *testing.T, s Store) {
	found(t, s)
	gone := record(1)
	gone.Wrapped, gone.Deleted = []byte{}, noon.Add(time.Hour)
	commit(t, s, []keystore.Record{gone})
	for what, got := range map[string][]keystore.Record{
		"Keys":   keys(t, s, tenant, kid(1)),
		"Commit": commit(t, s, []keystore.Record{record(1)}),
	} {
		if len(got) != 1 || !got[0].Deleted.Equal(gone.Deleted) || len(got[0].Wrapped) != 0 {
			t.Errorf("%s of a deleted key: %+v", what, got)
		}
	}
	page, _, err := s.PageKeys(t.Context(), tenant, "", 10)
	if err != nil || len(page) != 1 || page[0].Deleted.IsZero() {
		t.Errorf("PageKeys of a deleted key: %+v, %v", page, err)
	}
}

func times(t *testing.T, s Store) {
	found(t, s)
	for n, when := range []time.Time{
		noon,
		time.UnixMicro(1).UTC(),
		time.Date(1969, 7, 20, 20, 17, 40, 999999000, time.UTC),
		time.Date(2126, 2, 28, 23, 59, 59, 1000, time.UTC),
	} {
		r, b := record(n), binding(n)
		r.Created, b.FirstSeen, b.LastSeen = when, when, when
		commit(t, s, []keystore.Record{r}, b)
		equal(t, "a record", keys(t, s, tenant, r.KID), []keystore.Record{r})
		equal(t, "a binding", bindings(t, s, keystore.BindingFilter{ContentID: b.ContentID}), []keystore.Binding{b})
	}
}

func oddTexts(t *testing.T, s Store) {
	found(t, s)
	for n, text := range []string{
		`it's "quoted" \ %s $1 ?1 :x -- ;`, "Größe/映画/🎬\u0301", " spaces ", "\t\n", "UPPER lower", "upper LOWER",
		strings.Repeat("long ", 2000), "%", "_", "null", "",
	} {
		r, b := record(n), binding(2*n)
		r.ContentID, r.Source = text, text
		b.ContentID, b.Track, b.Period.Index, b.Period.End = text, text, text, text
		commit(t, s, []keystore.Record{r}, b)
		equal(t, "a record", keys(t, s, tenant, r.KID), []keystore.Record{r})
		equal(t, "a binding", bindings(t, s, keystore.BindingFilter{ContentID: text, KID: b.Requested}), []keystore.Binding{b})
	}
	zero := record(1)
	zero.KID = contentkey.KID{}
	commit(t, s, []keystore.Record{zero})
	equal(t, "the zero key ID", keys(t, s, tenant, contentkey.KID{}), []keystore.Record{zero})
	page, _, err := s.PageKeys(t.Context(), tenant, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the zero key ID's page", page, []keystore.Record{zero})
}

func dataKeys(t *testing.T, s Store) {
	read := func(tenant string) []keystore.DataKey {
		all, err := s.DataKeys(t.Context(), tenant)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := read(tenant); len(got) != 0 {
		t.Errorf("an empty store has %+v", got)
	}
	var want []keystore.DataKey
	for _, id := range []uint32{2, 1, 10, 1 << 31} {
		k := keystore.DataKey{Tenant: tenant, ID: id, KEK: "arn:aws:kms/" + fmt.Sprint(id), Wrapped: []byte{0, 0xff, byte(id)}, Created: noon}
		got, err := s.CreateDataKey(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "a new data key", got, k)
		want = append(want, k)
	}
	slices.SortFunc(want, func(a, b keystore.DataKey) int { return int(int64(a.ID) - int64(b.ID)) })
	late := want[0]
	late.KEK, late.Wrapped, late.Created = "other", []byte("other"), noon.Add(time.Hour)
	got, err := s.CreateDataKey(t.Context(), late)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "a data key that exists", got, want[0])
	equal(t, "all data keys", read(tenant), want)
	if got := read("other"); len(got) != 0 {
		t.Errorf("another tenant has %+v", got)
	}
}

func dataKeyRacers(t *testing.T, s Store) {
	const n = 50
	answers := make([]keystore.DataKey, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			answers[i], err = s.CreateDataKey(t.Context(), keystore.DataKey{
				Tenant: tenant, ID: 1, KEK: "kek", Wrapped: []byte{byte(i)}, Created: noon,
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, got := range answers {
		equal(t, "the data key", got, answers[0])
	}
}

func cancelled(t *testing.T, s Store) {
	found(t, s)
	commit(t, s, []keystore.Record{record(1)}, binding(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, call := range map[string]func() error{
		"Keys":          func() error { _, err := s.Keys(ctx, tenant, []contentkey.KID{kid(1)}); return err },
		"Commit":        func() error { _, err := s.Commit(ctx, []keystore.Record{record(2)}, nil); return err },
		"DataKeys":      func() error { _, err := s.DataKeys(ctx, tenant); return err },
		"CreateDataKey": func() error { _, err := s.CreateDataKey(ctx, keystore.DataKey{Tenant: tenant, ID: 2}); return err },
		"Tenants":       func() error { _, err := s.Tenants(ctx, "", 1); return err },
		"PageKeys":      func() error { _, _, err := s.PageKeys(ctx, tenant, "", 1); return err },
		"PageBindings": func() error {
			_, _, err := s.PageBindings(ctx, tenant, keystore.BindingFilter{}, "", 1)
			return err
		},
	} {
		if err := call(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", what, err)
		}
	}
	if got := keys(t, s, tenant, kid(2)); len(got) != 0 {
		t.Errorf("a cancelled Commit stored %+v", got)
	}
}

func closed(t *testing.T, s Store) {
	found(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), []keystore.Record{record(1)}, nil); err == nil {
		t.Error("Commit after Close gives no error")
	}
	if _, err := s.Keys(t.Context(), tenant, []contentkey.KID{kid(1)}); err == nil {
		t.Error("Keys after Close gives no error")
	}
}
