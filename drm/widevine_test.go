package drm_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// TestWidevineData reads the data of real boxes, and writes it again.
func TestWidevineData(t *testing.T) {
	n := 0
	for _, v := range loadVectors(t).PSSH {
		want := v.Widevine
		if want == nil {
			continue
		}
		n++
		t.Run(v.Name, func(t *testing.T) {
			d, err := drm.ParseWidevineData(v.Data)
			if err != nil {
				t.Fatal(err)
			}
			policy := ""
			if want.Policy != nil {
				policy = *want.Policy
			}
			if d.Algorithm != want.Algorithm || d.Provider != want.Provider || !bytes.Equal(d.ContentID, want.ContentID) ||
				d.TrackType != want.TrackType || d.Policy != policy || d.CryptoPeriodIndex != want.CryptoPeriodIndex ||
				d.ProtectionScheme != want.ProtectionScheme {
				t.Errorf("got %+v", d)
			}
			if !slices.EqualFunc(d.KeyIDs, want.KeyIDs, func(a []byte, b hexBytes) bool { return bytes.Equal(a, b) }) {
				t.Errorf("key IDs %x, want %x", d.KeyIDs, want.KeyIDs)
			}
			if want.Policy != nil && *want.Policy == "" {
				return // an empty text that is present is the one thing not kept
			}
			if got := d.Append(nil); !bytes.Equal(got, v.Data) {
				t.Errorf("written again:\n%x, want\n%x", got, v.Data)
			}
		})
	}
	if n < 10 {
		t.Errorf("only %d vectors", n)
	}
}

// TestWidevineDataAllFields writes every field and reads it back.
func TestWidevineDataAllFields(t *testing.T) {
	d := drm.WidevineData{
		Algorithm: 1, KeyIDs: [][]byte{{1}, {2, 3}}, Provider: "p", ContentID: []byte("c"), TrackType: "HD", Policy: "o",
		CryptoPeriodIndex: 7, GroupedLicense: []byte("g"), ProtectionScheme: contentkey.Cbcs.FourCC(), CryptoPeriodSeconds: 10,
		Type: 2, KeySequence: 12, GroupIDs: [][]byte{{13}}, VideoFeature: "v",
		EntitledKeys: []drm.WidevineEntitledKey{{
			EntitlementKeyID: []byte{1}, KeyID: []byte{2}, WrappedKey: []byte{3}, IV: []byte{4}, EntitlementKeySize: 32,
		}},
	}
	b := d.Append(nil)
	last := protowire.Number(0)
	for rest := b; len(rest) > 0; {
		n, _, size := protowire.ConsumeField(rest)
		if n < last || size < 0 {
			t.Fatalf("field %d after field %d (D-110)", n, last)
		}
		last, rest = n, rest[size:]
	}
	got, err := drm.ParseWidevineData(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Append(nil), b) || got.VideoFeature != "v" || len(got.EntitledKeys) != 1 ||
		got.EntitledKeys[0].EntitlementKeySize != 32 || string(got.EntitledKeys[0].WrappedKey) != "\x03" {
		t.Errorf("got %+v", got)
	}
}

// TestWidevineDataParsing holds D-115.
func TestWidevineDataParsing(t *testing.T) {
	for name, in := range map[string]string{
		"tag cut off":             "80",
		"field number 0":          "0001",
		"varint cut off":          "48e3dc",
		"varint too long":         "48ffffffffffffffffffff01",
		"length beyond the end":   "1210aa",
		"group":                   "13" + "14",
		"group, unknown number":   "fb01" + "fc01",
		"end of a group":          "14",
		"reserved wire type":      "16",
		"fixed32 cut off":         "1d0102",
		"entitled key cut off":    "7202" + "0a05",
		"entitled key is a group": "7202" + "0b0c",
	} {
		if d, err := drm.ParseWidevineData(mustHex(in)); !errors.Is(err, drm.ErrWidevineData) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
	for name, c := range map[string]struct{ in, want string }{
		"nothing":                          {"", ""},
		"any order":                        {"48e3dc959b06" + "1201aa", "1201aa" + "48e3dc959b06"},
		"last value wins":                  {"220161" + "220162" + "3801" + "3802", "220162" + "3802"},
		"unknown fields of all kinds":      {"800101" + "8a010161" + "85010a0b0c0d" + "8101" + "0102030405060708" + "1201aa", "1201aa"},
		"known number, another wire type":  {"1005" + "4a0161" + "1201aa", "1201aa"},
		"newer fields 16 and 17":           {"8201017a" + "880105" + "1201aa", "1201aa"},
		"varint of more than 32 bits":      {"38ffffffffff01", "38ffffffff0f"},
		"non-minimal varint":               {"38808000" + "388100", "3801"},
		"unknown field in an entitled key": {"7205" + "120101" + "3807", "7203" + "120101"},
	} {
		d, err := drm.ParseWidevineData(mustHex(c.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got := d.Append(nil); !bytes.Equal(got, mustHex(c.want)) {
			t.Errorf("%s: %x, want %s", name, got, c.want)
		}
	}
}

// TestFourCC holds D-111 and D-112: field 9 is always there, also for cenc.
func TestFourCC(t *testing.T) {
	for _, v := range loadVectors(t).FourCC {
		d := drm.WidevineData{ProtectionScheme: v.Scheme.FourCC()}
		if got := d.Append(nil); v.Scheme.FourCC() != v.Value || !bytes.Equal(got, v.Field9) {
			t.Errorf("%s: %x, want %x", v.Scheme, got, v.Field9)
		}
		if !(drm.Widevine{}).Supports(v.Scheme) {
			continue
		}
		pssh := signal(t, drm.Widevine{}, vectorTrack(v.Scheme), drm.PSSH).PSSH
		if !bytes.HasSuffix(pssh, v.Field9) {
			t.Errorf("%s: box %x does not end in %x", v.Scheme, pssh, v.Field9)
		}
	}
}

// TestWidevineSettings holds D-113 and S2-WV-07: what the data says under
// each setting.
func TestWidevineSettings(t *testing.T) {
	track := vectorTrack(contentkey.Cbcs)
	track.ContentID = "Straße/1"
	for name, c := range map[string]struct {
		system drm.Widevine
		want   drm.WidevineData
	}{
		"default":             {drm.Widevine{}, drm.WidevineData{ContentID: []byte("Straße/1")}},
		"no content ID":       {drm.Widevine{ContentID: mustTemplate("off")}, drm.WidevineData{}},
		"content ID template": {drm.Widevine{ContentID: mustTemplate("a:{content_id}:{kid}")}, drm.WidevineData{ContentID: []byte("a:Straße/1:00112233-4455-6677-8899-aabbccddeeff")}},
		"key ID in base64":    {drm.Widevine{ContentID: mustTemplate("{kid_b64}")}, drm.WidevineData{ContentID: []byte("ABEiM0RVZneImaq7zN3u/w==")}},
		"key ID in hex":       {drm.Widevine{ContentID: mustTemplate("{kid_hex}")}, drm.WidevineData{ContentID: []byte("00112233445566778899aabbccddeeff")}},
		"provider and policy": {drm.Widevine{Provider: "acme", Policy: "sd", ContentID: mustTemplate("off")}, drm.WidevineData{Provider: "acme", Policy: "sd"}},
	} {
		if err := c.system.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.want.KeyIDs = [][]byte{track.KID[:]}
		c.want.ProtectionScheme = track.Scheme.FourCC()
		box, err := drm.ParseBox(signal(t, c.system, track, drm.PSSH).PSSH)
		if err != nil || box.Version != 0 || box.SystemID != c.system.ID() {
			t.Fatalf("%s: %+v, %v", name, box, err)
		}
		if want := c.want.Append(nil); !bytes.Equal(box.Data, want) {
			t.Errorf("%s: data %q, want %q", name, box.Data, want)
		}
	}
}

// TestWidevineLong gives values that outgrow every buffer on the stack.
func TestWidevineLong(t *testing.T) {
	track := vectorTrack(contentkey.Cenc)
	track.ContentID = strings.Repeat("x", 5000)
	out := signal(t, drm.Widevine{Provider: strings.Repeat("p", 500)}, track, allFields)
	box, err := drm.ParseBox(out.PSSH)
	if err != nil {
		t.Fatal(err)
	}
	d, err := drm.ParseWidevineData(box.Data)
	if err != nil || string(d.ContentID) != track.ContentID || len(d.Provider) != 500 {
		t.Errorf("%d bytes of content ID, %v", len(d.ContentID), err)
	}
	if !strings.Contains(string(out.HLS), `base64,`+base64Text(out.PSSH)+`",`) {
		t.Error("the key tag has another box")
	}
}

func FuzzWidevineData(f *testing.F) {
	for _, v := range loadVectors(f).PSSH {
		if v.Widevine != nil {
			f.Add(v.Data)
		}
	}
	f.Add(mustHex("7205" + "120101" + "3807"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := drm.ParseWidevineData(b)
		if err != nil {
			if !errors.Is(err, drm.ErrWidevineData) {
				t.Fatal(err)
			}
			return
		}
		once := d.Append(nil)
		d, err = drm.ParseWidevineData(once)
		if err != nil {
			t.Fatalf("%x prints as %x, which does not parse: %v", b, once, err)
		}
		if twice := d.Append(nil); !bytes.Equal(twice, once) {
			t.Errorf("%x prints as %x and then as %x", b, once, twice)
		}
	})
}
