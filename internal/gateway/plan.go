package gateway

import (
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// part is what is asked of an upstream in one exchange: all of a request, or
// the content keys of it that go into one document.
type part struct {
	question
	keys     []int          // of the request
	systems  []int          // DRMSystem elements of the request, as they stand in the document
	asked    *cpix.Document // the document
	verbatim bool           // it is the request's own
	sealed   bool           // encrypted content keys are asked for
}

// plan decides what is asked of an upstream for a request whose content keys
// are to have the given key IDs. The document of the request is sent as it is
// when the upstream can make something of it.
func (s *source) plan(req *speke.Request, kids []contentkey.KID) ([]part, *Fault) {
	set, doc := s.set, req.Document()
	sealed := set.CEK == upstream.CEKReEncrypt || req.Encrypted() && set.CEK == upstream.CEKPass
	profile := req.Profile
	switch set.SPEKE {
	case "1.0":
		profile = speke.V10
	case "2.0":
		profile = speke.V20
	case "2.1":
		profile = speke.V21
	case "up-to-2.0":
		profile = min(profile, speke.V20)
	case "2.0-if-sealed":
		if profile = min(profile, speke.V20); !sealed {
			profile = speke.V10
		}
	}
	if f := s.refuse(req, profile); f != nil {
		return nil, f
	}
	w := writer{req: req, profile: profile, kids: kids, tracks: set.Tracks, periods: set.Periods == upstream.PeriodsPass}
	if sealed && set.CEK == upstream.CEKPass {
		w.recipients = doc.DeliveryData
	} else if sealed {
		w.recipients = []cpix.DeliveryData{{ID: "spekeasy", Certificates: []string{s.ownText}}}
	}
	verbatim := profile == req.Profile && set.Method == "POST" && (w.periods || len(doc.Periods) == 0) &&
		sealed == req.Encrypted() && set.CEK != upstream.CEKReEncrypt && !w.renames()
	fanOut := len(req.Keys) > 1 && (*set.FanOut || profile != req.Profile && (profile == speke.V10 || req.Profile == speke.V10))
	if fanOut && len(w.recipients) > 0 && set.CEK == upstream.CEKPass {
		return nil, unsupported("it is asked for one content key at a time, and then cannot encrypt several into one document; cek terminate or re-encrypt can")
	}
	if !fanOut {
		p := part{keys: count(len(req.Keys)), verbatim: verbatim}
		return s.fill([]part{p}, &w, doc)
	}
	parts := make([]part, len(req.Keys))
	for i := range parts {
		parts[i].keys = []int{i}
	}
	return s.fill(parts, &w, doc)
}

// refuse says what the upstream's settings rule out.
func (s *source) refuse(req *speke.Request, profile speke.Profile) *Fault {
	doc := req.Document()
	switch {
	case req.Encrypted() && s.set.CEK == upstream.CEKRefuse:
		return unsupported("it does not encrypt content keys; take the certificate out of the encryptor's settings")
	case len(doc.Periods) > 0 && s.set.Periods == upstream.PeriodsRefuse:
		return unsupported("it does not know key periods; switch key rotation off")
	case profile < req.Profile && s.set.Periods == upstream.PeriodsPass:
		for i := range doc.Periods {
			if doc.Periods[i].Index == "" {
				return unsupported("it knows key periods by their index, which the encryptor does not send; set its period timing to one with an index")
			}
		}
	}
	return nil
}

// fill gives each part its document.
func (s *source) fill(parts []part, w *writer, doc *cpix.Document) ([]part, *Fault) {
	for i := range parts {
		p := &parts[i]
		p.profile, p.contentID = w.profile, w.req.ContentID
		p.kid = w.kids[p.keys[0]]
		p.systems = make([]int, 0, len(w.req.Systems))
		for j := range w.req.Systems {
			if len(parts) == 1 || w.req.Systems[j].Key == p.keys[0] {
				p.systems = append(p.systems, j)
			}
		}
		if p.verbatim {
			p.asked, p.body, p.sealed = doc, doc.Source(), w.req.Encrypted()
			continue
		}
		p.body, p.sealed = w.document(p), len(w.recipients) > 0
		var err error
		if p.asked, err = cpix.Parse([]byte(p.body)); err != nil {
			return nil, unsupported("the request cannot be put into its words")
		}
	}
	return parts, nil
}

func count(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// renames reports whether key IDs or track types are other ones upstream.
func (w *writer) renames() bool {
	for i := range w.kids {
		if w.kids[i] != w.req.Keys[i].KID {
			return true
		}
	}
	if len(w.tracks) == 0 || w.profile == speke.V10 {
		return false
	}
	rules := w.req.Document().UsageRules
	for i := range rules {
		if to, ok := w.tracks[rules[i].IntendedTrackType]; ok && to != rules[i].IntendedTrackType {
			return true
		}
	}
	return false
}

// systemFor is the ID under which a system is asked for: HLS AES-128 has one
// in each generation.
func systemFor(id drm.SystemID, p speke.Profile) string {
	v1, v2 := drm.HLSAES128V1{}.ID(), drm.HLSAES128{}.ID()
	switch {
	case id == v2 && p == speke.V10:
		id = v1
	case id == v1 && p != speke.V10:
		id = v2
	}
	return id.String()
}

// sameSystem reports whether a text is the ID of a system, as it is spelled
// in either generation.
func sameSystem(text, id string) bool { return text == id || strings.EqualFold(text, id) }
