package speke_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/speke"
)

const (
	widevineID  = "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"
	playReadyID = "9a04f079-9840-4286-ab92-e65be0885f95"
	fairPlayID  = "94ce86fb-07ff-4f43-adb8-93d2fa968ca2"
	aes128ID    = "3ea8778f-7742-4bf9-b18b-e834b2acbd47"
	commonID    = "1077efec-c0b2-4d02-ace3-3c1e52e2fb4b"
)

// policy offers every system with all that it can signal.
func policy(t testing.TB) *speke.Policy {
	t.Helper()
	s := drm.Settings{HLS: drm.HLSAES128{URL: "https://keys.example.com"}, ClearKey: drm.ClearKeyDASH{LicenseURL: "https://lic.example.com"}}
	v1, err := drm.V1(s)
	if err != nil {
		t.Fatal(err)
	}
	v2, err := drm.V2(s)
	if err != nil {
		t.Fatal(err)
	}
	return &speke.Policy{V1: v1, V2: v2}
}

func header(version string) http.Header {
	h := http.Header{}
	if version != "" {
		h.Set(speke.HeaderVersion, version)
	}
	return h
}

// kid returns the text of the n-th key ID.
func kid(n int) string {
	return contentkey.KID{0: 0xab, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}.String()
}

// base is a request of SPEKE 2.0 for two keys that breaks no rule.
var base = `<c:CPIX contentId="movie" version="2.3" xmlns:c="urn:dashif:org:cpix" xmlns:p="urn:ietf:params:xml:ns:keyprov:pskc">` +
	`<c:ContentKeyList>` +
	`<c:ContentKey kid="` + kid(1) + `" commonEncryptionScheme="cbcs"/>` +
	`<c:ContentKey kid="` + kid(2) + `" commonEncryptionScheme="cbcs"/>` +
	`</c:ContentKeyList><c:DRMSystemList>` +
	`<c:DRMSystem kid="` + kid(1) + `" systemId="` + widevineID + `"><c:PSSH/><c:HLSSignalingData playlist="media"/></c:DRMSystem>` +
	`<c:DRMSystem kid="` + kid(2) + `" systemId="` + fairPlayID + `"><c:HLSSignalingData playlist="media"/><c:HLSSignalingData playlist="master"/></c:DRMSystem>` +
	`</c:DRMSystemList>` +
	`<c:ContentKeyPeriodList><c:ContentKeyPeriod id="p1" index="1"/></c:ContentKeyPeriodList>` +
	`<c:ContentKeyUsageRuleList>` +
	`<c:ContentKeyUsageRule kid="` + kid(1) + `" intendedTrackType="VIDEO"><c:KeyPeriodFilter periodId="p1"/><c:VideoFilter/></c:ContentKeyUsageRule>` +
	`<c:ContentKeyUsageRule kid="` + kid(2) + `" intendedTrackType="AUDIO"><c:KeyPeriodFilter periodId="p1"/><c:AudioFilter/></c:ContentKeyUsageRule>` +
	`</c:ContentKeyUsageRuleList></c:CPIX>`

// baseV1 is a request of SPEKE 1.0 that breaks no rule.
var baseV1 = `<c:CPIX id="movie" xmlns:c="urn:dashif:org:cpix" xmlns:s="urn:aws:amazon:com:speke">` +
	`<c:ContentKeyList><c:ContentKey kid="` + kid(1) + `"/></c:ContentKeyList>` +
	`<c:DRMSystemList><c:DRMSystem kid="` + kid(1) + `" systemId="` + playReadyID + `"><c:PSSH/><s:ProtectionHeader/></c:DRMSystem></c:DRMSystemList>` +
	`</c:CPIX>`

// edit replaces the first occurrence of each odd text by the even one behind
// it; every odd text must be there.
func edit(t testing.TB, doc string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(doc, pairs[i]) {
			t.Fatalf("%q is not in the document", pairs[i])
		}
		doc = strings.Replace(doc, pairs[i], pairs[i+1], 1)
	}
	return doc
}

// grants gives each key of a request a value and IV of its own.
func grants(r *speke.Request) []speke.Grant {
	out := make([]speke.Grant, len(r.Keys))
	for i := range out {
		out[i] = speke.Grant{KID: r.Keys[i].KID, Value: contentkey.Value{0: 1, 15: byte(i)}, IV: contentkey.IV{0: 2, 15: byte(i)}}
	}
	return out
}

// answer fills a request as a key provider does and reads what came out.
func answer(r *speke.Request, g []speke.Grant, s *cpix.Sealer) (string, *cpix.Document, error) {
	signals := make([]drm.Signaling, len(r.Systems))
	for i := range r.Systems {
		sys := &r.Systems[i]
		var err error
		signals[i], err = sys.Signal(&drm.Track{
			ContentID: r.ContentID, KID: g[sys.Key].KID, Key: g[sys.Key].Value, IV: r.TrackIV(sys.Key, g[sys.Key].IV), Scheme: r.Scheme,
		}, sys.Want)
		if err != nil {
			return "", nil, fmt.Errorf("signal: %w", err)
		}
	}
	out, err := r.Answer(g, signals, s)
	if err != nil {
		return "", nil, fmt.Errorf("answer: %w", err)
	}
	doc, err := cpix.Parse(out)
	if err != nil {
		return string(out), nil, fmt.Errorf("the answer does not parse: %w", err)
	}
	return string(out), doc, nil
}

// mustAnswer parses and answers a request that breaks no rule.
func mustAnswer(t *testing.T, version, body string) (string, *cpix.Document) {
	t.Helper()
	r, err := speke.ParseRequest(header(version), []byte(body), policy(t))
	if err != nil {
		t.Fatal(err)
	}
	text, doc, err := answer(r, grants(r), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return text, doc
}

// refusal parses a request and returns the text of its refusal, or "" when it
// was accepted.
func refusal(t *testing.T, version, body string, p *speke.Policy) string {
	t.Helper()
	_, err := speke.ParseRequest(header(version), []byte(body), p)
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*speke.Error](err)
	if !ok || e.Status != http.StatusUnprocessableEntity {
		t.Fatalf("%v is not a refusal with 422", err)
	}
	return e.Text
}

type testCertificate struct {
	text string
	cert *x509.Certificate
}

// certificate makes a recipient's certificate. Nothing is opened with it here,
// so its key is a number that nobody knows the factors of.
func certificate(t testing.TB) testCertificate {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &rsa.PublicKey{N: n.Add(n, big.NewInt(1)), E: 65537}, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return testCertificate{base64.StdEncoding.EncodeToString(der), cert}
}
