package audit

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"spekeasy/contentkey"
)

// standard is what encoding/json makes of a record.
func standard(t *testing.T, r *Record) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// ours is the same by our own encoder.
func ours(r *Record) string { return `{"event":"` + string(r.appendMembers(nil)) + "}" }

func TestMembers(t *testing.T) {
	for name, r := range map[string]*Record{
		"nothing":  {},
		"delivery": sample(),
		"encrypted, overridden": {
			Event: KeyRequest, Result: Delivered, KIDs: []contentkey.KID{kid(1), kid(2)}, Requested: []contentkey.KID{kid(3), kid(4)},
			Protection: Encrypted, Recipients: []string{strings.Repeat("ab", 32), strings.Repeat("cd", 32)}, Created: 2, Upstream: "axinom",
		},
		"refusal":   {Event: KeyRequest, Result: Refused, Status: 422, Error: `Unsupported "x"` + "\n\t\x00\\"},
		"start":     {Event: serverStart, Server: "spekeasy on host", Previous: Hash{1}, Torn: 17, Error: "gone"},
		"retention": {Event: retention, KeptFrom: 1<<64 - 1},
		"unicode":   {Event: KeyRequest, ContentID: "фильм 映画 \u2028\u2029 \xff\xfe <&> \x7f \U0001f511"},
	} {
		if got, want := ours(r), standard(t, r); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

// TestEveryMemberIsWritten fills each member of a record in turn, so that one
// that is added to the type and not to the encoder is found.
func TestEveryMemberIsWritten(t *testing.T) {
	for i := range reflect.TypeFor[Record]().NumField() {
		field := reflect.TypeFor[Record]().Field(i)
		switch field.Name {
		case "Seq", "Time", "Hash": // the log's
			continue
		}
		r := new(Record)
		v := reflect.ValueOf(r).Elem().Field(i)
		switch v.Interface().(type) {
		case string:
			v.SetString("x")
		case int, int64:
			v.SetInt(7)
		case uint64:
			v.SetUint(7)
		case []string:
			v.Set(reflect.ValueOf([]string{"x", "y"}))
		case []contentkey.KID:
			v.Set(reflect.ValueOf([]contentkey.KID{kid(1), kid(2)}))
		case Hash:
			v.Set(reflect.ValueOf(Hash{1}))
		default:
			t.Fatalf("%s has a type that this test does not know", field.Name)
		}
		if got, want := ours(r), standard(t, r); got != want || !strings.Contains(got, "x") && !strings.Contains(got, "7") && !strings.Contains(got, "01") {
			t.Errorf("%s:\ngot  %s\nwant %s", field.Name, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"short", "movie", "movie"},
		{"at the limit", strings.Repeat("x", maxText), strings.Repeat("x", maxText)},
		{"longer", strings.Repeat("x", maxText+1), strings.Repeat("x", maxText) + "...(1025 bytes)"},
		{"within a character", strings.Repeat("x", maxText-1) + "é", strings.Repeat("x", maxText-1) + "...(1025 bytes)"},
		{"not UTF-8", strings.Repeat("\x80", maxText+1), strings.Repeat("\x80", maxText-utf8.UTFMax) + "...(1025 bytes)"},
	} {
		if got := Clip(c.in); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	// However long the texts are, a record stays small.
	long := strings.Repeat("\x00", 1<<20)
	r := &Record{RequestID: long, Remote: long, Tenant: long, Credential: long, Brand: long, ContentID: long, Error: long, Server: long}
	if n := len(r.appendMembers(nil)); n > 6*(2*maxText+6*maxShort)+500 {
		t.Errorf("%d bytes", n)
	}
}

// FuzzMembers holds our encoder to the byte against encoding/json, and a line
// with it against the reader.
func FuzzMembers(f *testing.F) {
	f.Add("movie", "error", "acme", 200, uint8(2), int64(1e15))
	f.Add("\x00\x1f\"\\\u2028\xed\xa0\x80", "\xc3", "</script>", -1, uint8(0), int64(0))
	f.Fuzz(func(t *testing.T, content, text, short string, status int, n uint8, at int64) {
		r := &Record{
			Event: KeyRequest, Result: short, Status: status, RequestID: short, Remote: short, Tenant: short, Credential: short, Brand: short,
			Profile: short, ContentID: content, Scheme: short, Protection: short, Created: status, Error: text, Server: short, Torn: int64(status),
		}
		for i := range n % 5 {
			r.KIDs = append(r.KIDs, kid(i))
			r.Requested = append(r.Requested, kid(n))
			r.Recipients = append(r.Recipients, text)
		}
		if len(content) > maxText || len(text) > maxText || len(short) > maxShort {
			return
		}
		if got, want := ours(r), standard(t, r); got != want {
			t.Fatalf("\ngot  %s\nwant %s", got, want)
		}

		now := time.UnixMicro(at % (1 << 55)).UTC()
		if now.Year() < 0 || now.Year() > 9999 {
			return
		}
		l := new(Log)
		pos := Position{41, Hash{7}}
		written := l.appendLine(nil, &pos, now, r.appendMembers(nil))
		if bytes.IndexByte(written, '\n') != len(written)-1 {
			t.Fatalf("line %q", written)
		}
		cut, ok := cutLine(written[:len(written)-1])
		if !ok || cut.seq != 42 || cut.hash != pos.Hash || !cut.when().Equal(now) || string(cut.event) != KeyRequest {
			t.Fatalf("%q is read as %+v, %v", written, cut, ok)
		}
		var back Record
		if err := json.Unmarshal(written, &back); err != nil {
			t.Fatal(err)
		}
		if back.ContentID != strings.ToValidUTF8(content, "\ufffd") && utf8.ValidString(content) {
			t.Fatalf("content ID %q became %q", content, back.ContentID)
		}
		if back.Seq != 42 || back.Hash != pos.Hash || !back.Time.Equal(now) || len(back.KIDs) != len(r.KIDs) {
			t.Fatalf("%q is decoded as %+v", written, back)
		}
	})
}
