// Package keyring wraps with key-encryption keys (KEKs) that are in this
// process's memory. Where they come from is the business of the packages
// beside it: a file or an environment variable.
package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"spekeasy/internal/kms"
)

// KeySize is the number of bytes of a KEK: AES-256.
const KeySize = 32

// ErrKey reports a text that is not a KEK, or KEKs that do not go together.
var ErrKey = errors.New("not a key-encryption key")

// Ring holds KEKs. The first one wraps, all of them unwrap, so that a new one
// can be put in front while keys wrapped under the old one remain. A ring is
// ready once it has one.
type Ring struct {
	keks []kek
}

var _ kms.Manager = (*Ring)(nil)

type kek struct {
	id   string
	aead cipher.AEAD
}

// Add puts a KEK of [KeySize] bytes behind those that are there. The ID is
// stored beside everything that is wrapped; [ID] makes one from the KEK.
// The bytes are not kept.
func (r *Ring) Add(id string, key []byte) error {
	if err := checkID(id); err != nil {
		return err
	}
	if r.find(id) != nil {
		return fmt.Errorf("%w: two are called %s", ErrKey, id)
	}
	if len(key) != KeySize {
		return fmt.Errorf("%w: %s has %d bytes, want %d", ErrKey, id, len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrKey, id, err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrKey, id, err)
	}
	r.keks = append(r.keks, kek{id, aead})
	return nil
}

// ID derives a name for a KEK from its bytes, which it does not give away.
func ID(key []byte) string {
	sum := sha256.Sum256(append([]byte("spekeasy KEK ID v1\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// Parse reads the base64 text of a KEK. The error does not show it.
func Parse(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != KeySize {
		clear(key)
		return nil, fmt.Errorf("%w: not the base64 of %d bytes", ErrKey, KeySize)
	}
	return key, nil
}

// checkID keeps IDs apart from the texts that surround them, and keeps a key
// that is in the ID's place out of errors.
func checkID(id string) error {
	ok := 0 < len(id) && len(id) <= 40 && !strings.ContainsFunc(id, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
	})
	if !ok {
		return fmt.Errorf("%w: its ID must be 1 to 40 letters, digits, '-', '_' and '.'", ErrKey)
	}
	return nil
}

func (r *Ring) find(id string) *kek {
	if i := slices.IndexFunc(r.keks, func(k kek) bool { return k.id == id }); i >= 0 {
		return &r.keks[i]
	}
	return nil
}

// KeyID implements [kms.Manager].
func (r *Ring) KeyID() string { return r.keks[0].id }

// IDs returns the names of all KEKs, the one that wraps first.
func (r *Ring) IDs() []string {
	var ids []string
	for _, k := range r.keks {
		ids = append(ids, k.id)
	}
	return ids
}

// Wrap implements [kms.Manager] with AES-256-GCM: a nonce of 12 random bytes,
// the ciphertext, and a tag of 16 bytes.
func (r *Ring) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := kms.CheckPlaintext(plaintext); err != nil {
		return nil, err
	}
	return r.keks[0].aead.Seal(nil, nil, plaintext, aad), nil
}

// Unwrap implements [kms.Manager].
func (r *Ring) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k := r.find(keyID)
	if k == nil {
		return nil, fmt.Errorf("%w: %q is not among %s", kms.ErrOtherKey, keyID, strings.Join(r.IDs(), ", "))
	}
	plaintext, err := k.aead.Open(nil, nil, ciphertext, aad)
	if err != nil {
		return nil, fmt.Errorf("%w: KEK %s", kms.ErrNotOpened, keyID)
	}
	return plaintext, nil
}

// Check implements [kms.Manager].
func (r *Ring) Check(ctx context.Context) error { return kms.RoundTrip(ctx, r) }
