package keystore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

func TestCacheOff(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: -1})
	first := f.obtain(ask("movie", kid(1)))[0]
	f.spy.taken()
	for range 3 {
		if got := f.obtain(ask("movie", kid(1)))[0]; got.Value != first.Value || got.Created {
			t.Error("another key")
		}
	}
	if calls := f.spy.taken(); !slices.Equal(calls, []string{"Keys", "Keys", "Keys"}) {
		t.Errorf("three requests without a cache: %v", calls)
	}
	if s := f.Stats(); s.CachedKeys != 0 || s.KnownBindings != 1 {
		t.Errorf("in memory: %+v", s)
	}
}

// TestCacheLifetime holds that a deletion by another process is noticed.
func TestCacheLifetime(t *testing.T) {
	f := start(t, keystore.Options{CacheLifetime: time.Minute})
	f.obtain(ask("movie", kid(1)))
	f.spy.taken()
	f.advance(time.Minute - time.Microsecond)
	f.obtain(ask("movie", kid(1)))
	if calls := f.spy.taken(); len(calls) != 0 {
		t.Errorf("within the lifetime: %v", calls)
	}
	f.advance(time.Microsecond)
	f.obtain(ask("movie", kid(1)))
	if calls := f.spy.taken(); !slices.Equal(calls, []string{"Keys"}) {
		t.Errorf("after the lifetime: %v", calls)
	}
	f.spy.records = func(all []keystore.Record) {
		for i := range all {
			all[i].Deleted = noon
		}
	}
	f.advance(time.Minute)
	if keys, err := f.Obtain(t.Context(), ask("movie", kid(1))); keys != nil || err == nil {
		t.Error("a deleted key is handed out after the lifetime")
	}
}

// TestCacheIsBounded asks for far more keys than fit and looks at what is
// kept; every key is still right.
func TestCacheIsBounded(t *testing.T) {
	const limit = 128 << 10
	f := start(t, keystore.Options{CacheBytes: limit})
	want := make(map[contentkey.KID]contentkey.Value)
	for i := 0; i < 2000; i += 100 {
		var kids []contentkey.KID
		for j := range 100 {
			kids = append(kids, kid(i+j))
		}
		for _, k := range f.obtain(ask(strings.Repeat("long content ID ", 10), kids...)) {
			want[k.KID] = k.Value
		}
	}
	s := f.Stats()
	if s.CachedKeys < 50 || s.CachedKeys > limit/280 || s.KnownBindings > limit/360 {
		t.Errorf("kept %d keys and %d bindings in %d bytes", s.CachedKeys, s.KnownBindings, limit)
	}
	for k, v := range want {
		got, err := f.Lookup(t.Context(), "acme", []contentkey.KID{k})
		if err != nil || got[0].Value != v {
			t.Fatalf("key %s: %v", k, err)
		}
	}
}

// TestCacheKeepsWhatIsUsed mixes a few busy keys with a stream of others.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: 128 << 10})
	busy := ask("live", kid(1), kid(2))
	f.obtain(busy)
	missed := 0
	for i := range 500 {
		f.obtain(ask("movie", kid(100+i)))
		f.spy.taken()
		f.obtain(busy)
		if len(f.spy.taken()) != 0 {
			missed++
		}
	}
	if missed > 5 {
		t.Errorf("busy keys were evicted %d times", missed)
	}
}

// TestOneKeyManyBindings is a key that never changes under periods that do.
func TestOneKeyManyBindings(t *testing.T) {
	f := start(t, keystore.Options{})
	for i := range 200 {
		a := ask("live", kid(1))
		a.Wants[0].Uses[0].Period.Index = fmt.Sprint(i)
		f.obtain(a)
	}
	if n := f.Stats().KnownBindings; n > 32 {
		t.Errorf("%d bindings of one key are kept in memory", n)
	}
	if n := len(f.bindings()); n != 200 {
		t.Errorf("%d bindings are stored, want 200", n)
	}
}

func TestHugeTexts(t *testing.T) {
	f := start(t, keystore.Options{})
	huge := strings.Repeat("x", 100_000)
	first := f.obtain(ask(huge, kid(1)))[0]
	if got := f.obtain(ask(huge, kid(1)))[0]; got.Value != first.Value || got.OtherContent {
		t.Errorf("a huge content ID: %+v", got)
	}
	if got := f.obtain(ask("movie", kid(1)))[0]; !got.OtherContent {
		t.Error("another content ID is not noticed")
	}
	if s := f.Stats(); s.CachedKeys != 0 || s.KnownBindings != 1 {
		t.Errorf("in memory: %+v", s)
	}
}

// TestConcurrentUse runs everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	f := start(t, keystore.Options{CacheBytes: 64 << 10, FlushEvery: time.Millisecond})
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 80 {
				f.advance(time.Millisecond)
				n := i % 40
				keys, err := f.Obtain(t.Context(), ask(fmt.Sprint("movie", w%2), kid(n), kid(n+1)))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(n), kid(n + 1)})
				if err != nil || got[0].Value != keys[0].Value || got[1].IV != keys[1].IV {
					t.Errorf("Lookup differs: %v", err)
				}
				f.Stats()
			}
		})
	}
	wg.Wait()
	wg.Go(func() { f.Close(context.Background()) })
	for range 4 {
		wg.Go(func() {
			for i := range 40 {
				keys, err := f.Obtain(t.Context(), ask("movie", kid(i)))
				if err == nil && keys[0].Value == (contentkey.Value{}) {
					t.Error("a wiped key was handed out")
				}
			}
		})
	}
	wg.Wait()
}
