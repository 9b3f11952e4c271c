// Package drm makes the signaling that each DRM system needs for one content
// key: pssh boxes, DASH ContentProtection children, HLS key tags, PlayReady
// objects. It turns resolved keys into bytes and knows neither CPIX nor XML
// documents, HTTP or storage.
//
// Each system is a small struct whose fields are a customer's settings and
// whose zero value is useful; all of them satisfy [System]. The set that a
// customer may use is a plain slice, so that adding a system is adding a file.
// [V1] and [V2] make the sets of the SPEKE versions and check the settings;
// whoever makes systems by hand calls Validate first.
//
// What others have signaled is read by [ParseBox], [ParseWidevineData] and
// [ParsePlayReadyObject].
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
func (id SystemID) String() string {
	if s := id.find(); s != nil {
		return s.text
	}
	return contentkey.KID(id).String()
}

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
	IV        contentkey.IV     // the IV that the encryptor will use; all zero is an IV too
	Scheme    contentkey.Scheme // the scheme that the encryptor will use

	// Room is where signaling is written, which then is good until the
	// room's Reset. nil is fine: then it has memory of its own.
	Room *Room
}

// Format hides the key, also from a verb that does not fit.
func (t Track) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(track of %q, key ID %s, %s)", t.ContentID, t.KID, t.Scheme)
}

// Signaling is what players of one system need for one content key. A member
// is nil or empty when it was not asked for or when the system has no such
// value. All texts are raw: whoever writes them into CPIX encodes them.
// The caller owns the bytes, or the track's Room does; members never overlap,
// and appending to one does not reach another.
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
	// The error is ErrScheme for a scheme that is not supported and ErrTrack
	// for a track that the settings cannot express; it never shows key
	// material.
	Signal(t *Track, want Fields) (Signaling, error)
}

// ContentChecker is a [System] that cannot signal every content ID. Whoever
// makes keys asks it first, so that no key is made for an answer that fails.
type ContentChecker interface {
	// CheckContent returns ErrTrack for a content ID that Signal refuses.
	CheckContent(contentID string) error
}

// ErrScheme reports a common encryption scheme that the system does not play.
var ErrScheme = errors.New("scheme not supported by the DRM system")

// ErrTrack reports a track that the system's settings cannot express: a
// content ID that does not fit where it has to go.
var ErrTrack = errors.New("track cannot be signaled")

func trackError(system, why string) error {
	return fmt.Errorf("%s: %w: %s", system, ErrTrack, why)
}

func schemeError(s System, scheme contentkey.Scheme) error {
	return fmt.Errorf("%s: %w: %q", s.Name(), ErrScheme, scheme)
}

// SystemName returns a readable name for the registered ID of a DRM system,
// also of those that are not made here, or "" for an ID that is not known. It
// is for reading other people's documents and boxes.
func SystemName(id SystemID) string {
	if s := id.find(); s != nil {
		return s.name
	}
	return ""
}

// knownSystem is a system ID with its text, which need not be made then, and
// its name.
type knownSystem struct {
	id         SystemID
	text, name string
}

func (id SystemID) find() *knownSystem {
	for i := range knownSystems {
		if knownSystems[i].id == id {
			return &knownSystems[i]
		}
	}
	return nil
}

var knownSystems = []knownSystem{
	known("edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", "Widevine"),
	known("9a04f079-9840-4286-ab92-e65be0885f95", "PlayReady"),
	known("94ce86fb-07ff-4f43-adb8-93d2fa968ca2", "FairPlay"),
	known("29701fe4-3cc7-4a34-8c5b-ae90c7439a47", "FairPlay (Shaka Packager)"), // not registered, never to be written
	known("1077efec-c0b2-4d02-ace3-3c1e52e2fb4b", "W3C common PSSH"),
	known("e2719d58-a985-b3c9-781a-b030af78d30e", "Clear Key"),
	known("3ea8778f-7742-4bf9-b18b-e834b2acbd47", "HLS AES-128"),
	known("be58615b-19c4-4684-88b3-c8c57e99e957", "HLS SAMPLE-AES"),
	known("81376844-f976-481e-a84e-cc25d39b0b33", "HLS AES-128 (SPEKE v1)"),
	known("80a6be7e-1448-4c37-9e70-d5aebe04c8d2", "Irdeto"),
	known("5e629af5-38da-4063-8977-97ffbd9902d4", "Marlin"),
	known("3d5e6d35-9b9a-41e8-b843-dd3c6e72c42c", "WisePlay"),
	known("d9e4411a-e886-4909-a380-a77f28d52335", "NCG"),
	known("48582a1d-1ff4-426e-8cd5-06424fcc578c", "NCG HLS SAMPLE-AES"),
}

func known(text, name string) knownSystem {
	id, err := ParseSystemID(text)
	if err != nil {
		panic(err) // the table is constant
	}
	return knownSystem{id, text, name}
}
