package cpix_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

func parse(t testing.TB, doc string) *cpix.Document {
	t.Helper()
	d, err := cpix.Parse([]byte(doc))
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	return d
}

func bytes(t testing.TB, d *cpix.Document) string {
	t.Helper()
	out, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// samples are whole documents of testdata by name.
func samples(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files in testdata, %v", len(files), err)
	}
	out := make(map[string]string)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".xml")] = string(b)
	}
	return out
}

// Entries of a list that occurs twice are read all the same, so that the
// indexes of a document's readers agree.
func TestRepeatedListsKeepTheirEntries(t *testing.T) {
	d := parse(t, `<c:CPIX xmlns:c="urn:dashif:org:cpix">`+
		`<c:ContentKeyList><c:ContentKey kid="a"/></c:ContentKeyList>`+
		`<c:ContentKeyList><c:ContentKey kid="b"/><c:ContentKey kid="c"/></c:ContentKeyList>`+
		`<c:DRMSystemList><c:DRMSystem kid="a"/></c:DRMSystemList>`+
		`<c:DRMSystemList><c:DRMSystem kid="b"/></c:DRMSystemList>`+
		`<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="a"/></c:ContentKeyUsageRuleList>`+
		`<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="b"/></c:ContentKeyUsageRuleList>`+
		`</c:CPIX>`)
	kids := ""
	for _, k := range d.ContentKeys {
		kids += k.KID
	}
	if kids != "abc" || d.Lists.ContentKey != 2 {
		t.Errorf("content keys %q of %d lists, want abc of 2", kids, d.Lists.ContentKey)
	}
	if len(d.DRMSystems) != 2 || len(d.UsageRules) != 2 {
		t.Errorf("%d DRM systems and %d usage rules, want 2 of each", len(d.DRMSystems), len(d.UsageRules))
	}
}

func TestParseRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing":             "",
		"document type":       `<!DOCTYPE CPIX><CPIX xmlns="urn:dashif:org:cpix"/>`, // CPIX-NEG-12, CPIX-RD-06
		"undeclared prefix":   `<cpix:CPIX/>`,                                       // CPIX-RD-03
		"cut off":             `<CPIX xmlns="urn:dashif:org:cpix"><ContentKeyList>`,
		"duplicate attribute": `<CPIX xmlns="urn:dashif:org:cpix" id="a" id="b"/>`,
	} {
		_, err := cpix.Parse([]byte(doc))
		if e, ok := errors.AsType[*xmltree.SyntaxError](err); !ok || e.Line != 1 {
			t.Errorf("%s: %v, want a SyntaxError", name, err)
		}
	}
	for name, doc := range map[string]string{
		"no namespace":      `<CPIX/>`,
		"another namespace": `<CPIX xmlns="urn:dashif:org:cpix:2"/>`,
		"another root":      `<ContentKeyList xmlns="urn:dashif:org:cpix"/>`,
		"another case":      `<Cpix xmlns="urn:dashif:org:cpix"/>`,
	} {
		if _, err := cpix.Parse([]byte(doc)); !errors.Is(err, cpix.ErrRoot) {
			t.Errorf("%s: %v, want ErrRoot", name, err)
		}
	}
}

// TestParseByNamespace holds that names are matched by namespace and local
// name under any prefix, and that what has the right local name in the wrong
// place is something else (CPIX-RD-01, -02, -04, CPIX-TYP-02).
func TestParseByNamespace(t *testing.T) {
	d := parse(t, `<CPIX xmlns="urn:dashif:org:cpix" xmlns:x="urn:x" x:id="no" id=" doc
 " contentId="a&amp;b" version=" 2.4 ">
	<x:ContentKeyList><ContentKey kid="no"/></x:ContentKeyList>
	<a:ContentKeyList xmlns:a="urn:dashif:org:cpix">
		<x:ContentKey kid="no"/>
		<a:ContentKey x:kid="no" kid="	yes	" commonEncryptionScheme=" cenc " explicitIV="
			AAECAwQFBgcICQoLDA0ODw== ">
			<x:Data/><Secret/><Data><x:Secret/><q:Secret xmlns:q="urn:ietf:params:xml:ns:keyprov:pskc"><PlainValue>no</PlainValue><q:PlainValue> AAEC
				AwQF </q:PlainValue></q:Secret></Data>
		</a:ContentKey>
	</a:ContentKeyList>
	<DRMSystemList><DRMSystem kid="yes" systemId="s"><x:PSSH/><PSSH><!-- a -->AA<![CDATA[EC]]></PSSH><KeyFormat/>
		<HLSSignalingData/><HLSSignalingData playlist="multiVariant"/></DRMSystem></DRMSystemList>
	<ContentKeyUsageRuleList><ContentKeyUsageRule kid="yes" intendedTrackType=" UHD + HDR ">
		<x:VideoFilter/><VideoFilter minPixels=" 7 "/><LabelFilter label=""/><NewFilter/></ContentKeyUsageRule></ContentKeyUsageRuleList>
	</CPIX>`)
	if d.ID != "doc" || d.ContentID != "a&b" || d.Version != "2.4" {
		t.Errorf("root %q %q %q", d.ID, d.ContentID, d.Version)
	}
	if len(d.ContentKeys) != 1 || d.Lists.ContentKey != 1 {
		t.Fatalf("%d content keys in %d lists", len(d.ContentKeys), d.Lists.ContentKey)
	}
	k := d.ContentKeys[0]
	if k.KID != "yes" || k.Scheme != "cenc" || k.ExplicitIV != "AAECAwQFBgcICQoLDA0ODw==" || k.Values != 1 {
		t.Errorf("content key %+v", k)
	}
	if _, err := k.Secret.Plain(); err == nil {
		t.Error("six bytes were taken for a content key")
	}
	signals := d.DRMSystems[0].Signals
	if len(signals) != 3 || signals[0].Kind != cpix.PSSH || signals[1].Playlist != "" || signals[2].Playlist != "multiVariant" {
		t.Fatalf("signals %v", signals)
	}
	if v, err := signals[0].Value(); err != nil || string(v) != "\x00\x01\x02" {
		t.Errorf("PSSH %v, %v", v, err)
	}
	rule := d.UsageRules[0]
	var kinds []cpix.FilterKind
	for _, f := range rule.Filters {
		kinds = append(kinds, f.Kind)
	}
	if rule.IntendedTrackType != "UHD + HDR" || len(kinds) != 3 || kinds[0] != cpix.VideoFilter || kinds[1] != cpix.LabelFilter || kinds[2] != cpix.OtherFilter {
		t.Errorf("usage rule %q with filters %v", rule.IntendedTrackType, kinds)
	}
	if v, ok := rule.Filters[0].Attr("minPixels"); v != "7" || !ok {
		t.Errorf("minPixels %q, %v", v, ok)
	}
	if _, ok := rule.Filters[0].Attr("maxPixels"); ok {
		t.Error("an absent attribute was found")
	}
	if v, ok := rule.Filters[1].Attr("label"); v != "" || !ok {
		t.Errorf("label %q, %v", v, ok)
	}
}

// TestSamples reads CPIX 2.3 and 2.4 documents with features that SPEKE does
// not use: offsets and durations, HDCP, labels, a key hierarchy.
func TestSamples(t *testing.T) {
	docs := samples(t)
	vod := parse(t, docs["vod-offsets-2.4"])
	if vod.ContentKeys[0].HDCPLevel != "TYPE-1" || vod.ContentKeys[1].HDCPLevel != "" {
		t.Error("HDCP level")
	}
	if p := vod.Periods[0]; p != (cpix.Period{ID: "p1", Index: "1", StartOffset: "PT0S", EndOffset: "PT30M"}) {
		t.Errorf("period %+v", p)
	}
	if n := len(vod.UsageRules[0].Filters); n != 4 {
		t.Errorf("%d filters, want two of periods and two of video", n)
	}
	if v, err := vod.ContentKeys[0].Secret.Plain(); err != nil || v[0] != 0xa3 {
		t.Errorf("content key: %v", err)
	}
	for _, name := range []string{"encrypted-aws", "encrypted-2.4"} { // MACMethod in the shapes of AWS and of the schema
		d := parse(t, docs[name])
		r := d.DeliveryData[0]
		if len(r.Certificates) != 1 || r.DocumentKey == nil || r.MACKey == nil || r.MACAlgo != cpix.AlgorithmHMACSHA512 {
			t.Fatalf("%s: %+v", name, r)
		}
		if r.DocumentKey.Algorithm != cpix.AlgorithmRSAOAEP || !strings.HasPrefix(r.DocumentKey.CipherValue, "zEz4Mvtc") || !strings.HasPrefix(r.MACKey.CipherValue, "poxuCohL") {
			t.Errorf("%s: keys misread", name)
		}
		if s := d.ContentKeys[0].Secret; s.Algorithm != cpix.AlgorithmAES256CBC || s.PlainValue != "" || len(s.ValueMAC) != 88 {
			t.Errorf("%s: content key misread", name)
		}
	}
	if d := parse(t, docs["hierarchy-2.3"]); len(d.ContentKeys) != 2 || d.UsageRules[0].KID != d.ContentKeys[1].KID {
		t.Error("hierarchy")
	}
}

// TestUneditedDocuments holds that what is not edited comes back to the byte
// (S2-ECHO-12).
func TestUneditedDocuments(t *testing.T) {
	for name, doc := range samples(t) {
		if got := bytes(t, parse(t, doc)); got != doc {
			t.Errorf("%s differs", name)
		}
	}
}

// TestSecretsStayHidden holds that printing what was read shows no key.
func TestSecretsStayHidden(t *testing.T) {
	d := parse(t, samples(t)["vod-offsets-2.4"])
	s := d.ContentKeys[0].Secret
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if out := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s) + fmt.Sprintf(verb, d.ContentKeys); strings.Contains(out, s.PlainValue) {
			t.Errorf("%s shows %s", verb, out)
		}
	}
}
