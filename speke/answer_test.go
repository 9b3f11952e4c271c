package speke_test

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/speke"
)

const (
	irdetoID    = "80a6be7e-1448-4c37-9e70-d5aebe04c8d2"
	aes128V1ID  = "81376844-f976-481e-a84e-cc25d39b0b33"
	sampleAESID = "be58615b-19c4-4684-88b3-c8c57e99e957"
	clearKeyID  = "e2719d58-a985-b3c9-781a-b030af78d30e"
)

// TestPlaceholdersV2 asks each system of SPEKE v2 for each element alone:
// it is filled, taken out, or refused (S2-PAY-40 to -42, S2-ERR-36, -42,
// section 13.1 and 0.2 of the DRM formats). Leftovers of v1 are dropped for
// all (S2-PAY-06).
func TestPlaceholdersV2(t *testing.T) {
	const filled, removed, refused, unknown = "filled", "removed", "refused", "unknown"
	elements := []string{"PSSH", "ContentProtectionData", `HLSSignalingData playlist="media"`, `HLSSignalingData playlist="master"`, "SmoothStreamingProtectionHeaderData", "URIExtXKey", "HDSSignalingData"}
	for _, c := range []struct {
		system, scheme string
		want           [7]string
	}{
		{widevineID, "cenc", [7]string{filled, filled, filled, filled, refused, removed, unknown}},
		{playReadyID, "cbcs", [7]string{filled, filled, filled, filled, filled, removed, unknown}},
		{fairPlayID, "cbcs", [7]string{removed, removed, filled, filled, removed, removed, unknown}},
		{aes128ID, "cbc1", [7]string{removed, removed, filled, filled, removed, removed, unknown}},
		{sampleAESID, "cbcs", [7]string{removed, removed, filled, filled, removed, removed, unknown}},
		{clearKeyID, "cenc", [7]string{refused, filled, refused, refused, refused, removed, unknown}},
		{commonID, "cens", [7]string{filled, filled, refused, refused, refused, removed, unknown}},
	} {
		for i, element := range elements {
			name, _, _ := strings.Cut(element, " ")
			body := contractOfOne(c.scheme, `<c:DRMSystem kid="`+kid(0)+`" systemId="`+strings.ToUpper(c.system)+`"> <c:`+element+`/> </c:DRMSystem>`)
			switch want := c.want[i]; want {
			case refused:
				if got := refusal(t, "2.0", body, policy(t)); got != "Unsupported "+name+" for DRMSystem "+strings.ToUpper(c.system) {
					t.Errorf("%s of %s: %q", element, c.system, got)
				}
			default:
				text, doc := mustAnswer(t, "2.0", body)
				at := strings.Index(text, `<c:DRMSystem `)
				inside := text[at+strings.Index(text[at:], ">")+1 : strings.Index(text, `</c:DRMSystem>`)]
				var got string
				switch {
				case inside == "  ":
					got = removed
				case inside == " <c:"+element+"/> ":
					got = unknown
				case len(doc.DRMSystems[0].Signals) == 1 && len(doc.DRMSystems[0].Signals[0].Text()) > 20:
					got = filled
				}
				if got != want {
					t.Errorf("%s of %s: %q is not %s", element, c.system, inside, want)
				}
			}
		}
	}
	for _, id := range []string{irdetoID, aes128V1ID, kid(5)} {
		if got := refusal(t, "2.0", contractOfOne("cenc", `<c:DRMSystem kid="`+kid(0)+`" systemId="`+id+`"/>`), policy(t)); got != "Unsupported DRMSystem "+id {
			t.Errorf("%s: %q", id, got)
		}
	}
}

// contractOfOne is a request of SPEKE 2.0 for one key and the given systems.
func contractOfOne(scheme, systems string) string {
	return `<c:CPIX contentId="movie" version="2.3" xmlns:c="urn:dashif:org:cpix"><c:ContentKeyList><c:ContentKey kid="` + kid(0) + `" commonEncryptionScheme="` + scheme + `"/></c:ContentKeyList>` +
		`<c:DRMSystemList>` + systems + `</c:DRMSystemList><c:ContentKeyUsageRuleList>` + rule(0, "ALL", video, audio) + `</c:ContentKeyUsageRuleList></c:CPIX>`
}

// TestPlaceholdersV1 asks each system of SPEKE v1 for all six elements, as
// MediaPackage does: what applies is filled, the rest is taken out
// (S1-PAY-08 to -13, 7.3).
func TestPlaceholdersV1(t *testing.T) {
	six := []string{"c:ContentProtectionData", "s:KeyFormat", "s:KeyFormatVersions", "s:ProtectionHeader", "c:PSSH", "c:URIExtXKey"}
	for system, want := range map[string][]string{
		widevineID:  {"c:ContentProtectionData", "c:PSSH"},
		playReadyID: {"c:ContentProtectionData", "s:ProtectionHeader", "c:PSSH"},
		fairPlayID:  {"s:KeyFormat", "s:KeyFormatVersions", "c:URIExtXKey"},
		aes128V1ID:  {"s:KeyFormat", "s:KeyFormatVersions", "c:URIExtXKey"},
		commonID:    {"c:ContentProtectionData", "c:PSSH"},
	} {
		body := edit(t, baseV1, playReadyID, system, `<c:PSSH/><s:ProtectionHeader/>`, "<"+strings.Join(six, "/><")+"/>")
		text, doc := mustAnswer(t, "", body)
		for _, name := range six {
			if has := strings.Contains(text, "<"+name); has != slices.Contains(want, name) {
				t.Errorf("%s of %s: %v", name, system, has)
			}
		}
		for i := range doc.DRMSystems[0].Signals {
			if s := &doc.DRMSystems[0].Signals[i]; s.Text() == "" {
				t.Errorf("%s of %s is empty", s.Kind, system)
			}
		}
		if strings.Contains(text, "explicitIV") != (system == fairPlayID) {
			t.Errorf("%s: explicitIV (S1-PAY-07)", system)
		}
	}
	for _, id := range []string{irdetoID, aes128ID, sampleAESID, clearKeyID} {
		if got := refusal(t, "", edit(t, baseV1, playReadyID, id), policy(t)); got != "Unsupported DRMSystem "+id {
			t.Errorf("%s in v1: %q", id, got)
		}
	}
}

// TestNoKeyURL holds S2-CK-03 for a tenant that has set no address: where it
// is what the system is for, the request is refused before any key is made.
func TestNoKeyURL(t *testing.T) {
	v1, err := drm.V1(drm.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	v2, err := drm.V2(drm.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	p := &speke.Policy{V1: v1, V2: v2}
	v1Body := edit(t, baseV1, playReadyID, aes128V1ID, `<c:PSSH/><s:ProtectionHeader/>`, `<c:ContentProtectionData/><s:KeyFormat/><c:PSSH/><c:URIExtXKey/>`)
	for _, c := range []struct{ version, body, want string }{
		{"2.0", contractOfOne("cbc1", `<c:DRMSystem kid="`+kid(0)+`" systemId="`+aes128ID+`"><c:PSSH/><c:HLSSignalingData/></c:DRMSystem>`), "Unsupported HLSSignalingData for DRMSystem " + aes128ID},
		{"2.0", contractOfOne("cenc", `<c:DRMSystem kid="`+kid(0)+`" systemId="`+clearKeyID+`"><c:ContentProtectionData/></c:DRMSystem>`), "Unsupported ContentProtectionData for DRMSystem " + clearKeyID},
		{"", v1Body, "Unsupported URIExtXKey for DRMSystem " + aes128V1ID},
		{"", strings.Replace(v1Body, `<c:URIExtXKey/>`, ``, 1), ""}, // nothing is asked that has to be known
	} {
		if got := refusal(t, c.version, c.body, p); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestContentIDsInKeyURLs holds that a content ID which players and servers
// would fold away in a URL is refused, where it stands in one.
func TestContentIDsInKeyURLs(t *testing.T) {
	system := func(id, element string) string {
		return `<c:DRMSystem kid="` + kid(0) + `" systemId="` + id + `"><c:` + element + `/></c:DRMSystem>`
	}
	for _, id := range []string{".", ".."} {
		body := strings.Replace(contractOfOne("cbc1", system(aes128ID, "HLSSignalingData")), "movie", id, 1)
		if got := refusal(t, "2.0", body, policy(t)); got != "Unsupported content ID for DRMSystem "+aes128ID {
			t.Errorf("%q: %q", id, got)
		}
		body = strings.Replace(contractOfOne("cbc1", system(commonID, "PSSH")), "movie", id, 1)
		if got := refusal(t, "2.0", body, policy(t)); got != "" {
			t.Errorf("%q without a URL: %q", id, got)
		}
	}
	for _, id := range []string{"...", "a/b", "a b", "%2e", "ä", "&quot;&#10;\\", strings.Repeat("x", 1024)} {
		body := strings.Replace(contractOfOne("cbc1", system(aes128ID, "HLSSignalingData")), "movie", id, 1)
		_, doc := mustAnswer(t, "2.0", body)
		tag, err := doc.DRMSystems[0].Signals[0].Value()
		if err != nil || !strings.HasPrefix(string(tag), `#EXT-X-KEY:METHOD=AES-128,URI="https://keys.example.com/client/`) || strings.ContainsAny(string(tag), "\r\n\\ ") || strings.Count(string(tag), `"`) != 6 || strings.Count(string(tag), "/") != 5 {
			t.Errorf("%.10q: tag %s, %v", id, tag, err)
		}
	}
}

// TestSameSystemTwice holds that a DRMSystem which occurs twice for a key is
// answered twice, as the encryptor sent it (S2-ECHO-04).
func TestSameSystemTwice(t *testing.T) {
	one := `<c:DRMSystem kid="` + kid(0) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>`
	_, doc := mustAnswer(t, "2.0", contractOfOne("cenc", one+strings.Replace(one, kid(0), strings.ToUpper(kid(0)), 1)))
	if len(doc.DRMSystems) != 2 || doc.DRMSystems[0].Signals[0].Text() == "" || doc.DRMSystems[0].Signals[0].Text() != doc.DRMSystems[1].Signals[0].Text() {
		t.Error("the two are not answered alike")
	}
	if doc.DRMSystems[0].KID != kid(0) || doc.DRMSystems[1].KID != strings.ToUpper(kid(0)) {
		t.Error("the spelling of a key ID changed")
	}
}

// TestOverride holds that a KID override reaches every place at once, also
// those in another letter case, and leaves the rest (SX-KID-01 to -04).
func TestOverride(t *testing.T) {
	body := edit(t, base, `kid="`+kid(1)+`" systemId`, `kid="`+strings.ToUpper(kid(1))+`" systemId`, `kid="`+kid(2)+`" intended`, `kid="`+strings.ToUpper(kid(2))+`" intended`)
	r, err := speke.ParseRequest(header("2.0"), []byte(body), policy(t))
	if err != nil {
		t.Fatal(err)
	}
	g := grants(r)
	g[0].KID, g[1].KID = contentkey.KID{1}, g[0].KID // the second takes the first one's key ID
	text, doc, err := answer(r, g, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, second := contentkey.KID{1}.String(), kid(1)
	for name, got := range map[string][2]string{
		"content keys": {doc.ContentKeys[0].KID, doc.ContentKeys[1].KID},
		"DRM systems":  {doc.DRMSystems[0].KID, doc.DRMSystems[1].KID},
		"usage rules":  {doc.UsageRules[0].KID, doc.UsageRules[1].KID},
	} {
		if got != [2]string{first, second} {
			t.Errorf("%s: %s", name, got)
		}
	}
	pssh, err := doc.DRMSystems[0].Signals[0].Value()
	if err != nil || !strings.Contains(string(pssh), string(g[0].KID[:])) {
		t.Errorf("the PSSH is for another key ID: %v", err)
	}
	if strings.Contains(strings.ToLower(text), kid(2)) {
		t.Error("an old key ID is left over")
	}
	if doc.Periods[0].ID != "p1" || doc.ContentID != "movie" {
		t.Error("an override changed more than key IDs")
	}
}

// TestOutputProtection holds S21-PAY-72 to -75: what a tenant set goes into
// answers of SPEKE 2.1 and into no others.
func TestOutputProtection(t *testing.T) {
	p := policy(t)
	widevine, err := drm.ParseSystemID(widevineID)
	if err != nil {
		t.Fatal(err)
	}
	p.Output = speke.Output{
		HDCP:       map[string]cpix.HDCP{"VIDEO": {Level: "TYPE-1"}},
		Robustness: map[drm.SystemID]string{widevine: "HW_SECURE_ALL"},
		AllowedCPC: map[drm.SystemID]string{widevine: "com.widevine:SMART-TV"},
	}
	body := edit(t, base, `<c:PSSH/>`, `<c:PSSH/><c:ContentProtectionData robustness="x"/>`)
	for version, cpixVersion := range map[string]string{"1.0": "", "2.0": "2.3", "2.1": "2.4"} {
		doc := strings.Replace(body, `contentId="movie" version="2.3"`, `contentId="movie" version="`+cpixVersion+`" id="movie"`, 1)
		r, err := speke.ParseRequest(header(version), []byte(doc), p)
		if err != nil {
			t.Fatal(err)
		}
		text, a, err := answer(r, grants(r), nil)
		if err != nil {
			t.Fatal(err)
		}
		set := version == "2.1"
		if (a.ContentKeys[0].HDCPLevel == "TYPE-1") != set || a.ContentKeys[1].HDCPLevel != "" {
			t.Errorf("%s: HDCP %q, %q", version, a.ContentKeys[0].HDCPLevel, a.ContentKeys[1].HDCPLevel)
		}
		if strings.Contains(text, `<c:HDCPData HLSHDCPLevel="TYPE-1"/><c:Data>`) != set {
			t.Errorf("%s: HDCPData does not stand before Data", version)
		}
		robustness := "x"
		if set {
			robustness = "HW_SECURE_ALL"
		}
		if got := a.DRMSystems[0].Signals[1].Robustness; got != robustness {
			t.Errorf("%s: robustness %q", version, got)
		}
		if (a.DRMSystems[0].AllowedCPC == "com.widevine:SMART-TV") != set || a.DRMSystems[1].AllowedCPC != "" {
			t.Errorf("%s: HLSAllowedCPC %q, %q", version, a.DRMSystems[0].AllowedCPC, a.DRMSystems[1].AllowedCPC)
		}
	}
}

// TestAnswerFitsRequest holds that grants, signaling and recipients of
// another request are not taken.
func TestAnswerFitsRequest(t *testing.T) {
	parse := func(body string) *speke.Request {
		r, err := speke.ParseRequest(header("2.0"), []byte(body), policy(t))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	sealer, err := cpix.NewSealer(rand.Reader, []*x509.Certificate{certificate(t).cert})
	if err != nil {
		t.Fatal(err)
	}
	encrypted := edit(t, base, `<c:ContentKeyList>`, `<c:DeliveryDataList xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><c:DeliveryData><c:DeliveryKey><ds:X509Data><ds:X509Certificate>`+
		certificate(t).text+`</ds:X509Certificate></ds:X509Data></c:DeliveryKey></c:DeliveryData></c:DeliveryDataList><c:ContentKeyList>`)
	for name, give := range map[string]func() ([]byte, error){
		"a grant less": func() ([]byte, error) {
			return parse(base).Answer(make([]speke.Grant, 1), make([]drm.Signaling, 2), nil)
		},
		"a signaling more": func() ([]byte, error) {
			return parse(base).Answer(make([]speke.Grant, 2), make([]drm.Signaling, 3), nil)
		},
		"keys in clear": func() ([]byte, error) {
			return parse(encrypted).Answer(make([]speke.Grant, 2), make([]drm.Signaling, 2), nil)
		}, // SX-CKE-15
		"keys to recipients": func() ([]byte, error) {
			return parse(base).Answer(make([]speke.Grant, 2), make([]drm.Signaling, 2), sealer)
		},
	} {
		if out, err := give(); err == nil {
			t.Errorf("%s: answered %.40s", name, out)
		}
	}
}

// TestErrors holds what an error says to the encryptor and what to the log.
func TestErrors(t *testing.T) {
	cause := errors.New("certificate has expired")
	for _, c := range []struct {
		err  *speke.Error
		text string
	}{
		{speke.CertificateError(cause), "Invalid DeliveryData certificate"},
		{speke.ContractError(cause), "Requested CPIX encryption contract not supported"},
	} {
		if c.err.Text != c.text || c.err.Status != http.StatusUnprocessableEntity || !errors.Is(c.err, cause) || c.err.Error() != c.text+": certificate has expired" {
			t.Errorf("%+v", c.err)
		}
	}
	if e := (&speke.Error{Text: "x"}); e.Error() != "x" || e.Unwrap() != nil {
		t.Errorf("%v", e)
	}
	for p, want := range map[speke.Profile]string{speke.V10: "1.0", speke.V20: "2.0", speke.V21: "2.1", 9: ""} {
		if p.String() != want {
			t.Errorf("profile %d is %q", p, p)
		}
	}
}
