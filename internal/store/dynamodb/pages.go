package dynamodb

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

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
	err := db.do(ctx, "reading tenants", func(ctx context.Context) error {
		// A '$' comes after the '#' that ends a name, and before what else a
		// name can go on with.
		pages := sdk.NewQueryPaginator(db.client, &sdk.QueryInput{
			TableName: &db.table, ConsistentRead: aws.Bool(true),
			KeyConditionExpression: aws.String("pk = :pk AND sk > :after"), ProjectionExpression: aws.String("sk"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":pk": text(dataKeys), ":after": text(after + "$")},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, it := range page.Items {
				f := fields{item: it}
				tenant, _, _ := strings.Cut(f.text("sk"), "#")
				if f.err != nil {
					return f.err
				}
				if len(all) > 0 && all[len(all)-1] == tenant {
					continue
				}
				if len(all) == limit {
					return nil
				}
				all = append(all, tenant)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

const hexDigits = "0123456789abcdef"

// walk calls f for the items of a tenant in the order of sk, through all
// partitions of a kind, from the first one after the given sk.
func (db *DB) walk(ctx context.Context, kind, tenant, after string, limit int, f func(item) (more bool, err error)) error {
	digits := hexDigits
	if after != "" {
		digits = digits[strings.Index(digits, after[:1]):]
	}
	more := true
	for i := 0; i < len(digits) && more; i++ {
		err := db.query(ctx, partition(kind, tenant, digits[i:]), "", after, limit, func(it item) (bool, error) {
			var err error
			more, err = f(it)
			return more, err
		})
		if err != nil {
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
		return db.walk(ctx, "key", tenant, after, limit, func(it item) (bool, error) {
			r, err := recordOf(tenant, it)
			page = append(page, r)
			return len(page) < limit, err
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
		return nil, "", fmt.Errorf("position %q: not one of a page of these bindings", after)
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

// add adds the binding of an item, if it is selected. The position after it
// is that of the item at sk. It reports whether there is room for more.
func (p *bindingPage) add(it item, sk string) (more bool, err error) {
	b, err := bindingOf(p.tenant, it)
	if err != nil || p.contentID != "" && b.ContentID != p.contentID {
		return true, err
	}
	p.bindings = append(p.bindings, b)
	if len(p.bindings) < p.limit {
		return true, nil
	}
	p.next = sk
	return false, nil
}

func (p *bindingPage) addItem(it item) (more bool, err error) {
	f := fields{item: it}
	return p.add(it, f.text("sk"))
}

func (p *bindingPage) all(ctx context.Context, _, after string) error {
	return p.db.walk(ctx, "content", p.tenant, after, p.limit, p.addItem)
}

func (p *bindingPage) byContent(ctx context.Context, prefix, after string) error {
	return p.db.query(ctx, partition("content", p.tenant, prefix), prefix, after, p.limit, p.addItem)
}

// byKID reads pointers and then the bindings that they point at.
func (p *bindingPage) byKID(ctx context.Context, prefix, after string) error {
	for {
		var pointers, keys []item
		err := p.db.query(ctx, partition("kid", p.tenant, prefix), prefix, after, p.limit, func(it item) (bool, error) {
			f := fields{item: it}
			pointers, keys = append(pointers, it), append(keys, contentAt(p.tenant, f.text("binding")))
			return len(pointers) < p.limit, f.err
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
			it := found[nameOf(key)]
			if it == nil { // it was not stored in the end
				continue
			}
			if more, err := p.add(it, after); !more || err != nil {
				return err
			}
		}
		if len(pointers) < p.limit {
			return nil
		}
	}
}

// position reports whether a text can be the sk of a binding.
func position(sk string) bool {
	prefix, id, ok := strings.Cut(sk, "#")
	_, err := hex.DecodeString(id)
	return ok && err == nil && prefix != "" && strings.Contains(hexDigits, prefix[:1])
}
