package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

// BenchmarkCheck measures what is done to an answer that needs no repair: it
// is read, held against the request, and found good.
func BenchmarkCheck(b *testing.B) {
	for name, o := range map[string]encryptor.Options{
		"2keys,2systems": {Service: encryptor.MediaPackageV2, Version: encryptor.V20, ContentID: "movie-1", VideoPreset: "PRESET-VIDEO-1", AudioPreset: "PRESET-AUDIO-1"},
		"8keys,3systems": {Service: encryptor.MediaPackageV2, Version: encryptor.V20, ContentID: "movie-1", VideoPreset: "PRESET-VIDEO-5", AudioPreset: "PRESET-AUDIO-3"},
	} {
		b.Run(name, func(b *testing.B) {
			r, err := o.Build()
			if err != nil {
				b.Fatal(err)
			}
			sim, err := vendorsim.New(vendorsim.Generic, vendorsim.Options{})
			if err != nil {
				b.Fatal(err)
			}
			stands, err := sim.Upstream("http://127.0.0.1")
			if err != nil {
				b.Fatal(err)
			}
			set, err := upstream.ParseWord(stands.Word())
			if err != nil {
				b.Fatal(err)
			}
			q := httptest.NewRequestWithContext(b.Context(), http.MethodPost, set.URL, strings.NewReader(string(r.Body)))
			q.Header = r.Header.Clone()
			q.SetBasicAuth(set.Auth.Basic.User, string(set.Auth.Basic.Password))
			w := httptest.NewRecorder()
			sim.ServeHTTP(w, q)
			settings := tenant.Settings{ID: "acme", Upstream: &upstream.Settings{Vendor: "generic", URL: set.URL}}
			tn, err := settings.Build()
			if err != nil {
				b.Fatal(err)
			}
			s, err := newSource(tn.Upstream, "acme", time.Now)
			if err != nil {
				b.Fatal(err)
			}
			req, err := speke.ParseRequest(r.Header, r.Body, &tn.Policy)
			if err != nil {
				b.Fatal(err)
			}
			kids := make([]contentkey.KID, len(req.Keys))
			for i := range kids {
				kids[i] = req.Keys[i].KID
			}
			came := &reply{header: w.Header(), body: w.Body.Bytes()}
			b.SetBytes(int64(len(came.body)))
			b.ReportAllocs()
			for b.Loop() {
				parts, f := s.plan(req, kids)
				if f != nil {
					b.Fatal(f)
				}
				a, f := s.read(&parts[0], came)
				if f != nil {
					b.Fatal(f)
				}
				h, f := s.collect(tn, req, []*answer{a})
				if f != nil || h.body == nil {
					b.Fatal(f, "not relayed")
				}
			}
		})
	}
}
