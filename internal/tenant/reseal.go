package tenant

import (
	"context"
	"errors"
	"slices"
	"time"

	"spekeasy/internal/keystore"
)

// Resealer puts the secrets of documents under another data key, when that of
// their tenant is rotated.
type Resealer struct {
	store Store
	vault *Vault
	now   func() time.Time
}

var _ keystore.Resealer = (*Resealer)(nil)

// NewResealer returns a resealer.
func NewResealer(s Store, v *Vault, now func() time.Time) *Resealer { return &Resealer{s, v, now} }

// ResealSecrets implements [keystore.Resealer].
func (r *Resealer) ResealSecrets(ctx context.Context, tenant string, newest uint32, dryRun bool) (done int, used []uint32, err error) {
	one := func(d *Document) error {
		if d.Owner != tenant || d.DataKey == newest {
			return nil
		}
		old := d.DataKey
		if dryRun {
			used = append(used, old)
			return nil
		}
		body, err := r.vault.body(ctx, d)
		var secret []byte
		if err == nil {
			secret, err = r.vault.Open(ctx, d)
		}
		if errors.Is(err, keystore.ErrCorrupt) { // the server tells of it
			used = append(used, old)
			return nil
		}
		if err != nil {
			return err
		}
		defer clear(secret)
		next := *d
		next.Version++
		next.Changed = r.now().UTC().Truncate(time.Microsecond)
		if err := r.vault.Seal(ctx, &next, tenant, secret); err != nil {
			return err
		}
		if err := r.vault.mark(ctx, &next, body); err != nil {
			return err
		}
		err = r.store.ReplaceDocument(ctx, next)
		if errors.Is(err, ErrChanged) { // somebody else was at work; next time
			used = append(used, old)
			return nil
		}
		if err == nil {
			done++
		}
		return err
	}
	d, err := r.store.Document(ctx, KindTenant, tenant)
	if err == nil {
		err = one(&d)
	} else if errors.Is(err, ErrAbsent) {
		err = nil
	}
	if err != nil {
		return done, used, err
	}
	for d, err := range Documents(ctx, r.store, KindCredential, CredentialID(tenant, ""), "", loadPage) {
		if err == nil {
			err = one(d)
		}
		if err != nil {
			return done, used, err
		}
	}
	slices.Sort(used)
	return done, slices.Compact(used), nil
}
