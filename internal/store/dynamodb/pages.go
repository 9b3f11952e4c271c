package dynamodb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Tenants implements [keystore.Pager].
func (db *DB) Tenants(ctx context.Context, after string, limit int) ([]string, error) {
	if after != "" {
		if err := checkTenant(after); err != nil {
			return nil, err
		}
	}
	var all []string
	from := ""
	if after != "" {
		// A '$' comes after the '#' that ends a name, and before what else a
		// name can go on with.
		from = after + "$"
	}
	err := db.do(ctx, "reading tenants", func(ctx context.Context) error {
		room := func() int { return limit - len(all) }
		return db.query(ctx, dataKeys, "", from, room, func(it item) error {
			k, err := dataKeyOf(it)
			if len(all) == 0 || all[len(all)-1] != k.Tenant {
				all = append(all, k.Tenant)
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

const hexDigits = "0123456789abcdef"

// walk is [DB.query] for all partitions of a kind, in the order of sk.
func (db *DB) walk(ctx context.Context, kind, tenant, after string, room func() int, f func(item) error) error {
	digits := hexDigits
	if after != "" {
		digits = digits[strings.Index(digits, after[:1]):]
	}
	for i := range len(digits) {
		if err := db.query(ctx, partition(kind, tenant, digits[i:]), "", after, room, f); err != nil {
			return err
		}
		after = ""
	}
	return nil
}

// PageKeys implements [keystore.Pager].
func (db *DB) PageKeys(ctx context.Context, tenant, after string, limit int) ([]keystore.Record, string, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, "", err
	}
	if after != "" {
		kid, err := contentkey.ParseKID(after)
		if err != nil {
			return nil, "", fmt.Errorf("position %q: %w", after, err)
		}
		after = kid.String()
	}
	var page []keystore.Record
	err := db.do(ctx, "reading content keys", func(ctx context.Context) error {
		room := func() int { return limit - len(page) }
		return db.walk(ctx, "key", tenant, after, room, func(it item) error {
			r, err := recordOf(tenant, it)
			page = append(page, r)
			return err
		})
	})
	if err != nil {
		return nil, "", err
	}
	next := ""
	if len(page) == limit {
		next = page[limit-1].KID.String()
	}
	return page, next, nil
}

// PageBindings implements [keystore.Pager]. The order is that of the digests
// of the content IDs and then of the identity.
func (db *DB) PageBindings(ctx context.Context, tenant string, f keystore.BindingFilter, after string, limit int) ([]keystore.Binding, string, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, "", err
	}
	p := &bindingPage{db: db, tenant: tenant, contentID: f.ContentID, limit: limit}
	prefix := ""
	read := p.all
	switch {
	case f.KID != contentkey.KID{}:
		prefix, read = kidPrefix(f.KID), p.byKID
	case f.ContentID != "":
		prefix, read = contentPrefix(f.ContentID), p.byContent
	}
	if after != "" && (!strings.HasPrefix(after, prefix) || !position(after)) {
		return nil, "", fmt.Errorf("position %.100q: %w", after, keystore.ErrPosition)
	}
	err := db.do(ctx, "reading bindings", func(ctx context.Context) error { return read(ctx, prefix, after) })
	if err != nil {
		return nil, "", err
	}
	return p.bindings, p.next, nil
}

// bindingPage collects a page of bindings.
type bindingPage struct {
	db        *DB
	tenant    string
	contentID string // the one to select, or ""
	limit     int
	bindings  []keystore.Binding
	next      string
}

func (p *bindingPage) room() int { return p.limit - len(p.bindings) }

// add adds the binding of an item, if it is selected. The position after it
// is that of the item at sk.
func (p *bindingPage) add(it item, sk string) error {
	b, err := bindingOf(p.tenant, it)
	if err != nil || p.contentID != "" && b.ContentID != p.contentID {
		return err
	}
	p.bindings = append(p.bindings, b)
	if p.room() == 0 {
		p.next = sk
	}
	return nil
}

func (p *bindingPage) addItem(it item) error {
	f := fields{item: it}
	return p.add(it, f.text("sk"))
}

func (p *bindingPage) all(ctx context.Context, _, after string) error {
	return p.db.walk(ctx, "content", p.tenant, after, p.room, p.addItem)
}

func (p *bindingPage) byContent(ctx context.Context, prefix, after string) error {
	return p.db.query(ctx, partition("content", p.tenant, prefix), prefix, after, p.room, p.addItem)
}

// byKID reads pointers, as many as bindings are wanted, and then those that
// they point at, until there are enough.
func (p *bindingPage) byKID(ctx context.Context, prefix, after string) error {
	for p.room() > 0 {
		var pointers, keys []item
		wanted := p.room()
		room := func() int { return wanted - len(pointers) }
		err := p.db.query(ctx, partition("kid", p.tenant, prefix), prefix, after, room, func(it item) error {
			f := fields{item: it}
			pointers, keys = append(pointers, it), append(keys, contentAt(p.tenant, f.text("binding")))
			return f.err
		})
		if err != nil {
			return err
		}
		found := make(map[string]item, len(keys))
		err = p.db.get(ctx, keys, func(it item) error {
			found[nameOf(it)] = it
			return nil
		})
		if err != nil {
			return err
		}
		for i, key := range keys {
			f := fields{item: pointers[i]}
			after = f.text("sk")
			if it := found[nameOf(key)]; it != nil { // else it was not stored in the end
				if err := p.add(it, after); err != nil {
					return err
				}
			}
		}
		if len(pointers) < wanted {
			return nil
		}
	}
	return nil
}

// position reports whether a text can be the sk of a binding.
func position(sk string) bool {
	prefix, id, ok := strings.Cut(sk, "#")
	_, err := hex.DecodeString(id)
	return ok && err == nil && prefix != "" && strings.Contains(hexDigits, prefix[:1])
}
