package widevine

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"spekeasy/contentkey"
)

// The track types of the protocol.
const (
	SD    = "SD"
	HD    = "HD"
	UHD1  = "UHD1"
	UHD2  = "UHD2"
	Audio = "AUDIO"
)

// TrackTypes lists all track types, in the order in which packagers ask.
func TrackTypes() []string { return []string{SD, HD, UHD1, UHD2, Audio} }

// MaxPeriods bounds the crypto periods of one request. Shaka Packager asks
// for ten.
const MaxPeriods = 100

// maxContentID bounds a content ID, in bytes (D-510).
const maxContentID = 1024

// Request asks for content keys: by content ID those of a content, or by
// PSSHData those with the key IDs that it lists.
type Request struct {
	ContentID []byte            // any bytes; empty when there is PSSHData
	PSSHData  []byte            // the data of a Widevine pssh box
	Tracks    []string          // distinct; of TrackTypes
	Scheme    contentkey.Scheme // cenc unless the request says otherwise
	PlayReady bool              // PlayReady's boxes are asked for beside Widevine's

	// Rotation: PeriodCount is 0 for content without crypto periods.
	FirstPeriod, PeriodCount, PeriodSeconds uint32
}

// Periods returns the indexes of the crypto periods that are asked for.
func (r *Request) Periods() []uint32 {
	periods := make([]uint32, r.PeriodCount)
	for i := range periods {
		periods[i] = r.FirstPeriod + uint32(i)
	}
	return periods
}

// Status is what an answer says of its request (D-525). Shaka Packager takes
// any status that is not one of the protocol's for OK.
type Status string

// The statuses that we answer.
const (
	OK                      Status = "OK"
	SignatureFailed         Status = "SIGNATURE_FAILED"
	ContentIDMissing        Status = "CONTENT_ID_MISSING"
	TrackTypeMissing        Status = "TRACK_TYPE_MISSING"
	TrackTypeUnknown        Status = "TRACK_TYPE_UNKNOWN"
	MalformedRequest        Status = "MALFORMED_REQUEST"
	AccessDenied            Status = "ACCESS_DENIED"
	InvalidPSSH             Status = "INVALID_WIDEVINE_PSSH"
	TooManyContent          Status = "TOO_MANY_CONTENT_SPECIFIERS"
	AssetNotFound           Status = "ASSET_NOT_FOUND"
	AssetMissingKey         Status = "ASSET_MISSING_KEY"
	NoRequestedCryptoPeriod Status = "NO_REQUESTED_CRYPTO_PERIODS"
)

// Error is a refusal that the client hears as a status.
type Error struct {
	Status Status
	Reason string // for logs; never a secret
	Cause  error
}

func (e *Error) Error() string {
	text := string(e.Status)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Cause }

func refuse(s Status, format string, args ...any) error {
	return &Error{Status: s, Reason: fmt.Sprintf(format, args...)}
}

// ParseRequest reads the inner JSON of an envelope. Members that are not
// known are ignored, names may be written content_id or contentId, values of
// enumerations as names or numbers (D-510). The error is an [*Error].
func ParseRequest(text []byte) (*Request, error) {
	m, err := members(text)
	if err != nil {
		return nil, err
	}
	var in struct {
		contentID, psshData, groupID []byte
		tracks                       []map[string]json.RawMessage
		drmTypes                     []json.RawMessage
		first, count, seconds        *uint32
		entitlement                  bool
	}
	for _, member := range []struct {
		name string
		read func(json.RawMessage) error
	}{
		{"content_id", func(v json.RawMessage) error { return readBytes(v, &in.contentID) }},
		{"pssh_data", func(v json.RawMessage) error { return readBytes(v, &in.psshData) }},
		{"group_id", func(v json.RawMessage) error { return readBytes(v, &in.groupID) }},
		{"tracks", func(v json.RawMessage) error { return json.Unmarshal(v, &in.tracks) }},
		{"drm_types", func(v json.RawMessage) error { return json.Unmarshal(v, &in.drmTypes) }},
		{"first_crypto_period_index", func(v json.RawMessage) error { return readUint32(v, &in.first) }},
		{"crypto_period_count", func(v json.RawMessage) error { return readUint32(v, &in.count) }},
		{"crypto_period_seconds", func(v json.RawMessage) error { return readUint32(v, &in.seconds) }},
		{"enable_entitlement_license", func(v json.RawMessage) error { return json.Unmarshal(v, &in.entitlement) }},
	} {
		if v, ok := m[member.name]; ok {
			if err := member.read(v); err != nil {
				return nil, refuse(MalformedRequest, "%s cannot be read", member.name)
			}
		}
	}
	r := &Request{ContentID: in.contentID, PSSHData: in.psshData}
	switch {
	case len(r.ContentID) > 0 && len(r.PSSHData) > 0:
		return nil, refuse(TooManyContent, "content_id and pssh_data")
	case len(r.ContentID) == 0 && len(r.PSSHData) == 0:
		return nil, refuse(ContentIDMissing, "neither content_id nor pssh_data")
	case len(r.ContentID) > maxContentID:
		return nil, refuse(MalformedRequest, "content_id has more than %d bytes", maxContentID)
	case in.entitlement:
		return nil, refuse(AccessDenied, "entitlement licences need Widevine's own service (D-116)")
	case len(in.groupID) > 0:
		return nil, refuse(AccessDenied, "group licences need Widevine's own service (D-116)")
	}
	if r.Tracks, err = trackTypes(in.tracks); err != nil {
		return nil, err
	}
	if r.Scheme, err = scheme(m["protection_scheme"]); err != nil {
		return nil, err
	}
	for _, v := range in.drmTypes {
		r.PlayReady = r.PlayReady || enum(v) == "PLAYREADY"
	}
	if err := r.setPeriods(in.first, in.count, in.seconds); err != nil {
		return nil, err
	}
	return r, nil
}

// setPeriods judges the three members of a rotation, which come together.
func (r *Request) setPeriods(first, count, seconds *uint32) error {
	switch {
	case first == nil && count == nil:
		return nil
	case first == nil || count == nil:
		return refuse(MalformedRequest, "first_crypto_period_index and crypto_period_count belong together")
	case *count == 0:
		return refuse(NoRequestedCryptoPeriod, "crypto_period_count is 0")
	case *count > MaxPeriods:
		return refuse(MalformedRequest, "crypto_period_count is %d, more than %d", *count, MaxPeriods)
	case *first > math.MaxUint32-(*count-1):
		return refuse(MalformedRequest, "crypto periods %d and %d more do not fit 32 bits", *first, *count-1)
	case len(r.PSSHData) > 0:
		return refuse(MalformedRequest, "crypto periods of pssh_data")
	}
	r.FirstPeriod, r.PeriodCount = *first, *count
	if seconds != nil {
		r.PeriodSeconds = *seconds
	}
	return nil
}

// members reads a JSON object by the names of the protocol's description,
// whichever spelling was used. One member in both spellings is refused.
func members(text []byte) (map[string]json.RawMessage, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil || raw == nil {
		return nil, refuse(MalformedRequest, "not a JSON object")
	}
	m := make(map[string]json.RawMessage, len(raw))
	for name, v := range raw {
		if bytes.Equal(v, []byte("null")) {
			continue
		}
		name = snake(name)
		if _, twice := m[name]; twice {
			return nil, refuse(MalformedRequest, "%.64q twice", name)
		}
		m[name] = v
	}
	return m, nil
}

// snake turns contentId into content_id, as protobuf's JSON form has it.
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// readBytes reads base64 in either alphabet, padded or not.
func readBytes(v json.RawMessage, to *[]byte) error {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return err
	}
	s = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	if s == "" {
		return nil // as if it were not there
	}
	b, err := base64.RawStdEncoding.DecodeString(s)
	*to = b
	return err
}

// readUint32 reads a number, or a text with one.
func readUint32(v json.RawMessage, to **uint32) error {
	text := string(v)
	if v[0] == '"' {
		if err := json.Unmarshal(v, &text); err != nil {
			return err
		}
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return err
	}
	u := uint32(n)
	*to = &u
	return nil
}

// enum returns the name of an enumeration's value, or its number as text.
func enum(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

func trackTypes(tracks []map[string]json.RawMessage) ([]string, error) {
	var types []string
	for _, t := range tracks {
		name := enum(t["type"])
		switch {
		case name == "":
			return nil, refuse(TrackTypeMissing, "a track without a type")
		case !slices.Contains(TrackTypes(), name):
			return nil, refuse(TrackTypeUnknown, "%.64q", name)
		case slices.Contains(types, name):
			return nil, refuse(MalformedRequest, "track type %s twice", name)
		}
		types = append(types, name)
	}
	if len(types) == 0 {
		return nil, refuse(TrackTypeMissing, "no tracks")
	}
	return types, nil
}

// scheme reads the protection scheme: a name, or the number that its four
// letters make (D-111). Widevine plays cenc and cbcs (D-112).
func scheme(v json.RawMessage) (contentkey.Scheme, error) {
	switch name := enum(v); name {
	case "", "UNSPECIFIED", "0", "CENC", number(contentkey.Cenc):
		return contentkey.Cenc, nil
	case "CBCS", number(contentkey.Cbcs):
		return contentkey.Cbcs, nil
	default:
		return 0, refuse(MalformedRequest, "protection scheme %.64q is neither CENC nor CBCS", name)
	}
}

func number(s contentkey.Scheme) string { return strconv.FormatUint(uint64(s.FourCC()), 10) }
