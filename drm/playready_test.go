package drm_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// object returns the text in a PlayReady Object with one record.
func object(text string) []byte {
	var value []byte
	for _, u := range utf16.Encode([]rune(text)) {
		value = binary.LittleEndian.AppendUint16(value, u)
	}
	return objectOf(record(1, value))
}

func record(typ uint16, value []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, typ)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func objectOf(records ...[]byte) []byte {
	all := bytes.Join(records, nil)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(all)+6))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(records)))
	return append(b, all...)
}

// TestPlayReadyObject reads headers of all versions, Microsoft's own among
// them, and writes the same XML and the same object (D-201, D-210 to D-212).
func TestPlayReadyObject(t *testing.T) {
	v := loadVectors(t)
	objects := map[string]struct {
		xml    string
		object []byte
	}{}
	for _, h := range v.Headers {
		if len(h.Object) != h.Length {
			t.Errorf("%s: vector of %d bytes, want %d", h.Name, len(h.Object), h.Length)
		}
		objects[h.Name] = struct {
			xml    string
			object []byte
		}{h.XML, h.Object}
	}
	for _, p := range v.PSSH {
		if p.PlayReady != nil {
			objects[p.Name] = struct {
				xml    string
				object []byte
			}{p.PlayReady.Records[0].XML, p.Data}
		}
	}
	if len(objects) < 12 {
		t.Errorf("only %d vectors", len(objects))
	}
	for name, want := range objects {
		t.Run(name, func(t *testing.T) {
			h, err := drm.ParsePlayReadyObject(want.object)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := h.XML(); got != want.xml || err != nil {
				t.Errorf("%v\n%s, want\n%s", err, got, want.xml)
			}
			got, err := h.AppendObject([]byte("before"))
			if err != nil || !bytes.Equal(got, append([]byte("before"), want.object...)) {
				t.Errorf("written again: %v\n%x, want\n%x", err, got, want.object)
			}
			if !bytes.Equal(object(want.xml), want.object) {
				t.Error("the test's own object differs")
			}
		})
	}
}

// TestPlayReadyHeaderBuilt builds the constructed headers from their parts.
func TestPlayReadyHeaderBuilt(t *testing.T) {
	built := 0
	for _, v := range loadVectors(t).Headers {
		if v.Scheme == 0 {
			continue
		}
		built++
		h := drm.PlayReadyHeader{Version: v.Name[:3]}
		for _, k := range v.Keys {
			key := drm.PlayReadyKey{KID: k.KID, Algorithm: drm.PlayReadyCBC}
			if v.Scheme == contentkey.Cenc {
				sum := drm.PlayReadyChecksum(k.KID, contentkey.Value(k.Key))
				key.Algorithm, key.Checksum = drm.PlayReadyCTR, sum[:]
			}
			h.Keys = append(h.Keys, key)
			h.LAURL = vectorLAURL
		}
		if strings.HasSuffix(v.Name, "customattributes") {
			h.CustomAttributes = `<CUSTOMATTRIBUTES xmlns=""><ContentId>movie-42</ContentId></CUSTOMATTRIBUTES>`
		}
		h.OnDemand = strings.Contains(v.Name, "ondemand")
		got, err := h.AppendObject(nil)
		if err != nil || !bytes.Equal(got, v.Object) {
			text, _ := h.XML()
			t.Errorf("%s: %v\n%s, want\n%s", v.Name, err, text, v.XML)
		}
	}
	if built < 6 {
		t.Errorf("only %d vectors", built)
	}
}

// TestPlayReadyByteOrder holds D-001 to D-003.
func TestPlayReadyByteOrder(t *testing.T) {
	for _, v := range loadVectors(t).KIDByteOrder {
		if !bytes.Equal(v.UUID[:], v.BigEndian) {
			t.Errorf("%s: bytes %x, want %x", v.UUID, v.UUID[:], v.BigEndian)
		}
		h := drm.PlayReadyHeader{Version: "4.3", Keys: []drm.PlayReadyKey{{KID: v.UUID}}}
		text, err := h.XML()
		if err != nil || !strings.Contains(text, `<KID VALUE="`+v.PlayReady+`"></KID>`) {
			t.Errorf("%s: %v %s", v.UUID, err, text)
		}
		if base64Text(v.LittleEndian) != v.PlayReady {
			t.Errorf("%s: vector %x", v.UUID, v.LittleEndian)
		}
		back, err := drm.ParsePlayReadyObject(object(text))
		if err != nil || back.Keys[0].KID != v.UUID {
			t.Errorf("%s reads back as %+v, %v", v.UUID, back, err)
		}
	}
}

// TestPlayReadyChecksum holds D-220.
func TestPlayReadyChecksum(t *testing.T) {
	for _, v := range loadVectors(t).Checksums {
		if v.Key == nil {
			continue // the key was never published
		}
		got := drm.PlayReadyChecksum(v.KID, contentkey.Value(v.Key))
		if !bytes.Equal(got[:], v.Checksum) {
			t.Errorf("%s: %x, want %x", v.Name, got, v.Checksum)
		}
	}
}

// TestPlayReadySeed holds D-230 to D-233.
func TestPlayReadySeed(t *testing.T) {
	v := loadVectors(t)
	for _, c := range v.KeySeeds {
		key, err := drm.PlayReadySeedKey(v.TestKeySeed.Seed, c.KID)
		if err != nil || !bytes.Equal(key[:], c.Key) {
			t.Errorf("%s: %x, want %x, %v", c.Name, key[:], c.Key, err)
		}
		if sum := drm.PlayReadyChecksum(c.KID, key); !bytes.Equal(sum[:], c.Checksum) {
			t.Errorf("%s: checksum %x, want %x", c.Name, sum, c.Checksum)
		}
	}
	for _, c := range v.KeySeedRules {
		key, err := drm.PlayReadySeedKey(c.Seed, c.KID)
		switch {
		case c.Key == nil && !errors.Is(err, drm.ErrPlayReadySeed):
			t.Errorf("%s: %v", c.Name, err)
		case c.Key != nil && (err != nil || !bytes.Equal(key[:], c.Key)):
			t.Errorf("%s: %x, %v", c.Name, key[:], err)
		}
	}

	seed := v.TestKeySeed.Seed
	for name, c := range map[string]struct {
		seed []byte
		want bool
	}{
		"the public seed": {seed, true},
		"with more bytes": {append(bytes.Clone(seed), 1, 2), true},
		"cut short":       {seed[:29], false},
		"another":         {append([]byte{0}, seed[1:]...), false},
		"none":            {nil, false},
	} {
		if got := drm.IsPlayReadyTestSeed(c.seed); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

const (
	wrm    = `<WRMHEADER xmlns="http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader" version="`
	wrmEnd = `</DATA></WRMHEADER>`
	kid64  = "MyIRAFVEd2aImaq7zN3u/w=="
	info40 = `<PROTECTINFO><KEYLEN>16</KEYLEN><ALGID>AESCTR</ALGID></PROTECTINFO>`
	good40 = wrm + `4.0.0.0"><DATA>` + info40 + `<KID>` + kid64 + `</KID>` + wrmEnd
)

func header43(inside string) string {
	return wrm + `4.3.0.0"><DATA><PROTECTINFO><KIDS>` + inside + `</KIDS></PROTECTINFO>` + wrmEnd
}

// TestPlayReadyObjectRejects holds D-203, D-214 and the rules of the versions.
func TestPlayReadyObjectRejects(t *testing.T) {
	good := object(good40)
	if _, err := drm.ParsePlayReadyObject(good); err != nil {
		t.Fatal(err)
	}
	text := []byte("<\x00a\x00>\x00")
	cases := map[string][]byte{
		"empty":                    {},
		"5 bytes":                  good[:5],
		"cut off":                  good[:len(good)-2],
		"a byte too many":          append(bytes.Clone(good), 0),
		"no records":               objectOf(),
		"no header record":         objectOf(record(3, nil)),
		"record beyond the object": append(objectOf()[:4], 1, 0, 1, 0, 9, 0),
		"record count too high":    append(append([]byte{}, good[:4]...), append([]byte{2, 0}, good[6:]...)...),
		"the guide's layout":       append([]byte{1, 0, 0, 0, 6, 0, 0, 0}, text...), // S2-PR-02
		"odd length":               objectOf(record(1, append(bytes.Clone(text), 'x'))),
		"lone high surrogate":      objectOf(record(1, append(bytes.Clone(text), 0x00, 0xd8))),
		"two high surrogates":      objectOf(record(1, append(bytes.Clone(text), 0x00, 0xd8, 0x00, 0xd8))),
		"lone low surrogate":       objectOf(record(1, append(bytes.Clone(text), 0x00, 0xdc, 'x', 0))),
		"UTF-8":                    objectOf(record(1, []byte(good40))),
	}
	for name, text := range map[string]string{
		"empty text":                  "",
		"byte order mark":             "\ufeff" + good40,
		"XML declaration":             `<?xml version="1.0"?>` + good40,
		"processing instruction":      strings.Replace(good40, "<DATA>", "<DATA><?x?>", 1),
		"DOCTYPE":                     `<!DOCTYPE WRMHEADER [<!ENTITY x "y">]>` + good40,
		"not well-formed":             strings.Replace(good40, "</DATA>", "", 1),
		"cut off inside":              good40[:len(good40)-3],
		"two roots":                   good40 + good40,
		"text behind the root":        good40 + "x",
		"NUL behind the root":         good40 + "\x00",
		"other root":                  `<HEADER xmlns="http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader" version="4.0.0.0"></HEADER>`,
		"other namespace":             strings.Replace(good40, "2007/03", "2008/03", 1),
		"lower case":                  strings.ToLower(good40),
		"no version":                  strings.Replace(good40, ` version="4.0.0.0"`, "", 1),
		"version 4.4":                 strings.Replace(good40, "4.0.0.0", "4.4.0.0", 1),
		"version 4.0.0.1":             strings.Replace(good40, "4.0.0.0", "4.0.0.1", 1),
		"no DATA":                     wrm + `4.2.0.0"></WRMHEADER>`,
		"two DATA":                    wrm + `4.2.0.0"><DATA></DATA><DATA>` + wrmEnd,
		"4.0 without key":             wrm + `4.0.0.0"><DATA>` + info40 + wrmEnd,
		"4.0 without PROTECTINFO":     wrm + `4.0.0.0"><DATA><KID>` + kid64 + `</KID>` + wrmEnd,
		"4.0 with KEYLEN 7":           strings.Replace(good40, "16", "7", 1),
		"4.0 COCKTAIL":                strings.Replace(good40, "AESCTR", "COCKTAIL", 1),
		"4.0 AESCBC":                  strings.Replace(good40, "AESCTR", "AESCBC", 1),
		"4.0 DECRYPTORSETUP":          strings.Replace(good40, "</DATA>", "<DECRYPTORSETUP>ONDEMAND</DECRYPTORSETUP></DATA>", 1),
		"4.0 two KID":                 strings.Replace(good40, "</DATA>", "<KID>"+kid64+"</KID></DATA>", 1),
		"4.0 checksum of 7 bytes":     strings.Replace(good40, "</DATA>", "<CHECKSUM>QuKmVjK8Bw==</CHECKSUM></DATA>", 1),
		"4.0 checksum not base64":     strings.Replace(good40, "</DATA>", "<CHECKSUM>!</CHECKSUM></DATA>", 1),
		"KID of 15 bytes":             strings.Replace(good40, kid64, "MyIRAFVEd2aImaq7zN3u", 1),
		"KID not base64":              strings.Replace(good40, kid64, "00112233-4455-6677-8899-aabbccddeeff", 1),
		"4.1 with two keys":           wrm + `4.1.0.0"><DATA><PROTECTINFO>` + strings.Repeat(`<KID ALGID="AESCTR" VALUE="`+kid64+`"></KID>`, 2) + `</PROTECTINFO>` + wrmEnd,
		"4.2 AESCBC":                  strings.Replace(header43(`<KID ALGID="AESCBC" VALUE="`+kid64+`"></KID>`), "4.3", "4.2", 1),
		"4.2 without ALGID":           strings.Replace(header43(`<KID VALUE="`+kid64+`"></KID>`), "4.3", "4.2", 1),
		"4.3 AESCBC with checksum":    header43(`<KID ALGID="AESCBC" CHECKSUM="QuKmVjK8B3k=" VALUE="` + kid64 + `"></KID>`),
		"4.3 mixed":                   header43(`<KID ALGID="AESCBC" VALUE="` + kid64 + `"></KID><KID ALGID="AESCTR" VALUE="` + kid64 + `"></KID>`),
		"4.3 ALGID on one of two":     header43(`<KID ALGID="AESCBC" VALUE="` + kid64 + `"></KID><KID VALUE="` + kid64 + `"></KID>`),
		"4.3 KID without VALUE":       header43(`<KID ALGID="AESCBC"></KID>`),
		"two LA_URL":                  strings.Replace(good40, "</DATA>", "<LA_URL>a</LA_URL><LA_URL>b</LA_URL></DATA>", 1),
		"element inside LA_URL":       strings.Replace(good40, "</DATA>", "<LA_URL><a></a></LA_URL></DATA>", 1),
		"two CUSTOMATTRIBUTES":        strings.Replace(good40, "</DATA>", strings.Repeat(`<CUSTOMATTRIBUTES xmlns=""></CUSTOMATTRIBUTES>`, 2)+"</DATA>", 1),
		"DS_ID not 16 bytes":          strings.Replace(good40, "</DATA>", "<DS_ID>AAAA</DS_ID></DATA>", 1),
		"DECRYPTORSETUP of a kind":    wrm + `4.2.0.0"><DATA><DECRYPTORSETUP>LATER</DECRYPTORSETUP>` + wrmEnd,
		"unknown entity":              strings.Replace(good40, "</DATA>", "<LA_URL>&x;</LA_URL></DATA>", 1),
		"instruction in attributes":   strings.Replace(good40, "</DATA>", `<CUSTOMATTRIBUTES xmlns=""><?x?></CUSTOMATTRIBUTES></DATA>`, 1),
		"a very deep tree":            strings.Repeat("<a>", 10000),
		"control character in LA_URL": strings.Replace(good40, "</DATA>", "<LA_URL>&#1;</LA_URL></DATA>", 1),
	} {
		cases[name] = object(text)
	}
	for name, b := range cases {
		if h, err := drm.ParsePlayReadyObject(b); !errors.Is(err, drm.ErrPlayReadyObject) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

// TestPlayReadyObjectAccepts reads what others may write and we do not.
func TestPlayReadyObjectAccepts(t *testing.T) {
	for name, b := range map[string][]byte{
		"embedded license store first": objectOf(record(3, []byte{1, 2}), object(good40)[6:]),
		"a second header is not read":  objectOf(object(good40)[6:], record(1, []byte("x"))),
		"white space and comments": object("\n" + strings.NewReplacer("<DATA>", "<DATA>\n <!-- c -->", "</KID>", "</KID>\n").
			Replace(good40) + "\n"),
		"empty elements":           object(strings.Replace(good40, "</DATA>", "<LA_URL></LA_URL><CHECKSUM/></DATA>", 1)),
		"unknown elements":         object(strings.Replace(good40, "</DATA>", "<X><LA_URL>no</LA_URL></X></DATA>", 1)),
		"elements of other spaces": object(strings.Replace(good40, "</DATA>", `<LA_URL xmlns="x">no</LA_URL></DATA>`, 1)),
		"prefixes":                 object(strings.NewReplacer("xmlns=", "xmlns:p=", "</", "</p:", "<", "<p:").Replace(good40)),
	} {
		h, err := drm.ParsePlayReadyObject(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if text, err := h.XML(); text != good40 || err != nil {
			t.Errorf("%s: %s, %v", name, text, err)
		}
	}
}

// TestPlayReadyHeaderText carries any text through a header and back.
func TestPlayReadyHeaderText(t *testing.T) {
	url := "https://x/?a=<1>&b=\"2\"'\r\n\té€\U0001f511]]>"
	want := drm.PlayReadyHeader{Version: "4.2", LAURL: url, LUIURL: url + "#", DSID: kid64, OnDemand: true,
		CustomAttributes: `<CUSTOMATTRIBUTES xmlns=""><a b="c">é€🔑&amp;</a></CUSTOMATTRIBUTES>`}
	b, err := want.AppendObject(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := drm.ParsePlayReadyObject(b)
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%v\n%+v, want\n%+v", err, got, want)
	}
}

// TestPlayReadyHeaderRefused does not write what it would not read.
func TestPlayReadyHeaderRefused(t *testing.T) {
	for name, h := range map[string]drm.PlayReadyHeader{
		"no version":          {},
		"4.0 without key":     {Version: "4.0"},
		"4.2 AESCBC":          {Version: "4.2", Keys: []drm.PlayReadyKey{{Algorithm: drm.PlayReadyCBC}}},
		"bad algorithm":       {Version: "4.3", Keys: []drm.PlayReadyKey{{Algorithm: `"><x`}}},
		"bad DS_ID":           {Version: "4.2", DSID: "<x>"},
		"invalid UTF-8":       {Version: "4.2", LAURL: "https://\xff"},
		"NUL":                 {Version: "4.2", LUIURL: "https://\x00"},
		"half an element":     {Version: "4.2", CustomAttributes: "<CUSTOMATTRIBUTES>"},
		"another element":     {Version: "4.2", CustomAttributes: "<LA_URL>x</LA_URL>"},
		"two elements":        {Version: "4.2", CustomAttributes: "<CUSTOMATTRIBUTES/><CUSTOMATTRIBUTES/>"},
		"more than a record":  {Version: "4.2", LAURL: strings.Repeat("x", 40000)},
		"end tag in elements": {Version: "4.2", CustomAttributes: "<CUSTOMATTRIBUTES></CUSTOMATTRIBUTES></DATA>"},
	} {
		if b, err := h.AppendObject(nil); !errors.Is(err, drm.ErrPlayReadyObject) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// TestPlayReadySignal makes the constructed vectors through the system: the
// default versions and the forced ones (D-217), and the same object in all
// four places (D-240, D-242, D-250, D-260).
func TestPlayReadySignal(t *testing.T) {
	headers := map[string][]byte{}
	for _, h := range loadVectors(t).Headers {
		headers[h.Name] = h.Object
	}
	for _, c := range []struct {
		version string
		scheme  contentkey.Scheme
		want    string
	}{
		{"", contentkey.Cenc, "4.0-one-key-aesctr"},
		{"4.0", contentkey.Cenc, "4.0-one-key-aesctr"},
		{"4.1", contentkey.Cenc, "4.1-one-key-aesctr"},
		{"", contentkey.Cbcs, "4.3-one-key-aescbc"},
		{"4.0", contentkey.Cbcs, "4.3-one-key-aescbc"}, // never below 4.3
		{"4.1", contentkey.Cbcs, "4.3-one-key-aescbc"},
	} {
		p := drm.PlayReady{LAURL: vectorLAURL, CencVersion: c.version}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		out := signal(t, p, vectorTrack(c.scheme), allFields)
		if !bytes.Equal(out.Smooth, headers[c.want]) {
			t.Errorf("%q for %s: not %s:\n%q", c.version, c.scheme, c.want, out.Smooth)
		}
		box, err := drm.ParseBox(out.PSSH)
		if err != nil || box.Version != 0 || box.SystemID != p.ID() || !bytes.Equal(box.Data, out.Smooth) {
			t.Errorf("%q for %s: box %+v, %v", c.version, c.scheme, box, err)
		}
		wantXML := `<cenc:pssh xmlns:cenc="urn:mpeg:cenc:2013">` + base64Text(out.PSSH) + `</cenc:pssh>` +
			`<mspr:pro xmlns:mspr="urn:microsoft:playready">` + base64Text(out.Smooth) + `</mspr:pro>`
		if string(out.ContentProtection) != wantXML {
			t.Errorf("%q for %s: %s", c.version, c.scheme, out.ContentProtection)
		}
	}

	for version, scheme := range map[string]string{"4.2": "AESCTR", "4.3": "AESCTR"} {
		out := signal(t, drm.PlayReady{CencVersion: version}, vectorTrack(contentkey.Cenc), drm.Smooth)
		h, err := drm.ParsePlayReadyObject(out.Smooth)
		if err != nil || h.Version != version || h.Keys[0].Algorithm != scheme || base64Text(h.Keys[0].Checksum) != "QuKmVjK8B3k=" {
			t.Errorf("forced %s: %+v, %v", version, h, err)
		}
	}
}

// TestPlayReadySettings finds each setting in the header.
func TestPlayReadySettings(t *testing.T) {
	p := drm.PlayReady{
		LAURL: vectorLAURL, LUIURL: "https://example.com/buy", DSID: "VlR7IdsIJEuRd06Laqs2jw==",
		CustomAttributes: `<CUSTOMATTRIBUTES xmlns=""><ContentId>1 &amp; 2</ContentId></CUSTOMATTRIBUTES>`,
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	h, err := drm.ParsePlayReadyObject(signal(t, p, vectorTrack(contentkey.Cbcs), drm.Smooth).Smooth)
	if err != nil || h.LAURL != p.LAURL || h.LUIURL != p.LUIURL || h.DSID != p.DSID || h.CustomAttributes != p.CustomAttributes {
		t.Errorf("%+v, %v", h, err)
	}
	if text, _ := h.XML(); !strings.Contains(text, `asmx?a=1&amp;b=2</LA_URL>`) {
		t.Errorf("S2-PR-11: %s", text)
	}
	h, err = drm.ParsePlayReadyObject(signal(t, drm.PlayReady{}, vectorTrack(contentkey.Cenc), drm.Smooth).Smooth)
	if text, _ := h.XML(); err != nil || strings.Contains(text, "LA_URL") {
		t.Errorf("D-212: %s, %v", text, err)
	}
}

func FuzzPlayReadyObject(f *testing.F) {
	v := loadVectors(f)
	for _, h := range v.Headers {
		f.Add(h.Object)
	}
	f.Add(object(strings.Replace(good40, "</DATA>", `<p:CUSTOMATTRIBUTES a="&lt;"><b/>&#xD;</p:CUSTOMATTRIBUTES></DATA>`, 1)))
	f.Add(objectOf(record(3, []byte{1, 2}), object(header43(`<KID VALUE="` + kid64 + `"/>`))[6:]))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := drm.ParsePlayReadyObject(b)
		if err != nil {
			if !errors.Is(err, drm.ErrPlayReadyObject) {
				t.Fatal(err)
			}
			return
		}
		once, err := h.AppendObject(nil)
		if err != nil {
			t.Fatalf("%q: does not print: %v", b, err)
		}
		h, err = drm.ParsePlayReadyObject(once)
		if err != nil {
			t.Fatalf("%q prints as %q, which does not parse: %v", b, once, err)
		}
		twice, err := h.AppendObject(nil)
		if err != nil || !bytes.Equal(twice, once) {
			t.Errorf("%q prints as %q and then as %q, %v", b, once, twice, err)
		}
	})
}

// FuzzPlayReadyText does the same with text that is UTF-16 from the start,
// which gets the fuzzer to the XML.
func FuzzPlayReadyText(f *testing.F) {
	for _, h := range loadVectors(f).Headers {
		f.Add(h.XML)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b := object(text)
		if len(b) > 0xffff {
			return
		}
		h, err := drm.ParsePlayReadyObject(b)
		if err != nil {
			return
		}
		once, err := h.XML()
		if err != nil {
			t.Fatalf("%q: does not print: %v", text, err)
		}
		h, err = drm.ParsePlayReadyObject(object(once))
		if err != nil {
			t.Fatalf("%q prints as %q, which does not parse: %v", text, once, err)
		}
		if twice, err := h.XML(); twice != once || err != nil {
			t.Errorf("%q prints as %q and then as %q, %v", text, once, twice, err)
		}
	})
}

// TestSmooth fills the manifest element of Smooth Streaming (D-250): the
// object, not a box.
func TestSmooth(t *testing.T) {
	element := loadVectors(t).Smooth.Element
	out := signal(t, drm.PlayReady{}, vectorTrack(contentkey.Cenc), drm.Smooth)
	if out.PSSH != nil || out.ContentProtection != nil || out.HLS != nil {
		t.Errorf("more than was asked for: %+v", out)
	}
	filled := strings.Replace(element, "BASE64_PLAYREADY_OBJECT", base64Text(out.Smooth), 1)
	_, inside, ok := strings.Cut(filled, `<ProtectionHeader SystemID="`+(drm.PlayReady{}).ID().String()+`">`)
	text, _, ok2 := strings.Cut(inside, "</ProtectionHeader>")
	b, err := base64.StdEncoding.DecodeString(text)
	if !ok || !ok2 || err != nil {
		t.Fatalf("%s: %v", filled, err)
	}
	if h, err := drm.ParsePlayReadyObject(b); err != nil || h.Version != "4.0" {
		t.Errorf("%+v, %v", h, err)
	}
}

// TestPlayReadyTemplate: what a customer's set of systems signals from a
// template is what the settings signal when they are written out.
func TestPlayReadyTemplate(t *testing.T) {
	const custom = `<CUSTOMATTRIBUTES xmlns="">ü€😀<a>AAAAAAAAAAAAAAAAAAAAAA==</a></CUSTOMATTRIBUTES>`
	for _, p := range []drm.PlayReady{
		{},
		{CencVersion: "4.1", LAURL: "https://lic.example.com/?a=1&kid=AAAAAAAAAAAAAAAAAAAAAA=="},
		{CencVersion: "4.2", LUIURL: "https://example.com/", DSID: "AAAAAAAAAAAAAAAAAAAAAA=="},
		{CencVersion: "4.3", CustomAttributes: custom, KeyID: true},
	} {
		system := prepared(t, p)
		for _, scheme := range []contentkey.Scheme{contentkey.Cenc, contentkey.Cbcs} {
			for i := range 256 {
				track := drm.Track{Scheme: scheme}
				for j := range track.KID {
					track.KID[j], track.Key[j] = byte(i*j+i), byte(i*i+j)
				}
				got, err := system.Signal(&track, allFields)
				want, wantErr := p.Signal(&track, allFields)
				if err != nil || wantErr != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("%+v, %s, key ID %s: template gives\n%s, %v\nwant\n%s, %v", p, scheme, track.KID, got, err, want, wantErr)
				}
			}
		}
	}
}
