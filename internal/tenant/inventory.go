package tenant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"spekeasy/internal/keystore"
)

// Inventory is what the store had of tenants and credentials at one time.
type Inventory struct {
	Revision uint64
	Tenants  []Settings         // with their credentials, in ascending order of ID
	Admins   []StoredCredential // of the admin API, in ascending order of name

	// Faults are documents that could not be read and are left out. With
	// Later, reading them again may help.
	Faults []error
	Later  bool
}

// Loader reads an [Inventory]. It remembers what it has opened, so that only
// documents that have changed cost more than reading them. It is not safe for
// concurrent use.
type Loader struct {
	store  Store
	vault  *Vault
	opened map[string]opened // by kind and ID
}

type opened struct {
	version    uint64
	settings   Settings
	credential *StoredCredential
}

// NewLoader returns a loader.
func NewLoader(s Store, v *Vault) *Loader {
	return &Loader{store: s, vault: v, opened: make(map[string]opened)}
}

const loadPage = 500

// Load reads everything.
func (l *Loader) Load(ctx context.Context) (*Inventory, error) {
	inv := &Inventory{}
	var err error
	// First of all: what is changed meanwhile is read now or the next time.
	if inv.Revision, err = l.store.Revision(ctx); err != nil {
		return nil, err
	}
	now := make(map[string]opened)
	byID := make(map[string]int)
	for _, kind := range []Kind{KindTenant, KindCredential, KindAdmin} {
		for d, err := range Documents(ctx, l.store, kind, "", "", loadPage) {
			if err != nil {
				return nil, fmt.Errorf("reading %ss: %w", kind, err)
			}
			if d.Deleted {
				continue
			}
			o, err := l.open(ctx, d)
			if err != nil {
				if !errors.Is(err, keystore.ErrCorrupt) {
					inv.Later = true
				}
				inv.Faults = append(inv.Faults, err)
				continue
			}
			now[string(kind)+" "+d.ID] = o
			inv.add(d, &o, byID)
		}
	}
	l.opened = now
	return inv, ctx.Err()
}

func (l *Loader) open(ctx context.Context, d *Document) (o opened, err error) {
	if o, ok := l.opened[string(d.Kind)+" "+d.ID]; ok && o.version == d.Version {
		return o, nil
	}
	o.version = d.Version
	if d.Kind == KindTenant {
		o.settings, err = l.vault.OpenSettings(ctx, d)
	} else {
		o.credential, err = l.vault.OpenCredential(ctx, d)
	}
	return o, err
}

// add puts a document in its place. Credentials come after all tenants; those
// of a tenant that is gone are of no use.
func (inv *Inventory) add(d *Document, o *opened, byID map[string]int) {
	switch d.Kind {
	case KindTenant:
		byID[d.ID] = len(inv.Tenants)
		inv.Tenants = append(inv.Tenants, o.settings)
	case KindCredential:
		owner, _, _ := strings.Cut(d.ID, "/")
		if i, ok := byID[owner]; ok {
			inv.Tenants[i].Credentials = append(inv.Tenants[i].Credentials, o.credential.Credential)
		}
	case KindAdmin:
		inv.Admins = append(inv.Admins, *o.credential)
	}
}

// With returns the tenants with one of them changed: settings take the place
// of those of their ID, whose credentials stay.
func (inv *Inventory) With(s Settings) []Settings {
	all := slices.Clone(inv.Tenants)
	for i := range all {
		if all[i].ID == s.ID {
			s.Credentials = all[i].Credentials
			all[i] = s
			return all
		}
	}
	return append(all, s)
}

// WithCredential returns the tenants with a credential added to one, in the
// place of the one of its name.
func (inv *Inventory) WithCredential(id string, c Credential) []Settings {
	all := slices.Clone(inv.Tenants)
	for i := range all {
		if all[i].ID == id {
			same := func(other Credential) bool { return other.Name == c.Name }
			all[i].Credentials = append(slices.DeleteFunc(slices.Clone(all[i].Credentials), same), c)
		}
	}
	return all
}
