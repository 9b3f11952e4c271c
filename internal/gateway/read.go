package gateway

import (
	"bytes"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// answer is an upstream's document, held against the one that was asked.
type answer struct {
	*part
	doc   *cpix.Document
	body  []byte
	agent string // who it says it is
	fixes fixes

	kids []contentkey.KID // by content key asked for: its key ID now
	at   []int            // and where it stands in the answer
	sys  []int            // by DRMSystem asked for: where it stands, -1 for nowhere
}

// read checks what came back: that it is CPIX, and the answer to what was
// asked, with a content key for each key ID. What is missing but known from
// the request, or spelled otherwise, is noted as a fix; what contradicts the
// request is a fault.
func (s *source) read(p *part, r *reply) (*answer, *Fault) {
	doc, err := cpix.Parse(r.body)
	if err != nil {
		return nil, s.notCPIX(r.body)
	}
	a := &answer{part: p, doc: doc, body: r.body, agent: r.header.Get(speke.HeaderUserAgent)}
	if a.agent == "" {
		a.agent = r.header.Get(speke.HeaderUserAgentV1)
	}
	for _, step := range [...]func(*source, *answer) *Fault{
		(*source).readRoot, (*source).pairKeys, (*source).readSecrets, (*source).pairSystems, (*source).readContract,
	} {
		if f := step(s, a); f != nil {
			return nil, f
		}
	}
	return a, nil
}

// notCPIX says what came instead of a document.
func (s *source) notCPIX(body []byte) *Fault {
	f := &Fault{Kind: NotCPIX, Status: 200, Words: s.red.line(body, maxWords)}
	text := bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), " \t\r\n")
	what := "a text"
	switch {
	case len(text) == 0:
		what = "nothing"
	case text[0] == '{' || text[0] == '[':
		what = "JSON"
	case text[0] == '<':
		what = "XML that is no CPIX document, or not all of one"
		if low := bytes.ToLower(text[:min(len(text), 256)]); bytes.Contains(low, []byte("<html")) || bytes.Contains(low, []byte("<!doctype html")) {
			what = "an HTML page"
		}
	}
	f.Sentence = "it answered 200 with " + what + " instead of a CPIX document"
	return f
}

// v2 reports whether the rules of SPEKE v2 hold for the answer.
func (a *answer) v2() bool { return a.profile != speke.V10 }

func (s *source) readRoot(a *answer) *Fault {
	got, other := a.doc.ID, a.doc.ContentID
	if a.v2() {
		got, other = other, got
	}
	switch {
	case got == a.contentID:
	case got == "" && (other == "" || other == a.contentID):
		a.fixes.add(FixContentID)
	default:
		return invalid("it answered for another content ID")
	}
	if a.v2() {
		a.fixes.addIf(FixV1, a.doc.ID != "" || a.doc.HasV1())
		a.fixes.addIf(FixVersion, a.doc.Version != a.asked.Version)
	}
	a.fixes.addIf(FixPSKC, !a.doc.HasPSKC())
	return nil
}

// pairKeys finds the content key for each one that was asked for: by its key
// ID or, where the upstream may have others, by its tracks or its place.
func (s *source) pairKeys(a *answer) *Fault {
	want, got := a.asked.ContentKeys, a.doc.ContentKeys
	if len(got) == 0 {
		return invalid("it answered without content keys")
	}
	index := make(map[contentkey.KID]int, len(got))
	kids := make([]contentkey.KID, len(got))
	for j := range got {
		kid, err := contentkey.ParseKID(got[j].KID)
		if err != nil {
			return invalid("it answered with a key ID that is no UUID")
		}
		if _, twice := index[kid]; twice {
			return invalid("it answered twice for key ID %s", kid)
		}
		kids[j], index[kid] = kid, j
	}
	a.at, a.kids = make([]int, len(want)), make([]contentkey.KID, len(want))
	missing := -1
	for i := range want {
		kid, err := contentkey.ParseKID(want[i].KID)
		if err != nil {
			return unsupported("the request has a key ID that is no UUID")
		}
		a.kids[i], a.at[i] = kid, -1
		if j, ok := index[kid]; ok {
			a.at[i] = j
			delete(index, kid)
		} else if missing < 0 {
			missing = i
		}
	}
	if missing >= 0 {
		if s.set.KIDPolicy == upstream.KIDKeep {
			return invalid("it answered without a content key for key ID %s", a.kids[missing])
		}
		if len(got) != len(want) {
			return invalid("it answered %d content keys where %d were asked for", len(got), len(want))
		}
		a.pairOthers()
		for i, j := range a.at {
			a.kids[i] = kids[j]
		}
		index = nil
	}
	for kid := range index {
		return invalid("it answered with key ID %s, which nobody asked for", kid)
	}
	for i, j := range a.at {
		a.fixes.addIf(FixOrder, i != j)
		a.fixes.addIf(FixGUID, got[j].KID != want[i].KID && got[j].KID != a.kids[i].String())
	}
	return nil
}

// pairOthers pairs the keys under an override: by tracks and periods, if the
// contract came back and tells them apart, else by their order.
func (a *answer) pairOthers() {
	want, ok := uses(a.asked)
	got, all := uses(a.doc)
	for i := range a.at {
		a.at[i] = i
	}
	if !ok || !all || len(want) != len(got) {
		return
	}
	at := make([]int, len(a.at))
	for use, i := range want {
		j, ok := got[use]
		if !ok {
			return
		}
		at[i] = j
	}
	a.at = at
}

// use is a track in a period.
type use struct{ track, period string }

// uses returns the content key for each use; ok means that there is exactly
// one use for each.
func uses(d *cpix.Document) (m map[use]int, ok bool) {
	index := keyIndex(d)
	m = make(map[use]int, len(d.UsageRules))
	seen := make(map[int]bool)
	for i := range d.UsageRules {
		u := &d.UsageRules[i]
		key, known := index[strings.ToLower(u.KID)]
		at := use{track: u.IntendedTrackType, period: periodOf(u)}
		if _, twice := m[at]; twice || !known || seen[key] {
			return nil, false
		}
		m[at], seen[key] = key, true
	}
	return m, len(m) == len(d.ContentKeys)
}

// keyIndex says where the content key of a key ID, in lower case, stands.
func keyIndex(d *cpix.Document) map[string]int {
	index := make(map[string]int, len(d.ContentKeys))
	for i := range d.ContentKeys {
		index[strings.ToLower(d.ContentKeys[i].KID)] = i
	}
	return index
}

func periodOf(u *cpix.UsageRule) string {
	for i := range u.Filters {
		if u.Filters[i].Kind == cpix.KeyPeriodFilter {
			id, _ := u.Filters[i].Attr("periodId")
			return id
		}
	}
	return ""
}

// readSecrets holds that each content key has a value, encrypted or not as it
// was asked for, under the scheme that was asked for.
func (s *source) readSecrets(a *answer) *Fault {
	for i, j := range a.at {
		k, kid := &a.doc.ContentKeys[j], a.kids[i]
		switch {
		case k.Secret.IsZero():
			return invalid("it answered key ID %s without a content key", kid)
		case a.sealed && k.Secret.CipherValue == "":
			return invalid("it answered in clear although encrypted content keys were asked for")
		case !a.sealed && k.Secret.PlainValue == "":
			return invalid("it answered with an encrypted content key that nobody asked for")
		case k.Secret.PlainValue != "" && k.Secret.CipherValue != "" || k.Values > 1:
			return invalid("it answered key ID %s with more than one content key", kid)
		}
		if a.v2() {
			switch asked := a.asked.ContentKeys[i].Scheme; k.Scheme {
			case asked:
			case "":
				a.fixes.add(FixScheme)
			default:
				return invalid("it changed the common encryption scheme")
			}
		}
	}
	if !a.sealed && a.doc.Lists.DeliveryData > 0 {
		return invalid("it answered for a recipient that nobody asked for")
	}
	return nil
}

// pairSystems finds the DRMSystem element for each one that was asked for.
func (s *source) pairSystems(a *answer) *Fault {
	want, got := a.asked.DRMSystems, a.doc.DRMSystems
	index := keyIndex(a.asked)
	a.sys = make([]int, len(want))
	used := 0
	for i := range want {
		a.sys[i] = -1
		now := a.kids[index[strings.ToLower(want[i].KID)]].String()
		j := i
		if j >= len(got) || !a.is(&got[j], want[i].SystemID, now, want[i].KID) {
			for j = range got {
				if a.is(&got[j], want[i].SystemID, now, want[i].KID) {
					break
				}
			}
		}
		if j >= len(got) || !a.is(&got[j], want[i].SystemID, now, want[i].KID) {
			a.fixes.add(FixComplete)
			continue
		}
		a.sys[i] = j
		used++
		a.fixes.addIf(FixOrder, i != j)
		a.fixes.addIf(FixGUID, got[j].SystemID != want[i].SystemID || got[j].KID != want[i].KID && got[j].KID != now)
		a.fixes.addIf(FixKIDs, !strings.EqualFold(got[j].KID, now))
	}
	a.fixes.addIf(FixExtra, used < len(got))
	return nil
}

// is reports whether an element is of the system and has the key ID, the one
// that was answered or the one that was asked for.
func (a *answer) is(e *cpix.DRMSystem, system, now, asked string) bool {
	return sameSystem(e.SystemID, system) && (strings.EqualFold(e.KID, now) || strings.EqualFold(e.KID, asked))
}

// readContract holds that key periods and usage rules came back unchanged, or
// not at all (S2-ERR-22).
func (s *source) readContract(a *answer) *Fault {
	if len(a.asked.Periods) > 0 && len(a.doc.Periods) == 0 {
		a.fixes.add(FixPeriods)
	} else if f := a.samePeriods(); f != nil {
		return f
	}
	want, got := a.asked.UsageRules, a.doc.UsageRules
	switch {
	case len(want) == 0:
		a.fixes.addIf(FixExtra, len(got) > 0)
		return nil
	case len(got) == 0:
		a.fixes.add(FixContract)
		return nil
	case len(got) != len(want):
		return invalid("it changed the encryption contract: %d usage rules instead of %d", len(got), len(want))
	}
	index := keyIndex(a.asked)
	taken := make([]bool, len(got))
next:
	for i := range want {
		now := ""
		if key, ok := index[strings.ToLower(want[i].KID)]; ok {
			now = a.kids[key].String()
		}
		for n := range got {
			j := (i + n) % len(got)
			if taken[j] || !strings.EqualFold(got[j].KID, now) && !strings.EqualFold(got[j].KID, want[i].KID) || !a.sameRule(&want[i], &got[j]) {
				continue
			}
			taken[j] = true
			a.fixes.addIf(FixOrder, j != i)
			a.fixes.addIf(FixKIDs, !strings.EqualFold(got[j].KID, now))
			a.fixes.addIf(FixGUID, got[j].KID != want[i].KID && got[j].KID != now)
			continue next
		}
		return invalid("it changed the encryption contract for track type %q", want[i].IntendedTrackType)
	}
	return nil
}

// sameRule compares what a rule says. Of v1's only the key period counts.
func (a *answer) sameRule(want, got *cpix.UsageRule) bool {
	if !a.v2() {
		return periodOf(want) == periodOf(got)
	}
	if want.IntendedTrackType != got.IntendedTrackType || len(want.Filters) != len(got.Filters) {
		return false
	}
	for i := range want.Filters {
		if !sameFilter(&want.Filters[i], &got.Filters[i]) {
			return false
		}
	}
	return true
}

func sameFilter(want, got *cpix.Filter) bool {
	if want.Kind != got.Kind {
		return false
	}
	n := 0
	for name, value := range want.Attrs {
		n++
		if other, ok := got.Attr(name); !ok || other != value {
			return false
		}
	}
	for range got.Attrs {
		n--
	}
	return n == 0
}

func (a *answer) samePeriods() *Fault {
	want, got := a.asked.Periods, a.doc.Periods
	if len(want) != len(got) {
		return invalid("it changed the key periods: %d instead of %d", len(got), len(want))
	}
	for i := range want {
		if want[i] != got[i] {
			return invalid("it changed the key periods")
		}
	}
	return nil
}
