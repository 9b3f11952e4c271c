package playback_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/audit"
	"spekeasy/internal/playback"
	"spekeasy/internal/tenant"
)

// The account that Google publishes for tests.
const (
	testAESKey = "1ae8ccd0e7985cc0b6203a55855a1034afc252980e970ca90e5202689f947ab9"
	testAESIV  = "d58ce954203b7c9a9a9d467f59839249"
)

// service is a license service of a test. What it was asked is kept.
type service struct {
	*httptest.Server

	mu     sync.Mutex
	asked  []*http.Request
	bodies [][]byte
	answer func(w http.ResponseWriter, body []byte)
}

// answers changes what the service does.
func (s *service) answers(f func(w http.ResponseWriter, body []byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// calls is how often it was asked.
func (s *service) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// first is the first request with its body.
func (s *service) first() (*http.Request, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[0], s.bodies[0]
}

func newService(t *testing.T, answer func(w http.ResponseWriter, body []byte)) *service {
	s := &service{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.asked, s.bodies = append(s.asked, r), append(s.bodies, body)
		answer := s.answer
		s.mu.Unlock()
		answer(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

// openEnvelope verifies the signature of a request as the service does, over
// the bytes that came, and returns what is inside.
func openEnvelope(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var e struct {
		Request, Signature []byte
		Signer             string
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Signer != "widevine_test" {
		t.Fatalf("envelope %s: %v", body, err)
	}
	key, _ := hex.DecodeString(testAESKey)
	iv, _ := hex.DecodeString(testAESIV)
	block, err := aes.NewCipher(key)
	if err != nil || len(e.Signature) != 32 {
		t.Fatalf("signature of %d bytes, %v", len(e.Signature), err)
	}
	plain := make([]byte, 32)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, e.Signature)
	if sum := sha1.Sum(e.Request); string(plain) != string(sum[:])+strings.Repeat("\x0c", 12) {
		t.Fatal("the signature does not fit")
	}
	var inner map[string]any
	if err := json.Unmarshal(e.Request, &inner); err != nil {
		t.Fatal(err)
	}
	return inner
}

func widevineHouse(t *testing.T, answer func(inner map[string]any) string) (*house, *service) {
	s := newService(t, func(w http.ResponseWriter, body []byte) { io.WriteString(w, answer(openEnvelope(t, body))) })
	h := newHouse(t, tenant.Playback{Widevine: &tenant.WidevineProxy{
		URL: s.URL, Provider: "widevine_test", AESKey: testAESKey, AESIV: testAESIV, SecurityLevel: 3, HDCP: "HDCP_V2",
		Overrides: map[string]any{"use_policy_overrides_exclusively": true},
	}})
	return h, s
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// TestWidevineProxy: the challenge is parsed first, then licensed with our
// content key under the tenant's account; the player gets bare bytes (D-540,
// D-541, D-543). A studio's key is what it is for.
func TestWidevineProxy(t *testing.T) {
	data := drm.WidevineData{KeyIDs: [][]byte{studioKID[:]}}
	for name, pssh := range map[string]string{
		"members": `{"key_id":["` + b64(studioKID[:]) + `"],"content_id":"eA=="}`,
		"box":     `"` + b64(drm.Box{SystemID: drm.SystemID(kid(widevine)), Data: data.Append(nil)}.Append(nil)) + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			var inner []map[string]any
			h, _ := widevineHouse(t, func(m map[string]any) string {
				inner = append(inner, m)
				if m["parse_only"] == true {
					return `{"status":"OK","make":"Test","pssh_data":` + pssh + `}`
				}
				return `{"status":"OK","license":"` + b64([]byte("a license")) + `"}`
			})
			a := h.call("POST", "/license/widevine", h.token("acme", func(c *playback.Claims) { c.Contents = []string{"blockbuster"} }), "challenge")
			h.want(a, 200, "a license")
			if a.header.Get("Content-Type") != "application/octet-stream" || len(inner) != 2 {
				t.Fatalf("%v after %d calls", a.header, len(inner))
			}
			key := h.key(studioKID)
			want := map[string]any{"key_id": b64(studioKID[:]), "key": b64(key.Value[:]), "security_level": 3.0, "required_output_protection": map[string]any{"hdcp": "HDCP_V2"}}
			got, err := json.Marshal(inner[1]["content_key_specs"])
			if err != nil {
				t.Fatal(err)
			}
			if wanted, _ := json.Marshal([]any{want}); string(got) != string(wanted) {
				t.Errorf("specs %s, want %s", got, wanted)
			}
			if inner[1]["payload"] != b64([]byte("challenge")) || inner[1]["content_id"] != b64([]byte("blockbuster")) || inner[1]["use_policy_overrides_exclusively"] != true {
				t.Errorf("request %v", inner[1])
			}
			rec := h.records.last()
			if rec.Result != audit.Delivered || rec.Protection != audit.Encrypted || rec.ContentID != "blockbuster" || !slices.Equal(rec.KIDs, []contentkey.KID{studioKID}) {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// TestWidevineCertificate: the request of two bytes passes as it is (D-542),
// but not without a token.
func TestWidevineCertificate(t *testing.T) {
	h, s := widevineHouse(t, func(m map[string]any) string {
		if m["payload"] != "CAQ=" || m["parse_only"] != nil || m["content_key_specs"] != nil {
			t.Errorf("request %v", m)
		}
		return `{"status":"OK","license":"` + b64([]byte("certificate")) + `"}`
	})
	h.want(h.call("POST", "/license/widevine", h.token("acme", nil), "\x08\x04"), 200, "certificate")
	h.want(h.call("POST", "/license/widevine", "", "\x08\x04"), 401, "a playback token is required")
	if s.calls() != 1 {
		t.Errorf("%d calls", s.calls())
	}
}

// TestWidevineRefused: no license for what the token does not cover, and no
// word of the service's trouble to the player.
func TestWidevineRefused(t *testing.T) {
	answer := ""
	calls := 0
	h, _ := widevineHouse(t, func(map[string]any) string { calls++; return answer })
	token := h.token("acme", nil)
	for _, c := range []struct {
		name, answer string
		status       int
		text         string
		calls        int
	}{
		{"a key of another content", `{"status":"OK","pssh_data":{"key_id":["` + b64(studioKID[:]) + `"]}}`, 403, "the playback token is not for this content", 1},
		{"an unknown key", `{"status":"OK","pssh_data":{"key_id":["` + b64(strangeKID[:]) + `"]}}`, 404, "no such content key", 1},
		{"no key", `{"status":"OK"}`, 404, "no such content key", 1},
		{"a short key ID", `{"status":"OK","pssh_data":{"key_id":["AAA="]}}`, 502, "the license service gave no license", 1},
		{"the service refuses", `{"status":"SIGNATURE_FAILED"}`, 502, "the license service gave no license", 1},
		{"no JSON", `<html>`, 502, "the license service gave no license", 1},
		{"no license", `{"status":"OK","pssh_data":{"key_id":["` + b64(videoKID[:]) + `"]}}`, 502, "the license service gave no license", 2},
	} {
		answer, calls = c.answer, 0
		a := h.call("POST", "/license/widevine", token, "challenge")
		if a.status != c.status || a.body != c.text || calls != c.calls {
			t.Errorf("%s: %d %q after %d calls", c.name, a.status, a.body, calls)
		}
	}
	h.want(h.call("POST", "/license/widevine", token, ""), 400, "malformed license request")
	h.want(h.call("POST", "/license/widevine", h.token("other", nil), "x"), 403, "Widevine licenses are not offered")
}

// TestPlayReadyProxy: the challenge passes unread, with what the token is
// bound to beside it (D-606).
func TestPlayReadyProxy(t *testing.T) {
	s := newService(t, func(w http.ResponseWriter, _ []byte) {
		w.Header().Set("Content-Type", "text/xml; charset=utf-8")
		io.WriteString(w, "<soap>license</soap>")
	})
	h := newHouse(t, tenant.Playback{PlayReady: &tenant.PlayReadyProxy{URL: s.URL, Headers: map[string]tenant.Secret{"X-Customer": "s3cret"}}})
	token := h.token("acme", func(c *playback.Claims) { c.Contents, c.KIDs = []string{"blöck\n"}, []contentkey.KID{studioKID} })
	const action = `"http://schemas.microsoft.com/DRM/2007/03/protocols/AcquireLicense"`
	a := h.call("POST", "/license/playready", token, "<soap>\x00challenge</soap>", "SOAPAction", action)
	h.want(a, 200, "<soap>license</soap>")
	first, body := s.first()
	got := first.Header
	for name, want := range map[string]string{
		"SOAPAction": action, "X-Customer": "s3cret", "X-Spekeasy-Tenant": "acme", "X-Spekeasy-Content-Id": "bl%C3%B6ck%0A",
		"X-Spekeasy-Kid": studioKID.String(), "X-Spekeasy-Token-Id": "ticket-1", "Authorization": "",
	} {
		if got.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.Get(name), want)
		}
	}
	if string(body) != "<soap>\x00challenge</soap>" || a.header.Get("Content-Type") != "text/xml; charset=utf-8" {
		t.Errorf("%q, %v", body, a.header)
	}
	if rec := h.records.last(); rec.Result != audit.Delivered || rec.Protection != audit.Encrypted {
		t.Errorf("record %+v", rec)
	}
	for name, answer := range map[string]func(http.ResponseWriter, []byte){
		"status":   func(w http.ResponseWriter, _ []byte) { http.Error(w, "secret trouble", http.StatusInternalServerError) },
		"redirect": func(w http.ResponseWriter, _ []byte) { w.Header().Set("Location", "/x"); w.WriteHeader(307) },
		"large":    func(w http.ResponseWriter, _ []byte) { io.WriteString(w, strings.Repeat("x", 2<<20)) },
		"broken":   func(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) },
	} {
		s.answers(answer)
		if a := h.call("POST", "/license/playready", token, "x"); a.status != 502 || a.body != "the license service gave no license" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if strings.Contains(h.log.String(), s.URL) {
		t.Errorf("the log tells the service's address: %s", h.log.String())
	}
}

// TestFairPlay: the module of a test makes a license of what it is given; SPC
// and CKC are wrapped as the player has it (D-313, D-314).
func TestFairPlay(t *testing.T) {
	var asked playback.ModuleRequest
	s := newService(t, func(w http.ResponseWriter, body []byte) {
		asked = playback.ModuleRequest{}
		if err := json.Unmarshal(body, &asked); err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(playback.ModuleAnswer{CKC: []byte("CKC of " + string(asked.SPC))})
	})
	h := newHouse(t, tenant.Playback{FairPlay: &tenant.FairPlayModule{
		URL: s.URL, Token: "m0dule", Certificate: b64([]byte("certificate")), Lease: 600, HDCP: "TYPE-1",
	}})
	token := h.token("acme", func(c *playback.Claims) { c.Contents = []string{"blockbuster", "movie"} })
	single := h.token("acme", func(c *playback.Claims) { c.Contents, c.KIDs = nil, []contentkey.KID{studioKID} })
	spc := "\x00\xff spc"
	ckc := "CKC of " + spc
	json64, form64 := b64([]byte(spc)), url.QueryEscape(b64([]byte(spc)))
	mediaPackage := b64([]byte(`{"ContentId":"blockbuster","KeyId":"` + studioKID.String() + `","IV":"AAAA"}`))
	for _, c := range []struct{ name, token, target, contentType, body, want string }{
		{"raw, key ID in the query", token, "?kid=" + studioKID.String(), "application/octet-stream", spc, ckc},
		{"raw, no content type, key ID from the token", single, "", "", spc, ckc},
		{"raw, URI with key ID and IV", token, "?uri=" + url.QueryEscape("skd://"+studioKID.String()+":00112233445566778899aabbccddeeff"), "", spc, ckc},
		{"raw, URI of MediaPackage", token, "?uri=" + url.QueryEscape("skd://"+mediaPackage), "", spc, ckc},
		{"raw, URI of Shaka Packager", token, "?uri=" + url.QueryEscape("skd://"+b64(studioKID[:])), "", spc, ckc},
		{"raw, hexadecimal", token, "?assetId=" + strings.ReplaceAll(studioKID.String(), "-", ""), "", spc, ckc},
		{"form", token, "?kid=" + studioKID.String(), "application/x-www-form-urlencoded", "spc=" + form64, "<ckc>" + b64([]byte(ckc)) + "</ckc>"},
		{"form, not escaped", token, "", "application/x-www-form-urlencoded", "assetId=" + studioKID.String() + "&spc=" + json64, "<ckc>" + b64([]byte(ckc)) + "</ckc>"},
		{"JSON", token, "", "application/json; charset=utf-8", `{"spc":"` + json64 + `","assetId":"skd://` + studioKID.String() + `"}`, `{"ckc":"` + b64([]byte(ckc)) + `"}`},
	} {
		a := h.call("POST", "/license/fairplay"+c.target, c.token, c.body, "Content-Type", c.contentType)
		if a.status != 200 || a.body != c.want {
			t.Errorf("%s: %d %q, want %q", c.name, a.status, a.body, c.want)
		}
		key := h.key(studioKID)
		if string(asked.SPC) != spc || string(asked.Key) != string(key.Value[:]) || string(asked.IV) != string(key.IV[:]) || asked.KID != studioKID ||
			asked.ContentID != "blockbuster" || asked.Tenant != "acme" || asked.LeaseSeconds != 600 || asked.HDCP != "TYPE-1" {
			t.Errorf("%s: the module was told of %s, %s", c.name, asked.KID, asked.ContentID)
		}
	}
	if first, _ := s.first(); first.Header.Get("Authorization") != "Bearer m0dule" {
		t.Error("the module cannot know who asks")
	}
	if rec := h.records.last(); rec.Result != audit.Delivered || rec.Protection != audit.Encrypted || rec.ContentID != "blockbuster" {
		t.Errorf("record %+v", rec)
	}
	h.want(h.call("GET", "/license/fairplay/certificate", token, ""), 200, "certificate")
	h.want(h.call("GET", "/license/fairplay/certificate", "", ""), 401, "a playback token is required")

	n := s.calls()
	for _, c := range []struct {
		name, token, target, contentType, body string
		status                                 int
	}{
		{"no SPC", token, "?kid=" + studioKID.String(), "", "", 400},
		{"a form without one", token, "?kid=" + studioKID.String(), "application/x-www-form-urlencoded", "a=b", 400},
		{"a form with another", token, "?kid=" + studioKID.String(), "application/x-www-form-urlencoded", "spc=***", 400},
		{"JSON that is none", token, "?kid=" + studioKID.String(), "application/json", "spc", 400},
		{"for no key", token, "", "", spc, 400},
		{"for a key that is none", token, "?kid=film", "", spc, 400},
		{"for a key of another token", single, "?kid=" + videoKID.String(), "", spc, 403},
		{"for an unknown key", token, "?kid=" + strangeKID.String(), "", spc, 404},
		{"another tenant", h.token("other", nil), "?kid=" + studioKID.String(), "", spc, 403},
	} {
		if a := h.call("POST", "/license/fairplay"+c.target, c.token, c.body, "Content-Type", c.contentType); a.status != c.status {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
	if s.calls() != n {
		t.Error("the module was asked for what is refused")
	}
	s.answers(func(w http.ResponseWriter, _ []byte) { io.WriteString(w, `{"error":"x"}`) })
	h.want(h.call("POST", "/license/fairplay", single, spc), 502, "the license service gave no license")
}
