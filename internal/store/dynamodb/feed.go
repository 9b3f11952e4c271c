package dynamodb

import (
	"context"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"spekeasy/internal/keystore"
)

var _ keystore.Feed = (*DB)(nil)

// The feed is in the order of the clocks of those who write. An item may take
// until the end of its call to be there, so that the feed is read up to some
// time ago only: nothing comes to light behind that any more.

func feedPartition(tenant string) string { return "feed#" + tenant }

// stamp begins the sk of what enters the feed at that time.
func stamp(t time.Time) string { return fmt.Sprintf("%020d", t.UnixMicro()) }

// announce returns a write that puts a new binding into the feed, if the
// write of the binding finds that it is new.
func (w *write) announce() *write {
	id := w.merge.Identity()
	return &write{at: item{"pk": text(feedPartition(w.merge.Tenant)), "sk": text(hex.EncodeToString(id[:]))}, of: w, announces: true}
}

// announcement returns the item of such a write, as of now.
func (w *write) announcement(now time.Time) item {
	f := fields{item: w.at}
	return item{"pk": w.at["pk"], "sk": text(stamp(now) + "#" + f.text("sk")), "binding": w.of.at["sk"]}
}

var feedPosition = regexp.MustCompile(`^[0-9]{20}#([0-9a-f]{64}|~)$`)

// FollowBindings implements [keystore.Feed]. A new binding is there once
// [Options].Settle has passed.
func (db *DB) FollowBindings(ctx context.Context, tenant, after string, limit int) ([]keystore.Followed, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	if after != "" && !feedPosition.MatchString(after) {
		return nil, fmt.Errorf("position %.40q: %w", after, keystore.ErrPosition)
	}
	end := db.settled()
	var page []keystore.Followed
	err := db.do(ctx, "reading new bindings", func(ctx context.Context) error {
		page = nil
		if after >= end {
			return nil
		}
		var keys []item
		var positions []string
		in := &sdk.QueryInput{
			TableName: &db.table, ConsistentRead: aws.Bool(true), Limit: aws.Int32(int32(min(limit, maxPage))),
			KeyConditionExpression:    aws.String("pk = :pk AND sk BETWEEN :from AND :to"),
			ExpressionAttributeValues: item{":pk": text(feedPartition(tenant)), ":from": text(after + "$"), ":to": text(end)}, // '$' follows '#' and precedes digits
		}
		out, err := db.client.Query(ctx, in)
		if err != nil {
			return err
		}
		for _, it := range out.Items {
			f := fields{item: it}
			keys, positions = append(keys, contentAt(tenant, f.text("binding"))), append(positions, f.text("sk"))
			if f.err != nil {
				return f.err
			}
		}
		found := make(map[string]item, len(keys))
		err = db.get(ctx, keys, func(it item) error {
			found[nameOf(it)] = it
			return nil
		})
		if err != nil {
			return err
		}
		for i, key := range keys {
			it := found[nameOf(key)]
			if it == nil {
				return fmt.Errorf("%w: binding %s is in the feed and is lost", keystore.ErrCorrupt, nameOf(key))
			}
			b, err := bindingOf(tenant, it)
			if err != nil {
				return err
			}
			page = append(page, keystore.Followed{Binding: b, Position: positions[i]})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return page, nil
}

// settled is the place up to which the feed will not change any more.
func (db *DB) settled() string { return stamp(time.Now().Add(-db.settle)) + "#~" }

// FeedEnd implements [keystore.Feed].
func (db *DB) FeedEnd(_ context.Context, tenant string) (string, error) {
	if err := checkTenant(tenant); err != nil {
		return "", err
	}
	return db.settled(), nil
}

func noteAt(name string) item { return item{"pk": text("note"), "sk": text(name)} }

// Note implements [keystore.Feed].
func (db *DB) Note(ctx context.Context, name string) (value []byte, version int64, err error) {
	err = db.do(ctx, "reading note "+name, func(ctx context.Context) error {
		out, err := db.client.GetItem(ctx, &sdk.GetItemInput{TableName: &db.table, Key: noteAt(name), ConsistentRead: aws.Bool(true)})
		if err != nil || out.Item == nil {
			return err
		}
		f := fields{item: out.Item}
		value, version = f.binary("value"), f.number("version")
		return f.err
	})
	if err != nil {
		return nil, 0, err
	}
	return value, version, nil
}

// SetNote implements [keystore.Feed]. It may say false although the note was
// kept, when the answer to that was lost; whoever reads it again sees so.
func (db *DB) SetNote(ctx context.Context, name string, value []byte, version int64) (done bool, err error) {
	it := noteAt(name)
	it["value"], it["version"] = binary(value), number(version+1)
	in := &sdk.PutItemInput{TableName: &db.table, Item: it, ConditionExpression: aws.String("attribute_not_exists(pk)")}
	if version != 0 {
		in.ConditionExpression = aws.String("#version = :old")
		in.ExpressionAttributeNames = map[string]string{"#version": "version"}
		in.ExpressionAttributeValues = item{":old": number(version)}
	}
	err = db.do(ctx, "keeping note "+name, func(ctx context.Context) error {
		_, err := db.client.PutItem(ctx, in)
		done = err == nil
		if hasCode(err, "ConditionalCheckFailedException") {
			return nil
		}
		return err
	})
	return done && err == nil, err
}
