package drm_test

import (
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
)

// TestContentProtection holds D-810 to D-812 with the fragments of the
// vectors, and the text of real ones that use other prefixes.
func TestContentProtection(t *testing.T) {
	for _, v := range loadVectors(t).ContentProtection {
		var s drm.System
		switch v.Name {
		case "widevine":
			s = drm.Widevine{}
		case "playready":
			s = drm.PlayReady{LAURL: vectorLAURL}
		case "ezdrm-widevine":
			s = drm.Widevine{Provider: "ezdrm"}
		case "ezdrm-playready":
			s = drm.PlayReady{LAURL: "https://playready.ezdrm.com/cency/preauth.aspx?pX=274FF4", DSID: "VlR7IdsIJEuRd06Laqs2jw=="}
		}
		track := vectorTrack(v.Scheme)
		track.KID = v.KID
		out := signal(t, s, track, drm.PSSH|drm.ContentProtection)
		if string(out.PSSH) != string(v.PSSH) {
			t.Errorf("%s: box %x, want %x", v.Name, out.PSSH, v.PSSH)
		}
		if string(v.Base64) != v.XML {
			t.Errorf("%s: the vector disagrees with itself", v.Name)
		}
		if !strings.HasPrefix(v.Name, "ezdrm") && string(out.ContentProtection) != v.XML {
			t.Errorf("%s: %s, want\n%s", v.Name, out.ContentProtection, v.XML)
		}
		ours, theirs := fragment(t, string(out.ContentProtection)), fragment(t, v.XML)
		if ours != theirs || ours.PSSH != base64Text(out.PSSH) {
			t.Errorf("%s: %+v, want %+v", v.Name, ours, theirs)
		}
	}
}

type contentProtection struct {
	PSSH string `xml:"urn:mpeg:cenc:2013 pssh"`
	PRO  string `xml:"urn:microsoft:playready pro"`
}

// fragment reads the children of a ContentProtection element, as AWS's
// verification suite does: inside an element of its own.
func fragment(t *testing.T, s string) (c contentProtection) {
	t.Helper()
	if err := xml.Unmarshal([]byte("<cpd>"+s+"</cpd>"), &c); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return c
}

// TestCommonPSSH holds D-101 and D-410: the box that Clear Key asks for.
func TestCommonPSSH(t *testing.T) {
	for _, scheme := range []contentkey.Scheme{0, contentkey.Cenc, contentkey.Cens, contentkey.Cbc1, contentkey.Cbcs} {
		out := signal(t, drm.CommonPSSH{}, vectorTrack(scheme), allFields)
		box, err := drm.ParseBox(out.PSSH)
		if err != nil || box.Version != 1 || len(box.Data) != 0 || len(box.KIDs) != 1 ||
			box.KIDs[0].String() != "00112233-4455-6677-8899-aabbccddeeff" {
			t.Errorf("%v: %+v, %v", scheme, box, err)
		}
		checkBoxElsewhere(t, out.PSSH)
		if c := fragment(t, string(out.ContentProtection)); c.PSSH != base64Text(out.PSSH) {
			t.Errorf("%v: %s", scheme, out.ContentProtection)
		}
		if out.HLS != nil || out.KeyURI != nil {
			t.Errorf("%v: %+v", scheme, out)
		}
	}
}

// TestClearKeyDASH holds D-420 and D-422.
func TestClearKeyDASH(t *testing.T) {
	c := drm.ClearKeyDASH{LicenseURL: "https://keys.example.com/clearkey?a=<1>&b='2'"}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	out := signal(t, c, vectorTrack(contentkey.Cbcs), allFields)
	want := `<dashif:Laurl xmlns:dashif="https://dashif.org/CPS" licenseType="EME-1.0">` +
		`https://keys.example.com/clearkey?a=&lt;1&gt;&amp;b='2'</dashif:Laurl>`
	if string(out.ContentProtection) != want || out.PSSH != nil {
		t.Errorf("%s, want\n%s", out.ContentProtection, want)
	}
	var parsed struct {
		URL string `xml:"https://dashif.org/CPS Laurl"`
	}
	if err := xml.Unmarshal([]byte("<c>"+string(out.ContentProtection)+"</c>"), &parsed); err != nil || parsed.URL != c.LicenseURL {
		t.Errorf("reads back as %q, %v", parsed.URL, err)
	}
	if c = (drm.ClearKeyDASH{}); c.Fields() != 0 {
		t.Errorf("without a URL: fields %b", c.Fields())
	}
	if out := signal(t, c, vectorTrack(contentkey.Cenc), allFields); out.ContentProtection != nil {
		t.Errorf("without a URL: %s", out.ContentProtection)
	}
}

// TestHLSKeys holds S2-CK-01, S1-CK-02, D-430 and D-433.
func TestHLSKeys(t *testing.T) {
	track := vectorTrack(contentkey.Cbc1)
	track.ContentID, track.IV = "ts-channel-3", contentkey.IV(mustHex("b9d43674c74e13841d464d0142f09db3"))
	const uri = "https://keys.example.com/client/ts-channel-3/00112233-4455-6677-8899-aabbccddeeff"
	const end = `,KEYFORMAT="identity",KEYFORMATVERSIONS="1"`
	for _, base := range []string{"https://keys.example.com", "https://keys.example.com/"} {
		h := drm.HLSAES128{URL: base}
		if got := string(signal(t, h, track, allFields).HLS); got != `METHOD=AES-128,URI="`+uri+`"`+end {
			t.Errorf("%s: %s", base, got)
		}
		h.IV = true
		if got := string(signal(t, h, track, allFields).HLS); got != `METHOD=AES-128,URI="`+uri+`",IV=0xb9d43674c74e13841d464d0142f09db3`+end {
			t.Errorf("%s, with IV: %s", base, got)
		}
		v1 := signal(t, drm.HLSAES128V1(h), track, allFields)
		if string(v1.KeyURI) != uri || string(v1.KeyFormat) != "identity" || string(v1.KeyFormatVersions) != "1" || v1.HLS != nil {
			t.Errorf("%s, v1: %+v", base, v1)
		}
		track := *track
		track.Scheme = contentkey.Cbcs
		if got := string(signal(t, drm.HLSSampleAES(h), &track, allFields).HLS); got != `METHOD=SAMPLE-AES,URI="`+uri+`",IV=0xb9d43674c74e13841d464d0142f09db3`+end {
			t.Errorf("%s, sample-aes: %s", base, got)
		}
	}
	for _, s := range []drm.System{drm.HLSAES128{}, drm.HLSAES128V1{}} {
		if s.Fields() != 0 {
			t.Errorf("%s without a URL: fields %b", s.Name(), s.Fields())
		}
		if out := signal(t, s, track, allFields); out.HLS != nil || out.KeyURI != nil {
			t.Errorf("%s without a URL: %+v", s.Name(), out)
		}
	}
}

// TestHLSKeyRoute asks a server for each key URI: content ID and key ID
// arrive as they were, whatever the content ID (S2-CK-03).
func TestHLSKeyRoute(t *testing.T) {
	var gotContent, gotKID string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /client/{content}/{kid}", func(_ http.ResponseWriter, r *http.Request) {
		gotContent, gotKID = r.PathValue("content"), r.PathValue("kid")
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	h := drm.HLSAES128{URL: server.URL}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, id := range append([]string{"plain", "client"}, hostile...) {
		track := vectorTrack(contentkey.Cbc1)
		track.ContentID = id
		_, attrs := attributes(t, mediaTag+string(signal(t, h, track, drm.HLS).HLS))
		gotContent, gotKID = "", ""
		resp, err := http.Get(attrs["URI"])
		if err != nil {
			t.Fatalf("%q: %v", id, err)
		}
		resp.Body.Close()
		if gotContent != id || gotKID != track.KID.String() {
			t.Errorf("%q: status %d, content ID %q, key ID %q", id, resp.StatusCode, gotContent, gotKID)
		}
	}
	for _, id := range []string{"", ".", ".."} {
		for _, s := range []drm.System{h, drm.HLSAES128V1(h)} {
			if out, err := s.Signal(&drm.Track{ContentID: id, Scheme: contentkey.Cbc1}, allFields); !errors.Is(err, drm.ErrTrack) {
				t.Errorf("%s: content ID %q: %+v, %v", s.Name(), id, out, err)
			}
		}
	}
}
