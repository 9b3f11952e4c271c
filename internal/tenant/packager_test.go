package tenant_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"spekeasy/internal/tenant"
)

func TestPackagerSettings(t *testing.T) {
	built, err := (&tenant.Settings{ID: "acme", Packager: tenant.Packager{
		Tracks: map[string][]string{"AUDIO": {"MUSIC", "ALL"}}, CPIXLabels: tenant.LabelsSPEKE,
	}}).Build()
	if err != nil {
		t.Fatal(err)
	}
	if got := built.TrackMap.Labels("AUDIO"); !slices.Equal(got, []string{"AUDIO", "MUSIC", "ALL"}) {
		t.Errorf("labels for AUDIO: %v", got)
	}
	if got := built.TrackMap.Labels("SD"); !slices.Equal(got, []string{"SD", "VIDEO", "ALL", ""}) || built.CPIXLabels != tenant.LabelsSPEKE {
		t.Errorf("labels for SD: %v", got)
	}
	for label, parts := range map[string]string{"SD": "SD", "SD+HD1": "HD1", "A+B+C": "B", "": ""} {
		if !built.TrackMap.Matches(label, parts) {
			t.Errorf("%q does not match %q", label, parts)
		}
	}
	for label, other := range map[string]string{"SD": "", "": "SD", "SD+HD1": "HD", "sd": "SD"} {
		if built.TrackMap.Matches(label, other) {
			t.Errorf("%q matches %q", label, other)
		}
	}
	for want, p := range map[string]tenant.Packager{
		`packager: tracks: "ALL" is none of SD`:                   {Tracks: map[string][]string{"ALL": {"VIDEO"}}},
		`packager: tracks: "hd" is none of SD`:                    {Tracks: map[string][]string{"hd": {"VIDEO"}}},
		`packager: cpix_labels: "aws" is neither packager nor sp`: {CPIXLabels: "aws"},
	} {
		if _, err := (&tenant.Settings{ID: "acme", Packager: p}).Build(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestWidevineSigner holds D-502 and D-505 for settings, and that no error
// shows a key.
func TestWidevineSigner(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkix, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}))
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)}))
	const (
		aes  = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
		iv   = "deadbeefdeadbeefdeadbeefdeadbeef"
		test = "1ae8ccd0e7985cc0b6203a55855a1034afc252980e970ca90e5202689f947ab9"
	)
	for _, c := range []struct {
		name   string
		signer tenant.WidevineSigner
		want   string // "" for settings that are good
	}{
		{"AES", tenant.WidevineSigner{Name: "a", AESKey: aes, AESIV: iv}, ""},
		{"AES-128", tenant.WidevineSigner{Name: "a", AESKey: tenant.Secret(aes[:32]), AESIV: iv}, ""},
		{"RSA", tenant.WidevineSigner{Name: "a", RSAPublicKey: public}, ""},
		{"RSA, PKCS #1", tenant.WidevineSigner{Name: "a", RSAPublicKey: pkcs1}, ""},
		{"Google's test account", tenant.WidevineSigner{Name: "widevine_test", AESKey: test, AESIV: iv, Test: true}, ""},
		{"Google's key by accident", tenant.WidevineSigner{Name: "a", AESKey: tenant.Secret(strings.ToUpper(test)), AESIV: iv}, "widevine_signer: aes_key: this is Google's public test key"},
		{"no name", tenant.WidevineSigner{AESKey: aes, AESIV: iv}, "widevine_signer: name: required"},
		{"no key", tenant.WidevineSigner{Name: "a"}, "widevine_signer: either aes_key and aes_iv or rsa_public_key is required"},
		{"no IV", tenant.WidevineSigner{Name: "a", AESKey: aes}, "widevine_signer: either aes_key and aes_iv or rsa_public_key is required"},
		{"both", tenant.WidevineSigner{Name: "a", AESKey: aes, AESIV: iv, RSAPublicKey: public}, "widevine_signer: either aes_key and aes_iv or rsa_public_key is required"},
		{"RSA and an IV", tenant.WidevineSigner{Name: "a", AESIV: iv, RSAPublicKey: public}, "widevine_signer: either aes_key and aes_iv or rsa_public_key is required"},
		{"short key", tenant.WidevineSigner{Name: "a", AESKey: tenant.Secret(aes[:30]), AESIV: iv}, "widevine_signer: an AES signing key has 16 or 32 bytes"},
		{"short IV", tenant.WidevineSigner{Name: "a", AESKey: aes, AESIV: tenant.Secret(iv[:30])}, "widevine_signer: an AES signing IV has 16 bytes"},
		{"key in base64", tenant.WidevineSigner{Name: "a", AESKey: "deadbeef==", AESIV: iv}, "widevine_signer: aes_key: not hexadecimal"},
		{"IV in base64", tenant.WidevineSigner{Name: "a", AESKey: aes, AESIV: "deadbeef=="}, "widevine_signer: aes_iv: not hexadecimal"},
		{"not PEM", tenant.WidevineSigner{Name: "a", RSAPublicKey: "x"}, "widevine_signer: rsa_public_key: not PEM"},
		{"another PEM", tenant.WidevineSigner{Name: "a", RSAPublicKey: "-----BEGIN X-----\nAAAA\n-----END X-----\n"}, "widevine_signer: rsa_public_key: not an RSA public key"},
	} {
		cred := tenant.Credential{Name: "c", WidevineSigner: &c.signer}
		err := cred.Check()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if text := fmt.Sprintf("%v %v %+v %#v", err, cred, c.signer, c.signer); strings.Contains(text, "deadbeef") || strings.Contains(text, "1ae8") {
			t.Errorf("%s: the key shows: %s", c.name, text)
		}
	}
}
