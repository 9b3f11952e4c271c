package binding

import (
	"cmp"
	"slices"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Live is the content key of a track at a moment.
type Live struct {
	KID    contentkey.KID    `json:"kid"`
	Track  string            `json:"track,omitempty"`
	Scheme contentkey.Scheme `json:"scheme,omitzero"`
	Period *Period           `json:"period,omitempty"`
	Since  time.Time         `json:"since"`
	Until  *time.Time        `json:"until,omitempty"` // absent while nothing is known to follow

	// Basis says what Since and Until are: "period", the key period's own
	// start and end; "first_seen", when the encryptor asked for this key and
	// for the one that followed it, since its periods have no times.
	Basis string `json:"basis"`
}

// The values of Live.Basis.
const (
	BasisPeriod    = "period"
	BasisFirstSeen = "first_seen"
)

// moment finds the live keys of a content at a time, in one pass over its
// bindings in any order. It remembers no more than one key of each track and
// scheme, and when the next one comes.
type moment struct {
	at     time.Time
	tracks map[track]*candidate
}

type track struct {
	name   string
	scheme contentkey.Scheme
}

// candidate is the best binding of a track so far.
type candidate struct {
	live  *Live
	dated bool       // some period of the track has times; then only those count
	next  *time.Time // earliest first-seen time after the moment
}

func newMoment(at time.Time) *moment { return &moment{at: at, tracks: make(map[track]*candidate)} }

// add looks at one more binding. Periods that are spans of a timeline without
// dates (SPEKE 2.1 for video on demand) are live at no time.
func (m *moment) add(b *keystore.Binding) {
	start, end, dated := times(b.Period)
	if !dated && b.Period.Start != "" {
		return
	}
	id := track{b.Track, b.Scheme}
	c := m.tracks[id]
	if c == nil {
		c = &candidate{}
		m.tracks[id] = c
	}
	if dated && !c.dated {
		*c = candidate{dated: true}
	}
	if dated != c.dated {
		return
	}
	live := &Live{KID: b.KID, Track: b.Track, Scheme: b.Scheme, Period: newPeriod(b.Period), Since: start, Basis: BasisPeriod}
	if dated {
		if !end.IsZero() {
			live.Until = &end
		}
		if m.at.Before(start) || live.Until != nil && !m.at.Before(end) {
			return
		}
	} else {
		live.Since, live.Basis = b.FirstSeen.UTC(), BasisFirstSeen
		if live.Since.After(m.at) {
			if c.next == nil || live.Since.Before(*c.next) {
				c.next = &live.Since
			}
			return
		}
	}
	if c.live == nil || live.Since.After(c.live.Since) || live.Since.Equal(c.live.Since) && later(live, c.live) {
		c.live = live
	}
}

// later decides between keys that were asked for in one request: of two
// indices, the higher one is the later period.
func later(a, b *Live) bool {
	if a.Period == nil || b.Period == nil {
		return a.Period != nil
	}
	return cmp.Or(cmp.Compare(len(a.Period.Index), len(b.Period.Index)), cmp.Compare(a.Period.Index, b.Period.Index)) > 0
}

// times reads the dates of a period; ok is false when it has none.
func times(p contentkey.Period) (start, end time.Time, ok bool) {
	start, err := time.Parse(time.RFC3339, p.Start)
	if err != nil {
		return time.Time{}, time.Time{}, false
	}
	if end, err = time.Parse(time.RFC3339, p.End); err != nil {
		end = time.Time{}
	}
	return start.UTC(), end.UTC(), true
}

// keys returns what was found, in the order of track and scheme.
func (m *moment) keys() []Live {
	out := []Live{}
	for _, c := range m.tracks {
		if c.live == nil {
			continue
		}
		if !c.dated {
			c.live.Until = c.next
		}
		out = append(out, *c.live)
	}
	slices.SortFunc(out, func(a, b Live) int {
		return cmp.Or(cmp.Compare(a.Track, b.Track), cmp.Compare(a.Scheme, b.Scheme))
	})
	return out
}
