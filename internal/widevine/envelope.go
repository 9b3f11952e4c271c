// Package widevine speaks the get-content-key protocol of Google's Widevine
// key service from the service's side, as Shaka Packager and others ask it:
// the signed envelope, the request and the answer. It knows formats only;
// which keys are answered is the affair of package packager.
//
// Rule numbers such as D-503 are those of docs/conformance.md.
package widevine

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // the protocol's digest, within a cipher or PSS
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Envelope is a request as it arrives: the bytes of a JSON document and the
// signature over exactly those bytes (D-501).
type Envelope struct {
	Request   []byte `json:"request"`
	Signature []byte `json:"signature"` // empty when the client has no signer
	Signer    string `json:"signer"`
}

// ErrEnvelope reports a body that is not an envelope.
var ErrEnvelope = errors.New("not a Widevine request envelope")

// ParseEnvelope reads a request body. Members that are not known are ignored.
func ParseEnvelope(body []byte) (Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(body, &e); err != nil || len(e.Request) == 0 {
		return Envelope{}, ErrEnvelope // json's own errors quote the text
	}
	return e, nil
}

// Verifier is the key of a signer.
type Verifier interface {
	// Verify reports whether the signature is the signer's over the message.
	Verify(message, signature []byte) bool
}

var (
	_ Verifier = (*AESSigner)(nil)
	_ Verifier = (*RSAVerifier)(nil)
)

// AESSigner is a shared secret: a signature is the SHA-1 of the message,
// padded and encrypted with AES-CBC under a fixed IV (D-502). Whoever can
// verify can sign, and a request that is sent again verifies again (D-504).
type AESSigner struct {
	block cipher.Block
	iv    [aes.BlockSize]byte
}

// NewAESSigner takes a key of 16 or 32 bytes and an IV of 16.
func NewAESSigner(key, iv []byte) (*AESSigner, error) {
	if len(key) != 16 && len(key) != 32 {
		return nil, errors.New("an AES signing key has 16 or 32 bytes")
	}
	if len(iv) != aes.BlockSize {
		return nil, errors.New("an AES signing IV has 16 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("aes: %w", err)
	}
	return &AESSigner{block, [aes.BlockSize]byte(iv)}, nil
}

// Sign returns the signature of a message.
func (s *AESSigner) Sign(message []byte) []byte {
	sum := sha1.Sum(message) //nolint:gosec // see the import
	pad := byte(aes.BlockSize - len(sum)%aes.BlockSize)
	out := append(sum[:], bytes.Repeat([]byte{pad}, int(pad))...)
	cipher.NewCBCEncrypter(s.block, s.iv[:]).CryptBlocks(out, out)
	return out
}

// Verify compares in constant time (D-503).
func (s *AESSigner) Verify(message, signature []byte) bool {
	return hmac.Equal(s.Sign(message), signature)
}

// Format hides the secret.
func (*AESSigner) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(signing key)") }

// RSAVerifier is the public key of a signer that signs with RSASSA-PSS,
// SHA-1 and a salt of 20 bytes (D-502).
type RSAVerifier struct{ key *rsa.PublicKey }

// NewRSAVerifier takes a key of 2048 bits or more.
func NewRSAVerifier(key *rsa.PublicKey) (*RSAVerifier, error) {
	if key.N.BitLen() < 2048 {
		return nil, errors.New("an RSA signing key has 2048 bits or more")
	}
	return &RSAVerifier{key}, nil
}

// Verify reports whether the signature is good.
func (v *RSAVerifier) Verify(message, signature []byte) bool {
	sum := sha1.Sum(message) //nolint:gosec // see the import
	return rsa.VerifyPSS(v.key, crypto.SHA1, sum[:], signature, &rsa.PSSOptions{SaltLength: sha1.Size}) == nil
}

// testKey is the AES key of Google's public test account (D-505).
const testKey = "1ae8ccd0e7985cc0b6203a55855a1034afc252980e970ca90e5202689f947ab9"

// IsTestKey reports whether an AES signing key is the one that Google
// publishes for development, which everybody knows.
func IsTestKey(key []byte) bool { return hex.EncodeToString(key) == testKey }
