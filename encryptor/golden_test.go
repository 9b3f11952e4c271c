package encryptor

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
)

var update = flag.Bool("update", false, "rewrite testdata/request")

func kids(texts ...string) []contentkey.KID {
	out := make([]contentkey.KID, len(texts))
	for i, text := range texts {
		var err error
		if out[i], err = contentkey.ParseKID(text); err != nil {
			panic(err)
		}
	}
	return out
}

func ivs(texts ...string) []contentkey.IV {
	out := make([]contentkey.IV, len(texts))
	for i, text := range texts {
		var err error
		if out[i], err = contentkey.ParseIV(text); err != nil {
			panic(err)
		}
	}
	return out
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash("testdata/" + name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// workedOptions make the requests of testdata/worked, byte for byte.
var workedOptions = map[string]Options{
	"v1-dash": {ContentID: "vod-asset-0001", KIDs: kids("6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6")},
	"v1-rotation": {
		Service: MediaPackageV1, ContentID: "live-channel-7", KIDs: kids("2a7d4f10-93b5-4c1e-8d62-5e0f1a2b3c4d"),
		Periods: []contentkey.Period{{ID: "keyPeriod_5d2c8b1a-44e7-4f3b-9a60-2c1d0e9f8a7b", Index: "11425"}},
	},
	"v1-rotation-next": {
		Service: MediaPackageV1, ContentID: "live-channel-7", KIDs: kids("c4b8e2f6-17a9-4d03-b5e1-7f6a5b4c3d2e"),
		Periods: []contentkey.Period{{ID: "keyPeriod_b0e1d2c3-55f8-4a4c-8b71-3d2e1f0a9b8c", Index: "11426"}},
	},
	"v1-fairplay": {
		Packaging: HLS, ContentID: "hls-asset-42", KIDs: kids("d3f5a7b9-2c4e-4680-9a1b-c2d3e4f50617"),
		IVs: ivs("o+8Zrpz/OoowCOvAt/oUzQ=="),
	},
	"v2-dash": {
		ContentID: "vod-asset-2001", VideoPreset: "PRESET_VIDEO_1", AudioPreset: "PRESET_AUDIO_1",
		KIDs: kids("11f8a3d2-5b6c-4d7e-8f90-a1b2c3d4e5f6", "22e9b4c3-6c7d-4e8f-9a01-b2c3d4e5f607"),
	},
	"v2-rotation": {
		Service: MediaPackageV2, ContentID: "channel-7", Systems: []string{"widevine"}, VideoPreset: Shared,
		KIDs:    kids("6052faa8-56da-39ad-ab71-0b98f396954d"),
		Periods: []contentkey.Period{{ID: "829db5c3-8398-350b-96ed-155727bafab1", Index: "6"}},
	},
	"v2-rotation-next": {
		Service: MediaPackageV2, ContentID: "channel-7", Systems: []string{"widevine"}, VideoPreset: Shared, AudioPreset: Shared,
		KIDs:    kids("6d74cb65-7a11-3741-bf29-d513f1e47296"),
		Periods: []contentkey.Period{{ID: "d9c2ff3b-243b-3ee4-91fc-0b8cd562c5fb", Index: "7"}},
	},
	"v2-cmaf": {
		Service: MediaPackageV1, Packaging: CMAF, ContentID: "cmaf-channel-9", VideoPreset: Shared, AudioPreset: Shared,
		KIDs: kids("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b"), IVs: ivs("dJ5l+Gn20AOodk5erTvEmg=="),
		Periods: []contentkey.Period{{ID: "keyPeriod_7e6d5c4b-3a29-4180-8f7e-6d5c4b3a2918", Index: "0"}},
		Force:   true, // the period ID, as a contract does not rotate
	},
	"v21-periods": {
		Service: MediaPackageV2, Version: V21, ContentID: "channel-21", Systems: []string{"widevine"},
		KIDs: kids("a8b7c6d5-e4f3-3021-9b8a-7c6d5e4f3021", "b9c8d7e6-f504-3132-8a9b-8d7e6f504132"),
		Periods: []contentkey.Period{{
			ID: "keyPeriod_c0ffee00-1234-4abc-8def-001122334455", Index: "768",
			Start: "2026-01-01T00:00:00Z", End: "2026-01-01T00:05:00Z",
		}},
	},
}

func TestBuildWritesWorkedExamples(t *testing.T) {
	for name, o := range workedOptions {
		t.Run(name, func(t *testing.T) {
			r, err := o.Build()
			if err != nil {
				t.Fatal(err)
			}
			if want := readFile(t, "worked/"+name+".request.xml"); string(r.Body) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", r.Body, want)
			}
		})
	}
	t.Run("v1-encrypted", func(t *testing.T) {
		want := readFile(t, "worked/v1-encrypted.request.xml")
		asked, err := ReadRequest(nil, want)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{
			ContentID: "enc-asset-0001", Systems: []string{"widevine"}, KIDs: kids("98ee5596-1c2d-4e3f-8a4b-5c6d7e8f9012"),
			Recipients: []*Recipient{{ID: "origin-1", Certificate: certificateOf(t, asked)}},
		}
		r, err := o.Build()
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Body) != string(want) {
			t.Errorf("got\n%s\nwant\n%s", r.Body, want)
		}
	})
}

// goldenOptions are the requests of testdata/request: every line of the
// matrix of services, systems beyond its defaults, presets.
func goldenOptions(t *testing.T) map[string]Options {
	t.Helper()
	at := func(timing Timing) []contentkey.Period {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))
		p, err := NewPeriod(timing, 768, start, start.Add(5*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return []contentkey.Period{p}
	}
	out := map[string]Options{
		"mediapackage-v1-2.0-dash-irdeto":            {Service: MediaPackageV1, Version: V20, Systems: []string{"irdeto", "playready"}},
		"mediapackage-v1-1.0-hls-aes-128-rotation":   {Service: MediaPackageV1, Packaging: HLS, Systems: []string{"aes-128"}, Periods: at(IndexOnly)},
		"mediapackage-v2-2.0-hls-aes-128":            {Service: MediaPackageV2, Packaging: HLS, Systems: []string{"aes-128"}},
		"mediapackage-v2-2.0-cmaf-widevine-rotation": {Service: MediaPackageV2, Systems: []string{"widevine"}, Periods: at(IndexOnly)},
		"mediapackage-v2-2.1-cmaf-start-end":         {Service: MediaPackageV2, Version: V21, Systems: []string{"widevine"}, Periods: at(StartEndOnly)},
		"mediapackage-v2-2.1-cmaf-index-start-end":   {Service: MediaPackageV2, Version: V21, Periods: at(IndexWithStartEnd)},
		"mediapackage-v2-2.1-hls-sample-aes-name":    {Service: MediaPackageV2, Version: V21, Packaging: HLS, Scheme: "SAMPLE-AES"},
		"mediaconvert-2.0-dash-presets":              {VideoPreset: "PRESET-VIDEO-8", AudioPreset: "PRESET-AUDIO-3"},
		"mediaconvert-2.0-dash-video-unencrypted":    {VideoPreset: Unencrypted, AudioPreset: "PRESET-AUDIO-2"},
		"onprem-1.0-hls-aes-128-rotation":            {Service: OnPremises, Packaging: HLS, Systems: []string{"aes-128"}, Periods: at(IndexOnly)},
		"forced-2.0-cmaf-fairplay-cenc":              {Service: MediaPackageV2, Systems: []string{"fairplay"}, Scheme: "cenc", Force: true},
		"forced-2.0-cmaf-other-systems": {Service: MediaPackageV2, Scheme: "cbcs", Force: true, Systems: []string{
			"sample-aes", "clearkey", "common", "5E629AF5-38DA-4063-8977-97FFBD9902D4"}},
		"forced-1.0-dash-common":      {Systems: []string{"common"}, Force: true},
		"forced-2.1-vod-offsets":      {Version: V21, Force: true, Systems: []string{"widevine"}, Periods: []contentkey.Period{{Index: "1", Start: "PT0S", End: "PT30M"}, {Index: "2", Start: "PT30M", End: "PT1H"}}},
		"mediaconvert-1.0-odd-ids":    {ContentID: `Füße & "Möbel" <1>`},
		"mediapackage-v1-1.0-cmaf-iv": {Service: MediaPackageV1, Packaging: CMAF, IVs: ivs("ABEiM0RVZneImaq7zN3u/w==")},
	}
	for i := range offers {
		o := &offers[i]
		out[strings.Join([]string{string(o.service), string(o.version), string(o.packaging)}, "-")] = Options{
			Service: o.service, Version: o.version, Packaging: o.packaging}
	}
	for name, o := range out {
		if o.ContentID == "" {
			o.ContentID = "movie"
			out[name] = o
		}
	}
	return out
}

func TestBuildGolden(t *testing.T) {
	golden := goldenOptions(t)
	for name, o := range golden {
		t.Run(name, func(t *testing.T) {
			r, err := o.Build()
			if err != nil {
				t.Fatal(err)
			}
			path := "request/" + name + ".xml"
			if *update {
				if err := os.WriteFile("testdata/"+path, r.Body, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, path); string(r.Body) != string(want) {
				t.Errorf("got\n%s\nwant\n%s", r.Body, want)
			}
			again, err := o.Build()
			if err != nil || string(again.Body) != string(r.Body) {
				t.Errorf("the same options gave another document (%v)", err)
			}
		})
	}
	files, err := filepath.Glob("testdata/request/*.xml")
	if err != nil || len(files) != len(golden) {
		t.Errorf("%d files for %d cases (%v)", len(files), len(golden), err)
	}
}

func TestBuildHeaders(t *testing.T) {
	for _, test := range []struct {
		name    string
		options Options
		version []string
	}{
		{"1.0 has no version header (SX-VER-01)", Options{ContentID: "movie"}, nil},
		{"2.0", Options{ContentID: "movie", Version: V20}, []string{"2.0"}},
		{"2.1", Options{ContentID: "movie", Service: MediaPackageV2, Version: V21}, []string{"2.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := test.options.Build()
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Header.Values("X-Speke-Version"); !slices.Equal(got, test.version) {
				t.Errorf("X-Speke-Version %q, want %q", got, test.version)
			}
			if got := r.Header.Get("Content-Type"); got != "application/xml" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

func TestBuildTellsWhatItAsksFor(t *testing.T) {
	o := Options{Service: MediaPackageV2, ContentID: "channel", VideoPreset: "PRESET-VIDEO-2", AudioPreset: Unencrypted,
		Periods: []contentkey.Period{{Index: "41"}}}
	r, err := o.Build()
	if err != nil {
		t.Fatal(err)
	}
	if r.Version != V20 || r.ContentID != "channel" || len(r.Keys) != 2 {
		t.Fatalf("version %q, content %q, %d keys", r.Version, r.ContentID, len(r.Keys))
	}
	k := r.Keys[1]
	if len(k.Uses) != 1 || k.Uses[0].Track != "HD" || k.Uses[0].Period.Index != "41" || k.Scheme != "cbcs" || k.HasValue {
		t.Errorf("second key %+v", k)
	}
	if k.KID != KeyID("channel", "HD", contentkey.Period{Index: "41"}) {
		t.Errorf("key ID %s is not derived", k.KID)
	}
	var names []string
	for _, s := range k.Systems {
		names = append(names, s.Name)
	}
	if got := strings.Join(names, " "); got != "FairPlay Widevine PlayReady" {
		t.Errorf("systems %s", got)
	}
}
