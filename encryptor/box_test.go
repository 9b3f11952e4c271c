package encryptor

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"spekeasy/contentkey"
)

// boxVectors are pssh boxes and PlayReady Objects of several vendors.
type boxVectors struct {
	Boxes []struct {
		Name, System string
		Box          []byte
		KIDs         []contentkey.KID
		KeyIDs       []string // of Widevine data, in hexadecimal
		Scheme       uint64
	}
	Objects []struct {
		Name, Version string
		Object        []byte
		KIDs          []contentkey.KID
	}
	Rejected []struct{ Name, Hex string }
}

func readBoxes(t *testing.T) *boxVectors {
	t.Helper()
	v := &boxVectors{}
	if err := json.Unmarshal(readFile(t, "boxes.json"), v); err != nil {
		t.Fatal(err)
	}
	if len(v.Boxes) == 0 || len(v.Objects) == 0 || len(v.Rejected) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

func TestParseBox(t *testing.T) {
	for _, v := range readBoxes(t).Boxes {
		t.Run(v.Name, func(t *testing.T) {
			box, err := parseBox(v.Box)
			if err != nil {
				t.Fatal(err)
			}
			if box.system.String() != v.System || fmt.Sprint(box.kids) != fmt.Sprint(v.KIDs) {
				t.Errorf("system %s with %v, want %s with %v", box.system, box.kids, v.System, v.KIDs)
			}
			switch v.System {
			case widevineID:
				w, err := parseWidevine(box.data)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, k := range w.kids {
					got = append(got, hex.EncodeToString(k[:]))
				}
				if fmt.Sprint(got) != fmt.Sprint(v.KeyIDs) || w.scheme != v.Scheme {
					t.Errorf("key IDs %v scheme %d, want %v %d", got, w.scheme, v.KeyIDs, v.Scheme)
				}
			case playReadyID:
				if _, err := parseObject(box.data); err != nil {
					t.Error(err)
				}
			}
			for n := range v.Box {
				if _, err := parseBox(v.Box[:n]); err == nil {
					t.Fatalf("%d bytes of the box were accepted", n)
				}
			}
		})
	}
}

func TestParseBoxRefuses(t *testing.T) {
	for _, v := range readBoxes(t).Rejected {
		b, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseBox(b); err == nil {
			t.Errorf("%s: accepted", v.Name)
		}
	}
}

func TestParseObject(t *testing.T) {
	for _, v := range readBoxes(t).Objects {
		t.Run(v.Name, func(t *testing.T) {
			o, err := parseObject(v.Object)
			if err != nil {
				t.Fatal(err)
			}
			if o.version != v.Version || fmt.Sprint(o.kids) != fmt.Sprint(v.KIDs) {
				t.Errorf("version %s with %v, want %s with %v", o.version, o.kids, v.Version, v.KIDs)
			}
			for n := range v.Object {
				if _, err := parseObject(v.Object[:n]); err == nil {
					t.Fatalf("%d bytes of the object were accepted", n)
				}
			}
		})
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	const start = `<WRMHEADER xmlns="http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader" version="4.0.0.0"><DATA>`
	for name, text := range map[string]string{
		"another root":          `<X/>`,
		"another namespace":     `<WRMHEADER xmlns="urn:x" version="4.0.0.0"/>`,
		"a document type":       `<!DOCTYPE x>` + start + `</DATA></WRMHEADER>`,
		"a KID that is no GUID": start + `<KID>AAAA</KID></DATA></WRMHEADER>`,
		"half a header":         start,
	} {
		if _, err := parseHeader(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, b := range map[string]string{
		"odd length":         "<\x00/",
		"byte-order mark":    "\xff\xfe<\x00",
		"lone surrogate":     "\x00\xd8<\x00",
		"surrogate cut":      "\x00\xd8",
		"surrogates swapped": "\x00\xdc\x00\xd8",
		"nothing":            "",
	} {
		if _, err := utf16Text([]byte(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if s, err := utf16Text([]byte("a\x00\x3d\xd8\x00\xde")); err != nil || s != "a\U0001f600" {
		t.Errorf("a surrogate pair is %q, %v", s, err)
	}
}

func TestParseWidevineRefuses(t *testing.T) {
	for name, b := range map[string]string{
		"cut tag":          "\x80",
		"field number 0":   "\x00\x01",
		"cut varint":       "\x48\xe3",
		"length too large": "\x12\x10\x01",
		"huge length":      "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"group":            "\x0b\x0c",
		"cut fixed32":      "\x0d\x01",
		"cut fixed64":      "\x09\x01",
	} {
		if _, err := parseWidevine([]byte(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if w, err := parseWidevine([]byte("\x0d\x01\x02\x03\x04\x09\x01\x02\x03\x04\x05\x06\x07\x08\x48\x05")); err != nil || w.scheme != 5 {
		t.Errorf("fixed fields are skipped: %v, %v", w, err)
	}
}

func TestParseTag(t *testing.T) {
	tag, err := parseTag(`#EXT-X-KEY:METHOD=AES-128,URI="https://a/?b=c,d",IV=0x01,X-Y=1.5`)
	if err != nil {
		t.Fatal(err)
	}
	if tag.name != "#EXT-X-KEY" || len(tag.attrs) != 4 || tag.get("URI") != "https://a/?b=c,d" || tag.get("X-Y") != "1.5" || tag.get("KEYID") != "" {
		t.Errorf("%+v", tag)
	}
	for _, line := range []string{
		"", "#EXT-X-KEY", "#EXT-X-KEY:", "EXT-X-KEY:METHOD=NONE", "#EXT-X-KEY:METHOD", "#EXT-X-KEY:METHOD=", "#EXT-X-KEY:method=NONE",
		`#EXT-X-KEY:URI="a`, `#EXT-X-KEY:URI="a"B=1`, "#EXT-X-KEY:A=1,A=2", "#EXT-X-KEY:A=1,", "#EXT-X-KEY:A=1 2", "#EXT-X-KEY:A=\xff", "#EXT-X-KEY:A=b\"c",
	} {
		if _, err := parseTag(line); err == nil {
			t.Errorf("%q: accepted", line)
		}
	}
}

// changeURI changes the decoded bytes of a data: URI in an HLS tag.
func changeURI(change func(string) string) func(string) string {
	return func(tag string) string {
		at := strings.Index(tag, "base64,") + len("base64,")
		end := at + strings.IndexByte(tag[at:], '"')
		b, err := base64.StdEncoding.DecodeString(tag[at:end])
		if err != nil {
			return tag
		}
		return tag[:at] + base64.StdEncoding.EncodeToString([]byte(change(string(b)))) + tag[end:]
	}
}
