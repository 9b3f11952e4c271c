package vendorsim_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/encryptor"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/vendorsim"
)

const firstKID = "98ee5596-cd3e-a20d-163a-e382420c6eff"

// TestAxinom is the set-up of Axinom's guide: MediaConvert with SPEKE 1.0
// behind Basic with tenant ID and management key.
func TestAxinom(t *testing.T) {
	s := start(t, vendorsim.Axinom, vendorsim.Options{})
	a := s.post(s.up.V1.String(), testdata(t, "v1.xml"), s.basic(), header("Content-Type", "text/xml"))
	d := a.document(t)
	if d.ID != "movie1" || !slices.Equal(kids(d), []string{firstKID}) || a.Header.Get("Speke-User-Agent") == "" {
		t.Errorf("content ID %q, key IDs %v, header %v", d.ID, kids(d), a.Header)
	}
	d = s.post(s.up.V2.String(), testdata(t, "v2.xml"), s.basic(), v2).document(t)
	if got := signal(t, d, cpix.HLSSignalingData); !strings.Contains(got, `URI="skd://`+d.ContentKeys[0].KID+":") {
		t.Errorf("FairPlay tag %s has not the form of Axinom", got)
	}
	// As Axinom's own template asks: no intendedTrackType.
	plain := regexp.MustCompile(` intendedTrackType="\w+"`).ReplaceAll(testdata(t, "v2.xml"), nil)
	s.post(s.up.V2.String(), plain, s.basic(), v2).document(t)

	a = s.post(s.up.V2.String()+"?overrideKeyIds=true", testdata(t, "v2.xml"), s.basic(), v2)
	want := kidrule.SHA256XOR.KID(&kidrule.Input{Tenant: s.up.User, ContentID: "movie2", Track: "VIDEO", Scheme: contentkey.Cbcs}).String()
	if got := kids(a.document(t)); got[0] != want || got[0] == got[1] {
		t.Errorf("overridden key IDs %v, want %s first", got, want)
	}
	for name, c := range map[string]struct {
		url    string
		body   []byte
		with   []with
		status int
	}{
		"no credential":         {s.up.V1.String(), testdata(t, "v1.xml"), nil, 401},
		"wrong management key":  {s.up.V1.String(), testdata(t, "v1.xml"), []with{func(r *http.Request) { r.SetBasicAuth(s.up.User, "x") }}, 401},
		"v2 without its header": {s.up.V2.String(), testdata(t, "v2.xml"), []with{s.basic()}, 400},
		"v2 at the URL of v1":   {s.up.V1.String(), testdata(t, "v2.xml"), []with{s.basic(), v2}, 400},
		"not CPIX":              {s.up.V1.String(), []byte("<a/>"), []with{s.basic()}, 400},
		"not XML by its type":   {s.up.V1.String(), testdata(t, "v1.xml"), []with{s.basic(), header("Content-Type", "text/plain")}, 415},
		"a certificate":         {s.up.V1.String(), request(t, encryptor.Options{Service: encryptor.MediaConvert, Recipients: recipients(t)}).Body, []with{s.basic()}, 400},
	} {
		a := s.post(c.url, c.body, c.with...)
		if a.StatusCode != c.status || a.Header.Get("X-AxDRM-ErrorMessage") == "" {
			t.Errorf("%s: status %s, message %q", name, a.Status, a.Header.Get("X-AxDRM-ErrorMessage"))
		}
	}
}

// TestInsysOAuth is the set-up of Insys's guide: a token first, with its
// parameters in the query and no body, then the request with the token.
func TestInsysOAuth(t *testing.T) {
	var clock atomic.Int64
	s := start(t, vendorsim.Insys, vendorsim.Options{
		TokenLifetime: time.Minute, Now: func() time.Time { return time.Unix(clock.Load(), 0) },
	})
	tokenURL := s.up.TokenURL.String() + "?grant_type=client_credentials&scope=" + s.up.Scope
	a := s.post(tokenURL, nil, s.basic())
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
		TokenType   string `json:"token_type"`
	}
	if err := json.Unmarshal(a.body, &token); err != nil || token.ExpiresIn != 60 || token.TokenType != "Bearer" {
		t.Fatalf("%s %v", a.body, err)
	}
	bearer := header("Authorization", "Bearer "+token.AccessToken)
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), bearer).document(t)
	a = s.post(s.up.V2.String(), testdata(t, "v2.xml"), bearer, v2)
	d := a.document(t)
	if !strings.Contains(string(a.body), `xmlns:speke="urn:aws:amazon:com:speke"`) {
		t.Error("the v2 answer does not declare the namespace of v1")
	}
	if d.ContentID != "movie2" || kids(d)[0] != "11111111-2222-4333-8444-555555555551" {
		t.Errorf("content ID %q, key IDs %v", d.ContentID, kids(d))
	}

	form := []byte("grant_type=client_credentials&scope=" + s.up.Scope)
	if a := s.post(s.up.TokenURL.String(), form, s.basic(), header("Content-Type", "application/x-www-form-urlencoded")); a.StatusCode != 400 {
		t.Errorf("parameters in the body: status %s", a.Status)
	}
	if a := s.post(tokenURL, nil); a.StatusCode != 401 {
		t.Errorf("token without a client: status %s", a.Status)
	}
	if a := s.post(strings.Replace(s.up.V1.String(), "tenantId=", "tenantId=x", 1), testdata(t, "v1.xml"), bearer); a.StatusCode != 403 {
		t.Errorf("another tenant: status %s", a.Status)
	}
	for name, change := range map[string]with{"no token": header("X-None", ""), "wrong token": header("Authorization", "Bearer x"), "Basic": s.basic()} {
		if a := s.post(s.up.V1.String(), testdata(t, "v1.xml"), change); a.StatusCode != 401 || !json.Valid(a.body) {
			t.Errorf("%s: status %s, %s", name, a.Status, a.body)
		}
	}
	clock.Add(60)
	if a := s.post(s.up.V1.String(), testdata(t, "v1.xml"), bearer); a.StatusCode != 401 {
		t.Errorf("expired token: status %s", a.Status)
	}
}

func TestInsysOtherWaysIn(t *testing.T) {
	s := start(t, vendorsim.Insys, vendorsim.Options{Auth: vendorsim.APIKey})
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), header("X-API-KEY", s.up.Secret)).document(t)
	if a := s.post(s.up.V1.String(), testdata(t, "v1.xml"), header("X-API-KEY", "x")); a.StatusCode != 401 {
		t.Errorf("wrong API key: status %s", a.Status)
	}
	s = start(t, vendorsim.Insys, vendorsim.Options{Auth: vendorsim.Basic})
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), s.basic()).document(t)
	if a := s.post(s.up.V1.String(), testdata(t, "v1.xml")); a.StatusCode != 401 {
		t.Errorf("no login: status %s", a.Status)
	}
	if _, err := vendorsim.New(vendorsim.Axinom, vendorsim.Options{Auth: vendorsim.OAuth}); err == nil {
		t.Error("Axinom has OAuth")
	}
}

// TestPallyCon is the set-up of PallyCon's guide: the token in the query, a
// heartbeat, and key IDs that are never those of the request.
func TestPallyCon(t *testing.T) {
	s := start(t, vendorsim.PallyCon, vendorsim.Options{})
	res, err := http.Get(s.up.Heartbeat.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(b) != "SUCCESS" {
		t.Errorf("heartbeat %s %q", res.Status, b)
	}
	speke := s.up.V1.String() + "?enc-token=" + strings.NewReplacer("+", "%2B", "=", "%3D").Replace(s.up.Secret)
	a := s.post(speke, testdata(t, "v1.xml"))
	d := a.document(t)
	if kids(d)[0] == firstKID || d.DRMSystems[0].KID != kids(d)[0] || kids(s.post(speke, testdata(t, "v1.xml")).document(t))[0] != kids(d)[0] {
		t.Errorf("key IDs %v", kids(d))
	}
	if d.DRMSystems[0].SystemID != "EDEF8BA9-79D6-4ACE-A3C8-27DCD51D21ED" {
		t.Errorf("system ID %s", d.DRMSystems[0].SystemID)
	}
	if iv, _ := base64.StdEncoding.DecodeString(d.ContentKeys[0].ExplicitIV); string(iv) != "0123456789abcdef" {
		t.Errorf("IV %q", iv)
	}
	if got := signal(t, d, cpix.PSSH); !strings.Contains(got, "inkaentworks") {
		t.Errorf("Widevine data %q without provider", got)
	}
	live := s.post(speke, testdata(t, "v1-fairplay-period.xml")).document(t)
	if got := signal(t, live, cpix.URIExtXKey); got != "skd://channel10000000000000080" {
		t.Errorf("live key URI %s", got)
	}
	if next := s.post(speke, []byte(strings.ReplaceAll(string(testdata(t, "v1-fairplay-period.xml")), "128", "129"))).document(t); kids(next)[0] == kids(live)[0] {
		t.Error("the next period has the same key ID")
	}

	a = s.post(s.up.V2.String()+s.up.Secret, testdata(t, "v2.xml"), v2)
	d = a.document(t)
	for _, want := range []string{"<speke:ProtectionHeader>", "<cpix:URIExtXKey>", "<cpix:HLSSignalingData>", `<cpix:HLSSignalingData playlist="master">`, "xmlns:speke"} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("no %s in the v2 answer", want)
		}
	}
	if len(d.UsageRules) != 0 || kids(d)[0] == kids(d)[1] {
		t.Errorf("usage rules %v, key IDs %v", d.UsageRules, kids(d))
	}
	if got := s.post(s.up.V2.String()+s.up.Secret, testdata(t, "v2.xml"), v2); !slices.Equal(got.body, a.body) {
		t.Error("the same request has another answer")
	}
	for name, url := range map[string]string{"no token": s.up.V1.String(), "wrong token": s.up.V2.String() + "x"} {
		a := s.post(url, testdata(t, "v1.xml"))
		if a.StatusCode != 200 || !json.Valid(a.body) || a.Header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%s: status %s, %s", name, a.Status, a.body)
		}
	}
	sealed := s.post(speke, request(t, encryptor.Options{Service: encryptor.MediaConvert, Recipients: recipients(t)}).Body)
	if sealed.StatusCode != 200 || !json.Valid(sealed.body) {
		t.Errorf("a certificate: status %s, %s", sealed.Status, sealed.body)
	}
}

// TestKeyOS is the set-up of the KeyOS guide: a header for clear keys of
// SPEKE 1.0, a registered certificate for all else, and the key ID override.
func TestKeyOS(t *testing.T) {
	s := start(t, vendorsim.KeyOS, vendorsim.Options{})
	user := header("keyos-userkey", s.up.Secret)
	d := s.post(s.up.V1.String(), testdata(t, "v1.xml"), user).document(t)
	if !slices.Equal(kids(d), []string{firstKID}) {
		t.Errorf("key IDs %v", kids(d))
	}
	uuid5 := kids(s.post(s.up.V1.String(), testdata(t, "v1.xml"), user, header("kid-override", "uuidv5")).document(t))[0]
	vendors := kids(s.post(s.up.V1.String(), testdata(t, "v1.xml"), user, header("kid-override", "keyos-uuidv5")).document(t))[0]
	if want := kidrule.UUIDv5.KID(&kidrule.Input{ContentID: "movie1"}).String(); uuid5 != want || vendors == want || vendors == firstKID {
		t.Errorf("overrides %s and %s, want %s first", uuid5, vendors, want)
	}
	for name, c := range map[string]struct {
		url    string
		body   []byte
		with   []with
		status int
	}{
		"no user key":       {s.up.V1.String(), testdata(t, "v1.xml"), nil, 403},
		"wrong user key":    {s.up.V1.String(), testdata(t, "v1.xml"), []with{header("keyos-userkey", "x")}, 403},
		"v2 in clear":       {s.up.V2.String(), testdata(t, "v2.xml"), []with{user, v2}, 403},
		"unknown override":  {s.up.V1.String(), testdata(t, "v1.xml"), []with{user, header("kid-override", "md5")}, 400},
		"v1 at the v2 path": {s.up.V2.String(), testdata(t, "v1.xml"), []with{user}, 400},
	} {
		if a := s.post(c.url, c.body, c.with...); a.StatusCode != c.status || !strings.Contains(string(a.body), "errormsg") {
			t.Errorf("%s: status %s, %s", name, a.Status, a.body)
		}
	}
}

// TestKeyOSByCertificate is SPEKE 2 of KeyOS: no header, the certificate in
// the request is the customer.
func TestKeyOSByCertificate(t *testing.T) {
	mine, other := recipients(t), recipients(t)
	for _, c := range []struct {
		name    string
		version encryptor.Version
		to      []*encryptor.Recipient
		status  int
	}{
		{"v1 to a registered certificate", encryptor.V10, mine, 200},
		{"v2 to a registered certificate", encryptor.V20, mine, 200},
		{"v2 to another certificate", encryptor.V20, other, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, vendorsim.KeyOS, vendorsim.Options{Registered: certificates(mine)})
			req := request(t, encryptor.Options{Service: encryptor.MediaPackageV1, Version: c.version, Recipients: c.to})
			url := s.up.V1.String()
			if c.version != encryptor.V10 {
				url = s.up.V2.String()
			}
			a := s.post(url, req.Body, func(r *http.Request) {
				for name, values := range req.Header {
					r.Header[name] = values
				}
			})
			if a.StatusCode != c.status {
				t.Fatalf("status %s, %s", a.Status, a.body)
			}
			if c.status == 200 {
				checkAnswer(t, req, a)
			}
		})
	}
}

// TestGeneric holds that the generic provider's answers pass every check of
// an encryptor, in all versions.
func TestGeneric(t *testing.T) {
	s := start(t, vendorsim.Generic, vendorsim.Options{})
	for _, version := range []encryptor.Version{encryptor.V10, encryptor.V20, encryptor.V21} {
		for _, sealed := range []bool{false, true} {
			o := encryptor.Options{Service: encryptor.MediaPackageV1, Version: version}
			if version == encryptor.V21 {
				o.Service = encryptor.MediaPackageV2
			}
			if sealed {
				o.Recipients = recipients(t)
			}
			req := request(t, o)
			a := s.post(s.up.V1.String(), req.Body, s.basic(), func(r *http.Request) {
				for name, values := range req.Header {
					r.Header[name] = values
				}
			})
			if a.StatusCode != 200 {
				t.Fatalf("SPEKE %s: %s %s", version, a.Status, a.body)
			}
			checkAnswer(t, req, a)
		}
	}
	if a := s.post(s.up.V1.String(), testdata(t, "v1.xml")); a.StatusCode != 401 {
		t.Errorf("no credential: status %s", a.Status)
	}
	broken := []byte(strings.Replace(string(testdata(t, "v2.xml")), `contentId="movie2" `, "", 1))
	if a := s.post(s.up.V2.String(), broken, s.basic(), v2); a.StatusCode != 422 || string(a.body) != "Missing CPIX@contentId" {
		t.Errorf("status %s, %s", a.Status, a.body)
	}
}

// checkAnswer wants an answer that an encryptor takes.
func checkAnswer(t *testing.T, req *encryptor.Request, a *answer) {
	t.Helper()
	got, err := encryptor.ReadAnswer(req, a.Header, a.body)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range got.Check() {
		if !v.Advice {
			t.Error(v)
		}
	}
}
