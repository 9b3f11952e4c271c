package keystore

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// flushBatch is how many bindings share a transaction, so that requests with
// new keys need not wait long behind a flush.
const flushBatch = 500

// Flush writes the last-seen times and profiles of known bindings that were
// asked for since the last flush. It happens by itself every few seconds and
// on Close.
func (k *Keystore) Flush(ctx context.Context) error {
	k.flushMu.Lock()
	defer k.flushMu.Unlock()
	due, all := k.cache.takeDue()
	for len(all) > 0 {
		n := min(flushBatch, len(all))
		if _, err := k.store.Commit(ctx, nil, all[:n:n]); err != nil {
			k.cache.putBack(due)
			return fmt.Errorf("writing last-seen times of bindings: %w", err)
		}
		due, all = due[n:], all[n:]
	}
	return nil
}

func (k *Keystore) flushEvery(ctx context.Context, d time.Duration) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := k.Flush(ctx); err != nil && ctx.Err() == nil {
				k.log.WarnContext(ctx, "bindings not refreshed", "error", err)
			}
		}
	}
}

// Stats are counts since the keystore was opened, and its present size.
type Stats struct {
	Created      uint64 // content keys
	OtherIV      uint64 // answered keys whose request brought another IV
	OtherContent uint64 // answered keys that belong to another content ID
	OtherScheme  uint64 // answered keys that belong to another scheme

	CacheHits, CacheMisses uint64 // content keys
	CachedKeys             int
	KnownBindings          int

	KeyManagerCalls, KeyManagerErrors uint64
	KeyManagerTime                    time.Duration // of all calls
}

type counts struct {
	created, otherIV, otherContent, otherScheme, hits, misses atomic.Uint64
}

func (c *counts) answered(keys []Key) {
	for i := range keys {
		if keys[i].OtherIV {
			c.otherIV.Add(1)
		}
		if keys[i].OtherContent {
			c.otherContent.Add(1)
		}
		if keys[i].OtherScheme {
			c.otherScheme.Add(1)
		}
	}
}

// Stats returns the present counts.
func (k *Keystore) Stats() Stats {
	s := Stats{
		Created:      k.counts.created.Load(),
		OtherIV:      k.counts.otherIV.Load(),
		OtherContent: k.counts.otherContent.Load(),
		OtherScheme:  k.counts.otherScheme.Load(),
		CacheHits:    k.counts.hits.Load(), CacheMisses: k.counts.misses.Load(),
		KeyManagerCalls:  k.dataKeys.calls.Load(),
		KeyManagerErrors: k.dataKeys.failures.Load(),
		KeyManagerTime:   time.Duration(k.dataKeys.nanos.Load()),
	}
	s.CachedKeys, s.KnownBindings = k.cache.size()
	return s
}
