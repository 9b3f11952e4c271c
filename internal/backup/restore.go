package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"spekeasy/internal/keystore"
)

// Target is a store that a backup can be restored into.
type Target = Source

// Errors of a restore.
var (
	// ErrFounded reports a store that is in use.
	ErrFounded = errors.New("the store has keys already; a backup is restored into an empty one only")

	// ErrOther reports rows that do not come from this backup.
	ErrOther = errors.New("the store holds rows that are not of this backup; empty it")
)

const restoreBatch = 500

// Restore puts everything that is in a backup into a store in which no keys
// were ever kept. It first reads the backup as [Verify] does, and writes
// nothing unless all of it opens.
//
// The custody record, without which no server starts on the store, is written
// when everything else is there. A restore that was interrupted is completed
// by repeating it; until then the store is of no use to anybody.
func Restore(ctx context.Context, r io.ReadSeeker, identities []age.Identity, kek keystore.KeyManager, store Target, progress func(Counts)) (Report, error) {
	if err := unfounded(ctx, store); err != nil {
		return Report{}, err
	}
	report, sum, err := verify(ctx, r, identities, kek, nil)
	if err != nil {
		return Report{}, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return Report{}, fmt.Errorf("reading the backup again: %w", err)
	}
	in, err := open(r, identities)
	if err != nil {
		return Report{}, err
	}
	w := &restorer{store: store}
	for l, err := range in.lines(ctx) {
		if err == nil {
			err = w.line(ctx, l)
		}
		if err != nil {
			return Report{}, err
		}
		in.tell(progress)
	}
	if err := w.flush(ctx); err != nil {
		return Report{}, err
	}
	if in.sum != sum {
		return Report{}, fmt.Errorf("%w: it has changed while it was restored", ErrDamaged)
	}
	if err := complete(ctx, store, report.Counts, len(w.custody)); err != nil {
		return Report{}, err
	}
	for _, row := range w.custody {
		if err := w.dataKey(ctx, row); err != nil {
			return Report{}, err
		}
	}
	return report, nil
}

func unfounded(ctx context.Context, store Target) error {
	rows, err := store.DataKeys(ctx, keystore.CustodyTenant)
	if err != nil {
		return fmt.Errorf("custody record: %w", err)
	}
	if len(rows) > 0 {
		return ErrFounded
	}
	return nil
}

// restorer writes rows.
type restorer struct {
	store    Target
	custody  []keystore.DataKey
	records  []keystore.Record
	bindings []keystore.Binding
}

func (w *restorer) line(ctx context.Context, l *line) error {
	switch {
	case l.DataKey != nil && l.DataKey.Tenant == keystore.CustodyTenant:
		w.custody = append(w.custody, keystore.DataKey(*l.DataKey))
	case l.DataKey != nil:
		return w.dataKey(ctx, keystore.DataKey(*l.DataKey))
	case l.Key != nil:
		w.records = append(w.records, keystore.Record(*l.Key))
	case l.Binding != nil:
		w.bindings = append(w.bindings, l.Binding.binding())
	case l.Document != nil:
		return w.document(ctx, l.Document)
	}
	if len(w.records)+len(w.bindings) < restoreBatch {
		return nil
	}
	return w.flush(ctx)
}

func (w *restorer) dataKey(ctx context.Context, row keystore.DataKey) error {
	stored, err := w.store.CreateDataKey(ctx, row)
	if err != nil {
		return fmt.Errorf("data key %d of %s: %w", row.ID, row.Tenant, err)
	}
	if stored.KEK != row.KEK || !bytes.Equal(stored.Wrapped, row.Wrapped) {
		return fmt.Errorf("data key %d of %s: %w", row.ID, row.Tenant, ErrOther)
	}
	return nil
}

// flush stores what is at hand. Rows that an interrupted restore stored
// before are there already.
func (w *restorer) flush(ctx context.Context) error {
	if len(w.records)+len(w.bindings) == 0 {
		return nil
	}
	stored, err := w.store.Commit(ctx, w.records, w.bindings)
	if err != nil {
		return fmt.Errorf("storing content keys: %w", err)
	}
	for i := range w.records {
		if i >= len(stored) || !same(&stored[i], &w.records[i]) {
			return fmt.Errorf("content key %s: %w", w.records[i].KID, ErrOther)
		}
	}
	w.records, w.bindings = nil, nil // a store may still be reading them
	return nil
}

func same(a, b *keystore.Record) bool {
	return a.Tenant == b.Tenant && a.KID == b.KID && bytes.Equal(a.Wrapped, b.Wrapped) && a.DataKey == b.DataKey &&
		a.Source == b.Source && a.ContentID == b.ContentID && a.Scheme == b.Scheme &&
		a.Created.Equal(b.Created) && a.Deleted.Equal(b.Deleted)
}

// complete counts what the store holds now: all of the backup and nothing
// else. custody is the number of custody records that are still to come.
func complete(ctx context.Context, store Target, want Counts, custody int) error {
	documents, err := countDocuments(ctx, store)
	if err != nil {
		return err
	}
	got := Counts{DataKeys: custody, Documents: documents}
	for tenant, err := range keystore.Tenants(ctx, store) {
		if err != nil {
			return err
		}
		if tenant == keystore.CustodyTenant {
			return ErrFounded // meanwhile
		}
		rows, err := store.DataKeys(ctx, tenant)
		if err != nil {
			return fmt.Errorf("data keys of %s: %w", tenant, err)
		}
		got.DataKeys += len(rows)
		for page, err := range keystore.RecordPages(ctx, store, tenant) {
			if err != nil {
				return err
			}
			got.Keys += len(page)
		}
		for page, err := range keystore.BindingPages(ctx, store, tenant, keystore.BindingFilter{}) {
			if err != nil {
				return err
			}
			got.Bindings += len(page)
		}
	}
	if got != want {
		return fmt.Errorf("%w: it has %+v, the backup %+v", ErrOther, got, want)
	}
	return nil
}
