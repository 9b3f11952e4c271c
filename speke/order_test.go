package speke_test

import (
	"strings"
	"testing"

	"spekeasy/speke"
)

// whole is a request without faults, with a place of its own for each fault
// of TestOrderOfChecks.
var whole = `<c:CPIX contentId="movie" version="2.3" xmlns:c="urn:dashif:org:cpix" xmlns:p="urn:ietf:params:xml:ns:keyprov:pskc">` +
	`<c:ContentKeyList>` +
	`<c:ContentKey id="k1" kid="` + kid(1) + `" commonEncryptionScheme="cbcs"/>` +
	`<c:ContentKey id="k2" kid="` + kid(2) + `" commonEncryptionScheme="cbcs"></c:ContentKey>` +
	`<c:ContentKey id="k3" kid="` + kid(3) + `" commonEncryptionScheme="cbcs"/>` +
	`<c:ContentKey id="k4" kid="` + kid(4) + `" commonEncryptionScheme="cbcs" explicitIV="AAECAwQFBgcICQoLDA0ODw=="/>` +
	`</c:ContentKeyList><c:DRMSystemList>` +
	`<c:DRMSystem id="s1" kid="` + kid(1) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>` +
	`<c:DRMSystem id="s2" kid="` + kid(1) + `" systemId="` + playReadyID + `"><c:PSSH/></c:DRMSystem>` +
	`<c:DRMSystem id="s3" kid="` + kid(2) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>` +
	`<c:DRMSystem id="s4" kid="` + kid(2) + `" systemId="` + playReadyID + `"><c:PSSH/></c:DRMSystem>` +
	`<c:DRMSystem id="s5" kid="` + kid(3) + `" systemId="` + fairPlayID + `"><c:HLSSignalingData playlist="media"/></c:DRMSystem>` +
	`<c:DRMSystem id="s6" kid="` + kid(4) + `" systemId="` + widevineID + `"><c:PSSH/></c:DRMSystem>` +
	`</c:DRMSystemList><c:ContentKeyUsageRuleList>` +
	`<c:ContentKeyUsageRule id="r1" kid="` + kid(1) + `" intendedTrackType="A"><c:VideoFilter/></c:ContentKeyUsageRule>` +
	`<c:ContentKeyUsageRule id="r2" kid="` + kid(2) + `" intendedTrackType="B"><c:VideoFilter/></c:ContentKeyUsageRule>` +
	`<c:ContentKeyUsageRule id="r3" kid="` + kid(3) + `" intendedTrackType="C"><c:VideoFilter/></c:ContentKeyUsageRule>` +
	`<c:ContentKeyUsageRule id="r4" kid="` + kid(4) + `" intendedTrackType="D"><c:VideoFilter/></c:ContentKeyUsageRule>` +
	`</c:ContentKeyUsageRuleList></c:CPIX>`

// A fault is one way to break whole, and what is answered to it.
type fault struct {
	name string
	text string
	old  string // is replaced, everywhere, by
	new  string

	version string        // X-Speke-Version instead of 2.0
	policy  *speke.Policy // changes to what is offered
}

// faults are in the order of docs/conformance.md, section "Order of checks".
var faults = []fault{
	{name: "header version", version: "3.0", text: "Unsupported SPEKE version"},
	{name: "not XML", old: `</c:CPIX>`, new: `</c:CPIX>x`, text: "Malformed CPIX document"},
	{name: "root", old: `c:CPIX`, new: `c:CPIY`, text: "Malformed CPIX document"},
	{name: "content ID", old: ` contentId="movie"`, new: ` contentId=" "`, text: "Missing CPIX@contentId"},
	{name: "CPIX version", old: ` version="2.3"`, new: ` version="4.0"`, text: "Unsupported CPIX@version"},
	{name: "content key list", old: `c:ContentKeyList`, new: `c:NoContentKeyList`, text: "Missing CPIX element ContentKeyList"},
	{name: "DRM system list", old: `c:DRMSystemList`, new: `c:NoDRMSystemList`, text: "Missing CPIX element DRMSystemList"},
	{name: "kid of the first key", old: `id="k1" kid="ab`, new: `id="k1" kid="zz`, text: "Invalid ContentKey@kid"},
	{name: "scheme of the second key", old: `id="k2" kid="` + kid(2) + `" commonEncryptionScheme="cbcs"`, new: `id="k2" kid="` + kid(2) + `"`, text: "Missing ContentKey@commonEncryptionScheme for KID " + kid(2)},
	{name: "mixed schemes", old: `id="k3" kid="` + kid(3) + `" commonEncryptionScheme="cbcs"`, new: `id="k3" kid="` + kid(3) + `" commonEncryptionScheme="cenc"`, text: "Non compliant ContentKey@commonEncryptionScheme combination"},
	{name: "explicitIV", old: `AAECAwQFBgcICQoLDA0ODw==`, new: `AAECAwQFBgc=`, text: "Malformed CPIX document"},
	{name: "kid of the first DRM system", old: `id="s1" kid="` + kid(1) + `"`, new: `id="s1"`, text: "Missing DRMSystem@kid"},
	{name: "systemId of the second DRM system", old: `id="s2" kid="` + kid(1) + `" systemId="` + playReadyID, new: `id="s2" kid="` + kid(1) + `" systemId="x`, text: "Invalid DRMSystem@systemId"},
	{name: "unknown kid of the third DRM system", old: `id="s3" kid="` + kid(2), new: `id="s3" kid="` + kid(9), text: "Malformed CPIX document"},
	{name: "unknown fourth DRM system", old: `id="s4" kid="` + kid(2) + `" systemId="` + playReadyID, new: `id="s4" kid="` + kid(2) + `" systemId="` + kid(8), text: "Unsupported DRMSystem " + kid(8)},
	{name: "scheme of the fifth DRM system", old: fairPlayID, new: aes128ID, text: "ContentKey@commonEncryptionScheme non compatible with DRMSystem " + aes128ID},
	{name: "no contract", old: `<c:VideoFilter/>`, new: `<c:LabelFilter/>`, text: "Missing CPIX encryption contract"},
	{name: "kid of the first rule", old: `id="r1" kid="` + kid(1) + `"`, new: `id="r1"`, text: "Missing ContentKeyUsageRule@kid"},
	{name: "unknown kid of the second rule", old: `id="r2" kid="` + kid(2), new: `id="r2" kid="` + kid(9), text: "Malformed encryption contract"},
	{name: "label of the third rule", old: ` intendedTrackType="C"`, new: ``, text: "Malformed encryption contract"},
	{name: "labels together", old: ` intendedTrackType="D"`, new: ` intendedTrackType="A"`, text: "Malformed encryption contract"},
	{name: "placeholder", old: `systemId="` + widevineID + `"><c:PSSH/>`, new: `systemId="` + widevineID + `"><c:PSSH/><c:SmoothStreamingProtectionHeaderData/>`, text: "Unsupported SmoothStreamingProtectionHeaderData for DRMSystem " + widevineID},
	{name: "key data", old: `></c:ContentKey>`, new: `><c:Data><p:Secret><p:PlainValue>AAECAwQFBgcICQoLDA0ODw==</p:PlainValue></p:Secret></c:Data></c:ContentKey>`, text: "Malformed CPIX document"},
	{name: "policy", policy: &speke.Policy{MaxKeys: 3}, text: "Requested CPIX encryption contract not supported"},
}

// TestOrderOfChecks breaks a request in every one and every two ways and
// holds that the fault which comes first in the order of checks is the one
// that is answered.
func TestOrderOfChecks(t *testing.T) {
	answer := func(list ...fault) string {
		p, version, doc := policy(t), "2.0", whole
		for i := len(list) - 1; i >= 0; i-- {
			f := list[i]
			if f.version != "" {
				version = f.version
			}
			if f.policy != nil {
				p.MaxKeys = f.policy.MaxKeys
			}
			if f.old != "" {
				if !strings.Contains(doc, f.old) {
					t.Fatalf("%s: %q is not in the document", f.name, f.old)
				}
				doc = strings.ReplaceAll(doc, f.old, f.new)
			}
		}
		return refusal(t, version, doc, p)
	}
	if got := answer(); got != "" {
		t.Fatalf("the request without faults: %s", got)
	}
	for i, first := range faults {
		if got := answer(first); got != first.text {
			t.Errorf("%s: %q, want %q", first.name, got, first.text)
		}
		for _, second := range faults[i+1:] {
			if first.name == "not XML" && second.name == "root" {
				continue // one replaces what the other looks for, and the answer is the same
			}
			if got := answer(first, second); got != first.text {
				t.Errorf("%s and %s: %q, want %q", first.name, second.name, got, first.text)
			}
		}
	}
}
