package gateway

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/speke"
)

// raw is what an upstream answered for one DRM system and content key.
type raw struct {
	pssh, protection      []byte
	media, master         []byte // attributes of key tags, without the tag
	smooth                []byte
	uri, format, versions []byte
}

var (
	mediaTag  = []byte("#EXT-X-KEY:")
	masterTag = []byte("#EXT-X-SESSION-KEY:")
)

// readRaw decodes the signaling elements of an answer. What is missing of what
// was asked for, or is there unasked, is noted.
func (a *answer) readRaw(asked, got *cpix.DRMSystem, out *raw) error {
	extra := len(got.Signals)
	for i := range got.Signals {
		sig := &got.Signals[i]
		b, err := sig.Value()
		if err != nil {
			return errors.New("a value that is not base64")
		}
		if sig.Kind == cpix.HLSSignalingData {
			a.fixes.addIf(FixPlaylist, sig.Playlist == "")
		}
		if !wants(asked, sig) {
			continue
		}
		extra--
		if len(b) == 0 {
			a.fixes.addIf(FixExtra, a.v2())
			continue
		}
		switch sig.Kind {
		case cpix.PSSH:
			out.pssh = b
		case cpix.ContentProtectionData:
			out.protection = b
		case cpix.HLSSignalingData:
			// A tag names its playlist better than the attribute does.
			b = bytes.TrimRight(b, "\r\n")
			if attrs, ok := bytes.CutPrefix(b, masterTag); ok {
				out.master = attrs
			} else if attrs, ok := bytes.CutPrefix(b, mediaTag); ok {
				out.media = attrs
			} else {
				return errors.New("an HLSSignalingData that is no key tag")
			}
		case cpix.SmoothProtectionHeader, cpix.ProtectionHeader:
			out.smooth = b
		case cpix.URIExtXKey:
			out.uri = b
		case cpix.KeyFormat:
			out.format = b
		case cpix.KeyFormatVersions:
			out.versions = b
		}
	}
	a.fixes.addIf(FixExtra, extra > 0)
	return nil
}

// wants reports whether a signal, or one that stands for it in the other
// generation of SPEKE, was asked for.
func wants(asked *cpix.DRMSystem, sig *cpix.Signal) bool {
	for i := range asked.Signals {
		s := &asked.Signals[i]
		if s.Kind == sig.Kind && (s.Kind != cpix.HLSSignalingData || sig.Playlist == "" || s.Playlist == sig.Playlist || master(s.Playlist) == master(sig.Playlist)) {
			return true
		}
	}
	switch sig.Kind { // what mixes the generations still says something
	case cpix.ProtectionHeader, cpix.SmoothProtectionHeader, cpix.URIExtXKey, cpix.KeyFormat, cpix.KeyFormatVersions:
		return true
	}
	return false
}

func master(playlist string) bool { return playlist == "master" || playlist == "multiVariant" }

// completer makes of what an upstream signaled what the encryptor asked for.
type completer struct {
	a      *answer
	track  *drm.Track
	want   drm.Fields
	hasKey bool // whether the track's content key is known
	blind  bool // the upstream was asked in v1, and does not know the scheme
	drm    *drm.Settings
	raw
}

var errOtherKID = errors.New("signaling for another key ID")

// complete returns the wanted signaling of a system.
func (c *completer) complete(s *speke.System) (out drm.Signaling, err error) {
	switch s.ID() {
	case widevineID:
		err = c.widevine(&out)
	case playReadyID:
		err = c.playReady(&out)
	default:
		err = c.other(s.ID(), &out)
	}
	return out, err
}

// widevine takes the box as it is, and what is missing around it from it.
func (c *completer) widevine(out *drm.Signaling) error {
	box := c.pssh
	if box == nil {
		box = embedded(c.protection, "pssh")
	}
	if box == nil {
		box = dataURI(c.tag())
	}
	if box == nil {
		made, err := c.drm.Widevine.Signal(c.track, c.want)
		c.a.fixes.add(FixComplete)
		*out = made
		return err
	}
	x, err := drm.ParseBox(box)
	data := x.Data
	if err != nil { // the data alone, without its box
		data = box
	} else if x.SystemID != widevineID {
		return errors.New("a pssh box of another system")
	}
	d, parseErr := drm.ParseWidevineData(data)
	if parseErr != nil || err != nil && len(d.KeyIDs) == 0 {
		return errors.New("a pssh box that cannot be read")
	}
	if !c.names(d.KeyIDs, x.KIDs) {
		return errOtherKID
	}
	rebuilt := err != nil
	c.a.fixes.addIf(FixBox, err != nil)
	if want := c.track.Scheme.FourCC(); want != 0 && d.ProtectionScheme != want && (c.blind || d.ProtectionScheme != 0) {
		known := d.ProtectionScheme
		if known == 0 {
			known = contentkey.Cenc.FourCC()
		}
		if known != want {
			d.ProtectionScheme, d.Algorithm, rebuilt = want, 0, true
			data = d.Append(nil)
			c.a.fixes.add(FixProtect)
		}
	}
	if rebuilt {
		box = drm.Box{SystemID: widevineID, Data: data}.Append(nil)
	}
	*out = c.around(box, rebuilt, func(want drm.Fields) drm.Signaling { return c.drm.Widevine.Around(box, c.track, want) })
	return nil
}

// names reports whether lists of key IDs, if there are any, have the track's.
func (c *completer) names(ids [][]byte, kids []contentkey.KID) bool {
	found := len(ids) == 0
	for _, id := range ids {
		found = found || bytes.Equal(id, c.track.KID[:])
	}
	in := len(kids) == 0
	for _, kid := range kids {
		in = in || kid == c.track.KID
	}
	return found && in
}

// around returns the wanted values for a box: those that came, if they have
// it, and else others that are made around it.
func (c *completer) around(box []byte, rebuilt bool, make func(drm.Fields) drm.Signaling) drm.Signaling {
	text := []byte(base64.StdEncoding.EncodeToString(box))
	out := drm.Signaling{PSSH: box, ContentProtection: c.protection, HLS: c.tag(), Smooth: c.smooth}
	missing := drm.Fields(0)
	if c.want&drm.PSSH == 0 {
		out.PSSH = nil
	} else if c.pssh == nil {
		c.a.fixes.add(FixComplete)
	}
	if c.want&drm.ContentProtection != 0 && (rebuilt || !bytes.Contains(c.protection, text)) {
		c.a.fixes.addIf(FixMatch, c.protection != nil && !rebuilt)
		c.a.fixes.addIf(FixComplete, c.protection == nil)
		missing |= drm.ContentProtection
	}
	if c.want&drm.HLS != 0 && (rebuilt || out.HLS == nil) {
		c.a.fixes.addIf(FixComplete, out.HLS == nil)
		missing |= drm.HLS
	}
	if c.want&drm.Smooth != 0 && (rebuilt || c.smooth == nil) {
		c.a.fixes.addIf(FixComplete, c.smooth == nil)
		missing |= drm.Smooth
	}
	if missing == 0 {
		return out
	}
	made := make(missing)
	if missing&drm.ContentProtection != 0 {
		out.ContentProtection = made.ContentProtection
	}
	if missing&drm.HLS != 0 {
		out.HLS = made.HLS
	}
	if missing&drm.Smooth != 0 {
		out.Smooth = made.Smooth
	}
	return out
}

// tag returns the attributes of a key tag; both playlists have the same
// (S2-HLS-03).
func (c *completer) tag() []byte {
	if c.media == nil {
		return c.master
	}
	return c.media
}

// playReady takes the object as it is, wherever it came.
func (c *completer) playReady(out *drm.Signaling) error {
	object, boxed, err := c.object()
	if err != nil {
		return err
	}
	if object == nil {
		if !c.hasKey && c.track.Scheme == contentkey.Cenc {
			return errors.New("no PlayReady header") // ours would have a checksum of the key
		}
		made, err := c.drm.PlayReady.Signal(c.track, c.want)
		c.a.fixes.add(FixComplete)
		*out = made
		return err
	}
	rebuilt := !boxed && c.pssh != nil
	c.a.fixes.addIf(FixBox, rebuilt)
	if !sameHeader(object, c.track.KID, c.track.Scheme, c.blind) {
		if object, err = c.header(object); err != nil {
			return err
		}
		rebuilt = true
		c.a.fixes.add(FixProtect)
	}
	box := drm.Box{SystemID: playReadyID, Data: object}.Append(nil)
	if boxed && !rebuilt {
		box = c.pssh
	}
	*out = c.around(box, rebuilt, func(want drm.Fields) drm.Signaling { return c.drm.PlayReady.Around(object, c.track, want) })
	if rebuilt && c.want&drm.Smooth != 0 {
		out.Smooth = object
	}
	return nil
}

// object finds the PlayReady Object; boxed means that it came in a box.
func (c *completer) object() (object []byte, boxed bool, err error) {
	switch {
	case c.pssh != nil:
		x, err := drm.ParseBox(c.pssh)
		switch {
		case err != nil:
			if _, err := drm.ParsePlayReadyObject(c.pssh); err != nil {
				return nil, false, errors.New("a pssh box that cannot be read")
			}
			return c.pssh, false, nil
		case x.SystemID != playReadyID:
			return nil, false, errors.New("a pssh box of another system")
		}
		return x.Data, true, nil
	case c.smooth != nil:
		return c.smooth, false, nil
	}
	if b := embedded(c.protection, "pro"); b != nil {
		return b, false, nil
	}
	if b := embedded(c.protection, "pssh"); b != nil {
		if x, err := drm.ParseBox(b); err == nil && x.SystemID == playReadyID {
			return x.Data, false, nil
		}
	}
	return dataURI(c.tag()), false, nil
}

// sameHeader reports, without reading the header as XML, whether it names the
// key ID and the algorithm of the scheme. Both stand in it as UTF-16.
func sameHeader(object []byte, kid contentkey.KID, scheme contentkey.Scheme, blind bool) bool {
	le := kid
	le[0], le[1], le[2], le[3], le[4], le[5], le[6], le[7] = kid[3], kid[2], kid[1], kid[0], kid[5], kid[4], kid[7], kid[6]
	if !bytes.Contains(object, utf16(base64.StdEncoding.EncodeToString(le[:]))) {
		return false
	}
	ctr, cbc := bytes.Contains(object, utf16(drm.PlayReadyCTR)), bytes.Contains(object, utf16(drm.PlayReadyCBC))
	if scheme == contentkey.Cbcs {
		return cbc || !ctr && !blind
	}
	return !cbc
}

func utf16(s string) []byte {
	b := make([]byte, 2*len(s))
	for i := range len(s) {
		b[2*i] = s[i]
	}
	return b
}

// header writes a header again for the scheme of the request, with what the
// vendor's says of its service.
func (c *completer) header(object []byte) ([]byte, error) {
	h, err := drm.ParsePlayReadyObject(object)
	if err != nil {
		return nil, errors.New("a PlayReady header that cannot be read")
	}
	mine := len(h.Keys) == 0
	for i := range h.Keys {
		mine = mine || h.Keys[i].KID == c.track.KID
	}
	if !mine {
		return nil, errOtherKID
	}
	key := drm.PlayReadyKey{KID: c.track.KID, Algorithm: drm.PlayReadyCBC}
	h.Version = "4.3"
	if c.track.Scheme == contentkey.Cenc {
		h.Version, key.Algorithm = "4.0", drm.PlayReadyCTR
		if c.hasKey {
			sum := drm.PlayReadyChecksum(c.track.KID, c.track.Key)
			key.Checksum = sum[:]
		}
	}
	h.Keys = []drm.PlayReadyKey{key}
	out, err := h.AppendObject(nil)
	if err != nil {
		return nil, errors.New("a PlayReady header that cannot be written for the scheme")
	}
	return out, nil
}

// other takes what came as it is, and turns the key URI of SPEKE v1 into a key
// tag or back. FairPlay's URI is the vendor's own and never made up.
func (c *completer) other(id drm.SystemID, out *drm.Signaling) error {
	*out = drm.Signaling{PSSH: c.pssh, ContentProtection: c.protection, HLS: c.tag(), Smooth: c.smooth, KeyURI: c.uri, KeyFormat: c.format, KeyFormatVersions: c.versions}
	format := "identity"
	if id == fairPlayID {
		format = "com.apple.streamingkeydelivery"
	}
	if c.want&drm.HLS != 0 && out.HLS == nil && c.uri != nil {
		if !quotable(c.uri) || !quotable(c.format) || !quotable(c.versions) {
			return errors.New("a key URI that cannot stand in a playlist")
		}
		out.HLS = []byte("METHOD=" + method(c.track.Scheme) + `,URI="` + string(c.uri) + `",KEYFORMAT="` + orText(c.format, format) + `",KEYFORMATVERSIONS="` + orText(c.versions, "1") + `"`)
		c.a.fixes.addIf(FixComplete, c.a.v2())
	}
	if tag := c.tag(); c.uri == nil && tag != nil {
		out.KeyURI, out.KeyFormat, out.KeyFormatVersions = attribute(tag, "URI"), attribute(tag, "KEYFORMAT"), attribute(tag, "KEYFORMATVERSIONS")
	}
	if out.KeyURI != nil {
		out.KeyFormat = []byte(orText(out.KeyFormat, format))
		out.KeyFormatVersions = []byte(orText(out.KeyFormatVersions, "1"))
	}
	for _, v := range signals(out) {
		if c.want&v.field == 0 {
			*v.value = nil
		}
	}
	if out.PSSH != nil {
		x, err := drm.ParseBox(out.PSSH)
		switch {
		case err != nil:
			return errors.New("a pssh box that cannot be read")
		case x.SystemID != id:
			return errors.New("a pssh box of another system")
		case !c.names(nil, x.KIDs):
			return errOtherKID
		}
	}
	return nil
}

// method is METHOD of a key tag (S2-HLS-09).
func method(s contentkey.Scheme) string {
	switch s {
	case contentkey.Cbcs:
		return "SAMPLE-AES"
	case contentkey.Cbc1:
		return "AES-128"
	}
	return "SAMPLE-AES-CTR"
}

func orText(b []byte, other string) string {
	if len(b) == 0 {
		return other
	}
	return string(b)
}

// quotable reports whether a text can stand in a quoted attribute of a tag.
func quotable(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == '"' || c == 0x7f {
			return false
		}
	}
	return true
}

// attribute finds an attribute in the list of a key tag; nil for none.
func attribute(list []byte, name string) []byte {
	for rest := string(list); rest != ""; {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			return nil
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			value, rest, _ = strings.Cut(after[1:], `"`)
			rest = strings.TrimPrefix(rest, ",")
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		if strings.TrimSpace(key) == name {
			return []byte(value)
		}
	}
	return nil
}

// embedded returns the bytes whose base64 an element of that name holds, in
// whatever prefix; nil for none.
func embedded(fragment []byte, name string) []byte {
	s := string(fragment)
	for {
		at := strings.Index(s, name)
		if at < 1 {
			return nil
		}
		before, after := s[at-1], s[at+len(name):]
		if open, text, ok := strings.Cut(after, ">"); (before == ':' || before == '<') && ok && !strings.Contains(open, "<") {
			text, _, _ = strings.Cut(text, "<")
			b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
			if err == nil && len(b) > 0 {
				return b
			}
		}
		s = after
	}
}

// dataURI returns the bytes of the data URI of a key tag; nil for none.
func dataURI(tag []byte) []byte {
	if tag == nil {
		return nil
	}
	_, text, ok := strings.Cut(string(attribute(tag, "URI")), ";base64,")
	if !ok {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}
