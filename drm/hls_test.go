package drm_test

import (
	"regexp"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// attribute is one entry of an HLS attribute list, RFC 8216 section 4.2: a
// quoted string without quotes, line ends and other control characters, or a
// bare value.
var attribute = regexp.MustCompile(`^([A-Z0-9-]+)=("[^"\x00-\x1f\x7f]*"|[^",\s]+)(?:,|$)`)

// attributes reads the attribute list of a tag line, strictly, and returns
// the names in order and the values without quotes.
func attributes(t testing.TB, line string) (names []string, values map[string]string) {
	t.Helper()
	_, rest, _ := strings.Cut(line, ":")
	values = map[string]string{}
	for rest != "" {
		m := attribute.FindStringSubmatch(rest)
		if m == nil || values[m[1]] != "" || m[0] == rest && strings.HasSuffix(rest, ",") {
			t.Fatalf("not an attribute list at %q of %q", rest, line)
		}
		names = append(names, m[1])
		values[m[1]] = strings.Trim(m[2], `"`)
		rest = rest[len(m[0]):]
	}
	return names, values
}

// TestHLSTags makes the tags of the vectors byte for byte (D-260, D-301,
// D-820), and those of a real answer attribute by attribute, since that
// vendor has an order of his own (D-826).
func TestHLSTags(t *testing.T) {
	for _, v := range loadVectors(t).HLSTags {
		systems := map[string]drm.System{
			"widevine":  drm.Widevine{KeyID: true},
			"playready": drm.PlayReady{LAURL: vectorLAURL},
			"fairplay":  drm.FairPlay{URI: mustTemplate("kid")},
		}
		track := vectorTrack(v.Scheme)
		track.KID = v.KID
		real := v.Name == "ezdrm-real-cbcs"
		if real {
			track.IV = mustIV(v.IV)
			systems = map[string]drm.System{
				"widevine":  drm.Widevine{KeyID: true, Provider: "ezdrm", ContentID: mustTemplate("off")},
				"playready": drm.PlayReady{LAURL: "https://playready.ezdrm.com/cency/preauth.aspx?pX=274FF4", DSID: "VlR7IdsIJEuRd06Laqs2jw=="},
				"fairplay":  drm.FairPlay{URI: mustTemplate("kid-iv")},
			}
		}
		for name, want := range v.Media {
			t.Run(v.Name+"/"+name, func(t *testing.T) {
				out := string(signal(t, systems[name], track, drm.HLS).HLS)
				if !real {
					if mediaTag+out != want || mediaTag+out != string(v.Base64[name]) {
						t.Errorf("%s, want\n%s", out, want)
					}
					return
				}
				_, ours := attributes(t, mediaTag+out)
				for _, line := range []string{want, v.Master[name]} {
					_, theirs := attributes(t, line)
					for key, value := range theirs {
						if got := ours[key]; got != value && !(key == "KEYID" && strings.EqualFold(got, value)) {
							t.Errorf("%s=%s, want %s", key, got, value)
						}
					}
				}
			})
		}
	}
}

// TestHLSMethod holds S2-HLS-06, -07 and -09: METHOD is the first attribute,
// by scheme, and may be replaced for cenc only.
func TestHLSMethod(t *testing.T) {
	const keys = "https://keys.example.com"
	for _, c := range []struct {
		system drm.System
		scheme contentkey.Scheme
		want   string
	}{
		{drm.Widevine{}, contentkey.Cenc, "SAMPLE-AES-CTR"},
		{drm.Widevine{}, contentkey.Cbcs, "SAMPLE-AES"},
		{drm.Widevine{CencMethod: "SAMPLE-AES"}, contentkey.Cenc, "SAMPLE-AES"},
		{drm.Widevine{CencMethod: "SAMPLE-AES-CENC"}, contentkey.Cenc, "SAMPLE-AES-CENC"},
		{drm.Widevine{CencMethod: "SAMPLE-AES-CENC"}, contentkey.Cbcs, "SAMPLE-AES"},
		{drm.PlayReady{}, contentkey.Cenc, "SAMPLE-AES-CTR"},
		{drm.PlayReady{}, contentkey.Cbcs, "SAMPLE-AES"},
		{drm.PlayReady{CencMethod: "SAMPLE-AES"}, contentkey.Cenc, "SAMPLE-AES"},
		{drm.PlayReady{CencMethod: "SAMPLE-AES-CTR"}, contentkey.Cbcs, "SAMPLE-AES"},
		{drm.FairPlay{}, contentkey.Cbcs, "SAMPLE-AES"},
		{drm.HLSAES128{URL: keys}, contentkey.Cbc1, "AES-128"},
		{drm.HLSSampleAES{URL: keys}, contentkey.Cbcs, "SAMPLE-AES"},
	} {
		track := vectorTrack(c.scheme)
		track.ContentID, track.IV = "c", contentkey.IV{1}
		out := string(signal(t, c.system, track, drm.HLS).HLS)
		if names, values := attributes(t, mediaTag+out); names[0] != "METHOD" || values["METHOD"] != c.want ||
			values["KEYFORMATVERSIONS"] != "1" || values["SCHEME"] != "" {
			t.Errorf("%s, %s: %s", c.system.Name(), c.scheme, out)
		}
	}
}

// TestHLSKeyID holds S2-WV-05 and D-821: KEYID stands behind the URI, bare,
// and only when it is asked for.
func TestHLSKeyID(t *testing.T) {
	for _, c := range []struct{ off, on drm.System }{
		{drm.Widevine{}, drm.Widevine{KeyID: true}},
		{drm.PlayReady{}, drm.PlayReady{KeyID: true}},
		{drm.FairPlay{}, drm.FairPlay{KeyID: true}},
	} {
		track := vectorTrack(contentkey.Cbcs)
		track.IV = contentkey.IV{1}
		off := string(signal(t, c.off, track, drm.HLS).HLS)
		on := string(signal(t, c.on, track, drm.HLS).HLS)
		const attr = `",KEYID=0x00112233445566778899aabbccddeeff`
		if strings.Contains(off, "KEYID") || strings.Count(on, attr) != 1 || strings.Replace(on, attr, `"`, 1) != off {
			t.Errorf("%s: off %s\non  %s", c.off.Name(), off, on)
		}
		names, _ := attributes(t, mediaTag+on)
		for i, name := range names {
			if name == "KEYID" && names[i-1] != "URI" {
				t.Errorf("%s: %v", c.on.Name(), names)
			}
		}
	}
}

// hostile are content IDs that try to leave the place where they are put.
var hostile = []string{
	`a"b`, "a\nb", "a\r\n#EXT-X-KEY:METHOD=NONE\r\nb", `",METHOD=NONE,URI="https://evil.example/`, "a\x00b", "a\x7fb", "a\u0085b",
	"a b", "a\\b", "a/b", "a/../../b", "../..", "...", "?q", "#f", "%2e%2e", "100%", "a;b", "é€\U0001f511", "<a>&amp;</a>", "{kid}",
	"\u2028", strings.Repeat("/", 3000),
}

// TestHostileContentIDs: whatever the content ID, a key tag is one line with
// the attributes it should have, and the content ID can be read back.
func TestHostileContentIDs(t *testing.T) {
	for _, id := range hostile {
		for _, c := range []struct {
			name   string
			system drm.System
			scheme contentkey.Scheme
		}{
			{"widevine", drm.Widevine{}, contentkey.Cbcs},
			{"playready", drm.PlayReady{}, contentkey.Cbcs},
			{"fairplay json", drm.FairPlay{}, contentkey.Cbcs},
			{"fairplay template", drm.FairPlay{URI: mustTemplate("skd://{content_id}")}, contentkey.Cbcs},
			{"aes-128", drm.HLSAES128{URL: "https://k.example/"}, contentkey.Cbc1},
			{"sample-aes", drm.HLSSampleAES{URL: "https://k.example"}, contentkey.Cbcs},
		} {
			track := vectorTrack(c.scheme)
			track.ContentID, track.IV = id, contentkey.IV{1}
			out := string(signal(t, c.system, track, drm.HLS).HLS)
			if names, _ := attributes(t, mediaTag+out); len(names) != 4 {
				t.Errorf("%s, %q: %s", c.name, id, out)
			}
		}
	}
}
