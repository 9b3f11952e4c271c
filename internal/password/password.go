// Package password checks passwords against hashes that are slow by design:
// bcrypt and Argon2id (RFC 9106), in the notations that every tool writes.
package password

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// Bounds of what a hash may cost: a typing error must not take a server's
// memory or minutes.
const (
	maxBcryptCost   = 15
	maxArgon2Memory = 1 << 20 // KiB
	maxArgon2Time   = 64
)

// Hash is the hash of a password.
type Hash struct {
	bcrypt []byte

	// Argon2id
	salt, key    []byte
	time, memory uint32
	threads      uint8
}

// Parse reads a hash: $2a$, $2b$ or $2y$ for bcrypt, $argon2id$v=19$m=KIB,t=PASSES,p=THREADS$SALT$KEY
// with base64 without padding. The error does not hold the hash.
func Parse(text string) (*Hash, error) {
	if strings.HasPrefix(text, "$2") {
		cost, err := bcrypt.Cost([]byte(text))
		switch {
		case err != nil || len(text) != 60:
			return nil, errors.New("not a bcrypt hash")
		case cost > maxBcryptCost:
			return nil, fmt.Errorf("bcrypt cost %d is above %d", cost, maxBcryptCost)
		}
		return &Hash{bcrypt: []byte(text)}, nil
	}
	part := strings.Split(text, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v=19" {
		return nil, errors.New("neither a bcrypt nor an argon2id hash")
	}
	h := new(Hash)
	if n, err := fmt.Sscanf(part[3], "m=%d,t=%d,p=%d", &h.memory, &h.time, &h.threads); n != 3 || err != nil ||
		part[3] != fmt.Sprintf("m=%d,t=%d,p=%d", h.memory, h.time, h.threads) {
		return nil, errors.New("argon2id: parameters are not m=KIB,t=PASSES,p=THREADS")
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.DecodeString(part[4]); err != nil || len(h.salt) < 8 {
		return nil, errors.New("argon2id: salt is not base64 of 8 bytes or more")
	}
	if h.key, err = base64.RawStdEncoding.DecodeString(part[5]); err != nil || len(h.key) < 16 {
		return nil, errors.New("argon2id: hash is not base64 of 16 bytes or more")
	}
	if h.time < 1 || h.time > maxArgon2Time || h.threads < 1 || h.memory < 8*uint32(h.threads) || h.memory > maxArgon2Memory {
		return nil, fmt.Errorf("argon2id: m must be 8*p to %d, t 1 to %d, p at least 1", maxArgon2Memory, maxArgon2Time)
	}
	return h, nil
}

// Matches reports whether this is the hash of the password. It takes the time
// and memory that the hash says.
func (h *Hash) Matches(password string) bool {
	if h.bcrypt != nil {
		return bcrypt.CompareHashAndPassword(h.bcrypt, []byte(password)) == nil
	}
	key := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.key)))
	return subtle.ConstantTimeCompare(key, h.key) == 1
}
