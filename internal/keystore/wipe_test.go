package keystore

import (
	"testing"
	"time"

	"spekeasy/contentkey"
)

// TestWipe looks at the memory that held content keys, after eviction and
// after the end.
func TestWipe(t *testing.T) {
	c := newCache(1, time.Minute) // room for none
	o := &opened{value: contentkey.Value{1, 2, 3}}
	kid := contentkey.KID{1}
	c.put("acme", kid, o, 0)
	if c.get("acme", kid, 1) != nil {
		t.Error("an entry larger than the cache was kept")
	}

	c = newCache(0, time.Minute)
	c.put("acme", kid, o, 0)
	e := c.shard(kid).entries[place{"acme", kid}]
	if e == nil || e.key.value != o.value {
		t.Fatal("the key is not in the cache")
	}
	if got := c.get("acme", kid, 1); got == nil || got.value != o.value {
		t.Fatal("the key does not come back")
	}
	c.wipe()
	if e.key.value != (contentkey.Value{}) {
		t.Error("the key is still in memory")
	}
	c.put("acme", kid, o, 0)
	if keys, bindings := c.size(); keys != 0 || bindings != 0 {
		t.Error("a key was kept after the wipe")
	}

	s := &shard{entries: make(map[place]*entry), limit: entryBytes}
	for i := range 3 {
		e := s.entry(place{"acme", contentkey.KID{byte(i)}})
		e.key.value, e.until = o.value, 1
		s.shrink()
	}
	if len(s.ring) != 1 || len(s.entries) != 1 || s.bytes != entryBytes {
		t.Errorf("%d entries of %d bytes are kept", len(s.ring), s.bytes)
	}
	m := openKeys{kid: o, contentkey.KID{2}: nil}
	m.wipe()
	if o.value != (contentkey.Value{}) {
		t.Error("a request's copy is still in memory")
	}
}
