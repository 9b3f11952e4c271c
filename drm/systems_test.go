package drm_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// complete are settings under which every system defines all its fields.
var complete = drm.Settings{
	PlayReady: drm.PlayReady{LAURL: "https://lic.example.com/playready"},
	HLS:       drm.HLSAES128{URL: "https://keys.example.com"},
	ClearKey:  drm.ClearKeyDASH{LicenseURL: "https://keys.example.com/clearkey"},
}

func systems(t testing.TB, s drm.Settings) (v1, v2 []drm.System) {
	t.Helper()
	v1, err := drm.V1(s)
	if err != nil {
		t.Fatal(err)
	}
	v2, err = drm.V2(s)
	if err != nil {
		t.Fatal(err)
	}
	return v1, v2
}

// TestExchanges makes the answers of whole SPEKE exchanges: v1, v2.0 and
// v2.1, byte for byte.
func TestExchanges(t *testing.T) {
	var exchanges []struct {
		Name      string
		SPEKE     string
		ContentID string `json:"content_id"`
		Scheme    contentkey.Scheme
		KID       contentkey.KID
		Key       []byte
		IV        []byte
		System    drm.SystemID

		PSSH, ContentProtection, Smooth      []byte
		HLSMedia                             []byte `json:"HLS_media"`
		HLSMaster                            []byte `json:"HLS_master"`
		KeyURI, KeyFormat, KeyFormatVersions []byte
	}
	loadJSON(t, "examples.json", &exchanges)
	if len(exchanges) < 18 {
		t.Fatalf("only %d exchanges", len(exchanges))
	}
	v1, v2 := systems(t, complete)
	for _, x := range exchanges {
		t.Run(x.Name, func(t *testing.T) {
			set := v2
			if x.SPEKE == "1.0" {
				set = v1
			}
			var system drm.System
			for _, s := range set {
				if s.ID() == x.System {
					system = s
				}
			}
			track := &drm.Track{ContentID: x.ContentID, KID: x.KID, Key: contentkey.Value(x.Key), Scheme: x.Scheme}
			copy(track.IV[:], x.IV)
			out := signal(t, system, track, allFields)
			compared := 0
			for name, c := range map[string]struct{ got, want []byte }{
				"PSSH":              {out.PSSH, x.PSSH},
				"ContentProtection": {out.ContentProtection, x.ContentProtection},
				"Smooth":            {out.Smooth, x.Smooth},
				"HLS media":         {append([]byte(mediaTag), out.HLS...), x.HLSMedia},
				"HLS master":        {append([]byte(masterTag), out.HLS...), x.HLSMaster},
				"KeyURI":            {out.KeyURI, x.KeyURI},
				"KeyFormat":         {out.KeyFormat, x.KeyFormat},
				"KeyFormatVersions": {out.KeyFormatVersions, x.KeyFormatVersions},
			} {
				if c.want == nil {
					continue
				}
				compared++
				if !bytes.Equal(c.got, c.want) {
					t.Errorf("%s:\n%q, want\n%q", name, c.got, c.want)
				}
			}
			if compared == 0 {
				t.Error("nothing compared")
			}
		})
	}
}

// TestSets names the systems of each version, in order, and their IDs.
func TestSets(t *testing.T) {
	ids := loadVectors(t).SystemIDs
	v1, v2 := systems(t, complete)
	for _, c := range []struct {
		version string
		set     []drm.System
		want    []string
	}{
		{"v1", v1, []string{"widevine", "playready", "fairplay", "hls_aes128_speke_v1_unofficial", "w3c_common_pssh"}},
		{"v2", v2, []string{"widevine", "playready", "fairplay", "hls_clearkey_aes128", "w3c_common_pssh", "hls_clearkey_sample_aes", "clearkey_dashif"}},
	} {
		if len(c.set) != len(c.want) {
			t.Fatalf("%s: %d systems", c.version, len(c.set))
		}
		for i, s := range c.set {
			if s.ID() != ids[c.want[i]] {
				t.Errorf("%s: system %d is %s %s, want %s", c.version, i, s.Name(), s.ID(), c.want[i])
			}
			if s.Name() != drm.SystemName(s.ID()) {
				t.Errorf("%s: %s is also called %q", c.version, s.Name(), drm.SystemName(s.ID()))
			}
			if s.Fields() == 0 {
				t.Errorf("%s: %s defines nothing", c.version, s.Name())
			}
		}
	}
	for name, id := range ids {
		if drm.SystemName(id) == "" {
			t.Errorf("%s: no name", name)
		}
	}
	if name := drm.SystemName(drm.SystemID{}); name != "" {
		t.Errorf("an unknown ID is called %q", name)
	}
}

// TestFairPlayByVersion holds S2-FP-04: v1 and v2 differ in the default, and
// only in the default.
func TestFairPlayByVersion(t *testing.T) {
	track := vectorTrack(contentkey.Cbcs)
	track.IV = contentkey.IV{1}
	uri := func(set []drm.System) string { return string(signal(t, set[2], track, drm.KeyURI).KeyURI) }

	v1, v2 := systems(t, drm.Settings{})
	if got := uri(v1); got != "skd://"+track.KID.String() {
		t.Errorf("v1: %s", got)
	}
	if got := uri(v2); !strings.HasPrefix(got, "skd://eyJDb250ZW50SWQi") {
		t.Errorf("v2: %s", got)
	}
	v1, v2 = systems(t, drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("shaka")}})
	if uri(v1) != uri(v2) || uri(v1) != "skd://ABEiM0RVZneImaq7zN3u/w==" {
		t.Errorf("set: v1 %s, v2 %s", uri(v1), uri(v2))
	}
}

// schemes is the table of S2-DRM-01: cenc, cens, cbc1, cbcs.
var schemes = map[string][4]bool{
	"Widevine":               {true, false, false, true},
	"PlayReady":              {true, false, false, true},
	"FairPlay":               {false, false, false, true},
	"HLS AES-128":            {false, false, true, false},
	"HLS SAMPLE-AES":         {false, false, false, true},
	"Clear Key":              {true, false, false, true},
	"W3C common PSSH":        {true, true, true, true},
	"HLS AES-128 (SPEKE v1)": {true, true, true, true},
}

// TestContract holds what [drm.System] promises, for each system and scheme.
func TestContract(t *testing.T) {
	v1, v2 := systems(t, complete)
	for _, s := range append(v1, v2...) {
		for scheme := contentkey.Cenc; scheme <= contentkey.Cbcs; scheme++ {
			t.Run(fmt.Sprintf("%s/%s", s.Name(), scheme), func(t *testing.T) {
				track := vectorTrack(scheme)
				track.ContentID, track.IV = "c", contentkey.IV{1}
				all, err := s.Signal(track, allFields)
				if supported := schemes[s.Name()][scheme-1]; supported != s.Supports(scheme) {
					t.Fatalf("Supports: %v", !supported)
				} else if !supported {
					if !errors.Is(err, drm.ErrScheme) || !strings.Contains(err.Error(), s.Name()) ||
						!strings.Contains(err.Error(), scheme.String()) {
						t.Errorf("error %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				none, err := s.Signal(track, 0)
				if err != nil || present(none) != 0 {
					t.Errorf("nothing wanted: %+v, %v", none, err)
				}
				if got := present(all); got != s.Fields() {
					t.Errorf("all wanted: fields %b, want %b", got, s.Fields())
				}
				for _, f := range fieldList {
					one, err := s.Signal(track, f.field)
					if err != nil || present(one) != f.field&s.Fields() {
						t.Errorf("%s wanted: fields %b, %v", f.name, present(one), err)
					}
					if got, want := f.get(&one), f.get(&all); !bytes.Equal(*got, *want) || cap(*want) != len(*want) {
						t.Errorf("%s alone: %q, with all others %q and room for %d", f.name, *got, *want, cap(*want)-len(*want))
					}
				}
				for _, f := range fieldList {
					scribbled := signal(t, s, track, allFields)
					clear(*f.get(&scribbled))
					for _, other := range fieldList {
						if other.field != f.field && !bytes.Equal(*other.get(&scribbled), *other.get(&all)) {
							t.Errorf("%s is part of %s", other.name, f.name)
						}
					}
				}
			})
		}
	}
}

var fieldList = []struct {
	name  string
	field drm.Fields
	get   func(*drm.Signaling) *[]byte
}{
	{"PSSH", drm.PSSH, func(s *drm.Signaling) *[]byte { return &s.PSSH }},
	{"ContentProtection", drm.ContentProtection, func(s *drm.Signaling) *[]byte { return &s.ContentProtection }},
	{"HLS", drm.HLS, func(s *drm.Signaling) *[]byte { return &s.HLS }},
	{"Smooth", drm.Smooth, func(s *drm.Signaling) *[]byte { return &s.Smooth }},
	{"KeyURI", drm.KeyURI, func(s *drm.Signaling) *[]byte { return &s.KeyURI }},
	{"KeyFormat", drm.KeyFormat, func(s *drm.Signaling) *[]byte { return &s.KeyFormat }},
	{"KeyFormatVersions", drm.KeyFormatVersions, func(s *drm.Signaling) *[]byte { return &s.KeyFormatVersions }},
}

func present(s drm.Signaling) (f drm.Fields) {
	for _, x := range fieldList {
		if len(*x.get(&s)) > 0 {
			f |= x.field
		}
	}
	return f
}

// TestNoKeyInSignaling looks for the content key in everything that is made
// from it: in bytes, hexadecimal digits and base64, also of UTF-16.
func TestNoKeyInSignaling(t *testing.T) {
	key := contentkey.Value(mustHex("deadbeef0102030405060708090a0b0c"))
	forms := []string{string(key[:]), "deadbeef", base64Text(key[:])[:8], "AN4Arb"}
	v1, v2 := systems(t, complete)
	for _, s := range append(v1, v2...) {
		for scheme := contentkey.Cenc; scheme <= contentkey.Cbcs; scheme++ {
			track := &drm.Track{ContentID: "c", Key: key, IV: contentkey.IV{1}, Scheme: scheme}
			out, err := s.Signal(track, allFields)
			text := fmt.Sprintf("%v %s", err, bytes.Join([][]byte{out.PSSH, bytes.ReplaceAll(out.PSSH, []byte{0}, nil),
				out.ContentProtection, out.HLS, out.Smooth, out.KeyURI}, nil))
			for _, form := range forms {
				if strings.Contains(text, form) {
					t.Errorf("%s, %s: shows %q", s.Name(), scheme, form)
				}
			}
		}
	}
}

// TestSignalAllocations keeps the hot path lean: one buffer per call, none in
// a room, and two more for the AES of PlayReady's checksum.
func TestSignalAllocations(t *testing.T) {
	v1, v2 := systems(t, complete)
	for _, s := range append(v1, v2...) {
		for scheme := contentkey.Cenc; scheme <= contentkey.Cbcs; scheme++ {
			track := vectorTrack(scheme)
			track.ContentID, track.IV = "cmaf-channel-9", contentkey.IV{1}
			if !s.Supports(scheme) {
				continue
			}
			limit := 1.0
			if s.Name() == "PlayReady" && scheme == contentkey.Cenc {
				limit = 3
			}
			if got := testing.AllocsPerRun(100, func() { _, _ = s.Signal(track, allFields) }); got > limit {
				t.Errorf("%s, %s: %v allocations", s.Name(), scheme, got)
			}
			var room drm.Room
			track.Room = &room
			if got := testing.AllocsPerRun(100, func() { _, _ = s.Signal(track, allFields); room.Reset() }); got > limit-1 {
				t.Errorf("%s, %s: %v allocations in a room", s.Name(), scheme, got)
			}
		}
	}
}

// TestSettingsValidate: zero settings are fine, and each wrong one is named.
func TestSettingsValidate(t *testing.T) {
	if err := (drm.Settings{}).Validate(); err != nil {
		t.Error(err)
	}
	long := strings.Repeat("x", 1024)
	custom := func(s string) drm.Settings { return drm.Settings{PlayReady: drm.PlayReady{CustomAttributes: s}} }
	for _, c := range []struct {
		settings drm.Settings
		want     string
	}{
		{drm.Settings{Widevine: drm.Widevine{Provider: "\xff"}}, "widevine.provider"},
		{drm.Settings{Widevine: drm.Widevine{Policy: "\xff"}}, "widevine.policy"},
		{drm.Settings{Widevine: drm.Widevine{ContentID: mustTemplate("on")}}, "widevine.content_id"},
		{drm.Settings{Widevine: drm.Widevine{ContentID: mustTemplate("{kid}{iv_hex}")}}, "widevine.content_id"},
		{drm.Settings{Widevine: drm.Widevine{CencMethod: "AES-128"}}, "widevine.cenc_method"},
		{drm.Settings{Widevine: drm.Widevine{CencMethod: `NONE",URI="x`}}, "widevine.cenc_method"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "lic.example.com"}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "/path"}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "https://"}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "ftp://x/"}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "https://x/a b"}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "https://u:p@x/"}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "https://x/" + strings.Repeat(long, 8)}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LAURL: "https://x/" + strings.Repeat(long, 40)}}, "playready.la_url"},
		{drm.Settings{PlayReady: drm.PlayReady{LUIURL: "https://x/\n"}}, "playready.lui_url"},
		{drm.Settings{PlayReady: drm.PlayReady{DSID: "AAAA"}}, "playready.ds_id"},
		{drm.Settings{PlayReady: drm.PlayReady{DSID: "VlR7IdsIJEuRd06Laqs2jx=="}}, "playready.ds_id"},
		{drm.Settings{PlayReady: drm.PlayReady{CencVersion: "4.0.0.0"}}, "playready.cenc_version"},
		{drm.Settings{PlayReady: drm.PlayReady{CencMethod: "SAMPLE"}}, "playready.cenc_method"},
		{custom("x"), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES><a></a></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns:x="y"></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<OTHER xmlns=""></OTHER>`), "playready.custom_attributes"},
		{custom(` <CUSTOMATTRIBUTES xmlns=""></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns=""></CUSTOMATTRIBUTES></DATA>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns=""><a/></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns=""/>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns=""><!-- c --></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns=""><![CDATA[c]]></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns=""><?pi?></CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns="">&e;</CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{custom(`<CUSTOMATTRIBUTES xmlns="">` + long + `</CUSTOMATTRIBUTES>`), "playready.custom_attributes"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("mediapackage")}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("skd://constant")}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("{kid}")}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("://{kid}")}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("skd://{iv_hex}")}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate(`skd://{kid}"`)}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("skd://{kid} ")}}, "fairplay.uri"},
		{drm.Settings{FairPlay: drm.FairPlay{URI: mustTemplate("skd://{kid}\n")}}, "fairplay.uri"},
		{drm.Settings{HLS: drm.HLSAES128{URL: "http://keys.example.com"}}, "hls.url"},
		{drm.Settings{HLS: drm.HLSAES128{URL: "https://keys.example.com/?a=b"}}, "hls.url"},
		{drm.Settings{HLS: drm.HLSAES128{URL: "https://keys.example.com/#f"}}, "hls.url"},
		{drm.Settings{HLS: drm.HLSAES128{URL: `https://keys.example.com/"`}}, "hls.url"},
		{drm.Settings{ClearKey: drm.ClearKeyDASH{LicenseURL: "http://localhost.example.com/"}}, "clear_key.license_url"},
		{drm.Settings{ClearKey: drm.ClearKeyDASH{LicenseURL: "http://10.0.0.1/"}}, "clear_key.license_url"},
	} {
		err := c.settings.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), c.want+": ") {
			t.Errorf("%+v: %v, want one of %s", c.settings, err, c.want)
		}
		for _, set := range []func(drm.Settings) ([]drm.System, error){drm.V1, drm.V2} {
			if got, err := set(c.settings); err == nil || got != nil {
				t.Errorf("%s: a set of %d systems, %v", c.want, len(got), err)
			}
		}
	}
	for _, s := range []drm.Settings{
		complete,
		custom(`<CUSTOMATTRIBUTES xmlns=""><a b="/>">&amp;</a></CUSTOMATTRIBUTES>`),
		custom(`<CUSTOMATTRIBUTES xmlns="urn:x" xmlns:y="urn:y"><y:a></y:a></CUSTOMATTRIBUTES>`),
		{PlayReady: drm.PlayReady{LAURL: "http://pr.example.com/?cfg=(kid:header,ckt:aes128bitcbc)", CencVersion: "4.3", DSID: kid64}},
		{FairPlay: drm.FairPlay{URI: mustTemplate("skd://x/{content_id}%20{kid}")}},
		{HLS: drm.HLSAES128{URL: "http://localhost:8080"}, ClearKey: drm.ClearKeyDASH{LicenseURL: "http://[::1]:8080/l?a=b"}},
		{HLS: drm.HLSAES128{URL: "http://127.1.2.3:8080/x/"}, ClearKey: drm.ClearKeyDASH{LicenseURL: "http://a.localhost/"}},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestSettingsJSON keeps settings in JSON under the names that errors use.
func TestSettingsJSON(t *testing.T) {
	const text = `{"widevine":{"provider":"acme","content_id":"{kid}"},"playready":{"la_url":"https://x/"},"fairplay":{"uri":"kid-iv"},"hls":{"url":"https://k"}}`
	var s drm.Settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if got, err := json.Marshal(s); err != nil || string(got) != text {
		t.Errorf("%s, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`{"fairplay":{"uri":"skd://{asset}"}}`), &s); err == nil || !strings.Contains(err.Error(), "{asset}") {
		t.Errorf("unknown placeholder: %v", err)
	}
}

// TestTemplate reads templates at configuration time.
func TestTemplate(t *testing.T) {
	for _, s := range []string{"", "word", "{kid}", "a{kid}b{iv_hex}c", "{content_id}{kid_hex}{kid_b64}{iv_b64}"} {
		m, err := drm.ParseTemplate(s)
		if err != nil || m.String() != s || m.IsZero() != (s == "") {
			t.Errorf("%q: %q, %v", s, m, err)
		}
	}
	for _, s := range []string{"{", "}", "a{kid", "kid}", "{kid}}", "{{kid}}", "{}", "{KID}", "{ kid }", "{kid}{asset}", "{kid}{"} {
		if m, err := drm.ParseTemplate(s); err == nil || !m.IsZero() {
			t.Errorf("%q: %q, %v", s, m, err)
		}
	}
}

// TestSystemID reads and prints IDs in either letter case.
func TestSystemID(t *testing.T) {
	id, err := drm.ParseSystemID("EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED")
	if err != nil || id != (drm.Widevine{}).ID() || id.String() != "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed" {
		t.Errorf("%s, %v", id, err)
	}
	if _, err := drm.ParseSystemID("urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"); err == nil {
		t.Error("a URN is not an ID")
	}
	if text, err := id.MarshalText(); err != nil || string(text) != id.String() {
		t.Errorf("%s, %v", text, err)
	}
}

// TestBoxesElsewhere has mp4ff read every box that the systems make.
func TestBoxesElsewhere(t *testing.T) {
	v1, v2 := systems(t, complete)
	n := 0
	for _, s := range append(v1, v2...) {
		for scheme := contentkey.Cenc; scheme <= contentkey.Cbcs; scheme++ {
			if s.Fields()&drm.PSSH == 0 || !s.Supports(scheme) {
				continue
			}
			n++
			out := signal(t, s, vectorTrack(scheme), allFields)
			checkBoxElsewhere(t, out.PSSH)
			text := fragment(t, string(out.ContentProtection)).PSSH
			if b, err := base64.StdEncoding.DecodeString(text); err != nil || !bytes.Equal(b, out.PSSH) {
				t.Errorf("%s: S2-PAY-43: %s, %v", s.Name(), text, err)
			}
		}
	}
	if n == 0 {
		t.Error("no system makes a box")
	}
}
