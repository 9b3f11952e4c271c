package tenant_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/tenant"
)

// read takes settings as an operator writes them.
func read(t *testing.T, text string) *tenant.Settings {
	t.Helper()
	s := &tenant.Settings{ID: "example"}
	if err := yaml.UnmarshalWithOptions([]byte(text), s, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s
}

const secret = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA==" // base64 of 35 bytes

// TestDefaults holds what a tenant has that set nothing (design decisions 1,
// 2, 7 and 8).
func TestDefaults(t *testing.T) {
	built, err := (&tenant.Settings{ID: "example"}).Build()
	if err != nil {
		t.Fatal(err)
	}
	if built.ID != "example" || built.Source.Name() != "random" || !built.KIDRule.IsAsAsked() || built.Reuse.RefuseKID || built.Reuse.RefuseScheme {
		t.Errorf("%+v", built)
	}
	p := built.Policy
	if p.MaxKeys != 0 || p.V1Scheme != 0 || p.Contract.Strict || p.Contract.SeparateAudio || p.Contract.RefuseTracks != nil ||
		p.Output.HDCP != nil || p.Output.Robustness != nil || p.Output.AllowedCPC != nil {
		t.Errorf("policy %+v", p)
	}
	names := func(systems []drm.System) string {
		var all []string
		for _, s := range systems {
			all = append(all, s.Name())
		}
		return strings.Join(all, ", ")
	}
	if got := names(p.V1); got != "Widevine, PlayReady, FairPlay, HLS AES-128 (SPEKE v1), W3C common PSSH" {
		t.Errorf("v1 offers %s", got)
	}
	if got := names(p.V2); got != "Widevine, PlayReady, FairPlay, HLS AES-128, W3C common PSSH, HLS SAMPLE-AES, Clear Key" {
		t.Errorf("v2 offers %s", got)
	}
	cert := &x509.Certificate{NotAfter: time.Unix(0, 0)}
	if err := built.Certificates.Check(cert, time.Now()); err != nil {
		t.Errorf("an expired certificate that nobody pinned: %v", err)
	}
}

// TestSettings holds that each member gets where it has an effect.
func TestSettings(t *testing.T) {
	built, err := read(t, `
key_source: {kind: hkdf, seed: `+secret+`}
kid_rule: uuidv5
kid_reuse: refuse
scheme_reuse: refuse
v1_scheme: cbcs
max_keys: 20
contract: {separate_audio: true, refuse_track_types: [UHD], strict: true}
certificates: {refuse_expired: true, pins: ["00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff"]}
output: {hdcp: {UHD: TYPE-1}, robustness: {widevine: HW_SECURE_ALL}, allowed_cpc: {9A04F079-9840-4286-ab92-e65be0885f95: "com.microsoft.playready:SL3000"}}
`).Build()
	if err != nil {
		t.Fatal(err)
	}
	p := built.Policy
	if built.Source.Name() != "hkdf" || built.KIDRule.String() != "uuidv5" || !built.Reuse.RefuseKID || !built.Reuse.RefuseScheme ||
		p.V1Scheme != contentkey.Cbcs || p.MaxKeys != 20 || !p.Contract.SeparateAudio || !p.Contract.Strict || p.Contract.RefuseTracks[0] != "UHD" {
		t.Errorf("%+v", built)
	}
	if p.Output.HDCP["UHD"].Level != "TYPE-1" || p.Output.Robustness[drm.Widevine{}.ID()] != "HW_SECURE_ALL" || p.Output.AllowedCPC[drm.PlayReady{}.ID()] != "com.microsoft.playready:SL3000" {
		t.Errorf("output %+v", p.Output)
	}
	if c := built.Certificates; !c.RefuseExpired || len(c.Pins) != 1 || c.Pins[0][31] != 0xff {
		t.Errorf("certificates %+v", c)
	}
}

// TestFaults holds that each fault is found, that its error begins with the
// member's name, and that no error holds a secret (D-231, D-233).
func TestFaults(t *testing.T) {
	short := base64.StdEncoding.EncodeToString([]byte("secret secret"))
	for text, want := range map[string]string{
		`id: ""`:                                "id: ",
		`id: "Upper"`:                           "id: ",
		`id: "a b"`:                             "id: ",
		`id: "` + strings.Repeat("a", 65) + `"`: "id: ",
		`key_source: {kind: dice}`:              "key_source: kind: ",
		`key_source: {seed: ` + secret + `}`:    "key_source: seed: ",
		`key_source: {kind: random, seed: ` + secret + `}`:                                   "key_source: seed: ",
		`key_source: {kind: hkdf}`:                                                           "key_source: ",
		`key_source: {kind: hkdf, seed: ` + short + `}`:                                      "key_source: ",
		`key_source: {kind: hkdf, seed: "` + secret + `*"}`:                                  "key_source: seed: ",
		`key_source: {kind: playready-seed, seed: ` + short + `}`:                            "key_source: seed: ",
		`key_source: {kind: playready-seed, seed: XVBovsmzhP9gRIZxWfFta3VVRPzVEWmJsazEJ46I}`: "key_source: seed: ",
		`kid_rule: axinom`:                "kid_rule: ",
		`kid_reuse: maybe`:                "kid_reuse: ",
		`scheme_reuse: "no"`:              "scheme_reuse: ",
		`max_keys: -1`:                    "max_keys: ",
		`v1_scheme: cbc1`:                 "v1_scheme: ",
		`certificates: {pins: ["00:11"]}`: "certificates: pins: ",
		`certificates: {pins: ["` + strings.Repeat("zz", 32) + `"]}`:       "certificates: pins: ",
		`output: {hdcp: {UHD: TYPE-2}}`:                                    "output: hdcp: ",
		`output: {robustness: {widevin: x}}`:                               "output: robustness: ",
		`output: {allowed_cpc: {81376844-f976-481e-a84e-cc25d39b0b33: x}}`: "output: allowed_cpc: ",
		`drm: {playready: {la_url: "not a url"}}`:                          "drm: playready.la_url: ",
		`drm: {playready: {cenc_version: "5.0"}}`:                          "drm: playready.cenc_version: ",
		`drm: {fairplay: {uri: "kidd"}}`:                                   "drm: fairplay.uri: ",
		`drm: {hls: {url: "http://example.com"}}`:                          "drm: hls.url: ",
		`drm: {hls: {url: "https://a/?token=` + secret + `"}}`:             "drm: hls.url: ",
		`drm: {clear_key: {license_url: "ftp://x"}}`:                       "drm: clear_key.license_url: ",
		`drm: {widevine: {cenc_method: NONE}}`:                             "drm: widevine.cenc_method: ",
	} {
		built, err := read(t, text).Build()
		if err == nil {
			t.Errorf("%s was taken: %+v", text, built)
			continue
		}
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %q does not begin with %q", text, err, want)
		}
		for _, s := range []string{secret, short, "c2VjcmV0", "secret secret", "XVBovsmzhP9g"} {
			if strings.Contains(err.Error(), s) {
				t.Errorf("%s: the error holds a secret: %v", text, err)
			}
		}
	}
	if _, err := read(t, `key_source: {kind: playready-seed, test: true, seed: XVBovsmzhP9gRIZxWfFta3VVRPzVEWmJsazEJ46I}`).Build(); err != nil {
		t.Errorf("the public test seed of a test tenant: %v", err)
	}
}

// TestPlayReadySeed holds that keys of a tenant with a key seed are those that
// Microsoft's algorithm gives (D-230, D-232).
func TestPlayReadySeed(t *testing.T) {
	built, err := read(t, `key_source: {kind: playready-seed, test: true, seed: XVBovsmzhP9gRIZxWfFta3VVRPzVEWmJsazEJ46I}`).Build()
	if err != nil {
		t.Fatal(err)
	}
	kid, err := contentkey.ParseKID("01020304-0506-0708-090a-aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	v, iv, err := built.Source.Make("example", kid)
	if err != nil || base64.StdEncoding.EncodeToString(v[:]) != "GUf166PQbx+sgBADjyBMvw==" || iv.IsZero() {
		t.Errorf("another key, %v", err)
	}
}

// TestCertificates holds which certificates a tenant's policy takes
// (SX-CKE-12).
func TestCertificates(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	cert := &x509.Certificate{Raw: []byte("DER"), NotBefore: now, NotAfter: now.Add(time.Hour)}
	pin := sha256.Sum256(cert.Raw)
	for _, c := range []struct {
		name   string
		policy tenant.CertificatePolicy
		at     time.Time
		ok     bool
	}{
		{"any", tenant.CertificatePolicy{}, now.Add(-time.Hour), true},
		{"valid from now", tenant.CertificatePolicy{RefuseExpired: true}, now, true},
		{"valid until now", tenant.CertificatePolicy{RefuseExpired: true}, now.Add(time.Hour), true},
		{"not yet", tenant.CertificatePolicy{RefuseExpired: true}, now.Add(-1), false},
		{"no longer", tenant.CertificatePolicy{RefuseExpired: true}, now.Add(time.Hour + 1), false},
		{"pinned", tenant.CertificatePolicy{Pins: [][32]byte{{}, pin}}, now, true},
		{"another pinned", tenant.CertificatePolicy{Pins: [][32]byte{{}}}, now, false},
	} {
		if err := c.policy.Check(cert, c.at); c.ok != (err == nil) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestStatic(t *testing.T) {
	s := tenant.Static{"a": {ID: "a"}}
	if found, err := s.Tenant(t.Context(), "a"); err != nil || found.ID != "a" {
		t.Error(found, err)
	}
	if _, err := s.Tenant(t.Context(), "b"); !errors.Is(err, tenant.ErrNotFound) || !strings.Contains(err.Error(), `"b"`) {
		t.Error(err)
	}
}

// TestSettingsHideSeeds holds that settings which are encoded for others, as a
// JSON document, have neither seeds nor credentials.
func TestSettingsHideSeeds(t *testing.T) {
	s := read(t, `{key_source: {kind: hkdf, seed: `+secret+`}, credentials: [{name: a, basic: {user: u, password: s3cret}}]}`)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(b); strings.Contains(text, secret) || strings.Contains(text, "s3cret") || !strings.Contains(text, `"hkdf"`) {
		t.Error(text)
	}
}
