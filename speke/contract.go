package speke

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
)

// ContractPolicy says which encryption contracts a key provider accepts, and
// how literally it reads the rules for them.
type ContractPolicy struct {
	// RefuseTracks are values of intendedTrackType that are not served.
	RefuseTracks []string

	// SeparateAudio refuses contracts in which one content key serves audio
	// and video, such as ALL.
	SeparateAudio bool

	// Strict demands as many filters as a label has parts joined by "+"
	// (S2-CON-03, D-01) and that every periodId names a period (D-28). It is
	// off by default, because AWS's own presets break the first.
	Strict bool
}

// trackAll is the label of one key for all audio and video (S2-CON-02).
const trackAll = "ALL"

// checkContract reads the usage rules. In v2 they are the encryption contract
// (S2-ERR-19, then -17, -34, -35); in v1 only period filters count and
// everything else is ignored.
func (r *Request) checkContract(p *Policy) error {
	rules := r.doc.UsageRules
	if r.Profile != V10 {
		if !hasTrackFilter(rules) {
			return invalid(textMissingContract, nil)
		}
		if r.doc.Lists.UsageRule != 1 {
			return invalid(textMalformedContract, errors.New("two rule lists"))
		}
	}
	index, err := r.indexKeys()
	if err != nil {
		return err
	}
	periods := r.indexPeriods()
	if len(rules) > 0 {
		// Nearly every key has one use; these share an array.
		r.uses = append(r.uses, make([]Use, len(r.Keys))...)
		for i := range r.Keys {
			r.Keys[i].Uses = r.uses[i : i : i+1]
		}
	}
	for i := range rules {
		u := &rules[i]
		kid, err := parseUUID(u.KID, "ContentKeyUsageRule@kid")
		if err != nil {
			return err
		}
		k, ok := index.find(kid)
		if !ok {
			return contractError(u, "its key ID is not in the ContentKeyList")
		}
		if r.Profile != V10 {
			if err := checkRule(u, p.Contract.Strict); err != nil {
				return err
			}
		}
		if err := r.addUses(&r.Keys[k], u, &periods, p.Contract.Strict); err != nil {
			return err
		}
	}
	if r.Profile == V10 {
		return nil
	}
	return checkLabels(rules)
}

func contractError(u *cpix.UsageRule, reason string) *Error {
	return invalid(textMalformedContract, fmt.Errorf("usage rule %.64q: %s", u.IntendedTrackType, reason))
}

func hasTrackFilter(rules []cpix.UsageRule) bool {
	for i := range rules {
		for j := range rules[i].Filters {
			if k := rules[i].Filters[j].Kind; k == cpix.VideoFilter || k == cpix.AudioFilter {
				return true
			}
		}
	}
	return false
}

// checkRule holds what S2-PAY-60 to -66 and S2-CON-01 to -07 and -11 say of
// one rule.
func checkRule(u *cpix.UsageRule, strict bool) error {
	switch n := len(u.IntendedTrackType); {
	case n == 0:
		return contractError(u, "no intendedTrackType")
	case n > maxText:
		return contractError(u, "intendedTrackType is too long")
	}
	video, audio, bounded := 0, 0, false
	for i := range u.Filters {
		f := &u.Filters[i]
		var ok, attrs bool
		switch f.Kind {
		case cpix.KeyPeriodFilter:
			id, _ := f.Attr("periodId")
			ok = id != ""
		case cpix.VideoFilter:
			video++
			attrs, ok = checkVideo(f)
		case cpix.AudioFilter:
			audio++
			attrs, ok = checkRange(f, "minChannels", "maxChannels")
		case cpix.BitrateFilter:
			ok = true // ignored (S2-CON-06)
		}
		if !ok {
			return contractError(u, "an unsupported or malformed filter")
		}
		bounded = bounded || attrs
	}
	if video+audio == 0 {
		return contractError(u, "no VideoFilter and no AudioFilter")
	}
	if u.IntendedTrackType == trackAll && (video != 1 || audio != 1 || bounded) {
		return contractError(u, "not exactly one bare VideoFilter and one bare AudioFilter")
	}
	if strict && u.IntendedTrackType != trackAll && video+audio != 1+strings.Count(u.IntendedTrackType, "+") {
		return contractError(u, "the number of filters is not that of the parts of the label")
	}
	return nil
}

func checkVideo(f *cpix.Filter) (attrs, ok bool) {
	pixels, ok1 := checkRange(f, "minPixels", "maxPixels")
	fps, ok2 := checkRange(f, "minFps", "maxFps")
	hdr, has := f.Attr("hdr")
	ok3 := !has || hdr == "true" || hdr == "false" || hdr == "1" || hdr == "0"
	return pixels || fps || has, ok1 && ok2 && ok3
}

// checkRange reads two bounds; attrs tells whether either is there.
func checkRange(f *cpix.Filter, minName, maxName string) (attrs, ok bool) {
	lo, hasLo := f.Attr(minName)
	hi, hasHi := f.Attr(maxName)
	low, high := uint64(0), uint64(1<<63)
	var err error
	if hasLo {
		if low, err = strconv.ParseUint(strings.TrimPrefix(lo, "+"), 10, 63); err != nil {
			return true, false
		}
	}
	if hasHi {
		if high, err = strconv.ParseUint(strings.TrimPrefix(hi, "+"), 10, 63); err != nil {
			return true, false
		}
	}
	return hasLo || hasHi, low <= high
}

// addUses notes the track and periods of a rule with its key.
func (r *Request) addUses(k *Key, u *cpix.UsageRule, declared *periodIndex, strict bool) error {
	use := Use{}
	if r.Profile != V10 {
		use.Track = u.IntendedTrackType
	}
	periods := 0
	for i := range u.Filters {
		if u.Filters[i].Kind != cpix.KeyPeriodFilter {
			continue
		}
		id, _ := u.Filters[i].Attr("periodId")
		var known bool
		use.Period, known = declared.find(id)
		switch {
		case !known && strict && r.Profile != V10:
			return contractError(u, "its periodId names no ContentKeyPeriod")
		case len(id) > maxText:
			return contractError(u, "its periodId is too long")
		}
		k.Uses = append(k.Uses, use)
		periods++
	}
	if periods == 0 {
		k.Uses = append(k.Uses, use)
	}
	return nil
}

// periodIndex finds periods by ID, the first of each; like keyIndex it looks
// through the few of a usual request.
type periodIndex struct {
	periods []cpix.Period
	long    map[string]*cpix.Period
}

func (r *Request) indexPeriods() periodIndex {
	x := periodIndex{periods: r.doc.Periods}
	if len(x.periods) <= shortList {
		return x
	}
	x.long = make(map[string]*cpix.Period, len(x.periods))
	for i := range x.periods {
		if p := &x.periods[i]; x.long[p.ID] == nil {
			x.long[p.ID] = p
		}
	}
	return x
}

func (x *periodIndex) lookup(id string) *cpix.Period {
	if x.long != nil {
		return x.long[id]
	}
	for i := range x.periods {
		if x.periods[i].ID == id {
			return &x.periods[i]
		}
	}
	return nil
}

// find returns a period by its ID; one that is not declared still has its ID.
func (x *periodIndex) find(id string) (contentkey.Period, bool) {
	p := x.lookup(id)
	if p == nil {
		return contentkey.Period{ID: id}, false
	}
	out := contentkey.Period{ID: p.ID, Index: p.Index, Start: p.Start, End: p.End}
	if out.Start == "" && out.End == "" {
		out.Start, out.End = p.StartOffset, p.EndOffset
	}
	return out, true
}

// place is a label in a period; the period "" stands for all of them.
type place struct{ period, label string }

// checkLabels holds S2-CON-01, -02 and -10: a label occurs once per period,
// and nothing stands beside ALL in its period.
func checkLabels(rules []cpix.UsageRule) error {
	var few [shortList]place
	places := few[:0]
	for i := range rules {
		u := &rules[i]
		before := len(places)
		for j := range u.Filters {
			if u.Filters[j].Kind == cpix.KeyPeriodFilter {
				id, _ := u.Filters[j].Attr("periodId")
				places = append(places, place{id, u.IntendedTrackType})
			}
		}
		if len(places) == before {
			places = append(places, place{"", u.IntendedTrackType})
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(strings.Compare(a.period, b.period), strings.Compare(a.label, b.label))
	})
	for i, p := range places[1:] {
		if q := places[i]; p.period == q.period {
			if err := checkPair(p.label, q.label); err != nil {
				return err
			}
		}
	}
	// Labels of all periods sort first; ALL would be alone among them.
	n := slices.IndexFunc(places, func(p place) bool { return p.period != "" })
	if n < 1 {
		return nil
	}
	for _, p := range places[n:] {
		at, found := slices.BinarySearchFunc(places[:n], p.label, func(q place, label string) int { return strings.Compare(q.label, label) })
		if !found {
			at = 0
		}
		if err := checkPair(p.label, places[at].label); err != nil {
			return err
		}
	}
	return nil
}

// checkPair judges two labels of one period.
func checkPair(a, b string) error {
	switch {
	case a == b:
		return invalid(textMalformedContract, fmt.Errorf("label %q occurs twice in a period", a))
	case a == trackAll || b == trackAll:
		return invalid(textMalformedContract, errors.New("another rule beside ALL"))
	}
	return nil
}

// checkPolicy holds S2-ERR-18.
func (r *Request) checkPolicy(p *Policy) error {
	if p.MaxKeys > 0 && len(r.Keys) > p.MaxKeys {
		return ContractError(fmt.Errorf("%d content keys, at most %d allowed", len(r.Keys), p.MaxKeys))
	}
	c := &p.Contract
	if r.Profile == V10 || !c.SeparateAudio && len(c.RefuseTracks) == 0 {
		return nil
	}
	type media struct{ video, audio bool }
	serves := make(map[string]media, len(r.Keys))
	for i := range r.doc.UsageRules {
		u := &r.doc.UsageRules[i]
		if slices.Contains(c.RefuseTracks, u.IntendedTrackType) {
			return ContractError(fmt.Errorf("track type %q is not served", u.IntendedTrackType))
		}
		kid := strings.ToLower(u.KID)
		m := serves[kid]
		for j := range u.Filters {
			m.video = m.video || u.Filters[j].Kind == cpix.VideoFilter
			m.audio = m.audio || u.Filters[j].Kind == cpix.AudioFilter
		}
		if c.SeparateAudio && m.video && m.audio {
			return ContractError(errors.New("one content key for audio and video"))
		}
		serves[kid] = m
	}
	return nil
}
