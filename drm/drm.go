// Package drm makes the signaling that each DRM system needs for one content
// key: pssh boxes, DASH ContentProtection children, HLS key tags, PlayReady
// objects. It turns resolved keys into bytes and knows neither CPIX nor XML
// documents, HTTP or storage.
//
// Each system is a small struct whose fields are a customer's settings and
// whose zero value is useful; all of them satisfy [System]. The set that a
// customer may use is a plain slice, so that adding a system is adding a file.
package drm

import (
	"errors"
	"fmt"

	"spekeasy/contentkey"
)

// SystemID is the UUID under which a DRM system is registered with DASH-IF,
// in the byte order in which it is written.
type SystemID [16]byte

// ParseSystemID reads a UUID in either letter case.
func ParseSystemID(s string) (SystemID, error) {
	k, err := contentkey.ParseKID(s)
	return SystemID(k), err
}

// String returns the lower-case UUID text.
func (id SystemID) String() string { return contentkey.KID(id).String() }

// MarshalText returns the lower-case UUID text.
func (id SystemID) MarshalText() ([]byte, error) { return contentkey.KID(id).MarshalText() }

// UnmarshalText is [ParseSystemID].
func (id *SystemID) UnmarshalText(b []byte) error { return (*contentkey.KID)(id).UnmarshalText(b) }

// Fields is a set of the signaling values that an encryptor may ask for.
type Fields uint8

// The values of [Signaling], as members of a [Fields] set.
const (
	PSSH              Fields = 1 << iota // the pssh box
	ContentProtection                    // the children of a DASH ContentProtection element
	HLS                                  // the attributes of an HLS key tag
	Smooth                               // the Smooth Streaming protection header
	KeyURI                               // EXT-X-KEY URI alone (SPEKE v1)
	KeyFormat                            // KEYFORMAT alone (SPEKE v1)
	KeyFormatVersions                    // KEYFORMATVERSIONS alone (SPEKE v1)
)

// Track is what a system knows of the content key that it signals.
type Track struct {
	ContentID string            // the encryptor's name for the content, any text
	KID       contentkey.KID    // the key ID that players will ask for
	Key       contentkey.Value  // PlayReady's CHECKSUM is computed from it
	IV        contentkey.IV     // the stored or explicit IV; zero when there is none
	Scheme    contentkey.Scheme // the scheme that the encryptor will use
}

// Signaling is what players of one system need for one content key. A member
// is nil or empty when it was not asked for or when the system has no such
// value. All texts are raw: whoever writes them into CPIX encodes them.
type Signaling struct {
	PSSH              []byte // one whole pssh box
	ContentProtection []byte // XML fragment, UTF-8, namespaces declared inside
	HLS               []byte // attribute list after "#EXT-X-KEY:" and "#EXT-X-SESSION-KEY:" alike
	Smooth            []byte // PlayReady Object, not a pssh box
	KeyURI            []byte // text of the EXT-X-KEY URI attribute, without quotes
	KeyFormat         []byte // text of KEYFORMAT, without quotes
	KeyFormatVersions []byte // text of KEYFORMATVERSIONS, without quotes
}

// System makes the signaling of one DRM system.
type System interface {
	// ID is the system's registered UUID.
	ID() SystemID

	// Name is a short readable name, such as "Widevine".
	Name() string

	// Supports reports whether content of the scheme can be played by
	// clients of the system.
	Supports(contentkey.Scheme) bool

	// Fields is the set of values that the system defines with its present
	// settings. It does not depend on the track.
	Fields() Fields

	// Signal returns those of the wanted values that the system defines.
	// The error is ErrScheme for a scheme that is not supported; it never
	// shows key material.
	Signal(t *Track, want Fields) (Signaling, error)
}

// ErrScheme reports a common encryption scheme that the system does not play.
var ErrScheme = errors.New("scheme not supported by the DRM system")

func schemeError(s System, scheme contentkey.Scheme) error {
	return fmt.Errorf("%s: %w: %q", s.Name(), ErrScheme, scheme)
}
