package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// RewrapOptions are the settings of [Custody.Rewrap]. The zero value finishes
// what is under way: it makes no new data keys, puts every record under its
// tenant's newest data key and every data key under the key manager's present
// KEK, and removes data keys that have long been out of use.
type RewrapOptions struct {
	NewDataKeys bool          // make a new data key for each tenant
	MinAge      time.Duration // but not for one whose newest is younger than this
	SameKEK     bool          // rewrap also what is under a KEK of the present name, after the key manager rotated it
	DryRun      bool          // only count what there is to do
	Progress    func(RewrapReport)

	// Secrets are what is sealed by [Keystore.SealSecret] beside the content
	// keys. Without it a data key that seals such a secret stays.
	Secrets Resealer
}

// Resealer keeps secrets that a [Keystore] has sealed.
type Resealer interface {
	// ResealSecrets puts those of a tenant under its newest data key, and
	// returns how many it did and the data keys that the others are under;
	// with dryRun it only counts what there is to do.
	ResealSecrets(ctx context.Context, tenant string, newest uint32, dryRun bool) (done int, used []uint32, err error)
}

// RewrapReport is what a rewrap did and what it left.
type RewrapReport struct {
	Looked      int // records
	NewDataKeys int
	Resealed    int // records that were put under the newest data key
	Left        int // records that remain under an older one
	Damaged     int // of these, records that do not open
	FirstDamage error

	Secrets int // other secrets that were put under the newest data key

	Rewrapped int            // data keys that were put under the present KEK
	OldKEKs   map[string]int // data keys that remain under another KEK

	Removed   int       // data keys
	Unused    int       // data keys that nothing is sealed under, kept for a while
	Removable time.Time // when another rewrap can remove the last of Unused
}

// Rewrap rotates what content keys are sealed under. No content key changes.
//
// It can be interrupted at any point and repeated, run while servers use the
// store, and run twice at once: each record and data key changes only from
// the state that Rewrap has seen and opened. What is sealed anew is opened
// before it replaces the old. Servers take up a new data key within a minute;
// an old one is removed when nothing is sealed under it and it was superseded
// more than an hour ago, which takes a later call.
//
// Rewrap goes on when a record is damaged and ends when a data key does not
// open.
func (c *Custody) Rewrap(ctx context.Context, o RewrapOptions) (RewrapReport, error) {
	r := &rewrap{Custody: c, RewrapOptions: o, report: RewrapReport{OldKEKs: make(map[string]int)}}
	for tenant, err := range Tenants(ctx, c.store) {
		if err == nil {
			err = r.tenant(ctx, tenant)
		}
		if err != nil {
			return r.report, late(err)
		}
	}
	if r.report.Removed+r.report.Rewrapped > 0 && !r.DryRun {
		if err := r.scrub(ctx); err != nil {
			return r.report, fmt.Errorf("copies of old data keys may be left in the store's files: %w", err)
		}
	}
	return r.report, nil
}

// rewrap is one run of [Custody.Rewrap].
type rewrap struct {
	*Custody
	RewrapOptions
	report RewrapReport
}

func (r *rewrap) progress() {
	if r.Progress != nil {
		r.Progress(r.report)
	}
}

func (r *rewrap) tenant(ctx context.Context, tenant string) error {
	rows, err := r.rows(ctx, tenant)
	if err != nil {
		return err
	}
	if tenant != CustodyTenant { // no content key is sealed under that one, and it stays
		began := r.now()
		target := rows[len(rows)-1].ID
		if r.NewDataKeys && began.Sub(rows[len(rows)-1].Created) >= r.MinAge {
			target++
			r.report.NewDataKeys++
			if !r.DryRun {
				if _, err := r.k.dataKeys.create(ctx, tenant, target); err != nil {
					return err
				}
				r.k.dataKeys.renew(tenant)
				if rows, err = r.rows(ctx, tenant); err != nil {
					return err
				}
			}
		}
		used, err := r.reseal(ctx, tenant, target)
		if err != nil {
			return err
		}
		if r.Secrets != nil {
			done, still, err := r.Secrets.ResealSecrets(ctx, tenant, target, r.DryRun)
			if err != nil {
				return fmt.Errorf("secrets of tenant %s: %w", tenant, err)
			}
			r.report.Secrets += done
			for _, id := range still {
				used[id] = true
			}
		}
		if err := r.remove(ctx, rows, used, began); err != nil {
			return err
		}
	}
	if err := r.rewrapAll(ctx, tenant); err != nil {
		return err
	}
	r.progress()
	return nil
}

func (r *rewrap) rows(ctx context.Context, tenant string) ([]DataKey, error) {
	rows, err := r.store.DataKeys(ctx, tenant)
	if err == nil && len(rows) == 0 {
		err = ErrNoDataKey
	}
	if err != nil {
		return nil, fmt.Errorf("data keys of %s: %w", tenant, err)
	}
	return rows, nil
}

// reseal puts the records of a tenant under the target data key, and returns
// the other data keys that are still needed.
func (r *rewrap) reseal(ctx context.Context, tenant string, target uint32) (used map[uint32]bool, err error) {
	used = make(map[uint32]bool)
	for page, err := range RecordPages(ctx, r.store, tenant) {
		if err != nil {
			return nil, err
		}
		var changes []Reseal
		left := 0
		for i := range page {
			rec := &page[i]
			if rec.DataKey == target {
				continue
			}
			change, err := r.change(ctx, tenant, rec, target)
			switch {
			case errors.Is(err, ErrCorrupt):
				r.report.Damaged++
				if r.report.FirstDamage == nil {
					r.report.FirstDamage = err
				}
				fallthrough
			case err == nil && r.DryRun:
				left++
				used[rec.DataKey] = true
			case err != nil:
				return nil, err
			default:
				changes = append(changes, change)
			}
		}
		done, err := 0, error(nil)
		if len(changes) > 0 {
			if done, err = r.store.Reseal(ctx, tenant, changes); err != nil {
				return nil, fmt.Errorf("content keys of tenant %s: %w", tenant, err)
			}
		}
		if done < len(changes) { // somebody else was at work
			for _, c := range changes {
				used[c.OldDataKey] = true
			}
		}
		r.report.Looked += len(page)
		r.report.Resealed += done
		r.report.Left += left + len(changes) - done
		r.progress()
	}
	return used, nil
}

// change opens a record and seals it again. A purged key has nothing sealed,
// but must let go of its data key.
func (r *rewrap) change(ctx context.Context, tenant string, rec *Record, target uint32) (Reseal, error) {
	change := Reseal{KID: rec.KID, OldWrapped: rec.Wrapped, OldDataKey: rec.DataKey, DataKey: target}
	if rec.Purged() {
		return change, nil
	}
	from, err := r.k.dataKeys.get(ctx, tenant, rec.DataKey)
	if err != nil {
		return Reseal{}, fmt.Errorf("content key %s: %w", rec.KID, err)
	}
	plain, err := rec.unseal(from, tenant)
	if err != nil {
		return Reseal{}, fmt.Errorf("content key %s: %w", rec.KID, err)
	}
	defer clear(plain)
	if r.DryRun {
		return change, nil
	}
	to, err := r.k.dataKeys.get(ctx, tenant, target)
	if err != nil {
		return Reseal{}, fmt.Errorf("content key %s: %w", rec.KID, err)
	}
	now := Record{Tenant: tenant, KID: rec.KID}
	now.seal(to, plain)
	again, err := now.unseal(to, tenant)
	if err != nil || !bytes.Equal(again, plain) {
		return Reseal{}, fmt.Errorf("content key %s: sealed under data key %d it does not open; the old seal remains: %w", rec.KID, target, err)
	}
	clear(again)
	change.Wrapped = now.Wrapped
	return change, nil
}

// remove removes data keys that nothing is sealed under. began is when the
// walk began that found which ones are used.
func (r *rewrap) remove(ctx context.Context, rows []DataKey, used map[uint32]bool, began time.Time) error {
	for i := range rows[:len(rows)-1] {
		if used[rows[i].ID] {
			continue
		}
		removable := rows[i+1].Created.Add(removeAfter)
		if began.Before(removable) {
			r.report.Unused++
			if removable.After(r.report.Removable) {
				r.report.Removable = removable
			}
			continue
		}
		gone := true
		if !r.DryRun {
			var err error
			if gone, err = r.store.RemoveDataKey(ctx, rows[i].Tenant, rows[i].ID); err != nil {
				return fmt.Errorf("data key %d of %s: %w", rows[i].ID, rows[i].Tenant, err)
			}
		}
		if gone {
			r.report.Removed++
		}
	}
	return nil
}

// rewrapAll puts the data keys of a tenant under the present KEK.
func (r *rewrap) rewrapAll(ctx context.Context, tenant string) error {
	rows, err := r.rows(ctx, tenant)
	if err != nil {
		return err
	}
	present := r.k.dataKeys.kek.KeyID()
	for i := range rows {
		if r.DryRun || rows[i].KEK == present && !r.SameKEK {
			continue
		}
		done, err := r.rewrapOne(ctx, &rows[i], present)
		if err != nil {
			return err
		}
		if done {
			r.report.Rewrapped++
		}
	}
	if rows, err = r.rows(ctx, tenant); err != nil {
		return err
	}
	for i := range rows {
		if rows[i].KEK != present {
			r.report.OldKEKs[rows[i].KEK]++
		}
	}
	return nil
}

func (r *rewrap) rewrapOne(ctx context.Context, row *DataKey, kek string) (bool, error) {
	d := r.k.dataKeys
	raw, err := d.unwrapRaw(ctx, row)
	if err != nil {
		return false, err
	}
	defer clear(raw)
	now := *row
	if err := d.wrap(ctx, &now, kek, raw); err != nil {
		return false, err
	}
	again, err := d.unwrapRaw(ctx, &now)
	if err != nil {
		return false, err
	}
	defer clear(again)
	if !bytes.Equal(again, raw) {
		return false, fmt.Errorf("data key %d of %s: %w: the key manager opens it as another one", row.ID, row.Tenant, ErrWrongKEK)
	}
	done, err := r.store.RewrapDataKey(ctx, *row, now)
	if err != nil {
		return false, fmt.Errorf("data key %d of %s: %w", row.ID, row.Tenant, err)
	}
	return done, nil
}
