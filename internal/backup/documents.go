package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// document is a tenant, a credential or an admin. What the admin API answered
// under idempotency keys is not worth a backup.
type document struct {
	Kind    tenant.Kind `json:"kind"`
	ID      string      `json:"id"`
	Version uint64      `json:"version"`
	Body    []byte      `json:"body"`
	Changed time.Time   `json:"changed"`
	Deleted bool        `json:"deleted,omitzero"`
	Sealed  []byte      `json:"sealed,omitempty"`
	Owner   string      `json:"owner,omitempty"`
	DataKey uint32      `json:"data_key,omitempty"`
}

const documentPage = 500

// documents walks what a backup has of them.
func documents(ctx context.Context, store tenant.Store) iter.Seq2[*tenant.Document, error] {
	return func(yield func(*tenant.Document, error) bool) {
		for _, kind := range []tenant.Kind{tenant.KindTenant, tenant.KindCredential, tenant.KindAdmin} {
			for d, err := range tenant.Documents(ctx, store, kind, "", "", documentPage) {
				if err != nil {
					err = fmt.Errorf("%ss: %w", kind, err)
				}
				if !yield(d, err) || err != nil {
					return
				}
			}
		}
	}
}

// documents writes what there is, each after its data key.
func (o *writer) documents(ctx context.Context) error {
	store, ok := o.store.(tenant.Store)
	if !ok {
		return nil
	}
	for d, err := range documents(ctx, store) {
		if err != nil {
			return err
		}
		if len(d.Sealed) > 0 && !o.known[d.Owner][d.DataKey] { // a new tenant, or a rotation
			if o.known[d.Owner] == nil {
				o.known[d.Owner] = make(map[uint32]bool)
			}
			if err := o.dataKeys(ctx, d.Owner, o.known[d.Owner]); err != nil {
				return err
			}
			if !o.known[d.Owner][d.DataKey] {
				return fmt.Errorf("%s %s: data key %d: %w", d.Kind, d.ID, d.DataKey, keystore.ErrNoDataKey)
			}
		}
		c := fromDocument(d)
		if err := o.line(&line{Document: c}); err != nil {
			return fmt.Errorf("%s %s: %w", d.Kind, d.ID, err)
		}
		o.counts.Documents++
	}
	return nil
}

func fromDocument(d *tenant.Document) *document {
	return &document{
		Kind: d.Kind, ID: d.ID, Version: d.Version, Body: d.Body, Changed: d.Changed, Deleted: d.Deleted,
		Sealed: d.Sealed, Owner: d.Owner, DataKey: d.DataKey,
	}
}

func (d *document) document() tenant.Document {
	return tenant.Document{
		Kind: d.Kind, ID: d.ID, Version: d.Version, Body: d.Body, Changed: d.Changed, Deleted: d.Deleted,
		Sealed: d.Sealed, Owner: d.Owner, DataKey: d.DataKey,
	}
}

// document judges a document of a backup.
func (v *verifier) document(d *document) error {
	if len(d.Sealed) == 0 {
		return nil
	}
	if !v.dataKeys[place{d.Owner, d.DataKey}] {
		return fmt.Errorf("%w: %s %s comes before its data key", ErrDamaged, d.Kind, d.ID)
	}
	return v.opener.CheckSecret(d.Owner, string(d.Kind), d.ID, d.Sealed)
}

// document stores a document. One that an interrupted restore stored before
// is there already.
func (w *restorer) document(ctx context.Context, d *document) error {
	store, ok := w.store.(tenant.Store)
	if !ok {
		return fmt.Errorf("%s %s: this kind of store keeps none", d.Kind, d.ID)
	}
	err := store.CreateDocument(ctx, d.document())
	if errors.Is(err, tenant.ErrExists) {
		err = ErrOther
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", d.Kind, d.ID, err)
	}
	return nil
}

// countDocuments counts what a store holds.
func countDocuments(ctx context.Context, s Target) (n int, err error) {
	store, ok := s.(tenant.Store)
	if !ok {
		return 0, nil
	}
	for _, err := range documents(ctx, store) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
