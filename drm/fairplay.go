package drm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"spekeasy/contentkey"
	"spekeasy/internal/b64"
)

var fairPlayID = SystemID{0x94, 0xce, 0x86, 0xfb, 0x07, 0xff, 0x4f, 0x43, 0xad, 0xb8, 0x93, 0xd2, 0xfa, 0x96, 0x8c, 0xa2}

const fairPlayKeyFormat = "com.apple.streamingkeydelivery"

const (
	fairPlayJSON = "mediapackage-json"
	fairPlayKID  = "kid"
)

// fairPlayForms are the templates that have a name (D-303). The JSON form is
// none of them.
var fairPlayForms = map[string][]part{
	fairPlayKID: {{"skd://", "kid"}},
	"kid-iv":    {{"skd://", "kid"}, {":", "iv_hex"}},
	"ezdrm-v1":  {{"skd://fps.ezdrm.com/;", "kid"}},
	"shaka":     {{"skd://", "kid_b64"}},
}

// FairPlay signals Apple FairPlay Streaming, for cbcs (S2-FP-01 to -07). It
// has no pssh box and nothing for DASH. The IV travels with the key in the
// license, so key tags have no IV attribute.
type FairPlay struct {
	// URI is the form of the key URI, which Apple leaves to the player and
	// the license server of the customer. It is a URI with placeholders, such
	// as skd://{content_id}:{kid_hex}, or one of
	//
	//	mediapackage-json  skd:// and the base64 of a JSON object with content
	//	                   ID, key ID and IV, from AWS's MediaPackage guide; the
	//	                   default
	//	kid                skd://{kid}; the default of SPEKE v1, see V1
	//	kid-iv             skd://{kid}:{iv_hex}, as Axinom and EZDRM
	//	ezdrm-v1           skd://fps.ezdrm.com/;{kid}; EZDRM expects the key
	//	                   ID's bytes as IV
	//	shaka              skd://{kid_b64}, as Shaka Packager
	//
	// A content ID in a URI is percent-encoded where a URI demands it.
	URI Template `json:"uri,omitzero" yaml:"uri,omitempty"`

	// KeyID adds the attribute KEYID=0x... to key tags. hls.js needs it for
	// the JSON form when content has several keys (D-304).
	KeyID bool `json:"key_id,omitzero" yaml:"key_id,omitempty"`
}

var _ System = FairPlay{}

// ID returns 94ce86fb-07ff-4f43-adb8-93d2fa968ca2.
func (FairPlay) ID() SystemID { return fairPlayID }

// Name returns "FairPlay".
func (FairPlay) Name() string { return "FairPlay" }

// Supports reports true for cbcs.
func (FairPlay) Supports(s contentkey.Scheme) bool { return s == contentkey.Cbcs }

// Fields returns HLS, KeyURI, KeyFormat and KeyFormatVersions.
func (FairPlay) Fields() Fields { return HLS | KeyURI | KeyFormat | KeyFormatVersions }

// Validate reports the first setting that cannot be used, by its name in
// configuration files.
func (f FairPlay) Validate() error {
	if f.URI.parts == nil {
		if f.URI.IsZero() || f.URI.text == fairPlayJSON || fairPlayForms[f.URI.text] != nil {
			return nil
		}
		return fmt.Errorf("uri: %q is neither a URI with a placeholder nor one of %s, %s",
			f.URI, fairPlayJSON, strings.Join(slices.Sorted(maps.Keys(fairPlayForms)), ", "))
	}
	scheme, _, ok := strings.Cut(f.URI.parts[0].literal, "://")
	if !ok || scheme == "" {
		return fmt.Errorf("uri: %q does not start with skd:// or another scheme", f.URI)
	}
	if !f.URI.uses("kid") && !f.URI.uses("content_id") {
		return fmt.Errorf("uri: %q has neither key ID nor content ID", f.URI)
	}
	for _, p := range f.URI.parts {
		for i := range len(p.literal) {
			if c := p.literal[i]; c != '%' && !inURI[c] {
				return fmt.Errorf("uri: %q: a URI cannot have %q", f.URI, c)
			}
		}
	}
	return nil
}

// Signal returns the key tag, and for SPEKE v1 the values of its attributes.
// It fails with [ErrTrack] for a content ID that JSON cannot hold.
func (f FairPlay) Signal(t *Track, want Fields) (Signaling, error) {
	if !f.Supports(t.Scheme) {
		return Signaling{}, schemeError(f, t.Scheme)
	}
	var scratch [512]byte
	u := uriSystem{method: methodSampleAES, format: fairPlayKeyFormat, room: t.Room}
	if want&(HLS|KeyURI) != 0 {
		var err error
		if u.uri, err = f.appendURI(scratch[:0], t); err != nil {
			return Signaling{}, err
		}
	}
	if f.KeyID {
		u.attr, u.attrData = attrKeyID, t.KID
	}
	return u.signal(want), nil
}

func (f FairPlay) appendURI(b []byte, t *Track) ([]byte, error) {
	form := f.URI
	if form.parts == nil {
		form.parts = fairPlayForms[form.text]
	}
	json := form.IsZero() || form.text == fairPlayJSON
	switch {
	case form.parts != nil:
		return form.append(b, t, true), nil
	case !json:
		return nil, fmt.Errorf("%s: unknown form of key URI %q", f.Name(), form)
	case !utf8.ValidString(t.ContentID):
		return nil, trackError(f.Name(), "content ID is not UTF-8")
	}
	var scratch [256]byte
	b = append(b, "skd://"...)
	return b64.Append(b, appendFairPlayJSON(scratch[:0], t)), nil
}

// appendFairPlayJSON appends the object of S2-FP-03, its members in this
// order and without spaces.
func appendFairPlayJSON(b []byte, t *Track) []byte {
	b = append(b, `{"ContentId":"`...)
	b = appendJSONText(b, t.ContentID)
	b = append(b, `","KeyId":"`...)
	b = t.KID.AppendText(b)
	b = append(b, `","IV":"`...)
	b = b64.Append(b, t.IV[:])
	return append(b, `"}`...)
}

// appendJSONText escapes what JSON demands and nothing else: whoever compares
// the URI with one of his own making expects "a/b" and "ä" as they are.
func appendJSONText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}
