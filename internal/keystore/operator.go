package keystore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"spekeasy/contentkey"
)

// CustodyStore is a store with all that the operator's side needs.
type CustodyStore interface {
	Store
	Pager
	Custodian
}

// Custody is the operator's side of a [Keystore]: it imports and exports
// content keys, deletes them, and rotates what they are sealed under. It may
// be used while other processes serve from the same store.
type Custody struct {
	k     *Keystore
	store CustodyStore
}

// Errors of the operator's side.
var (
	// ErrNoCustody reports a store that cannot rotate and delete keys.
	ErrNoCustody = errors.New("this kind of store cannot rotate and delete keys")

	// ErrPurged reports a deleted key whose value was destroyed.
	ErrPurged = errors.New("content key was purged")
)

// Custody returns the operator's side.
func (k *Keystore) Custody() (*Custody, error) {
	s, ok := underlying(k.store).(CustodyStore)
	if !ok {
		return nil, ErrNoCustody
	}
	return &Custody{k, s}, nil
}

// Store returns the store below.
func (c *Custody) Store() CustodyStore { return c.store }

// pageSize is how many records are read, and changed in one transaction, at
// once. Requests with new keys wait behind such a transaction.
const pageSize = 500

// Tenants walks the names that own data keys, [CustodyTenant] among them.
func Tenants(ctx context.Context, p Pager) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for after := ""; ; {
			page, err := p.Tenants(ctx, after, pageSize)
			if err != nil {
				yield("", fmt.Errorf("tenants: %w", err))
				return
			}
			for _, t := range page {
				if !yield(t, nil) {
					return
				}
				after = t
			}
			if len(page) < pageSize {
				return
			}
		}
	}
}

// RecordPages walks the records of a tenant, some hundred at a time.
func RecordPages(ctx context.Context, p Pager, tenant string) iter.Seq2[[]Record, error] {
	return pages("content keys", tenant, func(after string) ([]Record, string, error) {
		return p.PageKeys(ctx, tenant, after, pageSize)
	})
}

// BindingPages walks the bindings of a tenant that match the filter, some
// hundred at a time.
func BindingPages(ctx context.Context, p Pager, tenant string, f BindingFilter) iter.Seq2[[]Binding, error] {
	return pages("bindings", tenant, func(after string) ([]Binding, string, error) {
		return p.PageBindings(ctx, tenant, f, after, pageSize)
	})
}

func pages[T any](what, tenant string, read func(after string) ([]T, string, error)) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		for after := ""; ; {
			page, next, err := read(after)
			if err != nil {
				yield(nil, fmt.Errorf("%s of tenant %s: %w", what, tenant, err))
				return
			}
			if len(page) > 0 && !yield(page, nil) || next == "" {
				return
			}
			after = next
		}
	}
}

// StoredKey is a content key with its record.
type StoredKey struct {
	Record
	Value contentkey.Value
	IV    contentkey.IV
}

// Format hides the key.
func (s StoredKey) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(stored content key %s)", s.KID)
}

// Keys walks the living content keys of a tenant that are kept here, in
// ascending order of KID.
// It does not go on after an error.
func (c *Custody) Keys(ctx context.Context, tenant string) iter.Seq2[StoredKey, error] {
	return func(yield func(StoredKey, error) bool) {
		if err := CheckTenant(tenant); err != nil {
			yield(StoredKey{}, err)
			return
		}
		for page, err := range RecordPages(ctx, c.store, tenant) {
			if err != nil {
				yield(StoredKey{}, err)
				return
			}
			for i := range page {
				if !page[i].Deleted.IsZero() {
					continue
				}
				o, err := c.k.open(ctx, tenant, &page[i])
				if errors.Is(err, ErrElsewhere) {
					continue
				}
				if err != nil {
					yield(StoredKey{}, late(err))
					return
				}
				if !yield(StoredKey{page[i], o.value, o.iv}, nil) {
					return
				}
			}
		}
	}
}

// RecordPages walks the records of a tenant, some hundred at a time.
func (c *Custody) RecordPages(ctx context.Context, tenant string) iter.Seq2[[]Record, error] {
	return RecordPages(ctx, c.store, tenant)
}

// BindingPages walks the bindings of a tenant that match the filter.
func (c *Custody) BindingPages(ctx context.Context, tenant string, f BindingFilter) iter.Seq2[[]Binding, error] {
	return BindingPages(ctx, c.store, tenant, f)
}

// Records returns the records of the key IDs, in their order. It is all or
// nothing: a key ID without a record gives [ErrNotFound].
func (c *Custody) Records(ctx context.Context, tenant string, kids []contentkey.KID) ([]Record, error) {
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	found, err := c.store.Keys(ctx, tenant, kids)
	if err != nil {
		return nil, fmt.Errorf("reading content keys of tenant %s: %w", tenant, err)
	}
	byKID := make(map[contentkey.KID]Record, len(found))
	for _, r := range found {
		byKID[r.KID] = r
	}
	all := make([]Record, len(kids))
	for i, kid := range kids {
		r, ok := byKID[kid]
		if !ok {
			return nil, fmt.Errorf("content key %s: %w", kid, ErrNotFound)
		}
		all[i] = r
	}
	return all, nil
}

// Delete marks keys as deleted: requests for them are refused with
// [ErrDeleted], by other processes once their caches have expired. Until
// they are purged they can be undeleted. It returns how many of them lived,
// and deletes nothing when one of them does not exist.
func (c *Custody) Delete(ctx context.Context, tenant string, kids []contentkey.KID) (int, error) {
	if _, err := c.Records(ctx, tenant, kids); err != nil {
		return 0, err
	}
	n, err := c.store.Delete(ctx, tenant, kids, c.now())
	for _, kid := range kids {
		c.k.cache.remove(tenant, kid)
	}
	if err != nil {
		return 0, fmt.Errorf("content keys of tenant %s: %w", tenant, err)
	}
	return n, nil
}

// Undelete brings deleted keys back, and returns how many of them were
// deleted. It brings none back when one of them does not exist or, with
// [ErrPurged], is lost.
func (c *Custody) Undelete(ctx context.Context, tenant string, kids []contentkey.KID) (int, error) {
	all, err := c.Records(ctx, tenant, kids)
	if err != nil {
		return 0, err
	}
	for i := range all {
		if all[i].Purged() {
			return 0, fmt.Errorf("content key %s: %w", all[i].KID, ErrPurged)
		}
	}
	n, err := c.store.Undelete(ctx, tenant, kids)
	if err != nil {
		return 0, fmt.Errorf("content keys of tenant %s: %w", tenant, err)
	}
	return n, nil
}

// Purged reports whether the key was deleted and its value destroyed.
func (r *Record) Purged() bool { return !r.Deleted.IsZero() && len(r.Wrapped) == 0 }

// DefaultGrace is how long a deleted key can be brought back.
const DefaultGrace = 30 * 24 * time.Hour

// PurgeOptions are the settings of [Custody.Purge].
type PurgeOptions struct {
	Tenant   string        // "" for all
	Grace    time.Duration // only keys that were deleted at least that long ago
	DryRun   bool          // only count
	Progress func(PurgeReport)
}

// PurgeReport is what a purge did.
type PurgeReport struct {
	Looked  int // records
	Purged  int // keys whose value is destroyed now
	Before  int // keys whose value was destroyed by an earlier purge
	Waiting int // deleted keys within their time of grace
}

// Purge destroys the values of keys that were deleted long ago, in the files
// of a [Scrubber] too. Their key IDs stay refused for ever.
func (c *Custody) Purge(ctx context.Context, o PurgeOptions) (PurgeReport, error) {
	var r PurgeReport
	before := c.now().Add(-o.Grace)
	err := c.tenants(ctx, o.Tenant, func(tenant string) error {
		for page, err := range RecordPages(ctx, c.store, tenant) {
			if err != nil {
				return err
			}
			var due []contentkey.KID
			for i := range page {
				switch rec := &page[i]; {
				case rec.Deleted.IsZero():
				case rec.Purged():
					r.Before++
				case rec.Deleted.After(before):
					r.Waiting++
				default:
					due = append(due, rec.KID)
				}
			}
			n := len(due)
			if !o.DryRun && n > 0 {
				if n, err = c.store.Purge(ctx, tenant, due, before); err != nil {
					return fmt.Errorf("content keys of tenant %s: %w", tenant, err)
				}
			}
			r.Looked += len(page)
			r.Purged += n
			if o.Progress != nil {
				o.Progress(r)
			}
		}
		return nil
	})
	if err != nil || o.DryRun || r.Purged+r.Before == 0 {
		return r, err
	}
	// Before counts, since an earlier purge may have been cut off here.
	if err := c.scrub(ctx); err != nil {
		return r, fmt.Errorf("%d content keys are purged, but copies of their wrapped values may be left until another purge: %w", r.Purged, err)
	}
	return r, nil
}

// scrub rewrites the files of the store, if it needs that.
func (c *Custody) scrub(ctx context.Context) error {
	if s, ok := c.store.(Scrubber); ok {
		return s.Scrub(ctx)
	}
	return nil
}

// tenants calls f for one tenant or, when the name is "", for each that has
// content keys.
func (c *Custody) tenants(ctx context.Context, only string, f func(string) error) error {
	if only != "" {
		if err := CheckTenant(only); err != nil {
			return err
		}
		return f(only)
	}
	for tenant, err := range Tenants(ctx, c.store) {
		if err == nil && tenant != CustodyTenant {
			err = f(tenant)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Custody) now() time.Time { return c.k.clock().UTC().Truncate(time.Microsecond) }
