package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Bounds of one transaction. DynamoDB's own are 100 items and 4 MB.
const (
	maxItems = 100
	maxBytes = 1 << 20
)

// maxConflicts is how often a transaction is tried again that others get in
// the way of.
const maxConflicts = 30

// write is a write of one item, and what to do when its condition is false.
type write struct {
	at     item             // its key
	put    item             // all of it, or nil
	exists func(item) error // put if absent; called with the item that is there; nil to put anyway

	merge *keystore.Binding // into the item
	state state             // of the item, as far as known

	of        *write // the write of a new binding that this one goes with
	announces bool   // puts the binding into the feed
}

// state is what a binding is merged into.
type state int

const (
	absent state = iota // then its pointers are written, too
	older               // or as old
	newer               // then only its systems grow
)

// Commit implements [keystore.Store].
func (db *DB) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	if err := check(keys, bindings); err != nil {
		return nil, fmt.Errorf("storing: %w", err)
	}
	if len(keys)+len(bindings) == 0 {
		return nil, ctx.Err()
	}
	t := &transaction{db: db, taken: make(map[string]bool)}
	type ref struct {
		tenant string
		kid    contentkey.KID
	}
	stored := make(map[ref]keystore.Record, len(keys))
	for i := range keys {
		r := &keys[i]
		at := ref{r.Tenant, r.KID}
		if _, twice := stored[at]; twice {
			continue
		}
		stored[at] = *r
		err := t.add(ctx, len(r.ContentID)+len(r.Source)+len(r.Wrapped), create(recordItem(r), func(it item) error {
			old, err := recordOf(r.Tenant, it)
			stored[at] = old
			return err
		}))
		if err != nil {
			return nil, err
		}
	}
	for i := range bindings {
		b, p := &bindings[i], &bindings[i].Period
		bytes := len(b.ContentID) + len(b.Track) + len(p.ID) + len(p.Index) + len(p.Start) + len(p.End)
		if err := t.add(ctx, bytes, merge(b)...); err != nil {
			return nil, err
		}
	}
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	all := make([]keystore.Record, len(keys))
	for i := range keys {
		all[i] = stored[ref{keys[i].Tenant, keys[i].KID}]
	}
	return all, nil
}

// create returns a write that creates an item if it is absent.
func create(it item, exists func(item) error) *write {
	return &write{at: item{"pk": it["pk"], "sk": it["sk"]}, put: it, exists: exists}
}

// merge returns the writes for a binding. One that was seen after it was
// first seen is probably stored already.
func merge(b *keystore.Binding) []*write {
	w := &write{at: bindingAt(b), merge: b}
	if b.LastSeen.After(b.FirstSeen) {
		w.state = older
		return []*write{w}
	}
	return w.withPointers()
}

// withPointers returns the write of a binding that is taken to be absent and,
// before it, those of its pointers and of its place in the feed: all of them
// are made in one transaction, or none.
func (w *write) withPointers() []*write {
	w.state = absent
	all := []*write{w.announce()}
	for _, it := range pointers(w.merge) {
		p := create(it, nil)
		p.of = w
		all = append(all, p)
	}
	return append(all, w)
}

// idle reports whether the write goes with that of a binding that is not new.
func (w *write) idle() bool { return w.of != nil && w.of.state != absent }

func check(keys []keystore.Record, bindings []keystore.Binding) error {
	for i := range keys {
		r := &keys[i]
		if err := errors.Join(checkTenant(r.Tenant), storable(r.Source, r.ContentID)); err != nil {
			return fmt.Errorf("content key %s: %w", r.KID, err)
		}
	}
	for i := range bindings {
		b, p := &bindings[i], &bindings[i].Period
		err := errors.Join(checkTenant(b.Tenant), storable(b.Systems...),
			storable(b.ContentID, b.Track, p.ID, p.Index, p.Start, p.End, b.Profile, b.IV))
		if err != nil {
			return fmt.Errorf("binding of content key %s: %w", b.KID, err)
		}
	}
	return nil
}

// transaction collects writes.
type transaction struct {
	db     *DB
	writes []*write
	bytes  int
	taken  map[string]bool // keys of the items
}

// add puts writes into one transaction, after writing what is there when they
// do not fit or would change an item twice.
func (t *transaction) add(ctx context.Context, bytes int, writes ...*write) error {
	full := len(t.writes)+len(writes) > maxItems || t.bytes+bytes > maxBytes
	for _, w := range writes {
		full = full || t.taken[nameOf(w.at)]
	}
	if full {
		if err := t.flush(ctx); err != nil {
			return err
		}
	}
	for _, w := range writes {
		t.taken[nameOf(w.at)] = true
	}
	t.writes = append(t.writes, writes...)
	t.bytes += bytes
	return nil
}

func (t *transaction) flush(ctx context.Context) error {
	err := t.db.do(ctx, "storing", func(ctx context.Context) error { return t.db.write(ctx, t.writes) })
	t.writes, t.bytes = nil, 0
	clear(t.taken)
	return err
}

// nameOf returns a key as a text.
func nameOf(key item) string {
	f := fields{item: key}
	return f.text("pk") + " " + f.text("sk")
}

// write makes all the writes. One whose condition is false is dealt with and
// left out when the others are tried again.
func (db *DB) write(ctx context.Context, writes []*write) error {
	for conflicts := 0; len(writes) > 0; {
		n := min(len(writes), maxItems)
		for writes[n-1].of != nil { // its binding comes after it
			n--
		}
		left, conflict, err := db.try(ctx, writes[:n])
		if err != nil {
			return err
		}
		if conflict {
			if conflicts++; conflicts > maxConflicts {
				return errBusy
			}
			if err := pause(ctx, min(conflicts, 4)); err != nil {
				return err
			}
		}
		writes = append(left, writes[n:]...)
	}
	return nil
}

// try makes all of the writes or none. It returns those that are to be made
// still, and whether something got in the way that will pass.
func (db *DB) try(ctx context.Context, writes []*write) (left []*write, conflict bool, err error) {
	if len(writes) == 1 {
		return db.tryOne(ctx, writes[0])
	}
	in := &sdk.TransactWriteItemsInput{}
	for _, w := range writes {
		in.TransactItems = append(in.TransactItems, w.transactItem(db.table))
	}
	_, err = db.client.TransactWriteItems(ctx, in)
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
	if !ok || len(cancelled.CancellationReasons) != len(writes) {
		return nil, false, err
	}
	for i, reason := range cancelled.CancellationReasons {
		switch code := aws.ToString(reason.Code); code {
		case "ConditionalCheckFailed":
			again, err := writes[i].refused(reason.Item)
			if err != nil {
				return nil, false, err
			}
			left = append(left, again...)
		case "None", "":
			left = append(left, writes[i])
		case "TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError":
			left, conflict = append(left, writes[i]), true
		default:
			return nil, false, refuse("%s: %s", code, aws.ToString(reason.Message))
		}
	}
	return slices.DeleteFunc(left, (*write).idle), conflict, nil
}

// tryOne makes a write without a transaction, at half the price.
func (db *DB) tryOne(ctx context.Context, w *write) (left []*write, conflict bool, err error) {
	it := w.transactItem(db.table)
	if p := it.Put; p != nil {
		_, err = db.client.PutItem(ctx, &sdk.PutItemInput{
			TableName: p.TableName, Item: p.Item, ConditionExpression: p.ConditionExpression,
			ReturnValuesOnConditionCheckFailure: p.ReturnValuesOnConditionCheckFailure,
		})
	} else {
		u := it.Update
		_, err = db.client.UpdateItem(ctx, &sdk.UpdateItemInput{
			TableName: u.TableName, Key: u.Key, UpdateExpression: u.UpdateExpression, ConditionExpression: u.ConditionExpression,
			ExpressionAttributeNames: u.ExpressionAttributeNames, ExpressionAttributeValues: u.ExpressionAttributeValues,
			ReturnValuesOnConditionCheckFailure: u.ReturnValuesOnConditionCheckFailure,
		})
	}
	if failed, ok := errors.AsType[*types.ConditionalCheckFailedException](err); ok {
		left, err = w.refused(failed.Item)
		return left, false, err
	}
	if hasCode(err, "TransactionConflictException") {
		return []*write{w}, true, nil
	}
	return nil, false, err
}

// refused deals with the condition's being false, the reason being the item
// that is there, if any. It returns the writes to try instead.
func (w *write) refused(it item) ([]*write, error) {
	if w.put != nil {
		return nil, w.exists(it)
	}
	if it == nil {
		return w.withPointers(), nil
	}
	f := fields{item: it}
	w.state = older
	if f.time("last_seen").After(w.merge.LastSeen) {
		w.state = newer
		if len(w.merge.Systems) == 0 {
			return nil, f.err
		}
	}
	return []*write{w}, f.err
}

func (w *write) transactItem(table string) types.TransactWriteItem {
	if w.announces {
		return types.TransactWriteItem{Put: &types.Put{TableName: &table, Item: w.announcement(time.Now())}}
	}
	if w.put != nil {
		p := &types.Put{TableName: &table, Item: w.put}
		if w.exists != nil {
			p.ConditionExpression = aws.String("attribute_not_exists(pk)")
			p.ReturnValuesOnConditionCheckFailure = types.ReturnValuesOnConditionCheckFailureAllOld
		}
		return types.TransactWriteItem{Put: p}
	}
	u := &update{names: make(map[string]string), values: make(item)}
	u.binding(w.merge, w.state)
	return types.TransactWriteItem{Update: &types.Update{
		TableName: &table, Key: w.at, UpdateExpression: aws.String(u.expression()), ConditionExpression: &u.condition,
		ExpressionAttributeNames: u.names, ExpressionAttributeValues: u.values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}}
}

// update is an update expression. Attributes go by #NAME and values by :NAME
// in it, since many names are words of DynamoDB.
type update struct {
	set, add  []string
	condition string
	names     map[string]string
	values    item
}

func (u *update) value(name string, v types.AttributeValue) {
	u.names["#"+name], u.values[":"+name] = name, v
}

// assign sets an attribute.
func (u *update) assign(name string, v types.AttributeValue) {
	u.value(name, v)
	u.set = append(u.set, fmt.Sprintf("#%[1]s = :%[1]s", name))
}

// assignOnce sets an attribute that the item does not have yet.
func (u *update) assignOnce(name string, v types.AttributeValue) {
	u.value(name, v)
	u.set = append(u.set, fmt.Sprintf("#%[1]s = if_not_exists(#%[1]s, :%[1]s)", name))
}

func (u *update) expression() string {
	var clauses []string
	if len(u.set) > 0 {
		clauses = append(clauses, "SET "+strings.Join(u.set, ", "))
	}
	if len(u.add) > 0 {
		clauses = append(clauses, "ADD "+strings.Join(u.add, ", "))
	}
	return strings.Join(clauses, " ")
}

// binding makes the expression that merges a binding into an item of that
// state, and the condition that this is its state.
func (u *update) binding(b *keystore.Binding, s state) {
	if len(b.Systems) > 0 {
		u.value("systems", &types.AttributeValueMemberSS{Value: distinct(b.Systems)})
		u.add = append(u.add, "#systems :systems")
	}
	switch s {
	case newer:
		u.value("last_seen", micros(b.LastSeen))
		u.condition = "#last_seen > :last_seen"
		return
	case older:
		u.condition = "#last_seen <= :last_seen"
	case absent:
		u.condition = "attribute_not_exists(#last_seen)"
	}
	u.assign("last_seen", micros(b.LastSeen))
	u.assignOnce("first_seen", micros(b.FirstSeen))
	u.assign("content_id", text(b.ContentID))
	u.assign("requested", text(b.Requested.String()))
	u.assign("kid", text(b.KID.String()))
	u.assign("track", text(b.Track))
	u.assign("scheme", text(b.Scheme.String()))
	u.assign("period_id", text(b.Period.ID))
	u.assign("period_index", text(b.Period.Index))
	u.assign("period_start", text(b.Period.Start))
	u.assign("period_end", text(b.Period.End))
	u.assign("profile", text(b.Profile))
	if b.IV == "" {
		u.assignOnce("iv", text(""))
	} else {
		u.assign("iv", text(b.IV))
	}
}

// distinct returns the texts, each once, as a set must have them.
func distinct(texts []string) []string {
	var all []string
	seen := make(map[string]bool, len(texts))
	for _, s := range texts {
		if !seen[s] {
			all = append(all, s)
			seen[s] = true
		}
	}
	return all
}
