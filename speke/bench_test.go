package speke_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/speke"
)

// BenchmarkRequest reads and checks key requests of the exchange tests, as
// servers do that use memory again, and BenchmarkAnswer answers them as well.
func BenchmarkRequest(b *testing.B) {
	each(b, func(b *testing.B, h http.Header, body []byte, p *speke.Policy) {
		var r speke.Request
		for b.Loop() {
			if err := r.Parse(h, body, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	each(b, func(b *testing.B, h http.Header, body []byte, p *speke.Policy) {
		var r speke.Request
		n := 0
		for b.Loop() {
			if err := r.Parse(h, body, p); err != nil {
				b.Fatal(err)
			}
			answer, err := answerRequest(&r)
			if err != nil {
				b.Fatal(err)
			}
			n = len(answer)
		}
		b.ReportMetric(float64(n), "bytes-out")
	})
}

// answerRequest answers with keys and signaling of a fixed value.
func answerRequest(r *speke.Request) ([]byte, error) {
	grants := make([]speke.Grant, len(r.Keys))
	for i := range r.Keys {
		grants[i] = speke.Grant{KID: r.Keys[i].KID, Value: contentkey.Value{1}, IV: contentkey.IV{2}}
	}
	signaling := make([]drm.Signaling, len(r.Systems))
	for i := range r.Systems {
		s := &r.Systems[i]
		var err error
		signaling[i], err = s.Signal(&drm.Track{
			ContentID: r.ContentID, KID: grants[s.Key].KID, Key: grants[s.Key].Value,
			IV: r.TrackIV(s.Key, grants[s.Key].IV), Scheme: r.Scheme,
		}, s.Want)
		if err != nil {
			return nil, err
		}
	}
	return r.Answer(grants, signaling, nil)
}

func each(b *testing.B, f func(*testing.B, http.Header, []byte, *speke.Policy)) {
	var settings drm.Settings
	settings.PlayReady.LAURL = "https://lic.example.com/playready"
	v1, err := drm.V1(settings)
	if err != nil {
		b.Fatal(err)
	}
	v2, err := drm.V2(settings)
	if err != nil {
		b.Fatal(err)
	}
	policy := &speke.Policy{V1: v1, V2: v2}
	for _, name := range []string{"v1-mediaconvert-dash", "v2-cmaf-cbcs", "preset-combined"} {
		ar, err := txtar.ParseFile(filepath.Join("../testdata/exchange", name+".txtar"))
		if err != nil {
			b.Fatal(err)
		}
		h := make(http.Header)
		if !strings.HasPrefix(name, "v1") {
			h.Set(speke.HeaderVersion, "2.0")
		}
		for _, file := range ar.Files {
			if file.Name != "request.xml" {
				continue
			}
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(file.Data)))
				b.ReportAllocs()
				f(b, h, file.Data, policy)
			})
		}
	}
}
