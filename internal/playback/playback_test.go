package playback_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/playback"
	"spekeasy/internal/tenant"
)

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func ask(kids ...contentkey.KID) string {
	var texts []string
	for _, k := range kids {
		texts = append(texts, b64url(k[:]))
	}
	b, _ := json.Marshal(map[string]any{"kids": texts, "type": "temporary"})
	return string(b)
}

// TestClearKeyLicense: keys in the order asked for, each once, those that are
// not to be had left out (D-401, D-403).
func TestClearKeyLicense(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true})
	token := h.token("acme", nil)
	a := h.call("POST", "/license/clearkey", token, ask(audioKID, strangeKID, videoKID, audioKID, studioKID))
	got := h.licensed(a)
	for _, k := range []contentkey.KID{audioKID, videoKID} {
		key := h.key(k)
		if got[b64url(k[:])] != b64url(key.Value[:]) {
			t.Errorf("key %s is missing or wrong", k)
		}
	}
	if len(got) != 2 || strings.Index(a.body, b64url(audioKID[:])) > strings.Index(a.body, b64url(videoKID[:])) {
		t.Errorf("%d keys: %s", len(got), a.body)
	}
	if a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.header)
	}
	rec := h.records.last()
	if rec.Event != audit.License || rec.Result != audit.Delivered || rec.Tenant != "acme" || rec.Credential != "playback token ticket-1" ||
		rec.ContentID != "movie" || rec.Protection != audit.Clear || len(rec.KIDs) != 2 || len(rec.Requested) != 4 {
		t.Errorf("record %+v", rec)
	}
}

// TestLicenseRequests: what players send is taken, the rest refused (D-402,
// D-405).
func TestLicenseRequests(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true})
	token := h.token("acme", nil)
	padded := base64.StdEncoding.EncodeToString(audioKID[:])
	for _, body := range []string{
		ask(videoKID), `{"kids":["ABEiM0RVZneImaq7zN3u_w"]}`, `{"kids":["` + padded + `"],"new":[1]}`,
		`{"kids":["ABEiM0RVZneImaq7zN3u_w"],"type":"persistent-license"}`,
	} {
		if got := h.licensed(h.call("POST", "/license/clearkey", token, body)); len(got) != 1 {
			t.Errorf("%s: %d keys", body, len(got))
		}
	}
	many := strings.TrimSuffix(strings.Repeat(`"ABEiM0RVZneImaq7zN3u_w",`, 65), ",")
	for _, body := range []string{"", "x", "[]", "{}", `{"kids":[]}`, `{"kids":["AA"]}`, `{"kids":[1]}`, `{"kids":["ABEiM0RVZneImaq7zN3u_w"],"type":"lasting"}`, `{"kids":[` + many + `]}`} {
		h.want(h.call("POST", "/license/clearkey", token, body), 400, "malformed license request")
	}
	h.want(h.call("POST", "/license/clearkey", token, strings.Repeat(" ", 17<<10)), 413, "request body too large")
	h.want(h.call("PUT", "/license/clearkey", token, ask(videoKID)), 405, "method not allowed")
}

// TestHLSKey: 16 bytes at the address that key tags name (D-431, D-433,
// SX-CKD-01, SX-CKD-03).
func TestHLSKey(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true})
	h.obtain("a/b c", []string{hlsAES128}, strangeKID)
	token := h.token("acme", func(c *playback.Claims) { c.Contents = append(c.Contents, "a/b c") })
	key := h.key(videoKID)
	a := h.call("GET", "/client/movie/"+videoKID.String()+"?token="+token, "", "")
	h.want(a, 200, string(key.Value[:]))
	if a.header.Get("Content-Type") != "application/octet-stream" || a.header.Get("Content-Length") != "16" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.header)
	}
	key = h.key(strangeKID)
	h.want(h.call("GET", "/client/a%2Fb%20c/"+strangeKID.String(), token, ""), 200, string(key.Value[:]))
	for _, target := range []string{"/client/other/" + videoKID.String(), "/client/movie/nonsense", "/client/movie/" + orphanKID.String()[:35] + "0"} {
		h.want(h.call("GET", target, token, ""), 404, "no such content key")
	}
	if strings.Contains(h.log.String(), "eyJ") {
		t.Errorf("a token is in the log: %s", h.log.String())
	}
}

// TestStudioKeys: content keys that serve a studio's DRM, or that nobody
// asked for, are not given out in clear unless the tenant accepts it
// (SX-CKD-04).
func TestStudioKeys(t *testing.T) {
	all := func(c *playback.Claims) { c.KIDs = []contentkey.KID{studioKID, orphanKID, videoKID} }
	for _, c := range []struct {
		name     string
		settings tenant.Playback
		want     int
	}{
		{"not accepted", tenant.Playback{ClearKey: true}, 1},
		{"accepted", tenant.Playback{ClearKey: true, AcceptStudioKeys: true}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, c.settings)
			token := h.token("acme", all)
			if got := h.licensed(h.call("POST", "/license/clearkey", token, ask(studioKID, orphanKID, videoKID))); len(got) != c.want {
				t.Errorf("%d keys", len(got))
			}
			a := h.call("GET", "/client/blockbuster/"+studioKID.String(), token, "")
			if refused := a.status == 403; refused == c.settings.AcceptStudioKeys {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	// A key turns into a studio's when an encryptor asks for it so.
	h := newHouse(t, tenant.Playback{ClearKey: true})
	h.obtain("movie", []string{widevine}, videoKID)
	h.want(h.call("POST", "/license/clearkey", h.token("acme", nil), ask(videoKID)), 403, "this content key serves a DRM system and is not given out in clear")
	// And without the opt-in there is nothing at all.
	h = newHouse(t, tenant.Playback{})
	h.want(h.call("POST", "/license/clearkey", h.token("acme", nil), ask(videoKID)), 403, "content keys are not given out in clear")
	h.want(h.call("GET", "/client/movie/"+videoKID.String(), h.token("acme", nil), ""), 403, "content keys are not given out in clear")
}

// TestTokens: who does not get in, and what such a player hears.
func TestTokens(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true, Origins: []string{"https://tv.example"}})
	good := h.token("acme", nil)
	head, rest, _ := strings.Cut(good, ".")
	payload, _, _ := strings.Cut(rest, ".")
	foreign := func(secret []byte, alg jose.SignatureAlgorithm, claims any) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: secret}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, c := range []struct {
		name, token string
		status      int
		text        string
	}{
		{"none", "", 401, "a playback token is required"},
		{"nonsense", "nonsense", 401, "the playback token is not valid"},
		{"without signature", head + "." + payload + ".", 401, "the playback token is not valid"},
		{"alg none", b64url([]byte(`{"alg":"none"}`)) + "." + payload + ".", 401, "the playback token is not valid"},
		{"another secret", foreign(make([]byte, 32), jose.HS256, decode(t, payload)), 401, "the playback token is not valid"},
		{"another algorithm", foreign(make([]byte, 64), jose.HS512, decode(t, payload)), 401, "the playback token is not valid"},
		{"too long", strings.Repeat("a", 9<<10), 401, "the playback token is not valid"},
		{"another tenant's", h.token("other", nil), 404, "no such content key"},
		{"for another content", h.token("acme", func(c *playback.Claims) { c.Contents = []string{"blockbuster"} }), 403, "the playback token is not for this content"},
		{"for another key", h.token("acme", func(c *playback.Claims) { c.Contents, c.KIDs = nil, []contentkey.KID{audioKID} }), 403, "the playback token is not for this content"},
		{"not yet valid", h.token("acme", func(c *playback.Claims) {
			c.NotBefore, c.Expiry = jwt.NewNumericDate(h.now.Add(time.Minute)), jwt.NewNumericDate(h.now.Add(time.Hour))
		}), 401, "the playback token is not valid yet"},
		{"expired", h.token("acme", func(c *playback.Claims) {
			c.NotBefore, c.Expiry = jwt.NewNumericDate(h.now.Add(-time.Hour)), jwt.NewNumericDate(h.now)
		}), 401, "the playback token has expired"},
	} {
		a := h.call("POST", "/license/clearkey", c.token, ask(videoKID))
		if a.status != c.status || a.body != c.text {
			t.Errorf("%s: %d %q, want %d %q", c.name, a.status, a.body, c.status, c.text)
		}
		if c.status == 401 && a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge", c.name)
		}
		if rec := h.records.last(); rec.Result != audit.Refused || rec.Status != c.status || !strings.Contains(rec.Error, c.text) {
			t.Errorf("%s: record %+v", c.name, rec)
		}
	}
	if got := h.licensed(h.call("POST", "/license/clearkey", good, ask(videoKID))); len(got) != 1 {
		t.Error("the good token does not open")
	}
	if strings.Contains(h.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
}

// decode reads the claims of a token.
func decode(t *testing.T, payload string) (claims map[string]any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// TestTokenBounds: what is signed well and still is no token.
func TestTokenBounds(t *testing.T) {
	secret := strings.Repeat("x", 32)
	h := newHouse(t, tenant.Playback{ClearKey: true, MaxLifetime: 2 * time.Hour, Secret: tenant.Secret(base64.StdEncoding.EncodeToString([]byte(secret)))})
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(secret)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := func() map[string]any {
		return map[string]any{
			"aud": playback.Audience, "jti": "1", "tenant": "acme", "contents": []string{"movie"},
			"iat": h.now.Unix(), "exp": h.now.Add(time.Hour).Unix(),
		}
	}
	for _, c := range []struct {
		name   string
		change func(map[string]any)
		status int
	}{
		{"of another issuer with the shared secret", func(map[string]any) {}, 200},
		{"no audience", func(m map[string]any) { delete(m, "aud") }, 401},
		{"another audience", func(m map[string]any) { m["aud"] = "spekeasy" }, 401},
		{"no ID", func(m map[string]any) { delete(m, "jti") }, 401},
		{"no expiry", func(m map[string]any) { delete(m, "exp") }, 401},
		{"no beginning", func(m map[string]any) { delete(m, "iat") }, 401},
		{"for nothing", func(m map[string]any) { delete(m, "contents") }, 401},
		{"for too long", func(m map[string]any) { m["exp"] = h.now.Add(3 * time.Hour).Unix() }, 401},
		{"no tenant", func(m map[string]any) { delete(m, "tenant") }, 401},
		{"a tenant without playback", func(m map[string]any) { m["tenant"] = "closed" }, 401},
		{"a key ID that is none", func(m map[string]any) { m["kids"] = []string{"x"} }, 401},
	} {
		m := whole()
		c.change(m)
		text, err := jwt.Signed(signer).Claims(m).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		if a := h.call("POST", "/license/clearkey", text, ask(videoKID)); a.status != c.status {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
	}
}

// TestOrigins: a token and a tenant can be bound to web origins.
func TestOrigins(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true, Origins: []string{"https://tv.example", "https://app.example"}})
	anywhere := h.token("acme", nil)
	bound := h.token("acme", func(c *playback.Claims) { c.Origins = []string{"https://tv.example"} })
	for _, c := range []struct {
		name, token, origin string
		status              int
	}{
		{"no browser", anywhere, "", 200},
		{"an origin of the tenant", anywhere, "https://app.example", 200},
		{"another origin", anywhere, "https://evil.example", 403},
		{"the token's origin", bound, "https://tv.example", 200},
		{"the tenant's but not the token's", bound, "https://app.example", 403},
		{"a bound token without an origin", bound, "", 403},
		{"a page of no origin", anywhere, "null", 403},
	} {
		var headers []string
		if c.origin != "" {
			headers = []string{"Origin", c.origin}
		}
		a := h.call("POST", "/license/clearkey", c.token, ask(videoKID), headers...)
		if a.status != c.status {
			t.Errorf("%s: %d %s", c.name, a.status, a.body)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: the page cannot read why", c.name)
		}
	}
}

// TestPreflight: browsers ask before they send Authorization (SX-CKD-02).
func TestPreflight(t *testing.T) {
	h := newHouse(t, tenant.Playback{})
	for target, method := range map[string]string{"/license/clearkey": "POST", "/client/x/" + videoKID.String(): "GET", "/license/widevine": "POST"} {
		a := h.call("OPTIONS", target, "", "", "Origin", "https://tv.example", "Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type")
		if a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Methods") != method || a.header.Get("Access-Control-Allow-Origin") != "*" ||
			!strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Authorization, Content-Type") {
			t.Errorf("%s: %d %v", target, a.status, a.header)
		}
	}
	if len(h.records.all) != 0 {
		t.Error("a question that opens nothing is recorded")
	}
}

// TestRevocation: a token ends by its ID, for its tenant alone, and all end
// with the number of the key.
func TestRevocation(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true})
	first, second := h.token("acme", nil), h.token("acme", func(c *playback.Claims) { c.ID = "ticket-2" })
	for _, of := range []struct{ tenant, id string }{{"other", "ticket-2"}, {"acme", "ticket-1"}, {"acme", "ticket-1"}} {
		if err := h.secrets.Revoke(t.Context(), of.tenant, of.id); err != nil {
			t.Fatal(err)
		}
	}
	h.want(h.call("POST", "/license/clearkey", first, ask(videoKID)), 401, "the playback token was revoked")
	if a := h.call("POST", "/license/clearkey", second, ask(videoKID)); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	next := *h.tenants["acme"]
	next.Playback = &tenant.Playback{ClearKey: true, KeyNumber: 1}
	h.tenants["acme"] = &next
	h.want(h.call("POST", "/license/clearkey", second, ask(videoKID)), 401, "the playback token is not valid")

	// A content key that was deleted is gone for every token.
	if _, err := h.custody.Delete(t.Context(), "acme", []contentkey.KID{videoKID}); err != nil {
		t.Fatal(err)
	}
	third := h.token("acme", func(c *playback.Claims) { c.ID = "ticket-3" })
	h.want(h.call("POST", "/license/clearkey", third, ask(strangeKID, videoKID)), 410, "this content key was revoked")
	h.want(h.call("POST", "/license/clearkey", third, ask(strangeKID)), 404, "no such content key")
}

// TestCredentials: encryptors' credentials open only where the tenant says so.
func TestCredentials(t *testing.T) {
	basic := []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("enc:oder"))}
	h := newHouse(t, tenant.Playback{ClearKey: true})
	h.want(h.call("POST", "/license/clearkey", "", ask(videoKID), basic...), 401, "a playback token is required")
	h = newHouse(t, tenant.Playback{ClearKey: true, AcceptCredentials: true})
	if got := h.licensed(h.call("POST", "/license/clearkey", "", ask(videoKID), basic...)); len(got) != 1 {
		t.Error("no key")
	}
	if rec := h.records.last(); rec.Credential != "encoder" || rec.Tenant != "acme" {
		t.Errorf("record %+v", rec)
	}
	basic[1] = "Basic " + base64.StdEncoding.EncodeToString([]byte("enc:wrong"))
	h.want(h.call("POST", "/license/clearkey", "", ask(videoKID), basic...), 401, "unauthorized")
	for range 30 {
		h.call("POST", "/license/clearkey", "", ask(videoKID), basic...)
	}
	h.want(h.call("POST", "/license/clearkey", "", ask(videoKID), basic...), 429, "too many failed attempts")
}

// TestNoRecordNoKey: what cannot be recorded is not given out.
func TestNoRecordNoKey(t *testing.T) {
	h := newHouse(t, tenant.Playback{ClearKey: true})
	token := h.token("acme", nil)
	h.records.fail = true
	h.want(h.call("POST", "/license/clearkey", token, ask(videoKID)), 503, "temporarily unavailable")
	h.want(h.call("GET", "/client/movie/"+videoKID.String(), token, ""), 503, "temporarily unavailable")
	h.want(h.call("GET", "/client/movie/"+videoKID.String(), "", ""), 503, "temporarily unavailable")
}

// FuzzToken holds that no text is taken for a token and none breaks the
// reader.
func FuzzToken(f *testing.F) {
	f.Add("")
	f.Add("a.b.c")
	f.Add(b64url([]byte(`{"alg":"HS256"}`)) + "." + b64url([]byte(`{"tenant":"acme","kids":["x"]}`)) + ".AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := playback.Read(text); err == nil && strings.Count(text, ".") != 2 {
			t.Errorf("%q was read", text)
		}
	})
}
