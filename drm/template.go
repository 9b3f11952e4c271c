package drm

import (
	"encoding/hex"
	"fmt"
	"strings"

	"spekeasy/internal/b64"
)

// Template is a setting that is filled in for each track: a text with
// placeholders in braces, or a single word that names a form known to the
// system that uses it. The zero Template asks for the system's default.
//
// The placeholders are {kid}, the UUID text in lower case; {kid_hex}, its 32
// hexadecimal digits; {kid_b64}, the base64 of its 16 bytes; {iv_hex} and
// {iv_b64}, the same for the IV; and {content_id} (D-303).
type Template struct {
	text  string
	parts []part // nil for a word
}

// part is some literal text and the placeholder that follows it.
type part struct {
	literal string
	value   string // placeholder without its braces, "" at the end
}

// ParseTemplate reads a template. It fails for an unknown placeholder and for
// a brace without its partner.
func ParseTemplate(s string) (Template, error) {
	t := Template{text: s}
	if !strings.ContainsAny(s, "{}") {
		return t, nil
	}
	rest := s
	for rest != "" {
		literal, after, found := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return Template{}, fmt.Errorf("template %q: } without {", s)
		}
		p := part{literal: literal}
		if found {
			p.value, rest, found = strings.Cut(after, "}")
			if !found {
				return Template{}, fmt.Errorf("template %q: { without }", s)
			}
			switch p.value {
			case "kid", "kid_hex", "kid_b64", "iv_hex", "iv_b64", "content_id":
			default:
				return Template{}, fmt.Errorf("template %q: unknown placeholder {%s}", s, p.value)
			}
		} else {
			rest = ""
		}
		t.parts = append(t.parts, p)
	}
	return t, nil
}

// String returns the text that was parsed.
func (m Template) String() string { return m.text }

// IsZero reports whether the template is unset.
func (m Template) IsZero() bool { return m.text == "" }

// MarshalText returns the text that was parsed.
func (m Template) MarshalText() ([]byte, error) { return []byte(m.text), nil }

// UnmarshalText is [ParseTemplate].
func (m *Template) UnmarshalText(b []byte) (err error) {
	*m, err = ParseTemplate(string(b))
	return err
}

// uses reports whether one of the placeholders has a name that starts so.
func (m Template) uses(prefix string) bool {
	for _, p := range m.parts {
		if p.value != "" && strings.HasPrefix(p.value, prefix) {
			return true
		}
	}
	return false
}

// append appends the template filled in for the track. Where the result is a
// URI, the content ID is percent-encoded as far as a URI demands it, which
// covers all that an HLS quoted string forbids; decoding gives it back.
func (m Template) append(b []byte, t *Track, uri bool) []byte {
	for _, p := range m.parts {
		b = append(b, p.literal...)
		switch p.value {
		case "kid":
			b = t.KID.AppendText(b)
		case "kid_hex":
			b = hex.AppendEncode(b, t.KID[:])
		case "kid_b64":
			b = b64.Append(b, t.KID[:])
		case "iv_hex":
			b = hex.AppendEncode(b, t.IV[:])
		case "iv_b64":
			b = b64.Append(b, t.IV[:])
		case "content_id":
			if uri {
				b = appendPercent(b, t.ContentID, &inURI)
			} else {
				b = append(b, t.ContentID...)
			}
		}
	}
	return b
}

// The characters of a URI, RFC 3986 section 2.
const (
	unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	reserved   = ":/?#[]@!$&'()*+,;="
)

type byteSet [256]bool

func setOf(chars string) (set byteSet) {
	for i := range len(chars) {
		set[chars[i]] = true
	}
	return set
}

var (
	inSegment = setOf(unreserved) // one segment of a path, whatever the text
	inURI     = setOf(unreserved + reserved)
)

// appendPercent percent-encodes all bytes of s but the plain ones.
func appendPercent(b []byte, s string, plain *byteSet) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; plain[c] {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
