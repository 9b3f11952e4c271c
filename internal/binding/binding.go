// Package binding tells others which content keys there are and what they are
// for: the service that decides who may play what, without being in the way
// of an encryptor. It reads what the keystore has recorded, which is there the
// moment an encryptor has its answer, whichever key provider made the key; it
// never reads a key.
//
// Others ask ([API]), follow the feed ([API] too), or have it delivered
// ([Webhooks]).
package binding

import (
	"context"
	"iter"
	"time"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
)

// Store is what this package needs of the keystore's operator's side.
type Store interface {
	PageBindings(ctx context.Context, tenant string, f keystore.BindingFilter, after string, limit int) ([]keystore.Binding, string, error)
	BindingPages(ctx context.Context, tenant string, f keystore.BindingFilter) iter.Seq2[[]keystore.Binding, error]
	Records(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Record, error)
}

// Binding is a binding as others read it.
type Binding struct {
	ContentID string            `json:"content_id"`
	KID       contentkey.KID    `json:"kid"`           // as answered
	Requested contentkey.KID    `json:"requested_kid"` // differs under a KID override
	Track     string            `json:"track,omitempty"`
	Scheme    contentkey.Scheme `json:"scheme,omitzero"`
	Period    *Period           `json:"period,omitempty"`
	Systems   []System          `json:"drm_systems,omitempty"`
	SPEKE     string            `json:"speke,omitempty"` // version of the latest request
	IV        string            `json:"iv,omitempty"`    // that the encryptor brought, base64
	FirstSeen time.Time         `json:"first_seen"`
	LastSeen  time.Time         `json:"last_seen"`
}

// Period is a key period as the encryptor named it, word for word.
type Period struct {
	ID    string `json:"id,omitempty"`
	Index string `json:"index,omitempty"`
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
}

// System is a DRM system that signaling was asked for.
type System struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

func newBinding(b *keystore.Binding) Binding {
	out := Binding{
		ContentID: b.ContentID, KID: b.KID, Requested: b.Requested, Track: b.Track, Scheme: b.Scheme,
		Period: newPeriod(b.Period), SPEKE: b.Profile, IV: b.IV, FirstSeen: b.FirstSeen.UTC(), LastSeen: b.LastSeen.UTC(),
	}
	for _, id := range b.Systems {
		s := System{ID: id}
		if parsed, err := drm.ParseSystemID(id); err == nil {
			s.Name = drm.SystemName(parsed)
		}
		out.Systems = append(out.Systems, s)
	}
	return out
}

func newPeriod(p contentkey.Period) *Period {
	if p.IsZero() {
		return nil
	}
	return &Period{ID: p.ID, Index: p.Index, Start: p.Start, End: p.End}
}

// Filter selects bindings of a content or key; members with a zero value
// select all.
type Filter struct {
	Track  string
	Scheme contentkey.Scheme
	Period string         // ID, index or start
	KID    contentkey.KID // requested or answered

	// Since and Until select bindings that were asked for in that time:
	// last seen at Since or later, first seen before Until.
	Since, Until time.Time
}

func (f *Filter) matches(b *keystore.Binding) bool {
	switch p := &b.Period; {
	case f.Track != "" && f.Track != b.Track,
		f.Scheme != 0 && f.Scheme != b.Scheme,
		f.Period != "" && f.Period != p.ID && f.Period != p.Index && f.Period != p.Start,
		f.KID != contentkey.KID{} && f.KID != b.KID && f.KID != b.Requested,
		!f.Since.IsZero() && b.LastSeen.Before(f.Since),
		!f.Until.IsZero() && !b.FirstSeen.Before(f.Until):
		return false
	}
	return true
}
