package cpix_test

import (
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/cpix"
)

// zeros is a source of bytes that are all the same.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

const (
	oldKID = "00000001-5b6c-4d7e-8f90-a1b2c3d4e5f6"
	newKID = "ffffffff-0000-4000-8000-000000000001"
)

// TestEdits shows each edit of S2-ECHO-12 on the part of a document that it
// is about. In want, ... stands for the rest, which must be as it was.
func TestEdits(t *testing.T) {
	value := &contentkey.Value{0: 0xff}
	const plain = `<p:Secret><p:PlainValue>/wAAAAAAAAAAAAAAAAAAAA==</p:PlainValue></p:Secret>`
	for _, c := range []struct {
		name string
		doc  string // inside <c:CPIX xmlns:c xmlns:p>
		edit func(d *cpix.Document)
		want string
	}{
		{"value into an empty element", `<c:ContentKeyList><c:ContentKey kid="x" /></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetValue(0, value, nil) },
			`<c:ContentKeyList><c:ContentKey kid="x" ><c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>`},
		{"value behind what is there", `<c:ContentKeyList><c:ContentKey kid="x"> <!-- a --> <c:Other/> </c:ContentKey></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetValue(0, value, nil) },
			`<c:ContentKeyList><c:ContentKey kid="x"> <!-- a --> <c:Other/> <c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>`},
		{"value over an empty Data", `<c:ContentKeyList><c:ContentKey kid="x"> <c:Data a="b"><!-- a --><p:Secret/></c:Data><c:Other/></c:ContentKey></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetValue(0, value, nil) },
			`<c:ContentKeyList><c:ContentKey kid="x"> <c:Data>` + plain + `</c:Data><c:Other/></c:ContentKey></c:ContentKeyList>`},
		{"HDCP before Data", `<c:ContentKeyList><c:ContentKey kid="x"><c:Data/></c:ContentKey></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetValue(0, value, &cpix.HDCP{Level: "TYPE-1"}) },
			`<c:ContentKeyList><c:ContentKey kid="x"><c:HDCPData HLSHDCPLevel="TYPE-1"/><c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>`},
		{"HDCP with output protection", `<c:ContentKeyList><c:ContentKey kid="x"/></c:ContentKeyList>`,
			func(d *cpix.Document) {
				d.SetValue(0, value, &cpix.HDCP{Level: `"<&`, OutputProtection: []byte("<o/>")})
			},
			`<c:ContentKeyList><c:ContentKey kid="x"><c:HDCPData HLSHDCPLevel="&quot;&lt;&amp;"><c:HDCPOutputProtectionData>PG8vPg==</c:HDCPOutputProtectionData></c:HDCPData><c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>`},
		{"HDCP in its place", `<c:ContentKeyList><c:ContentKey kid="x"> <c:HDCPData/> <c:Data/></c:ContentKey></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetValue(0, value, &cpix.HDCP{Level: "NONE"}) },
			`<c:ContentKeyList><c:ContentKey kid="x"> <c:HDCPData HLSHDCPLevel="NONE"/> <c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>`},
		{"HDCP that we do not set", `<c:ContentKeyList><c:ContentKey kid="x"><c:HDCPData HLSHDCPLevel="NONE"/></c:ContentKey></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetValue(0, value, &cpix.HDCP{}) },
			`<c:ContentKeyList><c:ContentKey kid="x"><c:HDCPData HLSHDCPLevel="NONE"/><c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>`},
		{"explicitIV", `<c:ContentKeyList><c:ContentKey kid='x'/></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetExplicitIV(0, contentkey.IV{0xff}) },
			`<c:ContentKeyList><c:ContentKey kid='x' explicitIV="/wAAAAAAAAAAAAAAAAAAAA=="/></c:ContentKeyList>`},
		{"explicitIV in its place", `<c:ContentKeyList><c:ContentKey explicitIV=' ' kid='x'/></c:ContentKeyList>`,
			func(d *cpix.Document) { d.SetExplicitIV(0, contentkey.IV{0xff}) },
			`<c:ContentKeyList><c:ContentKey explicitIV='/wAAAAAAAAAAAAAAAAAAAA==' kid='x'/></c:ContentKeyList>`},
		{"key ID everywhere in any case", // SX-KID-02
			`<c:ContentKeyList><c:ContentKey kid="` + oldKID + `"/><c:ContentKey kid="00000002-0000-0000-0000-00000000000A"/></c:ContentKeyList>` +
				`<c:DRMSystemList><c:DRMSystem kid=' ` + strings.ToUpper(oldKID) + ` ' systemId="` + oldKID + `"/><c:DRMSystem kid="00000002-0000-0000-0000-00000000000A"/></c:DRMSystemList>` +
				`<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="` + oldKID + `" intendedTrackType="` + oldKID + `"/></c:ContentKeyUsageRuleList>`,
			func(d *cpix.Document) {
				kid, _ := contentkey.ParseKID(newKID)
				same, _ := contentkey.ParseKID(d.ContentKeys[1].KID)
				d.SetKIDs([]contentkey.KID{kid, same})
			},
			`<c:ContentKeyList><c:ContentKey kid="` + newKID + `"/><c:ContentKey kid="00000002-0000-0000-0000-00000000000A"/></c:ContentKeyList>` +
				`<c:DRMSystemList><c:DRMSystem kid='` + newKID + `' systemId="` + oldKID + `"/><c:DRMSystem kid="00000002-0000-0000-0000-00000000000A"/></c:DRMSystemList>` +
				`<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="` + newKID + `" intendedTrackType="` + oldKID + `"/></c:ContentKeyUsageRuleList>`},
		{"key IDs that change places",
			`<c:ContentKeyList><c:ContentKey kid="` + oldKID + `"/><c:ContentKey kid="` + newKID + `"/></c:ContentKeyList><c:DRMSystemList><c:DRMSystem kid="` + newKID + `"/></c:DRMSystemList>`,
			func(d *cpix.Document) {
				a, _ := contentkey.ParseKID(newKID)
				b, _ := contentkey.ParseKID(oldKID)
				d.SetKIDs([]contentkey.KID{a, b})
			},
			`<c:ContentKeyList><c:ContentKey kid="` + newKID + `"/><c:ContentKey kid="` + oldKID + `"/></c:ContentKeyList><c:DRMSystemList><c:DRMSystem kid="` + oldKID + `"/></c:DRMSystemList>`},
		{"placeholders", `<c:DRMSystemList><c:DRMSystem><c:PSSH/><c:PSSH><!-- a --><b/>text</c:PSSH > <c:ContentProtectionData a='b' /><c:URIExtXKey></c:URIExtXKey></c:DRMSystem></c:DRMSystemList>`,
			func(d *cpix.Document) {
				s := d.DRMSystems[0].Signals
				d.Fill(&s[0], "", []byte("f"))
				d.Fill(&s[1], "", []byte("fo"))
				d.Fill(&s[2], "", []byte("foo"))
				d.SetRobustness(&s[2], "HW")
				d.Remove(&s[3])
				d.SetAllowedCPC(0, "a:b")
			},
			`<c:DRMSystemList><c:DRMSystem HLSAllowedCPC="a:b"><c:PSSH>Zg==</c:PSSH><c:PSSH>Zm8=</c:PSSH > <c:ContentProtectionData a='b' robustness="HW" >Zm9v</c:ContentProtectionData></c:DRMSystem></c:DRMSystemList>`},
		{"leftovers of v1 anywhere", // S2-PAY-06
			`<v:a xmlns:v="urn:aws:amazon:com:speke"><c:b/></v:a><c:x xmlns:v="urn:aws:amazon:com:speke" v:y="z" k="1"><v:a/>text<c:URIExtXKey>u</c:URIExtXKey></c:x><d xmlns="urn:aws:amazon:com:speke"/>`,
			func(d *cpix.Document) { d.RemoveV1() },
			`<c:x k="1">text</c:x>`},
		{"leftovers of v1 inside what is replaced",
			`<c:ContentKeyList><c:ContentKey kid="x"><c:Data xmlns:v="urn:aws:amazon:com:speke" v:a="b"><v:c/></c:Data></c:ContentKey></c:ContentKeyList>` +
				`<c:DRMSystemList><c:DRMSystem><c:PSSH xmlns:v="urn:aws:amazon:com:speke" v:a="b"><v:c/><v:d/></c:PSSH><c:ContentProtectionData xmlns:v="urn:aws:amazon:com:speke" v:a="b"><v:c/></c:ContentProtectionData></c:DRMSystem></c:DRMSystemList>`,
			func(d *cpix.Document) {
				d.RemoveV1()
				d.SetValue(0, value, nil)
				d.Fill(&d.DRMSystems[0].Signals[0], "f", []byte("oo"))
				d.Remove(&d.DRMSystems[0].Signals[1])
			},
			`<c:ContentKeyList><c:ContentKey kid="x"><c:Data>` + plain + `</c:Data></c:ContentKey></c:ContentKeyList>` +
				`<c:DRMSystemList><c:DRMSystem><c:PSSH>Zm9v</c:PSSH></c:DRMSystem></c:DRMSystemList>`},
		{"signatures of the document, and no others", // CPIX-SIG-07
			`<x xmlns:s="http://www.w3.org/2000/09/xmldsig#"><s:Signature/></x><s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#"><s:SignedInfo/></s:Signature> `,
			func(d *cpix.Document) { d.RemoveSignatures() },
			`<x xmlns:s="http://www.w3.org/2000/09/xmldsig#"><s:Signature/></x> `},
	} {
		const start, end = `<c:CPIX xmlns:c="urn:dashif:org:cpix" xmlns:p="urn:ietf:params:xml:ns:keyprov:pskc">`, `</c:CPIX>`
		d := parse(t, start+c.doc+end)
		c.edit(d)
		if got := bytes(t, d); got != start+c.want+end {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, strings.TrimSuffix(strings.TrimPrefix(got, start), end), c.want)
		}
	}
}

// TestPrefixes holds under which prefix new elements are written
// (S2-PAY-21, SX-CKE-14).
func TestPrefixes(t *testing.T) {
	const pskc = "urn:ietf:params:xml:ns:keyprov:pskc"
	for name, c := range map[string][2]string{
		"bound by the request": {
			`<CPIX xmlns="urn:dashif:org:cpix" xmlns:pksc="` + pskc + `"><ContentKeyList><ContentKey/></ContentKeyList></CPIX>`,
			`<CPIX xmlns="urn:dashif:org:cpix" xmlns:pksc="` + pskc + `"><ContentKeyList><ContentKey><Data><pksc:Secret>`},
		"bound on the list": {
			`<a:CPIX xmlns:a="urn:dashif:org:cpix"><b:ContentKeyList xmlns:b="urn:dashif:org:cpix" xmlns:k="` + pskc + `"><b:ContentKey/></b:ContentKeyList></a:CPIX>`,
			`<a:CPIX xmlns:a="urn:dashif:org:cpix"><b:ContentKeyList xmlns:b="urn:dashif:org:cpix" xmlns:k="` + pskc + `"><b:ContentKey><b:Data><k:Secret>`},
		"not bound": {
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" ><a:ContentKeyList><a:ContentKey/></a:ContentKeyList></a:CPIX>`,
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns:pskc="` + pskc + `" ><a:ContentKeyList><a:ContentKey><a:Data><pskc:Secret>`},
		"bound as default only": { // a prefix is always written
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns="` + pskc + `"><a:ContentKeyList><a:ContentKey/></a:ContentKeyList></a:CPIX>`,
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns="` + pskc + `" xmlns:pskc="` + pskc + `"><a:ContentKeyList><a:ContentKey><a:Data><pskc:Secret>`},
		"usual one taken": {
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns:pskc="u"><a:ContentKeyList><a:ContentKey/></a:ContentKeyList><x xmlns:pskc1="u"/></a:CPIX>`,
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns:pskc="u" xmlns:pskc2="` + pskc + `"><a:ContentKeyList><a:ContentKey><a:Data><pskc2:Secret>`},
		"hidden where it is needed": {
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns:pskc="` + pskc + `"><a:ContentKeyList xmlns:pskc="u"><a:ContentKey/></a:ContentKeyList></a:CPIX>`,
			`<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns:pskc="` + pskc + `" xmlns:pskc1="` + pskc + `"><a:ContentKeyList xmlns:pskc="u"><a:ContentKey><a:Data><pskc1:Secret>`},
		"bound by a reference": {
			`<a:CPIX xmlns:a="urn:dashif:org:&#99;pix" xmlns:k="urn:ietf:params:xml:ns:keyprov:psk&#x63;"><a:ContentKeyList><a:ContentKey/></a:ContentKeyList></a:CPIX>`,
			`<a:CPIX xmlns:a="urn:dashif:org:&#99;pix" xmlns:k="urn:ietf:params:xml:ns:keyprov:psk&#x63;"><a:ContentKeyList><a:ContentKey><a:Data><k:Secret>`},
	} {
		d := parse(t, c[0])
		d.SetValue(0, &contentkey.Value{1}, nil)
		if got := bytes(t, d); !strings.HasPrefix(got, c[1]) {
			t.Errorf("%s:\ngot  %s\nwant %s...", name, got, c[1])
		}
	}
}

// TestDeclarePSKC holds S2-PAY-04: the answer declares the namespace on its
// root, whoever uses it.
func TestDeclarePSKC(t *testing.T) {
	d := parse(t, `<a:CPIX xmlns:a="urn:dashif:org:cpix"><a:ContentKeyList xmlns:k="urn:ietf:params:xml:ns:keyprov:pskc"><a:ContentKey/></a:ContentKeyList></a:CPIX>`)
	d.DeclarePSKC()
	d.DeclarePSKC()
	d.SetValue(0, &contentkey.Value{1}, nil)
	want := `<a:CPIX xmlns:a="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc"><a:ContentKeyList xmlns:k="urn:ietf:params:xml:ns:keyprov:pskc"><a:ContentKey><a:Data><k:Secret>`
	if got := bytes(t, d); !strings.HasPrefix(got, want) {
		t.Errorf("got %s", got)
	}
}

// TestRemoveID holds S2-PAY-03.
func TestRemoveID(t *testing.T) {
	for doc, want := range map[string]string{
		`<CPIX id="a" xmlns="urn:dashif:org:cpix"/>`:                         `<CPIX xmlns="urn:dashif:org:cpix"/>`,
		`<CPIX xmlns="urn:dashif:org:cpix" id = 'a' />`:                      `<CPIX xmlns="urn:dashif:org:cpix" />`,
		`<CPIX xmlns="urn:dashif:org:cpix" contentId="a"/>`:                  `<CPIX xmlns="urn:dashif:org:cpix" contentId="a"/>`,
		`<x:CPIX xmlns:x="urn:dashif:org:cpix" x:id="b" id="a" version=""/>`: `<x:CPIX xmlns:x="urn:dashif:org:cpix" x:id="b" version=""/>`,
	} {
		d := parse(t, doc)
		d.RemoveID()
		if got := bytes(t, d); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
