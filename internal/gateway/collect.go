package gateway

import (
	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// harvest is what the upstream's answers give for a whole request.
type harvest struct {
	grants    []speke.Grant    // by content key; without values when they are sealed
	signaling []drm.Signaling  // by DRM system
	kids      []contentkey.KID // by content key
	sealed    *cpix.Document   // the answer, when its content keys are encrypted to the encryptor
	secrets   []int            // where they stand in it, by content key
	body      []byte           // the answer, when it can go down as it came
	agent     string           // who the upstream says it is
	fixes     fixes
	values    bool // whether the content keys are known
}

// collect puts together what the parts of a request were answered.
func (s *source) collect(t *tenant.Tenant, req *speke.Request, answers []*answer) (*harvest, *Fault) {
	h := &harvest{
		grants: make([]speke.Grant, len(req.Keys)), signaling: make([]drm.Signaling, len(req.Systems)),
		kids: make([]contentkey.KID, len(req.Keys)), secrets: make([]int, len(req.Keys)), values: true,
	}
	for _, a := range answers {
		if f := s.collectKeys(req, a, h); f != nil {
			return nil, f
		}
	}
	for i := range h.kids {
		for j := range i {
			if h.kids[i] == h.kids[j] {
				return nil, invalid("it answered two content keys of the request with key ID %s", h.kids[i])
			}
		}
	}
	for _, a := range answers {
		if f := s.collectSystems(t, req, a, h); f != nil {
			return nil, f
		}
		h.fixes |= a.fixes
		h.agent = a.agent
	}
	if h.fixes != 0 && !*s.set.Fixups {
		return nil, invalid("its answer would need repairs, which are switched off: %s", h.fixes)
	}
	if a := answers[0]; len(answers) == 1 && a.verbatim && h.fixes == 0 {
		h.body = a.body
	}
	return h, nil
}

// collectKeys reads the content keys and IVs of one answer.
func (s *source) collectKeys(req *speke.Request, a *answer, h *harvest) *Fault {
	var opener *cpix.Opener
	if a.sealed {
		if s.set.CEK == upstream.CEKReEncrypt {
			var err error
			if opener, err = a.doc.Opener(s.own.Key, s.own.Certificate); err != nil {
				return invalid("its content keys do not open with our certificate's key")
			}
		} else {
			h.sealed, h.values = a.doc, false
			if f := sealedWhole(a); f != nil {
				return f
			}
		}
	}
	for n, i := range a.keys {
		k, g := &a.doc.ContentKeys[a.at[n]], &h.grants[i]
		h.kids[i], h.secrets[i] = a.kids[n], a.at[n]
		g.KID, g.HDCPLevel = a.kids[n], k.HDCPLevel
		var err error
		switch {
		case opener != nil:
			if g.Value, err = opener.Open(&k.Secret); err != nil {
				return invalid("the content key of key ID %s does not open", g.KID)
			}
		case !a.sealed:
			if g.Value, err = k.Secret.Plain(); err != nil {
				return invalid("the content key of key ID %s is not 16 bytes", g.KID)
			}
		}
		if g.Value == (contentkey.Value{}) && h.values {
			return invalid("the content key of key ID %s is all zeros", g.KID)
		}
		if f := s.collectIV(&req.Keys[i], k, a, g); f != nil {
			return f
		}
	}
	return nil
}

// sealedWhole holds that there is a document key and a MAC key for each
// recipient; nobody but the encryptor can tell whether they are right.
func sealedWhole(a *answer) *Fault {
	if len(a.doc.DeliveryData) != len(a.asked.DeliveryData) {
		return invalid("it answered for %d recipients where %d were asked for", len(a.doc.DeliveryData), len(a.asked.DeliveryData))
	}
	for i := range a.doc.DeliveryData {
		d := &a.doc.DeliveryData[i]
		if d.DocumentKey == nil || d.DocumentKey.CipherValue == "" || d.MACKey == nil || d.MACKey.CipherValue == "" {
			return invalid("it answered encrypted content keys without the keys to them")
		}
	}
	return nil
}

// collectIV decides the IV of a content key: the request's own, the
// upstream's, or the one that the operator knows it to use.
func (s *source) collectIV(asked *speke.Key, k *cpix.ContentKey, a *answer, g *speke.Grant) *Fault {
	got, err := contentkey.ParseIV(k.ExplicitIV)
	has := k.ExplicitIV != ""
	switch {
	case has && err != nil:
		return invalid("the explicitIV of key ID %s is not 16 bytes", g.KID)
	case asked.HasIV:
		g.IV = asked.IV
		a.fixes.addIf(FixIV, a.v2() && got != asked.IV)
	case has:
		g.IV = got
	case !s.iv.IsZero():
		g.IV = s.iv
		a.fixes.addIf(FixIV, asked.AddIV)
	default:
		g.NoIV = true
	}
	return nil
}

// collectSystems reads the signaling of one answer and completes it.
func (s *source) collectSystems(t *tenant.Tenant, req *speke.Request, a *answer, h *harvest) *Fault {
	for n, i := range a.systems {
		sys := &req.Systems[i]
		g := &h.grants[sys.Key]
		c := completer{
			a: a, want: sys.Want, hasKey: h.values, drm: &t.DRM, blind: a.profile == speke.V10 && req.Profile != speke.V10,
			track: &drm.Track{ContentID: req.ContentID, KID: g.KID, Key: g.Value, IV: g.IV, Scheme: req.Scheme},
		}
		if j := a.sys[n]; j >= 0 {
			asked := &a.asked.DRMSystems[n]
			if err := a.readRaw(asked, &a.doc.DRMSystems[j], &c.raw); err != nil {
				return invalid("it answered for %s and key ID %s %s", sys.Name(), g.KID, err)
			}
			a.fixes.addIf(FixComplete, a.v2() && sys.Want&drm.HLS != 0 && (c.media == nil) != (c.master == nil) && bothPlaylists(asked))
		}
		var err error
		if h.signaling[i], err = c.complete(sys); err != nil {
			return invalid("it answered for %s and key ID %s %s", sys.Name(), g.KID, err)
		}
		if lacks(req, sys, &h.signaling[i]) {
			return invalid("it answered without the signaling of %s for key ID %s", sys.Name(), g.KID)
		}
	}
	return nil
}

func bothPlaylists(asked *cpix.DRMSystem) bool {
	n := 0
	for i := range asked.Signals {
		if asked.Signals[i].Kind == cpix.HLSSignalingData {
			n++
		}
	}
	return n > 1
}

// signal is one value of signaling.
type signal struct {
	field drm.Fields
	value *[]byte
}

// signals are the values that there can be.
func signals(s *drm.Signaling) [7]signal {
	return [...]signal{
		{drm.PSSH, &s.PSSH}, {drm.ContentProtection, &s.ContentProtection}, {drm.HLS, &s.HLS}, {drm.Smooth, &s.Smooth},
		{drm.KeyURI, &s.KeyURI}, {drm.KeyFormat, &s.KeyFormat}, {drm.KeyFormatVersions, &s.KeyFormatVersions},
	}
}

// lacks reports whether a system's signaling is not enough for a request. In
// v1 a part of what was asked for is: the rest is left out (S1-PAY-11).
func lacks(req *speke.Request, sys *speke.System, s *drm.Signaling) bool {
	missing := sys.Want
	for _, v := range signals(s) {
		if len(*v.value) > 0 {
			missing &^= v.field
		}
	}
	return missing != 0 && (req.Profile != speke.V10 || missing == sys.Want)
}
