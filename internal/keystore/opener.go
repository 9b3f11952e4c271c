package keystore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Opener opens what is sealed, wherever it was read from: it examines stores
// and backups that no keystore would start on. It shows no key. It is not
// safe for concurrent use.
type Opener struct {
	dataKeys *dataKeys
	keys     map[dataKeyPlace]*dataKey
}

type dataKeyPlace struct {
	tenant string
	id     uint32
}

// NewOpener returns an opener that asks the key manager for data keys.
func NewOpener(kek KeyManager) *Opener {
	return &Opener{&dataKeys{kek: kek, clock: time.Now}, make(map[dataKeyPlace]*dataKey)}
}

// Add opens a data key. The error is [ErrWrongKEK] or [ErrUnavailable].
func (o *Opener) Add(ctx context.Context, row DataKey) error {
	key, err := o.dataKeys.unwrap(ctx, &row)
	if err != nil {
		return err
	}
	o.keys[dataKeyPlace{row.Tenant, row.ID}] = key
	return nil
}

// Check reports whether a record opens under a data key that was added. A
// purged key has nothing to open.
func (o *Opener) Check(r *Record) error {
	if r.Purged() {
		return nil
	}
	dk := o.keys[dataKeyPlace{r.Tenant, r.DataKey}]
	if dk == nil {
		return fmt.Errorf("content key %s: data key %d: %w", r.KID, r.DataKey, ErrNoDataKey)
	}
	v, _, err := r.openKey(dk, r.Tenant)
	clear(v[:])
	if err != nil && !errors.Is(err, ErrElsewhere) {
		return fmt.Errorf("content key %s: %w", r.KID, err)
	}
	return nil
}

// CheckSecret reports whether what [Keystore.SealSecret] returned opens under
// a data key that was added.
func (o *Opener) CheckSecret(tenant, purpose, name string, sealed []byte) error {
	if len(sealed) < 4 {
		return secretError(tenant, purpose, name, ErrCorrupt)
	}
	dk := o.keys[dataKeyPlace{tenant, binary.BigEndian.Uint32(sealed)}]
	if dk == nil {
		return secretError(tenant, purpose, name, ErrNoDataKey)
	}
	secret, err := unseal(dk.aead, sealed[4:], associated(purposeSecret, tenant, purpose, name))
	clear(secret)
	if err != nil {
		return secretError(tenant, purpose, name, err)
	}
	return nil
}
