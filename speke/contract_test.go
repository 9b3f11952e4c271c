package speke_test

import (
	"strings"
	"testing"

	"spekeasy/speke"
)

// contract is a request whose usage rules are given, for so many keys.
func contract(keys int, rules string) string {
	return `<c:CPIX contentId="movie" version="2.3" xmlns:c="urn:dashif:org:cpix" xmlns:x="urn:x"><c:ContentKeyList>` +
		repeat(keys, func(i int) string { return `<c:ContentKey kid="` + kid(i) + `" commonEncryptionScheme="cenc"/>` }) +
		`</c:ContentKeyList><c:DRMSystemList><c:DRMSystem kid="` + kid(0) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem></c:DRMSystemList>` +
		`<c:ContentKeyPeriodList><c:ContentKeyPeriod id="p" index="1"/><c:ContentKeyPeriod id="q" index="2"/></c:ContentKeyPeriodList>` +
		`<c:ContentKeyUsageRuleList>` + rules + `</c:ContentKeyUsageRuleList></c:CPIX>`
}

// rule writes a usage rule for the n-th key.
func rule(n int, label string, filters ...string) string {
	return `<c:ContentKeyUsageRule kid="` + kid(n) + `" intendedTrackType="` + label + `">` + strings.Join(filters, "") + `</c:ContentKeyUsageRule>`
}

const (
	video = `<c:VideoFilter/>`
	audio = `<c:AudioFilter/>`
	inP   = `<c:KeyPeriodFilter periodId="p"/>`
	inQ   = `<c:KeyPeriodFilter periodId="q"/>`
)

// TestContracts holds which encryption contracts are malformed and which are
// not (S2-CON-01 to -11, S2-PAY-60 to -67, D-01 to -03, D-28, D-34).
func TestContracts(t *testing.T) {
	const malformed, missing = "Malformed encryption contract", "Missing CPIX encryption contract"
	for _, c := range []struct {
		name  string
		rules string
		want  string
	}{
		{"one key for all", rule(0, "ALL", video, audio), ""},
		{"one key for all, filters in another order", rule(0, "ALL", audio, inP, video), ""},
		{"video and audio", rule(0, "VIDEO", video) + rule(1, "AUDIO", audio), ""},
		{"clear audio", rule(0, "VIDEO", video), ""},
		{"a label of one's own", rule(0, "Kanal 4 – Nacht+☾", video, video), ""},
		{"more parts than filters, as in presets 7 and 8", rule(0, "SD+HD1", `<c:VideoFilter maxPixels="921600"/>`), ""},
		{"more filters than parts", rule(0, "SD", video, `<c:VideoFilter hdr="false"/>`), ""},
		{"video and audio under a label of one's own", rule(0, "EVERYTHING", video, audio), ""},
		{"overlapping rules", rule(0, "HD", `<c:VideoFilter minPixels="589825"/>`) + rule(1, "UHD", `<c:VideoFilter minPixels="2073601"/>`), ""},
		{"all attributes", rule(0, "V", `<c:VideoFilter minPixels="0" maxPixels="0" hdr="true" minFps="0" maxFps="60"/>`) + rule(1, "A", `<c:AudioFilter minChannels="3" maxChannels="3"/>`), ""},
		{"booleans as digits", rule(0, "V", `<c:VideoFilter hdr="0"/>`) + rule(1, "W", `<c:VideoFilter hdr=" 1 "/>`), ""},
		{"numbers with sign and zeros", rule(0, "V", `<c:VideoFilter minPixels="+007" maxPixels=" 7 "/>`), ""},
		{"numbers beyond 32 bits", rule(0, "V", `<c:VideoFilter maxPixels="9223372036854775807"/>`), ""},
		{"ignored filters and attributes", rule(0, "V", `<c:BitrateFilter maxBitrate="x"/>`, `<c:VideoFilter wcg="x"/>`, `<x:Filter/>`), ""},
		{"two rules for one key", rule(0, "VIDEO", video) + rule(0, "AUDIO", audio), ""},
		{"one label in two periods", rule(0, "VIDEO", inP, video) + rule(1, "VIDEO", inQ, video), ""},
		{"ALL in two periods", rule(0, "ALL", inP, video, audio) + rule(1, "ALL", inQ, video, audio), ""},
		{"ALL in one period, others in another", rule(0, "ALL", inP, video, audio) + rule(1, "VIDEO", inQ, video), ""},
		{"a period that is not declared", rule(0, "VIDEO", `<c:KeyPeriodFilter periodId="nowhere"/>`, video), ""},
		{"a key without a rule", rule(1, "VIDEO", video), ""},

		{"no rules", ``, missing},
		{"rules without filters", rule(0, "VIDEO") + rule(1, "AUDIO", inP), missing},
		{"filters that are none", rule(0, "VIDEO", `<x:VideoFilter/>`, `<c:BitrateFilter/>`), missing},

		{"no label", strings.Replace(rule(0, "V", video), ` intendedTrackType="V"`, ``, 1), malformed},
		{"a label of blanks", rule(0, "  ", video), malformed},
		{"a label too long", rule(0, strings.Repeat("x", 1025), video), malformed},
		{"one rule without filter", rule(0, "VIDEO", video) + rule(1, "AUDIO"), malformed},
		{"one rule with ignored filters only", rule(0, "VIDEO", video) + rule(1, "AUDIO", `<c:BitrateFilter minBitrate="1"/>`), malformed},
		{"a label filter", rule(0, "VIDEO", video, `<c:LabelFilter label="x"/>`), malformed},
		{"a filter that nobody knows", rule(0, "VIDEO", video, `<c:LanguageFilter/>`), malformed},
		{"a period filter without period", rule(0, "VIDEO", `<c:KeyPeriodFilter/>`, video), malformed},
		{"a period filter with an empty period", rule(0, "VIDEO", `<c:KeyPeriodFilter periodId=" "/>`, video), malformed},
		{"a period filter with a long period", rule(0, "VIDEO", `<c:KeyPeriodFilter periodId="`+strings.Repeat("x", 1025)+`"/>`, video), malformed},
		{"a rule for another key", rule(7, "VIDEO", video), malformed},
		{"ALL for video alone", rule(0, "ALL", video), malformed},
		{"ALL with a blank for video alone", rule(0, "ALL ", video), malformed},
		{"ALL for audio alone", rule(0, "ALL", audio), malformed},
		{"ALL with two video filters", rule(0, "ALL", video, video, audio), malformed},
		{"ALL with two audio filters", rule(0, "ALL", video, audio, audio), malformed},
		{"ALL with bounds of video", rule(0, "ALL", `<c:VideoFilter maxPixels="1"/>`, audio), malformed},
		{"ALL with hdr", rule(0, "ALL", `<c:VideoFilter hdr="true"/>`, audio), malformed},
		{"ALL with bounds of frame rate", rule(0, "ALL", `<c:VideoFilter minFps="0"/>`, audio), malformed},
		{"ALL with bounds of audio", rule(0, "ALL", video, `<c:AudioFilter minChannels="1"/>`), malformed},
		{"ALL beside another", rule(0, "ALL", video, audio) + rule(1, "VIDEO", video), malformed},
		{"ALL beside another in its period", rule(0, "ALL", inP, video, audio) + rule(1, "VIDEO", inQ, inP, video), malformed},
		{"ALL of all periods beside another", rule(0, "ALL", video, audio) + rule(1, "VIDEO", inQ, video), malformed},
		{"ALL of a period beside a rule of all", rule(0, "ALL", inP, video, audio) + rule(1, "VIDEO", video), malformed},
		{"ALL twice", rule(0, "ALL", video, audio) + rule(1, "ALL", video, audio), malformed},
		{"a label twice", rule(0, "VIDEO", video) + rule(1, "VIDEO", video), malformed},
		{"a label twice in a period", rule(0, "VIDEO", inP, video) + rule(1, "VIDEO", inP, video), malformed},
		{"a label of all periods and of one", rule(0, "VIDEO", inP, video) + rule(1, "VIDEO", video), malformed},
		{"a label of all periods and of one, among others", rule(0, "A", video) + rule(0, "B", video) + rule(0, "C", video) + rule(1, "C", inP, video), malformed},
		{"minimum above maximum", rule(0, "V", `<c:VideoFilter minPixels="2" maxPixels="1"/>`), malformed},
		{"minimum above maximum of frame rates", rule(0, "V", `<c:VideoFilter minFps="60" maxFps="30"/>`), malformed},
		{"minimum above maximum of channels", rule(0, "V", `<c:AudioFilter minChannels="3" maxChannels="2"/>`), malformed},
		{"a negative number", rule(0, "V", `<c:VideoFilter minPixels="-1"/>`), malformed},
		{"a fraction", rule(0, "V", `<c:VideoFilter maxFps="59.94"/>`), malformed},
		{"an empty number", rule(0, "V", `<c:AudioFilter maxChannels=""/>`), malformed},
		{"a number in hexadecimal", rule(0, "V", `<c:AudioFilter maxChannels="0x2"/>`), malformed},
		{"a number with separators", rule(0, "V", `<c:VideoFilter maxPixels="921_600"/>`), malformed},
		{"two signs", rule(0, "V", `<c:VideoFilter maxPixels="++1"/>`), malformed},
		{"a number beyond all", rule(0, "V", `<c:VideoFilter maxPixels="9223372036854775808"/>`), malformed},
		{"hdr that is no boolean", rule(0, "V", `<c:VideoFilter hdr="yes"/>`), malformed},
		{"hdr in capitals", rule(0, "V", `<c:VideoFilter hdr="TRUE"/>`), malformed},
	} {
		if got := refusal(t, "2.0", contract(2, c.rules), policy(t)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestStrictContracts holds what a tenant may ask for beyond (S2-CON-04,
// D-28).
func TestStrictContracts(t *testing.T) {
	p := policy(t)
	p.Contract.Strict = true
	for rules, ok := range map[string]bool{
		rule(0, "SD+HD", video, video):                               true,
		rule(0, "SD+HD", video):                                      false,
		rule(0, "SD", video, video):                                  false,
		rule(0, "ALL", video, audio):                                 true,
		rule(0, "VIDEO", inP, video):                                 true,
		rule(0, "VIDEO", `<c:KeyPeriodFilter periodId="r"/>`, video): false,
	} {
		if got := refusal(t, "2.0", contract(2, rules), p); ok != (got == "") {
			t.Errorf("%s: %q", rules, got)
		}
	}
	v1 := edit(t, baseV1, `</c:CPIX>`, `<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="`+kid(1)+`"><c:KeyPeriodFilter periodId="r"/></c:ContentKeyUsageRule></c:ContentKeyUsageRuleList></c:CPIX>`)
	if got := refusal(t, "", v1, p); got != "" {
		t.Errorf("v1: %q", got)
	}
}

// TestV1Rules holds that SPEKE v1 reads the period filters of usage rules and
// nothing else (7.1 of the payload, SX-SEQ-11).
func TestV1Rules(t *testing.T) {
	with := func(rules string) string {
		return edit(t, baseV1, `</c:CPIX>`, `<c:ContentKeyPeriodList><c:ContentKeyPeriod id="p" index="6"/></c:ContentKeyPeriodList><c:ContentKeyUsageRuleList>`+rules+`</c:ContentKeyUsageRuleList></c:CPIX>`)
	}
	for name, body := range map[string]string{
		"filters that v2 would refuse": with(rule(1, "ALL", `<c:LabelFilter/>`, `<c:VideoFilter minPixels="x"/>`, inP)),
		"labels twice":                 with(rule(1, "A", inP) + rule(1, "A", inP)),
		"no rules":                     with(``),
		"two rule lists":               edit(t, with(rule(1, "A", inP)), `</c:CPIX>`, `<c:ContentKeyUsageRuleList/></c:CPIX>`),
	} {
		r, err := speke.ParseRequest(header(""), []byte(body), policy(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, u := range r.Keys[0].Uses {
			if u.Track != "" || u.Period.Index != "6" {
				t.Errorf("%s: %+v", name, u)
			}
		}
	}
	if got := refusal(t, "", with(rule(2, "A", inP)), policy(t)); got != "Malformed encryption contract" {
		t.Errorf("a rule for another key: %q", got)
	}
	if got := refusal(t, "", with(`<c:ContentKeyUsageRule/>`), policy(t)); got != "Missing ContentKeyUsageRule@kid" {
		t.Errorf("a rule for no key: %q", got)
	}
}

// TestContractPolicy holds S2-ERR-18: contracts that are well-formed but not
// offered.
func TestContractPolicy(t *testing.T) {
	const refused = "Requested CPIX encryption contract not supported"
	both := rule(0, "VIDEO", video) + rule(1, "AUDIO", audio)
	for _, c := range []struct {
		name   string
		policy speke.ContractPolicy
		max    int
		rules  string
		want   string
	}{
		{"separate keys wanted, separate keys asked for", speke.ContractPolicy{SeparateAudio: true}, 0, both, ""},
		{"separate keys wanted, ALL", speke.ContractPolicy{SeparateAudio: true}, 0, rule(0, "ALL", video, audio), refused},
		{"separate keys wanted, one key in two rules", speke.ContractPolicy{SeparateAudio: true}, 0, rule(0, "VIDEO", video) + strings.Replace(rule(0, "AUDIO", audio), kid(0), strings.ToUpper(kid(0)), 1), refused},
		{"label not served", speke.ContractPolicy{RefuseTracks: []string{"UHD", "AUDIO"}}, 0, both, refused},
		{"labels served", speke.ContractPolicy{RefuseTracks: []string{"UHD", "audio"}}, 0, both, ""},
		{"as many keys as allowed", speke.ContractPolicy{}, 2, both, ""},
		{"more keys than allowed", speke.ContractPolicy{}, 1, both, refused},
	} {
		p := policy(t)
		p.Contract, p.MaxKeys = c.policy, c.max
		if got := refusal(t, "2.0", contract(2, c.rules), p); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	p := policy(t)
	p.Contract, p.MaxKeys = speke.ContractPolicy{SeparateAudio: true, RefuseTracks: []string{""}}, 1
	if got := refusal(t, "", baseV1, p); got != "" {
		t.Errorf("v1, which has no contract: %q", got)
	}
}

// TestUnknownLabels holds that no label is refused for what it says
// (design decision 8): every label of the presets and of the examples, and
// some more, makes a contract.
func TestUnknownLabels(t *testing.T) {
	labels := []string{
		"VIDEO", "SD", "HD", "UHD", "HD1", "HD2", "UHD1", "UHD2", "SD+HD1", "AUDIO", "STEREO_AUDIO", "MULTICHANNEL_AUDIO",
		"MULTICHANNEL_AUDIO_3_6", "MULTICHANNEL_AUDIO_7", "SD+HD", "HDR+HFR+UHD", "all", "+", "😀", "&lt;&amp;", "VIDEO+ALL",
	}
	var rules strings.Builder
	for i, l := range labels {
		rules.WriteString(rule(i, l, video))
	}
	if got := refusal(t, "2.0", contract(len(labels), rules.String()), policy(t)); got != "" {
		t.Error(got)
	}
}
