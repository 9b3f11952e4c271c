package cpix

import "testing"

// Entries of a list that occurs twice are read all the same, so that the
// indexes of a document's readers agree.
func TestRepeatedListsKeepTheirEntries(t *testing.T) {
	const doc = `<c:CPIX xmlns:c="urn:dashif:org:cpix">` +
		`<c:ContentKeyList><c:ContentKey kid="a"/></c:ContentKeyList>` +
		`<c:ContentKeyList><c:ContentKey kid="b"/><c:ContentKey kid="c"/></c:ContentKeyList>` +
		`<c:DRMSystemList><c:DRMSystem kid="a"/></c:DRMSystemList>` +
		`<c:DRMSystemList><c:DRMSystem kid="b"/></c:DRMSystemList>` +
		`<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="a"/></c:ContentKeyUsageRuleList>` +
		`<c:ContentKeyUsageRuleList><c:ContentKeyUsageRule kid="b"/></c:ContentKeyUsageRuleList>` +
		`</c:CPIX>`
	d, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
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
