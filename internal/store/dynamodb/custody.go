package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

var _ keystore.Custodian = (*DB)(nil)

// changers are how many items are changed at once.
const changers = 16

// Reseal implements [keystore.Custodian].
func (db *DB) Reseal(ctx context.Context, tenant string, changes []keystore.Reseal) (int, error) {
	return db.each(ctx, "sealing anew", tenant, len(changes), func(i int) *change {
		c := &changes[i]
		return &change{
			at:        keyAt(tenant, c.KID),
			set:       "SET #w = :now, #d = :now_id",
			condition: "#w = :old AND #d = :old_id",
			names:     map[string]string{"#w": "wrapped", "#d": "data_key"},
			values: item{":now": binary(c.Wrapped), ":now_id": number(int64(c.DataKey)),
				":old": binary(c.OldWrapped), ":old_id": number(int64(c.OldDataKey))},
		}
	})
}

// RewrapDataKey implements [keystore.Custodian].
func (db *DB) RewrapDataKey(ctx context.Context, old, now keystore.DataKey) (bool, error) {
	if err := storable(now.KEK); err != nil {
		return false, err
	}
	done, err := db.each(ctx, fmt.Sprintf("rewrapping data key %d of %s", old.ID, old.Tenant), old.Tenant, 1, func(int) *change {
		return &change{
			at:        dataKeyAt(old.Tenant, old.ID),
			set:       "SET #k = :kek, #w = :now",
			condition: "#w = :old",
			names:     map[string]string{"#k": "kek", "#w": "wrapped"},
			values:    item{":kek": text(now.KEK), ":now": binary(now.Wrapped), ":old": binary(old.Wrapped)},
		}
	})
	return done == 1, err
}

// RemoveDataKey implements [keystore.Custodian]. It looks through all content
// keys of the tenant. DynamoDB cannot exclude that one is created meanwhile.
func (db *DB) RemoveDataKey(ctx context.Context, tenant string, id uint32) (bool, error) {
	have, err := db.DataKeys(ctx, tenant)
	if err != nil {
		return false, err
	}
	there := false
	for _, k := range have {
		there = there || k.ID == id
	}
	switch {
	case !there:
		return true, nil
	case have[len(have)-1].ID == id:
		return false, nil
	}
	for after := ""; ; {
		page, next, err := db.PageKeys(ctx, tenant, after, maxPage)
		if err != nil {
			return false, err
		}
		for i := range page {
			if page[i].DataKey == id {
				return false, nil
			}
		}
		if after = next; next == "" {
			break
		}
	}
	if used, err := db.sealsDocuments(ctx, tenant, id); used || err != nil {
		return false, err
	}
	err = db.do(ctx, fmt.Sprintf("removing data key %d of %s", id, tenant), func(ctx context.Context) error {
		_, err := db.client.DeleteItem(ctx, &sdk.DeleteItemInput{TableName: &db.table, Key: dataKeyAt(tenant, id)})
		return err
	})
	return err == nil, err
}

// Delete implements [keystore.Custodian].
func (db *DB) Delete(ctx context.Context, tenant string, kids []contentkey.KID, at time.Time) (int, error) {
	return db.eachKey(ctx, "deleting", tenant, kids, change{
		set:       "SET #d = :at",
		condition: "#d = :none",
		names:     map[string]string{"#d": "deleted"},
		values:    item{":at": micros(at), ":none": number(0)},
	})
}

// Undelete implements [keystore.Custodian].
func (db *DB) Undelete(ctx context.Context, tenant string, kids []contentkey.KID) (int, error) {
	return db.eachKey(ctx, "undeleting", tenant, kids, change{
		set:       "SET #d = :none",
		condition: "#d <> :none AND size(#w) > :none",
		names:     map[string]string{"#d": "deleted", "#w": "wrapped"},
		values:    item{":none": number(0)},
	})
}

// Purge implements [keystore.Custodian]. Point-in-time recovery can bring
// older states of the table back for 35 days.
func (db *DB) Purge(ctx context.Context, tenant string, kids []contentkey.KID, before time.Time) (int, error) {
	return db.eachKey(ctx, "purging", tenant, kids, change{
		set:       "SET #w = :empty",
		condition: "#d <> :none AND #d <= :before AND size(#w) > :none",
		names:     map[string]string{"#d": "deleted", "#w": "wrapped"},
		values:    item{":empty": binary(nil), ":before": micros(before), ":none": number(0)},
	})
}

// change is an update of an item that exists, under a condition.
type change struct {
	at             item
	set, condition string
	names          map[string]string
	values         item
}

func (db *DB) eachKey(ctx context.Context, what, tenant string, kids []contentkey.KID, c change) (int, error) {
	return db.each(ctx, what, tenant, len(kids), func(i int) *change {
		one := c
		one.at = keyAt(tenant, kids[i])
		return &one
	})
}

// each makes n changes, several at once, and returns how many of the
// conditions were true.
func (db *DB) each(ctx context.Context, what, tenant string, n int, of func(i int) *change) (int, error) {
	if err := checkTenant(tenant); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	var next, done atomic.Int64
	errs := [changers]error{}
	var wg sync.WaitGroup
	for w := range min(changers, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = db.do(ctx, what, func(ctx context.Context) error {
					did, err := db.change(ctx, of(i))
					if did {
						done.Add(1)
					}
					return err
				})
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return 0, err
	}
	return int(done.Load()), nil
}

// change makes one change, and reports whether its condition was true.
func (db *DB) change(ctx context.Context, c *change) (bool, error) {
	for conflicts := 1; ; conflicts++ {
		_, err := db.client.UpdateItem(ctx, &sdk.UpdateItemInput{
			TableName: &db.table, Key: c.at, UpdateExpression: &c.set,
			ConditionExpression:      aws.String("attribute_exists(pk) AND " + c.condition),
			ExpressionAttributeNames: c.names, ExpressionAttributeValues: c.values,
		})
		if _, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
			return false, nil
		}
		if !hasCode(err, "TransactionConflictException") {
			return err == nil, err
		}
		if conflicts > maxConflicts {
			return false, errBusy
		}
		if err := pause(ctx, min(conflicts, 4)); err != nil {
			return false, err
		}
	}
}
