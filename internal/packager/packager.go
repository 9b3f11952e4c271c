// Package packager answers packagers: software that encrypts media and asks
// for the keys of a content by the type of a track, where an encryptor that
// speaks SPEKE brings key IDs of its own. It finds the keys that SPEKE has
// already given to the content, makes those that nobody has asked for yet, and
// writes the answers of three protocols: Widevine's get-content-key,
// Microsoft's AcquirePackagingData, and CPIX documents.
//
// Keys come from the keystore and from nowhere else, under the tenant's KID
// rule, key source, quota and policies; what was asked for is recorded there
// as a binding under the packager's own track type.
package packager

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/tenant"
)

// Keys is what this package needs of the keystore.
type Keys interface {
	Obtain(ctx context.Context, ask *keystore.Ask) ([]keystore.Key, error)
	Lookup(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Key, error)
	Bindings(ctx context.Context, tenant, contentID string) iter.Seq2[[]keystore.Binding, error]
}

// Provider answers packagers. It is safe for concurrent use.
type Provider struct{ keys Keys }

// New returns a provider.
func New(keys Keys) *Provider { return &Provider{keys} }

// Profiles are the names of the protocols in records, where an encryptor's
// SPEKE version stands.
const (
	ProfileWidevine  = "get-content-key"
	ProfilePlayReady = "playready-packaging"
	ProfileCPIX      = "cpix"
)

// Answer is a finished answer with what records want to know of it.
type Answer struct {
	Body      []byte
	ContentID string
	Scheme    contentkey.Scheme
	KIDs      []contentkey.KID // distinct
	Created   int              // how many of them were made for this request
}

// Refused reports what cannot be answered, in words for whoever asked.
type Refused struct {
	Reason string
	Cause  error
}

func (e *Refused) Error() string {
	if e.Cause == nil {
		return e.Reason
	}
	return e.Reason + ": " + e.Cause.Error()
}

func (e *Refused) Unwrap() error { return e.Cause }

// ask is one request, whatever its protocol.
type ask struct {
	contentID string
	scheme    contentkey.Scheme
	profile   string
	tracks    []string     // track types, distinct
	periods   []string     // indexes of key periods; nil for content without
	systems   []drm.System // that will be signaled
	single    bool         // one key stands for all tracks
}

// slot is a track of a key period, which is what packagers ask for.
type slot struct{ track, period string }

// granted is the key of a slot.
type granted struct {
	slot
	keystore.Key
}

// Format hides the key.
func (g granted) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(%s of period %q: key ID %s)", g.track, g.period, g.KID)
}

// slots lists what is asked for, periods first. Tracks that the tenant refuses
// are left out: packagers ask for every type that exists, and mind only when
// one is missing that they meet.
func (a *ask) slots(t *tenant.Tenant) []slot {
	periods := a.periods
	if periods == nil {
		periods = []string{""}
	}
	var all []slot
	for _, period := range periods {
		for _, track := range a.tracks {
			if !slices.Contains(t.Policy.Contract.RefuseTracks, track) {
				all = append(all, slot{track, period})
			}
		}
	}
	return all
}

// obtain returns the keys of all slots, in their order, and how many were
// made. The same slot of the same content and scheme has the same key for ever
// (D-511), see [Provider.choose].
func (p *Provider) obtain(ctx context.Context, t *tenant.Tenant, a *ask) ([]granted, int, error) {
	if t.Upstream != nil { // keys of ours beside an upstream's would open nothing
		return nil, 0, &Refused{"the tenant's keys come from an upstream key provider, for SPEKE requests only", nil}
	}
	for _, s := range a.systems {
		if c, ok := s.(drm.ContentChecker); ok {
			if err := c.CheckContent(a.contentID); err != nil {
				return nil, 0, &Refused{"unsupported content ID for " + s.Name(), err}
			}
		}
	}
	slots := a.slots(t)
	if len(slots) == 0 {
		return nil, 0, &Refused{"the tenant serves none of these tracks", nil}
	}
	kids, err := p.choose(ctx, t, a, slots)
	if err != nil {
		return nil, 0, err
	}
	q := &keystore.Ask{
		Tenant: t.ID, ContentID: a.contentID, Profile: a.profile, Scheme: a.scheme,
		Source: t.Source, Reuse: t.Reuse, Admit: t.NewKeys,
	}
	var systems []string
	for _, s := range a.systems {
		systems = append(systems, s.ID().String())
	}
	at := make(map[contentkey.KID]int, len(kids)) // in q.Wants
	for i, kid := range kids {
		j, ok := at[kid]
		if !ok {
			j = len(q.Wants)
			at[kid] = j
			q.Wants = append(q.Wants, keystore.Want{Requested: kid, KID: kid, Systems: systems})
		}
		w := &q.Wants[j]
		w.Uses = append(w.Uses, keystore.Use{Track: slots[i].track, Period: slots[i].keyPeriod()})
	}
	keys, err := p.keys.Obtain(ctx, q)
	if err != nil {
		return nil, 0, refusal(err)
	}
	out := make([]granted, len(slots))
	created := 0
	for i := range keys {
		if keys[i].Created {
			created++
		}
	}
	for i, s := range slots {
		out[i] = granted{s, keys[at[kids[i]]]}
	}
	return out, created, nil
}

// refusal names what the keystore refuses by policy.
func refusal(err error) error {
	if e, ok := errors.AsType[*keystore.ReuseError](err); ok {
		return &Refused{e.Error(), nil}
	}
	if errors.Is(err, keystore.ErrDeleted) {
		return &Refused{"a content key was deleted", err}
	}
	return err
}

func (s slot) keyPeriod() contentkey.Period { return contentkey.Period{Index: s.period} }

// own is the key ID of a slot that no encryptor has named: the tenant's KID
// rule says it, or where that leaves key IDs to encryptors, the rule
// uuidv5-scheme. So whoever asks first, and however many at once, the key ID
// is the same.
func (a *ask) own(t *tenant.Tenant, s slot) contentkey.KID {
	rule := t.KIDRule
	if rule.IsAsAsked() {
		rule = kidrule.UUIDv5Scheme
	}
	return rule.KID(&kidrule.Input{
		Tenant: t.ID, ContentID: a.contentID, Period: s.keyPeriod().Name(), Track: s.track, Scheme: a.scheme,
	})
}

// choose finds the key ID of each slot. A slot that was answered under its own
// key ID keeps it, also when an encryptor came later. Otherwise, of the
// bindings under the request's scheme and period, the first label of the track
// map counts that there is one for, and of several key IDs the one that was
// asked for first. A slot that nothing answers gets its own key ID.
func (p *Provider) choose(ctx context.Context, t *tenant.Tenant, a *ask, slots []slot) ([]contentkey.KID, error) {
	own := make([]contentkey.KID, len(slots))
	for i, s := range slots {
		own[i] = a.own(t, s)
	}
	// A packager that asks again is answered from memory.
	switch _, err := p.keys.Lookup(ctx, t.ID, own); {
	case err == nil:
		return own, nil
	case !errors.Is(err, keystore.ErrNotFound):
		return nil, refusal(err)
	}
	best := make([]candidate, len(slots))
	others := false // keys that no slot takes
	for page, err := range p.keys.Bindings(ctx, t.ID, a.contentID) {
		if err != nil {
			return nil, fmt.Errorf("bindings of content %q: %w", a.contentID, err)
		}
		for i := range page {
			b := &page[i]
			if b.Scheme != a.scheme && b.Scheme != 0 {
				continue
			}
			others = others || a.fits(b)
			for j, s := range slots {
				if c, ok := judge(t.TrackMap, s, b, own[j]); ok && c.before(&best[j]) {
					best[j] = c
				}
			}
		}
	}
	kids := own
	for i := range best {
		if best[i].rank > 0 {
			kids[i] = best[i].kid
		} else if a.single && others {
			return nil, &Refused{errSeveral, nil}
		}
	}
	return kids, nil
}

// candidate is a key ID that could answer a slot.
type candidate struct {
	rank  int // the smaller the better, from 1; 0 for none
	since int64
	kid   contentkey.KID
}

func (c *candidate) before(d *candidate) bool {
	switch {
	case d.rank == 0 || c.rank != d.rank:
		return d.rank == 0 || c.rank < d.rank
	case c.since != d.since:
		return c.since < d.since
	default:
		return slices.Compare(c.kid[:], d.kid[:]) < 0
	}
}

// judge ranks a binding for a slot. Labels that are equal come before labels
// of which one part fits, and for content without periods a binding without
// one before the constant period 0 of live services (S2-SEQ-15).
func judge(m tenant.TrackMap, s slot, b *keystore.Binding, own contentkey.KID) (candidate, bool) {
	c := candidate{since: b.FirstSeen.UnixMicro(), kid: b.KID}
	constant := s.period == "" && b.Period.Name() == "0"
	if b.Period.Name() != s.period && !constant {
		return c, false
	}
	for i, label := range m.Labels(s.track) {
		if !m.Matches(b.Track, label) {
			continue
		}
		c.rank = 4*i + 2
		if b.Track != label {
			c.rank += 2
		}
		if constant {
			c.rank++
		}
		if i == 0 && b.Track == label && b.KID == own {
			c.rank = 1
		}
		return c, true
	}
	return c, false
}

// finish collects what records want to know.
func finish(a *ask, keys []granted, created int, body []byte) *Answer {
	out := &Answer{Body: body, ContentID: a.contentID, Scheme: a.scheme, Created: created}
	for i := range keys {
		if !slices.Contains(out.KIDs, keys[i].KID) {
			out.KIDs = append(out.KIDs, keys[i].KID)
		}
	}
	return out
}

// track is what systems signal.
func (a *ask) track(k *keystore.Key) *drm.Track {
	return &drm.Track{ContentID: a.contentID, KID: k.KID, Key: k.Value, IV: k.IV, Scheme: a.scheme}
}

// system finds one of the systems that a tenant may use, as SPEKE v2 signals
// it.
func system(t *tenant.Tenant, id drm.SystemID) drm.System {
	for _, s := range t.Policy.V2 {
		if s.ID() == id {
			return s
		}
	}
	return nil
}

// index is how a key period's number is written.
func index(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
