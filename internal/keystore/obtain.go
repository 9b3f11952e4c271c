package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"spekeasy/contentkey"
)

// Obtain returns the keys of a request, in the order of its wants, and
// records its bindings. Keys that do not exist are created; they and all new
// bindings are durable before Obtain returns.
//
// A key ID that was deleted fails the whole request with [ErrDeleted], one
// that the reuse policy refuses with a [ReuseError]: then nothing is created
// or recorded, except when the refusal is due to a request that raced this
// one. No text of the request is kept: its buffer may be reused afterwards.
func (k *Keystore) Obtain(ctx context.Context, ask *Ask) ([]Key, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	now := k.clock().UnixMicro()
	keys := make([]Key, len(ask.Wants))
	if !k.known(ask, keys, now) {
		if err := k.obtain(ctx, ask, keys, now); err != nil {
			return nil, late(err)
		}
	}
	k.counts.answered(keys)
	return keys, nil
}

// known answers from memory alone, when every key is there and nothing but
// times changes in the database.
func (k *Keystore) known(ask *Ask, keys []Key, now int64) bool {
	var room [16]*bound // most requests need no more
	bindings := room[:0]
	for i := range ask.Wants {
		var hit bool
		bindings, hit = k.cache.hit(ask, &ask.Wants[i], now, &keys[i], bindings)
		if !hit || ask.Reuse.check(&keys[i]) != nil {
			return false
		}
	}
	k.cache.touch(bindings, ask.Profile, now)
	k.counts.hits.Add(uint64(len(keys)))
	return true
}

func (k *Keystore) obtain(ctx context.Context, ask *Ask, keys []Key, now int64) error {
	if err := CheckTenant(ask.Tenant); err != nil {
		return err
	}
	if done, err := k.obtainNew(ctx, ask, keys, now); done || err != nil {
		return err
	}
	kids := make([]contentkey.KID, len(ask.Wants))
	for i := range ask.Wants {
		kids[i] = ask.Wants[i].KID
	}
	have, err := k.read(ctx, ask.Tenant, kids, now)
	if err != nil {
		return err
	}
	defer have.wipe()
	if err := answer(ask, have, keys); err != nil {
		return err
	}
	created, err := k.create(ctx, ask, have, now)
	if err != nil {
		return err
	}
	if len(created) > 0 && ask.Admit != nil {
		if err := ask.Admit(len(created)); err != nil {
			return err
		}
	}
	k.mostNew.Store(len(created) > 0)
	if len(created) == 0 {
		if known, ok := k.cache.known(ask); ok {
			k.cache.touch(known, ask.Profile, now)
			return nil
		}
	}
	stored, err := k.commit(ctx, ask, created, now)
	if errors.Is(err, ErrNoDataKey) { // a rotation retired the one that this process used
		k.dataKeys.renew(ask.Tenant)
		if created, err = k.create(ctx, ask, have, now); err == nil {
			stored, err = k.commit(ctx, ask, created, now)
		}
	}
	if err != nil {
		return err
	}
	if err := k.handOut(ctx, ask, have, stored, keys, now); err != nil {
		return err
	}
	for i := range created {
		if bytes.Equal(created[i].Wrapped, stored[i].Wrapped) {
			markCreated(keys, created[i].KID)
			k.counts.created.Add(1)
		}
	}
	return nil
}

// obtainNew is obtain when none of the keys exists, as far as can be guessed:
// requests for unknown keys were mostly for new ones of late. It reports false
// if it was not, and nothing has happened.
func (k *Keystore) obtainNew(ctx context.Context, ask *Ask, keys []Key, now int64) (done bool, err error) {
	store, ok := underlying(k.store).(NewCommitter)
	if !ok || ask.Admit != nil || !k.mostNew.Load() {
		return false, nil
	}
	for i := range ask.Wants {
		if k.cache.get(ask.Tenant, ask.Wants[i].KID, now) != nil {
			return false, nil
		}
	}
	have := make(openKeys, len(ask.Wants))
	defer have.wipe()
	created, err := k.create(ctx, ask, have, now)
	if err != nil {
		return false, err
	}
	if err := k.fresh(ask, now); err != nil {
		return false, err
	}
	if o, ok := k.store.(*observed); ok {
		defer o.told(ctx, "commit", o.clock(), &err)
	}
	isNew, err := store.CommitNew(ctx, created, bindings(ask, now))
	if errors.Is(err, ErrNoDataKey) { // obtain knows what to do
		isNew, err = false, nil
	}
	if err != nil {
		return false, fmt.Errorf("recording content keys of tenant %s: %w", ask.Tenant, err)
	}
	if !isNew {
		k.mostNew.Store(false)
		return false, nil
	}
	k.counts.misses.Add(uint64(len(created)))
	k.counts.created.Add(uint64(len(created)))
	if err := k.handOut(ctx, ask, have, created, keys, now); err != nil {
		return false, err
	}
	for i := range keys {
		keys[i].Created = true
	}
	return true, nil
}

// handOut answers with what the store has now, whoever put it there, and
// remembers it.
func (k *Keystore) handOut(ctx context.Context, ask *Ask, have openKeys, stored []Record, keys []Key, now int64) error {
	for i := range stored {
		o, err := k.open(ctx, ask.Tenant, &stored[i])
		if err != nil {
			return err
		}
		have[stored[i].KID] = o
		k.cache.put(ask.Tenant, stored[i].KID, o, now)
	}
	if err := answer(ask, have, keys); err != nil {
		return err
	}
	k.cache.learn(ask, now)
	return nil
}

// commit stores what a request creates and its bindings, and returns the
// records that are stored now.
func (k *Keystore) commit(ctx context.Context, ask *Ask, created []Record, now int64) ([]Record, error) {
	if len(created) > 0 {
		if err := k.fresh(ask, now); err != nil {
			return nil, err
		}
	}
	stored, err := k.store.Commit(ctx, created, bindings(ask, now))
	if err != nil {
		return nil, fmt.Errorf("recording content keys of tenant %s: %w", ask.Tenant, err)
	}
	if len(stored) != len(created) {
		return nil, fmt.Errorf("recording content keys of tenant %s: %w: %d records for %d keys",
			ask.Tenant, ErrCorrupt, len(stored), len(created))
	}
	for i := range stored {
		if stored[i].KID != created[i].KID {
			return nil, fmt.Errorf("content key %s: %w: the record of %s came back", created[i].KID, ErrCorrupt, stored[i].KID)
		}
	}
	return stored, nil
}

// fresh refuses to store what was sealed a while ago: the process stood still,
// and what it sealed keys under may be about to be removed; see
// [Custody.Rewrap].
func (k *Keystore) fresh(ask *Ask, now int64) error {
	if age := k.clock().UnixMicro() - now; age > commitWithin.Microseconds() {
		return fmt.Errorf("recording content keys of tenant %s: %w: sealed %d s ago", ask.Tenant, ErrUnavailable, age/1e6)
	}
	return nil
}

// openKeys are copies of the keys of one request.
type openKeys map[contentkey.KID]*opened

func (m openKeys) wipe() {
	for _, o := range m {
		if o != nil {
			clear(o.value[:])
		}
	}
}

// read returns those of the keys that exist, from memory or from the store.
func (k *Keystore) read(ctx context.Context, tenant string, kids []contentkey.KID, now int64) (openKeys, error) {
	have := make(openKeys, len(kids))
	var missing []contentkey.KID
	for _, kid := range kids {
		if _, twice := have[kid]; twice {
			continue
		}
		have[kid] = k.cache.get(tenant, kid, now)
		if have[kid] == nil {
			missing = append(missing, kid)
		}
	}
	k.counts.hits.Add(uint64(len(have) - len(missing)))
	k.counts.misses.Add(uint64(len(missing)))
	if len(missing) == 0 {
		return have, nil
	}
	records, err := k.store.Keys(ctx, tenant, missing)
	if err != nil {
		return nil, fmt.Errorf("reading content keys of tenant %s: %w", tenant, err)
	}
	for i := range records {
		o, err := k.open(ctx, tenant, &records[i])
		if err != nil {
			return nil, err
		}
		have[records[i].KID] = o
		k.cache.put(tenant, records[i].KID, o, now)
	}
	return have, nil
}

// create makes a record for each wanted key that does not exist.
func (k *Keystore) create(ctx context.Context, ask *Ask, have openKeys, now int64) ([]Record, error) {
	source := ask.Source
	if source == nil {
		source = Random{}
	}
	var records []Record
	made := make(map[contentkey.KID]bool)
	for i := range ask.Wants {
		w := &ask.Wants[i]
		if have[w.KID] != nil || made[w.KID] {
			continue
		}
		made[w.KID] = true
		dk, err := k.dataKeys.get(ctx, ask.Tenant, newest)
		if err != nil {
			return nil, fmt.Errorf("content key %s: %w", w.KID, err)
		}
		v, iv, err := source.Make(ask.Tenant, w.KID)
		if err != nil {
			return nil, fmt.Errorf("content key %s: %s: %w", w.KID, source.Name(), err)
		}
		if w.HasIV {
			iv = w.IV
		}
		r := Record{
			Tenant: strings.Clone(ask.Tenant), KID: w.KID, Source: source.Name(),
			ContentID: strings.Clone(ask.ContentID), Scheme: ask.Scheme, Created: time.UnixMicro(now).UTC(),
		}
		r.sealKey(dk, v, iv)
		clear(v[:])
		records = append(records, r)
	}
	return records, nil
}

// answer fills in the keys that exist and applies the reuse policy to them.
func answer(ask *Ask, have openKeys, keys []Key) error {
	for i := range ask.Wants {
		w := &ask.Wants[i]
		o := have[w.KID]
		if o == nil {
			continue
		}
		o.answer(ask, w, &keys[i])
		if err := ask.Reuse.check(&keys[i]); err != nil {
			return err
		}
	}
	return nil
}

// answer fills in the key for a want. An imported key has no first content
// and scheme to differ from.
func (o *opened) answer(ask *Ask, w *Want, key *Key) {
	*key = Key{
		KID: w.KID, Value: o.value, IV: o.iv,
		OtherIV:      w.HasIV && w.IV != o.iv,
		OtherContent: o.contentID != "" && o.contentID != ask.ContentID,
		OtherScheme:  o.scheme != 0 && ask.Scheme != 0 && o.scheme != ask.Scheme,
	}
}

func (p ReusePolicy) check(key *Key) error {
	switch {
	case p.RefuseKID && key.OtherContent:
		return &ReuseError{KID: key.KID}
	case p.RefuseScheme && key.OtherScheme:
		return &ReuseError{KID: key.KID, Scheme: true}
	default:
		return nil
	}
}

func markCreated(keys []Key, kid contentkey.KID) {
	for i := range keys {
		keys[i].Created = keys[i].Created || keys[i].KID == kid
	}
}

// bindings returns the bindings of the request as they are to be merged.
func bindings(ask *Ask, now int64) []Binding {
	var all []Binding
	for i := range ask.Wants {
		w := &ask.Wants[i]
		for j := range w.uses() {
			// A store may go on reading after the request has given up, and
			// a server then uses its buffers for the next one.
			b := newBound(ask, w, w.use(j), now).clone()
			all = append(all, b.binding())
		}
	}
	return all
}

// uses is the number of bindings of a want.
func (w *Want) uses() int { return max(1, len(w.Uses)) }

// use is the i-th of them.
func (w *Want) use(i int) Use {
	if len(w.Uses) == 0 {
		return Use{}
	}
	return w.Uses[i]
}

// Lookup returns keys that exist, in the order of the key IDs, and changes
// nothing. It is all or nothing: a key ID without a key gives [ErrNotFound], a
// deleted one [ErrDeleted].
func (k *Keystore) Lookup(ctx context.Context, tenant string, kids []contentkey.KID) ([]Key, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	have, err := k.read(ctx, tenant, kids, k.clock().UnixMicro())
	if err != nil {
		return nil, late(err)
	}
	defer have.wipe()
	keys := make([]Key, len(kids))
	for i, kid := range kids {
		o := have[kid]
		if o == nil {
			return nil, fmt.Errorf("content key %s: %w", kid, ErrNotFound)
		}
		keys[i] = Key{KID: kid, Value: o.value, IV: o.iv}
	}
	return keys, nil
}
