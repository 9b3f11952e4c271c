package azurekeyvault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"

	"spekeasy/internal/kms"
)

const (
	rsaOAEP256 = "RSA-OAEP-256"
	ps256      = "PS256"
	a256GCM    = "A256GCM"
)

// A wrapped key starts with one byte for its scheme and the key's version,
// then come the scheme's parts. Each part has its length before it, in two
// bytes, big-endian.
const (
	formatRSA = 1 // wrapped AES key; nonce, ciphertext and tag; signature
	formatAES = 2 // nonce; ciphertext; tag
)

// scheme is how a kind of key wraps.
type scheme interface {
	keyType() string      // kty without -HSM
	operations() []string // key_ops that it needs
	role() string         // built-in role that allows them
	wrap(ctx context.Context, version string, plaintext, aad []byte) ([]byte, error)
	unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error)
}

type rsaScheme struct{ m *Manager }

func (rsaScheme) keyType() string { return "RSA" }
func (rsaScheme) operations() []string {
	return []string{"wrapKey", "unwrapKey", "sign", "verify"}
}
func (rsaScheme) role() string { return "Key Vault Crypto User" }

// encryption is the body of a request to encrypt or wrap, and of the reverse.
type encryption struct {
	Algorithm string `json:"alg"`
	Value     b64url `json:"value"`
	IV        b64url `json:"iv,omitempty"`
	Tag       b64url `json:"tag,omitempty"`
	AAD       b64url `json:"aad,omitempty"`
}

func (s rsaScheme) wrap(ctx context.Context, version string, plaintext, aad []byte) ([]byte, error) {
	key := make([]byte, 32)
	defer clear(key)
	rand.Read(key)
	wrappedKey, err := s.m.operation(ctx, "wrapkey", version, encryption{Algorithm: rsaOAEP256, Value: key})
	if err != nil {
		return nil, err
	}
	w := appendPart([]byte{formatRSA}, []byte(version))
	w = appendPart(w, wrappedKey.Value)
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	w = appendPart(w, aead.Seal(nil, nil, plaintext, bind(w, aad)))
	signature, err := s.m.operation(ctx, "sign", version, struct {
		Algorithm string `json:"alg"`
		Digest    b64url `json:"value"`
	}{ps256, digest(w, aad)})
	if err != nil {
		return nil, err
	}
	return appendPart(w, signature.Value), nil
}

func (s rsaScheme) unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	parts, err := cutParts(wrapped, formatRSA, 4)
	if err != nil {
		return nil, err
	}
	version, wrappedKey, sealed, signature := string(parts[0]), parts[1], parts[2], parts[3]
	signed := wrapped[:len(wrapped)-2-len(signature)]
	in := struct {
		Algorithm string `json:"alg"`
		Digest    b64url `json:"digest"`
		Signature b64url `json:"value"`
	}{ps256, digest(signed, aad), signature}
	var verified struct {
		Value bool `json:"value"`
	}
	if err := s.m.call(ctx, "verify", http.MethodPost, "/"+version+"/verify", in, &verified); err != nil {
		return nil, err
	}
	if !verified.Value {
		return nil, fmt.Errorf("%w: %s did not sign it, it was altered, or it was wrapped with other associated data", kms.ErrNotOpened, s.m.id)
	}
	key, err := s.m.operation(ctx, "unwrapkey", version, encryption{Algorithm: rsaOAEP256, Value: wrappedKey})
	if err != nil {
		return nil, err
	}
	defer clear(key.Value)
	aead, err := gcm(key.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", kms.ErrNotOpened, err)
	}
	plaintext, err := aead.Open(nil, nil, sealed, bind(signed[:len(signed)-2-len(sealed)], aad))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", kms.ErrNotOpened, err)
	}
	return plaintext, nil
}

type aesScheme struct{ m *Manager }

func (aesScheme) keyType() string      { return "oct" }
func (aesScheme) operations() []string { return []string{"encrypt", "decrypt"} }
func (aesScheme) role() string         { return "Managed HSM Crypto User" }

func (s aesScheme) wrap(ctx context.Context, version string, plaintext, aad []byte) ([]byte, error) {
	w := appendPart([]byte{formatAES}, []byte(version))
	r, err := s.m.operation(ctx, "encrypt", version, encryption{Algorithm: a256GCM, Value: plaintext, AAD: bind(w, aad)})
	if err != nil {
		return nil, err
	}
	if len(r.IV) != 12 || len(r.Tag) != 16 {
		return nil, fmt.Errorf("%w: %s: encrypt was answered without nonce or tag", kms.ErrUnavailable, s.m.id)
	}
	return appendPart(appendPart(appendPart(w, r.IV), r.Value), r.Tag), nil
}

func (s aesScheme) unwrap(ctx context.Context, wrapped, aad []byte) ([]byte, error) {
	parts, err := cutParts(wrapped, formatAES, 4)
	if err != nil {
		return nil, err
	}
	version, iv, ciphertext, tag := parts[0], parts[1], parts[2], parts[3]
	if len(iv) != 12 || len(tag) != 16 {
		return nil, fmt.Errorf("%w: its nonce or tag has another length", kms.ErrNotOpened)
	}
	head := wrapped[:1+2+len(version)]
	r, err := s.m.operation(ctx, "decrypt", string(version), encryption{Algorithm: a256GCM, Value: ciphertext, IV: iv, Tag: tag, AAD: bind(head, aad)})
	if err != nil {
		return nil, err
	}
	return r.Value, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// bind joins what comes before a ciphertext to the caller's associated data.
// Where the first ends follows from its own lengths.
func bind(head, aad []byte) []byte {
	return append(head[:len(head):len(head)], aad...)
}

// digest is what the key signs.
func digest(signed, aad []byte) []byte {
	h := sha256.New()
	h.Write([]byte("spekeasy wrapped key\x00"))
	h.Write(signed)
	h.Write(aad)
	return h.Sum(nil)
}

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
}

// cutParts takes a wrapped key apart, the first part being a key version.
func cutParts(wrapped []byte, format byte, n int) ([][]byte, error) {
	malformed := fmt.Errorf("%w: it does not have the form that this manager gives it", kms.ErrNotOpened)
	if len(wrapped) == 0 || wrapped[0] != format {
		return nil, malformed
	}
	parts, rest := make([][]byte, n), wrapped[1:]
	for i := range parts {
		if len(rest) < 2 {
			return nil, malformed
		}
		length := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; len(rest) < length {
			return nil, malformed
		}
		parts[i], rest = rest[:length:length], rest[length:]
	}
	if len(rest) != 0 || !versionPattern.Match(parts[0]) {
		return nil, malformed
	}
	return parts, nil
}
