package keystore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"spekeasy/contentkey"
)

// sourceUpstream begins the Source of a record whose key another key provider
// made; the provider's name follows.
const sourceUpstream = "upstream:"

func (r *Record) foreign() bool { return strings.HasPrefix(r.Source, sourceUpstream) }

// Foreign is a content key that another key provider answered, with what its
// user needs to answer it again.
type Foreign struct {
	Value     contentkey.Value
	IV        contentkey.IV
	Signaling []byte
}

// digest tells signaling apart.
func (f *Foreign) digest() [sha256.Size]byte { return sha256.Sum256(f.Signaling) }

// Format hides the key.
func (Foreign) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(content key of another key provider)") }

// Copies are keys to be kept, one for each want of a request.
type Copies struct {
	Keys []Foreign

	// Merge joins signaling that is kept with signaling that came now.
	Merge func(kept, now []byte) []byte
}

// SourceError reports a key ID whose key another source has answered before,
// or the same source with another key. Two keys under one key ID would end in
// content that no license opens.
type SourceError struct {
	KID    contentkey.KID
	Source string // that answered it first: "random", "import", "upstream:" and a name
	Key    bool   // it is the same source, but another key
}

func (e *SourceError) Error() string {
	if e.Key {
		return fmt.Sprintf("key ID %s had another content key when %s answered it before", e.KID, e.Source)
	}
	return fmt.Sprintf("key ID %s belongs to another source of keys, %s", e.KID, e.Source)
}

// Claim records that a source, another key provider of that name, has answered
// a request with the keys of its wants. The bindings, and that the key IDs are
// the source's, are durable before Claim returns; from then on nobody else's
// key is recorded under them. Without copies the keys themselves are not kept.
// It returns how many of the key IDs are new.
//
// A key ID that somebody else answered before fails the request with a
// [*SourceError], a deleted one with [ErrDeleted].
func (k *Keystore) Claim(ctx context.Context, ask *Ask, source string, copies *Copies) (created int, err error) {
	if k.closed.Load() {
		return 0, ErrClosed
	}
	if err := CheckTenant(ask.Tenant); err != nil {
		return 0, err
	}
	now := k.clock().UnixMicro()
	if known, ok := k.cache.claimed(ask, source, copies, now); ok {
		k.cache.touch(known, ask.Profile, now)
		return 0, nil
	}
	c := claim{Keystore: k, ask: ask, source: sourceUpstream + source, copies: copies, now: now}
	created, err = c.make(ctx)
	if errors.Is(err, ErrNoDataKey) { // a rotation retired the one that this process used
		k.dataKeys.renew(ask.Tenant)
		created, err = c.make(ctx)
	}
	if err != nil {
		return 0, late(err)
	}
	k.cache.learn(ask, now)
	k.cache.setSource(ask, source, copies, now)
	return created, nil
}

// claim is one call of Claim.
type claim struct {
	*Keystore
	ask    *Ask
	source string
	copies *Copies
	now    int64
}

func (c *claim) make(ctx context.Context) (created int, err error) {
	kids := make([]contentkey.KID, len(c.ask.Wants))
	for i := range c.ask.Wants {
		kids[i] = c.ask.Wants[i].KID
	}
	stored, err := c.store.Keys(ctx, c.ask.Tenant, kids)
	if err != nil {
		return 0, fmt.Errorf("reading content keys of tenant %s: %w", c.ask.Tenant, err)
	}
	have := make(map[contentkey.KID]*Record, len(kids))
	for i := range stored {
		have[stored[i].KID] = &stored[i]
	}
	var records []Record
	var of []int // want of each record
	for i, kid := range kids {
		if r := have[kid]; r != nil {
			if err := c.check(ctx, i, r); err != nil {
				return 0, err
			}
			continue
		}
		dk, err := c.dataKeys.get(ctx, c.ask.Tenant, newest)
		if err != nil {
			return 0, fmt.Errorf("content key %s: %w", kid, err)
		}
		r := Record{
			Tenant: strings.Clone(c.ask.Tenant), KID: kid, Source: c.source,
			ContentID: strings.Clone(c.ask.ContentID), Scheme: c.ask.Scheme, Created: time.UnixMicro(c.now).UTC(),
		}
		plain := c.plain(i)
		r.seal(dk, plain)
		clear(plain)
		records, of = append(records, r), append(of, i)
	}
	now, err := c.commit(ctx, c.ask, records, c.now)
	if err != nil {
		return 0, err
	}
	for i := range now {
		if bytes.Equal(now[i].Wrapped, records[i].Wrapped) {
			created++
		} else if err := c.check(ctx, of[i], &now[i]); err != nil { // somebody was faster
			return 0, err
		}
	}
	return created, nil
}

// plain is what is sealed for a want: nothing without a copy.
func (c *claim) plain(i int) []byte {
	if c.copies == nil {
		return nil
	}
	f := &c.copies.Keys[i]
	return bytes.Join([][]byte{f.Value[:], f.IV[:], f.Signaling}, nil)
}

// check holds a record that is stored against the claim, and completes its
// copy. When the record changes meanwhile, because another request completes
// it too or it is sealed anew, it is read and held against the claim again.
func (c *claim) check(ctx context.Context, i int, r *Record) error {
	for range maxChecks {
		done, err := c.checkOnce(ctx, i, r)
		if done || err != nil {
			return err
		}
		records, err := c.store.Keys(ctx, c.ask.Tenant, []contentkey.KID{r.KID})
		if err != nil {
			return fmt.Errorf("content key %s: %w", r.KID, err)
		}
		if len(records) != 1 {
			return fmt.Errorf("content key %s: %w: its record is gone", r.KID, ErrCorrupt)
		}
		r = &records[0]
	}
	return fmt.Errorf("content key %s: %w: it changes again and again", r.KID, ErrUnavailable)
}

// maxChecks bounds how often a record is read again that others change. One
// reader of each round completes it, and what they add is soon all there is.
const maxChecks = 20

// checkOnce is check for a record as it was read; done is false when it has
// changed since.
func (c *claim) checkOnce(ctx context.Context, i int, r *Record) (done bool, err error) {
	switch {
	case !r.Deleted.IsZero():
		return false, fmt.Errorf("content key %s: %w", r.KID, ErrDeleted)
	case r.Source != c.source:
		return false, &SourceError{KID: r.KID, Source: r.Source}
	case c.copies == nil:
		return true, nil
	}
	dk, err := c.dataKeys.get(ctx, c.ask.Tenant, r.DataKey)
	if err != nil {
		return false, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	kept, err := r.unseal(dk, c.ask.Tenant)
	if err != nil {
		return false, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	defer clear(kept)
	const keySize = len(contentkey.Value{}) + len(contentkey.IV{})
	now := c.plain(i)
	defer clear(now)
	if len(kept) >= keySize {
		if !bytes.Equal(kept[:len(contentkey.Value{})], now[:len(contentkey.Value{})]) {
			return false, &SourceError{KID: r.KID, Source: r.Source, Key: true}
		}
		now = append(kept[:keySize:keySize], c.copies.Merge(kept[keySize:], now[keySize:])...)
		defer clear(now)
		if bytes.Equal(now, kept) {
			return true, nil
		}
	}
	custodian, ok := underlying(c.store).(Custodian)
	if !ok {
		return true, nil // it cannot change what it has; the copy stays as it is
	}
	change := Reseal{KID: r.KID, OldWrapped: r.Wrapped, OldDataKey: r.DataKey}
	next := Record{Tenant: c.ask.Tenant, KID: r.KID}
	if dk, err = c.dataKeys.get(ctx, c.ask.Tenant, newest); err != nil {
		return false, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	next.seal(dk, now)
	change.Wrapped, change.DataKey = next.Wrapped, next.DataKey
	n, err := custodian.Reseal(ctx, c.ask.Tenant, []Reseal{change})
	if err != nil {
		return false, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	return n == 1, nil
}

// Copy is a kept key of another key provider.
type Copy struct {
	Foreign
	KID    contentkey.KID
	Source string // the name that claimed it
}

// Format hides the key.
func (c Copy) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(copy of content key %s)", c.KID) }

// Copies returns kept keys of other key providers, in the order of the key
// IDs. It is all or nothing: one that is not kept gives [ErrNotFound] or
// [ErrElsewhere], a key of our own a [*SourceError].
func (k *Keystore) Copies(ctx context.Context, tenant string, kids []contentkey.KID) ([]Copy, error) {
	records, err := k.records(ctx, tenant, kids)
	if err != nil {
		return nil, err
	}
	out := make([]Copy, len(kids))
	for i, kid := range kids {
		r := records[kid]
		switch {
		case r == nil:
			return nil, fmt.Errorf("content key %s: %w", kid, ErrNotFound)
		case !r.Deleted.IsZero():
			return nil, fmt.Errorf("content key %s: %w", kid, ErrDeleted)
		case !r.foreign():
			return nil, &SourceError{KID: kid, Source: r.Source}
		}
		dk, err := k.dataKeys.get(ctx, tenant, r.DataKey)
		if err != nil {
			return nil, late(fmt.Errorf("content key %s: %w", kid, err))
		}
		plain, err := r.unseal(dk, tenant)
		if err != nil {
			return nil, fmt.Errorf("content key %s: %w", kid, err)
		}
		c := &out[i]
		if c.Value, c.IV, err = r.openKey(dk, tenant); err != nil {
			return nil, fmt.Errorf("content key %s: %w", kid, err)
		}
		c.KID, c.Source = kid, strings.TrimPrefix(r.Source, sourceUpstream)
		c.Signaling = bytes.Clone(plain[len(c.Value)+len(c.IV):])
		clear(plain)
	}
	return out, nil
}

// Claimed reports whether any of the key IDs has a key of somebody else than
// the source of that name: ours, or another key provider's.
func (k *Keystore) Claimed(ctx context.Context, tenant, source string, kids []contentkey.KID) error {
	records, err := k.records(ctx, tenant, kids)
	if err != nil {
		return err
	}
	for _, kid := range kids {
		if r := records[kid]; r != nil && r.Source != sourceUpstream+source {
			return &SourceError{KID: kid, Source: r.Source}
		}
	}
	return nil
}

func (k *Keystore) records(ctx context.Context, tenant string, kids []contentkey.KID) (map[contentkey.KID]*Record, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	records, err := k.store.Keys(ctx, tenant, kids)
	if err != nil {
		return nil, late(fmt.Errorf("reading content keys of tenant %s: %w", tenant, err))
	}
	byKID := make(map[contentkey.KID]*Record, len(records))
	for i := range records {
		byKID[records[i].KID] = &records[i]
	}
	return byKID, nil
}

// claimed returns the bindings of a request if they and the claim of the
// source are recorded, and its copies are those that were given.
func (c *cache) claimed(ask *Ask, source string, copies *Copies, now int64) ([]*bound, bool) {
	var known []*bound
	for i := range ask.Wants {
		w := &ask.Wants[i]
		s := c.shard(w.KID)
		s.mu.Lock()
		e := s.entries[place{ask.Tenant, w.KID}]
		ok := e != nil && e.source == source && e.sourceUntil > now &&
			(copies == nil || e.until > now && e.key.value == copies.Keys[i].Value && e.copied == copies.Keys[i].digest())
		if ok {
			e.used = true
			known, ok = e.known(ask, w, known)
		}
		s.mu.Unlock()
		if !ok {
			return nil, false
		}
	}
	return known, true
}

// setSource notes whose the keys of a request are.
func (c *cache) setSource(ask *Ask, source string, copies *Copies, now int64) {
	for i := range ask.Wants {
		w := &ask.Wants[i]
		if copies != nil {
			c.put(ask.Tenant, w.KID, &opened{
				value: copies.Keys[i].Value, iv: copies.Keys[i].IV, contentID: ask.ContentID, scheme: ask.Scheme,
			}, now)
		}
		s := c.shard(w.KID)
		s.mu.Lock()
		if e := s.entries[place{ask.Tenant, w.KID}]; e != nil {
			e.source, e.sourceUntil, e.copied = source, now+c.lifetime, [sha256.Size]byte{}
			if copies != nil {
				e.copied = copies.Keys[i].digest()
			}
		}
		s.mu.Unlock()
	}
}
