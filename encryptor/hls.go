package encryptor

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// hlsTag is an HLS key tag with its attributes in order.
type hlsTag struct {
	name  string // "#EXT-X-KEY" or "#EXT-X-SESSION-KEY"
	attrs []hlsAttr
}

type hlsAttr struct {
	name, value string
	quoted      bool
}

// get returns an attribute's value, "" for none.
func (t *hlsTag) get(name string) string {
	for i := range t.attrs {
		if t.attrs[i].name == name {
			return t.attrs[i].value
		}
	}
	return ""
}

// parseTag reads one tag line with its attribute list (RFC 8216, 4.2).
func parseTag(line string) (*hlsTag, error) {
	if !utf8.ValidString(line) || strings.HasPrefix(line, "\ufeff") {
		return nil, errors.New("not UTF-8 without byte-order mark")
	}
	if strings.ContainsAny(line, "\r\n") {
		return nil, errors.New("more than one line")
	}
	name, rest, ok := strings.Cut(line, ":")
	if !ok || !strings.HasPrefix(name, "#EXT") {
		return nil, errors.New("not an HLS tag")
	}
	t := &hlsTag{name: name}
	seen := make(map[string]bool)
	for {
		var a hlsAttr
		if a.name, rest, ok = strings.Cut(rest, "="); !ok || !attributeName(a.name) {
			return nil, errors.New("an attribute without name or value")
		}
		if seen[a.name] {
			return nil, errors.New("an attribute that occurs twice")
		}
		seen[a.name] = true
		if a.quoted = strings.HasPrefix(rest, `"`); a.quoted {
			if a.value, rest, ok = strings.Cut(rest[1:], `"`); !ok {
				return nil, errors.New("a quoted value without its end")
			}
		} else {
			n := strings.IndexByte(rest, ',')
			if n < 0 {
				n = len(rest)
			}
			if a.value, rest = rest[:n], rest[n:]; a.value == "" || strings.ContainsAny(a.value, "\" \t") {
				return nil, errors.New("a malformed attribute value")
			}
		}
		t.attrs = append(t.attrs, a)
		if rest == "" {
			return t, nil
		}
		if rest[0] != ',' {
			return nil, errors.New("no comma between attributes")
		}
		rest = rest[1:]
	}
}

func attributeName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}
