package kidrule_test

import (
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/kidrule"
)

// TestVectors holds values that were computed with Python's uuid and hashlib
// modules from the descriptions of the rules.
func TestVectors(t *testing.T) {
	asked := contentkey.KID{1, 2, 3}
	for _, c := range []struct {
		name string
		rule string
		in   kidrule.Input
		want string
	}{
		{"as asked", "", kidrule.Input{Requested: asked}, asked.String()},
		{"uuidv5", "uuidv5", kidrule.Input{ContentID: "vod-asset-2001", Track: "VIDEO", Tenant: "ignored"}, "0640bbba-b581-59fe-900f-69eda3678399"},
		{"uuidv5 counts bytes", "uuidv5", kidrule.Input{ContentID: "Ä", Period: "6", Track: "ALL"}, "ac200fb6-d5a2-514b-b5e8-1143d2535a9a"},
		{"uuidv5-scheme", "uuidv5-scheme", kidrule.Input{ContentID: "vod-asset-2001", Track: "VIDEO", Scheme: contentkey.Cbcs}, "1c988807-5b73-52d2-98ae-1c1eef5db592"},
		{"sha256-xor v1", "sha256-xor", kidrule.Input{Tenant: "tenant-1", ContentID: "movie", V1: true}, "e5a1a4e3-282d-3d78-7041-d02996cd449a"},
		{"sha256-xor v2", "sha256-xor", kidrule.Input{Tenant: "tenant-1", ContentID: "movie", Period: "7", Scheme: contentkey.Cbcs, Track: "AUDIO"}, "c5c9ae43-5491-cd70-ec85-ffe6841c95f4"},
	} {
		rule, err := kidrule.Parse(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		if got := rule.KID(&c.in).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := kidrule.Namespace.String(); got != "086dd149-e3f0-5b01-8ea3-a2e590b3dad9" {
		t.Errorf("namespace %s", got)
	}
}

// TestUnambiguous holds that no two different contents share a name: what
// moves from one part to the next changes the key ID.
func TestUnambiguous(t *testing.T) {
	a := kidrule.UUIDv5.KID(&kidrule.Input{ContentID: "a1", Period: "2", Track: "VIDEO"})
	b := kidrule.UUIDv5.KID(&kidrule.Input{ContentID: "a", Period: "12", Track: "VIDEO"})
	c := kidrule.UUIDv5.KID(&kidrule.Input{ContentID: "a1,1:2,", Period: "", Track: "VIDEO"})
	if a == b || a == c || b == c {
		t.Errorf("%s %s %s", a, b, c)
	}
}

func TestJoin(t *testing.T) {
	if got := kidrule.Join([]string{"VIDEO", "AUDIO", "VIDEO"}); got != "AUDIO+VIDEO" {
		t.Error(got)
	}
	if got := kidrule.Join(nil); got != "" {
		t.Error(got)
	}
}

func TestParseRefusesUnknown(t *testing.T) {
	if r, err := kidrule.Parse("axinom"); err == nil {
		t.Error(r)
	}
}
