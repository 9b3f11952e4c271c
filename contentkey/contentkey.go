// Package contentkey holds the small values that every part of a key exchange
// passes on: the key ID, the content key itself, its initialization vector,
// the common encryption scheme and the key period.
//
// The types are plain values. A [Value] prints as a fixed word under every
// formatting verb and encoder, so that a content key cannot reach a log or an
// error by accident; whoever needs the bytes takes the array itself.
package contentkey

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// KID is a key ID: the 16 bytes of a UUID in the order in which the UUID is
// written ("big-endian"). It is what tenc and pssh boxes, Widevine data and
// Clear Key carry; PlayReady's byte order is made in package drm only.
type KID [16]byte

// ErrKID reports a text that is not a UUID of the CPIX form.
var ErrKID = errors.New("not a UUID")

// ParseKID reads a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in
// either letter case (CPIX-TYP-01). Braces, a urn: prefix and missing hyphens
// are refused with [ErrKID].
func ParseKID(s string) (KID, error) { return parseKID(s) }

// ParseKIDBytes is [ParseKID] for text that is a byte slice.
func ParseKIDBytes(s []byte) (KID, error) { return parseKID(s) }

// kidDigits are the places of the pairs of digits in a UUID text.
var kidDigits = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

func parseKID[T string | []byte](s T) (k KID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return KID{}, ErrKID
	}
	var all byte
	for i, at := range kidDigits {
		hi, lo := unhex[s[at]], unhex[s[at+1]]
		all |= hi | lo
		k[i] = hi<<4 | lo
	}
	if all > 0x0f {
		return KID{}, ErrKID
	}
	return k, nil
}

// unhex maps a hexadecimal digit to its value and every other byte to 0xff.
var unhex = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range byte(10) {
		t['0'+i] = i
	}
	for i := range byte(6) {
		t['a'+i], t['A'+i] = 10+i, 10+i
	}
	return t
}()

// String returns the lower-case UUID text.
func (k KID) String() string {
	var b [36]byte
	return string(k.AppendText(b[:0]))
}

// AppendText appends the lower-case UUID text to b.
func (k KID) AppendText(b []byte) []byte {
	const digits = "0123456789abcdef"
	text := [36]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	for i, at := range kidDigits {
		text[at], text[at+1] = digits[k[i]>>4], digits[k[i]&0x0f]
	}
	return append(b, text[:]...)
}

// MarshalText returns the lower-case UUID text.
func (k KID) MarshalText() ([]byte, error) { return k.AppendText(nil), nil }

// UnmarshalText is [ParseKID].
func (k *KID) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKIDBytes(b)
	return err
}

// Value is a content key: the 16 bytes that encrypt media. Formatting,
// logging and encoding it give a fixed word instead of the bytes.
type Value [16]byte

const hidden = "(content key)"

// String hides the key.
func (Value) String() string { return hidden }

// Format hides the key from every verb of package fmt, %x and %#v included.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// LogValue hides the key from log/slog.
func (Value) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the key from encoders such as encoding/json.
func (Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// IV is an initialization vector: the 16 bytes of CPIX explicitIV. It need
// not be secret, but it must reach the encryptor and the licence side alike.
type IV [16]byte

// ErrIV reports a text that is not the base64 of 16 bytes.
var ErrIV = errors.New("not the base64 of 16 bytes")

// ParseIV reads the base64 text of 16 bytes. White space is skipped and
// non-zero trailing bits are accepted, as AWS's own samples have both
// (CPIX-TYP-08).
func ParseIV(s string) (IV, error) {
	if strings.ContainsAny(s, " \t\r\n") {
		s = strings.Join(strings.Fields(s), "")
	}
	var b [18]byte // what the decoder wants room for
	if len(s) != base64.StdEncoding.EncodedLen(len(IV{})) {
		return IV{}, ErrIV
	}
	if n, err := base64.StdEncoding.Decode(b[:], []byte(s)); err != nil || n != len(IV{}) {
		return IV{}, ErrIV
	}
	return IV(b[:16]), nil
}

// String returns the base64 text, as CPIX writes it.
func (iv IV) String() string { return base64.StdEncoding.EncodeToString(iv[:]) }

// IsZero reports whether all bytes are zero, which stands for "none".
func (iv IV) IsZero() bool { return iv == IV{} }

// Scheme is a protection scheme of ISO/IEC 23001-7, the common encryption
// scheme of CPIX.
type Scheme uint8

// The four schemes of ISO/IEC 23001-7. The zero Scheme stands for none.
const (
	Cenc Scheme = iota + 1 // AES-CTR, whole samples or subsamples
	Cens                   // AES-CTR with a pattern
	Cbc1                   // AES-CBC, whole samples or subsamples
	Cbcs                   // AES-CBC with a pattern and a constant IV
)

var schemeNames = [...]string{"", "cenc", "cens", "cbc1", "cbcs"}

// ErrScheme reports a name that is not one of the four schemes.
var ErrScheme = errors.New("not a common encryption scheme")

// ParseScheme reads the four-character name of a scheme.
func ParseScheme(s string) (Scheme, error) {
	for i, name := range schemeNames {
		if i > 0 && s == name {
			return Scheme(i), nil
		}
	}
	return 0, ErrScheme
}

// String returns the four-character name, or "" for the zero Scheme.
func (s Scheme) String() string {
	if int(s) < len(schemeNames) {
		return schemeNames[s]
	}
	return fmt.Sprintf("scheme(%d)", uint8(s))
}

// FourCC returns the name as the big-endian integer that Widevine data and
// schm boxes carry (D-111), or 0 for the zero Scheme.
func (s Scheme) FourCC() uint32 {
	if s == 0 || int(s) >= len(schemeNames) {
		return 0
	}
	n := schemeNames[s]
	return uint32(n[0])<<24 | uint32(n[1])<<16 | uint32(n[2])<<8 | uint32(n[3])
}

// MarshalText returns the four-character name.
func (s Scheme) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is [ParseScheme]; the empty text is the zero Scheme.
func (s *Scheme) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*s = 0
		return nil
	}
	*s, err = ParseScheme(string(b))
	return err
}

// Period is a key period as the encryptor named it: a span of time with its
// own keys. All members are the literal texts of the request, since a key
// provider echoes them and never interprets the times (S21-SEQ-22, -23);
// absent attributes are "".
type Period struct {
	ID    string // ContentKeyPeriod@id
	Index string // @index, a counter that may start anywhere and wrap (SX-SEQ-14)
	Start string // @start (xs:dateTime) or @startOffset (xs:duration)
	End   string // @end or @endOffset
}

// IsZero reports whether there is no period.
func (p Period) IsZero() bool { return p == Period{} }

// Name returns the text that tells this period from the others of its content
// in KID rules: the index; without one, the start; without both, the ID.
func (p Period) Name() string {
	switch {
	case p.Index != "":
		return p.Index
	case p.Start != "":
		return p.Start
	default:
		return p.ID
	}
}
