package drm

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// WidevineData is the data of a Widevine pssh box, a protobuf message that is
// called WidevinePsshData or WidevineCencHeader (D-110 to D-117). Members are
// in the order of their field numbers. A member with its zero value is one
// that is not written; reading does not tell it from one that was absent.
type WidevineData struct {
	Algorithm           uint32   // 1, deprecated: 1 is AES-CTR
	KeyIDs              [][]byte // 2: 16 bytes each in the order of the UUID text, other lengths in old data
	Provider            string   // 3, deprecated
	ContentID           []byte   // 4: any bytes
	TrackType           string   // 5, deprecated: SD, HD, AUDIO
	Policy              string   // 6, deprecated
	CryptoPeriodIndex   uint32   // 7
	GroupedLicense      []byte   // 8, deprecated
	ProtectionScheme    uint32   // 9: four-character code of the scheme, 0 means cenc (D-111)
	CryptoPeriodSeconds uint32   // 10
	Type                uint32   // 11: 0 single, 1 entitlement, 2 entitled key
	KeySequence         uint32   // 12
	GroupIDs            [][]byte // 13
	EntitledKeys        []WidevineEntitledKey
	VideoFeature        string // 15
}

// WidevineEntitledKey is a content key that is wrapped by an entitlement key,
// field 14 of [WidevineData]. Only Widevine's own service can hand out the
// entitlement key, so this is for reading other people's boxes (D-116).
type WidevineEntitledKey struct {
	EntitlementKeyID   []byte // 1
	KeyID              []byte // 2
	WrappedKey         []byte // 3
	IV                 []byte // 4
	EntitlementKeySize uint32 // 5, in bytes
}

// ErrWidevineData reports bytes that are not a protobuf message or hold a
// known field in a form that cannot be read.
var ErrWidevineData = errors.New("malformed Widevine data")

// Append appends the message to b, fields in ascending order (D-110).
func (d WidevineData) Append(b []byte) []byte {
	b = appendUint(b, 1, d.Algorithm)
	b = appendEach(b, 2, d.KeyIDs)
	b = appendText(b, 3, d.Provider)
	b = appendBytes(b, 4, d.ContentID)
	b = appendText(b, 5, d.TrackType)
	b = appendText(b, 6, d.Policy)
	b = appendUint(b, 7, d.CryptoPeriodIndex)
	b = appendBytes(b, 8, d.GroupedLicense)
	b = appendUint(b, 9, d.ProtectionScheme)
	b = appendUint(b, 10, d.CryptoPeriodSeconds)
	b = appendUint(b, 11, d.Type)
	b = appendUint(b, 12, d.KeySequence)
	b = appendEach(b, 13, d.GroupIDs)
	for i := range d.EntitledKeys {
		b = protowire.AppendTag(b, 14, protowire.BytesType)
		b = protowire.AppendBytes(b, d.EntitledKeys[i].append(nil))
	}
	return appendText(b, 15, d.VideoFeature)
}

func (k *WidevineEntitledKey) append(b []byte) []byte {
	b = appendBytes(b, 1, k.EntitlementKeyID)
	b = appendBytes(b, 2, k.KeyID)
	b = appendBytes(b, 3, k.WrappedKey)
	b = appendBytes(b, 4, k.IV)
	return appendUint(b, 5, k.EntitlementKeySize)
}

func appendUint(b []byte, n protowire.Number, v uint32) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, n, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(v))
}

func appendText(b []byte, n protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	b = protowire.AppendTag(b, n, protowire.BytesType)
	return protowire.AppendString(b, v)
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendEach(b, n, [][]byte{v})
}

func appendEach(b []byte, n protowire.Number, vs [][]byte) []byte {
	for _, v := range vs {
		b = protowire.AppendTag(b, n, protowire.BytesType)
		b = protowire.AppendBytes(b, v)
	}
	return b
}

// ParseWidevineData reads the data of a Widevine box (D-115): fields in any
// order, the last value of a singular one, unknown ones skipped, groups and
// truncated values refused with [ErrWidevineData]. Byte slices are parts of
// b, not copies.
func ParseWidevineData(b []byte) (WidevineData, error) {
	var d WidevineData
	err := eachField(b, func(n protowire.Number, v uint64, p []byte) error {
		if p == nil { // a varint
			switch n {
			case 1:
				d.Algorithm = uint32(v)
			case 7:
				d.CryptoPeriodIndex = uint32(v)
			case 9:
				d.ProtectionScheme = uint32(v)
			case 10:
				d.CryptoPeriodSeconds = uint32(v)
			case 11:
				d.Type = uint32(v)
			case 12:
				d.KeySequence = uint32(v)
			}
			return nil
		}
		switch n {
		case 2:
			d.KeyIDs = append(d.KeyIDs, p)
		case 3:
			d.Provider = string(p)
		case 4:
			d.ContentID = p
		case 5:
			d.TrackType = string(p)
		case 6:
			d.Policy = string(p)
		case 8:
			d.GroupedLicense = p
		case 13:
			d.GroupIDs = append(d.GroupIDs, p)
		case 14:
			k, err := parseEntitledKey(p)
			if err != nil {
				return fmt.Errorf("entitled key: %w", err)
			}
			d.EntitledKeys = append(d.EntitledKeys, k)
		case 15:
			d.VideoFeature = string(p)
		}
		return nil
	})
	if err != nil {
		return WidevineData{}, err
	}
	return d, nil
}

func parseEntitledKey(b []byte) (k WidevineEntitledKey, err error) {
	err = eachField(b, func(n protowire.Number, v uint64, p []byte) error {
		switch {
		case n == 1 && p != nil:
			k.EntitlementKeyID = p
		case n == 2 && p != nil:
			k.KeyID = p
		case n == 3 && p != nil:
			k.WrappedKey = p
		case n == 4 && p != nil:
			k.IV = p
		case n == 5 && p == nil:
			k.EntitlementKeySize = uint32(v)
		}
		return nil
	})
	return k, err
}

// eachField calls f for each varint and each length-delimited field of a
// message, the latter with p, which is not nil. As in any protobuf reader, a
// known number with another wire type counts as unknown.
func eachField(b []byte, f func(n protowire.Number, v uint64, p []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", ErrWidevineData, protowire.ParseError(n))
		}
		b = b[n:]
		var v uint64
		var p []byte
		known := true
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			p, n = protowire.ConsumeBytes(b)
		case protowire.Fixed32Type, protowire.Fixed64Type:
			known = false
			n = protowire.ConsumeFieldValue(num, typ, b)
		default:
			return fmt.Errorf("%w: field %d is a group", ErrWidevineData, num)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", ErrWidevineData, num, protowire.ParseError(n))
		}
		b = b[n:]
		if !known {
			continue
		}
		if err := f(num, v, p); err != nil {
			return err
		}
	}
	return nil
}
