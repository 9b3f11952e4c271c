package drm

import (
	"errors"
	"fmt"
	"strings"

	"spekeasy/contentkey"
)

var (
	hlsAES128ID    = SystemID{0x3e, 0xa8, 0x77, 0x8f, 0x77, 0x42, 0x4b, 0xf9, 0xb1, 0x8b, 0xe8, 0x34, 0xb2, 0xac, 0xbd, 0x47}
	hlsAES128V1ID  = SystemID{0x81, 0x37, 0x68, 0x44, 0xf9, 0x76, 0x48, 0x1e, 0xa8, 0x4e, 0xcc, 0x25, 0xd3, 0x9b, 0x0b, 0x33}
	hlsSampleAESID = SystemID{0xbe, 0x58, 0x61, 0x5b, 0x19, 0xc4, 0x46, 0x84, 0x88, 0xb3, 0xc8, 0xc5, 0x7e, 0x99, 0xe9, 0x57}
)

// hlsKeyFormat is the KEYFORMAT of keys that are fetched as they are.
const hlsKeyFormat = "identity"

// HLSAES128 signals HLS with whole segments in AES-128, scheme cbc1, as SPEKE
// v2 names it (S2-CK-01). Players fetch the bare content key by HTTP.
type HLSAES128 struct {
	// URL is where players fetch keys: the key URI is this URL, "/client/",
	// the content ID as one path segment, "/" and the key ID (D-433). It is
	// https; http is accepted for loopback addresses. Without it the system
	// defines no fields.
	URL string `json:"url,omitzero" yaml:"url,omitempty"`

	// IV adds the attribute IV=0x... to key tags of tracks that have an IV.
	// By default players count segments, or are told by the packager.
	IV bool `json:"iv,omitzero" yaml:"iv,omitempty"`
}

// HLSAES128V1 is [HLSAES128] as SPEKE v1 knows it, under a system ID of its
// own and without a scheme (S1-CK-02). IV does nothing: v1 has no key tags.
type HLSAES128V1 HLSAES128

// HLSSampleAES signals HLS with SAMPLE-AES and keys that are fetched as with
// [HLSAES128], scheme cbcs (D-432).
type HLSSampleAES HLSAES128

var (
	_ System = HLSAES128{}
	_ System = HLSAES128V1{}
	_ System = HLSSampleAES{}

	_ ContentChecker = HLSAES128{}
	_ ContentChecker = HLSAES128V1{}
	_ ContentChecker = HLSSampleAES{}
)

// ID returns 3ea8778f-7742-4bf9-b18b-e834b2acbd47.
func (HLSAES128) ID() SystemID { return hlsAES128ID }

// Name returns "HLS AES-128".
func (HLSAES128) Name() string { return "HLS AES-128" }

// Supports reports true for cbc1.
func (HLSAES128) Supports(s contentkey.Scheme) bool { return s == contentkey.Cbc1 }

// Fields returns HLS if there is a URL.
func (h HLSAES128) Fields() Fields { return fieldsIf(h.URL, HLS) }

// Signal returns the key tag. It fails with [ErrTrack] for a content ID that
// cannot be a path segment.
func (h HLSAES128) Signal(t *Track, want Fields) (Signaling, error) {
	if !h.Supports(t.Scheme) {
		return Signaling{}, schemeError(h, t.Scheme)
	}
	return h.signal(h.Name(), methodAES128, t, want&HLS)
}

// ID returns 81376844-f976-481e-a84e-cc25d39b0b33, which is not registered.
func (HLSAES128V1) ID() SystemID { return hlsAES128V1ID }

// Name returns "HLS AES-128 (SPEKE v1)".
func (HLSAES128V1) Name() string { return "HLS AES-128 (SPEKE v1)" }

// Supports reports true: SPEKE v1 names no scheme.
func (HLSAES128V1) Supports(contentkey.Scheme) bool { return true }

// Fields returns KeyURI, KeyFormat and KeyFormatVersions if there is a URL.
func (h HLSAES128V1) Fields() Fields { return fieldsIf(h.URL, KeyURI|KeyFormat|KeyFormatVersions) }

// Signal returns the values of the key tag's attributes. It fails as
// [HLSAES128.Signal] does.
func (h HLSAES128V1) Signal(t *Track, want Fields) (Signaling, error) {
	return HLSAES128(h).signal(h.Name(), methodAES128, t, want&(KeyURI|KeyFormat|KeyFormatVersions))
}

// ID returns be58615b-19c4-4684-88b3-c8c57e99e957.
func (HLSSampleAES) ID() SystemID { return hlsSampleAESID }

// Name returns "HLS SAMPLE-AES".
func (HLSSampleAES) Name() string { return "HLS SAMPLE-AES" }

// Supports reports true for cbcs.
func (HLSSampleAES) Supports(s contentkey.Scheme) bool { return s == contentkey.Cbcs }

// Fields returns HLS if there is a URL.
func (h HLSSampleAES) Fields() Fields { return fieldsIf(h.URL, HLS) }

// Signal returns the key tag. It fails as [HLSAES128.Signal] does.
func (h HLSSampleAES) Signal(t *Track, want Fields) (Signaling, error) {
	if !h.Supports(t.Scheme) {
		return Signaling{}, schemeError(h, t.Scheme)
	}
	return HLSAES128(h).signal(h.Name(), methodSampleAES, t, want&HLS)
}

// CheckContent refuses a content ID that cannot be a path segment.
func (h HLSAES128) CheckContent(id string) error    { return checkSegment(h.Name(), id) }
func (h HLSAES128V1) CheckContent(id string) error  { return checkSegment(h.Name(), id) }
func (h HLSSampleAES) CheckContent(id string) error { return checkSegment(h.Name(), id) }

// checkSegment refuses segments that clients and servers fold away, whatever
// their encoding.
func checkSegment(system, contentID string) error {
	switch contentID {
	case "", ".", "..":
		return trackError(system, fmt.Sprintf("content ID %q cannot be a path segment", contentID))
	}
	return nil
}

func fieldsIf(url string, f Fields) Fields {
	if url == "" {
		return 0
	}
	return f
}

// Validate reports a URL that cannot be used.
func (h HLSAES128) Validate() error {
	if h.URL == "" {
		return nil
	}
	err := checkSecureURL(h.URL)
	if err == nil && strings.ContainsAny(h.URL, "?#") {
		err = errors.New("must end with its path, since the rest of the key URI is appended")
	}
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	return nil
}

// signal makes the signaling of the system of that name.
func (h HLSAES128) signal(system, method string, t *Track, want Fields) (Signaling, error) {
	if h.URL == "" || want == 0 {
		return Signaling{}, nil
	}
	if err := checkSegment(system, t.ContentID); err != nil {
		return Signaling{}, err
	}
	var scratch [512]byte
	uri := append(scratch[:0], strings.TrimSuffix(h.URL, "/")...)
	uri = append(uri, "/client/"...)
	uri = appendPercent(uri, t.ContentID, &inSegment)
	uri = append(uri, '/')
	uri = t.KID.AppendText(uri)

	u := uriSystem{method: method, uri: uri, format: hlsKeyFormat, room: t.Room}
	if h.IV {
		u.attr, u.attrData = attrIV, t.IV
	}
	return u.signal(want), nil
}
