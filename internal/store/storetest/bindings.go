package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// bindings reads all that match, three at a time.
func bindings(t *testing.T, s Store, f keystore.BindingFilter) []keystore.Binding {
	t.Helper()
	var all []keystore.Binding
	for after := ""; ; {
		page, next, err := s.PageBindings(t.Context(), tenant, f, after, 3)
		if err != nil {
			t.Fatalf("PageBindings: %v", err)
		}
		if len(page) > 3 || next != "" && len(page) == 0 {
			t.Fatalf("PageBindings returned %d of 3 bindings, next %q", len(page), next)
		}
		all = append(all, page...)
		if next == "" {
			return all
		}
		after = next
	}
}

func bindingsMerge(t *testing.T, s Store) {
	first := binding(1)
	first.Systems = []string{"b", "d"}
	commit(t, s, nil, first)
	equal(t, "a new binding", bindings(t, s, keystore.BindingFilter{}), []keystore.Binding{first})

	want := first
	for _, step := range []struct {
		name   string
		change func(*keystore.Binding)
		want   func()
	}{
		{"seen again, with another profile and IV", func(b *keystore.Binding) {
			b.Profile, b.IV, b.FirstSeen, b.LastSeen = "2.1", "BBBB", noon.Add(time.Hour), noon.Add(time.Hour)
		}, func() { want.Profile, want.IV, want.LastSeen = "2.1", "BBBB", noon.Add(time.Hour) }},
		{"other systems", func(b *keystore.Binding) {
			b.Systems, b.Profile, b.LastSeen = []string{"a", "c", "d"}, "2.1", noon.Add(2*time.Hour)
		}, func() {
			want.Systems, want.IV, want.LastSeen = []string{"a", "b", "c", "d"}, first.IV, noon.Add(2*time.Hour)
		}},
		{"no IV", func(b *keystore.Binding) {
			b.Profile, b.IV, b.LastSeen = "2.1", "", noon.Add(3*time.Hour)
		}, func() { want.LastSeen = noon.Add(3 * time.Hour) }},
		{"no systems", func(b *keystore.Binding) {
			b.Profile, b.Systems, b.LastSeen = "2.1", nil, noon.Add(4*time.Hour)
		}, func() { want.LastSeen = noon.Add(4 * time.Hour) }},
		{"late news", func(b *keystore.Binding) {
			b.Profile, b.IV, b.Systems, b.FirstSeen, b.LastSeen = "1.0", "CCCC", []string{"z"}, noon.Add(-time.Hour), noon
		}, func() { want.Systems = []string{"a", "b", "c", "d", "z"} }},
		{"at the same time", func(b *keystore.Binding) {
			b.Profile, b.LastSeen = "2.0", noon.Add(4*time.Hour)
		}, func() { want.Profile = "2.0" }},
	} {
		b := first
		step.change(&b)
		step.want()
		commit(t, s, nil, b)
		equal(t, step.name, bindings(t, s, keystore.BindingFilter{}), []keystore.Binding{want})
	}

	again := first
	again.Systems, again.LastSeen = []string{"q"}, noon.Add(5*time.Hour)
	twice := first
	twice.Systems, twice.LastSeen = []string{"r"}, noon.Add(6*time.Hour)
	want.Systems, want.LastSeen = []string{"a", "b", "c", "d", "q", "r", "z"}, twice.LastSeen
	commit(t, s, nil, again, twice)
	equal(t, "twice in one Commit", bindings(t, s, keystore.BindingFilter{}), []keystore.Binding{want})
}

// bindingsDiffer changes each identifying member in turn; the last two would
// look alike if members were run together.
func bindingsDiffer(t *testing.T, s Store) {
	all := []keystore.Binding{binding(1)}
	for _, change := range []func(*keystore.Binding){
		func(b *keystore.Binding) { b.ContentID = "x" },
		func(b *keystore.Binding) { b.Requested = kid(50) },
		func(b *keystore.Binding) { b.KID = kid(51) },
		func(b *keystore.Binding) { b.Track = "AUDIO" },
		func(b *keystore.Binding) { b.Scheme = contentkey.Cbcs },
		func(b *keystore.Binding) { b.Period.ID = "q" },
		func(b *keystore.Binding) { b.Period.Index = "8" },
		func(b *keystore.Binding) { b.Period.Start = "t" },
		func(b *keystore.Binding) { b.Period.End = "f" },
		func(b *keystore.Binding) { b.Track, b.Period.ID = "ab", "c" },
		func(b *keystore.Binding) { b.Track, b.Period.ID = "a", "bc" },
	} {
		b := binding(1)
		change(&b)
		all = append(all, b)
	}
	commit(t, s, nil, all...)
	got := bindings(t, s, keystore.BindingFilter{})
	if len(got) != len(all) {
		t.Errorf("%d bindings were stored as %d", len(all), len(got))
	}
	for _, b := range all {
		if !slices.ContainsFunc(got, func(g keystore.Binding) bool { return g.Identity() == b.Identity() }) {
			t.Errorf("missing: %+v", b)
		}
	}
}

func bindingRacers(t *testing.T, s Store) {
	const n = 50
	want := binding(1)
	var wg sync.WaitGroup
	for i := range n {
		id := fmt.Sprintf("system-%02d", i)
		want.Systems = append(want.Systems, id)
		wg.Go(func() {
			b := binding(1)
			b.Systems, b.LastSeen = []string{id}, noon.Add(time.Duration(i)*time.Second)
			if _, err := s.Commit(t.Context(), nil, []keystore.Binding{b}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want.Systems = want.Systems[1:] // without the template's own
	want.LastSeen = noon.Add((n - 1) * time.Second)
	equal(t, "the binding", bindings(t, s, keystore.BindingFilter{}), []keystore.Binding{want})
}

func pagesOfKeys(t *testing.T, s Store) {
	found(t, s, "other")
	const n = 1234
	var batch []keystore.Record
	for i := range n {
		batch = append(batch, record(i))
	}
	theirs := record(n)
	theirs.Tenant = "other"
	commit(t, s, append(batch, theirs))
	for _, limit := range []int{7, 1000, n, n + 1} {
		seen := make(map[contentkey.KID]bool)
		last := ""
		for after := ""; ; {
			page, next, err := s.PageKeys(t.Context(), tenant, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) > limit {
				t.Fatalf("a page of %d has %d records", limit, len(page))
			}
			for _, r := range page {
				if id := r.KID.String(); id <= last || seen[r.KID] {
					t.Fatalf("%s comes after %s", id, last)
				} else {
					last = id
				}
				seen[r.KID] = true
			}
			if next == "" {
				break
			}
			after = next
		}
		if len(seen) != n {
			t.Errorf("pages of %d: %d of %d records", limit, len(seen), n)
		}
	}
	if page, next, err := s.PageKeys(t.Context(), "nobody", "", 10); err != nil || len(page) != 0 || next != "" {
		t.Errorf("a tenant without keys: %d records, next %q, %v", len(page), next, err)
	}
}

func pagesOfBindings(t *testing.T, s Store) {
	const n = 1100
	var batch []keystore.Binding
	for i := range n {
		b := binding(i % 100) // a hundred contents
		b.Track = fmt.Sprintf("track-%d", i)
		b.Requested, b.KID = kid(i%10), kid(i%10+5) // overlapping
		batch = append(batch, b)
	}
	theirs := batch[0]
	theirs.Tenant = "other"
	commit(t, s, nil, append(batch, theirs)...)

	for _, c := range []struct {
		name   string
		filter keystore.BindingFilter
		match  func(*keystore.Binding) bool
	}{
		{"all", keystore.BindingFilter{}, func(*keystore.Binding) bool { return true }},
		{"a content", keystore.BindingFilter{ContentID: "content-42"},
			func(b *keystore.Binding) bool { return b.ContentID == "content-42" }},
		{"a key ID, requested or answered", keystore.BindingFilter{KID: kid(7)},
			func(b *keystore.Binding) bool { return b.KID == kid(7) || b.Requested == kid(7) }},
		{"a content and a key ID", keystore.BindingFilter{ContentID: "content-42", KID: kid(7)},
			func(b *keystore.Binding) bool { return b.ContentID == "content-42" && b.KID == kid(7) }},
		{"no such content", keystore.BindingFilter{ContentID: "content-4"},
			func(b *keystore.Binding) bool { return b.ContentID == "content-4" }},
	} {
		got := make(map[[32]byte]bool)
		for after, again := "", ""; ; after = again {
			page, next, err := s.PageBindings(t.Context(), tenant, c.filter, after, 100)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page {
				if got[page[i].Identity()] || !c.match(&page[i]) || page[i].Tenant != tenant {
					t.Fatalf("%s: unexpected %+v", c.name, page[i])
				}
				got[page[i].Identity()] = true
			}
			if again = next; next == "" {
				break
			}
		}
		want := 0
		for i := range batch {
			if c.match(&batch[i]) {
				want++
			}
		}
		if len(got) != want {
			t.Errorf("%s: %d bindings of %d", c.name, len(got), want)
		}
	}
}

func pagesOfTenants(t *testing.T, s Store) {
	var names []string
	for i := range 25 {
		names = append(names, fmt.Sprintf("tenant-%02d", i))
	}
	found(t, s, append(names, keystore.CustodyTenant)...)
	want := append([]string{keystore.CustodyTenant, tenant}, names...)
	if _, err := s.CreateDataKey(t.Context(), keystore.DataKey{Tenant: tenant, ID: 2, Wrapped: []byte("w"), Created: noon}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for after := ""; ; after = got[len(got)-1] {
		page, err := s.Tenants(t.Context(), after, 9)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page...)
		if len(page) < 9 {
			break
		}
	}
	equal(t, "tenants", got, want)
}
