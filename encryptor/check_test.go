package encryptor

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func rules(list []Violation) []string {
	var out []string
	for _, v := range list {
		if !v.Advice && !slices.Contains(out, v.Rule) {
			out = append(out, v.Rule)
		}
	}
	return out
}

// wantRule fails unless the answer breaks the rule.
func wantRule(t *testing.T, r *Request, h http.Header, body string, rule string) {
	t.Helper()
	a, err := ReadAnswer(r, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Check(); !slices.Contains(rules(got), rule) {
		t.Errorf("got %v, want %s", got, rule)
	}
}

// override changes a key ID everywhere in an answer, inside boxes, headers
// and tags too.
func override(t *testing.T, body, from, to string) string {
	t.Helper()
	old, new := kids(from)[0], kids(to)[0]
	var change func(s string) string
	change = func(s string) string {
		out := strings.ReplaceAll(s, from, to)
		out = strings.ReplaceAll(out, string(old[:]), string(new[:]))
		for _, start := range []string{">", "base64,"} { // base64 inside
			parts := strings.Split(out, start)
			for i := 1; i < len(parts); i++ {
				n := strings.IndexAny(parts[i], `<"`)
				if n <= 0 {
					continue
				}
				if b, err := base64.StdEncoding.DecodeString(parts[i][:n]); err == nil {
					parts[i] = base64.StdEncoding.EncodeToString([]byte(change(string(b)))) + parts[i][n:]
				}
			}
			out = strings.Join(parts, start)
		}
		return out
	}
	return change(body)
}

// A mutation of a worked answer; the rule that it breaks is to be named.
type mutation struct {
	name, rule string
	change     func(body string) string
}

func replace(old, new string) func(string) string {
	return func(body string) string { return strings.Replace(body, old, new, 1) }
}

func replaceAll(old, new string) func(string) string {
	return func(body string) string { return strings.ReplaceAll(body, old, new) }
}

// element changes the decoded text of the n-th element of that name and
// attributes, counted from 1.
func element(n int, open string, change func(string) string) func(string) string {
	return func(body string) string {
		at := 0
		for range n {
			i := strings.Index(body[at:], "<"+open+">")
			if i < 0 {
				return body
			}
			at += i + len(open) + 2
		}
		end := at + strings.IndexByte(body[at:], '<')
		b, err := base64.StdEncoding.DecodeString(body[at:end])
		if err != nil {
			return body
		}
		return body[:at] + base64.StdEncoding.EncodeToString([]byte(change(string(b)))) + body[end:]
	}
}

// both changes the decoded texts of the media and the master tag of the n-th
// DRM system.
func bothTags(n int, change func(string) string) func(string) string {
	return func(body string) string {
		body = element(n, `cpix:HLSSignalingData playlist="media"`, change)(body)
		return element(n, `cpix:HLSSignalingData playlist="master"`, change)(body)
	}
}

// empty takes the text out of the n-th element of that name and attributes.
func empty(n int, open string) func(string) string {
	return element(n, open, func(string) string { return "" })
}

// without takes the n-th element of that name and attributes out.
func without(n int, open string) func(string) string {
	return func(body string) string {
		at := 0
		for range n {
			i := strings.Index(body[at:], "<"+open+">")
			if i < 0 {
				return body
			}
			at += i + 1
		}
		end := "</" + strings.Fields(open)[0] + ">"
		return body[:at-1] + body[at+strings.Index(body[at:], end)+len(end):]
	}
}

// swap exchanges two parts of a document.
func swap(first, second string) func(string) string {
	return func(body string) string {
		return strings.NewReplacer(first, second, second, first).Replace(body)
	}
}

func constant(s string) func(string) string { return func(string) string { return s } }

func flip(at int) func(string) string {
	return func(s string) string { b := []byte(s); b[at] ^= 1; return string(b) }
}

const (
	kid1 = "11f8a3d2-5b6c-4d7e-8f90-a1b2c3d4e5f6" // VIDEO of v2-dash
	kid2 = "22e9b4c3-6c7d-4e8f-9a01-b2c3d4e5f607" // AUDIO of v2-dash
)

var mutations = map[string][]mutation{
	"v2-dash": {
		// The document as a whole.
		{"contentId changed", "S2-ECHO-02", replace(`contentId="vod-asset-2001"`, `contentId="vod-asset-2002"`)},
		{"contentId gone", "S2-ECHO-02", replace(`contentId="vod-asset-2001" `, "")},
		{"version changed", "S2-ECHO-02", replace(`version="2.3"`, `version="2.4"`)},
		{"id added", "S2-PAY-03", replace(`contentId=`, `id="x" contentId=`)},
		{"unknown attribute added", "S2-ECHO-12", replace(`contentId=`, `name="x" contentId=`)},
		{"v1 namespace declared", "S2-PAY-06", replace(`contentId=`, `xmlns:speke="urn:aws:amazon:com:speke" contentId=`)},
		{"v1 element", "S2-PAY-06", replace(`<cpix:PSSH>`, `<speke:KeyFormat xmlns:speke="urn:aws:amazon:com:speke"/><cpix:PSSH>`)},
		{"URIExtXKey", "S2-PAY-06", replace(`<cpix:PSSH>`, `<cpix:URIExtXKey/><cpix:PSSH>`)},
		{"pskc without prefix", "S2-PAY-04", func(body string) string {
			body = strings.Replace(body, ` xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc"`, "", 1)
			return strings.NewReplacer("<pskc:Secret>", `<Secret xmlns="urn:ietf:params:xml:ns:keyprov:pskc">`, "pskc:", "").Replace(body)
		}},
		{"PlainValue without prefix", "S2-PAY-21", func(body string) string {
			return strings.NewReplacer("<pskc:Secret>", `<Secret xmlns="urn:ietf:params:xml:ns:keyprov:pskc">`, "pskc:", "").Replace(body)
		}},
		{"second list", "S2-PAY-07", replace("</cpix:ContentKeyList>", "</cpix:ContentKeyList><cpix:ContentKeyList/>")},
		{"list gone", "S2-PAY-07", without(1, "cpix:ContentKeyUsageRuleList")},
		{"lists in another order", "S2-ECHO-12", func(body string) string {
			at, end := strings.Index(body, "<cpix:ContentKeyUsageRuleList>"), strings.Index(body, "</cpix:CPIX>")
			rules := body[at:end]
			return strings.Replace(body[:at]+body[end:], "<cpix:ContentKeyList>", rules+"<cpix:ContentKeyList>", 1)
		}},
		{"unknown element added", "S2-ECHO-12", replace("</cpix:CPIX>", "<cpix:UpdateHistoryItemList/></cpix:CPIX>")},
		{"signature added", "SX-CKE-13", replace("</cpix:CPIX>", `<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#"/></cpix:CPIX>`)},

		// Content keys.
		{"byte-order mark added", "SX-HTTP-06", func(body string) string { return "\ufeff" + body }},
		{"scheme changed", "S2-ECHO-03", replaceAll(`commonEncryptionScheme="cenc"`, `commonEncryptionScheme="cbcs"`)},
		{"scheme gone", "S2-ECHO-03", replace(` commonEncryptionScheme="cenc"`, "")},
		{"unknown attribute of a key", "S2-ECHO-12", replace(` commonEncryptionScheme="cenc"`, ` commonEncryptionScheme="cenc" Algorithm="x"`)},
		{"a key gone (SUITE-C2)", "S2-ECHO-04", func(body string) string {
			at := strings.Index(body, `<cpix:ContentKey kid="`+kid2)
			end := strings.Index(body, "</cpix:ContentKeyList>")
			return body[:at] + body[end:]
		}},
		{"a key added (SUITE-C2)", "S2-ECHO-04", replace("</cpix:ContentKeyList>", `<cpix:ContentKey kid="33e9b4c3-6c7d-4e8f-9a01-b2c3d4e5f607" commonEncryptionScheme="cenc"/></cpix:ContentKeyList>`)},
		{"keys in another order", "S2-ECHO-04", swap(`<cpix:ContentKey kid="`+kid1, `<cpix:ContentKey kid="`+kid2)},
		{"no value", "S2-PAY-15", replace("dk0KH5KGa8sn4NECd5hHJw==", "")},
		{"no Data", "S2-PAY-14", without(1, "cpix:Data")},
		{"two Data", "S2-PAY-14", replace("<cpix:Data>", "<cpix:Data/><cpix:Data>")},
		{"value of 15 bytes", "S2-PAY-19", replace("dk0KH5KGa8sn4NECd5hHJw==", "dk0KH5KGa8sn4NECd5hH")},
		{"value of 32 bytes (D-27)", "S2-PAY-19", replace("dk0KH5KGa8sn4NECd5hHJw==", "dk0KH5KGa8sn4NECd5hHJ3ZNCh+ShmvLJ+DRAneYRyc=")},
		{"value that is not base64", "S2-PAY-19", replace("dk0KH5KGa8sn4NECd5hHJw==", "dk0KH5KGa8sn4NECd5hHJ*==")},
		{"encrypted value", "SX-CKE-01", replace("<pskc:PlainValue>dk0KH5KGa8sn4NECd5hHJw==</pskc:PlainValue>", `<pskc:EncryptedValue xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:CipherData><e:CipherValue>AAAA</e:CipherValue></e:CipherData></pskc:EncryptedValue>`)},
		{"plain and encrypted value", "S2-PAY-15", replace("</pskc:PlainValue>", `</pskc:PlainValue><pskc:EncryptedValue xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:CipherData><e:CipherValue>AAAA</e:CipherValue></e:CipherData></pskc:EncryptedValue>`)},
		{"equal values", "S2-PAY-20", replace("ThDtqGee+6GArEeUb+Ezxw==", "dk0KH5KGa8sn4NECd5hHJw==")},
		{"HDCPData", "S21-PAY-75", replace("<cpix:Data>", "<cpix:HDCPData/><cpix:Data>")},
		{"explicitIV of 8 bytes", "S2-PAY-13", replace(` commonEncryptionScheme="cenc"`, ` commonEncryptionScheme="cenc" explicitIV="ABEiM0RVZnc="`)},

		// Key IDs.
		{"key ID changed in the key alone", "SX-KID-02", replace(`<cpix:ContentKey kid="`+kid1, `<cpix:ContentKey kid="33333333-3333-4333-8333-333333333333`)},
		{"key ID changed in the rule alone", "SX-KID-02", replace(`<cpix:ContentKeyUsageRule kid="`+kid1, `<cpix:ContentKeyUsageRule kid="`+kid2)},
		{"key ID changed in a DRM system alone", "SX-KID-02", replace(`<cpix:DRMSystem kid="`+kid1, `<cpix:DRMSystem kid="33333333-3333-4333-8333-333333333333`)},
		{"key ID changed but not in the signaling", "SX-KID-03", replaceAll(kid1, "33333333-3333-4333-8333-333333333333")},
		{"two keys with one key ID", "SX-KID-05", replaceAll(kid1, kid2)},
		{"key ID that is none", "S2-PAY-11", replaceAll(kid1, "key-1")},

		// DRM systems.
		{"a DRM system gone (SUITE-C3)", "S2-ECHO-04", without(1, `cpix:DRMSystem kid="`+kid2+`" systemId="9a04f079-9840-4286-ab92-e65be0885f95"`)},
		{"DRM systems in another order", "S2-ECHO-04", swap(`<cpix:DRMSystem kid="`+kid1+`" systemId="edef`, `<cpix:DRMSystem kid="`+kid2+`" systemId="edef`)},
		{"systemId changed", "S2-ECHO-05", replace(`systemId="edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"`, `systemId="80a6be7e-1448-4c37-9e70-d5aebe04c8d2"`)},
		{"unknown attribute of a DRM system", "S2-ECHO-12", replace(`systemId="edef`, `name="Widevine" systemId="edef`)},
		{"HLSAllowedCPC", "S21-PAY-75", replace(`systemId="edef`, `HLSAllowedCPC="x" systemId="edef`)},
		{"robustness", "S21-PAY-75", replace("<cpix:ContentProtectionData>", `<cpix:ContentProtectionData robustness="x">`)},
		{"element that was not asked for", "S2-PAY-42", replace("<cpix:ContentProtectionData>", `<cpix:SmoothStreamingProtectionHeaderData>AA==</cpix:SmoothStreamingProtectionHeaderData><cpix:ContentProtectionData>`)},
		{"an element twice (SUITE-C4)", "S2-PAY-42", replace("<cpix:ContentProtectionData>", `<cpix:PSSH>AA==</cpix:PSSH><cpix:ContentProtectionData>`)},
		{"elements in another order", "S2-ECHO-12", func(body string) string {
			at, end := strings.Index(body, "<cpix:PSSH>"), strings.Index(body, "</cpix:PSSH>")+len("</cpix:PSSH>")
			pssh := body[at:end]
			return strings.Replace(body[:at]+body[end:], "</cpix:ContentProtectionData>", "</cpix:ContentProtectionData>"+pssh, 1)
		}},

		// Signaling.
		{"PSSH empty", "S2-ERR-20", empty(1, "cpix:PSSH")},
		{"PSSH gone", "S2-ERR-20", without(1, "cpix:PSSH")},
		{"ContentProtectionData empty", "S2-ERR-20", empty(2, "cpix:ContentProtectionData")},
		{"PSSH that is not base64", "S2-ERR-20", replace("<cpix:PSSH>AAAA", "<cpix:PSSH>*AAA")},
		{"PSSH of another system", "D-102", element(1, "cpix:PSSH", flip(12))},
		{"PSSH with a wrong size", "D-102", element(1, "cpix:PSSH", flip(3))},
		{"PSSH with a wrong data size", "D-102", element(1, "cpix:PSSH", flip(31))},
		{"PSSH of version 2", "D-102", element(1, "cpix:PSSH", func(s string) string { return s[:8] + "\x02" + s[9:] })},
		{"PSSH twice in one value", "D-102", element(1, "cpix:PSSH", func(s string) string { return s + s })},
		{"PSSH without size and type (D-104)", "D-102", element(1, "cpix:PSSH", func(s string) string { return s[8:] })},
		{"PSSH in base64 twice", "D-102", element(1, "cpix:PSSH", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
		{"Widevine data for another key ID", "SX-KID-03", element(1, "cpix:PSSH", flip(40))},
		{"Widevine data for another scheme (D-117)", "S2-WV-02", element(1, "cpix:PSSH", replace("\x48\xe3\xdc\x95\x9b\x06", "\x48\xf3\xc6\x89\x9b\x06"))},
		{"Widevine data cut", "S2-WV-01", element(1, "cpix:PSSH", func(s string) string {
			b := []byte(s[:len(s)-1])
			binary.BigEndian.PutUint32(b, uint32(len(b)))
			binary.BigEndian.PutUint32(b[28:], uint32(len(b)-32))
			return string(b)
		})},
		{"PSSH other than in ContentProtectionData", "S2-ERR-21", element(1, "cpix:PSSH", replace("vod-asset", "VOD-asset"))},
		{"ContentProtectionData other than PSSH", "S2-ERR-21", element(3, "cpix:ContentProtectionData", replace("AAACinBzc2g", "AAACinBzc2h"))},
		{"ContentProtectionData malformed", "CPIX-DRM-02", element(1, "cpix:ContentProtectionData", replace("</cenc:pssh>", ""))},
		{"ContentProtectionData with a byte-order mark", "CPIX-DRM-02", element(1, "cpix:ContentProtectionData", func(s string) string { return "\ufeff" + s })},
		{"ContentProtectionData with an XML declaration", "CPIX-DRM-02", element(1, "cpix:ContentProtectionData", func(s string) string { return `<?xml version="1.0"?>` + s })},
		{"ContentProtectionData with a prefix bound outside", "CPIX-DRM-02", element(1, "cpix:ContentProtectionData", replace(` xmlns:cenc="urn:mpeg:cenc:2013"`, ""))},
		{"ContentProtectionData without element", "CPIX-DRM-02", element(1, "cpix:ContentProtectionData", constant("text"))},
		{"Widevine ContentProtectionData with two elements", "S2-WV-03", element(1, "cpix:ContentProtectionData", func(s string) string { return s + "<x/>" })},
		{"Widevine ContentProtectionData without pssh", "S2-WV-03", element(1, "cpix:ContentProtectionData", replaceAll("cenc:2013", "cenc:2012"))},
		{"PlayReady ContentProtectionData without pssh", "S2-PR-08", element(3, "cpix:ContentProtectionData", replaceAll("cenc:2013", "cenc:2012"))},
		{"PlayReady ContentProtectionData without pro", "S2-PR-08", element(3, "cpix:ContentProtectionData", func(s string) string { return s[:strings.Index(s, "<mspr")] })},
		{"PlayReady ContentProtectionData with another object", "D-240", element(3, "cpix:ContentProtectionData", replace("playready\">agIAAA", "playready\">agIAAB"))},
		{"PlayReady object as the guide prints it (D-06)", "S2-PR-01", element(3, "cpix:PSSH", func(s string) string { return s[:32] + "\x01\x00\x00\x00\x60\x02\x00\x00\x00\x00" + s[42:] })},
		{"PlayReady header for another key ID", "SX-KID-03", element(3, "cpix:PSSH", replace("0\x00q\x00P\x00", "1\x00q\x00P\x00"))},
		{"PlayReady key ID in the wrong byte order", "SX-KID-03", element(3, "cpix:PSSH", func(s string) string {
			return strings.Replace(s, utf16le("0qP4EWxbfk2PkKGyw9Tl9g=="), utf16le("EfijkltsTX6PkKGyw9Tl9g=="), 1)
		})},
		{"PlayReady header in UTF-8", "S2-PR-01", element(3, "cpix:PSSH", func(s string) string {
			b := []byte(s[:42] + strings.ReplaceAll(s[42:], "\x00", ""))
			binary.BigEndian.PutUint32(b, uint32(len(b)))
			binary.BigEndian.PutUint32(b[28:], uint32(len(b)-32))
			binary.LittleEndian.PutUint32(b[32:], uint32(len(b)-32))
			binary.LittleEndian.PutUint16(b[40:], uint16(len(b)-42))
			return string(b)
		})},
		{"PlayReady header for cbcs", "S2-PR-05", element(3, "cpix:PSSH", func(s string) string { return strings.Replace(s, utf16le("AESCTR"), utf16le("AESCBC"), 1) })},

		// The contract.
		{"contract label changed", "S2-ERR-22", replace(`intendedTrackType="VIDEO"`, `intendedTrackType="HD"`)},
		{"contract label gone", "S2-ERR-22", replace(` intendedTrackType="VIDEO"`, "")},
		{"contract filter changed", "S2-ERR-22", replace("<cpix:AudioFilter/>", `<cpix:AudioFilter maxChannels="2"/>`)},
		{"contract filter replaced", "S2-ERR-22", replace("<cpix:AudioFilter/>", `<cpix:VideoFilter/>`)},
		{"contract filter gone", "S2-ERR-22", replace("<cpix:AudioFilter/>", "")},
		{"contract filter added", "S2-ERR-22", replace("<cpix:AudioFilter/>", "<cpix:AudioFilter/><cpix:VideoFilter/>")},
		{"contract rule gone (SUITE-C6)", "S2-ERR-22", without(1, `cpix:ContentKeyUsageRule kid="`+kid2+`" intendedTrackType="AUDIO"`)},
	},
	"v2-rotation": {
		{"period index changed", "S2-ECHO-07", replace(`index="6"`, `index="7"`)},
		{"period ID changed", "S2-ECHO-07", replace(`ContentKeyPeriod id="829db5c3`, `ContentKeyPeriod id="929db5c3`)},
		{"period filter changed", "S2-ECHO-07", replace(`periodId="829db5c3`, `periodId="929db5c3`)},
		{"period filter gone", "S2-ERR-22", replace(`<cpix:KeyPeriodFilter periodId="829db5c3-8398-350b-96ed-155727bafab1"/>`, "")},
		{"periods gone", "S2-PAY-07", without(1, "cpix:ContentKeyPeriodList")},
		{"period added", "S2-ECHO-07", replace("</cpix:ContentKeyPeriodList>", `<cpix:ContentKeyPeriod id="x"/></cpix:ContentKeyPeriodList>`)},
		{"media tag empty", "S2-ERR-20", empty(1, `cpix:HLSSignalingData playlist="media"`)},
		{"master tag gone", "S2-ERR-20", without(1, `cpix:HLSSignalingData playlist="master"`)},
		{"playlist renamed", "S2-ERR-20", replace(`playlist="master"`, `playlist="x"`)},
		{"pskc not declared", "S2-PAY-04", func(body string) string {
			body = strings.Replace(body, ` xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc"`, "", 1)
			return strings.Replace(body, "<pskc:Secret>", `<pskc:Secret xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc">`, 1)
		}},
		{"session tag in the media playlist", "S2-HLS-02", element(1, `cpix:HLSSignalingData playlist="media"`, replace("#EXT-X-KEY", "#EXT-X-SESSION-KEY"))},
		{"key tag in the master playlist", "S2-HLS-02", element(1, `cpix:HLSSignalingData playlist="master"`, replace("#EXT-X-SESSION-KEY", "#EXT-X-KEY"))},
		{"attributes differ", "S2-HLS-03", element(1, `cpix:HLSSignalingData playlist="master"`, replace(`KEYFORMATVERSIONS="1"`, `KEYFORMATVERSIONS="2"`))},
		{"attribute in one tag only", "S2-HLS-03", element(1, `cpix:HLSSignalingData playlist="master"`, func(s string) string { return s + ",KEYID=0x6052faa856da39adab710b98f396954d" })},
		{"tag with a line break", "S2-HLS-01", bothTags(1, func(s string) string { return s + "\n" })},
		{"tag with two lines (S2-HLS-05)", "S2-HLS-01", bothTags(1, func(s string) string { return s + "\n" + s })},
		{"tag with a byte-order mark", "S2-HLS-01", bothTags(1, func(s string) string { return "\ufeff" + s })},
		{"tag without its name", "S2-HLS-01", bothTags(1, replace("#EXT-X-", ""))},
		{"tag with an open quote", "S2-HLS-01", bothTags(1, func(s string) string { return s[:len(s)-1] })},
		{"METHOD not first", "S2-HLS-06", bothTags(1, func(s string) string {
			return strings.Replace(s, "METHOD=SAMPLE-AES-CTR,", "", 1) + ",METHOD=SAMPLE-AES-CTR"
		})},
		{"METHOD NONE", "S2-HLS-07", bothTags(1, replace("METHOD=SAMPLE-AES-CTR", "METHOD=NONE"))},
		{"METHOD of another scheme", "S2-HLS-09", bothTags(1, replace("METHOD=SAMPLE-AES-CTR", "METHOD=AES-128"))},
		{"SCHEME attribute", "S2-HLS-04", bothTags(1, func(s string) string { return s + `,SCHEME="cenc"` })},
		{"KEYID of another key", "SX-KID-03", bothTags(1, func(s string) string { return s + ",KEYID=0x" + hex.EncodeToString(make([]byte, 16)) })},
		{"Widevine KEYFORMAT", "S2-WV-04", bothTags(1, replace("urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", "com.widevine"))},
		{"Widevine without KEYFORMATVERSIONS", "S2-WV-04", bothTags(1, replace(`,KEYFORMATVERSIONS="1"`, ""))},
		{"Widevine URI of a licence server", "S2-WV-04", bothTags(1, func(s string) string {
			at := strings.Index(s, `URI="`) + 5
			return s[:at] + "https://lic.example.com/widevine" + s[at+strings.IndexByte(s[at:], '"'):]
		})},
		{"Widevine URI with another box", "S2-WV-04", bothTags(1, replace("base64,AAAAQ3Bz", "base64,BAAAQ3Bz"))},
	},
	"v2-cmaf": {
		{"explicitIV changed", "S2-ECHO-09", replace(`explicitIV="dJ5l+Gn20AOodk5erTvEmg=="`, `explicitIV="eJ5l+Gn20AOodk5erTvEmg=="`)},
		{"explicitIV gone", "S2-ECHO-09", replace(` explicitIV="dJ5l+Gn20AOodk5erTvEmg=="`, "")},
		{"FairPlay with ContentProtectionData (SUITE-C5)", "S2-FP-01", replace(`<cpix:HLSSignalingData`, `<cpix:ContentProtectionData>PHgvPg==</cpix:ContentProtectionData><cpix:HLSSignalingData`)},
		{"FairPlay with another URI in master (SUITE-D4)", "S2-FP-07", element(1, `cpix:HLSSignalingData playlist="master"`, replace("skd://", "skd://x"))},
		{"FairPlay with an IV attribute", "S2-FP-05", bothTags(1, func(s string) string { return s + ",IV=0x00112233445566778899aabbccddeeff" })},
		{"FairPlay with an https URI", "S2-FP-02", bothTags(1, replace("skd://", "https://"))},
		{"FairPlay KEYFORMAT", "S2-FP-02", bothTags(1, replace("com.apple.streamingkeydelivery", "identity"))},
		{"FairPlay URI with another key ID", "SX-KID-03", bothTags(1, fairPlayURI("6c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b"))},
		{"FairPlay URI with another IV", "S2-FP-06", bothTags(1, fairPlayURI("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b:00112233445566778899aabbccddeeff"))},
		{"FairPlay JSON with another key ID", "SX-KID-03", bothTags(1, fairPlayURI(base64.StdEncoding.EncodeToString([]byte(`{"ContentId":"x","KeyId":"6c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b","IV":"dJ5l+Gn20AOodk5erTvEmg=="}`))))},
		{"FairPlay JSON with another IV", "S2-FP-06", bothTags(1, fairPlayURI(base64.StdEncoding.EncodeToString([]byte(`{"ContentId":"x","KeyId":"5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b","IV":"eJ5l+Gn20AOodk5erTvEmg=="}`))))},
		{"METHOD for cenc under cbcs", "S2-HLS-09", bothTags(2, replace("METHOD=SAMPLE-AES,", "METHOD=SAMPLE-AES-CTR,"))},
		{"PlayReady KEYFORMAT", "S2-PR-09", bothTags(3, replace("com.microsoft.playready", "urn:uuid:9a04f079-9840-4286-ab92-e65be0885f95"))},
		{"PlayReady URI without charset", "S2-PR-09", bothTags(3, replace("charset=UTF-16;", ""))},
		{"PlayReady URI with the box", "S2-PR-09", bothTags(3, replace("base64,IgIA", "base64,AAAAIgIA"))},
		{"PlayReady header for cenc", "S2-PR-06", element(2, "cpix:PSSH", func(s string) string { return strings.Replace(s, utf16le("AESCBC"), utf16le("AESCTR"), 1) })},
		{"PlayReady header of version 4.0 under cbcs", "S2-PR-06", element(2, "cpix:PSSH", func(s string) string { return strings.Replace(s, utf16le("4.3.0.0"), utf16le("4.0.0.0"), 1) })},
	},
	"v2-aes128": {
		{"AES-128 KEYFORMAT", "S2-CK-01", bothTags(1, replace("identity", "com.apple.streamingkeydelivery"))},
		{"AES-128 URI", "S2-CK-01", bothTags(1, replace("https://", "skd://"))},
		{"AES-128 METHOD", "S2-HLS-09", bothTags(1, replace("METHOD=AES-128", "METHOD=SAMPLE-AES"))},
		{"AES-128 with PSSH", "S2-PAY-41", replace(`<cpix:HLSSignalingData`, `<cpix:PSSH>AA==</cpix:PSSH><cpix:HLSSignalingData`)},
	},
	"v21-periods": {
		{"start in another form", "S2-ECHO-07", replace("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000Z")},
		{"end gone", "S2-ECHO-07", replace(` end="2026-01-01T00:05:00Z"`, "")},
		{"version of 2.0", "S2-ECHO-02", replace(`version="2.4"`, `version="2.3"`)},
	},
	"v1-rotation": {
		{"id changed", "S1-ECHO-11", replace(`id="live-channel-7"`, `id="live-channel-8"`)},
		{"index changed", "S1-ECHO-11", replace(`index="11425"`, `index="11426"`)},
		{"period filter changed", "S1-ECHO-11", replace(`periodId="keyPeriod_5`, `periodId="keyPeriod_6`)},
		{"rules gone", "S1-ECHO-11", without(1, "cpix:ContentKeyUsageRuleList")},
		{"system changed", "S1-ECHO-11", replace(`systemId="edef`, `systemId="fdef`)},
		{"a system gone", "S1-ECHO-11", without(1, `cpix:DRMSystem kid="2a7d4f10-93b5-4c1e-8d62-5e0f1a2b3c4d" systemId="9a04f079-9840-4286-ab92-e65be0885f95"`)},
		{"no content key", "S2-PAY-15", replace("A35b4IfXHheH9RnAPy5mzQ==", "")},
		{"two Secret", "S1-PAY-01", replace("<pskc:Secret>", "<pskc:Secret/><pskc:Secret>")},
		{"Widevine PSSH gone", "S1-PAY-08", without(1, "cpix:PSSH")},
		{"PlayReady header empty", "S1-PAY-08", empty(1, "speke:ProtectionHeader")},
		{"PlayReady header in base64 twice", "S2-PR-10", element(1, "speke:ProtectionHeader", func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) })},
		{"PSSH other than in ContentProtectionData", "S2-ERR-21", element(1, "cpix:PSSH", replace("live", "LIVE"))},
		{"key ID in the key alone", "SX-KID-02", replace(`<cpix:ContentKey kid="2a`, `<cpix:ContentKey kid="3a`)},
		{"explicitIV of 15 bytes", "S1-PAY-06", replace(`<cpix:ContentKey kid`, `<cpix:ContentKey explicitIV="AAAA" kid`)},
	},
	"v1-fairplay": {
		{"URI gone", "S1-PAY-08", without(1, "cpix:URIExtXKey")},
		{"URI of nothing", "S1-FP-08", element(1, "cpix:URIExtXKey", constant("key"))},
		{"URI of another key", "SX-KID-03", element(1, "cpix:URIExtXKey", constant("skd://e3f5a7b9-2c4e-4680-9a1b-c2d3e4f50617"))},
		{"key format", "S1-FP-08", element(1, "speke:KeyFormat", constant("identity"))},
		{"key format that is not base64", "S1-PAY-08", replace("<speke:KeyFormat>Y29t", "<speke:KeyFormat>*29t")},
		{"explicitIV changed", "S2-ECHO-09", replace(`explicitIV="o+8Zrpz/OoowCOvAt/oUzQ=="`, `explicitIV="p+8Zrpz/OoowCOvAt/oUzQ=="`)},
		{"element that was not asked for", "S1-PAY-10", replace("<cpix:URIExtXKey>", "<cpix:PSSH>AA==</cpix:PSSH><cpix:URIExtXKey>")},
	},
}

func utf16le(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		out.WriteString(string([]byte{c, 0}))
	}
	return out.String()
}

// fairPlayURI puts another body behind skd://.
func fairPlayURI(body string) func(string) string {
	return func(s string) string {
		at := strings.Index(s, "skd://") + len("skd://")
		return s[:at] + body + s[at+strings.IndexByte(s[at:], '"'):]
	}
}

func TestCheckNamesTheRule(t *testing.T) {
	for name, list := range mutations {
		for _, m := range list {
			t.Run(name+"/"+m.name, func(t *testing.T) {
				r, h, body := worked(t, name)
				wantRule(t, r, h, changed(t, body, m.change), m.rule)
			})
		}
	}
}

func TestCheckHeaders(t *testing.T) {
	for _, test := range []struct {
		name, answer, header, value, rule string
		advice                            bool
	}{
		{"text", "v2-dash", "Content-Type", "text/plain", "SX-HTTP-05", false},
		{"text/xml", "v2-dash", "Content-Type", "text/xml", "SX-HTTP-05", false},
		{"no content type", "v1-dash", "Content-Type", "", "SX-HTTP-05", false},
		{"charset", "v2-dash", "Content-Type", "application/xml; charset=iso-8859-1", "SX-HTTP-05", false},
		{"UTF-8", "v2-dash", "Content-Type", `application/xml; charset="UTF-8"`, "", false},
		{"no user agent", "v2-dash", "X-Speke-User-Agent", "", "S2-HTTP-11", false},
		{"no version", "v2-dash", "X-Speke-Version", "", "S2-HTTP-12", false},
		{"another version", "v21-periods", "X-Speke-Version", "2.0", "S2-HTTP-12", false},
		{"no v1 user agent", "v1-dash", "Speke-User-Agent", "", "S1-HTTP-10", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, h, body := worked(t, test.answer)
			h.Set(test.header, test.value)
			a, err := ReadAnswer(r, h, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			got := a.Check()
			if test.rule == "" {
				if len(got) != 0 {
					t.Errorf("got %v", got)
				}
				return
			}
			if len(got) != 1 || got[0].Rule != test.rule || got[0].Advice != test.advice {
				t.Errorf("got %v, want %s", got, test.rule)
			}
		})
	}
}
