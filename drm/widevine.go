package drm

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"spekeasy/contentkey"
	"spekeasy/internal/b64"
)

var widevineID = SystemID{0xed, 0xef, 0x8b, 0xa9, 0x79, 0xd6, 0x4a, 0xce, 0xa3, 0xc8, 0x27, 0xdc, 0xd5, 0x1d, 0x21, 0xed}

// widevineKeyFormat is the KEYFORMAT of Widevine, its system ID as a URN.
const widevineKeyFormat = "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"

// widevineOff is the ContentID setting for data without a content ID.
const widevineOff = "off"

// Widevine signals Google Widevine, for cenc and cbcs (S2-WV-01 to -07). The
// zero value writes what most license services read: key ID, content ID and
// scheme.
type Widevine struct {
	// Provider is the provider name in the data; it is left out when empty.
	// It is deprecated, but some license services still want their name.
	Provider string `json:"provider,omitzero" yaml:"provider,omitempty"`

	// ContentID makes the content ID in the data, from {content_id} and the
	// placeholders of the key ID. By default it is the encryptor's content ID
	// as UTF-8; the word "off" leaves it out (D-113).
	ContentID Template `json:"content_id,omitzero" yaml:"content_id,omitempty"`

	// Policy is the policy name in the data, deprecated; it is left out when
	// empty.
	Policy string `json:"policy,omitzero" yaml:"policy,omitempty"`

	// CencMethod replaces METHOD in key tags of cenc content, which is
	// SAMPLE-AES-CTR: the MediaPackage guide prints SAMPLE-AES, and old
	// players know SAMPLE-AES-CENC. For cbcs HLS knows SAMPLE-AES only.
	CencMethod string `json:"cenc_method,omitzero" yaml:"cenc_method,omitempty"`

	// KeyID adds the attribute KEYID=0x... to key tags (S2-WV-05).
	KeyID bool `json:"key_id,omitzero" yaml:"key_id,omitempty"`
}

var _ System = Widevine{}

// ID returns edef8ba9-79d6-4ace-a3c8-27dcd51d21ed.
func (Widevine) ID() SystemID { return widevineID }

// Name returns "Widevine".
func (Widevine) Name() string { return "Widevine" }

// Supports reports true for cenc and cbcs.
func (Widevine) Supports(s contentkey.Scheme) bool {
	return s == contentkey.Cenc || s == contentkey.Cbcs
}

// Fields returns PSSH, ContentProtection and HLS.
func (Widevine) Fields() Fields { return PSSH | ContentProtection | HLS }

// Validate reports the first setting that cannot be used, by its name in
// configuration files.
func (w Widevine) Validate() error {
	switch {
	case !utf8.ValidString(w.Provider):
		return errors.New("provider: not UTF-8")
	case !utf8.ValidString(w.Policy):
		return errors.New("policy: not UTF-8")
	case w.ContentID.uses("iv"):
		return fmt.Errorf("content_id: %q: the data of cenc content has no IV", w.ContentID)
	case w.ContentID.parts == nil && !w.ContentID.IsZero() && w.ContentID.text != widevineOff:
		return fmt.Errorf("content_id: %q is neither %q nor a template with a placeholder", w.ContentID, widevineOff)
	}
	return checkCencMethod(w.CencMethod)
}

// Signal returns the box, the pssh element with that box (S2-WV-03), and the
// key tag with that box (S2-WV-04).
func (w Widevine) Signal(t *Track, want Fields) (Signaling, error) {
	if !w.Supports(t.Scheme) {
		return Signaling{}, schemeError(w, t.Scheme)
	}
	if want&w.Fields() == 0 {
		return Signaling{}, nil
	}
	var scratch [384]byte
	box := w.appendData(scratch[:boxHeaderLen], t)
	putBoxHeader(box, widevineID)
	return w.Around(box, t, want), nil
}

// Around returns the wanted values for a box that is there already, such as
// one that another key provider made.
func (w Widevine) Around(box []byte, t *Track, want Fields) Signaling {
	method := sampleMethod(t.Scheme, w.CencMethod)

	n := 0
	if want&PSSH != 0 {
		n += len(box)
	}
	if want&ContentProtection != 0 {
		n += psshElementLen(len(box))
	}
	if want&HLS != 0 {
		n += len("METHOD=") + len(method) + len(widevineURI) + b64.EncodedLen(len(box)) + len(`"`) + len(widevineEnd)
		if w.KeyID {
			n += hexAttrLen(attrKeyID)
		}
	}

	var s Signaling
	text := base64Once{raw: box}
	b := t.Room.take(n)
	if want&PSSH != 0 {
		b = append(b, box...)
		s.PSSH = tail(b, 0)
	}
	if want&ContentProtection != 0 {
		at := len(b)
		b = appendPSSHElement(b, &text)
		s.ContentProtection = tail(b, at)
	}
	if want&HLS != 0 {
		at := len(b)
		b = append(b, "METHOD="...)
		b = append(b, method...)
		b = append(b, widevineURI...)
		b = text.append(b)
		b = append(b, '"')
		if w.KeyID {
			b = appendHexAttr(b, attrKeyID, t.KID)
		}
		b = append(b, widevineEnd...)
		s.HLS = tail(b, at)
	}
	return s
}

const (
	widevineURI = `,URI="data:text/plain;base64,`
	widevineEnd = `,KEYFORMAT="` + widevineKeyFormat + keyFormatVersionsEnd
)

// appendData appends the data of the box for one track: one key ID (D-114),
// what the settings ask for, and always the scheme (D-112).
func (w Widevine) appendData(b []byte, t *Track) []byte {
	var scratch [128]byte
	id := scratch[:0]
	switch {
	case w.ContentID.IsZero():
		id = append(id, t.ContentID...)
	case w.ContentID.text != widevineOff:
		id = w.ContentID.append(id, t, false)
	}
	keyIDs := [1][]byte{t.KID[:]}
	return WidevineData{
		KeyIDs:           keyIDs[:],
		Provider:         w.Provider,
		ContentID:        id,
		Policy:           w.Policy,
		ProtectionScheme: t.Scheme.FourCC(),
	}.Append(b)
}
