package drm

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"spekeasy/contentkey"
	"spekeasy/internal/b64"
)

// PlayReadyHeader is what a WRMHEADER of version 4.0 to 4.3 says (D-210 to
// D-216).
type PlayReadyHeader struct {
	// Version is "4.0" (exactly one AESCTR key), "4.1" (at most one), "4.2"
	// (any number of AESCTR keys) or "4.3" (any number, all AESCTR or all
	// AESCBC).
	Version string

	Keys             []PlayReadyKey
	LAURL            string // license acquisition URL, not escaped
	LUIURL           string // URL of a page for the user, not escaped
	DSID             string // domain service: base64 of a GUID in little-endian order
	CustomAttributes string // the whole CUSTOMATTRIBUTES element, raw XML
	OnDemand         bool   // DECRYPTORSETUP ONDEMAND: more keys will follow; not in 4.0
}

// PlayReadyKey names one content key in a header.
type PlayReadyKey struct {
	KID       contentkey.KID
	Algorithm string // PlayReadyCTR, PlayReadyCBC, or "" in version 4.3
	Checksum  []byte // 8 bytes for AESCTR, see PlayReadyChecksum; or nil
}

// The values of ALGID.
const (
	PlayReadyCTR = "AESCTR"
	PlayReadyCBC = "AESCBC"
)

// ErrPlayReadyObject reports bytes that are not a PlayReady Object, or a
// header that breaks the rules of its version.
var ErrPlayReadyObject = errors.New("malformed PlayReady Object")

const (
	headerNamespace  = "http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader"
	recordTypeHeader = 1
	objectPrefixLen  = 4 + 2 + 2 + 2 // with one record
)

// XML returns the header as the XML that Microsoft's rules call for: no white
// space, explicit end tags, xmlns first and the other attributes in
// alphabetical order (D-210, D-211). It fails with [ErrPlayReadyObject] for a
// header that breaks the rules of its version.
func (h PlayReadyHeader) XML() (string, error) {
	if err := h.check(); err != nil {
		return "", err
	}
	return string(h.appendXML(nil)), nil
}

// AppendObject appends a PlayReady Object with the header as its only record
// (D-201, D-202). It fails as [PlayReadyHeader.XML] does, and for a header
// longer than a record can be.
func (h PlayReadyHeader) AppendObject(b []byte) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	return h.appendObject(b)
}

func (h *PlayReadyHeader) appendObject(b []byte) ([]byte, error) {
	var scratch [1024]byte
	text := h.appendXML(scratch[:0])

	at := len(b)
	b = append(b, 0, 0, 0, 0, 1, 0, recordTypeHeader, 0, 0, 0)
	b = appendUTF16(b, text)
	object := b[at:]
	record := len(object) - objectPrefixLen
	if record > 0xffff {
		return nil, fmt.Errorf("%w: a header of %d bytes, a record holds 65535", ErrPlayReadyObject, record)
	}
	binary.LittleEndian.PutUint32(object, uint32(len(object)))
	binary.LittleEndian.PutUint16(object[8:], uint16(record))
	return b, nil
}

func (h *PlayReadyHeader) appendXML(b []byte) []byte {
	b = append(b, `<WRMHEADER xmlns="`+headerNamespace+`" version="`...)
	b = append(b, h.Version...)
	b = append(b, `.0.0"><DATA>`...)
	switch {
	case h.Version == "4.0":
		b = append(b, `<PROTECTINFO><KEYLEN>16</KEYLEN><ALGID>AESCTR</ALGID></PROTECTINFO><KID>`...)
		b = appendGUID(b, h.Keys[0].KID)
		b = append(b, `</KID>`...)
		if sum := h.Keys[0].Checksum; sum != nil {
			b = append(b, `<CHECKSUM>`...)
			b = b64.Append(b, sum)
			b = append(b, `</CHECKSUM>`...)
		}
	case h.Version == "4.1" && len(h.Keys) > 0:
		b = append(b, `<PROTECTINFO>`...)
		b = h.Keys[0].append(b)
		b = append(b, `</PROTECTINFO>`...)
	case len(h.Keys) > 0:
		b = append(b, `<PROTECTINFO><KIDS>`...)
		for i := range h.Keys {
			b = h.Keys[i].append(b)
		}
		b = append(b, `</KIDS></PROTECTINFO>`...)
	}
	b = appendElement(b, "LA_URL", h.LAURL)
	b = appendElement(b, "LUI_URL", h.LUIURL)
	b = appendElement(b, "DS_ID", h.DSID)
	b = append(b, h.CustomAttributes...)
	if h.OnDemand {
		b = append(b, `<DECRYPTORSETUP>ONDEMAND</DECRYPTORSETUP>`...)
	}
	return append(b, `</DATA></WRMHEADER>`...)
}

// append appends the KID element of versions 4.1 to 4.3.
func (k *PlayReadyKey) append(b []byte) []byte {
	b = append(b, `<KID`...)
	if k.Algorithm != "" {
		b = append(b, ` ALGID="`...)
		b = append(b, k.Algorithm...)
		b = append(b, '"')
	}
	if k.Checksum != nil {
		b = append(b, ` CHECKSUM="`...)
		b = b64.Append(b, k.Checksum)
		b = append(b, '"')
	}
	b = append(b, ` VALUE="`...)
	b = appendGUID(b, k.KID)
	return append(b, `"></KID>`...)
}

// appendElement appends an element with text, or nothing without: an element
// that is present must not be empty (D-212).
func appendElement(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	b = append(b, '<')
	b = append(b, name...)
	b = append(b, '>')
	b = appendXMLText(b, text)
	b = append(b, '<', '/')
	b = append(b, name...)
	return append(b, '>')
}

// appendXMLText escapes s for the text of an element.
func appendXMLText(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '&':
			b = append(b, "&amp;"...)
		case '<':
			b = append(b, "&lt;"...)
		case '>':
			b = append(b, "&gt;"...)
		case '\r':
			b = append(b, "&#xD;"...)
		default:
			b = append(b, c)
		}
	}
	return b
}

func appendGUID(b []byte, kid contentkey.KID) []byte {
	g := guid(kid)
	return b64.Append(b, g[:])
}

// guid returns the bytes of a UUID in the order of a little-endian GUID, or
// back (D-002). PlayReady wants it in headers, in the checksum and in the key
// seed algorithm, and nobody else wants it anywhere.
func guid(id [16]byte) [16]byte {
	id[0], id[1], id[2], id[3] = id[3], id[2], id[1], id[0]
	id[4], id[5] = id[5], id[4]
	id[6], id[7] = id[7], id[6]
	return id
}

// appendUTF16 appends UTF-8 text as UTF-16LE.
func appendUTF16(b, text []byte) []byte {
	for i := 0; i < len(text); {
		if c := text[i]; c < utf8.RuneSelf {
			b = append(b, c, 0)
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		i += size
		if r >= 0x10000 {
			var high rune
			high, r = utf16.EncodeRune(r)
			b = binary.LittleEndian.AppendUint16(b, uint16(high))
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(r))
	}
	return b
}

// check reports a header that breaks the rules of its version.
func (h *PlayReadyHeader) check() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: header %s: %s", ErrPlayReadyObject, h.Version, fmt.Sprintf(format, args...))
	}
	switch h.Version {
	case "4.0":
		if len(h.Keys) != 1 || h.OnDemand {
			return fail("must have exactly one key and no DECRYPTORSETUP")
		}
	case "4.1":
		if len(h.Keys) > 1 {
			return fail("must have at most one key")
		}
	case "4.2", "4.3":
	default:
		return fmt.Errorf("%w: header version %q", ErrPlayReadyObject, h.Version)
	}
	for _, k := range h.Keys {
		switch {
		case k.Algorithm != h.Keys[0].Algorithm:
			return fail("keys of different algorithms")
		case k.Algorithm != PlayReadyCTR && h.Version != "4.3":
			return fail("algorithm %q, must be %s", k.Algorithm, PlayReadyCTR)
		case k.Algorithm != PlayReadyCTR && k.Algorithm != PlayReadyCBC && k.Algorithm != "":
			return fail("algorithm %q", k.Algorithm)
		case k.Checksum != nil && (k.Algorithm == PlayReadyCBC || len(k.Checksum) != 8):
			return fail("key ID %s: a checksum is 8 bytes for %s and absent for %s", k.KID, PlayReadyCTR, PlayReadyCBC)
		}
	}
	for _, s := range []string{h.LAURL, h.LUIURL, h.CustomAttributes} {
		if !utf8.ValidString(s) || strings.ContainsFunc(s, notInXML) {
			return fail("text that XML cannot hold")
		}
	}
	if h.DSID != "" && !isGUID(h.DSID) {
		return fail("DS_ID is not the base64 of 16 bytes")
	}
	if h.CustomAttributes != "" {
		if n, err := parseElement(h.CustomAttributes); err != nil || n.name.Local != "CUSTOMATTRIBUTES" {
			return fail("custom attributes are not one well-formed CUSTOMATTRIBUTES element")
		}
	}
	return nil
}

func notInXML(r rune) bool {
	return r < 0x20 && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff
}

func isGUID(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 16 && len(s) == 24
}
