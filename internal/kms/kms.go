// Package kms names what the key managers that hold a key-encryption key
// (KEK) have in common: what they offer, how their failures are told apart,
// and the rules for the URIs that choose them. Each technology is a package
// below this one.
package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Errors of every key manager; they are wrapped, use errors.Is. All but
// ErrUnavailable are refusals: repeating the call changes nothing until an
// operator does.
var (
	// ErrUnavailable reports that the key manager could not be asked or did
	// not give an answer that means anything: no connection, a timeout,
	// throttling or a server error that outlasted the repetitions, an answer
	// that is not its protocol's.
	ErrUnavailable = errors.New("key manager unavailable")

	// ErrDenied reports credentials that are missing, wrong, expired, or not
	// permitted to use the KEK.
	ErrDenied = errors.New("key manager denied access")

	// ErrKeyUnusable reports that the KEK does not exist, is disabled or
	// destroyed, or is of a kind that cannot wrap.
	ErrKeyUnusable = errors.New("KEK cannot be used")

	// ErrNotOpened reports a wrapped key that was altered, was wrapped under
	// another KEK, or was wrapped with other associated data.
	ErrNotOpened error = wrongKey("wrapped key does not open")

	// ErrOtherKey reports a key ID that is not the one of this manager's
	// KEK; the service was not asked.
	ErrOtherKey error = wrongKey("wrapped under another KEK")
)

// wrongKey is an error of a key manager that works and has not the KEK that
// is needed. The keystore tells it by its method.
type wrongKey string

func (e wrongKey) Error() string { return string(e) }

// WrongKey returns true.
func (wrongKey) WrongKey() bool { return true }

// Manager wraps small secrets under one KEK that never leaves the key
// manager. All methods may be called concurrently.
type Manager interface {
	// KeyID names the KEK that Wrap uses. It is stored beside what was
	// wrapped, is not secret and does not change while the KEK lives: where
	// the service rotates a key by itself, the versions share one name and
	// the wrapped bytes say which of them is needed.
	KeyID() string

	// Wrap encrypts 1 to 4096 bytes and binds them to aad, which is
	// authenticated, not stored, and must be given to Unwrap again.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)

	// Unwrap opens what Wrap returned. A keyID other than that of this
	// manager's KEK is refused with [ErrOtherKey]: whoever can write to the
	// database must not be able to have a key of theirs used instead.
	Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error)

	// Check proves that the KEK can wrap and unwrap now.
	Check(ctx context.Context) error
}

// MaxPlaintext is the number of bytes that every manager can wrap; it is the
// limit of AWS KMS.
const MaxPlaintext = 4096

// CheckPlaintext refuses a plaintext that not every manager could wrap.
func CheckPlaintext(plaintext []byte) error {
	if n := len(plaintext); n == 0 || n > MaxPlaintext {
		return fmt.Errorf("cannot wrap %d bytes: must be 1 to %d", n, MaxPlaintext)
	}
	return nil
}

// RoundTrip wraps random bytes with m and opens them again. It is the check
// that needs no permission beyond those that serving needs.
func RoundTrip(ctx context.Context, m Manager) error {
	probe, aad := make([]byte, 32), []byte("spekeasy check")
	rand.Read(probe)
	wrapped, err := m.Wrap(ctx, probe, aad)
	if err != nil {
		return err
	}
	got, err := m.Unwrap(ctx, m.KeyID(), wrapped, aad)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, probe) {
		return fmt.Errorf("%w: %s gave back other bytes than it was given", ErrKeyUnusable, m.KeyID())
	}
	return nil
}

// Query returns the parameters of a key manager's URI. It refuses parameters
// that are not known, are empty or repeated, and URIs that carry a user,
// password or fragment. Values are left out of its errors, since somebody
// will have put a secret there.
func Query(uri *url.URL, known ...string) (map[string]string, error) {
	if uri.User != nil {
		return nil, fmt.Errorf("%s URI: credentials do not belong in it", uri.Scheme)
	}
	if uri.Fragment != "" {
		return nil, fmt.Errorf("%s URI: unexpected fragment", uri.Scheme)
	}
	values, err := url.ParseQuery(uri.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("%s URI: malformed query", uri.Scheme)
	}
	params := make(map[string]string, len(values))
	for name, v := range values {
		switch {
		case !slices.Contains(known, name):
			return nil, fmt.Errorf("%s URI: unknown parameter %q; known: %s", uri.Scheme, name, strings.Join(known, ", "))
		case len(v) > 1:
			return nil, fmt.Errorf("%s URI: parameter %q given twice", uri.Scheme, name)
		case v[0] == "":
			return nil, fmt.Errorf("%s URI: parameter %q is empty", uri.Scheme, name)
		}
		params[name] = v[0]
	}
	return params, nil
}
