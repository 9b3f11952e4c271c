package encryptor

import (
	"slices"

	"spekeasy/contentkey"
	"spekeasy/cpix"
)

// CheckRepeat compares two answers to the same request: key IDs, content
// keys and IVs must be the same, whatever happened in between, since restarts,
// retries and redundant pipelines rely on it (SX-SEQ-16, SX-KID-06). Keys that
// could not be read are passed over; [Answer.Check] reports them.
func CheckRepeat(first, second *Answer) []Violation {
	c := &checker{Answer: second}
	index := make(map[contentkey.KID]*Key, len(second.Keys))
	for i := range second.Keys {
		index[second.Keys[i].Requested] = &second.Keys[i]
	}
	for i := range first.Keys {
		k := &first.Keys[i]
		again := index[k.Requested]
		switch {
		case again == nil:
			c.add("SX-SEQ-16", "key ID %s: no longer answered", k.Requested)
			continue
		case k.KID != again.KID:
			c.add("SX-KID-06", "key ID %s: answered as %s, then as %s", k.Requested, k.KID, again.KID)
		}
		if k.HasValue && again.HasValue && k.Value != again.Value {
			c.add("SX-SEQ-16", "key ID %s: another content key", k.Requested)
		}
		if k.ExplicitIV != again.ExplicitIV && !sameIV(k.ExplicitIV, again.ExplicitIV) {
			c.add("SX-SEQ-16", "key ID %s: another explicitIV", k.Requested)
		}
	}
	return c.out
}

// CheckRotation compares the answers for two key periods of one live session:
// the contract stays (S2-SEQ-19, S2-ERR-22), key IDs and content keys are new
// (SX-SEQ-13, S2-PAY-20).
func CheckRotation(previous, next *Answer) []Violation {
	c := &checker{Answer: next}
	if !slices.EqualFunc(previous.doc.UsageRules, next.doc.UsageRules, sameTracks) {
		c.add("S2-ERR-22", "the encryption contract changed during the session")
	}
	kids := make(map[contentkey.KID]bool, len(previous.Keys))
	values := make(map[contentkey.Value]bool, len(previous.Keys))
	for i := range previous.Keys {
		k := &previous.Keys[i]
		kids[k.KID] = true
		if k.HasValue {
			values[k.Value] = true
		}
	}
	for i := range next.Keys {
		k := &next.Keys[i]
		if kids[k.KID] {
			c.add("SX-SEQ-13", "key ID %s is that of the period before", k.KID)
		}
		if k.HasValue && values[k.Value] {
			c.add("S2-PAY-20", "key ID %s has a content key of the period before", k.KID)
		}
	}
	return c.out
}

// sameTracks reports whether two usage rules select the same tracks under the
// same label, whatever their key IDs and periods are.
func sameTracks(a, b cpix.UsageRule) bool {
	tracks := func(u cpix.UsageRule) []cpix.Filter {
		return slices.DeleteFunc(slices.Clone(u.Filters), func(f cpix.Filter) bool { return f.Kind == cpix.KeyPeriodFilter })
	}
	return a.IntendedTrackType == b.IntendedTrackType && slices.EqualFunc(tracks(a), tracks(b), func(x, y cpix.Filter) bool {
		if x.Kind != y.Kind {
			return false
		}
		for _, name := range [...]string{"minPixels", "maxPixels", "hdr", "minFps", "maxFps", "minChannels", "maxChannels"} {
			v, hasV := x.Attr(name)
			w, hasW := y.Attr(name)
			if v != w || hasV != hasW {
				return false
			}
		}
		return true
	})
}
