//go:build pkcs11

package pkcs11

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"

	p11 "github.com/miekg/pkcs11"

	"spekeasy/internal/kms"
)

var _ kms.Manager = (*Manager)(nil)

// Options are what a manager may be given; the zero value works.
type Options struct {
	// Getenv looks up the variable that pin-source names; nil for os.Getenv.
	Getenv func(string) string
}

// Manager wraps under one AES key of a token with AES-GCM.
type Manager struct {
	target target
	pool   *pool
}

// A wrapped key is one byte for its format, the IV, the ciphertext, the tag.
const (
	format  = 1
	ivSize  = 12
	tagSize = 16
)

// Open loads the module that a URI names. It does not ask the HSM.
func Open(_ context.Context, uri *url.URL, opts Options) (*Manager, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	t, err := parse(uri, opts.Getenv)
	if err != nil {
		return nil, err
	}
	module := p11.New(t.module)
	if module == nil {
		return nil, fmt.Errorf("pkcs11 URI: module-path: %s cannot be loaded as a PKCS #11 module", t.module)
	}
	return &Manager{t, newPool(module, t)}, nil
}

// KeyID returns the URI without its query, in one way to write it. Token and
// key must therefore keep their labels.
func (m *Manager) KeyID() string { return m.target.name() }

// Close ends the sessions with the HSM. The module stays loaded: another
// manager may be using it.
func (m *Manager) Close() error {
	m.pool.close()
	return nil
}

// Wrap implements [kms.Manager] with CKM_AES_GCM.
func (m *Manager) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := kms.CheckPlaintext(plaintext); err != nil {
		return nil, err
	}
	return m.do(ctx, plaintext, aad, func(s session, plaintext, aad []byte) ([]byte, error) {
		iv := make([]byte, ivSize)
		rand.Read(iv)
		return m.seal(s, iv, plaintext, aad)
	})
}

// Unwrap implements [kms.Manager] with CKM_AES_GCM.
func (m *Manager) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	if keyID != m.KeyID() {
		return nil, fmt.Errorf("%w: %q, not %s", kms.ErrOtherKey, keyID, m.KeyID())
	}
	if len(ciphertext) <= 1+ivSize+tagSize || ciphertext[0] != format {
		return nil, fmt.Errorf("%w: it does not have the form that this manager gives it", kms.ErrNotOpened)
	}
	return m.do(ctx, ciphertext, aad, m.open)
}

// Check implements [kms.Manager].
func (m *Manager) Check(ctx context.Context) error { return kms.RoundTrip(ctx, m) }

func (m *Manager) seal(s session, iv, plaintext, aad []byte) ([]byte, error) {
	gcm := p11.NewGCMParams(iv, aad, tagSize*8)
	defer gcm.Free()
	if err := m.pool.module.EncryptInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, gcm)}, s.key); err != nil {
		return nil, err
	}
	sealed, err := m.pool.module.Encrypt(s.handle, plaintext)
	if err != nil {
		return nil, err
	}
	// Some modules take an IV of their own and write it back.
	used := gcm.IV()
	if len(used) != ivSize || len(sealed) != len(plaintext)+tagSize {
		return nil, fmt.Errorf("%w: this module's AES-GCM does not give a ciphertext and tag for an IV of %d bytes", kms.ErrKeyUnusable, ivSize)
	}
	return append(append([]byte{format}, used...), sealed...), nil
}

func (m *Manager) open(s session, wrapped, aad []byte) ([]byte, error) {
	gcm := p11.NewGCMParams(wrapped[1:1+ivSize], aad, tagSize*8)
	defer gcm.Free()
	if err := m.pool.module.DecryptInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_AES_GCM, gcm)}, s.key); err != nil {
		return nil, err
	}
	plaintext, err := m.pool.module.Decrypt(s.handle, wrapped[1+ivSize:])
	if err != nil {
		return nil, m.whyNotOpened(s, err)
	}
	return plaintext, nil
}

// whyNotOpened tells a ciphertext that does not open from a module that does
// not work. Modules are not agreed on the code for the first: SoftHSM uses
// CKR_GENERAL_ERROR. When it is not clear, the same session is asked for
// something that has to work.
func (m *Manager) whyNotOpened(s session, err error) error {
	refused := fmt.Errorf("%w: it was altered, belongs to another key, or was wrapped with other associated data (%w)", kms.ErrNotOpened, err)
	switch code(err) {
	case p11.CKR_ENCRYPTED_DATA_INVALID, p11.CKR_ENCRYPTED_DATA_LEN_RANGE, p11.CKR_DATA_INVALID, p11.CKR_DATA_LEN_RANGE, ckrAEADDecryptFailed:
		return refused
	case p11.CKR_GENERAL_ERROR, p11.CKR_FUNCTION_FAILED:
		iv := make([]byte, ivSize)
		rand.Read(iv)
		if _, probeErr := m.seal(s, iv, iv, nil); probeErr == nil {
			return refused
		}
	}
	return err
}

// do runs an operation in a session, once more if the session turns out to
// be lost. A call into the module cannot be interrupted: when ctx ends first,
// it goes on by itself, with copies of the arguments.
func (m *Manager) do(ctx context.Context, in, aad []byte, operation func(s session, in, aad []byte) ([]byte, error)) ([]byte, error) {
	in, aad = append([]byte(nil), in...), append([]byte(nil), aad...)
	out, err := m.pool.run(ctx, func(s session) ([]byte, error) { return operation(s, in, aad) })
	if lost(err) {
		m.pool.drop()
		out, err = m.pool.run(ctx, func(s session) ([]byte, error) { return operation(s, in, aad) })
	}
	if ctx.Err() == nil {
		clear(in) // nobody uses it any more
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.KeyID(), explain(err))
	}
	return out, nil
}

// ckrAEADDecryptFailed is CKR_AEAD_DECRYPT_FAILED of PKCS #11 3.0.
const ckrAEADDecryptFailed = 0x42

// code returns the CKR_ value in an error of the module, 0 for none.
func code(err error) p11.Error {
	e, _ := errors.AsType[p11.Error](err)
	return e
}

// lost reports errors that a new session can cure.
func lost(err error) bool {
	switch code(err) {
	case p11.CKR_SESSION_HANDLE_INVALID, p11.CKR_SESSION_CLOSED, p11.CKR_USER_NOT_LOGGED_IN,
		p11.CKR_KEY_HANDLE_INVALID, p11.CKR_OBJECT_HANDLE_INVALID, p11.CKR_CRYPTOKI_NOT_INITIALIZED,
		p11.CKR_DEVICE_ERROR, p11.CKR_DEVICE_REMOVED, p11.CKR_TOKEN_NOT_PRESENT, p11.CKR_SLOT_ID_INVALID:
		return true
	}
	return false
}

// explain gives an error of the module its kind. One that is not known is
// taken for a fault of the device.
func explain(err error) error {
	for _, known := range []error{kms.ErrUnavailable, kms.ErrDenied, kms.ErrKeyUnusable, kms.ErrNotOpened, context.Canceled} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch code(err) {
	case p11.CKR_PIN_INCORRECT, p11.CKR_PIN_INVALID, p11.CKR_PIN_LEN_RANGE:
		return fmt.Errorf("%w: the PIN is wrong; it is not tried again, so that the token does not lock (%w)", kms.ErrDenied, err)
	case p11.CKR_PIN_EXPIRED, p11.CKR_PIN_LOCKED, p11.CKR_USER_PIN_NOT_INITIALIZED, p11.CKR_USER_TYPE_INVALID:
		return fmt.Errorf("%w: the user's PIN is locked, expired or not set (%w)", kms.ErrDenied, err)
	case p11.CKR_KEY_FUNCTION_NOT_PERMITTED, p11.CKR_KEY_TYPE_INCONSISTENT, p11.CKR_KEY_SIZE_RANGE:
		return fmt.Errorf("%w: it must be an AES key with CKA_ENCRYPT and CKA_DECRYPT (%w)", kms.ErrKeyUnusable, err)
	case p11.CKR_MECHANISM_INVALID, p11.CKR_MECHANISM_PARAM_INVALID:
		return fmt.Errorf("%w: the module does not do CKM_AES_GCM with an IV of ours (%w)", kms.ErrKeyUnusable, err)
	}
	return fmt.Errorf("%w: %w", kms.ErrUnavailable, err)
}
