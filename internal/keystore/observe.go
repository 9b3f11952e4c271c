package keystore

import (
	"context"
	"fmt"
	"time"

	"spekeasy/contentkey"
)

// Call is a call of the database or the key manager that has ended.
type Call struct {
	KeyManager bool   // not the database
	Op         string // keys, commit, data_keys, create_data_key; wrap, unwrap
	Start      time.Time
	Took       time.Duration
	Err        error // without key bytes, as all errors are
}

// observed is a store whose calls are told to somebody.
type observed struct {
	Store
	clock func() time.Time
	tell  func(context.Context, Call)
}

// underlying is the store itself, for what only some stores can do.
func underlying(s Store) Store {
	if o, ok := s.(*observed); ok {
		return o.Store
	}
	return s
}

func (o *observed) told(ctx context.Context, op string, start time.Time, err *error) {
	o.tell(ctx, Call{Op: op, Start: start, Took: o.clock().Sub(start), Err: *err})
}

func (o *observed) Keys(ctx context.Context, tenant string, kids []contentkey.KID) (records []Record, err error) {
	defer o.told(ctx, "keys", o.clock(), &err)
	return o.Store.Keys(ctx, tenant, kids)
}

func (o *observed) Commit(ctx context.Context, keys []Record, bindings []Binding) (stored []Record, err error) {
	defer o.told(ctx, "commit", o.clock(), &err)
	return o.Store.Commit(ctx, keys, bindings)
}

func (o *observed) DataKeys(ctx context.Context, tenant string) (keys []DataKey, err error) {
	defer o.told(ctx, "data_keys", o.clock(), &err)
	return o.Store.DataKeys(ctx, tenant)
}

func (o *observed) CreateDataKey(ctx context.Context, k DataKey) (stored DataKey, err error) {
	defer o.told(ctx, "create_data_key", o.clock(), &err)
	return o.Store.CreateDataKey(ctx, k)
}

// CheckStore asks the database for the custody record and returns when the
// store was founded, a time that no clock of a server can be before.
func (k *Keystore) CheckStore(ctx context.Context) (founded time.Time, err error) {
	row, err := k.custodyRecord(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return row.Created, nil
}

// CheckKeyManager has the key manager open the custody record, as at the
// start.
func (k *Keystore) CheckKeyManager(ctx context.Context) error {
	row, err := k.custodyRecord(ctx)
	if err != nil {
		return err
	}
	_, err = k.dataKeys.unwrap(ctx, row)
	return err
}

func (k *Keystore) custodyRecord(ctx context.Context) (*DataKey, error) {
	row, err := custody(ctx, k.store)
	if err == nil && row == nil { // it was there when the keystore was opened
		err = fmt.Errorf("custody record: %w: it is missing", ErrCorrupt)
	}
	return row, err
}
