package encryptor

import (
	"slices"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
)

// place is a DRMSystem element of the answer, as the checks of its values see
// it.
type place struct {
	name   string // for messages
	system string // UUID in lower case
	kid    contentkey.KID
	scheme string // that was asked for: cenc, cbcs, cbc1, cens; "" in v1
	iv     string // explicitIV of the answer
	values map[signalKey]value
}

// signalKey names a signaling element within its DRMSystem.
type signalKey struct {
	kind     cpix.Kind
	playlist string // of HLSSignalingData: media or master
}

func keyOf(s *cpix.Signal) signalKey {
	if s.Kind == cpix.HLSSignalingData {
		return signalKey{s.Kind, playlist(s.Playlist)}
	}
	return signalKey{kind: s.Kind}
}

// String names the element for messages.
func (k signalKey) String() string {
	if k.playlist != "" {
		return k.kind.String() + " " + k.playlist
	}
	return k.kind.String()
}

// value is what a signaling element holds.
type value struct {
	text  string // base64 as it was written
	bytes []byte // nil if the text is none
}

// systems checks the signaling of each DRMSystem.
func (c *checker) systems() {
	type pair struct{ asked, got *Key }
	keys := make(map[contentkey.KID]pair, len(c.Keys))
	for i, j := range c.keys {
		if j >= 0 {
			keys[c.Keys[j].KID] = pair{&c.request.Keys[i], &c.Keys[j]}
		}
	}
	for i, j := range c.systemPairs {
		if j < 0 {
			continue
		}
		r, a := &c.request.doc.DRMSystems[i], &c.doc.DRMSystems[j]
		p := &place{system: strings.ToLower(r.SystemID), values: make(map[signalKey]value, len(a.Signals))}
		kid, err := contentkey.ParseKID(a.KID)
		if err != nil {
			continue // reported with the key ID
		}
		p.kid = kid
		p.name = systemName(r.SystemID) + " for key ID " + kid.String()
		if k, ok := keys[kid]; ok {
			p.iv = k.got.ExplicitIV
			if c.v2 {
				p.scheme = cencName(k.asked.Scheme)
			}
		}
		c.readValues(p, a)
		c.unfilled(p, r)
		c.judge(p)
	}
}

func systemName(id string) string {
	if s, ok := findSystem(strings.ToLower(id)); ok {
		return s.label
	}
	return quote(id)
}

// readValues decodes the elements; what is not base64 is no valid value.
func (c *checker) readValues(p *place, a *cpix.DRMSystem) {
	for i := range a.Signals {
		s := &a.Signals[i]
		key := keyOf(s)
		if _, twice := p.values[key]; twice {
			continue // reported as an added element
		}
		v := value{text: s.Text()}
		if v.text != "" {
			var err error
			if v.bytes, err = s.Value(); err != nil {
				c.add(c.by("S1-PAY-08", "S2-ERR-20"), "%s: %s is not base64", p.name, key)
			}
		}
		p.values[key] = v
	}
}

// v1Only reports whether an element is gone in SPEKE v2 (S2-PAY-06).
func v1Only(k cpix.Kind) bool {
	return k == cpix.URIExtXKey || k == cpix.KeyFormat || k == cpix.KeyFormatVersions || k == cpix.ProtectionHeader
}

// hlsOnly reports whether a system is signaled in HLS playlists alone
// (S2-PAY-41).
func (p *place) hlsOnly() bool {
	return p.system == fairPlayID || p.system == aes128ID || p.system == sampleAESID
}

// neededV1 are the elements that a system must fill in v1 if they were asked
// for. The key format of AES-128 may be left out, as identity is the default
// (D-21).
var neededV1 = map[string][]cpix.Kind{
	widevineID:  {cpix.PSSH, cpix.ContentProtectionData},
	playReadyID: {cpix.PSSH, cpix.ContentProtectionData, cpix.ProtectionHeader},
	fairPlayID:  {cpix.URIExtXKey, cpix.KeyFormat, cpix.KeyFormatVersions},
	aes128V1ID:  {cpix.URIExtXKey},
	commonID:    {cpix.PSSH},
}

// unfilled holds S2-ERR-20: every placeholder of the request has a value in
// the answer, apart from those that the system has no value for (S1-PAY-11,
// S2-PAY-41).
func (c *checker) unfilled(p *place, r *cpix.DRMSystem) {
	filled := 0
	for i := range r.Signals {
		key := keyOf(&r.Signals[i])
		v, present := p.values[key]
		if v.text != "" {
			filled++
			continue
		}
		if !c.v2 {
			if slices.Contains(neededV1[p.system], key.kind) {
				c.add("S1-PAY-08", "%s: %s has no value", p.name, key)
			}
			continue
		}
		if v1Only(key.kind) {
			continue
		}
		if p.hlsOnly() && key.kind != cpix.HLSSignalingData {
			if present {
				c.add("S2-PAY-41", "%s: %s is left empty instead of removed", p.name, key)
			}
			continue
		}
		c.add("S2-ERR-20", "%s: %s has no value", p.name, key)
	}
	if _, known := neededV1[p.system]; !c.v2 && !known && filled == 0 && len(r.Signals) > 0 {
		c.add("S1-PAY-08", "%s: nothing has a value", p.name)
	}
}

// judge checks the values of one system against each other, its key ID and
// its scheme.
func (c *checker) judge(p *place) {
	if c.v2 && p.hlsOnly() {
		for _, kind := range [...]cpix.Kind{cpix.PSSH, cpix.ContentProtectionData, cpix.SmoothProtectionHeader} {
			if v := p.values[signalKey{kind: kind}]; v.text != "" {
				rule := "S2-PAY-41"
				if p.system == fairPlayID {
					rule = "S2-FP-01"
				}
				c.add(rule, "%s: %s has a value", p.name, kind)
			}
		}
	}
	if v := p.values[signalKey{kind: cpix.PSSH}]; v.bytes != nil && !p.hlsOnly() {
		c.box(p, "PSSH", v.bytes)
	}
	if v := p.values[signalKey{kind: cpix.ContentProtectionData}]; v.bytes != nil && !p.hlsOnly() {
		c.protection(p, string(v.bytes))
	}
	for _, kind := range [...]cpix.Kind{cpix.SmoothProtectionHeader, cpix.ProtectionHeader} {
		if v := p.values[signalKey{kind: kind}]; v.bytes != nil && p.system == playReadyID {
			c.object(p, kind.String(), "S2-PR-10", v.bytes)
		}
	}
	if c.v2 {
		c.tags(p)
	} else {
		c.keyURI(p)
	}
}

// box checks a pssh box: its form, its system, and what Widevine and PlayReady
// data inside say (D-102, S2-PAY-32, SX-KID-03, CPIX-INT-08).
func (c *checker) box(p *place, where string, b []byte) {
	box, err := parseBox(b)
	if err != nil {
		c.add("D-102", "%s: %s: %v", p.name, where, err)
		return
	}
	if box.system.String() != p.system {
		c.add("D-102", "%s: %s is a box of %s", p.name, where, SystemLabel(box.system))
		return
	}
	if len(box.kids) > 0 && !slices.Contains(box.kids, p.kid) {
		c.add("SX-KID-03", "%s: %s lists other key IDs", p.name, where)
	}
	switch p.system {
	case commonID:
		if len(box.kids) == 0 {
			c.add("D-410", "%s: %s lists no key IDs", p.name, where)
		}
	case widevineID:
		c.widevine(p, where, box.data)
	case playReadyID:
		c.object(p, where, "S2-PR-01", box.data)
	}
}

func (c *checker) widevine(p *place, where string, data []byte) {
	w, err := parseWidevine(data)
	if err != nil {
		c.add("S2-WV-01", "%s: %s: %v", p.name, where, err)
		return
	}
	if len(w.kids) > 0 && !slices.Contains(w.kids, p.kid) {
		c.add("SX-KID-03", "%s: %s is for other key IDs", p.name, where)
	}
	scheme, err := contentkey.ParseScheme(p.scheme)
	if err == nil && w.scheme != 0 && w.scheme != uint64(scheme.FourCC()) {
		c.add("S2-WV-02", "%s: %s is for another scheme than %s", p.name, where, p.scheme)
	}
}

// object checks a PlayReady Object; broken is the rule that one which is none
// breaks.
func (c *checker) object(p *place, where, broken string, b []byte) {
	o, err := parseObject(b)
	if err != nil {
		c.add(broken, "%s: %s: %v", p.name, where, err)
		return
	}
	if len(o.kids) > 0 && !slices.Contains(o.kids, p.kid) {
		c.add("SX-KID-03", "%s: %s is for other key IDs", p.name, where)
	}
	for _, alg := range o.algs {
		switch {
		case p.scheme == "cbcs" && alg != "AESCBC":
			c.add("S2-PR-06", "%s: %s says %s under cbcs", p.name, where, quote(alg))
		case p.scheme == "cenc" && alg != "AESCTR":
			c.add("S2-PR-05", "%s: %s says %s under cenc", p.name, where, quote(alg))
		}
	}
	if p.scheme == "cbcs" && o.version != "4.3.0.0" {
		c.add("S2-PR-06", "%s: %s has version %s, want 4.3.0.0 under cbcs", p.name, where, quote(o.version))
	}
}
