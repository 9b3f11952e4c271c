package keystore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// KeyManager holds the key encryption key (KEK) that wraps the data keys. It
// is asked once for each data key, and its methods may be called
// concurrently.
//
// An error counts as an outage ([ErrUnavailable]) unless it, or one that it
// wraps, has a method WrongKey() bool that returns true: the key manager
// works, but has no KEK of that name or the ciphertext does not open under
// it.
type KeyManager interface {
	// KeyID names the KEK that Wrap uses now. It is stored beside what it
	// wrapped.
	KeyID() string

	// Wrap encrypts a data key under the KEK, bound to aad.
	Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error)

	// Unwrap decrypts what Wrap returned when KeyID was keyID.
	Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error)
}

type wrongKeyError interface {
	error
	WrongKey() bool
}

// ErrWrongKEK reports that the key manager's KEK is not one that the stored
// keys were wrapped with.
var ErrWrongKEK = errors.New("the key encryption key is not the one that the stored keys were wrapped with")

// CustodyTenant owns one data key, written when a store is first used. It
// shows at every later start whether the KEK at hand opens what the store
// holds. [CheckTenant] refuses the name for a tenant.
const CustodyTenant = "_custody"

const custodyID = 1

// Founded reports whether keys were ever kept in the store and, if so, the
// key manager's name for the KEK that they began with. A new KEK may be made
// only for a store that is not founded: beside existing rows it could open
// none of them.
func Founded(ctx context.Context, store Store) (kek string, founded bool, err error) {
	row, err := custody(ctx, store)
	if row == nil || err != nil {
		return "", false, err
	}
	return row.KEK, true, nil
}

// custody returns the store's custody record, or nil when the store is new.
func custody(ctx context.Context, store Store) (*DataKey, error) {
	rows, err := store.DataKeys(ctx, CustodyTenant)
	if err != nil {
		return nil, fmt.Errorf("custody record: %w", err)
	}
	if len(rows) > 0 {
		return &rows[len(rows)-1], nil
	}
	if p, ok := underlying(store).(Pager); ok {
		tenants, err := p.Tenants(ctx, "", 1)
		if err != nil {
			return nil, fmt.Errorf("custody record: %w", err)
		}
		if len(tenants) > 0 && tenants[0] != CustodyTenant { // which may have come just now
			return nil, fmt.Errorf("custody record: %w: it is missing, but tenant %s has keys; "+
				"if a restore was interrupted, repeat it", ErrCorrupt, tenants[0])
		}
	}
	return nil, nil
}

// verify founds the store, or checks that the key manager opens what it was
// founded with.
func (d *dataKeys) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	row, err := custody(ctx, d.store)
	if err != nil {
		return err
	}
	if row == nil {
		_, err = d.create(ctx, CustodyTenant, custodyID)
	} else {
		_, err = d.unwrap(ctx, row)
	}
	return err
}

// create makes and stores a tenant's data key, or opens that of whoever was
// faster.
func (d *dataKeys) create(ctx context.Context, tenant string, id uint32) (*dataKey, error) {
	raw := make([]byte, dataKeySize)
	defer clear(raw)
	_, _ = rand.Read(raw) // never fails
	row := DataKey{Tenant: tenant, ID: id, Created: d.clock().UTC().Truncate(time.Microsecond)}
	if err := d.wrap(ctx, &row, d.kek.KeyID(), raw); err != nil {
		return nil, err
	}
	stored, err := d.store.CreateDataKey(ctx, row)
	if err != nil {
		return nil, fmt.Errorf("data key %d of %s: %w", id, tenant, err)
	}
	if !bytes.Equal(stored.Wrapped, row.Wrapped) {
		return d.unwrap(ctx, &stored)
	}
	return newDataKey(id, raw)
}

// wrap sets KEK and Wrapped of a data key. kek is the name of the KEK that
// the key manager wraps with.
func (d *dataKeys) wrap(ctx context.Context, row *DataKey, kek string, raw []byte) error {
	row.KEK = kek
	err := d.ask(ctx, "wrap", func() (err error) {
		row.Wrapped, err = d.kek.Wrap(ctx, raw, row.aad())
		return err
	})
	if err != nil {
		return fmt.Errorf("wrapping data key %d of %s under %s: %w", row.ID, row.Tenant, kek, err)
	}
	return nil
}

func (d *dataKeys) unwrap(ctx context.Context, row *DataKey) (*dataKey, error) {
	raw, err := d.unwrapRaw(ctx, row)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	return newDataKey(row.ID, raw)
}

func (d *dataKeys) unwrapRaw(ctx context.Context, row *DataKey) (raw []byte, err error) {
	err = d.ask(ctx, "unwrap", func() (err error) {
		raw, err = d.kek.Unwrap(ctx, row.KEK, row.Wrapped, row.aad())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening data key %d of %s, wrapped under %s: %w", row.ID, row.Tenant, row.KEK, err)
	}
	return raw, nil
}

// ask times and counts one call of the key manager and sorts its error.
func (d *dataKeys) ask(ctx context.Context, op string, call func() error) error {
	start := d.clock()
	err := sorted(call())
	took := d.clock().Sub(start)
	d.calls.Add(1)
	d.nanos.Add(int64(took))
	if err != nil {
		d.failures.Add(1)
	}
	if d.observe != nil {
		d.observe(ctx, Call{KeyManager: true, Op: op, Start: start, Took: took, Err: err})
	}
	return err
}

// sorted tells an outage of the key manager from its having another key.
func sorted(err error) error {
	if err == nil {
		return nil
	}
	if isWrongKey(err) {
		return fmt.Errorf("%w: %w", ErrWrongKEK, err)
	}
	return fmt.Errorf("key manager: %w: %w", ErrUnavailable, err)
}

// aad binds a wrapped data key to its tenant and ID.
func (k *DataKey) aad() []byte {
	return associated(purposeDataKey, k.Tenant, fmt.Sprint(k.ID))
}
