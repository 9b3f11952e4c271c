package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

const (
	signingKey = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	signingIV  = "ffeeddccbbaa99887766554433221100"
)

// packagerTenant has a signer and test:test.
func packagerTenant() tenant.Settings {
	s := exampleTenant()
	s.Aliases = []string{"widevine_acme"}
	s.Credentials = append(s.Credentials, tenant.Credential{Name: "packager", WidevineSigner: &tenant.WidevineSigner{
		Name: "acme-signer", AESKey: signingKey, AESIV: signingIV,
	}}, tenant.Credential{Name: "certificate", DeliveryCertificate: &tenant.DeliveryCertificate{SHA256: tenant.Fingerprint(strings.Repeat("00", 32))}})
	return s
}

const inner = `{"content_id":"bW92aWU=","policy":"","tracks":[{"type":"SD"},{"type":"AUDIO"}],"drm_types":["WIDEVINE"],"protection_scheme":"CENC"}`

// signed is a get-content-key request.
func signed(t *testing.T, request, signer string, change func(*widevine.Envelope)) string {
	t.Helper()
	key, err := (&tenant.WidevineSigner{Name: "x", AESKey: signingKey, AESIV: signingIV}).Verifier()
	if err != nil {
		t.Fatal(err)
	}
	e := widevine.Envelope{Request: []byte(request), Signer: signer}
	e.Signature = key.(*widevine.AESSigner).Sign(e.Request)
	if change != nil {
		change(&e)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestGetContentKey sends requests as Shaka Packager does, and reads each
// answer and what was recorded of it (D-501 to D-526).
func TestGetContentKey(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, packagerTenant(), nil, serverOptions{random: zeros{}, now: time.Now, recorder: openAudit(t, dir)})
	id := exampleTenant().ID
	for _, c := range []struct {
		name, path, body string
		basic            bool
		status           int
		want             widevine.Status // "" for an answer that is text
	}{
		{"signed", id, signed(t, inner, "acme-signer", nil), false, 200, widevine.OK},
		{"by another name of the tenant", "Widevine_ACME", signed(t, inner, "acme-signer", nil), false, 200, widevine.OK},
		{"unsigned, with a password", id, signed(t, inner, "", func(e *widevine.Envelope) { e.Signature = nil }), true, 200, widevine.OK},
		{"unsigned", id, signed(t, inner, "", func(e *widevine.Envelope) { e.Signature = nil }), false, 200, widevine.SignatureFailed},
		{"unknown signer", id, signed(t, inner, "nobody", nil), false, 200, widevine.SignatureFailed},
		{"wrong signature", id, signed(t, inner, "acme-signer", func(e *widevine.Envelope) { e.Signature[0] ^= 1 }), false, 200, widevine.SignatureFailed},
		{"short signature", id, signed(t, inner, "acme-signer", func(e *widevine.Envelope) { e.Signature = e.Signature[:16] }), false, 200, widevine.SignatureFailed},
		{"another request under the signature", id, signed(t, inner, "acme-signer", func(e *widevine.Envelope) { e.Request = append(e.Request, ' ') }), false, 200, widevine.SignatureFailed},
		{"no envelope", id, "{}", false, 200, widevine.SignatureFailed},
		{"no envelope, with a password", id, "{}", true, 200, widevine.MalformedRequest},
		{"another tenant", "somebody", signed(t, inner, "acme-signer", nil), false, 200, widevine.AccessDenied},
		{"unknown track", id, signed(t, strings.Replace(inner, "SD", "8K", 1), "acme-signer", nil), false, 200, widevine.TrackTypeUnknown},
		{"no content ID", id, signed(t, strings.Replace(inner, "content_id", "x", 1), "acme-signer", nil), false, 200, widevine.ContentIDMissing},
		{"too long", id, strings.Repeat("x", 65<<10), false, 413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Like Shaka Packager: chunked, without a length.
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cenc/getcontentkey/"+c.path, io.MultiReader(strings.NewReader(c.body)))
			r.ContentLength = -1
			if c.basic {
				r.SetBasicAuth("test", "test")
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != c.status || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("WWW-Authenticate") != "" {
				t.Fatalf("status %d, header %v", w.Code, w.Header())
			}
			records := keyRequests(t, dir)
			rec := records[len(records)-1]
			if c.want == "" {
				return
			}
			if w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("type %s", w.Header().Get("Content-Type"))
			}
			tracks, _, err := widevine.ReadAnswer(w.Body.Bytes())
			if c.want == widevine.OK {
				credential := map[bool]string{true: exampleTenant().Credentials[0].Name, false: "packager"}[c.basic]
				if err != nil || len(tracks) != 2 || rec.Result != audit.Delivered || rec.Tenant != id || rec.Credential != credential || rec.Profile != "get-content-key" ||
					rec.ContentID != "movie" || rec.Scheme != "cenc" || rec.Protection != audit.Clear || len(rec.KIDs) != 2 || rec.KIDs[0] != tracks[0].KID {
					t.Errorf("%d tracks, %v, record %+v", len(tracks), err, rec)
				}
				return
			}
			if e, ok := errors.AsType[*widevine.Error](err); !ok || e.Status != c.want || len(tracks) != 0 {
				t.Errorf("%v, want %s", err, c.want)
			}
			if rec.Result != audit.Refused || rec.Protection != "" || !strings.Contains(rec.Error, string(c.want)) {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// counted notes what is counted of key requests.
type counted []string

func (c *counted) KeyRequest(profile, class string, status int, _ time.Duration) {
	*c = append(*c, fmt.Sprint(profile, " ", class, " ", status))
}

// TestPackagersAreCounted counts a refusal as one, although its HTTP status is
// 200.
func TestPackagersAreCounted(t *testing.T) {
	settings := packagerTenant()
	settings.Class = "vod"
	s := newServer(t, settings, nil, serverOptions{random: zeros{}, now: time.Now})
	var c counted
	s.(*server.Server).Observe(&c, nil)
	for _, request := range []string{
		signed(t, inner, "acme-signer", nil),
		signed(t, inner, "nobody", nil),
		signed(t, "{}", "acme-signer", nil),
		signed(t, `{"content_id":"YQ==","group_id":"YQ==","tracks":[]}`, "acme-signer", nil),
	} {
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cenc/getcontentkey/"+settings.ID, strings.NewReader(request)))
	}
	if want := []string{"get-content-key vod 200", "  401", "get-content-key vod 422", "get-content-key vod 403"}; !slices.Equal(c, want) {
		t.Errorf("counted %q, want %q", []string(c), want)
	}
}

// TestSignersAreThrottled answers 429 to whoever guesses on, in which the
// packager sees no word of the protocol to retry (D-504, D-526).
func TestSignersAreThrottled(t *testing.T) {
	s := packagerTenant()
	a, err := auth.New([]tenant.Settings{s}, auth.Options{Throttle: auth.Throttle{Burst: 2, Every: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	h := server.New(a, tenant.Static{}, tells{}, audit.Off{}, "spekeasy/test", slog.New(slog.DiscardHandler)).WithPackagers(nil)
	for n := range 3 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cenc/getcontentkey/"+exampleTenant().ID,
			strings.NewReader(signed(t, inner, "acme-signer", func(e *widevine.Envelope) { e.Signature[3] ^= 1 }))))
		if want := map[bool]int{true: 200, false: 429}[n < 2]; w.Code != want || w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Errorf("attempt %d: status %d %v", n+1, w.Code, w.Header())
		}
	}
}

// TestPackagerRoutes holds methods, credentials and refusals of the other
// protocols.
func TestPackagerRoutes(t *testing.T) {
	s := newServer(t, packagerTenant(), nil, serverOptions{random: zeros{}, now: time.Now})
	const soap = `<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><AcquirePackagingData xmlns="http://schemas.microsoft.com/DRM/2007/03/protocols">` +
		`<challenge><StreamProtectionRequests><StreamInformation><ProgramIdentifier>movie</ProgramIdentifier></StreamInformation></StreamProtectionRequests></challenge></AcquirePackagingData></soap:Body></soap:Envelope>`
	id := exampleTenant().ID
	for _, c := range []struct {
		method, path, body string
		anonymous          bool
		status             int
		kind, want         string
	}{
		{"POST", "/playready/packaging/" + id, soap, false, 200, "text/xml; charset=utf-8", "<KeyData>"},
		{"POST", "/playready/packaging/" + id + "?scheme=cbcs", soap, false, 200, "text/xml; charset=utf-8", "<KeyData>"},
		{"POST", "/playready/packaging/" + id + "?scheme=cens", soap, false, 422, "text/plain; charset=utf-8", "the scheme is neither cenc nor cbcs"},
		{"POST", "/playready/packaging/somebody", soap, false, 403, "text/plain; charset=utf-8", "forbidden"},
		{"POST", "/playready/packaging/" + id, soap, true, 401, "text/plain; charset=utf-8", "unauthorized"},
		{"POST", "/playready/packaging/" + id, "x", false, 422, "text/plain; charset=utf-8", "malformed request"},
		{"GET", "/playready/packaging/" + id, "", false, 405, "text/plain; charset=utf-8", "method not allowed"},
		{"GET", "/cenc/getcontentkey/" + id, "", false, 405, "text/plain; charset=utf-8", "method not allowed"},
		{"GET", "/cpix/content/series/episode%201?scheme=cbcs&systems=widevine", "", false, 200, "application/xml", `contentId="series/episode 1"`},
		{"HEAD", "/cpix/content/movie", "", false, 405, "text/plain; charset=utf-8", "method not allowed"},
		{"GET", "/cpix/content/movie", "", true, 401, "text/plain; charset=utf-8", "unauthorized"},
		{"GET", "/cpix/content/movie?tenant=somebody", "", false, 403, "text/plain; charset=utf-8", "forbidden"},
		{"GET", "/cpix/content/?scheme=cbcs", "", false, 422, "text/plain; charset=utf-8", "a content ID has 1 to 1024 bytes"},
		{"GET", "/cpix/content/nothing?labels=speke", "", false, 422, "text/plain; charset=utf-8", "no track types are on record for this content"},
		{"POST", "/cpix", "<CPIX/>", false, 422, "text/plain; charset=utf-8", "Malformed CPIX document"},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body))
		if !c.anonymous {
			r.SetBasicAuth("test", "test")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.status || w.Header().Get("Content-Type") != c.kind || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s %.200s", c.method, c.path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}

// TestPostedCPIX answers a document without SPEKE's headers as SPEKE 2.0 does.
func TestPostedCPIX(t *testing.T) {
	s := newServer(t, packagerTenant(), nil, serverOptions{random: zeros{}, now: time.Now})
	const body = `<CPIX xmlns="urn:dashif:org:cpix" contentId="movie" version="2.3"><ContentKeyList>` +
		`<ContentKey kid="00112233-4455-6677-8899-aabbccddeeff" commonEncryptionScheme="cenc"/></ContentKeyList><DRMSystemList>` +
		`<DRMSystem kid="00112233-4455-6677-8899-aabbccddeeff" systemId="edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"><PSSH/></DRMSystem></DRMSystemList>` +
		`<ContentKeyUsageRuleList><ContentKeyUsageRule kid="00112233-4455-6677-8899-aabbccddeeff" intendedTrackType="SD"><VideoFilter/></ContentKeyUsageRule></ContentKeyUsageRuleList></CPIX>`
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/cpix", bytes.NewReader([]byte(body)))
	r.SetBasicAuth("test", "test")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	doc, err := cpix.Parse(w.Body.Bytes())
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("status %d %s, %v", w.Code, w.Body, err)
	}
	if key, err := doc.ContentKeys[0].Secret.Plain(); err != nil || key == (contentkey.Value{}) || doc.UsageRules[0].IntendedTrackType != "SD" {
		t.Errorf("no key in the answer: %v", err)
	}
}
