package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
	"unicode/utf8"

	"spekeasy/contentkey"
)

// maxLine bounds a line of the log. A key request of the size that the server
// accepts stays below it, since texts are clipped.
const maxLine = 4 << 20

// Texts of requests are clipped to this many bytes, so that nobody fills the
// disk with one request.
const (
	maxText  = 1024 // content ID, error
	maxShort = 256  // everything else
)

// Clip returns a content ID or error as records hold it: whole up to 1024
// bytes, longer ones cut, with their length at the end.
func Clip(s string) string { return clip(s, maxText) }

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "...(" + strconv.Itoa(len(s)) + " bytes)"
}

// timeFormat is RFC 3339 in UTC with microseconds, always of one length.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// The parts of a line around the members of the record.
const (
	lineSeq   = `{"seq":`
	lineTime  = `,"time":"`
	lineEvent = `","event":"`
	lineHash  = `,"hash":"`
	lineEnd   = `"}`
)

// appendMembers appends the members of a record that come after its time and
// before its hash, as encoding/json would write them without escaping HTML.
// They start with the text of the event, whose opening is part of lineEvent.
func (r *Record) appendMembers(b []byte) []byte {
	b = append(appendEscaped(b, r.Event), '"')
	b = appendText(b, `,"result":"`, r.Result)
	b = appendInt(b, `,"status":`, int64(r.Status))
	b = appendText(b, `,"request_id":"`, clip(r.RequestID, maxShort))
	b = appendText(b, `,"remote":"`, clip(r.Remote, maxShort))
	b = appendText(b, `,"tenant":"`, clip(r.Tenant, maxShort))
	b = appendText(b, `,"credential":"`, clip(r.Credential, maxShort))
	b = appendText(b, `,"brand":"`, clip(r.Brand, maxShort))
	b = appendText(b, `,"admin":"`, clip(r.Admin, maxShort))
	b = appendText(b, `,"role":"`, clip(r.Role, maxShort))
	b = appendText(b, `,"change":"`, Clip(r.Change))
	b = appendText(b, `,"profile":"`, r.Profile)
	b = appendText(b, `,"content_id":"`, Clip(r.ContentID))
	b = appendText(b, `,"scheme":"`, r.Scheme)
	b = appendKIDs(b, `,"kids":`, r.KIDs)
	b = appendKIDs(b, `,"requested_kids":`, r.Requested)
	b = appendText(b, `,"protection":"`, r.Protection)
	for i, text := range r.Recipients {
		if i == 0 {
			b = append(b, `,"recipients":["`...)
		} else {
			b = append(b, `,"`...)
		}
		b = append(appendEscaped(b, text), '"')
	}
	if len(r.Recipients) > 0 {
		b = append(b, ']')
	}
	b = appendInt(b, `,"created":`, int64(r.Created))
	b = appendText(b, `,"upstream":"`, clip(r.Upstream, maxShort))
	b = appendText(b, `,"error":"`, Clip(r.Error))
	b = appendText(b, `,"server":"`, clip(r.Server, maxShort))
	if !r.Previous.IsZero() {
		b = append(b, `,"previous":"`...)
		b = append(hex.AppendEncode(b, r.Previous[:]), '"')
	}
	b = appendInt(b, `,"torn":`, r.Torn)
	if r.KeptFrom != 0 {
		b = append(b, `,"kept_from":`...)
		b = strconv.AppendUint(b, r.KeptFrom, 10)
	}
	return b
}

// appendText appends a member unless it is empty. name ends with the opening
// quotation mark of the value.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return append(appendEscaped(append(b, name...), value), '"')
}

func appendInt(b []byte, name string, value int64) []byte {
	if value == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), value, 10)
}

func appendKIDs(b []byte, name string, kids []contentkey.KID) []byte {
	if len(kids) == 0 {
		return b
	}
	b = append(b, name...)
	for i, kid := range kids {
		if i == 0 {
			b = append(b, '[')
		} else {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(kid.AppendText(b), '"')
	}
	return append(b, ']')
}

const hexDigits = "0123456789abcdef"

// appendEscaped appends the inside of a JSON string. Bytes that are not UTF-8
// become the replacement character.
func appendEscaped(b []byte, s string) []byte {
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			// The line separators are no line ends in JSON, but are in
			// JavaScript.
			if (r != utf8.RuneError || size > 1) && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
			b = append(b, s[done:i]...)
			if r == utf8.RuneError {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, `\u202`...)
				b = append(b, hexDigits[r&0xf])
			}
			i += size
			done = i
			continue
		}
		b = append(b, s[done:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		done = i
	}
	return append(b, s[done:]...)
}

// line is a line of the log taken apart, without its line end.
type line struct {
	seq     uint64
	time    []byte // as written
	event   []byte // as written
	covered []byte // what the hash is over, beside the hash before
	hash    Hash
}

// cutLine takes a line apart. It is strict where the hash does not reach; the
// rest is as the hash says it is.
func cutLine(text []byte) (l line, ok bool) {
	end := len(text) - len(lineHash) - hex.EncodedLen(len(l.hash)) - len(lineEnd)
	if end < 0 || string(text[end:end+len(lineHash)]) != lineHash || string(text[len(text)-len(lineEnd):]) != lineEnd {
		return l, false
	}
	digits := text[end+len(lineHash) : len(text)-len(lineEnd)]
	if !lowerHex(digits) {
		return l, false
	}
	hex.Decode(l.hash[:], digits) //nolint:errcheck // checked above
	l.covered = text[:end]

	rest, ok := cutPrefix(l.covered, lineSeq)
	if !ok {
		return l, false
	}
	n := 0
	for n < len(rest) && '0' <= rest[n] && rest[n] <= '9' {
		n++
	}
	seq, err := strconv.ParseUint(string(rest[:n]), 10, seqBits)
	if err != nil || seq == 0 || rest[0] == '0' {
		return l, false
	}
	l.seq = seq
	if rest, ok = cutPrefix(rest[n:], lineTime); !ok || len(rest) < len(timeFormat) {
		return l, false
	}
	l.time = rest[:len(timeFormat)]
	if rest, ok = cutPrefix(rest[len(timeFormat):], lineEvent); !ok {
		return l, false
	}
	for i, c := range rest {
		if c == '"' {
			l.event = rest[:i]
			return l, true
		}
	}
	return l, false
}

// when returns the time of the line, or the zero time when it has none.
func (l *line) when() time.Time {
	t, err := time.Parse(timeFormat, string(l.time))
	if err != nil {
		return time.Time{}
	}
	return t
}

func cutPrefix(b []byte, prefix string) ([]byte, bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, false
	}
	return b[len(prefix):], true
}

func lowerHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// chain computes the hashes of lines.
type chain struct {
	text []byte // what was hashed last
}

// next is the hash of a line that follows a record with another hash.
func (c *chain) next(previous Hash, covered []byte) Hash {
	c.text = append(hex.AppendEncode(c.text[:0], previous[:]), covered...)
	return sha256.Sum256(c.text)
}
