package auth_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

func signer(name string) tenant.Credential {
	return tenant.Credential{Name: "packager", WidevineSigner: &tenant.WidevineSigner{
		Name: name, AESKey: tenant.Secret(strings.Repeat("0f", 32)), AESIV: tenant.Secret(strings.Repeat("f0", 16)),
	}}
}

func envelope(t *testing.T, request, signer string, sign func([]byte) []byte) []byte {
	t.Helper()
	b, err := json.Marshal(widevine.Envelope{Request: []byte(request), Signature: sign([]byte(request)), Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWidevineSigners lets signed get-content-key requests in, and nothing
// else by their signature (D-503).
func TestWidevineSigners(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)})
	c := newClock(noon)
	aes := signer("acme")
	aes.Expires = at(noon.Add(time.Hour))
	a := newAuth(t, customer(aes, tenant.Credential{Name: "rsa", WidevineSigner: &tenant.WidevineSigner{Name: "acme-rsa", RSAPublicKey: string(public)}}),
		auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1 << 20}})

	verifier, err := aes.WidevineSigner.Verifier()
	if err != nil {
		t.Fatal(err)
	}
	byAES := verifier.(*widevine.AESSigner).Sign
	byRSA := func(message []byte) []byte {
		sum := sha1.Sum(message)
		s, err := rsa.SignPSS(rand.Reader, key, crypto.SHA1, sum[:], &rsa.PSSOptions{SaltLength: 20})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	const path = "/cenc/getcontentkey/acme"
	for _, c := range []struct {
		name, path string
		body       []byte
		credential string // "" for a refusal
	}{
		{"AES", path, envelope(t, "{}", "acme", byAES), "packager"},
		{"RSA", path, envelope(t, "{}", "acme-rsa", byRSA), "rsa"},
		{"AES under the name of RSA", path, envelope(t, "{}", "acme-rsa", byAES), ""},
		{"RSA under the name of AES", path, envelope(t, "{}", "acme", byRSA), ""},
		{"unknown signer", path, envelope(t, "{}", "acme2", byAES), ""},
		{"no signer", path, envelope(t, "{}", "", byAES), ""},
		{"no signature", path, envelope(t, "{}", "acme", func([]byte) []byte { return nil }), ""},
		{"of another request", path, envelope(t, "{}", "acme", func([]byte) []byte { return byAES([]byte("{ }")) }), ""},
		{"on a path of SPEKE", "/speke/v2.0/copyProtection", envelope(t, "{}", "acme", byAES), ""},
		{"no envelope", path, []byte("{}"), ""},
	} {
		who, err := a.Authenticate(request(c.path), c.body)
		switch {
		case c.credential == "" && !errors.Is(err, auth.ErrUnauthenticated):
			t.Errorf("%s: %+v, %v", c.name, who, err)
		case c.credential != "" && (err != nil || who.Tenant != "acme" || who.Credential != c.credential):
			t.Errorf("%s: %+v, %v", c.name, who, err)
		}
	}
	c.advance(time.Hour)
	if _, err := a.Authenticate(request(path), envelope(t, "{}", "acme", byAES)); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("an expired credential: %v", err)
	}

	other := customer(signer("acme"))
	other[0].ID = "other"
	if _, err := auth.New(append(customer(signer("acme")), other...), auth.Options{}); err == nil || !strings.Contains(err.Error(), "the same as credential acme/packager") {
		t.Errorf("two tenants with one signer: %v", err)
	}
}
