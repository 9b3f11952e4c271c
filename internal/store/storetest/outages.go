package storetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
)

// openKeystore opens a keystore over a store, with a fixed KEK and without a
// cache, so that each request asks the store.
func openKeystore(ctx context.Context, s keystore.Store) (*keystore.Keystore, error) {
	kek, err := envkey.Open(&url.URL{Scheme: "env", Opaque: "KEK"}, func(string) (string, bool) {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)), true
	})
	if err != nil {
		return nil, err
	}
	return keystore.Open(ctx, s, kek, keystore.Options{CacheBytes: -1})
}

func ask(kids ...contentkey.KID) *keystore.Ask {
	a := &keystore.Ask{Tenant: tenant, ContentID: "movie", Profile: "2.0", Scheme: contentkey.Cbcs}
	for _, id := range kids {
		a.Wants = append(a.Wants, keystore.Want{Requested: id, KID: id, Uses: []keystore.Use{{Track: "VIDEO"}}})
	}
	return a
}

// answers are keys that were handed out.
type answers struct {
	mu       sync.Mutex
	keys     map[contentkey.KID]contentkey.Value
	requests int
	refused  int
	slowest  time.Duration // of those refused
}

// add records the outcome of a request and reports what must not happen.
func (a *answers) add(keys []keystore.Key, err error, took time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.refused++
		a.slowest = max(a.slowest, took)
		if !errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt) {
			return fmt.Errorf("during an outage: %w", err)
		}
		return nil
	}
	a.requests++
	for _, k := range keys {
		if had, ok := a.keys[k.KID]; ok && had != k.Value {
			return fmt.Errorf("key %s has changed", k.KID)
		}
		a.keys[k.KID] = k.Value
	}
	return nil
}

func (a *answers) counts() (requests, refused int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests, a.refused
}

// Outages asks for keys without end while the server behind the store is
// killed and started again. Requests are refused as unavailable meanwhile,
// the same open store answers afterwards, and no key that was ever handed
// out has changed.
func Outages(t *testing.T, open func(*testing.T) Store, kill, start func() error) {
	s := open(t)
	defer s.Close()
	k, err := openKeystore(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	all := &answers{keys: make(map[contentkey.KID]contentkey.Value)}
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				first, second := kid(rand.IntN(3000)), kid(rand.IntN(3000)) //nolint:gosec // not secret
				keys, err := k.Obtain(t.Context(), ask(first, second))
				if err := all.add(keys, err, time.Since(began)); err != nil {
					t.Error(err)
					return
				}
				if err != nil {
					time.Sleep(5 * time.Millisecond) // as an encryptor would, only sooner
				}
			}
		})
	}
	for round := range 3 {
		requests, refused := all.counts()
		await(t, fmt.Sprintf("round %d: answers", round), func() bool { n, _ := all.counts(); return n > requests+100 })
		if err := kill(); err != nil {
			t.Fatal(err)
		}
		await(t, fmt.Sprintf("round %d: refusals", round), func() bool { _, n := all.counts(); return n > refused+100 })
		if err := start(); err != nil {
			t.Fatal(err)
		}
	}
	requests, _ := all.counts()
	await(t, "answers after the last start", func() bool { n, _ := all.counts(); return n > requests+100 })
	close(stop)
	workers.Wait()

	for id, value := range all.keys {
		keys, err := k.Lookup(t.Context(), tenant, []contentkey.KID{id})
		if err != nil {
			t.Fatalf("key %s was handed out: %v", id, err)
		}
		if keys[0].Value != value {
			t.Fatalf("key %s has changed", id)
		}
		bound, _, err := s.PageBindings(t.Context(), tenant, keystore.BindingFilter{KID: id}, "", 10)
		if err != nil || len(bound) != 1 {
			t.Fatalf("key %s was handed out and has %d bindings: %v", id, len(bound), err)
		}
	}
	t.Logf("%d keys as they were handed out, %d requests refused within %v", len(all.keys), all.refused, all.slowest)
	if all.slowest > 6*time.Second {
		t.Errorf("a refusal took %v", all.slowest)
	}
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// await waits for something that is about to happen.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(5 * time.Millisecond) {
		if t.Failed() {
			t.FailNow()
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
