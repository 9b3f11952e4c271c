package keystore

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"spekeasy/contentkey"
)

// Source makes a content key and its IV for a key ID that has none yet. It
// may be called concurrently, and its result may go unused when somebody else
// was faster.
type Source interface {
	// Name is stored with each key that the source made.
	Name() string

	// Make returns the key and the IV. An error shows no key material.
	Make(tenant string, kid contentkey.KID) (contentkey.Value, contentkey.IV, error)
}

// Random makes keys that depend on nothing.
type Random struct {
	Reader io.Reader // safe for concurrent use; nil means crypto/rand
}

// Name returns "random".
func (Random) Name() string { return "random" }

// Make returns 32 bytes of the reader as key and IV.
func (s Random) Make(string, contentkey.KID) (v contentkey.Value, iv contentkey.IV, err error) {
	var b [len(v) + len(iv)]byte
	defer clear(b[:])
	if err := readRandom(s.Reader, b[:]); err != nil {
		return contentkey.Value{}, contentkey.IV{}, err
	}
	copy(v[:], b[:])
	copy(iv[:], b[len(v):])
	return v, iv, nil
}

func readRandom(r io.Reader, b []byte) error {
	if r == nil {
		r = rand.Reader
	}
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("reading random bytes: %w", err)
	}
	return nil
}

// HKDF derives keys from a seed with HKDF-SHA256 (RFC 5869): the seed is the
// input keying material, there is no salt, and the info is one of the two
// texts "spekeasy content key v1" and "spekeasy iv v1", then the tenant, then
// the 16 bytes of the key ID, each with its length as four big-endian bytes
// before it. Whoever has the seed can recompute every key.
type HKDF struct {
	prk []byte
}

// ErrSeed reports a seed that is too short.
var ErrSeed = errors.New("the seed must have at least 32 bytes")

const (
	hkdfKeyInfo = "spekeasy content key v1"
	hkdfIVInfo  = "spekeasy iv v1"
)

// NewHKDF returns a source that derives keys from a seed of at least 32
// bytes. The seed is not kept.
func NewHKDF(seed []byte) (*HKDF, error) {
	if len(seed) < 32 {
		return nil, ErrSeed
	}
	prk, err := hkdf.Extract(sha256.New, seed, nil)
	if err != nil {
		return nil, fmt.Errorf("hkdf: %w", err)
	}
	return &HKDF{prk}, nil
}

// Name returns "hkdf".
func (*HKDF) Name() string { return "hkdf" }

// Make returns the key and IV of the key ID.
func (s *HKDF) Make(tenant string, kid contentkey.KID) (v contentkey.Value, iv contentkey.IV, err error) {
	for _, part := range []struct {
		info string
		out  []byte
	}{{hkdfKeyInfo, v[:]}, {hkdfIVInfo, iv[:]}} {
		info := appendFields(nil, part.info, tenant, string(kid[:]))
		b, err := hkdf.Expand(sha256.New, s.prk, string(info), len(part.out))
		if err != nil {
			return contentkey.Value{}, contentkey.IV{}, fmt.Errorf("hkdf: %w", err)
		}
		copy(part.out, b)
		clear(b)
	}
	return v, iv, nil
}

// Format hides the derivation key.
func (HKDF) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(hkdf key source)") }

// Derived takes keys from a derivation that knows key IDs only, such as
// Microsoft's PlayReady key seed algorithm (D-230). IVs are random.
type Derived struct {
	Label  string // what Name returns, such as "playready-seed"
	Key    func(contentkey.KID) (contentkey.Value, error)
	Reader io.Reader // for IVs, safe for concurrent use; nil means crypto/rand
}

// Name returns the label.
func (s *Derived) Name() string { return s.Label }

// Make returns the derived key and a random IV.
func (s *Derived) Make(_ string, kid contentkey.KID) (contentkey.Value, contentkey.IV, error) {
	var iv contentkey.IV
	v, err := s.Key(kid)
	if err != nil {
		return contentkey.Value{}, contentkey.IV{}, err
	}
	if err := readRandom(s.Reader, iv[:]); err != nil {
		return contentkey.Value{}, contentkey.IV{}, err
	}
	return v, iv, nil
}
