package server_test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"spekeasy/encryptor"
)

// The tests of this file hold what the verification suite that AWS publishes
// for SPEKE v2 asserts (SUITE-B1 to -V4), over requests of our own making. It
// reads answers with encoding/xml, as the suite reads them with a library that
// is not ours.

const (
	widevineID  = "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"
	playReadyID = "9a04f079-9840-4286-ab92-e65be0885f95"
	fairPlayID  = "94ce86fb-07ff-4f43-adb8-93d2fa968ca2"
)

// suiteCase is one encryption contract of the suite.
type suiteCase struct {
	video, audio string // presets
}

var suiteCases = []suiteCase{
	{"PRESET-VIDEO-1", "PRESET-AUDIO-1"},
	{"PRESET-VIDEO-3", "PRESET-AUDIO-2"},
	{"PRESET-VIDEO-5", "PRESET-AUDIO-3"},
	{"PRESET-VIDEO-8", "PRESET-AUDIO-2"},
	{"PRESET-VIDEO-2", encryptor.Unencrypted},
	{encryptor.Unencrypted, "PRESET-AUDIO-2"},
}

var suiteSystems = [][]string{
	{widevineID}, {playReadyID}, {fairPlayID}, {widevineID, playReadyID}, {widevineID, fairPlayID}, {playReadyID, fairPlayID},
	{widevineID, playReadyID, fairPlayID},
}

// suiteRequest writes a request as the suite does: the prefix pksc, a PSSH for
// every system, HLS signaling for every system, and HD without an upper bound.
func suiteRequest(t *testing.T, c suiteCase, systems []string, vod bool) string {
	t.Helper()
	tracks, err := encryptor.Tracks(c.video, c.audio)
	if err != nil {
		t.Fatal(err)
	}
	scheme := "cenc"
	for _, s := range systems {
		if s == fairPlayID {
			scheme = "cbcs"
		}
	}
	kid := func(i int) string { return fmt.Sprintf("5de1a9c%d-3b1f-4a2c-9d4e-6f7081920a3b", i) }
	var keys, drm, rules strings.Builder
	for i, track := range tracks {
		fmt.Fprintf(&keys, `<cpix:ContentKey kid="%s" commonEncryptionScheme="%s"></cpix:ContentKey>`, kid(i), scheme)
		filters := ""
		if !vod {
			filters = `<cpix:KeyPeriodFilter periodId="keyPeriod_e64248f6-f307-4b99-aa67-b35a78253622"/>`
		}
		for _, f := range track.Filters {
			name, low, high := "VideoFilter", "minPixels", "maxPixels"
			if f.Audio {
				name, low, high = "AudioFilter", "minChannels", "maxChannels"
			}
			filters += "<cpix:" + name
			if f.Min > 0 {
				filters += fmt.Sprintf(` %s="%d"`, low, f.Min)
			}
			if f.Max > 0 && track.Label != "HD" {
				filters += fmt.Sprintf(` %s="%d"`, high, f.Max)
			}
			filters += "/>"
		}
		fmt.Fprintf(&rules, `<cpix:ContentKeyUsageRule kid="%s" intendedTrackType="%s">%s</cpix:ContentKeyUsageRule>`, kid(i), track.Label, filters)
	}
	for _, s := range systems {
		for i := range tracks {
			elements := `<cpix:PSSH></cpix:PSSH>`
			if s != fairPlayID {
				elements += `<cpix:ContentProtectionData></cpix:ContentProtectionData>`
			}
			fmt.Fprintf(&drm, `<cpix:DRMSystem kid="%s" systemId="%s">%s<cpix:HLSSignalingData playlist="media"></cpix:HLSSignalingData><cpix:HLSSignalingData playlist="master"></cpix:HLSSignalingData></cpix:DRMSystem>`, kid(i), s, elements)
		}
	}
	periods := `<cpix:ContentKeyPeriodList><cpix:ContentKeyPeriod id="keyPeriod_e64248f6-f307-4b99-aa67-b35a78253622" index="0"/></cpix:ContentKeyPeriodList>`
	if vod {
		periods = ""
	}
	return `<?xml version="1.0" encoding="UTF-8"?><cpix:CPIX contentId="test_case_1" version="2.3" xmlns:cpix="urn:dashif:org:cpix" xmlns:pksc="urn:ietf:params:xml:ns:keyprov:pskc">` +
		`<cpix:ContentKeyList>` + keys.String() + `</cpix:ContentKeyList><cpix:DRMSystemList>` + drm.String() + `</cpix:DRMSystemList>` + periods +
		`<cpix:ContentKeyUsageRuleList>` + rules.String() + `</cpix:ContentKeyUsageRuleList></cpix:CPIX>`
}

// suiteDocument is an answer as the suite's library sees it.
type suiteDocument struct {
	XMLName        xml.Name   `xml:"urn:dashif:org:cpix CPIX"`
	Attrs          []xml.Attr `xml:",any,attr"`
	ContentKeyList []struct {
		Keys []struct {
			KID    string `xml:"kid,attr"`
			Scheme string `xml:"commonEncryptionScheme,attr"`
			Data   []struct {
				Secret []struct {
					PlainValue []string `xml:"urn:ietf:params:xml:ns:keyprov:pskc PlainValue"`
				} `xml:"urn:ietf:params:xml:ns:keyprov:pskc Secret"`
			} `xml:"urn:dashif:org:cpix Data"`
		} `xml:"urn:dashif:org:cpix ContentKey"`
	} `xml:"urn:dashif:org:cpix ContentKeyList"`
	DRMSystemList []struct {
		Systems []suiteSystem `xml:"urn:dashif:org:cpix DRMSystem"`
	} `xml:"urn:dashif:org:cpix DRMSystemList"`
	Periods []struct {
		ID    string `xml:"id,attr"`
		Start string `xml:"start,attr"`
		End   string `xml:"end,attr"`
	} `xml:"urn:dashif:org:cpix ContentKeyPeriodList>ContentKeyPeriod"`
	RuleList []struct {
		Rules []struct {
			KID   string     `xml:"kid,attr"`
			Label string     `xml:"intendedTrackType,attr"`
			Video []struct{} `xml:"urn:dashif:org:cpix VideoFilter"`
			Audio []struct{} `xml:"urn:dashif:org:cpix AudioFilter"`
		} `xml:"urn:dashif:org:cpix ContentKeyUsageRule"`
	} `xml:"urn:dashif:org:cpix ContentKeyUsageRuleList"`
}

type suiteSystem struct {
	KID        string   `xml:"kid,attr"`
	SystemID   string   `xml:"systemId,attr"`
	PSSH       []string `xml:"urn:dashif:org:cpix PSSH"`
	Protection []string `xml:"urn:dashif:org:cpix ContentProtectionData"`
	HLS        []struct {
		Playlist string `xml:"playlist,attr"`
		Text     string `xml:",chardata"`
	} `xml:"urn:dashif:org:cpix HLSSignalingData"`
}

func (d *suiteDocument) attr(name string) string {
	for _, a := range d.Attrs {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// suiteAsk sends a request and asserts what holds of every valid one
// (SUITE-B1 to -B3, -M1 to -M6).
func suiteAsk(t *testing.T, h http.Handler, version, request string) (*suiteDocument, string) {
	t.Helper()
	r := ask(t, h, "POST", keyPath, strings.NewReader(request), "X-Speke-Version", version, "Content-Type", "application/xml")
	body := text(t, r)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", r.StatusCode, body)
	}
	if r.Header.Get("Content-Type") != "application/xml" || r.Header.Get("X-Speke-Version") != version || r.Header.Get("X-Speke-User-Agent") == "" {
		t.Errorf("headers %v", r.Header)
	}
	var d suiteDocument
	if err := xml.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	if d.attr("contentId") == "" || d.attr("version") == "" || d.attr("id") != "" {
		t.Errorf("root %v", d.Attrs)
	}
	for _, name := range []string{"urn:dashif:org:cpix", "urn:ietf:params:xml:ns:keyprov:pskc"} {
		if !strings.Contains(body, `="`+name+`"`) {
			t.Errorf("%s is not declared", name)
		}
	}
	if len(d.ContentKeyList) != 1 || len(d.DRMSystemList) != 1 || len(d.RuleList) != 1 || len(d.RuleList[0].Rules) == 0 {
		t.Fatalf("%d, %d and %d lists", len(d.ContentKeyList), len(d.DRMSystemList), len(d.RuleList))
	}
	for i, k := range d.ContentKeyList[0].Keys {
		if k.KID == "" || k.Scheme != "cenc" && k.Scheme != "cbcs" || len(k.Data) != 1 || len(k.Data[0].Secret) != 1 || len(k.Data[0].Secret[0].PlainValue) != 1 || k.Data[0].Secret[0].PlainValue[0] == "" {
			t.Errorf("ContentKey %d: %+v", i, k)
		}
	}
	return &d, body
}

// TestSuiteCases holds SUITE-C1 to -C7 for all six contracts with all seven
// sets of systems, with key periods and without.
func TestSuiteCases(t *testing.T) {
	h := newTestServer(t, exampleTenant(), nil)
	for n, c := range suiteCases {
		for _, systems := range suiteSystems {
			for _, vod := range []bool{false, true} {
				t.Run(fmt.Sprintf("case %d with %d systems, %v", n+1, len(systems), vod), func(t *testing.T) {
					tracks, err := encryptor.Tracks(c.video, c.audio)
					if err != nil {
						t.Fatal(err)
					}
					request := suiteRequest(t, c, systems, vod)
					d, body := suiteAsk(t, h, "2.0", request)
					if d.attr("version") != "2.3" || (len(d.Periods) == 1) == vod {
						t.Errorf("version %s, %d periods", d.attr("version"), len(d.Periods))
					}
					keys, list, rules := d.ContentKeyList[0].Keys, d.DRMSystemList[0].Systems, d.RuleList[0].Rules
					if len(keys) != len(tracks) || len(list) != len(tracks)*len(systems) || len(rules) != len(tracks) {
						t.Fatalf("%d keys, %d systems, %d rules for %d tracks", len(keys), len(list), len(rules), len(tracks))
					}
					perKID, perSystem := make(map[string]int), make(map[string]int)
					for i := range list {
						perKID[list[i].KID]++
						perSystem[list[i].SystemID]++
						suiteSignaling(t, &list[i])
					}
					for i := range keys {
						if i > 0 && (keys[i].KID == keys[i-1].KID || keys[i].Data[0].Secret[0].PlainValue[0] == keys[i-1].Data[0].Secret[0].PlainValue[0] || rules[i].KID == rules[i-1].KID) {
							t.Errorf("key %d is the one before", i)
						}
						if perKID[keys[i].KID] != len(systems) || rules[i].Label != tracks[i].Label || rules[i].KID == "" {
							t.Errorf("key %d: %d systems, rule %+v", i, perKID[keys[i].KID], rules[i])
						}
						if video, audio := c.video != encryptor.Unencrypted, c.audio != encryptor.Unencrypted; len(rules[i].Video) > 0 && !video || len(rules[i].Audio) > 0 && !audio {
							t.Errorf("rule %d is for a medium that stays clear", i)
						}
					}
					for _, s := range systems {
						if perSystem[s] != len(tracks) {
							t.Errorf("%s occurs %d times", s, perSystem[s])
						}
					}
					// SUITE-B6, with the expression of the suite.
					again := text(t, ask(t, h, "POST", keyPath, strings.NewReader(request)))
					plain := regexp.MustCompile(`<\w+:PlainValue>(.*?)</\w+:PlainValue>`)
					if one, two := plain.FindAllString(body, -1), plain.FindAllString(again, -1); len(one) != len(tracks) || fmt.Sprint(one) != fmt.Sprint(two) {
						t.Errorf("the same request gave %d keys and then others", len(one))
					}
				})
			}
		}
	}
}

// suiteSignaling holds SUITE-D1 to -D4, -C4 and -C5 for one DRMSystem.
func suiteSignaling(t *testing.T, s *suiteSystem) {
	t.Helper()
	decode := func(b64 string) string {
		b, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			t.Errorf("%s: %v", s.SystemID, err)
		}
		return string(b)
	}
	if len(s.HLS) != 2 || s.HLS[0].Playlist != "media" || s.HLS[1].Playlist != "master" {
		t.Fatalf("%s: HLS %+v", s.SystemID, s.HLS)
	}
	media, ok := strings.CutPrefix(decode(s.HLS[0].Text), "#EXT-X-KEY:METHOD=")
	master, ok2 := strings.CutPrefix(decode(s.HLS[1].Text), "#EXT-X-SESSION-KEY:METHOD=")
	if !ok || !ok2 || media != master || strings.HasPrefix(media, "NONE") {
		t.Errorf("%s: tags %q and %q", s.SystemID, media, master)
	}
	format := map[string]string{widevineID: "urn:uuid:" + widevineID, playReadyID: "com.microsoft.playready", fairPlayID: "com.apple.streamingkeydelivery"}[s.SystemID]
	if !strings.Contains(media, `KEYFORMAT="`+format+`"`) || !strings.Contains(media, `KEYFORMATVERSIONS="1"`) || !strings.Contains(media, `URI="`) {
		t.Errorf("%s: tag %q", s.SystemID, media)
	}
	if s.SystemID == fairPlayID {
		if len(s.Protection) != 0 {
			t.Error("ContentProtectionData for FairPlay")
		}
		return
	}
	if len(s.PSSH) != 1 || s.PSSH[0] == "" || len(s.Protection) != 1 || s.Protection[0] == "" {
		t.Fatalf("%s: PSSH %q, ContentProtectionData %q", s.SystemID, s.PSSH, s.Protection)
	}
	var root struct {
		PSSH []string `xml:"urn:mpeg:cenc:2013 pssh"`
		PRO  []string `xml:"urn:microsoft:playready pro"`
	}
	if err := xml.Unmarshal([]byte("<root>"+decode(s.Protection[0])+"</root>"), &root); err != nil {
		t.Fatalf("%s: %v", s.SystemID, err)
	}
	if len(root.PSSH) != 1 || root.PSSH[0] != s.PSSH[0] || (len(root.PRO) == 1) != (s.SystemID == playReadyID) {
		t.Errorf("%s: PSSH and ContentProtectionData differ", s.SystemID)
	}
	if s.SystemID == widevineID { // one element that can stand alone
		var alone struct {
			XMLName xml.Name `xml:"urn:mpeg:cenc:2013 pssh"`
			Text    string   `xml:",chardata"`
		}
		if err := xml.Unmarshal([]byte(decode(s.Protection[0])), &alone); err != nil || alone.Text != s.PSSH[0] {
			t.Errorf("Widevine ContentProtectionData: %v", err)
		}
	}
}

// TestSuiteNegatives holds SUITE-N1 to -N15: each is answered with 4xx.
func TestSuiteNegatives(t *testing.T) {
	h := newTestServer(t, exampleTenant(), nil)
	valid := suiteRequest(t, suiteCases[0], []string{widevineID}, false)
	strip := func(patterns ...string) string {
		doc := valid
		for _, p := range patterns {
			next := regexp.MustCompile(p).ReplaceAllString(doc, "")
			if next == doc {
				t.Fatalf("%s does not occur", p)
			}
			doc = next
		}
		return doc
	}
	all := func(c suiteCase, label string) string { // the suite's "shared for one medium only"
		doc := suiteRequest(t, c, []string{widevineID}, false)
		tracks, err := encryptor.Tracks(c.video, c.audio)
		if err != nil {
			t.Fatal(err)
		}
		for _, track := range tracks {
			if strings.Contains(track.Label, "AUDIO") == (label == "audio") {
				doc = strings.Replace(doc, `"`+track.Label+`"`, `"ALL"`, 1)
			}
		}
		return doc
	}
	for name, c := range map[string]struct{ request, want string }{
		"N1 empty body":                      {"", "Malformed CPIX document"},
		"N2 version 4.0":                     {strings.Replace(valid, `version="2.3"`, `version="4.0"`, 1), "Unsupported CPIX@version"},
		"N3 no ContentKeyList":               {strip(`<cpix:ContentKeyList>.*</cpix:ContentKeyList>`), "Missing CPIX element ContentKeyList"},
		"N4 no DRMSystemList":                {strip(`<cpix:DRMSystemList>.*</cpix:DRMSystemList>`), "Missing CPIX element DRMSystemList"},
		"N5 no ContentKeyUsageRuleList":      {strip(`<cpix:ContentKeyUsageRuleList>.*</cpix:ContentKeyUsageRuleList>`), "Missing CPIX encryption contract"},
		"N6 no ContentKey":                   {strip(`<cpix:ContentKey .*</cpix:ContentKey>`), "Missing CPIX element ContentKeyList"},
		"N7 no DRMSystem":                    {strip(`<cpix:DRMSystem .*</cpix:DRMSystem>`), "Missing CPIX element DRMSystemList"},
		"N8 no ContentKeyUsageRule":          {strip(`<cpix:ContentKeyUsageRule .*</cpix:ContentKeyUsageRule>`), "Missing CPIX encryption contract"},
		"N9 no filters":                      {strip(`<cpix:(Video|Audio)Filter/>`), "Missing CPIX encryption contract"},
		"N10 keys without attributes":        {regexp.MustCompile(`<cpix:ContentKey [^>]*>`).ReplaceAllString(valid, "<cpix:ContentKey>"), "Missing ContentKey@kid"},
		"N11 systems without attributes":     {regexp.MustCompile(`<cpix:DRMSystem [^>]*>`).ReplaceAllString(valid, "<cpix:DRMSystem>"), "Missing DRMSystem@kid"},
		"N12 rules without attributes":       {regexp.MustCompile(`<cpix:ContentKeyUsageRule [^>]*>`).ReplaceAllString(valid, "<cpix:ContentKeyUsageRule>"), "Missing ContentKeyUsageRule@kid"},
		"N13 FairPlay with cenc":             {strings.ReplaceAll(suiteRequest(t, suiteCases[0], []string{fairPlayID}, false), "cbcs", "cenc"), "ContentKey@commonEncryptionScheme non compatible with DRMSystem " + fairPlayID},
		"N14 ALL for audio alone":            {all(suiteCase{"PRESET-VIDEO-2", "PRESET-AUDIO-2"}, "audio"), "Malformed encryption contract"},
		"N15 ALL for video alone":            {all(suiteCase{"PRESET-VIDEO-2", "PRESET-AUDIO-2"}, "video"), "Malformed encryption contract"},
		"N15 with periods that do not exist": {strings.ReplaceAll(all(suiteCase{"PRESET-VIDEO-2", "PRESET-AUDIO-2"}, "video"), `periodId="keyPeriod_`, `periodId="other_`), "Malformed encryption contract"},
	} {
		r := ask(t, h, "POST", keyPath, strings.NewReader(c.request), "Content-Type", "application/xml")
		if got := text(t, r); r.StatusCode != http.StatusUnprocessableEntity || got != c.want {
			t.Errorf("%s: %d %q, want 422 %q", name, r.StatusCode, got, c.want)
		}
	}
}

// TestSuiteV21 holds SUITE-V1 to -V4: SPEKE 2.1 with start and end of a
// period, which come back as the same instants.
func TestSuiteV21(t *testing.T) {
	h := newTestServer(t, exampleTenant(), nil)
	utc := func(text string) time.Time {
		if !strings.HasSuffix(text, "Z") {
			text += "Z"
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, zone := range []string{"Z", ""} {
		request := strings.Replace(suiteRequest(t, suiteCases[0], []string{widevineID}, false), `version="2.3"`, `version="2.4"`, 1)
		request = strings.Replace(request, `index="0"`, `index="1" start="2026-01-01T00:00:00`+zone+`" end="2026-01-01T00:05:00`+zone+`"`, 1)
		d, _ := suiteAsk(t, h, "2.1", request)
		if d.attr("version") != "2.4" || len(d.Periods) != 1 {
			t.Fatalf("version %s, %d periods", d.attr("version"), len(d.Periods))
		}
		p := d.Periods[0]
		if p.ID != "keyPeriod_e64248f6-f307-4b99-aa67-b35a78253622" || !utc(p.Start).Equal(utc("2026-01-01T00:00:00Z")) || !utc(p.End).Equal(utc("2026-01-01T00:05:00Z")) {
			t.Errorf("period %+v", p)
		}
	}
}

// TestSuiteSharedKey holds SUITE-B7: a request for one key with the headers of
// v2 is answered in full.
func TestSuiteSharedKey(t *testing.T) {
	d, _ := suiteAsk(t, newTestServer(t, exampleTenant(), nil), "2.0", suiteRequest(t, suiteCase{encryptor.Shared, encryptor.Shared}, []string{widevineID}, false))
	if len(d.ContentKeyList[0].Keys) != 1 || len(d.DRMSystemList[0].Systems) != 1 || len(d.RuleList[0].Rules) != 1 {
		t.Errorf("%+v", d)
	}
	suiteSignaling(t, &d.DRMSystemList[0].Systems[0])
	if r := d.RuleList[0].Rules[0]; r.Label != "ALL" || len(r.Video) != 1 || len(r.Audio) != 1 {
		t.Errorf("rule %+v", r)
	}
}
