package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// layout is the version of the items that this program reads and writes.
const layout = 1

// creation is how long a new table may take until it can be used.
const creation = 3 * time.Minute

func schemaAt() item { return item{"pk": text("schema"), "sk": text("version")} }

// check returns an error unless the table can be used.
func (db *DB) check(ctx context.Context) error {
	version, err := db.version(ctx)
	switch {
	case hasCode(err, "ResourceNotFoundException"):
		return refuse("there is no such table in this region and account: run spekeasy migrate")
	case err != nil:
		return err
	case version == 0:
		return refuse("the table is not prepared: run spekeasy migrate")
	default:
		return tooNew(version)
	}
}

func tooNew(version int) error {
	if version > layout {
		return refuse("the table's schema %d is newer than %d, the newest that this program knows", version, layout)
	}
	return nil
}

// version returns the version of the table's layout, 0 for one without items
// of ours.
func (db *DB) version(ctx context.Context) (int, error) {
	out, err := db.client.GetItem(ctx, &sdk.GetItemInput{TableName: &db.table, Key: schemaAt(), ConsistentRead: aws.Bool(true)})
	if hasCode(err, "ValidationException") {
		return 0, refuse("the table's keys are not the strings pk and sk")
	}
	if err != nil || out.Item == nil {
		return 0, err
	}
	f := fields{item: out.Item}
	n := f.uint32("version")
	return int(n), f.err
}

// Migrate creates the table of a URL, unless there is one, and prepares it.
// It returns the version of its layout before and after. Several processes
// may do so at once.
//
// A table that Migrate creates is billed on demand, is protected against
// deletion and keeps a history for point-in-time recovery, where the server
// knows of that. A table that was made by other means needs the string keys
// pk and sk and nothing else.
func Migrate(ctx context.Context, dsn string, o Options) (from, to int, err error) {
	db, err := connect(ctx, dsn, o)
	if err != nil {
		return 0, 0, err
	}
	if err := db.migrate(ctx); err != nil {
		return 0, 0, err
	}
	return db.from, layout, nil
}

func (db *DB) migrate(ctx context.Context) error {
	err := db.prepare(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", db.name(), ctx.Err())
	default:
		return fmt.Errorf("%s: %w", db.name(), sorted(err))
	}
}

func (db *DB) prepare(ctx context.Context) (err error) {
	db.from, err = db.version(ctx)
	if hasCode(err, "ResourceNotFoundException") {
		err = db.create(ctx)
	}
	if err != nil || db.from > 0 {
		return errors.Join(err, tooNew(db.from))
	}
	it := schemaAt()
	it["version"] = number(layout)
	return db.write(ctx, []*write{create(it, func(item) error { return nil })})
}

// create creates the table, unless somebody was faster, and waits until it
// can be used.
func (db *DB) create(ctx context.Context) error {
	_, err := db.client.CreateTable(ctx, &sdk.CreateTableInput{
		TableName: &db.table,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("pk"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("sk"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("pk"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("sk"), KeyType: types.KeyTypeRange},
		},
		BillingMode:               types.BillingModePayPerRequest,
		DeletionProtectionEnabled: aws.Bool(true),
	})
	faster := hasCode(err, "ResourceInUseException")
	if err != nil && !faster {
		return err
	}
	err = sdk.NewTableExistsWaiter(db.client, func(w *sdk.TableExistsWaiterOptions) {
		w.MinDelay, w.MaxDelay = 500*time.Millisecond, 5*time.Second
	}).Wait(ctx, &sdk.DescribeTableInput{TableName: &db.table}, creation)
	if err != nil || faster {
		return err
	}
	return db.keepHistory(ctx)
}

// keepHistory turns on point-in-time recovery. The keys are safe without it,
// so that a server or an account that does not allow it is only reported.
func (db *DB) keepHistory(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		_, err := db.client.UpdateContinuousBackups(ctx, &sdk.UpdateContinuousBackupsInput{
			TableName:                        &db.table,
			PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)},
		})
		if err == nil {
			return nil
		}
		if !hasCode(err, "ContinuousBackupsUnavailableException") || attempt == maxAttempts { // a new table may not be ready
			db.log.WarnContext(ctx, "the table has no point-in-time recovery", "table", db.table, "error", sorted(err))
			return ctx.Err()
		}
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}
