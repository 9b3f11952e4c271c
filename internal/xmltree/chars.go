package xmltree

import (
	"math/bits"
	"unicode/utf8"
)

// Most of a request is printable ASCII, so the loops over all of it look at
// eight bytes at a time.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// word returns the first eight bytes of s, the first one lowest.
func word(s string) uint64 {
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// checkChars returns the offset of the first byte of src that is not part of a
// UTF-8 encoded XML character, or -1, and whether all before it is ASCII.
func checkChars(src string) (bad int, ascii bool) {
	ascii = true
	for i := 0; i < len(src); {
		if i+16 <= len(src) {
			w, v := suspects(src[i:i+8]), suspects(src[i+8:i+16])
			if w|v == 0 {
				i += 16
				continue
			}
			if w != 0 {
				i += bits.TrailingZeros64(w) / 8
			} else {
				i += 8 + bits.TrailingZeros64(v)/8
			}
		}
		if src[i] == '\n' {
			i++
			continue
		}
		n := charLen(src[i:])
		if n == 0 {
			return i, ascii
		}
		ascii = ascii && n == 1
		i += n
	}
	return -1, ascii
}

// suspects sets the high bit of those of the first eight bytes of s that are
// below 0x20 or not ASCII, and perhaps of bytes above the lowest of them.
func suspects(s string) uint64 {
	w := word(s)
	return (w | (w - ones*' ')) & highs
}

// isPlain reports whether s has no '&', no '<' and no white space but blanks,
// so that as an attribute value it means what it says. It has no other
// control characters.
func isPlain(s string) bool {
	for ; len(s) >= 8; s = s[8:] {
		w := word(s[:8])
		amp, lt := w^ones*'&', w^ones*'<'
		if ((w-ones*0x20)&^w|(amp-ones)&^amp|(lt-ones)&^lt)&highs != 0 {
			return false
		}
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '&' || c == '<' {
			return false
		}
	}
	return true
}

// nameLen returns how many name bytes s begins with.
func nameLen(s string) int {
	for i := range len(s) {
		if class[s[i]]&nameByte == 0 {
			return i
		}
	}
	return len(s)
}

// charLen returns the length of the XML character at the beginning of s, or
// 0 when there is none.
func charLen(s string) int {
	if c := s[0]; c < utf8.RuneSelf {
		if c >= 0x20 || c == '\n' || c == '\t' || c == '\r' {
			return 1
		}
		return 0
	}
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError && n == 1 || !isChar(r) {
		return 0
	}
	return n
}

// isChar is the production Char of XML 1.0.
func isChar(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' ||
		r >= 0x20 && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd || r >= 0x10000 && r <= 0x10ffff
}

// Classes of bytes in names. Bytes of longer characters count as name bytes
// here and are looked at again by validName.
const (
	nameByte  = 1 << iota // may stand in a name
	startByte             // may begin a name
	spaceByte             // white space
	plainByte             // white space that no reader normalizes
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c >= utf8.RuneSelf:
			t[c] = nameByte | startByte
		case c >= '0' && c <= '9', c == '-', c == '.':
			t[c] = nameByte
		case c == ' ', c == '\t', c == '\n':
			t[c] = spaceByte | plainByte
		case c == '\r':
			t[c] = spaceByte
		}
	}
	return t
}()

// validName reports whether s, whose bytes are all name bytes, is an NCName.
func validName(s string) bool {
	if len(s) == 0 || class[s[0]]&startByte == 0 {
		return false
	}
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if !isNameStart(r) && (i == 0 || !isNameRest(r)) {
			return false
		}
		i += n
	}
	return true
}

// isNameStart and isNameRest are NameStartChar and the rest of NameChar of
// XML 1.0 beyond ASCII.
func isNameStart(r rune) bool {
	switch {
	case r >= 0xc0 && r <= 0x2ff:
		return r != 0xd7 && r != 0xf7
	case r >= 0x370 && r <= 0x1fff:
		return r != 0x37e
	}
	return r == 0x200c || r == 0x200d || r >= 0x2070 && r <= 0x218f || r >= 0x2c00 && r <= 0x2fef ||
		r >= 0x3001 && r <= 0xd7ff || r >= 0xf900 && r <= 0xfdcf || r >= 0xfdf0 && r <= 0xfffd ||
		r >= 0x10000 && r <= 0xeffff
}

func isNameRest(r rune) bool {
	return r == 0xb7 || r >= 0x300 && r <= 0x36f || r == 0x203f || r == 0x2040
}

// reference resolves the text between & and ; of a reference.
func reference(s string) (rune, bool) {
	switch s {
	case "lt":
		return '<', true
	case "gt":
		return '>', true
	case "amp":
		return '&', true
	case "quot":
		return '"', true
	case "apos":
		return '\'', true
	}
	if len(s) < 2 || s[0] != '#' {
		return 0, false
	}
	digits, base := s[1:], rune(10)
	if digits[0] == 'x' {
		digits, base = digits[1:], 16
	}
	if len(digits) == 0 {
		return 0, false
	}
	var r rune
	for i := range len(digits) {
		c := digits[i]
		var v rune
		switch {
		case c >= '0' && c <= '9':
			v = rune(c - '0')
		case base == 16 && c >= 'a' && c <= 'f':
			v = rune(c-'a') + 10
		case base == 16 && c >= 'A' && c <= 'F':
			v = rune(c-'A') + 10
		default:
			return 0, false
		}
		if r = r*base + v; r > 0x10ffff {
			return 0, false
		}
	}
	return r, isChar(r)
}
