package keyprovider

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestSealersAreBounded holds that what is remembered of recipients stays
// small, however many there are and whether or not it has expired.
func TestSealersAreBounded(t *testing.T) {
	for _, lifetime := range []time.Duration{time.Second, time.Hour} {
		s := &Sealers{sets: make(map[recipientSet]*sealerEntry)}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var last recipientSet
		for i := range 5 * maxRecipientSets {
			var id recipientSet
			binary.BigEndian.PutUint32(id[:], uint32(i))
			now = now.Add(10 * time.Millisecond)
			s.put(id, &sealerEntry{expires: now.Add(lifetime)}, now)
			if len(s.sets) > maxRecipientSets {
				t.Fatalf("%d sets after %d", len(s.sets), i+1)
			}
			last = id
		}
		if s.sets[last] == nil {
			t.Error("the latest set is not remembered")
		}
		if lifetime == time.Second && len(s.sets) > maxRecipientSets/2+100 && s.sets[recipientSet{}] != nil {
			t.Error("expired sets are kept")
		}
	}
}
