package drm_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// TestFairPlayVectors holds S2-FP-02, S2-FP-03 and the forms of D-303.
func TestFairPlayVectors(t *testing.T) {
	for _, v := range loadVectors(t).FairPlay {
		t.Run(v.Name, func(t *testing.T) {
			track := &drm.Track{KID: v.KID, Scheme: contentkey.Cbcs}
			switch v.Name {
			case "mediapackage-v2-doc-form":
				track.ContentID = "101"
				track.KID = mustKID("8fe6f4de-841a-3acd-a81a-be516f356bbb")
				track.IV = mustIV("ABEiM0RVZneImaq7zN3u/w==")
				out := signal(t, drm.FairPlay{}, track, allFields)
				if mediaTag+string(out.HLS) != v.MediaTag || masterTag+string(out.HLS) != v.MasterTag {
					t.Errorf("%s, want\n%s", out.HLS, v.MediaTag)
				}
				if !bytes.Equal(v.Media, []byte(v.MediaTag)) || !bytes.Equal(v.Master, []byte(v.MasterTag)) {
					t.Error("the vector disagrees with itself")
				}
				text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(out.KeyURI), "skd://"))
				if err != nil || string(text) != v.JSON {
					t.Errorf("%s, want %s, %v", text, v.JSON, err)
				}
			case "ezdrm-speke-v1-uriextxkey":
				if iv := contentkey.IV(v.KID); iv != mustIV(v.ExplicitIV) {
					t.Errorf("IV %s", iv)
				}
				out := signal(t, drm.FairPlay{URI: mustTemplate("ezdrm-v1")}, track, drm.KeyURI)
				if string(out.KeyURI) != v.Decoded || !bytes.Equal(out.KeyURI, v.URIExtXKey) {
					t.Errorf("%s, want %s", out.KeyURI, v.Decoded)
				}
			case "axinom":
				track.KID = mustKID("72ea9ec1-abb4-40d8-b3a9-e0bd1833bd58")
				track.IV = contentkey.IV(mustHex("0123456789abcdef0123456789abcdef"))
				out := signal(t, drm.FairPlay{URI: mustTemplate("kid-iv")}, track, drm.KeyURI)
				if !strings.EqualFold(string(out.KeyURI), v.URI) { // hexadecimal digits in either case
					t.Errorf("%s, want %s", out.KeyURI, v.URI)
				}
			default:
				t.Error("vector not covered")
			}
		})
	}
}

// TestFairPlayURI fills in every form and placeholder.
func TestFairPlayURI(t *testing.T) {
	track := vectorTrack(contentkey.Cbcs)
	track.ContentID = "a/b c"
	track.IV = contentkey.IV(mustHex("ffeeddccbbaa99887766554433221100"))
	for form, want := range map[string]string{
		"kid":      "skd://00112233-4455-6677-8899-aabbccddeeff",
		"kid-iv":   "skd://00112233-4455-6677-8899-aabbccddeeff:ffeeddccbbaa99887766554433221100",
		"ezdrm-v1": "skd://fps.ezdrm.com/;00112233-4455-6677-8899-aabbccddeeff",
		"shaka":    "skd://ABEiM0RVZneImaq7zN3u/w==",
		"":         "skd://" + base64Text([]byte(`{"ContentId":"a/b c","KeyId":"00112233-4455-6677-8899-aabbccddeeff","IV":"/+7dzLuqmYh3ZlVEMyIRAA=="}`)),
		"skd://{content_id}?k={kid_hex}&i={iv_b64}": "skd://a/b%20c?k=00112233445566778899aabbccddeeff&i=/+7dzLuqmYh3ZlVEMyIRAA==",
		"https://x/{kid_b64}/{iv_hex}#end":          "https://x/ABEiM0RVZneImaq7zN3u/w==/ffeeddccbbaa99887766554433221100#end",
	} {
		f := drm.FairPlay{URI: mustTemplate(form)}
		if err := f.Validate(); err != nil {
			t.Errorf("%q: %v", form, err)
		}
		out := signal(t, f, track, allFields)
		if string(out.KeyURI) != want {
			t.Errorf("%q: %s, want %s", form, out.KeyURI, want)
		}
		if _, v := attributes(t, mediaTag+string(out.HLS)); v["URI"] != want || v["IV"] != "" {
			t.Errorf("%q: %s (D-301)", form, out.HLS)
		}
		if string(out.KeyFormat) != "com.apple.streamingkeydelivery" || string(out.KeyFormatVersions) != "1" {
			t.Errorf("%q: %s %s", form, out.KeyFormat, out.KeyFormatVersions)
		}
		if out.PSSH != nil || out.ContentProtection != nil || out.Smooth != nil {
			t.Errorf("%q: more than HLS (S2-FP-01): %+v", form, out)
		}
	}
	if f, g := (drm.FairPlay{}), (drm.FairPlay{URI: mustTemplate("mediapackage-json")}); !bytes.Equal(
		signal(t, f, track, drm.HLS).HLS, signal(t, g, track, drm.HLS).HLS) {
		t.Error("the default is not mediapackage-json")
	}
}

// TestFairPlayContentID reads every content ID back from both kinds of URI.
func TestFairPlayContentID(t *testing.T) {
	all := append([]string{"", "plain", "\b\f\t\x1f", `\"`, "<&>"}, hostile...)
	for _, id := range all {
		track := vectorTrack(contentkey.Cbcs)
		track.ContentID, track.IV = id, contentkey.IV{1}

		uri := string(signal(t, drm.FairPlay{}, track, drm.KeyURI).KeyURI)
		text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(uri, "skd://"))
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ ContentId, KeyId, IV string }
		if err := json.Unmarshal(text, &got); err != nil || got.ContentId != id {
			t.Errorf("%q reads back as %q, %v", id, got.ContentId, err)
		}
		for i := range len(text) {
			if text[i] < ' ' {
				t.Errorf("%q: control character in %q", id, text)
			}
		}

		uri = string(signal(t, drm.FairPlay{URI: mustTemplate("skd://{content_id}")}, track, drm.KeyURI).KeyURI)
		back, err := url.PathUnescape(strings.TrimPrefix(uri, "skd://"))
		if err != nil || back != id {
			t.Errorf("%q: %q reads back as %q, %v", id, uri, back, err)
		}
	}
}

// TestFairPlayZeroIV: some key providers use an IV of zeros, and encryptors
// may send one; it is an IV like any other.
func TestFairPlayZeroIV(t *testing.T) {
	track := &drm.Track{KID: mustKID("00112233-4455-6677-8899-aabbccddeeff"), Scheme: contentkey.Cbcs}
	out, err := drm.FairPlay{URI: mustTemplate("kid-iv")}.Signal(track, drm.KeyURI)
	if want := "skd://00112233-4455-6677-8899-aabbccddeeff:00000000000000000000000000000000"; err != nil || string(out.KeyURI) != want {
		t.Errorf("%s, %v; want %s", out.KeyURI, err, want)
	}
}

// TestFairPlayErrors: text that JSON cannot hold is the track's fault; a form
// that was never validated is not.
func TestFairPlayErrors(t *testing.T) {
	_, err := drm.FairPlay{}.Signal(&drm.Track{ContentID: "\xff", IV: contentkey.IV{1}, Scheme: contentkey.Cbcs}, drm.HLS)
	if !errors.Is(err, drm.ErrTrack) {
		t.Errorf("content ID that is not UTF-8: %v", err)
	}
	if out, err := (drm.FairPlay{URI: mustTemplate("kidd")}).Signal(&drm.Track{Scheme: contentkey.Cbcs}, drm.HLS); err == nil {
		t.Errorf("unknown form: %s", out.HLS)
	}
}
