package encryptor

import (
	"crypto/md5" //nolint:gosec // UUIDs of version 3 are made with MD5; nothing here is a secret
	"fmt"
	"net/url"
	"strconv"
	"time"

	"spekeasy/contentkey"
)

// namespaceURL is the namespace of RFC 9562 for names that are URLs.
var namespaceURL = [16]byte{0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}

// nameUUID is the name-based UUID of version 3 of a name in the URL
// namespace (RFC 9562, 5.3).
func nameUUID(name string) contentkey.KID {
	sum := md5.Sum(append(namespaceURL[:], name...)) //nolint:gosec // see the import
	sum[6] = sum[6]&0x0f | 0x30
	sum[8] = sum[8]&0x3f | 0x80
	return sum
}

// KeyID is the key ID that requests have for a track in a key period when no
// other is given. It is a name-based UUID of version 3, as those of
// MediaPackage are (SX-SEQ-13), in the URL namespace, of the name
//
//	spekeasy:kid?content=C&period=P&track=T
//
// with the content ID, [contentkey.Period.Name] and intendedTrackType, each
// escaped as in a URL's query. Track and period are empty where there is none.
//
//	uuidgen --md5 --namespace @url --name 'spekeasy:kid?content=movie&period=&track=VIDEO'
func KeyID(contentID, track string, period contentkey.Period) contentkey.KID {
	q := url.Values{"content": {contentID}, "period": {period.Name()}, "track": {track}}
	return nameUUID("spekeasy:kid?" + q.Encode())
}

// periodID is the ID of a key period that was given without one: such a UUID
// of the name spekeasy:period?content=C&period=P. MediaPackage v2 writes the
// UUID alone, others put keyPeriod_ before it (S2-PAY-51).
func (p *plan) periodID(name string) string {
	id := nameUUID("spekeasy:period?" + url.Values{"content": {p.contentID}, "period": {name}}.Encode()).String()
	if p.observed() {
		return id
	}
	return "keyPeriod_" + id
}

// deriveIV is the explicitIV of requests that bring one: such a UUID of the
// name spekeasy:iv?kid=K.
func deriveIV(kid contentkey.KID) contentkey.IV {
	return contentkey.IV(nameUUID("spekeasy:iv?kid=" + kid.String()))
}

// Timing says which attributes tell a key period's place in time
// (S21-SEQ-21). The values are those of MediaPackage v2.
type Timing string

// The timings.
const (
	IndexOnly         Timing = "INDEX_ONLY"
	StartEndOnly      Timing = "START_END_ONLY"       // SPEKE 2.1
	IndexWithStartEnd Timing = "INDEX_WITH_START_END" // SPEKE 2.1
)

// NewPeriod returns a key period with those attributes that the timing calls
// for. Start is included in the period and end is not (S21-SEQ-24); both are
// written in UTC with whole seconds.
func NewPeriod(t Timing, index uint32, start, end time.Time) (contentkey.Period, error) {
	const layout = "2006-01-02T15:04:05Z"
	var p contentkey.Period
	switch t {
	case IndexOnly, StartEndOnly, IndexWithStartEnd:
	default:
		return p, fmt.Errorf("key period timing %q: none of %s, %s, %s", t, IndexOnly, StartEndOnly, IndexWithStartEnd)
	}
	if t != StartEndOnly {
		p.Index = strconv.FormatUint(uint64(index), 10)
	}
	if t != IndexOnly {
		if !end.After(start) {
			return contentkey.Period{}, fmt.Errorf("key period %d: end is not after start", index)
		}
		p.Start, p.End = start.UTC().Format(layout), end.UTC().Format(layout)
	}
	return p, nil
}
