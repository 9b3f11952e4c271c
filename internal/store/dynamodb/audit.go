package dynamodb

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/internal/audit"
)

var _ audit.Store = (*DB)(nil)

// The audit log. The head of a part changes with every page and is in the
// part's partition; the list of parts is one partition, written to when a part
// begins and ends.

const (
	auditParts  = "audit"
	auditPrefix = "page#"
)

func auditPartAt(part string) item { return item{"pk": text(auditParts), "sk": text(part)} }

func auditPK(part string) string { return auditParts + "#" + part }

func auditHeadAt(part string) item { return item{"pk": text(auditPK(part)), "sk": text("head")} }

func auditPageSK(before uint64) string { return fmt.Sprintf("%s%020d", auditPrefix, before) }

func (f *fields) position(name string) (p audit.Position) {
	p.Seq = uint64(f.number(name + "_seq"))
	if b := f.binary(name + "_hash"); len(b) == len(p.Hash) {
		copy(p.Hash[:], b)
	} else {
		f.fail(name + "_hash")
	}
	return p
}

func setPosition(it item, name string, p audit.Position) {
	it[name+"_seq"], it[name+"_hash"] = number(int64(p.Seq)), binary(p.Hash[:])
}

// AppendAudit implements [audit.Store].
func (db *DB) AppendAudit(ctx context.Context, p *audit.Page, begin bool) error {
	page := item{"pk": text(auditPK(p.Part)), "sk": text(auditPageSK(p.Before.Seq)), "written": micros(p.Time), "lines": binary(p.Lines)}
	setPosition(page, "before", p.Before)
	setPosition(page, "last", p.Last)
	head := auditHeadAt(p.Part)
	setPosition(head, "head", p.Last)
	head["written"] = micros(p.Time)
	put := &types.Put{TableName: &db.table, Item: head,
		ConditionExpression:       aws.String("head_seq = :seq AND head_hash = :hash"),
		ExpressionAttributeValues: item{":seq": number(int64(p.Before.Seq)), ":hash": binary(p.Before.Hash[:])},
	}
	in := &sdk.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{{Put: put}, {Put: &types.Put{TableName: &db.table, Item: page}}}}
	if begin {
		put.ConditionExpression, put.ExpressionAttributeValues = aws.String("attribute_not_exists(pk)"), nil
		part := auditPartAt(p.Part)
		setPosition(part, "before", p.Before)
		in.TransactItems = append(in.TransactItems, types.TransactWriteItem{Put: &types.Put{TableName: &db.table, Item: part}})
	}
	return db.do(ctx, "audit part "+p.Part, func(ctx context.Context) error {
		refused, err := db.transact(ctx, in)
		if err != nil || !refused {
			return err
		}
		_, at, err := db.auditHead(ctx, p.Part)
		if err == nil && at != p.Last {
			err = refusal{audit.ErrMoved}
		}
		return err
	})
}

// transact makes writes of which only the first has a condition, and reports
// whether that is false.
func (db *DB) transact(ctx context.Context, in *sdk.TransactWriteItemsInput) (refused bool, err error) {
	for conflicts := 1; ; conflicts++ {
		_, err := db.client.TransactWriteItems(ctx, in)
		cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
		if !ok || len(cancelled.CancellationReasons) != len(in.TransactItems) {
			return false, err
		}
		for _, reason := range cancelled.CancellationReasons {
			switch code := aws.ToString(reason.Code); code {
			case "ConditionalCheckFailed":
				return true, nil
			case "None", "", "TransactionConflict", "ProvisionedThroughputExceeded", "ThrottlingError":
			default:
				return false, refuse("%s: %s", code, aws.ToString(reason.Message))
			}
		}
		if conflicts > maxConflicts {
			return false, errBusy
		}
		if err := pause(ctx, min(conflicts, 4)); err != nil {
			return false, err
		}
	}
}

// auditHead reads the head of a part; without one, it is the zero position.
func (db *DB) auditHead(ctx context.Context, part string) (f fields, at audit.Position, err error) {
	out, err := db.client.GetItem(ctx, &sdk.GetItemInput{TableName: &db.table, Key: auditHeadAt(part), ConsistentRead: aws.Bool(true)})
	if err != nil || out.Item == nil {
		return f, at, err
	}
	f.item = out.Item
	at = f.position("head")
	return f, at, f.err
}

// AuditParts implements [audit.Store].
func (db *DB) AuditParts(ctx context.Context, after string, limit int) (all []audit.Part, err error) {
	err = db.do(ctx, "reading the audit log", func(ctx context.Context) error {
		all = nil
		return db.query(ctx, auditParts, "", after, func() int { return limit - len(all) }, func(it item) error {
			f := fields{item: it}
			p := audit.Part{ID: f.text("sk"), Before: f.position("before")}
			head, at, err := db.auditHead(ctx, p.ID)
			if err == nil && head.item != nil {
				p.Head, p.Written = at, head.time("written")
			}
			all = append(all, p)
			return errors.Join(err, f.err, head.err)
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// AuditPages implements [audit.Store].
func (db *DB) AuditPages(ctx context.Context, part string, after uint64, limit int) (all []audit.Page, err error) {
	from := ""
	if after > 0 {
		from = auditPageSK(after - 1)
	}
	err = db.do(ctx, "reading the audit log", func(ctx context.Context) error {
		all = nil
		return db.query(ctx, auditPK(part), auditPrefix, from, func() int { return limit - len(all) }, func(it item) error {
			f := fields{item: it}
			all = append(all, audit.Page{
				Part: part, Before: f.position("before"), Last: f.position("last"), Time: f.time("written"), Lines: f.binary("lines"),
			})
			return f.err
		})
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// DeleteAudit implements [audit.Store]. The pages go first, so that a part
// whose deletion was cut off is still known.
func (db *DB) DeleteAudit(ctx context.Context, part string) error {
	what := "deleting audit part " + part
	for {
		pages, err := db.AuditPages(ctx, part, 0, maxDeletes)
		if err != nil {
			return err
		}
		if len(pages) == 0 {
			break
		}
		in := &sdk.TransactWriteItemsInput{}
		for i := range pages {
			in.TransactItems = append(in.TransactItems, types.TransactWriteItem{Delete: &types.Delete{
				TableName: &db.table, Key: item{"pk": text(auditPK(part)), "sk": text(auditPageSK(pages[i].Before.Seq))},
			}})
		}
		if err := db.do(ctx, what, func(ctx context.Context) error { _, err := db.transact(ctx, in); return err }); err != nil {
			return err
		}
	}
	return db.do(ctx, what, func(ctx context.Context) error {
		_, err := db.transact(ctx, &sdk.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
			{Delete: &types.Delete{TableName: &db.table, Key: auditHeadAt(part)}},
			{Delete: &types.Delete{TableName: &db.table, Key: auditPartAt(part)}},
		}})
		return err
	})
}

// maxDeletes is how many pages are read and deleted at once.
const maxDeletes = 25
