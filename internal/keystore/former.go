package keystore

import (
	"context"
	"errors"
)

// WithFormer returns a key manager that wraps with the present one and also
// opens what former ones wrapped, so that data keys can be moved from one key
// manager to another.
func WithFormer(present KeyManager, former ...KeyManager) KeyManager {
	if len(former) == 0 {
		return present
	}
	return &succession{present, former}
}

type succession struct {
	KeyManager
	former []KeyManager
}

// Unwrap asks one key manager after the other, until one has the KEK. When
// none has it, the error is that of the present one.
func (s *succession) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	plaintext, err := s.KeyManager.Unwrap(ctx, keyID, ciphertext, aad)
	if !isWrongKey(err) {
		return plaintext, err
	}
	for _, m := range s.former {
		plaintext, formerErr := m.Unwrap(ctx, keyID, ciphertext, aad)
		if !isWrongKey(formerErr) {
			return plaintext, formerErr
		}
	}
	return nil, err
}

func isWrongKey(err error) bool {
	e, ok := errors.AsType[wrongKeyError](err)
	return ok && e.WrongKey()
}
