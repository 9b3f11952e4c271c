package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// FeedStore is a store whose bindings can be followed.
type FeedStore interface {
	Store
	keystore.Feed
}

// FeedOptions are what the feeds of backends differ in.
type FeedOptions struct {
	// Settle is how long a new binding may take to be in the feed.
	Settle time.Duration
}

// RunFeed runs the suite of [keystore.Feed]. Each call of open returns a new
// empty store, which the suite closes.
func RunFeed(t *testing.T, o FeedOptions, open func(*testing.T) FeedStore) {
	run(t, func(t *testing.T) *feed { return &feed{open(t), o.Settle} }, map[string]func(*testing.T, *feed){
		"each new binding once":           feedOnce,
		"the end and a position of none":  feedEnds,
		"tenants have feeds of their own": feedTenants,
		"nothing is overtaken":            feedRacers,
		"notes":                           notes,
		"racers keep one note":            noteRacers,
	})
}

type feed struct {
	FeedStore
	settle time.Duration
}

// follow reads what comes after a position, three at a time, until n bindings
// are there or they are overdue.
func (f *feed) follow(t *testing.T, of, after string, n int) (all []keystore.Binding, next string) {
	t.Helper()
	deadline := time.Now().Add(f.settle + 5*time.Second)
	next = after
	for {
		page, err := f.FollowBindings(t.Context(), of, next, 3)
		if err != nil || len(page) > 3 {
			t.Fatalf("FollowBindings after %q: %d of 3 bindings, %v", next, len(page), err)
		}
		for i := range page {
			all, next = append(all, page[i].Binding), page[i].Position
		}
		if len(page) > 0 {
			continue
		}
		if len(all) >= n || time.Now().After(deadline) {
			return all, next
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func feedOnce(t *testing.T, f *feed) {
	if page, err := f.FollowBindings(t.Context(), tenant, "", 10); err != nil || len(page) > 0 {
		t.Fatalf("a new store: %d bindings, %v", len(page), err)
	}
	var want []keystore.Binding
	for i := range 7 {
		want = append(want, binding(i))
		commit(t, f, nil, binding(i))
	}
	got, next := f.follow(t, tenant, "", len(want))
	equal(t, "the feed", got, want)

	again := binding(3) // not new
	again.Systems, again.LastSeen = []string{"zz"}, noon.Add(time.Hour)
	restarted := binding(4) // by a process that does not know that it is stored
	commit(t, f, nil, again)
	commit(t, f, nil, restarted)
	commit(t, f, nil, binding(7), again)
	got, _ = f.follow(t, tenant, next, 1)
	equal(t, "after the end", got, []keystore.Binding{binding(7)})

	got, _ = f.follow(t, tenant, "", 8)
	if len(got) != 8 {
		t.Fatalf("from the beginning: %d bindings", len(got))
	}
	if seen := got[3]; !seen.LastSeen.Equal(again.LastSeen) || len(seen.Systems) != len(binding(3).Systems)+1 {
		t.Errorf("a binding that was seen again is in the feed as %+v", seen)
	}
}

func feedEnds(t *testing.T, f *feed) {
	commit(t, f, nil, binding(1), binding(2))
	_, next := f.follow(t, tenant, "", 2)
	end, err := f.FeedEnd(t.Context(), tenant)
	if err != nil {
		t.Fatal(err)
	}
	if page, err := f.FollowBindings(t.Context(), tenant, end, 10); err != nil || len(page) > 0 {
		t.Errorf("after the end %q: %d bindings, %v", end, len(page), err)
	}
	commit(t, f, nil, binding(3))
	got, _ := f.follow(t, tenant, end, 1)
	equal(t, "after the end", got, []keystore.Binding{binding(3)})
	got, _ = f.follow(t, tenant, next, 1)
	equal(t, "after what was read", got, []keystore.Binding{binding(3)})
	for _, bad := range []string{"x", "-1", "1.5", "\x00"} {
		if _, err := f.FollowBindings(t.Context(), tenant, bad, 1); !errors.Is(err, keystore.ErrPosition) {
			t.Errorf("position %q: %v", bad, err)
		}
	}
}

func feedTenants(t *testing.T, f *feed) {
	theirs := binding(1)
	theirs.Tenant = "other"
	commit(t, f, nil, theirs, binding(2))
	got, _ := f.follow(t, tenant, "", 1)
	equal(t, "ours", got, []keystore.Binding{binding(2)})
	got, _ = f.follow(t, "other", "", 1)
	equal(t, "theirs", got, []keystore.Binding{theirs})
}

// feedRacers follows the feed while it is written to from many sides: a
// binding that comes to light behind the position would never be met.
func feedRacers(t *testing.T, f *feed) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	var done atomic.Bool
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				b := binding(w*each + i)
				b.Requested, b.KID = kid(w*each+i), kid(w*each+i)
				if _, err := f.Commit(t.Context(), nil, []keystore.Binding{b}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		done.Store(true)
	}()
	seen := make(map[contentkey.KID]int)
	position := ""
	var overdue time.Time
	for len(seen) < writers*each {
		page, err := f.FollowBindings(t.Context(), tenant, position, 5)
		if err != nil {
			t.Fatal(err)
		}
		for i := range page {
			seen[page[i].KID]++
			position = page[i].Position
		}
		if done.Load() && overdue.IsZero() {
			overdue = time.Now().Add(f.settle + 5*time.Second)
		}
		if len(page) == 0 {
			if done.Load() && time.Now().After(overdue) {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was met %d times", id, n)
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d of %d bindings were met", len(seen), writers*each)
	}
}

func notes(t *testing.T, f *feed) {
	value, version, err := f.Note(t.Context(), "a/b")
	if err != nil || value != nil || version != 0 {
		t.Errorf("no note: %q %d %v", value, version, err)
	}
	big := bytes.Repeat([]byte{0, 0xff}, 128<<10)
	for _, step := range []struct {
		name    string
		value   []byte
		version int64
		done    bool
		want    string
		now     int64
	}{
		{"first", []byte("one"), 0, true, "one", 1},
		{"again", []byte("two"), 0, false, "one", 1},
		{"next", []byte("three"), 1, true, "three", 2},
		{"late", []byte("four"), 1, false, "three", 2},
		{"early", []byte("five"), 3, false, "three", 2},
		{"empty", nil, 2, true, "", 3},
		{"big", big, 3, true, string(big), 4},
	} {
		done, err := f.SetNote(t.Context(), "a/b", step.value, step.version)
		if err != nil || done != step.done {
			t.Fatalf("%s: %t %v", step.name, done, err)
		}
		value, version, err := f.Note(t.Context(), "a/b")
		if err != nil || string(value) != step.want || version != step.now {
			t.Fatalf("%s: %.20q %d %v", step.name, value, version, err)
		}
	}
	if value, version, err := f.Note(t.Context(), "a"); err != nil || version != 0 {
		t.Errorf("another name: %q %d %v", value, version, err)
	}
	if done, err := f.SetNote(t.Context(), "new", []byte("x"), 7); done || err != nil {
		t.Errorf("a version of nothing: %t %v", done, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := f.Note(ctx, "a/b"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func noteRacers(t *testing.T, f *feed) {
	var wg sync.WaitGroup
	var won atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			done, err := f.SetNote(t.Context(), "note", fmt.Append(nil, i), 0)
			if err != nil {
				t.Error(err)
			}
			if done {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d notes were kept", won.Load())
	}
}
