package cpix_test

import (
	"errors"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/xmltree"
)

// limits reports whether a document was refused for one of the limits that
// edits can reach.
func limits(err error) bool {
	e, ok := errors.AsType[*xmltree.SyntaxError](err)
	return ok && strings.HasPrefix(e.Reason, "too many ")
}

// FuzzParse holds that no document makes the package panic, that an unedited
// document comes back to the byte, and that one with every edit made parses
// again with as many entries.
func FuzzParse(f *testing.F) {
	for _, doc := range samples(f) {
		f.Add(doc)
	}
	f.Add(`<CPIX xmlns="urn:dashif:org:cpix" xmlns:v="urn:aws:amazon:com:speke" id="a"><DeliveryDataList><DeliveryData><DeliveryKey/></DeliveryData></DeliveryDataList>` +
		`<ContentKeyList><ContentKey kid="00000001-5b6c-4d7e-8f90-a1b2c3d4e5f6" explicitIV=""><Data v:x="y"><v:z/></Data><HDCPData/></ContentKey></ContentKeyList>` +
		`<DRMSystemList><DRMSystem kid="00000001-5B6C-4D7E-8F90-A1B2C3D4E5F6"><PSSH xmlns:w="urn:aws:amazon:com:speke"><w:a/></PSSH><v:KeyFormat/><URIExtXKey/>` +
		`<ContentProtectionData v:b="c"/></DRMSystem></DRMSystemList><s:Signature xmlns:s="http://www.w3.org/2000/09/xmldsig#"/></CPIX>`)
	sealer, err := cpix.NewSealer(zeros{}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		d, err := cpix.Parse([]byte(doc))
		if err != nil {
			return
		}
		if got := bytes(t, d); got != doc {
			t.Fatalf("unedited document came back as %q", got)
		}
		if len(d.ContentKeys) > 100 || len(d.DRMSystems) > 100 {
			return
		}
		out := editAll(t, d, sealer)
		again, err := cpix.Parse([]byte(out))
		if err != nil {
			// Edits can reach the limits on attributes and namespaces that
			// documents are refused for; nothing else is acceptable.
			if limits(err) {
				return
			}
			t.Fatalf("edited document: %v\n%s", err, out)
		}
		if len(again.ContentKeys) != len(d.ContentKeys) || len(again.DRMSystems) != len(d.DRMSystems) || len(again.UsageRules) != len(d.UsageRules) || again.ID != "" {
			t.Fatalf("edited document has other entries\n%s", out)
		}
		for i := range again.ContentKeys {
			if again.ContentKeys[i].Secret.IsZero() || again.ContentKeys[i].ExplicitIV == "" {
				t.Fatalf("content key %d has no value\n%s", i, out)
			}
		}
	})
}

// editAll makes every kind of edit and returns the document.
func editAll(t *testing.T, d *cpix.Document, sealer *cpix.Sealer) string {
	t.Helper()
	d.RemoveID()
	d.RemoveV1()
	d.RemoveSignatures()
	d.DeclarePSKC()
	kids := make([]contentkey.KID, len(d.ContentKeys))
	for i := range d.ContentKeys {
		kids[i] = contentkey.KID{15: byte(i)}
		d.SetExplicitIV(i, contentkey.IV{1})
		hdcp := &cpix.HDCP{Level: "TYPE-0", OutputProtection: []byte("<x/>")}
		if i%2 == 0 {
			d.SetValue(i, &contentkey.Value{2}, hdcp)
		} else if err := d.SetSealed(i, &contentkey.Value{3}, sealer, hdcp); err != nil {
			t.Fatal(err)
		}
	}
	d.SetKIDs(kids)
	for i := range d.DRMSystems {
		d.SetAllowedCPC(i, `a"b`)
		for j := range d.DRMSystems[i].Signals {
			s := &d.DRMSystems[i].Signals[j]
			switch {
			case s.Kind == cpix.URIExtXKey || s.Kind >= cpix.KeyFormat: // gone with RemoveV1
			case j%3 == 2:
				d.Remove(s)
			default:
				d.Fill(s, "va", []byte("lue"))
			}
			if s.Kind == cpix.ContentProtectionData && j%3 != 2 {
				d.SetRobustness(s, "<")
			}
		}
	}
	return bytes(t, d)
}
