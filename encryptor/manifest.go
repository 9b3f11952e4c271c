package encryptor

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

const (
	cencSpace = "urn:mpeg:cenc:2013"
	msprSpace = "urn:microsoft:playready"
)

// protection checks ContentProtectionData: a well-formed fragment
// (CPIX-DRM-02), its pssh the same string as the PSSH (S2-ERR-21), and what
// Widevine and PlayReady want inside (S2-WV-03, S2-PR-08).
func (c *checker) protection(p *place, fragment string) {
	tree, err := xmltree.Parse("<fragment>" + fragment + "</fragment>")
	if err != nil || strings.HasPrefix(fragment, "\ufeff") {
		c.add("CPIX-DRM-02", "%s: ContentProtectionData is not a well-formed XML fragment", p.name)
		return
	}
	root := tree.Root()
	n := 0
	for range children(root) {
		n++
	}
	if n == 0 {
		c.add("CPIX-DRM-02", "%s: ContentProtectionData has no element", p.name)
		return
	}
	pssh := child(root, cencSpace, "pssh")
	switch {
	case pssh != nil:
		text := strings.TrimSpace(pssh.Text())
		if v, ok := p.values[signalKey{kind: cpix.PSSH}]; ok && v.text != "" {
			if v.text != text {
				c.add("S2-ERR-21", "%s: pssh inside ContentProtectionData is not the PSSH", p.name)
			}
		} else if b, err := base64.StdEncoding.DecodeString(text); err != nil {
			c.add("D-102", "%s: pssh inside ContentProtectionData is not base64", p.name)
		} else {
			c.box(p, "pssh inside ContentProtectionData", b)
		}
	case p.system == widevineID:
		c.add("S2-WV-03", "%s: ContentProtectionData has no pssh", p.name)
	case p.system == playReadyID:
		c.add("S2-PR-08", "%s: ContentProtectionData has no pssh", p.name)
	}
	switch p.system {
	case widevineID:
		if n != 1 || strings.TrimSpace(root.Text()) != "" {
			c.add("S2-WV-03", "%s: ContentProtectionData has more than one element", p.name)
		}
	case playReadyID:
		c.pro(p, root)
	}
}

// pro checks mspr:pro, which holds the object that is in the box (D-240).
func (c *checker) pro(p *place, root *xmltree.Element) {
	pro := child(root, msprSpace, "pro")
	if pro == nil {
		c.add("S2-PR-08", "%s: ContentProtectionData has no mspr:pro", p.name)
		return
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(pro.Text()))
	if err != nil {
		c.add("S2-PR-08", "%s: mspr:pro is not base64", p.name)
		return
	}
	if box, err := parseBox(p.values[signalKey{kind: cpix.PSSH}].bytes); err == nil {
		if string(box.data) != string(b) {
			c.add("D-240", "%s: mspr:pro is not the object of the PSSH", p.name)
		}
		return
	}
	c.object(p, "mspr:pro", "S2-PR-08", b)
}

// tags checks both HLSSignalingData (S2-HLS-01 to -09).
func (c *checker) tags(p *place) {
	var pair [2]*hlsTag
	for i, want := range [...]struct{ playlist, tag string }{{"media", "#EXT-X-KEY"}, {"master", "#EXT-X-SESSION-KEY"}} {
		key := signalKey{cpix.HLSSignalingData, want.playlist}
		v := p.values[key]
		if v.bytes == nil {
			continue
		}
		t, err := parseTag(string(v.bytes))
		if err != nil {
			c.add("S2-HLS-01", "%s: %s: %v", p.name, key, err)
			continue
		}
		if t.name != want.tag {
			c.add("S2-HLS-02", "%s: %s has the tag %s, want %s", p.name, key, quote(t.name), want.tag)
		}
		c.tag(p, key.String(), t)
		pair[i] = t
	}
	if pair[0] != nil && pair[1] != nil {
		c.sameTags(p, pair[0], pair[1])
	}
}

// sameTags holds S2-HLS-03 and S2-FP-07. PlayReady's URIs may differ, since
// the one of the multivariant playlist can list all key IDs (D-261).
func (c *checker) sameTags(p *place, media, master *hlsTag) {
	differ := func(name string) {
		rule := "S2-HLS-03"
		if name == "URI" && p.system == fairPlayID {
			rule = "S2-FP-07"
		}
		c.add(rule, "%s: %s differs between media and master", p.name, name)
	}
	for _, a := range media.attrs {
		if master.get(a.name) != a.value && (a.name != "URI" || p.system != playReadyID) {
			differ(a.name)
		}
	}
	for _, a := range master.attrs {
		if media.get(a.name) == "" && a.value != "" {
			differ(a.name)
		}
	}
}

// keyFormats are the KEYFORMAT of each system and the rule that says so.
var keyFormats = map[string][2]string{
	widevineID:  {"urn:uuid:" + widevineID, "S2-WV-04"},
	playReadyID: {"com.microsoft.playready", "S2-PR-09"},
	fairPlayID:  {fairPlayFormat, "S2-FP-02"},
	aes128ID:    {"identity", "S2-CK-01"},
	sampleAESID: {"identity", "D-432"},
}

const fairPlayFormat = "com.apple.streamingkeydelivery"

// tag checks one HLS tag.
func (c *checker) tag(p *place, where string, t *hlsTag) {
	if t.attrs[0].name != "METHOD" {
		c.add("S2-HLS-06", "%s: %s: METHOD is not the first attribute", p.name, where)
	}
	c.method(p, where, t.get("METHOD"))
	if t.get("SCHEME") != "" {
		c.add("S2-HLS-04", "%s: %s has a SCHEME attribute", p.name, where)
	}
	if id := t.get("KEYID"); id != "" && !strings.EqualFold(id, "0x"+hex.EncodeToString(p.kid[:])) {
		c.add("SX-KID-03", "%s: %s has another KEYID", p.name, where)
	}
	f, known := keyFormats[p.system]
	if !known {
		return
	}
	format, rule := f[0], f[1]
	if got := t.get("KEYFORMAT"); got != format {
		c.add(rule, "%s: %s: KEYFORMAT is %s, want %q", p.name, where, quote(got), format)
	}
	if t.get("KEYFORMATVERSIONS") == "" {
		c.add(rule, "%s: %s has no KEYFORMATVERSIONS", p.name, where)
	}
	uri := t.get("URI")
	switch p.system {
	case widevineID:
		c.widevineURI(p, where, uri)
	case playReadyID:
		b, ok := dataURI(uri, "data:text/plain;charset=UTF-16;base64,")
		if !ok {
			c.add("S2-PR-09", "%s: %s: the URI is not data:text/plain;charset=UTF-16;base64 and an object", p.name, where)
			return
		}
		c.object(p, where, "S2-PR-09", b)
	case fairPlayID:
		if t.get("IV") != "" {
			c.add("S2-FP-05", "%s: %s has an IV attribute", p.name, where)
		}
		c.fairPlayURI(p, where, "S2-FP-02", uri)
	default:
		if !strings.HasPrefix(uri, "https://") && !strings.HasPrefix(uri, "http://") {
			c.add(rule, "%s: %s: the URI is not that of a key", p.name, where)
		}
	}
}

// method holds S2-HLS-07 and -09. SAMPLE-AES under cenc is AWS's own form
// (D-07).
func (c *checker) method(p *place, where, method string) {
	want := map[string]string{"cenc": "SAMPLE-AES-CTR SAMPLE-AES", "cbcs": "SAMPLE-AES", "cbc1": "AES-128"}[p.scheme]
	switch {
	case method == "" || method == "NONE":
		c.add("S2-HLS-07", "%s: %s: METHOD is %s", p.name, where, quote(method))
	case want != "" && !strings.Contains(" "+want+" ", " "+method+" "):
		c.add("S2-HLS-09", "%s: %s: METHOD is %s under %s", p.name, where, quote(method), p.scheme)
	}
}

// widevineURI holds S2-WV-04: the URI is the box of the PSSH, never a licence
// URL.
func (c *checker) widevineURI(p *place, where, uri string) {
	b, ok := dataURI(uri, "data:text/plain;base64,")
	if !ok {
		c.add("S2-WV-04", "%s: %s: the URI is not data:text/plain;base64 and a box", p.name, where)
		return
	}
	if v := p.values[signalKey{kind: cpix.PSSH}]; v.bytes != nil {
		if string(v.bytes) != string(b) {
			c.add("S2-WV-04", "%s: %s: the URI is not the PSSH", p.name, where)
		}
		return
	}
	c.box(p, where, b)
}

func dataURI(uri, prefix string) ([]byte, bool) {
	if !strings.HasPrefix(uri, prefix) {
		return nil, false
	}
	b, err := base64.StdEncoding.DecodeString(uri[len(prefix):])
	return b, err == nil && len(b) > 0
}

// fairPlayURI holds S2-FP-02, and SX-KID-03 and S2-FP-06 as far as the URI,
// which is the customer's to shape, shows a key ID and an IV.
func (c *checker) fairPlayURI(p *place, where, rule, uri string) {
	body, ok := strings.CutPrefix(uri, "skd://")
	if !ok || body == "" {
		c.add(rule, "%s: %s: the URI is not skd:// and a key", p.name, where)
		return
	}
	kid, iv := "", ""
	if _, err := contentkey.ParseKID(body[:min(len(body), 36)]); err == nil {
		kid = body[:36]
		if text, ok := strings.CutPrefix(body[36:], ":"); ok {
			if b, err := hex.DecodeString(text); err == nil && len(b) == 16 {
				iv = contentkey.IV(b).String()
			}
		}
	} else if b, err := base64.StdEncoding.DecodeString(body); err == nil {
		var payload struct { // S2-FP-03
			KeyID string `json:"KeyId"`
			IV    string `json:"IV"`
		}
		if json.Unmarshal(b, &payload) == nil {
			kid, iv = payload.KeyID, payload.IV
		}
	}
	if kid != "" && !strings.EqualFold(kid, p.kid.String()) {
		c.add("SX-KID-03", "%s: %s: the URI has another key ID", p.name, where)
	}
	if iv != "" && p.iv != "" && !sameIV(iv, p.iv) {
		c.add("S2-FP-06", "%s: %s: the URI has another IV than explicitIV", p.name, where)
	}
}

func sameIV(a, b string) bool {
	x, errX := contentkey.ParseIV(a)
	y, errY := contentkey.ParseIV(b)
	return errX == nil && errY == nil && x == y
}

// keyURI checks URIExtXKey, KeyFormat and KeyFormatVersions (S1-PAY-04, -05,
// S1-FP-08, S1-CK-02). AWS's samples show https URLs for FairPlay as well.
func (c *checker) keyURI(p *place) {
	const where = "URIExtXKey"
	uri := string(p.values[signalKey{kind: cpix.URIExtXKey}].bytes)
	format := string(p.values[signalKey{kind: cpix.KeyFormat}].bytes)
	url := strings.HasPrefix(uri, "https://") || strings.HasPrefix(uri, "http://")
	switch p.system {
	case fairPlayID:
		if uri != "" && !url {
			c.fairPlayURI(p, where, "S1-FP-08", uri)
		}
		if format != "" && format != fairPlayFormat {
			c.add("S1-FP-08", "%s: KeyFormat is %s, want %q", p.name, quote(format), fairPlayFormat)
		}
	case aes128V1ID:
		if uri != "" && !url {
			c.add("S1-CK-02", "%s: %s is not the URL of a key", p.name, where)
		}
		if format != "" && format != "identity" {
			c.add("S1-CK-02", "%s: KeyFormat is %s, want \"identity\"", p.name, quote(format))
		}
	}
}
