package speke_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/speke"
)

// TestProfileOfARequest holds how header and CPIX@version decide the profile
// together (SX-VER-01, S2-VER-02 to -07, SX-HTTP-03).
func TestProfileOfARequest(t *testing.T) {
	for _, c := range []struct {
		header  []string // values of X-Speke-Version; nil for none
		version string   // CPIX@version; "" for none
		want    speke.Profile
		text    string
	}{
		{nil, "", speke.V10, ""},
		{[]string{""}, "", speke.V10, ""},
		{[]string{"1.0"}, "", speke.V10, ""},
		{[]string{"1.0"}, "2.0", speke.V10, ""}, // v1 looks at no CPIX@version when the header is explicit
		{[]string{"2.0"}, "2.3", speke.V20, ""},
		{[]string{"2.0", "2.0"}, "2.3", speke.V20, ""},
		{[]string{"2.1"}, "2.4", speke.V21, ""},
		{[]string{"2.0"}, " 2.3 ", speke.V20, ""},

		{nil, "2.3", 0, "Unsupported SPEKE version"},
		{nil, "2.0", 0, "Unsupported SPEKE version"},
		{[]string{""}, "2.4", 0, "Unsupported SPEKE version"},
		{[]string{"2"}, "2.3", 0, "Unsupported SPEKE version"},
		{[]string{"2.2"}, "2.3", 0, "Unsupported SPEKE version"},
		{[]string{"3.0"}, "", 0, "Unsupported SPEKE version"},
		{[]string{"v2.0"}, "2.3", 0, "Unsupported SPEKE version"},
		{[]string{"2.00"}, "2.3", 0, "Unsupported SPEKE version"},
		{[]string{"2.0", "2.1"}, "2.3", 0, "Unsupported SPEKE version"},
		{[]string{"2.0, 2.0"}, "2.3", 0, "Unsupported SPEKE version"},
		{[]string{"2.0"}, "", 0, "Missing CPIX@version"},
		{[]string{"2.0"}, " ", 0, "Missing CPIX@version"},
		{[]string{"2.1"}, "", 0, "Missing CPIX@version"},
		{[]string{"2.0"}, "2.4", 0, "Unsupported CPIX@version"},
		{[]string{"2.1"}, "2.3", 0, "Unsupported CPIX@version"},
		{[]string{"2.0"}, "4.0", 0, "Unsupported CPIX@version"},
		{[]string{"2.0"}, "2.30", 0, "Unsupported CPIX@version"},
	} {
		version := ""
		if c.version != "" {
			version = ` version="` + c.version + `"`
		}
		body := edit(t, base, ` contentId="movie" version="2.3"`, ` id="movie" contentId="movie"`+version)
		h := http.Header{speke.HeaderVersion: c.header}
		r, err := speke.ParseRequest(h, []byte(body), policy(t))
		if c.text == "" {
			if err != nil || r.Profile != c.want || r.ContentID != "movie" {
				t.Errorf("header %q, version %q: %v", c.header, c.version, err)
			}
			continue
		}
		if e, ok := errors.AsType[*speke.Error](err); !ok || e.Text != c.text {
			t.Errorf("header %q, version %q: %v, want %q", c.header, c.version, err, c.text)
		}
	}
}

// TestAnswerHeader holds which headers an answer or error has, also for
// requests that were never parsed (S1-HTTP-10, S2-HTTP-11 to -13).
func TestAnswerHeader(t *testing.T) {
	for version, want := range map[string]http.Header{
		"":         {"Speke-User-Agent": {"us/1"}},
		"1.0":      {"Speke-User-Agent": {"us/1"}},
		"2.0":      {"X-Speke-User-Agent": {"us/1"}, "X-Speke-Version": {"2.0"}},
		"2.1":      {"X-Speke-User-Agent": {"us/1"}, "X-Speke-Version": {"2.1"}},
		"9.9":      {"X-Speke-User-Agent": {"us/1"}, "X-Speke-Version": {"9.9"}},
		"2.0\r\nX": {"X-Speke-User-Agent": {"us/1"}},
	} {
		got := http.Header{}
		speke.AnswerHeader(got, header(version), "us/1")
		if len(got) != len(want) {
			t.Errorf("%q: %v", version, got)
		}
		for name := range want {
			if got.Get(name) != want.Get(name) {
				t.Errorf("%q: %s is %q", version, name, got.Get(name))
			}
		}
	}
}

// TestRefusals holds the answers to faults that the table of the order of
// checks has not, one each (S2-ERR-30 to -37, -43).
func TestRefusals(t *testing.T) {
	one := `<c:DRMSystem kid="` + kid(1) + `" systemId="` + widevineID + `"><c:PSSH/><c:HLSSignalingData playlist="media"/></c:DRMSystem>`
	for _, c := range []struct {
		name string
		old  string
		new  string
		text string
	}{
		{"contentId of white space", `contentId="movie"`, `contentId=" &#9; "`, "Missing CPIX@contentId"},
		{"contentId too long", `contentId="movie"`, `contentId="` + strings.Repeat("x", 1025) + `"`, "Invalid CPIX@contentId"},
		{"empty key list", base[strings.Index(base, "<c:ContentKeyList>"):strings.Index(base, "<c:DRMSystemList>")], `<c:ContentKeyList/>`, "Missing CPIX element ContentKeyList"},
		{"second key list", `<c:DRMSystemList>`, `<c:ContentKeyList/><c:DRMSystemList>`, "Missing CPIX element ContentKeyList"},
		{"second system list", `<c:ContentKeyPeriodList>`, `<c:DRMSystemList/><c:ContentKeyPeriodList>`, "Missing CPIX element DRMSystemList"},
		{"second period list", `<c:ContentKeyPeriodList>`, `<c:ContentKeyPeriodList/><c:ContentKeyPeriodList>`, "Malformed CPIX document"},
		{"second delivery list", `<c:ContentKeyList>`, `<c:DeliveryDataList/><c:DeliveryDataList/><c:ContentKeyList>`, "Malformed CPIX document"},
		{"second rule list", `</c:CPIX>`, `<c:ContentKeyUsageRuleList/></c:CPIX>`, "Malformed encryption contract"},
		{"kid of white space", `kid="` + kid(1), `kid=" " x="`, "Missing ContentKey@kid"},
		{"kid in braces", `kid="` + kid(1), `kid="{` + kid(1) + `}" x="`, "Invalid ContentKey@kid"},
		{"kid as URN", `kid="` + kid(1), `kid="urn:uuid:` + kid(1), "Invalid ContentKey@kid"},
		{"kid without hyphens", `kid="` + kid(1), `kid="` + strings.ReplaceAll(kid(1), "-", ""), "Invalid ContentKey@kid"},
		{"scheme of white space", `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="	"`, "Missing ContentKey@commonEncryptionScheme for KID " + kid(1)},
		{"scheme in capitals", `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="CBCS"`, "Non compliant ContentKey@commonEncryptionScheme combination"},
		{"twice the same kid", `kid="` + kid(2), `kid="` + kid(1), "Malformed CPIX document"},
		{"twice the same kid in another case", `kid="` + kid(2), `kid="` + strings.ToUpper(kid(1)), "Malformed CPIX document"},
		{"explicitIV of 15 bytes", `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="cbcs" explicitIV="AAECAwQFBgcICQoLDA0O"`, "Malformed CPIX document"},
		{"explicitIV of 17 bytes", `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="cbcs" explicitIV="AAECAwQFBgcICQoLDA0ODxA="`, "Malformed CPIX document"},
		{"explicitIV in hexadecimal", `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="cbcs" explicitIV="000102030405060708090a0b0c0d0e0f"`, "Malformed CPIX document"},
		{"two playlists of one kind", one, strings.Replace(one, `<c:PSSH/>`, `<c:HLSSignalingData/>`, 1), "Malformed CPIX document"},
		{"two master playlists by two names", one, strings.Replace(one, `<c:PSSH/><c:HLSSignalingData playlist="media"/>`, `<c:HLSSignalingData playlist="master"/><c:HLSSignalingData playlist="multiVariant"/>`, 1), "Malformed CPIX document"},
		{"playlist in another case", `playlist="media"`, `playlist="Media"`, "Malformed CPIX document"},
		{"encrypted key data", `"cbcs"/>`, `"cbcs"><c:Data><p:Secret><p:EncryptedValue><e:CipherData xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:CipherValue>AA==</e:CipherValue></e:CipherData></p:EncryptedValue></p:Secret></c:Data></c:ContentKey>`, "Malformed CPIX document"},
		{"key data in a second Secret", `"cbcs"/>`, `"cbcs"><c:Data><p:Secret/><p:Secret><p:PlainValue>AA==</p:PlainValue></p:Secret></c:Data></c:ContentKey>`, "Malformed CPIX document"},
		{"two Data", `"cbcs"/>`, `"cbcs"><c:Data/><c:Data/></c:ContentKey>`, "Malformed CPIX document"},
		{"document key", `<c:ContentKeyList>`, `<c:DeliveryDataList><c:DeliveryData><c:DocumentKey/></c:DeliveryData></c:DeliveryDataList><c:ContentKeyList>`, "Malformed CPIX document"},
		{"MAC key", `<c:ContentKeyList>`, `<c:DeliveryDataList><c:DeliveryData><c:MACMethod/></c:DeliveryData></c:DeliveryDataList><c:ContentKeyList>`, "Malformed CPIX document"},
		{"period text too long", `index="1"`, `start="` + strings.Repeat("2", 1025) + `"`, "Malformed CPIX document"},
	} {
		if got := refusal(t, "2.0", edit(t, base, c.old, c.new), policy(t)); got != c.text {
			t.Errorf("%s: %q, want %q", c.name, got, c.text)
		}
	}
	for name, body := range map[string]string{
		"no id":            strings.Replace(baseV1, ` id="movie"`, ``, 1),
		"id of blanks":     strings.Replace(baseV1, ` id="movie"`, ` id=" "`, 1),
		"contentId for id": strings.Replace(baseV1, ` id=`, ` contentId=`, 1),
	} {
		if got := refusal(t, "", body, policy(t)); got != "Missing CPIX@id" {
			t.Errorf("v1 with %s: %q", name, got)
		}
	}
	if got := refusal(t, "", strings.Replace(baseV1, `"movie"`, `"`+strings.Repeat("x", 1025)+`"`, 1), policy(t)); got != "Invalid CPIX@id" {
		t.Errorf("v1 with a long id: %q", got)
	}
}

// TestSchemes holds which schemes go with which systems in which version
// (S2-ERR-15, -37, S2-DRM-01, S21-DRM-02, S21-PAY-71, D-10, D-32).
func TestSchemes(t *testing.T) {
	plays := map[string]string{
		widevineID: "cenc cbcs", playReadyID: "cenc cbcs", fairPlayID: "cbcs", aes128ID: "cbc1", commonID: "cenc cbcs cbc1 cens",
		"be58615b-19c4-4684-88b3-c8c57e99e957": "cbcs", "e2719d58-a985-b3c9-781a-b030af78d30e": "cenc cbcs",
	}
	hls := map[string]string{"AES-128": "cbc1", "SAMPLE-AES": "cbcs", "SAMPLE-AES-CTR": "cenc"}
	for system, list := range plays {
		for _, scheme := range []string{"cenc", "cbcs", "cbc1", "cens", "AES-128", "SAMPLE-AES", "SAMPLE-AES-CTR", "NONE", "AES-256", "xxxx", "Cenc"} {
			for version, cpixVersion := range map[string]string{"2.0": "2.3", "2.1": "2.4"} {
				body := strings.ReplaceAll(base, `"cbcs"`, `"`+scheme+`"`)
				body = strings.ReplaceAll(strings.ReplaceAll(body, widevineID, system), fairPlayID, system)
				body = strings.NewReplacer(`version="2.3"`, `version="`+cpixVersion+`"`, `<c:PSSH/>`, ``, `<c:HLSSignalingData playlist="media"/>`, ``, `<c:HLSSignalingData playlist="master"/>`, ``).Replace(body)
				name := scheme
				if version == "2.1" && hls[scheme] != "" {
					name = hls[scheme]
				}
				want := ""
				if !slices.Contains(strings.Fields(list), name) {
					want = "ContentKey@commonEncryptionScheme non compatible with DRMSystem " + system
				}
				if got := refusal(t, version, body, policy(t)); got != want {
					t.Errorf("%s with %s in %s: %q, want %q", scheme, system, version, got, want)
				}
			}
		}
	}
	mixed := edit(t, base, `version="2.3"`, `version="2.4"`, `"cbcs"`, `"SAMPLE-AES"`)
	if got := refusal(t, "2.1", mixed, policy(t)); got != "Non compliant ContentKey@commonEncryptionScheme combination" {
		t.Errorf("one scheme under two names: %q", got)
	}
}

// TestV1Scheme holds S1-PAY-14: what v1 requests, which name no scheme, are
// signaled with.
func TestV1Scheme(t *testing.T) {
	const aes128V1 = "81376844-f976-481e-a84e-cc25d39b0b33"
	for _, c := range []struct {
		systems []string
		tenant  contentkey.Scheme
		want    contentkey.Scheme
	}{
		{[]string{widevineID}, 0, contentkey.Cenc},
		{[]string{widevineID, playReadyID}, 0, contentkey.Cenc},
		{[]string{widevineID, fairPlayID}, 0, contentkey.Cbcs},
		{[]string{fairPlayID}, 0, contentkey.Cbcs},
		{[]string{aes128V1}, 0, contentkey.Cbc1},
		{[]string{aes128V1, commonID}, 0, contentkey.Cenc},
		{[]string{playReadyID}, contentkey.Cbcs, contentkey.Cbcs},
		{[]string{fairPlayID, widevineID}, contentkey.Cenc, contentkey.Cbcs}, // FairPlay plays nothing else
		{[]string{aes128V1}, contentkey.Cbcs, contentkey.Cbc1},
	} {
		var systems strings.Builder
		for _, id := range c.systems {
			systems.WriteString(`<c:DRMSystem kid="` + kid(1) + `" systemId="` + id + `"><c:ContentProtectionData/><s:KeyFormat/><s:KeyFormatVersions/><s:ProtectionHeader/><c:PSSH/><c:URIExtXKey/></c:DRMSystem>`)
		}
		body := baseV1[:strings.Index(baseV1, "<c:DRMSystem ")] + systems.String() + baseV1[strings.Index(baseV1, "</c:DRMSystemList>"):]
		p := policy(t)
		p.V1Scheme = c.tenant
		r, err := speke.ParseRequest(header(""), []byte(body), p)
		if err != nil {
			t.Fatal(err)
		}
		if r.Scheme != c.want {
			t.Errorf("%v, tenant %q: scheme %q, want %q", c.systems, c.tenant, r.Scheme, c.want)
		}
		if _, _, err := answer(r, grants(r), nil); err != nil {
			t.Errorf("%v: %v", c.systems, err)
		}
	}
}

// TestExplicitIV holds in which profile and under which scheme an answer has
// an explicitIV (S2-PAY-13, S1-PAY-06, -07, S2-ECHO-09, D-30, CPIX-TYP-08).
// The second content key of each request brings one, the first brings none.
func TestExplicitIV(t *testing.T) {
	const sent = "L6jzdXrXAFbCJGBuMrrKrG==" // trailing bits as in AWS's samples
	stored := contentkey.IV{0: 2, 15: 0}.String()
	for _, c := range []struct {
		name, version, scheme, system string
		want                          string // of the first key
	}{
		{"cenc", "2.0", "cenc", widevineID, ""},
		{"cbcs", "2.0", "cbcs", widevineID, stored},
		{"cbcs, FairPlay", "2.0", "cbcs", fairPlayID, stored},
		{"cbc1", "2.0", "cbc1", aes128ID, stored},
		{"cens", "2.0", "cens", commonID, ""},
		{"cenc in 2.1", "2.1", "cenc", widevineID, ""},
		{"AES-128 in 2.1", "2.1", "AES-128", aes128ID, stored},
		{"SAMPLE-AES in 2.1", "2.1", "SAMPLE-AES", fairPlayID, stored},
		{"SAMPLE-AES-CTR in 2.1", "2.1", "SAMPLE-AES-CTR", playReadyID, ""},
		{"v1, FairPlay", "", "", fairPlayID, stored},
		{"v1, Widevine", "", "", widevineID, ""},
		{"v1, PlayReady", "1.0", "", playReadyID, ""},
		{"v1, AES-128", "", "", "81376844-f976-481e-a84e-cc25d39b0b33", ""},
	} {
		for _, empty := range []string{``, ` explicitIV=""`, ` explicitIV=" "`} {
			body := edit(t, base, kid(1)+`" commonEncryptionScheme="cbcs"`, kid(1)+`" commonEncryptionScheme="`+c.scheme+`"`+empty,
				kid(2)+`" commonEncryptionScheme="cbcs"`, kid(2)+`" commonEncryptionScheme="`+c.scheme+`" explicitIV=" `+sent+`"`,
				widevineID, c.system, fairPlayID, c.system, `<c:PSSH/>`, ``, `<c:HLSSignalingData playlist="media"/>`, ``,
				`<c:HLSSignalingData playlist="media"/>`, ``, `<c:HLSSignalingData playlist="master"/>`, ``)
			switch c.version {
			case "2.1":
				body = edit(t, body, `version="2.3"`, `version="2.4"`)
			case "", "1.0":
				body = edit(t, body, `contentId="movie" version="2.3"`, `id="movie"`)
			}
			text, doc := mustAnswer(t, c.version, body)
			if got := doc.ContentKeys[0].ExplicitIV; got != c.want {
				t.Errorf("%s, %q: explicitIV %q, want %q", c.name, empty, got, c.want)
			}
			if !strings.Contains(text, ` explicitIV=" `+sent+`"`) {
				t.Errorf("%s: the IV of the request did not come back as it was", c.name)
			}
		}
	}
}

// TestReadsRequest holds what a request tells the key provider.
func TestReadsRequest(t *testing.T) {
	body := edit(t, base, `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="cbcs" explicitIV="AAECAwQFBgcICQoLDA0ODw=="`,
		`<c:KeyPeriodFilter periodId="p1"/><c:VideoFilter/>`, `<c:KeyPeriodFilter periodId="p1"/><c:VideoFilter/><c:KeyPeriodFilter periodId="p2"/><c:KeyPeriodFilter periodId="nowhere"/>`,
		`index="1"/>`, `index="1"/><c:ContentKeyPeriod id="p2" startOffset="PT0S" endOffset="PT1H"/>`,
		`kid="`+kid(2)+`" systemId`, `kid="`+strings.ToUpper(kid(2))+`" systemId`)
	r, err := speke.ParseRequest(header("2.0"), []byte(body), policy(t))
	if err != nil {
		t.Fatal(err)
	}
	if r.Profile != speke.V20 || r.ContentID != "movie" || r.Scheme != contentkey.Cbcs || r.Encrypted() || len(r.Keys) != 2 {
		t.Errorf("request %+v", r)
	}
	k := r.Keys[0]
	if k.KID.String() != kid(1) || !k.HasIV || k.IV[1] != 1 || k.AddIV {
		t.Errorf("first key %+v", k)
	}
	want := []speke.Use{
		{Track: "VIDEO", Period: contentkey.Period{ID: "p1", Index: "1"}},
		{Track: "VIDEO", Period: contentkey.Period{ID: "p2", Start: "PT0S", End: "PT1H"}},
		{Track: "VIDEO", Period: contentkey.Period{ID: "nowhere"}},
	}
	if !slices.Equal(k.Uses, want) {
		t.Errorf("uses %+v", k.Uses)
	}
	if r.Systems[1].Key != 1 || r.Systems[1].Want != drm.HLS || r.Systems[0].Want != drm.PSSH|drm.HLS {
		t.Errorf("systems %+v", r.Systems)
	}
	if certs, err := r.Recipients(); certs != nil || err != nil {
		t.Errorf("recipients of a request for clear keys: %v, %v", certs, err)
	}
}

// TestManyKeys holds that long lists, which are found by a map, behave as
// short ones.
func TestManyKeys(t *testing.T) {
	build := func(n int, extra string) string {
		keys := repeat(n, func(i int) string { return `<c:ContentKey kid="` + kid(i) + `"/>` })
		systems := repeat(n, func(i int) string {
			return `<c:DRMSystem kid="` + strings.ToUpper(kid(n-1-i)) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>`
		})
		return `<c:CPIX id="movie" xmlns:c="urn:dashif:org:cpix"><c:ContentKeyList>` + keys + extra + `</c:ContentKeyList><c:DRMSystemList>` + systems + `</c:DRMSystemList></c:CPIX>`
	}
	for _, n := range []int{1, 15, 16, 17, 40} {
		r, err := speke.ParseRequest(header(""), []byte(build(n, "")), policy(t))
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Systems {
			if r.Systems[i].Key != n-1-i {
				t.Errorf("%d keys: system %d is for key %d", n, i, r.Systems[i].Key)
			}
		}
		if got := refusal(t, "", build(n, `<c:ContentKey kid="`+strings.ToUpper(kid(0))+`"/>`), policy(t)); got != "Malformed CPIX document" {
			t.Errorf("%d keys and one again: %q", n, got)
		}
		if got := refusal(t, "", strings.Replace(build(n, ""), `<c:ContentKey kid="`+kid(0), `<c:ContentKey kid="`+kid(99), 1), policy(t)); got != "Malformed CPIX document" {
			t.Errorf("%d keys without the one of a system: %q", n, got)
		}
	}
}

// TestRecipients holds S2-ERR-38: which DeliveryDataList can be served.
func TestRecipients(t *testing.T) {
	start, end := `<c:DeliveryDataList xmlns:ds="http://www.w3.org/2000/09/xmldsig#">`, `</c:DeliveryDataList><c:ContentKeyList>`
	recipient := func(certs ...string) string {
		var b strings.Builder
		for _, c := range certs {
			b.WriteString(`<ds:X509Certificate>` + c + `</ds:X509Certificate>`)
		}
		return `<c:DeliveryData><c:DeliveryKey><ds:X509Data>` + b.String() + `</ds:X509Data></c:DeliveryKey></c:DeliveryData>`
	}
	good, other := certificate(t), certificate(t)
	for name, c := range map[string]struct {
		list string
		want []*x509.Certificate
	}{
		"one":                         {recipient(good.text), []*x509.Certificate{good.cert}},
		"several":                     {recipient(good.text) + recipient(other.text), []*x509.Certificate{good.cert, other.cert}},
		"the same twice":              {recipient(good.text) + recipient(good.text), []*x509.Certificate{good.cert, good.cert}},
		"a chain":                     {recipient(good.text, other.text), []*x509.Certificate{good.cert}},
		"a chain with something else": {recipient(good.text, "AA=="), []*x509.Certificate{good.cert}},
		"none":                        {"", nil},
		"an empty one":                {"<c:DeliveryData/>", nil},
		"an empty key":                {"<c:DeliveryData><c:DeliveryKey/></c:DeliveryData>", nil},
		"an empty certificate":        {recipient(""), nil},
		"a bad one beside a good one": {recipient(good.text) + recipient("AA=="), nil},
		"an empty one beside a good":  {recipient(good.text) + "<c:DeliveryData/>", nil},
		"a key without certificate":   {`<c:DeliveryData><c:DeliveryKey><ds:KeyValue/></c:DeliveryKey></c:DeliveryData>`, nil},
	} {
		r, err := speke.ParseRequest(header("2.0"), []byte(edit(t, base, `<c:ContentKeyList>`, start+c.list+end)), policy(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !r.Encrypted() {
			t.Errorf("%s: clear keys would be answered (SX-CKE-15)", name)
		}
		certs, err := r.Recipients()
		if c.want != nil {
			if err != nil || !slices.EqualFunc(certs, c.want, (*x509.Certificate).Equal) {
				t.Errorf("%s: %d certificates, %v", name, len(certs), err)
			}
			if texts := r.RecipientTexts(nil); len(texts) != len(certs) {
				t.Errorf("%s: %d texts for %d recipients", name, len(texts), len(certs))
			}
			continue
		}
		if e, ok := errors.AsType[*speke.Error](err); !ok || e.Text != "Invalid DeliveryData certificate" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
