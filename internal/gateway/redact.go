package gateway

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// redactor takes out of a text what must not be kept: the credentials of an
// upstream and whatever looks like a content key.
type redactor struct {
	secrets *strings.Replacer
	recent  func() []string // secrets that come and go
}

const (
	hiddenSecret = "(secret)"
	hiddenKey    = "(16 bytes)"
)

// minSecret is the shortest text that is looked for: shorter ones occur by
// chance, and give themselves away by being replaced.
const minSecret = 4

func newRedactor(secrets []string, recent func() []string) *redactor {
	var pairs []string
	for _, s := range secrets {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), base64.StdEncoding.EncodeToString([]byte(s))} {
			if len(s) >= minSecret {
				pairs = append(pairs, form, hiddenSecret)
			}
		}
	}
	return &redactor{secrets: strings.NewReplacer(pairs...), recent: recent}
}

var (
	// valueElement is the content of elements that hold keys, in any prefix.
	valueElement = regexp.MustCompile(`(?s)(<(?:[\w.-]+:)?(?:PlainValue|CipherValue|ValueMAC)\b[^>]*>)[^<]*`)

	// keyText is a word of the letters of base64 or hexadecimal.
	keyText = regexp.MustCompile(`[A-Za-z0-9+/_\-]{22,}={0,2}`)
)

// text returns at most max bytes of a body as text for people, with secrets
// and keys taken out.
func (r *redactor) text(b []byte, max int) string {
	const most = 256 << 10
	cut := len(b) > most
	s := strings.ToValidUTF8(string(b[:min(len(b), most)]), "?")
	s = strings.ReplaceAll(s, `\/`, "/") // as JSON likes to write it
	s = r.secrets.Replace(s)
	for _, secret := range r.recent() {
		if len(secret) >= minSecret {
			s = strings.ReplaceAll(s, secret, hiddenSecret)
		}
	}
	s = valueElement.ReplaceAllString(s, "${1}"+hiddenKey)
	s = keyText.ReplaceAllStringFunc(s, func(word string) string {
		if looksLikeKey(word) {
			return hiddenKey
		}
		return word
	})
	s = strings.Map(func(c rune) rune {
		if c == '\n' || unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, s)
	if len(s) > max {
		s, cut = strings.ToValidUTF8(s[:max], ""), true
	}
	if cut {
		s += " ..."
	}
	return strings.TrimSpace(s)
}

// line is text on one line.
func (r *redactor) line(b []byte, max int) string {
	return strings.Join(strings.Fields(r.text(b, max)), " ")
}

// looksLikeKey reports whether a word could be 16 bytes: in base64, or as 32
// hexadecimal digits. A key ID with its hyphens is none.
func looksLikeKey(word string) bool {
	trimmed := strings.TrimRight(word, "=")
	switch len(trimmed) {
	case 22:
		return true
	case 32:
		return strings.Trim(trimmed, "0123456789abcdefABCDEF") == ""
	}
	return false
}
