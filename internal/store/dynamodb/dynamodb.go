// Package dynamodb keeps content keys in one table of Amazon DynamoDB, for
// any number of spekeasy processes or Lambda functions.
//
// The table has a partition key pk and a sort key sk, both strings, and no
// index. Every read is consistent. Its items are:
//
//	pk                    sk                                  what
//	schema                version                             the version of this layout
//	datakeys              TENANT#ID, ten digits               a data key
//	key#TENANT#X          KID                                 a content key
//	content#TENANT#X      DIGEST of the content ID#IDENTITY   a binding
//	kid#TENANT#X          KID#IDENTITY                        says where that binding is
//	document#KIND         ID                                  what the admin API manages
//	document              revision                            how many changes of those there were
//	feed#TENANT           TIME in microseconds#IDENTITY       says when that binding was new
//	note                  NAME                                a note of whoever follows the feed
//	audit                 PART                                where a part of an audit log begins
//	audit#PART            head                                and where it ends
//	audit#PART            page#RECORD, twenty digits          a page of it, after that record
//
// X is the first hexadecimal digit of sk. It spreads a tenant over sixteen
// partitions that can be read one after the other in the order of sk. A
// binding whose requested key ID is another than the one answered is found by
// both. Content IDs are digested because they can be longer than a key of
// DynamoDB, not to hide them.
//
// A binding that is new enters the feed in the same transaction. The feed of a
// tenant is one partition, which bounds its new bindings to some hundred per
// second.
//
// A key is created by a conditional write, which also returns the one that is
// there already. Several writes of a Commit share a transaction, for the
// round trips that it saves; only the feed depends on its being one.
//
// Whoever serves needs the permissions GetItem, BatchGetItem, Query, PutItem
// and UpdateItem on the table, and DeleteItem where the audit log is kept in
// it; [Migrate] needs CreateTable, DescribeTable and
// UpdateContinuousBackups to create it.
package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/smithy-go/logging"

	"spekeasy/internal/keystore"
)

// DB is an open table. It may be used concurrently.
type DB struct {
	client  *sdk.Client
	table   string
	timeout time.Duration
	settle  time.Duration
	log     *slog.Logger
	from    int // version of the layout before migrate
	closed  atomic.Bool
}

var (
	_ keystore.Store = (*DB)(nil)
	_ keystore.Pager = (*DB)(nil)
)

// Options are the settings of a [DB]; each has a usable zero value.
type Options struct {
	// Migrate creates the table if there is none, as [Migrate] does.
	Migrate bool

	// Timeout is how long a call may take, further attempts included. Zero
	// means 10 seconds.
	Timeout time.Duration

	// Settle is how old a new binding has to be to be in the feed. It must be
	// longer than any process's Timeout and the difference of their clocks
	// together. Zero means 5 seconds more than Timeout.
	Settle time.Duration

	// Log hears of what does not fail a call. Nil discards.
	Log *slog.Logger
}

// Bounds of one call. DynamoDB answers within milliseconds.
const (
	defaultTimeout = 10 * time.Second
	attemptTimeout = 3 * time.Second
	maxAttempts    = 6
	maxIdle        = 64 // connections

	clockDifference = 5 * time.Second // between processes, at most
)

// Open returns the table of a URL of the form
//
//	dynamodb://TABLE?region=eu-west-1
//
// A parameter endpoint names another server than that of the region. Without
// a region, that of the environment holds. Credentials come from where the
// AWS SDK looks for them: environment, shared files, container or instance.
func Open(ctx context.Context, dsn string, o Options) (*DB, error) {
	db, err := connect(ctx, dsn, o)
	if err != nil {
		return nil, err
	}
	if o.Migrate {
		if err := db.migrate(ctx); err != nil {
			return nil, err
		}
	}
	if err := db.do(ctx, db.name(), db.check); err != nil {
		return nil, err
	}
	return db, nil
}

func (db *DB) name() string { return "dynamodb " + db.table }

var tableName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{3,255}$`)

var errURL = errors.New("the URL of the DynamoDB table cannot be understood; " +
	"want dynamodb://TABLE?region=REGION, without credentials")

// connect makes a client and asks nothing of the server.
func connect(ctx context.Context, dsn string, o Options) (*DB, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "dynamodb" || u.User != nil || u.Path != "" || u.Fragment != "" || !tableName.MatchString(u.Host) {
		return nil, errURL
	}
	db := &DB{table: u.Host, timeout: o.Timeout, log: o.Log}
	if db.timeout == 0 {
		db.timeout = defaultTimeout
	}
	if db.settle = o.Settle; db.settle == 0 {
		db.settle = db.timeout + clockDifference
	}
	if db.log == nil {
		db.log = slog.New(slog.DiscardHandler)
	}
	settings := []func(*config.LoadOptions) error{
		config.WithAppID("spekeasy"),
		config.WithLogger(logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
			db.log.Debug(fmt.Sprintf(format, args...)) // of the SDK; what matters is an error, too
		})),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(attemptTimeout).WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost = maxIdle, maxIdle
		})),
		config.WithRetryer(func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = maxAttempts
				o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) { return delay(attempt), nil })
			})
		}),
	}
	endpoint := ""
	for name, values := range u.Query() {
		switch name {
		case "region":
			settings = append(settings, config.WithRegion(values[0]))
		case "endpoint":
			endpoint = values[0]
			if e, err := url.Parse(endpoint); err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || e.User != nil {
				return nil, fmt.Errorf("%s: endpoint is not of the form https://HOST", db.name())
			}
		default:
			return nil, fmt.Errorf("%s: unknown parameter %q", db.name(), name)
		}
	}
	c, err := config.LoadDefaultConfig(ctx, settings...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", db.name(), err)
	}
	if c.Region == "" {
		return nil, fmt.Errorf("%s: no region: add ?region=REGION to the URL or set AWS_REGION", db.name())
	}
	db.client = sdk.NewFromConfig(c, func(o *sdk.Options) {
		if endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	return db, nil
}

// delay is how long to wait before a further attempt, longer each time and
// never quite as long as others do.
func delay(attempt int) time.Duration {
	d := min(25*time.Millisecond<<min(attempt, 10), 800*time.Millisecond)
	return d/2 + rand.N(d/2)
}

// pause waits before a further attempt.
func pause(ctx context.Context, attempt int) error {
	select {
	case <-time.After(delay(attempt)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do runs f within the time that a call may take. Errors begin with what.
func (db *DB) do(ctx context.Context, what string, f func(context.Context) error) error {
	if db.closed.Load() {
		return fmt.Errorf("%s: %w: the store is closed", what, keystore.ErrUnavailable)
	}
	limited, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	err := limited.Err()
	if err == nil {
		err = f(limited)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, ctx.Err())
	case limited.Err() != nil:
		return fmt.Errorf("%s: %w: no answer within %v", what, keystore.ErrUnavailable, db.timeout)
	default:
		return fmt.Errorf("%s: %w", what, sorted(err))
	}
}

// Close ends the store. Calls under way may still succeed.
func (db *DB) Close() error {
	db.closed.Store(true)
	return nil
}

// partition returns the pk of an item whose sk begins with a hexadecimal
// digit.
func partition(kind, tenant, sk string) string {
	return strings.Join([]string{kind, tenant, sk[:min(1, len(sk))]}, "#")
}
