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
// of the content IDs, or of the key ID's bindings by their identity.
func (db *DB) PageBindings(ctx context.Context, tenant string, f keystore.BindingFilter, after string, limit int) ([]keystore.Binding, string, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, "", err
	}
	kind, prefix := "content", ""
	switch {
	case f.KID != contentkey.KID{}:
		kind, prefix = "kid", kidPrefix(f.KID)
	case f.ContentID != "":
		prefix = contentPrefix(f.ContentID)
	}
	if !strings.HasPrefix(after, prefix) && after != "" || after != "" && !position(after) {
		return nil, "", fmt.Errorf("position %q: not one of a page of these bindings", after)
	}
	var page []keystore.Binding
	next := ""
	collect := func(it item) (bool, error) {
		b, err := bindingOf(tenant, it)
		if err != nil || f.ContentID != "" && b.ContentID != f.ContentID {
			return true, err
		}
		page = append(page, b)
		if len(page) == limit {
			at := fields{item: it}
			next = at.text("sk")
		}
		return len(page) < limit, nil
	}
	err := db.do(ctx, "reading bindings", func(ctx context.Context) error {
		if prefix == "" {
			return db.walk(ctx, kind, tenant, after, limit, collect)
		}
		return db.query(ctx, partition(kind, tenant, prefix), prefix, after, limit, collect)
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

// position reports whether a text can be the sk of a binding.
func position(sk string) bool {
	prefix, id, ok := strings.Cut(sk, "#")
	_, err := hex.DecodeString(id)
	return ok && err == nil && prefix != "" && strings.Contains(hexDigits, prefix[:1])
}
