package keystore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"spekeasy/contentkey"
)

// The cache holds what answers a repeated request without the database:
// opened content keys and, for each, the bindings that are known to be
// recorded. It is a fixed number of shards, each a map with a clock hand that
// evicts what was not used since it last came by.

const (
	shardBits         = 5
	defaultCacheBytes = 16 << 20

	// What an entry and a binding take besides their texts, with their share
	// of maps and lists: a little more than was measured.
	entryBytes = 312
	boundBytes = 360

	maxTexts  = 2 << 10 // a key or binding with longer texts is not remembered
	maxBounds = 32      // per key; the oldest makes room
)

type cache struct {
	keeps    bool  // whether opened keys may be kept
	lifetime int64 // of an opened key, in microseconds
	shards   [1 << shardBits]shard
}

type shard struct {
	mu      sync.Mutex
	entries map[place]*entry // nil once wiped
	ring    []*entry
	hand    int
	bytes   int // what the entries take
	limit   int
	due     []*bound // their times must be written
	_       [64]byte // keeps neighbours off this shard's cache line
}

type place struct {
	tenant string
	kid    contentkey.KID
}

// entry is what is known of one key ID.
type entry struct {
	place  place
	used   bool
	bytes  int
	until  int64 // when the opened key must be read again; 0 while there is none
	key    opened
	bounds []*bound

	source      string // whose the key is, if another key provider's
	sourceUntil int64  // until when that is known without reading it again

	copied [sha256.Size]byte // digest of the signaling that is kept here with the source's key
}

// Format hides the key: fmt does not ask the type of an unexported member.
func (*entry) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(cached content key)") }

// bound is a binding that is recorded. Its texts are its own, not parts of a
// request body.
type bound struct {
	place     place
	contentID string
	requested contentkey.KID
	track     string
	scheme    contentkey.Scheme
	period    contentkey.Period

	profile  string
	systems  []string // sorted
	iv       contentkey.IV
	hasIV    bool
	lastSeen int64 // microseconds
	due      bool  // in the shard's list
}

func newCache(size int, lifetime time.Duration) *cache {
	c := &cache{keeps: size >= 0, lifetime: lifetime.Microseconds()}
	if size <= 0 {
		size = defaultCacheBytes
	}
	for i := range c.shards {
		c.shards[i].entries = make(map[place]*entry)
		c.shards[i].limit = size / len(c.shards)
	}
	return c
}

func (c *cache) shard(kid contentkey.KID) *shard {
	h := binary.LittleEndian.Uint64(kid[:8]) ^ binary.LittleEndian.Uint64(kid[8:])
	return &c.shards[h*0x9e3779b97f4a7c15>>(64-shardBits)]
}

// hit fills in the key of a want if it is here and all its bindings are
// recorded as the request has them, but for times and profile. It appends
// those bindings to known.
func (c *cache) hit(ask *Ask, w *Want, now int64, key *Key, known []*bound) ([]*bound, bool) {
	s := c.shard(w.KID)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[place{ask.Tenant, w.KID}]
	if e == nil || e.until <= now {
		return known, false
	}
	known, ok := e.known(ask, w, known)
	if ok {
		e.used = true
		e.key.answer(ask, w, key)
	}
	return known, ok
}

// get returns a copy of an opened key, or nil.
func (c *cache) get(tenant string, kid contentkey.KID, now int64) *opened {
	s := c.shard(kid)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[place{tenant, kid}]
	if e == nil || e.until <= now {
		return nil
	}
	e.used = true
	o := e.key
	return &o
}

// put keeps a copy of an opened key.
func (c *cache) put(tenant string, kid contentkey.KID, o *opened, now int64) {
	if !c.keeps || len(o.contentID) > maxTexts {
		return
	}
	s := c.shard(kid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entry(place{tenant, kid}); e != nil {
		s.grow(e, len(o.contentID)-len(e.key.contentID))
		e.key = *o
		e.key.contentID = strings.Clone(o.contentID)
		e.until = now + c.lifetime
		s.shrink()
	}
}

// known returns the bindings of the request if all of them are recorded as it
// has them, but for times and profile.
func (c *cache) known(ask *Ask) (known []*bound, ok bool) {
	for i := range ask.Wants {
		w := &ask.Wants[i]
		s := c.shard(w.KID)
		s.mu.Lock()
		e := s.entries[place{ask.Tenant, w.KID}]
		if e != nil {
			known, ok = e.known(ask, w, known)
		}
		s.mu.Unlock()
		if e == nil || !ok {
			return nil, false
		}
	}
	return known, true
}

// learn notes that the bindings of the request are recorded.
func (c *cache) learn(ask *Ask, now int64) {
	for i := range ask.Wants {
		w := &ask.Wants[i]
		s := c.shard(w.KID)
		s.mu.Lock()
		for j := range w.uses() {
			s.learn(newBound(ask, w, w.use(j), now))
		}
		s.mu.Unlock()
	}
}

func (s *shard) learn(b *bound) {
	if b.texts() > maxTexts {
		return
	}
	e := s.entry(b.place)
	if e == nil {
		return
	}
	if i := slices.IndexFunc(e.bounds, b.same); i >= 0 {
		b.inherit(e.bounds[i])
		s.forget(e, i)
	} else if len(e.bounds) == maxBounds {
		s.forget(e, 0)
	}
	e.bounds = append(e.bounds, b.clone())
	s.grow(e, b.bytes())
	s.shrink()
}

// forget drops a binding of the entry; its time is still written if due.
func (s *shard) forget(e *entry, i int) {
	s.grow(e, -e.bounds[i].bytes())
	e.bounds = slices.Delete(e.bounds, i, i+1)
}

// touch notes that known bindings were seen again.
func (c *cache) touch(known []*bound, profile string, now int64) {
	for _, b := range known {
		s := c.shard(b.place.kid)
		s.mu.Lock()
		if b.profile != profile {
			b.profile = strings.Clone(profile)
		}
		b.lastSeen = max(b.lastSeen, now)
		s.setDue(b)
		s.mu.Unlock()
	}
}

// setDue lists a binding for the next flush. Bindings that were evicted since
// are still listed; the list is bounded all the same, and a last-seen time
// that finds it full waits for the next request.
func (s *shard) setDue(b *bound) {
	if b.due || len(s.due) >= 16+s.limit/boundBytes {
		return
	}
	b.due = true
	s.due = append(s.due, b)
}

// takeDue returns the bindings whose times must be written, as they are now.
func (c *cache) takeDue() (due []*bound, all []Binding) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, b := range s.due {
			b.due = false
			all = append(all, b.binding())
		}
		due = append(due, s.due...)
		s.due = nil
		s.mu.Unlock()
	}
	return due, all
}

// putBack lists bindings again that could not be written.
func (c *cache) putBack(due []*bound) {
	for _, b := range due {
		s := c.shard(b.place.kid)
		s.mu.Lock()
		s.setDue(b)
		s.mu.Unlock()
	}
}

// entry returns the entry of a place, new if need be, or nil after a wipe.
func (s *shard) entry(p place) *entry {
	if s.entries == nil {
		return nil
	}
	e := s.entries[p]
	if e == nil {
		p.tenant = strings.Clone(p.tenant)
		e = &entry{place: p}
		s.entries[p] = e
		s.ring = append(s.ring, e)
		s.grow(e, entryBytes)
	}
	e.used = true
	return e
}

func (s *shard) grow(e *entry, n int) {
	e.bytes += n
	s.bytes += n
}

// shrink evicts until the shard keeps its limit.
func (s *shard) shrink() {
	for s.bytes > s.limit && len(s.ring) > 0 {
		s.hand %= len(s.ring)
		e := s.ring[s.hand]
		if e.used {
			e.used = false
			s.hand++
			continue
		}
		last := len(s.ring) - 1
		s.ring[s.hand], s.ring[last] = s.ring[last], nil
		s.ring = s.ring[:last]
		s.drop(e)
	}
}

func (s *shard) drop(e *entry) {
	delete(s.entries, e.place)
	s.bytes -= e.bytes
	clear(e.key.value[:])
	e.until = 0
}

// remove forgets an opened key, so that the next request reads it.
func (c *cache) remove(tenant string, kid contentkey.KID) {
	s := c.shard(kid)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[place{tenant, kid}]; e != nil {
		clear(e.key.value[:])
		e.until, e.sourceUntil = 0, 0
	}
}

// wipe zeroes all content keys and keeps no others.
func (c *cache) wipe() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, e := range s.ring {
			s.drop(e)
		}
		s.entries, s.ring, s.due = nil, nil, nil
		s.mu.Unlock()
	}
}

// size returns the number of opened keys and of known bindings.
func (c *cache) size() (keys, bindings int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for _, e := range s.ring {
			if e.until != 0 {
				keys++
			}
			bindings += len(e.bounds)
		}
		s.mu.Unlock()
	}
	return keys, bindings
}

// known appends the bindings of the want, and reports whether each of them is
// recorded with its systems and explicit IV.
func (e *entry) known(ask *Ask, w *Want, known []*bound) ([]*bound, bool) {
	for i := range w.uses() {
		b := e.find(ask, w, w.use(i))
		if b == nil || w.HasIV && (!b.hasIV || b.iv != w.IV) || !b.hasSystems(w.Systems) {
			return known, false
		}
		known = append(known, b)
	}
	return known, true
}

func (e *entry) find(ask *Ask, w *Want, u Use) *bound {
	for _, b := range e.bounds {
		if b.requested == w.Requested && b.scheme == ask.Scheme && b.track == u.Track &&
			b.contentID == ask.ContentID && b.period == u.Period {
			return b
		}
	}
	return nil
}

func (b *bound) hasSystems(systems []string) bool {
	for _, id := range systems {
		if !slices.Contains(b.systems, id) {
			return false
		}
	}
	return true
}

// newBound returns a binding of the request, whose texts it shares.
func newBound(ask *Ask, w *Want, u Use, now int64) *bound {
	b := &bound{
		place:     place{ask.Tenant, w.KID},
		contentID: ask.ContentID, requested: w.Requested, track: u.Track, scheme: ask.Scheme, period: u.Period,
		profile: ask.Profile, iv: w.IV, hasIV: w.HasIV, lastSeen: now,
	}
	b.addSystems(w.Systems)
	return b
}

// inherit takes over what the store keeps of the binding's former state.
func (b *bound) inherit(o *bound) {
	b.addSystems(o.systems)
	if !b.hasIV {
		b.iv, b.hasIV = o.iv, o.hasIV
	}
}

func (b *bound) addSystems(systems []string) {
	all := slices.Concat(b.systems, systems)
	slices.Sort(all)
	b.systems = slices.Compact(all)
}

func (b *bound) same(o *bound) bool {
	return b.requested == o.requested && b.scheme == o.scheme && b.track == o.track &&
		b.contentID == o.contentID && b.period == o.period
}

func (b *bound) clone() *bound {
	c := *b
	for _, s := range []*string{
		&c.place.tenant, &c.contentID, &c.track, &c.profile,
		&c.period.ID, &c.period.Index, &c.period.Start, &c.period.End,
	} {
		*s = strings.Clone(*s)
	}
	c.systems = slices.Clone(b.systems)
	for i := range c.systems {
		c.systems[i] = strings.Clone(c.systems[i])
	}
	return &c
}

func (b *bound) texts() int {
	n := len(b.place.tenant) + len(b.contentID) + len(b.track) +
		len(b.period.ID) + len(b.period.Index) + len(b.period.Start) + len(b.period.End)
	for _, id := range b.systems {
		n += len(id)
	}
	return n
}

func (b *bound) bytes() int { return boundBytes + b.texts() + 16*len(b.systems) }

// binding returns the binding as it is merged into the store.
func (b *bound) binding() Binding {
	seen := time.UnixMicro(b.lastSeen).UTC()
	binding := Binding{
		Tenant: b.place.tenant, ContentID: b.contentID, Requested: b.requested, KID: b.place.kid,
		Track: b.track, Scheme: b.scheme, Period: b.period,
		Profile: b.profile, Systems: b.systems, FirstSeen: seen, LastSeen: seen,
	}
	if b.hasIV {
		binding.IV = b.iv.String()
	}
	return binding
}
