package encryptor

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
)

// version is that of a worked example, by the beginning of its name.
func version(name string) Version {
	switch {
	case strings.HasPrefix(name, "v21"):
		return V21
	case strings.HasPrefix(name, "v2"):
		return V20
	}
	return V10
}

// answerHeader are the headers of a proper answer.
func answerHeader(v Version) http.Header {
	h := http.Header{"Content-Type": {"application/xml"}}
	if v == V10 {
		h.Set("Speke-User-Agent", "example-kp/1.0")
		return h
	}
	h.Set("X-Speke-User-Agent", "example-kp/1.0")
	h.Set("X-Speke-Version", string(v))
	return h
}

// workedRequest reads a request of testdata/worked; that of v2-aes128 is
// built.
func workedRequest(t testing.TB, name string) *Request {
	t.Helper()
	if name == "v2-aes128" {
		o := Options{
			Service: MediaPackageV2, Packaging: HLS, ContentID: "ts-channel-3", Systems: []string{"aes-128"}, VideoPreset: Shared,
			KIDs: kids("7b0a9f8e-6d5c-3b4a-8291-a0b1c2d3e4f5"), IVs: ivs("udQ2dMdOE4QdRk0BQvCdsw=="),
			Periods: []contentkey.Period{{ID: "keyPeriod_1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f9", Index: "0"}},
		}
		r, err := o.Build()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	h := http.Header{}
	if v := version(name); v != V10 {
		h["X-Speke-Version"] = []string{string(v)}
	}
	r, err := ReadRequest(h, readFile(t, "worked/"+name+".request.xml"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// worked reads a request and its answer.
func worked(t testing.TB, name string) (*Request, http.Header, string) {
	t.Helper()
	return workedRequest(t, name), answerHeader(version(name)), string(readFile(t, "worked/"+name+".answer.xml"))
}

var workedAnswers = []string{
	"v1-dash", "v1-rotation", "v1-fairplay", "v1-encrypted", "v2-dash", "v2-rotation", "v2-cmaf", "v2-aes128", "v21-periods",
}

func TestCheckPassesWorkedAnswers(t *testing.T) {
	for _, name := range workedAnswers {
		t.Run(name, func(t *testing.T) {
			r, h, body := worked(t, name)
			a, err := ReadAnswer(r, h, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range a.Check() {
				t.Errorf("%v", v)
			}
			if a.UserAgent != "example-kp/1.0" || a.ContentID != r.ContentID || a.Encrypted != (name == "v1-encrypted") {
				t.Errorf("%q %q %t", a.UserAgent, a.ContentID, a.Encrypted)
			}
			if string(a.Body()) != body || a.Header().Get("Content-Type") != "application/xml" {
				t.Error("body or headers are not those that came")
			}
		})
	}
}

func TestCheckInOneGo(t *testing.T) {
	r, h, body := worked(t, "v2-dash")
	wantOnly(t, Check(r, h, []byte(body)), "")
	wantOnly(t, Check(r, h, []byte(strings.Replace(body, `"vod-asset-2001"`, `"x"`, 1))), "S2-ECHO-02")
}

func TestReadAnswerContents(t *testing.T) {
	r, h, body := worked(t, "v2-cmaf")
	a, err := ReadAnswer(r, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Keys) != 1 {
		t.Fatalf("%d keys", len(a.Keys))
	}
	k := a.Keys[0]
	if k.KID != kids("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b")[0] || k.Requested != k.KID || k.Scheme != "cbcs" || k.ExplicitIV != "dJ5l+Gn20AOodk5erTvEmg==" {
		t.Errorf("key %+v", k)
	}
	if !k.HasValue || hex.EncodeToString(k.Value[:]) != "4c5713d52e8d82dbe81e1c6d486d3569" {
		t.Error("wrong content key")
	}
	if len(k.Uses) != 1 || k.Uses[0].Track != "ALL" || k.Uses[0].Period.Index != "0" {
		t.Errorf("uses %+v", k.Uses)
	}
	var got []string
	for i := range k.Systems {
		s := &k.Systems[i]
		got = append(got, s.Name+": "+strings.Join(s.Signaled(), ", "))
	}
	want := "FairPlay: HLS media, HLS master; Widevine: PSSH, DASH, HLS media, HLS master; PlayReady: PSSH, DASH, HLS media, HLS master"
	if s := strings.Join(got, "; "); s != want {
		t.Errorf("signaled\n%s\nwant\n%s", s, want)
	}
	fairPlay := `METHOD=SAMPLE-AES,URI="skd://eyJDb250ZW50SWQiOiJjbWFmLWNoYW5uZWwtOSIsIktleUlkIjoiNWM5ZDdlM2EtOGIxZi0zYTJjLTlkNGUtNmY3MDgxOTIwYTNiIiwiSVYiOiJkSjVsK0duMjBBT29kazVlclR2RW1nPT0ifQ==",KEYFORMAT="com.apple.streamingkeydelivery",KEYFORMATVERSIONS="1"`
	if s := k.Systems[0]; s.HLSMedia != "#EXT-X-KEY:"+fairPlay || s.HLSMaster != "#EXT-X-SESSION-KEY:"+fairPlay {
		t.Errorf("FairPlay tags\n%s\n%s", s.HLSMedia, s.HLSMaster)
	}
	if s := k.Systems[1]; len(s.PSSH) != 72 || !strings.HasPrefix(s.ContentProtection, `<cenc:pssh xmlns:cenc="urn:mpeg:cenc:2013">AAAASHBzc2g`) {
		t.Errorf("Widevine PSSH of %d bytes, protection %q", len(s.PSSH), s.ContentProtection)
	}

	r, h, body = worked(t, "v1-fairplay")
	if a, err = ReadAnswer(r, h, []byte(body)); err != nil {
		t.Fatal(err)
	}
	if s := a.Keys[0].Systems[0]; s.KeyURI != "skd://d3f5a7b9-2c4e-4680-9a1b-c2d3e4f50617" || s.KeyFormat != "com.apple.streamingkeydelivery" || s.KeyFormatVersions != "1" {
		t.Errorf("v1 FairPlay %+v", s)
	}

	r, h, body = worked(t, "v21-periods")
	if a, err = ReadAnswer(r, h, []byte(strings.Replace(body, "<cpix:DRMSystem ", `<cpix:DRMSystem HLSAllowedCPC="com.example:TV" `, 1))); err != nil {
		t.Fatal(err)
	}
	k = a.Keys[0]
	if k.HDCPLevel != "TYPE-1" || k.Systems[0].Robustness != "HW_SECURE_ALL" || k.Systems[0].AllowedCPC != "com.example:TV" {
		t.Errorf("output protection %q %q %q", k.HDCPLevel, k.Systems[0].Robustness, k.Systems[0].AllowedCPC)
	}
	if p := k.Uses[0].Period; p.Start != "2026-01-01T00:00:00Z" || p.End != "2026-01-01T00:05:00Z" {
		t.Errorf("period %+v", p)
	}
	for _, v := range a.Check() {
		t.Errorf("%v", v)
	}
}

// A key override is followed through all places (SX-KID-01, -02).
func TestReadAnswerPairsOverriddenKeys(t *testing.T) {
	r, h, body := worked(t, "v2-rotation")
	to := "22222222-2222-4222-8222-222222222222"
	body = override(t, body, "6052faa8-56da-39ad-ab71-0b98f396954d", to)
	a, err := ReadAnswer(r, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if k := a.Keys[0]; k.KID.String() != to || k.Requested != r.Keys[0].KID {
		t.Errorf("%s for %s", k.KID, k.Requested)
	}
	for _, v := range a.Check() {
		t.Errorf("%v", v)
	}
}

func TestReadAnswerRefuses(t *testing.T) {
	r, h, _ := worked(t, "v2-dash")
	for name, body := range map[string]string{
		"nothing":          "",
		"another document": `<html xmlns="http://www.w3.org/1999/xhtml"/>`,
		"half a document":  `<cpix:CPIX xmlns:cpix="urn:dashif:org:cpix">`,
		"a document type":  `<!DOCTYPE x><cpix:CPIX xmlns:cpix="urn:dashif:org:cpix"/>`,
	} {
		if _, err := ReadAnswer(r, h, []byte(body)); err == nil {
			t.Errorf("%s: accepted", name)
		}
		wantOnly(t, Check(r, h, []byte(body)), "SX-HTTP-01")
	}
	a, err := ReadAnswer(r, h, []byte(`<cpix:CPIX xmlns:cpix="urn:dashif:org:cpix"/>`))
	if err != nil || len(a.Check()) == 0 {
		t.Errorf("an empty document: %v", err)
	}
}

// Content keys stay out of everything that is printed or logged by accident.
func TestAnswerHidesKeys(t *testing.T) {
	r, h, body := worked(t, "v2-cmaf")
	a, err := ReadAnswer(r, h, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := NewRecipient(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o := Options{ContentID: "movie", Recipients: []*Recipient{recipient}}
	asked, err := o.Build()
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"TFcT1S6NgtvoHhxtSG01aQ", "4c5713d52e8d82dbe81e1c6d486d3569", "[76 87 19", fmt.Sprint(recipient.Key.D)}
	var log strings.Builder
	text := slog.New(slog.NewTextHandler(&log, nil))
	json := slog.New(slog.NewJSONHandler(&log, nil))
	for _, v := range []any{a, *a, a.Keys, a.Keys[0], recipient, *recipient, o, asked} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
			fmt.Fprintf(&log, verb+"\n", v)
		}
		text.Info("x", "v", v)
		json.Info("x", "v", v)
	}
	for _, s := range secrets {
		if strings.Contains(log.String(), s) {
			t.Errorf("a secret was printed: %.20s...", s)
		}
	}
	if !strings.Contains(log.String(), "cmaf-channel-9") {
		t.Error("nothing was printed at all")
	}
}
