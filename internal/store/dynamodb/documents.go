package dynamodb

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/internal/tenant"
)

var _ tenant.Store = (*DB)(nil)

// What the admin API manages. All documents of a kind are one partition: they
// are few and read by page.

func documentAt(kind tenant.Kind, id string) item {
	return item{"pk": text("document#" + string(kind)), "sk": text(id)}
}

// revisionAt is the item that counts the changes.
func revisionAt() item { return item{"pk": text("document"), "sk": text("revision")} }

func documentItem(d *tenant.Document) item {
	it := documentAt(d.Kind, d.ID)
	it["version"], it["body"], it["changed"] = number(int64(d.Version)), binary(d.Body), micros(d.Changed)
	it["deleted"] = &types.AttributeValueMemberBOOL{Value: d.Deleted}
	if len(d.Sealed) > 0 {
		it["sealed"], it["owner"], it["data_key"] = binary(d.Sealed), text(d.Owner), number(int64(d.DataKey))
	}
	return it
}

func documentOf(kind tenant.Kind, it item) (tenant.Document, error) {
	f := fields{item: it}
	d := tenant.Document{
		Kind: kind, ID: f.text("sk"), Version: uint64(f.number("version")), Body: f.binary("body"), Changed: f.time("changed"),
	}
	if deleted, ok := it["deleted"].(*types.AttributeValueMemberBOOL); ok {
		d.Deleted = deleted.Value
	} else {
		f.fail("deleted")
	}
	if it["sealed"] != nil {
		d.Sealed, d.Owner, d.DataKey = f.binary("sealed"), f.text("owner"), f.uint32("data_key")
	}
	if f.err != nil {
		return d, fmt.Errorf("%s %s: %w", kind, d.ID, f.err)
	}
	return d, nil
}

// CreateDocument implements [tenant.Store].
func (db *DB) CreateDocument(ctx context.Context, d tenant.Document) error {
	return db.writeDocument(ctx, &d, "attribute_not_exists(pk)", nil, nil, tenant.ErrExists)
}

// ReplaceDocument implements [tenant.Store].
func (db *DB) ReplaceDocument(ctx context.Context, d tenant.Document) error {
	return db.writeDocument(ctx, &d, "attribute_exists(pk) AND #v = :before", map[string]string{"#v": "version"},
		item{":before": number(int64(d.Version) - 1)}, tenant.ErrChanged)
}

// writeDocument puts a document under a condition, and counts it in the same
// transaction. When the condition is false, what is stored decides.
func (db *DB) writeDocument(ctx context.Context, d *tenant.Document, condition string, names map[string]string, values item, refused error) error {
	what := fmt.Sprintf("%s %s", d.Kind, d.ID)
	if err := storable(string(d.Kind), d.ID, d.Owner); err != nil {
		return err
	}
	in := &sdk.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Put: &types.Put{
		TableName: &db.table, Item: documentItem(d), ConditionExpression: &condition,
		ExpressionAttributeNames: names, ExpressionAttributeValues: values,
	}}}}
	if d.Kind != tenant.KindAnswer {
		in.TransactItems = append(in.TransactItems, types.TransactWriteItem{Update: &types.Update{
			TableName: &db.table, Key: revisionAt(), UpdateExpression: aws.String("ADD #r :one"),
			ExpressionAttributeNames: map[string]string{"#r": "revision"}, ExpressionAttributeValues: item{":one": number(1)},
		}})
	}
	err := db.do(ctx, what, func(ctx context.Context) error {
		for conflicts := 1; ; conflicts++ {
			_, err := db.client.TransactWriteItems(ctx, in)
			cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
			if !ok || len(cancelled.CancellationReasons) != len(in.TransactItems) {
				return err
			}
			if aws.ToString(cancelled.CancellationReasons[0].Code) == "ConditionalCheckFailed" {
				return refusal{refused}
			}
			if conflicts > maxConflicts {
				return errBusy
			}
			if err := pause(ctx, min(conflicts, 4)); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, refused) {
		return err
	}
	stored, readErr := db.Document(ctx, d.Kind, d.ID)
	switch {
	case readErr != nil:
		return readErr
	case stored.Equal(d):
		return nil
	}
	return err
}

// Document implements [tenant.Store].
func (db *DB) Document(ctx context.Context, kind tenant.Kind, id string) (d tenant.Document, err error) {
	what := fmt.Sprintf("%s %s", kind, id)
	if err := storable(string(kind), id); err != nil {
		return d, err
	}
	err = db.do(ctx, what, func(ctx context.Context) error {
		out, err := db.client.GetItem(ctx, &sdk.GetItemInput{TableName: &db.table, Key: documentAt(kind, id), ConsistentRead: aws.Bool(true)})
		switch {
		case err != nil:
			return err
		case out.Item == nil:
			return refusal{tenant.ErrAbsent}
		}
		d, err = documentOf(kind, out.Item)
		return err
	})
	return d, err
}

// PageDocuments implements [tenant.Store].
func (db *DB) PageDocuments(ctx context.Context, kind tenant.Kind, prefix, after string, limit int) (page []tenant.Document, err error) {
	if err := storable(string(kind), prefix, after); err != nil {
		return nil, err
	}
	err = db.do(ctx, "reading documents", func(ctx context.Context) error {
		page = nil
		room := func() int { return limit - len(page) }
		return db.query(ctx, "document#"+string(kind), prefix, after, room, func(it item) error {
			d, err := documentOf(kind, it)
			page = append(page, d)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// Revision implements [tenant.Store].
func (db *DB) Revision(ctx context.Context) (n uint64, err error) {
	err = db.do(ctx, "reading the revision", func(ctx context.Context) error {
		out, err := db.client.GetItem(ctx, &sdk.GetItemInput{TableName: &db.table, Key: revisionAt(), ConsistentRead: aws.Bool(true)})
		if err != nil || out.Item == nil {
			return err
		}
		f := fields{item: out.Item}
		n = uint64(f.number("revision"))
		return f.err
	})
	return n, err
}

// sealsDocuments reports whether the secrets of a document are under a data
// key.
func (db *DB) sealsDocuments(ctx context.Context, owner string, id uint32) (bool, error) {
	for _, kind := range []tenant.Kind{tenant.KindTenant, tenant.KindCredential, tenant.KindAdmin, tenant.KindAnswer} {
		for d, err := range tenant.Documents(ctx, db, kind, "", "", maxPage) {
			if err != nil {
				return false, err
			}
			if d.Owner == owner && d.DataKey == id {
				return true, nil
			}
		}
	}
	return false, nil
}
