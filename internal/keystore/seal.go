package keystore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"spekeasy/contentkey"
)

// What a sealed blob holds is part of its associated data, so that nothing
// sealed for one purpose opens as another.
const (
	purposeContentKey = "content-key"
	purposeDataKey    = "data-key"
	purposeSecret     = "secret"
)

// formatV1 is the first byte of everything that is sealed here. What follows
// is a random nonce of 12 bytes, the ciphertext and a tag of 16 bytes
// (AES-256-GCM). One data key must not seal more than 2^32 times; a tenant
// with that many content keys would have to rotate it.
const formatV1 = 1

const dataKeySize = 32 // AES-256

// newAEAD returns AES-256-GCM that puts its own random nonce before the
// ciphertext.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// associated returns the associated data of a blob: its format, purpose and
// place, none of which can run into the next.
func associated(purpose string, place ...string) []byte {
	return appendFields(appendFields([]byte{formatV1}, purpose), place...)
}

// appendFields appends each text with its length before it.
func appendFields(b []byte, fields ...string) []byte {
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func seal(aead cipher.AEAD, plaintext, aad []byte) []byte {
	return aead.Seal([]byte{formatV1}, nil, plaintext, aad)
}

func unseal(aead cipher.AEAD, sealed, aad []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrCorrupt)
	}
	if sealed[0] != formatV1 {
		return nil, fmt.Errorf("%w: format %d is not known here", ErrCorrupt, sealed[0])
	}
	plaintext, err := aead.Open(nil, nil, sealed[1:], aad)
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, moved from another row, or sealed under another key", ErrCorrupt)
	}
	return plaintext, nil
}

// opened is a content key in memory with what its record says of it.
type opened struct {
	value     contentkey.Value
	iv        contentkey.IV
	contentID string
	scheme    contentkey.Scheme
}

// Format hides the key: fmt does not ask the type of an unexported member.
func (opened) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(opened content key)") }

// sealKey makes the record's Wrapped and DataKey from the key and IV.
func (r *Record) sealKey(dk *dataKey, v contentkey.Value, iv contentkey.IV) {
	var plain [len(v) + len(iv)]byte
	copy(plain[:], v[:])
	copy(plain[len(v):], iv[:])
	r.seal(dk, plain[:])
	clear(plain[:])
}

func (r *Record) seal(dk *dataKey, plain []byte) {
	r.DataKey = dk.id
	r.Wrapped = seal(dk.aead, plain, associated(purposeContentKey, r.Tenant, string(r.KID[:])))
}

// unseal returns what is sealed in the record, which is of the tenant: key and
// IV, for a copy of somebody else's key his signaling too, or nothing.
func (r *Record) unseal(dk *dataKey, tenant string) ([]byte, error) {
	return unseal(dk.aead, r.Wrapped, associated(purposeContentKey, tenant, string(r.KID[:])))
}

// openKey returns the key and IV that are sealed in the record, which is of
// the tenant, and [ErrElsewhere] if there is none.
func (r *Record) openKey(dk *dataKey, tenant string) (v contentkey.Value, iv contentkey.IV, err error) {
	plain, err := r.unseal(dk, tenant)
	if err != nil {
		return v, iv, err
	}
	defer clear(plain)
	switch {
	case len(plain) == 0 && r.foreign():
		return v, iv, ErrElsewhere
	case len(plain) < len(v)+len(iv) || len(plain) > len(v)+len(iv) && !r.foreign():
		return v, iv, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(plain))
	}
	copy(v[:], plain)
	copy(iv[:], plain[len(v):])
	return v, iv, nil
}

// openRecord opens a record of the tenant as it was read.
func (k *Keystore) openRecord(ctx context.Context, tenant string, r *Record) (*opened, error) {
	if !r.Deleted.IsZero() {
		return nil, fmt.Errorf("content key %s: %w", r.KID, ErrDeleted)
	}
	dk, err := k.dataKeys.get(ctx, tenant, r.DataKey)
	if err != nil {
		return nil, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	v, iv, err := r.openKey(dk, tenant)
	if err != nil {
		return nil, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	return &opened{value: v, iv: iv, contentID: r.ContentID, scheme: r.Scheme}, nil
}

// open is openRecord, but when the record's data key is gone it looks whether
// a rotation has put the record under another one since it was read.
func (k *Keystore) open(ctx context.Context, tenant string, r *Record) (*opened, error) {
	o, err := k.openRecord(ctx, tenant, r)
	if !errors.Is(err, ErrNoDataKey) {
		return o, err
	}
	again, readErr := k.store.Keys(ctx, tenant, []contentkey.KID{r.KID})
	if readErr != nil {
		return nil, fmt.Errorf("content key %s: %w", r.KID, readErr)
	}
	if len(again) != 1 || again[0].DataKey == r.DataKey {
		return nil, err
	}
	return k.openRecord(ctx, tenant, &again[0])
}

// SealSecret seals a secret other than a content key, such as a tenant's
// upstream password, for storage elsewhere. It opens again only for the same
// tenant, purpose and name. What belongs to no tenant is sealed for
// [CustodyTenant]. The first four bytes are the number of the data key.
func (k *Keystore) SealSecret(ctx context.Context, tenant, purpose, name string, secret []byte) ([]byte, error) {
	dk, err := k.secretKey(ctx, tenant, newest)
	if err != nil {
		return nil, secretError(tenant, purpose, name, err)
	}
	sealed := seal(dk.aead, secret, associated(purposeSecret, tenant, purpose, name))
	return append(binary.BigEndian.AppendUint32(nil, dk.id), sealed...), nil
}

// OpenSecret opens what [Keystore.SealSecret] returned. The error is
// [ErrCorrupt] when it was changed or sealed for something else.
func (k *Keystore) OpenSecret(ctx context.Context, tenant, purpose, name string, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) == newest {
		return nil, secretError(tenant, purpose, name, ErrCorrupt)
	}
	dk, err := k.secretKey(ctx, tenant, binary.BigEndian.Uint32(sealed))
	if err != nil {
		return nil, secretError(tenant, purpose, name, err)
	}
	secret, err := unseal(dk.aead, sealed[4:], associated(purposeSecret, tenant, purpose, name))
	if err != nil {
		return nil, secretError(tenant, purpose, name, err)
	}
	return secret, nil
}

func (k *Keystore) secretKey(ctx context.Context, tenant string, id uint32) (*dataKey, error) {
	if k.closed.Load() {
		return nil, ErrClosed
	}
	if tenant != CustodyTenant {
		if err := CheckTenant(tenant); err != nil {
			return nil, err
		}
	}
	return k.dataKeys.get(ctx, tenant, id)
}

func secretError(tenant, purpose, name string, err error) error {
	return fmt.Errorf("secret %s %q of tenant %s: %w", purpose, name, tenant, late(err))
}
