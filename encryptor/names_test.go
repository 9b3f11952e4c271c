package encryptor

import (
	"testing"
	"time"

	"spekeasy/contentkey"
)

// Values made by an independent UUID library.
func TestKeyIDIsTheDocumentedNameUUID(t *testing.T) {
	for _, test := range []struct {
		content, track string
		period         contentkey.Period
		want           string
	}{
		{"movie", "VIDEO", contentkey.Period{}, "fd79b994-a15c-3376-9509-a72fb0e9d262"},
		{"a b&c/é", "SD+HD1", contentkey.Period{ID: "x", Index: "7"}, "ca337fff-c35f-3d3f-82af-18ef3dffb3d1"},
	} {
		if got := KeyID(test.content, test.track, test.period).String(); got != test.want {
			t.Errorf("KeyID(%q, %q, %v) = %s, want %s", test.content, test.track, test.period, got, test.want)
		}
	}
	if got := (&plan{service: MediaPackageV2, version: V20, contentID: "channel-7"}).periodID("6"); got != "202021ac-4ddf-33f3-abe4-de73a4ea877b" {
		t.Errorf("period ID %s", got)
	}
	if got := (&plan{service: MediaPackageV1, version: V10, contentID: "channel-7"}).periodID("6"); got != "keyPeriod_202021ac-4ddf-33f3-abe4-de73a4ea877b" {
		t.Errorf("period ID %s", got)
	}
	if got := contentkey.KID(deriveIV(kids("6ba7b810-9dad-11d1-80b4-00c04fd430c8")[0])).String(); got != "8c13d28c-511c-3eb0-9bf6-e539fbb02ce6" {
		t.Errorf("IV %s", got)
	}
}

func TestNewPeriod(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 30, 0, 500, time.FixedZone("", -2*3600))
	for _, test := range []struct {
		timing Timing
		want   contentkey.Period
	}{
		{IndexOnly, contentkey.Period{Index: "4294967295"}},
		{StartEndOnly, contentkey.Period{Start: "2026-03-01T14:30:00Z", End: "2026-03-01T14:35:00Z"}},
		{IndexWithStartEnd, contentkey.Period{Index: "4294967295", Start: "2026-03-01T14:30:00Z", End: "2026-03-01T14:35:00Z"}},
	} {
		got, err := NewPeriod(test.timing, 1<<32-1, start, start.Add(5*time.Minute))
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v, want %+v", test.timing, got, err, test.want)
		}
	}
	if _, err := NewPeriod("WEEKLY", 1, start, start); err == nil {
		t.Error("an unknown timing was accepted")
	}
	if _, err := NewPeriod(StartEndOnly, 1, start, start); err == nil {
		t.Error("an empty period was accepted")
	}
	if p, err := NewPeriod(IndexOnly, 1, time.Time{}, time.Time{}); err != nil || p.Index != "1" {
		t.Errorf("an index needs no times: %+v, %v", p, err)
	}
}
