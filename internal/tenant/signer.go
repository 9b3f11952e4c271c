package tenant

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"

	"spekeasy/internal/widevine"
)

// WidevineSigner is a signer of Widevine's get-content-key protocol: the
// request's own signature says who sent it (D-501 to D-505). Names of signers
// are unique among all tenants. Either an AES key with its IV is set, or an
// RSA key.
type WidevineSigner struct {
	Name string `yaml:"name" json:"name"`

	// AESKey and AESIV are hexadecimal: 16 or 32 bytes, and 16. They are what
	// Shaka Packager takes as --aes_signing_key and --aes_signing_iv.
	AESKey Secret `yaml:"aes_key,omitempty" json:"-"`
	AESIV  Secret `yaml:"aes_iv,omitempty" json:"-"`

	RSAPublicKey string `yaml:"rsa_public_key,omitempty" json:"rsa_public_key,omitzero"` // PEM; the private key is --rsa_signing_key_path
	Test         bool   `yaml:"test,omitempty" json:"test,omitzero"`                     // allows Google's public test key
}

func (s *WidevineSigner) check() error {
	if s.Name == "" {
		return errors.New("name: required")
	}
	_, err := s.Verifier()
	return err
}

// Verifier returns what checks the signer's signatures. The error never holds
// a secret.
func (s *WidevineSigner) Verifier() (widevine.Verifier, error) {
	if (s.RSAPublicKey == "") == (s.AESKey == "") || (s.AESKey == "") != (s.AESIV == "") {
		return nil, errors.New("either aes_key and aes_iv or rsa_public_key is required")
	}
	if s.RSAPublicKey != "" {
		block, _ := pem.Decode([]byte(s.RSAPublicKey))
		if block == nil {
			return nil, errors.New("rsa_public_key: not PEM")
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			key, err = x509.ParsePKCS1PublicKey(block.Bytes)
		}
		public, ok := key.(*rsa.PublicKey)
		if err != nil || !ok {
			return nil, errors.New("rsa_public_key: not an RSA public key")
		}
		return widevine.NewRSAVerifier(public)
	}
	key, err := hex.DecodeString(string(s.AESKey))
	if err != nil {
		return nil, errors.New("aes_key: not hexadecimal")
	}
	iv, err := hex.DecodeString(string(s.AESIV))
	if err != nil {
		return nil, errors.New("aes_iv: not hexadecimal")
	}
	if widevine.IsTestKey(key) && !s.Test {
		return nil, errors.New("aes_key: this is Google's public test key; set test: true for a test tenant")
	}
	return widevine.NewAESSigner(key, iv)
}
