package widevine_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/widevine"
)

// vectors are requests that Shaka Packager 3.4.2 sent.
type vectors struct {
	Credentials struct {
		Signer string `json:"signer"`
		AESKey string `json:"aes_key"`
		AESIV  string `json:"aes_iv"`
	} `json:"credentials"`
	Requests []struct {
		Name         string          `json:"name"`
		PostBody     json.RawMessage `json:"post_body"`
		RequestJSON  string          `json:"request_json"`
		RSAPublicKey string          `json:"rsa_public_key_pem"`
	} `json:"requests"`
	Signatures []struct {
		Name      string `json:"name"`
		Message   []byte `json:"message"`
		Signature []byte `json:"signature"`
	} `json:"signatures"`
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("testdata/shaka.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil || len(v.Requests) != 9 || len(v.Signatures) != 2 {
		t.Fatalf("%d requests, %d signatures, %v", len(v.Requests), len(v.Signatures), err)
	}
	return v
}

func testSigner(t testing.TB, v *vectors) *widevine.AESSigner {
	t.Helper()
	s, err := widevine.NewAESSigner(unhex(t, v.Credentials.AESKey), unhex(t, v.Credentials.AESIV))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSignatures holds D-501 to D-503 with what real clients signed: each
// signature verifies, over the bytes as received, and no other one does.
func TestSignatures(t *testing.T) {
	v := readVectors(t)
	signer := testSigner(t, &v)
	signed := 0
	for _, r := range v.Requests {
		e, err := widevine.ParseEnvelope(r.PostBody)
		if err != nil || string(e.Request) != r.RequestJSON {
			t.Fatalf("%s: %q, %v", r.Name, e.Request, err)
		}
		var verifier widevine.Verifier = signer
		switch {
		case e.Signer == "":
			if len(e.Signature) != 0 || verifier.Verify(e.Request, e.Signature) {
				t.Errorf("%s: an absent signature verifies", r.Name)
			}
			continue
		case r.RSAPublicKey != "":
			block, _ := pem.Decode([]byte(r.RSAPublicKey))
			key, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			if verifier, err = widevine.NewRSAVerifier(key.(*rsa.PublicKey)); err != nil {
				t.Fatal(err)
			}
		}
		signed++
		if !verifier.Verify(e.Request, e.Signature) {
			t.Errorf("%s: the signature does not verify", r.Name)
		}
		e.Request[len(e.Request)-2] ^= 1
		if verifier.Verify(e.Request, e.Signature) {
			t.Errorf("%s: the signature verifies over another request", r.Name)
		}
		e.Request[len(e.Request)-2] ^= 1
		e.Signature[0] ^= 1
		if verifier.Verify(e.Request, e.Signature) {
			t.Errorf("%s: another signature verifies", r.Name)
		}
	}
	if signed != 8 {
		t.Errorf("%d signed requests", signed)
	}
	for _, s := range v.Signatures {
		if got := signer.Sign(s.Message); !bytes.Equal(got, s.Signature) || !signer.Verify(s.Message, s.Signature) {
			t.Errorf("%s: signed %x", s.Name, got)
		}
	}
}

func TestSigningKeys(t *testing.T) {
	v := readVectors(t)
	for _, c := range []struct{ key, iv int }{{0, 16}, {24, 16}, {31, 16}, {33, 16}, {32, 0}, {32, 15}, {16, 8}} {
		if _, err := widevine.NewAESSigner(make([]byte, c.key), make([]byte, c.iv)); err == nil {
			t.Errorf("a key of %d bytes with an IV of %d is taken", c.key, c.iv)
		}
	}
	signer := testSigner(t, &v)
	if got := fmt.Sprintf("%v %+v %#v %x", signer, signer, signer, signer); strings.Contains(got, "1a") || strings.Contains(got, "{") {
		t.Errorf("a signing key prints as %s", got)
	}
	if !widevine.IsTestKey(unhex(t, v.Credentials.AESKey)) || widevine.IsTestKey(make([]byte, 32)) {
		t.Error("the public test key is not told from others (D-505)")
	}
}

func TestEnvelopeFaults(t *testing.T) {
	for _, body := range []string{"", "x", "null", "[]", "{}", `{"request":""}`, `{"request":1}`, `{"request":"?"}`, `{"request":"e30","signer":[]}`, `{"request":"e30="} x`} {
		if _, err := widevine.ParseEnvelope([]byte(body)); !errors.Is(err, widevine.ErrEnvelope) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestRequests reads what Shaka Packager sends (D-510).
func TestRequests(t *testing.T) {
	all := widevine.TrackTypes()
	content := []byte("test content id")
	want := map[string]widevine.Request{
		"shaka-cenc":               {ContentID: content, Tracks: all, Scheme: contentkey.Cenc},
		"shaka-cbcs-policy":        {ContentID: content, Tracks: all, Scheme: contentkey.Cbcs},
		"shaka-rotation-first":     {ContentID: content, Tracks: all, Scheme: contentkey.Cenc},
		"shaka-rotation-window-0":  {ContentID: content, Tracks: all, Scheme: contentkey.Cenc, PeriodCount: 10, PeriodSeconds: 2},
		"shaka-rotation-window-10": {ContentID: content, Tracks: all, Scheme: contentkey.Cenc, FirstPeriod: 10, PeriodCount: 10, PeriodSeconds: 2},
		"shaka-unsigned":           {ContentID: content, Tracks: all, Scheme: contentkey.Cenc},
		"shaka-rsa-signed":         {ContentID: content, Tracks: all, Scheme: contentkey.Cenc},
		"shaka-decryption-pssh_data": {Tracks: all, Scheme: contentkey.Cenc,
			PSSHData: unhex(t, "12101a32c1f7ba5adacacc895e0a3be77ec61a0461636d65")},
	}
	for _, r := range readVectors(t).Requests {
		got, err := widevine.ParseRequest([]byte(r.RequestJSON))
		if r.Name == "shaka-entitlement-group-feature" {
			if status(err) != widevine.AccessDenied {
				t.Errorf("%s: %v (D-116)", r.Name, err)
			}
			continue
		}
		w, ok := want[r.Name]
		if !ok || err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		if len(w.PSSHData) > 0 {
			w.PSSHData = got.PSSHData // compared below
			data := base64.StdEncoding.EncodeToString(got.PSSHData)
			if !strings.Contains(r.RequestJSON, data) {
				t.Errorf("%s: pssh_data %s", r.Name, data)
			}
		}
		if !reflect.DeepEqual(*got, w) {
			t.Errorf("%s: %+v", r.Name, *got)
		}
	}
}

func status(err error) widevine.Status {
	if e, ok := errors.AsType[*widevine.Error](err); ok {
		return e.Status
	}
	return ""
}

// TestLenient reads other spellings of the same request (D-510).
func TestLenient(t *testing.T) {
	want := widevine.Request{ContentID: []byte{0xfb, 0xff}, Tracks: []string{"HD"}, Scheme: contentkey.Cbcs,
		PlayReady: true, FirstPeriod: 7, PeriodCount: 2, PeriodSeconds: 60}
	for _, text := range []string{
		`{"content_id":"+/8=","tracks":[{"type":"HD"}],"protection_scheme":"CBCS","drm_types":["WIDEVINE","PLAYREADY"],"first_crypto_period_index":7,"crypto_period_count":2,"crypto_period_seconds":60}`,
		`{"contentId":"-_8","tracks":[{"type":"HD","x":1}],"protectionScheme":1667392371,"drmTypes":["PLAYREADY","NEW"],"firstCryptoPeriodIndex":"7","cryptoPeriodCount":"2","cryptoPeriodSeconds":60}`,
		`{"unknown":{"a":[]},"policy":"p","pssh_data":"","group_id":null,"content_id":"+/8","tracks":[{"type":"HD"}],"protection_scheme":"CBCS","drm_types":["PLAYREADY"],"first_crypto_period_index":7,"crypto_period_count":2,"crypto_period_seconds":60}`,
	} {
		got, err := widevine.ParseRequest([]byte(text))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	if got := want.Periods(); !reflect.DeepEqual(got, []uint32{7, 8}) {
		t.Errorf("periods %v", got)
	}
}

func TestRequestFaults(t *testing.T) {
	const tracks = `"tracks":[{"type":"HD"}]`
	for text, want := range map[string]widevine.Status{
		``:                                  widevine.MalformedRequest,
		`[]`:                                widevine.MalformedRequest,
		`null`:                              widevine.MalformedRequest,
		`{"content_id":5,` + tracks + `}`:   widevine.MalformedRequest,
		`{"content_id":"?",` + tracks + `}`: widevine.MalformedRequest,
		`{"content_id":"YQ==","contentId":"YQ==",` + tracks + `}`:             widevine.MalformedRequest,
		`{"content_id":"` + strings.Repeat("YWFh", 342) + `",` + tracks + `}`: widevine.MalformedRequest,
		`{` + tracks + `}`:                                                                                             widevine.ContentIDMissing,
		`{"content_id":"",` + tracks + `}`:                                                                             widevine.ContentIDMissing,
		`{"content_id":"YQ==","pssh_data":"YQ==",` + tracks + `}`:                                                      widevine.TooManyContent,
		`{"content_id":"YQ=="}`:                                                                                        widevine.TrackTypeMissing,
		`{"content_id":"YQ==","tracks":[]}`:                                                                            widevine.TrackTypeMissing,
		`{"content_id":"YQ==","tracks":[{}]}`:                                                                          widevine.TrackTypeMissing,
		`{"content_id":"YQ==","tracks":[{"type":"hd"}]}`:                                                               widevine.TrackTypeUnknown,
		`{"content_id":"YQ==","tracks":[{"type":"HD"},{"type":"HD"}]}`:                                                 widevine.MalformedRequest,
		`{"content_id":"YQ==","tracks":"HD"}`:                                                                          widevine.MalformedRequest,
		`{"content_id":"YQ==","protection_scheme":"CENS",` + tracks + `}`:                                              widevine.MalformedRequest,
		`{"content_id":"YQ==","protection_scheme":"cbcs",` + tracks + `}`:                                              widevine.MalformedRequest,
		`{"content_id":"YQ==","enable_entitlement_license":true,` + tracks + `}`:                                       widevine.AccessDenied,
		`{"content_id":"YQ==","group_id":"YQ==",` + tracks + `}`:                                                       widevine.AccessDenied,
		`{"content_id":"YQ==","crypto_period_count":2,` + tracks + `}`:                                                 widevine.MalformedRequest,
		`{"content_id":"YQ==","first_crypto_period_index":0,` + tracks + `}`:                                           widevine.MalformedRequest,
		`{"content_id":"YQ==","first_crypto_period_index":0,"crypto_period_count":0,` + tracks + `}`:                   widevine.NoRequestedCryptoPeriod,
		`{"content_id":"YQ==","first_crypto_period_index":0,"crypto_period_count":101,` + tracks + `}`:                 widevine.MalformedRequest,
		`{"content_id":"YQ==","first_crypto_period_index":-1,"crypto_period_count":1,` + tracks + `}`:                  widevine.MalformedRequest,
		`{"content_id":"YQ==","first_crypto_period_index":4294967295,"crypto_period_count":2,` + tracks + `}`:          widevine.MalformedRequest,
		`{"pssh_data":"YQ==","first_crypto_period_index":0,"crypto_period_count":2,` + tracks + `}`:                    widevine.MalformedRequest,
		`{"content_id":"YQ==","first_crypto_period_index":0,"crypto_period_count":1.5,"x":0,"tracks":[{"type":"HD"}]}`: widevine.MalformedRequest,
	} {
		r, err := widevine.ParseRequest([]byte(text))
		if status(err) != want || r != nil {
			t.Errorf("%.90s: %v, want %s", text, err, want)
		}
	}
	if _, err := widevine.ParseRequest([]byte(`{"content_id":"YQ==","first_crypto_period_index":4294967295,"crypto_period_count":1,` + tracks + `}`)); err != nil {
		t.Errorf("the last period of all: %v", err)
	}
}

// TestAnswer writes an answer and reads it as packagers do (D-520 to D-523).
func TestAnswer(t *testing.T) {
	period := uint32(0)
	in := []widevine.Track{
		{Type: "SD", KID: contentkey.KID{1}, Key: contentkey.Value{2}, PSSH: []widevine.PSSH{{"WIDEVINE", []byte("d"), []byte("b")}}},
		{Type: "AUDIO", KID: contentkey.KID{3}, Key: contentkey.Value{4}, IV: contentkey.IV{5}, HasIV: true, Period: &period,
			PSSH: []widevine.PSSH{{"WIDEVINE", []byte("e"), []byte("c")}}},
	}
	body, err := widevine.Answer(in, false)
	if err != nil {
		t.Fatal(err)
	}
	var envelope struct{ Response []byte }
	if err := json.Unmarshal(body, &envelope); err != nil {
		t.Fatal(err)
	}
	const want = `{"status":"OK","drm":[{"type":"WIDEVINE","system_id":"edef8ba979d64acea3c827dcd51d21ed"}],"tracks":[` +
		`{"type":"SD","key_id":"AQAAAAAAAAAAAAAAAAAAAA==","key":"AgAAAAAAAAAAAAAAAAAAAA==","pssh":[{"drm_type":"WIDEVINE","data":"ZA==","boxes":"Yg=="}]},` +
		`{"type":"AUDIO","key_id":"AwAAAAAAAAAAAAAAAAAAAA==","key":"BAAAAAAAAAAAAAAAAAAAAA==","iv":"BQAAAAAAAAAAAAAAAAAAAA==","pssh":[{"drm_type":"WIDEVINE","data":"ZQ==","boxes":"Yw=="}],"crypto_period_index":0}],` +
		`"already_used":false}`
	if string(envelope.Response) != want {
		t.Errorf("answer\n%s, want\n%s", envelope.Response, want)
	}
	got, used, err := widevine.ReadAnswer(body)
	if err != nil || used || !reflect.DeepEqual(got, in) {
		t.Errorf("read %v %t %v", got, used, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", got, got[0], got[1]); strings.Contains(text, "2 0 0") {
		t.Errorf("a track prints as %s", text)
	}

	body, err = widevine.Refusal(widevine.SignatureFailed)
	if err != nil || string(body) != `{"response":"eyJzdGF0dXMiOiJTSUdOQVRVUkVfRkFJTEVEIn0="}` {
		t.Errorf("refusal %s, %v", body, err)
	}
	if _, _, err := widevine.ReadAnswer(body); status(err) != widevine.SignatureFailed {
		t.Errorf("a refusal reads as %v", err)
	}
}

// FuzzParse holds that no request breaks the parsers, that refusals have a
// status of their own, and that what is taken is within bounds.
func FuzzParse(f *testing.F) {
	for _, r := range readVectors(f).Requests {
		f.Add([]byte(r.PostBody))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := widevine.ParseEnvelope(body)
		if err != nil {
			e.Request = body // the other parser may as well
		}
		r, err := widevine.ParseRequest(e.Request)
		if err != nil {
			if s := status(err); s == "" || s == widevine.OK || r != nil {
				t.Fatalf("%v, %+v", err, r)
			}
			return
		}
		if len(r.Tracks) == 0 || len(r.Tracks) > 5 || len(r.Periods()) > widevine.MaxPeriods ||
			(len(r.ContentID) == 0) == (len(r.PSSHData) == 0) || r.Scheme != contentkey.Cenc && r.Scheme != contentkey.Cbcs {
			t.Fatalf("%+v", r)
		}
	})
}
