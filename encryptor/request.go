package encryptor

import (
	"fmt"
	"net/http"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/xmltree"
)

// Request is a key request that can be sent and whose answers can be
// checked.
type Request struct {
	Header    http.Header // Content-Type and, in v2, X-Speke-Version
	Body      []byte      // the CPIX document
	Version   Version
	ContentID string
	Keys      []Key // what is asked for: no values, signaling without content

	doc        *cpix.Document
	tree       *xmltree.Doc
	recipients []*Recipient
}

// Build writes the request. The error is an [*OptionError].
func (o *Options) Build() (*Request, error) {
	p, err := o.plan()
	if err != nil {
		return nil, err
	}
	h := http.Header{"Content-Type": {contentType}}
	if p.version != V10 {
		h.Set(headerVersion, string(p.version))
	}
	r, err := ReadRequest(h, p.document(), o.Recipients...)
	if err != nil { // a defect of this package
		return nil, fmt.Errorf("request for content %q: %w", p.contentID, err)
	}
	return r, nil
}

// ReadRequest takes a request that somebody else wrote, so that it can be
// sent on and its answers be checked. Of the headers only the content type and
// the SPEKE version are kept; without a version the request is SPEKE v1
// (SX-VER-01). Recipients are needed to open encrypted content keys, not to
// check the rest. The body is not judged beyond being a CPIX document.
func ReadRequest(header http.Header, body []byte, recipients ...*Recipient) (*Request, error) {
	doc, err := cpix.Parse(body)
	if err != nil {
		return nil, err
	}
	tree, err := xmltree.Parse(string(body))
	if err != nil {
		return nil, err
	}
	r := &Request{
		Header: http.Header{"Content-Type": {contentType}}, Body: body, Version: V10, ContentID: doc.ID,
		doc: doc, tree: tree, recipients: recipients,
	}
	if v := Version(header.Get(headerVersion)); v != "" && v != V10 {
		r.Version, r.ContentID = v, doc.ContentID
		r.Header.Set(headerVersion, string(v))
	}
	r.Keys = readKeys(doc)
	return r, nil
}

// v2 reports whether the rules of SPEKE v2 hold.
func (r *Request) v2() bool { return r.Version != V10 }

// encrypted reports whether the content keys must come encrypted (SX-CKE-01).
func (r *Request) encrypted() bool { return r.doc.Lists.DeliveryData > 0 }

// Key is a content key as an encryptor sees it.
type Key struct {
	KID        contentkey.KID
	Requested  contentkey.KID // differs from KID under an override
	Uses       []Use          // tracks and periods that it is for
	Scheme     string         // commonEncryptionScheme; "" in v1
	ExplicitIV string         // base64, as it was written; "" for none
	HDCPLevel  string         // HLSHDCPLevel (2.1)
	Systems    []Signaling    // in document order

	Value    contentkey.Value
	HasValue bool // false in requests, and for keys that could not be read
}

// Format hides the key, also from a verb that does not fit.
func (k Key) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(content key %s, scheme %q, %d uses, %d systems)", k.KID, k.Scheme, len(k.Uses), len(k.Systems))
}

// Use is a track and period that a content key is for.
type Use struct {
	Track  string // intendedTrackType; "" in v1
	Period contentkey.Period
}

// Signaling is what came for one DRM system and content key. Members are nil
// or empty when they were not asked for, not given, or not readable.
type Signaling struct {
	System drm.SystemID
	Name   string // SystemLabel of the system

	PSSH              []byte // the pssh box
	ContentProtection string // children of a DASH ContentProtection element
	Robustness        string // ContentProtectionData@robustness (2.1)
	HLSMedia          string // #EXT-X-KEY line
	HLSMaster         string // #EXT-X-SESSION-KEY line
	Smooth            []byte // PlayReady Object for Smooth Streaming
	KeyURI            string // EXT-X-KEY URI (v1)
	KeyFormat         string // KEYFORMAT (v1)
	KeyFormatVersions string // KEYFORMATVERSIONS (v1)
	AllowedCPC        string // DRMSystem@HLSAllowedCPC (2.1)
}

// Signaled names what came, in short words for people.
func (s *Signaling) Signaled() []string {
	var out []string
	for _, f := range [...]struct {
		is   bool
		name string
	}{
		{s.PSSH != nil, "PSSH"},
		{s.ContentProtection != "", "DASH"},
		{s.HLSMedia != "", "HLS media"},
		{s.HLSMaster != "", "HLS master"},
		{s.Smooth != nil, "Smooth"},
		{s.KeyURI != "", "key URI"},
	} {
		if f.is {
			out = append(out, f.name)
		}
	}
	return out
}

// readKeys reads the content keys of a document with their signaling, but not
// their values. Parts whose key ID is unknown or malformed are left out.
func readKeys(doc *cpix.Document) []Key {
	keys := make([]Key, len(doc.ContentKeys))
	index := make(map[contentkey.KID]*Key, len(keys))
	for i := range doc.ContentKeys {
		e, k := &doc.ContentKeys[i], &keys[i]
		k.Scheme, k.ExplicitIV, k.HDCPLevel = e.Scheme, e.ExplicitIV, e.HDCPLevel
		kid, err := contentkey.ParseKID(e.KID)
		if err != nil {
			continue
		}
		k.KID, k.Requested = kid, kid
		if index[kid] == nil {
			index[kid] = k
		}
	}
	find := func(text string) *Key {
		kid, err := contentkey.ParseKID(text)
		if err != nil {
			return nil
		}
		return index[kid]
	}
	periods := readPeriods(doc)
	for i := range doc.UsageRules {
		u := &doc.UsageRules[i]
		if k := find(u.KID); k != nil {
			k.Uses = append(k.Uses, readUses(u, periods)...)
		}
	}
	for i := range doc.DRMSystems {
		e := &doc.DRMSystems[i]
		if k := find(e.KID); k != nil {
			k.Systems = append(k.Systems, readSignaling(e))
		}
	}
	return keys
}

func readPeriods(doc *cpix.Document) map[string]contentkey.Period {
	periods := make(map[string]contentkey.Period, len(doc.Periods))
	for i := range doc.Periods {
		d := &doc.Periods[i]
		p := contentkey.Period{ID: d.ID, Index: d.Index, Start: d.Start, End: d.End}
		if d.Start == "" && d.End == "" {
			p.Start, p.End = d.StartOffset, d.EndOffset
		}
		periods[d.ID] = p
	}
	return periods
}

// readUses reads a usage rule. One that names no period is for none; a
// period that is not declared still has its ID.
func readUses(u *cpix.UsageRule, periods map[string]contentkey.Period) []Use {
	var out []Use
	for i := range u.Filters {
		if u.Filters[i].Kind != cpix.KeyPeriodFilter {
			continue
		}
		id, _ := u.Filters[i].Attr("periodId")
		p, ok := periods[id]
		if !ok {
			p = contentkey.Period{ID: id}
		}
		out = append(out, Use{Track: u.IntendedTrackType, Period: p})
	}
	if out == nil {
		out = []Use{{Track: u.IntendedTrackType}}
	}
	return out
}

// readSignaling decodes the elements of one DRMSystem.
func readSignaling(e *cpix.DRMSystem) Signaling {
	out := Signaling{Name: e.SystemID, AllowedCPC: e.AllowedCPC}
	if id, err := drm.ParseSystemID(e.SystemID); err == nil {
		out.System, out.Name = id, SystemLabel(id)
	}
	for i := range e.Signals {
		sig := &e.Signals[i]
		b, err := sig.Value()
		if err != nil || len(b) == 0 {
			continue
		}
		switch sig.Kind {
		case cpix.PSSH:
			out.PSSH = b
		case cpix.ContentProtectionData:
			out.ContentProtection, out.Robustness = string(b), sig.Robustness
		case cpix.HLSSignalingData:
			if playlist(sig.Playlist) == "master" {
				out.HLSMaster = string(b)
			} else {
				out.HLSMedia = string(b)
			}
		case cpix.SmoothProtectionHeader, cpix.ProtectionHeader:
			out.Smooth = b
		case cpix.URIExtXKey:
			out.KeyURI = string(b)
		case cpix.KeyFormat:
			out.KeyFormat = string(b)
		case cpix.KeyFormatVersions:
			out.KeyFormatVersions = string(b)
		}
	}
	return out
}

// playlist is the older name of a playlist kind (S2-PAY-45, CPIX-RD-08).
func playlist(name string) string {
	switch name {
	case "":
		return "media"
	case "multiVariant":
		return "master"
	}
	return name
}
