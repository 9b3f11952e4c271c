package xmltree

import "unicode/utf8"

// firstBadChar returns the offset of the first byte of src that is not part
// of a UTF-8 encoded XML character, or -1. It looks at eight bytes at a time,
// since nearly all of a request is printable ASCII.
func firstBadChar(src string) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for i+8 <= len(src) {
		b := src[i : i+8]
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		// A byte is suspect when it is below 0x20 or has its high bit set.
		if (w-ones*0x20|w)&highs == 0 {
			i += 8
			continue
		}
		for end := i + 8; i < end; {
			n := charLen(src[i:])
			if n == 0 {
				return i
			}
			i += n
		}
	}
	for i < len(src) {
		n := charLen(src[i:])
		if n == 0 {
			return i
		}
		i += n
	}
	return -1
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
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c >= utf8.RuneSelf:
			t[c] = nameByte | startByte
		case c >= '0' && c <= '9', c == '-', c == '.':
			t[c] = nameByte
		case c == ' ', c == '\t', c == '\n', c == '\r':
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
