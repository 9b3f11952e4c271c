package encryptor

import (
	"slices"
	"strings"
	"testing"

	"spekeasy/drm"
)

// What a key provider may do, and what is of no matter, is no violation.
func TestCheckAllows(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		change       func(string) string
	}{
		{"other prefixes", "v2-dash", func(s string) string {
			return strings.NewReplacer("cpix:", "c:", "xmlns:cpix", "xmlns:c", "pskc:", "p:", "xmlns:pskc", "xmlns:p").Replace(s)
		}},
		{"the default namespace for CPIX", "v2-dash", func(s string) string {
			return strings.NewReplacer("<cpix:", "<", "</cpix:", "</", "xmlns:cpix", "xmlns").Replace(s)
		}},
		{"another layout and comments", "v2-dash", replaceAll("\n", "\n\t<!-- here -->\n")},
		{"attributes in another order", "v2-dash", replace(`contentId="vod-asset-2001" version="2.3"`, `version="2.3" contentId="vod-asset-2001"`)},
		{"base64 with line breaks", "v2-dash", replace("dk0KH5KGa8sn4NECd5hHJw==", "\n dk0KH5KGa8sn\n4NECd5hHJw==\n")},
		{"key IDs in upper case", "v2-rotation", replaceAll(`kid="6052faa8`, `kid="6052FAA8`)},
		{"AWS's METHOD for cenc (D-07)", "v2-rotation", bothTags(1, replace("SAMPLE-AES-CTR", "SAMPLE-AES"))},
		{"KEYID", "v2-rotation", bothTags(1, func(s string) string { return s + ",KEYID=0x6052FAA856DA39ADAB710B98F396954D" })},
		{"another FairPlay URI", "v2-cmaf", bothTags(1, fairPlayURI("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b:749e65f869f6d003a8764e5ead3bc49a"))},
		{"a FairPlay URI of the customer", "v2-cmaf", bothTags(1, fairPlayURI("fps.example.com/;any?thing"))},
		{"PlayReady with all key IDs in master (D-261)", "v2-cmaf", element(3, `cpix:HLSSignalingData playlist="master"`, changeURI(replace(utf16le("/playready<"), utf16le("/PLAYREADY<"))))},
		{"a v1 element left empty (S1-PAY-11)", "v1-rotation", replace("</cpix:ContentProtectionData>", "</cpix:ContentProtectionData><speke:KeyFormat/>")},
		{"an IV that was not asked for in v1 (S1-PAY-06)", "v1-rotation", replace("<cpix:ContentKey kid", `<cpix:ContentKey explicitIV="ABEiM0RVZneImaq7zN3u/w==" kid`)},
		{"an https URI for FairPlay in v1", "v1-fairplay", element(1, "cpix:URIExtXKey", constant("https://keys.example.com/1"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, h, body := worked(t, test.answer)
			a, err := ReadAnswer(r, h, []byte(changed(t, body, test.change)))
			if err != nil {
				t.Fatal(err)
			}
			if got := a.Check(); len(got) != 0 {
				t.Errorf("got %v", got)
			}
		})
	}
}

// Placeholders that no value exists for are removed, not left empty
// (S2-PAY-41), and IVs come with FairPlay (S2-FP-06, S1-PAY-07).
func TestCheckOfOddRequests(t *testing.T) {
	change := func(t *testing.T, name string, request, answer func(string) string) []Violation {
		t.Helper()
		r, h, body := worked(t, name)
		asked, err := ReadRequest(r.Header, []byte(changed(t, string(r.Body), request)))
		if err != nil {
			t.Fatal(err)
		}
		a, err := ReadAnswer(asked, h, []byte(changed(t, body, answer)))
		if err != nil {
			t.Fatal(err)
		}
		return a.Check()
	}
	emptyPSSH := replace("<cpix:HLSSignalingData", "<cpix:PSSH/><cpix:HLSSignalingData")
	noIV := func(s string) string { return strings.Replace(s, ` explicitIV="dJ5l+Gn20AOodk5erTvEmg=="`, "", 1) }
	noIV1 := func(s string) string { return strings.Replace(s, ` explicitIV="o+8Zrpz/OoowCOvAt/oUzQ=="`, "", 1) }
	addIV := replace("<cpix:ContentKey ", `<cpix:ContentKey explicitIV="ABEiM0RVZneImaq7zN3u/w==" `)
	for _, test := range []struct {
		name, answer   string
		request, reply func(string) string
		rule           string
		advice         bool
	}{
		{"FairPlay PSSH removed", "v2-cmaf", emptyPSSH, nil, "", false},
		{"FairPlay PSSH left empty", "v2-cmaf", emptyPSSH, emptyPSSH, "S2-PAY-41", false},
		{"FairPlay IV made", "v2-cmaf", noIV, nil, "", false},
		{"FairPlay IV set where it was empty", "v2-cmaf", replace(`"dJ5l+Gn20AOodk5erTvEmg=="`, `""`), nil, "", false},
		{"FairPlay without IV", "v2-cmaf", noIV, noIV, "S2-FP-06", false},
		{"FairPlay without IV in v1", "v1-fairplay", noIV1, noIV1, "S1-PAY-07", true},
		{"IV for cenc (D-30)", "v2-rotation", nil, addIV, "S2-PAY-13", true},
		{"v1 leftovers dropped", "v2-rotation", replace("<cpix:PSSH/>", "<cpix:URIExtXKey/><cpix:PSSH/>"), nil, "", false},
		{"v1 leftovers dropped everywhere", "v2-rotation", func(s string) string {
			s = strings.Replace(s, "<cpix:CPIX ", `<cpix:CPIX xmlns:speke="urn:aws:amazon:com:speke" speke:a="1" `, 1)
			return strings.Replace(strings.Replace(s, "<cpix:VideoFilter/>", "<speke:X/><cpix:VideoFilter/>", 1), "</cpix:CPIX>", "<speke:Y/></cpix:CPIX>", 1)
		}, nil, "", false},
		{"v1 leftovers kept", "v2-rotation", replace("<cpix:PSSH/>", "<cpix:URIExtXKey/><cpix:PSSH/>"), replace("<cpix:PSSH>", "<cpix:URIExtXKey/><cpix:PSSH>"), "S2-PAY-06", false},
		{"entry in a list of others", "v2-rotation", nil, replace("<cpix:DRMSystemList>", `<cpix:DRMSystemList><cpix:ContentKey kid="x"/>`), "S2-ECHO-12", false},
		{"CPIX@id dropped", "v2-rotation", replace("contentId=", `id="x" contentId=`), nil, "", false},
		{"signature dropped", "v2-rotation", replace("</cpix:CPIX>", `<d:Signature xmlns:d="http://www.w3.org/2000/09/xmldsig#"/></cpix:CPIX>`), nil, "", false},
		{"unknown element dropped", "v2-rotation", replace("</cpix:CPIX>", `<x:Note xmlns:x="urn:x">a</x:Note></cpix:CPIX>`), nil, "S2-ECHO-12", false},
		{"unknown element changed", "v2-rotation", replace("</cpix:CPIX>", `<x:Note xmlns:x="urn:x">a</x:Note></cpix:CPIX>`), replace("</cpix:CPIX>", `<x:Note xmlns:x="urn:x">b</x:Note></cpix:CPIX>`), "S2-ECHO-12", false},
		{"multiVariant", "v2-rotation", replaceAll("master", "multiVariant"), replaceAll(`playlist="master"`, `playlist="multiVariant"`), "", false},
		{"Data element that came empty", "v2-rotation", replace(`kid="6052faa8-56da-39ad-ab71-0b98f396954d"/>`, `kid="6052faa8-56da-39ad-ab71-0b98f396954d"><cpix:Data/></cpix:ContentKey>`), nil, "", false},
		{"foreign elements in lists", "v2-rotation", foreign, foreign, "", false},
		{"foreign elements in lists changed", "v2-rotation", foreign, func(s string) string { return strings.Replace(foreign(s), "</x:N>", "!</x:N>", 1) }, "S2-ECHO-12", false},
		{"foreign element in a key changed", "v2-rotation", foreign, func(s string) string { return strings.Replace(foreign(s), "<x:K ", `<x:K a="1" `, 1) }, "S2-ECHO-12", false},
		{"foreign element in a DRM system changed", "v2-rotation", foreign, func(s string) string { return strings.Replace(foreign(s), "<x:S ", `<x:S x:a="1" `, 1) }, "S2-ECHO-12", false},
		{"no playlist is the media playlist", "v2-rotation",
			func(s string) string {
				return onlyMedia(strings.Replace(s, "/>\n      <cpix:HLSSignalingData playlist=\"master\"/>", "/>", 1))
			},
			func(s string) string { return onlyMedia(without(1, `cpix:HLSSignalingData playlist="master"`)(s)) }, "", false},
		{"Widevine protection without PSSH", "v2-rotation", replace("<cpix:PSSH/>", ""), without(1, "cpix:PSSH"), "", false},
		{"Widevine protection without PSSH for another key ID", "v2-rotation", replace("<cpix:PSSH/>", ""), func(s string) string {
			return element(1, "cpix:ContentProtectionData", replace("SEGBS+qhW2jmtq3ELmPOWlU0iC", "SEGBS+qhW2jmtq3ELmPOWlU4iC"))(without(1, "cpix:PSSH")(s))
		}, "SX-KID-03", false},
		{"protection without PSSH that is not base64", "v2-rotation", replace("<cpix:PSSH/>", ""), func(s string) string {
			return element(1, "cpix:ContentProtectionData", replace("AAAAQ3", "*AAAQ3"))(without(1, "cpix:PSSH")(s))
		}, "D-102", false},
		{"Widevine tags alone", "v2-rotation", replace("<cpix:PSSH/>\n      <cpix:ContentProtectionData/>", ""), func(s string) string {
			return without(1, "cpix:ContentProtectionData")(without(1, "cpix:PSSH")(s))
		}, "", false},
		{"Widevine tags alone without box", "v2-rotation", replace("<cpix:PSSH/>\n      <cpix:ContentProtectionData/>", ""), func(s string) string {
			return bothTags(1, changeURI(constant("box")))(without(1, "cpix:ContentProtectionData")(without(1, "cpix:PSSH")(s)))
		}, "D-102", false},
		{"PlayReady protection without PSSH", "v2-cmaf", func(s string) string { return withoutLast(s, "<cpix:PSSH/>") }, without(2, "cpix:PSSH"), "", false},
		{"PlayReady pro that is no object", "v2-cmaf", func(s string) string { return withoutLast(s, "<cpix:PSSH/>") }, func(s string) string {
			return element(2, "cpix:ContentProtectionData", replace(">IgIA", ">IgIB"))(without(2, "cpix:PSSH")(s))
		}, "S2-PR-08", false},
		{"PlayReady pro that is not base64", "v2-cmaf", nil, element(2, "cpix:ContentProtectionData", replace(">IgIA", ">*gIA")), "S2-PR-08", false},
		{"common PSSH", "v2-rotation", commonOnly, commonBox("\x01", "\x00\x00\x00\x01"+string(rotationKID[:])), "", false},
		{"common PSSH for another key ID", "v2-rotation", commonOnly, commonBox("\x01", "\x00\x00\x00\x010123456789abcdef"), "SX-KID-03", false},
		{"common PSSH without key IDs", "v2-rotation", commonOnly, commonBox("\x00", ""), "D-410", false},
		{"common PSSH with too many key IDs", "v2-rotation", commonOnly, commonBox("\x01", "\xff\xff\xff\xff"), "D-102", false},
		{"HLS name of cbcs in 2.1", "v2-cmaf", hlsName("SAMPLE-AES"), hlsName("SAMPLE-AES"), "", false},
		{"HLS name of cenc in 2.1", "v2-rotation", hlsName("SAMPLE-AES-CTR"), hlsName("SAMPLE-AES-CTR"), "", false},
		{"HLS name of cbc1 in 2.1", "v2-aes128", hlsName("AES-128"), hlsName("AES-128"), "", false},
		{"SAMPLE-AES keys", "v2-aes128", sampleAES, sampleAES, "", false},
		{"SAMPLE-AES keys with an app's URI", "v2-aes128", sampleAES, func(s string) string { return bothTags(1, replace("https://", "skd://"))(sampleAES(s)) }, "D-432", false},
		{"system that is not known", "v2-rotation", replaceAll(widevineID, "x"+widevineID), replaceAll(`systemId="`+widevineID, `systemId="x`+widevineID), "D-102", false},
		{"unknown v1 system without any value", "v1-fairplay", replaceAll("94ce86fb-07ff-4f43-adb8-93d2fa968ca2", "5e629af5-38da-4063-8977-97ffbd9902d4"), func(s string) string {
			s = strings.ReplaceAll(s, "94ce86fb-07ff-4f43-adb8-93d2fa968ca2", "5e629af5-38da-4063-8977-97ffbd9902d4")
			return empty(1, "cpix:URIExtXKey")(empty(1, "speke:KeyFormat")(empty(1, "speke:KeyFormatVersions")(s)))
		}, "S1-PAY-08", false},
		{"v1 AES-128", "v1-fairplay", replaceAll(fairPlayID, aes128V1ID), func(s string) string {
			s = element(1, "cpix:URIExtXKey", constant("https://keys.example.com/client/hls-asset-42/d3f5a7b9-2c4e-4680-9a1b-c2d3e4f50617"))(s)
			return strings.ReplaceAll(empty(1, "speke:KeyFormat")(s), fairPlayID, aes128V1ID)
		}, "", false},
		{"v1 AES-128 with another key format", "v1-fairplay", replaceAll(fairPlayID, aes128V1ID), func(s string) string {
			s = element(1, "cpix:URIExtXKey", constant("https://keys.example.com/1"))(s)
			return strings.ReplaceAll(s, fairPlayID, aes128V1ID)
		}, "S1-CK-02", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := change(t, test.answer, test.request, test.reply)
			if test.rule == "" {
				if len(got) != 0 {
					t.Errorf("got %v", got)
				}
				return
			}
			if !slices.ContainsFunc(got, func(v Violation) bool { return v.Rule == test.rule && v.Advice == test.advice }) {
				t.Errorf("got %v, want %s", got, test.rule)
			}
		})
	}
}

// changed changes a document, unless change is nil.
func changed(t *testing.T, s string, change func(string) string) string {
	t.Helper()
	if change == nil {
		return s
	}
	out := change(s)
	if out == s {
		t.Fatal("nothing was changed")
	}
	return out
}

// foreign puts elements of another namespace into lists and their entries.
func foreign(s string) string {
	return strings.NewReplacer(
		"<cpix:ContentKeyList>", `<cpix:ContentKeyList><x:N xmlns:x="urn:x" x:a="1">a</x:N>`,
		"</cpix:DRMSystem>", `<x:S xmlns:x="urn:x"/></cpix:DRMSystem>`,
		`kid="6052faa8-56da-39ad-ab71-0b98f396954d"/>`, `kid="6052faa8-56da-39ad-ab71-0b98f396954d"><x:K xmlns:x="urn:x"/></cpix:ContentKey>`,
		`kid="6052faa8-56da-39ad-ab71-0b98f396954d"><cpix:Data>`, `kid="6052faa8-56da-39ad-ab71-0b98f396954d"><x:K xmlns:x="urn:x"/><cpix:Data>`,
		"</cpix:ContentKeyPeriodList>", `<x:N xmlns:x="urn:x"/></cpix:ContentKeyPeriodList>`,
	).Replace(s)
}

func onlyMedia(s string) string { return strings.Replace(s, ` playlist="media"`, "", 1) }

func withoutLast(s, part string) string {
	at := strings.LastIndex(s, part)
	return s[:at] + s[at+len(part):]
}

var rotationKID = kids("6052faa8-56da-39ad-ab71-0b98f396954d")[0]

// commonOnly turns the request for Widevine into one for a common PSSH.
func commonOnly(s string) string {
	at, end := strings.Index(s, "<cpix:ContentProtectionData"), strings.Index(s, "</cpix:DRMSystem>")
	return strings.ReplaceAll(s[:at]+s[end:], widevineID, commonID)
}

// commonBox turns the answer for Widevine into one with a common PSSH of a
// version and with key IDs.
func commonBox(version, kids string) func(string) string {
	return func(s string) string {
		id := drm.SystemID{0x10, 0x77, 0xef, 0xec, 0xc0, 0xb2, 0x4d, 0x02, 0xac, 0xe3, 0x3c, 0x1e, 0x52, 0xe2, 0xfb, 0x4b}
		box := "\x00\x00\x00" + string(rune(32+len(kids))) + "pssh" + version + "\x00\x00\x00" + string(id[:]) + kids + "\x00\x00\x00\x00"
		return element(1, "cpix:PSSH", constant(box))(commonOnly(s))
	}
}

// hlsName renames the scheme as SPEKE 2.1 allows.
func hlsName(name string) func(string) string {
	return func(s string) string {
		at := strings.Index(s, `commonEncryptionScheme="`) + len(`commonEncryptionScheme="`)
		return s[:at] + name + s[at+4:]
	}
}

// sampleAES turns an exchange for AES-128 into one for SAMPLE-AES with the
// same keys.
func sampleAES(s string) string {
	s = strings.ReplaceAll(strings.ReplaceAll(s, aes128ID, sampleAESID), `"cbc1"`, `"cbcs"`)
	return bothTags(1, replace("METHOD=AES-128", "METHOD=SAMPLE-AES"))(s)
}
