package drm

import (
	"crypto/aes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/b64"
)

var playReadyID = SystemID{0x9a, 0x04, 0xf0, 0x79, 0x98, 0x40, 0x42, 0x86, 0xab, 0x92, 0xe6, 0x5b, 0xe0, 0x88, 0x5f, 0x95}

// PlayReady signals Microsoft PlayReady, for cenc and cbcs (S2-PR-01 to -11).
// The zero value writes headers without a license URL, which players then
// take from their own configuration.
type PlayReady struct {
	// LAURL is the URL of the license service, an absolute URL as it is, not
	// escaped; it is left out when empty (D-212).
	LAURL string `json:"la_url,omitzero" yaml:"la_url,omitempty"`

	// LUIURL is the URL of a page that a user without a license is sent to.
	LUIURL string `json:"lui_url,omitzero" yaml:"lui_url,omitempty"`

	// DSID names a domain service, as it stands in headers: the base64 of a
	// GUID in little-endian order.
	DSID string `json:"ds_id,omitzero" yaml:"ds_id,omitempty"`

	// CustomAttributes is a whole CUSTOMATTRIBUTES element that goes into
	// every header as it is: XML in canonical form with an xmlns attribute,
	// which may be xmlns="", and at most 1024 bytes (D-213).
	CustomAttributes string `json:"custom_attributes,omitzero" yaml:"custom_attributes,omitempty"`

	// CencVersion is the header version for cenc content: 4.0, the default,
	// which every client reads, or 4.1, 4.2, 4.3. Headers for cbcs are always
	// 4.3, since older ones cannot express it (D-217).
	CencVersion string `json:"cenc_version,omitzero" yaml:"cenc_version,omitempty"`

	// CencMethod and KeyID are as in [Widevine].
	CencMethod string `json:"cenc_method,omitzero" yaml:"cenc_method,omitempty"`
	KeyID      bool   `json:"key_id,omitzero" yaml:"key_id,omitempty"`

	cenc, cbcs *playReadyTemplate // nil unless prepared
}

var _ System = PlayReady{}

// ID returns 9a04f079-9840-4286-ab92-e65be0885f95.
func (PlayReady) ID() SystemID { return playReadyID }

// Name returns "PlayReady".
func (PlayReady) Name() string { return "PlayReady" }

// Supports reports true for cenc and cbcs.
func (PlayReady) Supports(s contentkey.Scheme) bool {
	return s == contentkey.Cenc || s == contentkey.Cbcs
}

// Fields returns PSSH, ContentProtection, HLS and Smooth.
func (PlayReady) Fields() Fields { return PSSH | ContentProtection | HLS | Smooth }

const (
	maxCustomAttributes = 1 << 10
	maxObject           = 15 << 10 // Microsoft's advice for a whole PlayReady Object
)

// Validate reports the first setting that cannot be used, by its name in
// configuration files.
func (p PlayReady) Validate() error {
	for _, s := range []struct{ name, url string }{{"la_url", p.LAURL}, {"lui_url", p.LUIURL}} {
		if s.url == "" {
			continue
		}
		if _, err := checkURL(s.url); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if p.DSID != "" && !isGUID(p.DSID) {
		return errors.New("ds_id: not the base64 of 16 bytes")
	}
	if p.CustomAttributes != "" {
		if err := checkCustomAttributes(p.CustomAttributes); err != nil {
			return fmt.Errorf("custom_attributes: %w", err)
		}
	}
	switch p.CencVersion {
	case "", "4.0", "4.1", "4.2", "4.3":
	default:
		return fmt.Errorf("cenc_version: %q is none of 4.0, 4.1, 4.2, 4.3", p.CencVersion)
	}
	if err := checkCencMethod(p.CencMethod); err != nil {
		return err
	}
	object, err := p.appendObject(nil, &Track{Scheme: contentkey.Cenc})
	if err == nil && len(object) > maxObject {
		err = fmt.Errorf("a PlayReady Object of %d bytes, the limit is %d", len(object), maxObject)
	}
	if err != nil {
		return fmt.Errorf("la_url: too long with all the rest: %w", err)
	}
	return nil
}

// checkCustomAttributes holds D-213 as far as it can be seen without knowing
// who will read the element.
func checkCustomAttributes(s string) error {
	if len(s) > maxCustomAttributes {
		return fmt.Errorf("%d bytes, the limit is %d", len(s), maxCustomAttributes)
	}
	n, err := parseElement(s)
	switch {
	case err != nil:
		return err
	case n.name.Local != "CUSTOMATTRIBUTES" || n.raw != s || !strings.HasPrefix(s, "<CUSTOMATTRIBUTES "):
		return errors.New("must be one CUSTOMATTRIBUTES element, without anything around it")
	case strings.Contains(s, "<![CDATA["):
		return errors.New("must not have CDATA sections")
	}
	if _, ok := n.attr("xmlns"); !ok {
		return errors.New(`CUSTOMATTRIBUTES needs an xmlns attribute, which may be xmlns=""`)
	}
	d := xml.NewDecoder(strings.NewReader(s))
	for {
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if strings.HasSuffix(s[:d.InputOffset()], "/>") {
				return fmt.Errorf("%s needs an end tag of its own", tok.Name.Local)
			}
		case xml.Comment:
			return errors.New("must not have comments")
		}
	}
}

// appendObject appends the PlayReady Object for one track: one key (S2-PR-07),
// with CHECKSUM wherever it is allowed (D-221).
func (p *PlayReady) appendObject(b []byte, t *Track) ([]byte, error) {
	template := p.cbcs
	if t.Scheme == contentkey.Cenc {
		template = p.cenc
	}
	if template != nil {
		return template.append(b, t), nil
	}
	key := PlayReadyKey{KID: t.KID}
	if t.Scheme == contentkey.Cenc {
		sum := PlayReadyChecksum(t.KID, t.Key)
		key.Checksum = sum[:]
	}
	return p.appendHeader(b, key, t.Scheme)
}

// appendHeader appends the PlayReady Object for a key of the scheme.
func (p *PlayReady) appendHeader(b []byte, key PlayReadyKey, scheme contentkey.Scheme) ([]byte, error) {
	version := "4.3"
	key.Algorithm = PlayReadyCBC
	if scheme == contentkey.Cenc {
		if version = p.CencVersion; version == "" {
			version = "4.0"
		}
		key.Algorithm = PlayReadyCTR
	}
	keys := [1]PlayReadyKey{key}
	h := PlayReadyHeader{
		Version:          version,
		Keys:             keys[:],
		LAURL:            p.LAURL,
		LUIURL:           p.LUIURL,
		DSID:             p.DSID,
		CustomAttributes: p.CustomAttributes,
	}
	return h.appendObject(b)
}

const (
	playReadyKeyFormat = "com.microsoft.playready"

	proElementStart = `<mspr:pro xmlns:mspr="urn:microsoft:playready">`
	proElementEnd   = `</mspr:pro>`

	// The order of these attributes is that of AWS's guide (S2-PR-09).
	playReadyTag = `,KEYFORMAT="` + playReadyKeyFormat + keyFormatVersionsEnd +
		`,URI="data:text/plain;charset=UTF-16;base64,`
)

// Signal returns the PlayReady Object in a box, in the elements cenc:pssh and
// mspr:pro side by side (S2-PR-08), in a key tag, and bare for Smooth
// Streaming (S2-PR-10).
func (p PlayReady) Signal(t *Track, want Fields) (Signaling, error) {
	if !p.Supports(t.Scheme) {
		return Signaling{}, schemeError(p, t.Scheme)
	}
	if want&p.Fields() == 0 {
		return Signaling{}, nil
	}
	var scratch [2048]byte
	box, err := p.appendObject(scratch[:boxHeaderLen], t)
	if err != nil {
		return Signaling{}, err
	}
	putBoxHeader(box, playReadyID)
	return p.around(box, t, want), nil
}

// Around returns the wanted values for a PlayReady Object that is there
// already, such as one that another key provider made.
func (p PlayReady) Around(object []byte, t *Track, want Fields) Signaling {
	box := append(make([]byte, boxHeaderLen, boxHeaderLen+len(object)), object...)
	putBoxHeader(box, playReadyID)
	return p.around(box, t, want)
}

// around is [PlayReady.Around] for an object in its box.
func (p PlayReady) around(box []byte, t *Track, want Fields) Signaling {
	object := box[boxHeaderLen:]
	method := sampleMethod(t.Scheme, p.CencMethod)

	n := 0
	if want&PSSH != 0 {
		n += len(box)
	}
	if want&ContentProtection != 0 {
		n += psshElementLen(len(box)) + len(proElementStart) + b64.EncodedLen(len(object)) + len(proElementEnd)
	}
	if want&HLS != 0 {
		n += len("METHOD=") + len(method) + len(playReadyTag) + b64.EncodedLen(len(object)) + len(`"`)
		if p.KeyID {
			n += hexAttrLen(attrKeyID)
		}
	}
	if want&Smooth != 0 {
		n += len(object)
	}

	var s Signaling
	text := base64Once{raw: object}
	b := t.Room.take(n)
	if want&PSSH != 0 {
		b = append(b, box...)
		s.PSSH = tail(b, 0)
	}
	if want&ContentProtection != 0 {
		at := len(b)
		b = appendPSSHElement(b, &base64Once{raw: box})
		b = append(b, proElementStart...)
		b = text.append(b)
		b = append(b, proElementEnd...)
		s.ContentProtection = tail(b, at)
	}
	if want&HLS != 0 {
		at := len(b)
		b = append(b, "METHOD="...)
		b = append(b, method...)
		b = append(b, playReadyTag...)
		b = text.append(b)
		b = append(b, '"')
		if p.KeyID {
			b = appendHexAttr(b, attrKeyID, t.KID)
		}
		s.HLS = tail(b, at)
	}
	if want&Smooth != 0 {
		at := len(b)
		b = append(b, object...)
		s.Smooth = tail(b, at)
	}
	return s
}

// PlayReadyChecksum returns the CHECKSUM of an AESCTR key in a header (D-220):
// the first half of the key ID as a little-endian GUID, encrypted under the
// content key. It is not secret, but it tells whether a guessed key is right,
// so it has no place in logs (D-222).
func PlayReadyChecksum(kid contentkey.KID, key contentkey.Value) [8]byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 16 bytes
	}
	g := guid(kid)
	block.Encrypt(g[:], g[:])
	return [8]byte(g[:8])
}

const seedLen = 30

// ErrPlayReadySeed reports a key seed that is too short.
var ErrPlayReadySeed = errors.New("a PlayReady key seed has at least 30 bytes")

// PlayReadySeedKey derives the content key of a key ID from a key seed, as
// PlayReady license servers do that hold nothing but the seed (D-230). Of a
// longer seed the first 30 bytes count; a shorter one is [ErrPlayReadySeed].
func PlayReadySeedKey(seed []byte, kid contentkey.KID) (contentkey.Value, error) {
	if len(seed) < seedLen {
		return contentkey.Value{}, ErrPlayReadySeed
	}
	seed = seed[:seedLen]
	g := guid(kid)

	var in [2 * (seedLen + 16)]byte
	n := 0
	for _, piece := range [][]byte{seed, g[:], seed, g[:]} {
		n += copy(in[n:], piece)
	}
	var key contentkey.Value
	for _, n := range []int{seedLen + 16, seedLen + 16 + seedLen, len(in)} {
		sum := sha256.Sum256(in[:n])
		for i := range key {
			key[i] ^= sum[i] ^ sum[i+16]
		}
	}
	return key, nil
}

// IsPlayReadyTestSeed reports whether keys from the seed are public, because
// it is the one that Microsoft's test license server uses. It is for test
// tenants only (D-233).
func IsPlayReadyTestSeed(seed []byte) bool {
	const public = "\x5d\x50\x68\xbe\xc9\xb3\x84\xff\x60\x44\x86\x71\x59\xf1\x6d" +
		"\x6b\x75\x55\x44\xfc\xd5\x11\x69\x89\xb1\xac\xc4\x27\x8e\x88"
	return len(seed) >= seedLen && subtle.ConstantTimeCompare(seed[:seedLen], []byte(public)) == 1
}
