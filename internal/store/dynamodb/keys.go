package dynamodb

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

const (
	maxBatch = 100  // items of one BatchGetItem; DynamoDB's limit
	maxPage  = 1000 // items of one Query; it returns less when they exceed 1 MB
)

// Keys implements [keystore.Store].
func (db *DB) Keys(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Record, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	var keys []item
	seen := make(map[contentkey.KID]bool, len(kids))
	for _, kid := range kids {
		if !seen[kid] {
			keys = append(keys, keyAt(tenant, kid))
			seen[kid] = true
		}
	}
	var all []keystore.Record
	err := db.do(ctx, "reading content keys", func(ctx context.Context) error {
		return db.get(ctx, keys, func(it item) error {
			r, err := recordOf(tenant, it)
			all = append(all, r)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// get calls f for each of the items that exist.
func (db *DB) get(ctx context.Context, keys []item, f func(item) error) error {
	for idle := 0; len(keys) > 0; {
		n := min(len(keys), maxBatch)
		out, err := db.client.BatchGetItem(ctx, &sdk.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{db.table: {Keys: keys[:n], ConsistentRead: aws.Bool(true)}},
		})
		if err != nil {
			return err
		}
		for _, it := range out.Responses[db.table] {
			if err := f(it); err != nil {
				return err
			}
		}
		left := out.UnprocessedKeys[db.table].Keys
		keys = append(left, keys[n:]...)
		if len(left) == 0 {
			continue
		}
		if idle++; len(left) < n {
			idle = 0
		}
		if idle == maxAttempts {
			return errBusy
		}
		if err := pause(ctx, idle); err != nil {
			return err
		}
	}
	return nil
}

// query calls f for the items of a partition in the order of sk, from the
// first one after the given sk or from the start, for as many as there is
// room. All have an sk that begins with the prefix.
func (db *DB) query(ctx context.Context, pk, prefix, after string, room func() int, f func(item) error) error {
	in := &sdk.QueryInput{
		TableName: &db.table, ConsistentRead: aws.Bool(true),
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: item{":pk": text(pk)},
	}
	if prefix != "" {
		in.KeyConditionExpression = aws.String("pk = :pk AND begins_with(sk, :prefix)")
		in.ExpressionAttributeValues[":prefix"] = text(prefix)
	}
	if after != "" {
		in.ExclusiveStartKey = item{"pk": text(pk), "sk": text(after)}
	}
	for room() > 0 {
		in.Limit = aws.Int32(int32(min(room(), maxPage)))
		out, err := db.client.Query(ctx, in)
		if err != nil {
			return err
		}
		for _, it := range out.Items {
			if err := f(it); err != nil {
				return err
			}
		}
		if len(out.LastEvaluatedKey) == 0 {
			return nil
		}
		in.ExclusiveStartKey = out.LastEvaluatedKey
	}
	return nil
}

// DataKeys implements [keystore.Store].
func (db *DB) DataKeys(ctx context.Context, tenant string) ([]keystore.DataKey, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	var all []keystore.DataKey
	err := db.do(ctx, "reading data keys", func(ctx context.Context) error {
		room := func() int { return maxPage }
		return db.query(ctx, dataKeys, tenant+"#", "", room, func(it item) error {
			k, err := dataKeyOf(it)
			all = append(all, k)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// CreateDataKey implements [keystore.Store]. A tenant that has content keys
// and no data key has lost it: then a first one is refused as
// [keystore.ErrCorrupt].
func (db *DB) CreateDataKey(ctx context.Context, k keystore.DataKey) (keystore.DataKey, error) {
	what := fmt.Sprintf("storing data key %d of %s", k.ID, k.Tenant)
	if err := errors.Join(checkTenant(k.Tenant), storable(k.KEK)); err != nil {
		return keystore.DataKey{}, fmt.Errorf("%s: %w", what, err)
	}
	if err := db.refuseOrphans(ctx, k.Tenant); err != nil {
		return keystore.DataKey{}, fmt.Errorf("%s: %w", what, err)
	}
	stored := k
	err := db.do(ctx, what, func(ctx context.Context) error {
		return db.write(ctx, []*write{create(dataKeyItem(&k), func(it item) (err error) {
			stored, err = dataKeyOf(it)
			return err
		})})
	})
	if err != nil {
		return keystore.DataKey{}, err
	}
	return stored, nil
}

// refuseOrphans returns an error when a tenant has content keys and no data
// key.
func (db *DB) refuseOrphans(ctx context.Context, tenant string) error {
	if have, err := db.DataKeys(ctx, tenant); err != nil || len(have) > 0 {
		return err
	}
	page, _, err := db.PageKeys(ctx, tenant, "", 1)
	if err != nil || len(page) == 0 {
		return err
	}
	// Another process may just have created both.
	have, err := db.DataKeys(ctx, tenant)
	if err == nil && len(have) == 0 {
		err = fmt.Errorf("%w: the tenant has content keys, but what wrapped them is lost", keystore.ErrCorrupt)
	}
	return err
}
