package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// post sends a request as it is written.
func post(t *testing.T, op string, body any) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Addr, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+op)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=id-of-the-tests/20261122/local/dynamodb/aws4_request, SignedHeaders=host, Signature=00")
	r.Header.Set("X-Amz-Date", "20261122T120000Z")
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Body.Close()
	if w.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(w.Body)
		t.Fatalf("%s: %s %s", op, w.Status, text)
	}
}

func tableOf(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// createTable creates a table by other means than ours.
func createTable(t *testing.T, dsn, pk, sk, kind string) {
	t.Helper()
	type object = map[string]string
	post(t, "CreateTable", map[string]any{
		"TableName": tableOf(t, dsn), "BillingMode": "PAY_PER_REQUEST",
		"AttributeDefinitions": []object{{"AttributeName": pk, "AttributeType": kind}, {"AttributeName": sk, "AttributeType": kind}},
		"KeySchema":            []object{{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}},
	})
}

// TestMigrateFromEachLayout opens tables that earlier releases left and reads
// what is in them. Each release that changes the layout adds one.
func TestMigrateFromEachLayout(t *testing.T) {
	files, err := filepath.Glob("testdata/layout-*.json")
	if err != nil || len(files) != layout {
		t.Fatalf("%d tables for %d layouts, %v", len(files), layout, err)
	}
	alive, gone := record(1), record(2)
	gone.Wrapped, gone.Source, gone.ContentID, gone.Scheme = []byte{}, "import", "", 0
	gone.Deleted = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for i, file := range files {
		dsn := newTable()
		createTable(t, dsn, "pk", "sk", "S")
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var items []json.RawMessage
		if err := json.Unmarshal(b, &items); err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			post(t, "PutItem", map[string]any{"TableName": tableOf(t, dsn), "Item": it})
		}
		if from, to, err := Migrate(t.Context(), dsn, Options{}); from != i+1 || to != layout || err != nil {
			t.Errorf("%s: from %d to %d, %v", file, from, to, err)
		}
		db := openTest(t, dsn)
		keys, _, err := db.PageKeys(t.Context(), "acme", "", 10)
		if err != nil || !reflect.DeepEqual(keys, []keystore.Record{alive, gone}) {
			t.Errorf("%s: keys %+v, %v", file, keys, err)
		}
		for _, f := range []keystore.BindingFilter{{}, {KID: alive.KID}, {ContentID: "movie"}} {
			bound, _, err := db.PageBindings(t.Context(), "acme", f, "", 10)
			if err != nil || !reflect.DeepEqual(bound, []keystore.Binding{binding(1)}) {
				t.Errorf("%s: bindings %+v, %v", file, bound, err)
			}
		}
		tenants, err := db.Tenants(t.Context(), "", 10)
		if err != nil || !reflect.DeepEqual(tenants, []string{"_custody", "acme"}) {
			t.Errorf("%s: tenants %v, %v", file, tenants, err)
		}
		stored, err := db.Commit(t.Context(), []keystore.Record{record(1), record(3)}, []keystore.Binding{binding(1), binding(3)})
		if err != nil || !reflect.DeepEqual(stored, []keystore.Record{alive, record(3)}) {
			t.Errorf("%s: Commit: %+v, %v", file, stored, err)
		}
	}
}

// TestMigrateAtOnce lets processes, and callers within them, create the same
// table.
func TestMigrateAtOnce(t *testing.T) {
	dsn := newTable()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := child(t, "migrate", dsn).Run(); err != nil {
				t.Errorf("a process: %v", err)
			}
		})
		wg.Go(func() {
			if _, to, err := Migrate(t.Context(), dsn, Options{}); to != layout || err != nil {
				t.Error(to, err)
			}
		})
	}
	wg.Wait()
	if _, err := Open(t.Context(), dsn, Options{}); err != nil {
		t.Error(err)
	}
}

// TestCreatedTable looks at the table that Migrate creates.
func TestCreatedTable(t *testing.T) {
	m := newMiddle(t)
	var created struct {
		BillingMode               string
		DeletionProtectionEnabled bool
	}
	history := 0
	m.set(func(w http.ResponseWriter, r request) bool {
		switch r.op {
		case "CreateTable":
			if err := json.Unmarshal(r.body, &created); err != nil {
				t.Error(err)
			}
		case "UpdateContinuousBackups":
			if history++; history < 3 {
				return fail(400, "ContinuousBackupsUnavailableException", "the table is new")(w, r)
			}
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			_, _ = io.WriteString(w, "{}")
			return true
		}
		return false
	}, nil)
	dsn := tableAt(m.URL)
	if from, to, err := Migrate(t.Context(), dsn, Options{}); from != 0 || to != layout || err != nil {
		t.Errorf("from %d to %d, %v", from, to, err)
	}
	if created.BillingMode != "PAY_PER_REQUEST" || !created.DeletionProtectionEnabled || history != 3 {
		t.Errorf("%+v, asked %d times for point-in-time recovery", created, history)
	}
	db := openTest(t, dsn)
	out, err := db.client.DescribeTable(t.Context(), &sdk.DescribeTableInput{TableName: &db.table})
	if err != nil || out.Table.TableStatus != types.TableStatusActive {
		t.Errorf("%+v, %v", out, err)
	}

	// A server without it is used all the same, and that is said.
	m.set(func(w http.ResponseWriter, r request) bool {
		return r.op == "UpdateContinuousBackups" && fail(400, "UnknownOperationException", "")(w, r)
	}, nil)
	var log bytes.Buffer
	if _, _, err := Migrate(t.Context(), tableAt(m.URL), Options{Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "no point-in-time recovery") {
		t.Errorf("logged: %s", log.String())
	}
}

// TestMigrateNeedsLittle prepares a table that somebody else created, with
// permission for items only.
func TestMigrateNeedsLittle(t *testing.T) {
	m := newMiddle(t)
	dsn := tableAt(m.URL)
	createTable(t, dsn, "pk", "sk", "S")
	m.set(func(w http.ResponseWriter, r request) bool {
		return r.op != "GetItem" && r.op != "PutItem" && fail(400, "AccessDeniedException", "not authorized to do "+r.op)(w, r)
	}, nil)
	for from := range 2 {
		if was, to, err := Migrate(t.Context(), dsn, Options{}); was != from || to != layout || err != nil {
			t.Errorf("from %d to %d, %v", was, to, err)
		}
	}
	if _, err := Open(t.Context(), dsn, Options{}); err != nil {
		t.Error(err)
	}
	if _, _, err := Migrate(t.Context(), tableAt(m.URL), Options{}); err == nil || !strings.Contains(err.Error(), "not authorized to do CreateTable") {
		t.Errorf("a table that does not exist: %v", err)
	}
}

// TestOpenRefuses opens what cannot be used.
func TestOpenRefuses(t *testing.T) {
	const secret = "hush-hush"
	at := "endpoint=" + url.QueryEscape("http://"+server.Addr)
	bare, newer, other, numbers := newTable(), newTable(), newTable(), newTable()
	createTable(t, bare, "pk", "sk", "S")
	createTable(t, newer, "pk", "sk", "S")
	createTable(t, other, "id", "at", "S")
	createTable(t, numbers, "pk", "sk", "N")
	type object = map[string]string
	post(t, "PutItem", map[string]any{"TableName": tableOf(t, newer), "Item": map[string]object{
		"pk": {"S": "schema"}, "sk": {"S": "version"}, "version": {"N": "99"},
	}})
	for name, c := range map[string]struct {
		dsn, text string
		err       error
	}{
		"no table":              {newTable(), "run spekeasy migrate", nil},
		"not prepared":          {bare, "run spekeasy migrate", nil},
		"newer":                 {newer, "schema 99 is newer than 1", nil},
		"other keys":            {other, "not the strings pk and sk", nil},
		"keys that are numbers": {numbers, "not the strings pk and sk", nil},
		"no server":             {"dynamodb://keys?region=local&endpoint=http://127.0.0.1:1", "connection refused", keystore.ErrUnavailable},
		"no region":             {"dynamodb://keys?" + at, "AWS_REGION", nil},
		"a misspelt parameter":  {"dynamodb://keys?regoin=local&" + at, `"regoin"`, nil},
		"credentials":           {"dynamodb://id:" + secret + "@keys?region=local&" + at, "without credentials", nil},
		"no endpoint":           {"dynamodb://keys?region=local&endpoint=" + secret, "not of the form https://HOST", nil},
		"an endpoint's user":    {"dynamodb://keys?region=local&endpoint=http://id:" + secret + "@127.0.0.1", "not of the form https://HOST", nil},
		"a path":                {"dynamodb://keys/" + secret + "?region=local", "want dynamodb://TABLE", nil},
		"no name":               {"dynamodb://?region=local", "want dynamodb://TABLE", nil},
		"a short name":          {"dynamodb://k?region=local", "want dynamodb://TABLE", nil},
		"another scheme":        {"sqlite:///keys", "want dynamodb://TABLE", nil},
		"not a URL":             {"dynamodb://%zz", "want dynamodb://TABLE", nil},
	} {
		for what, open := range map[string]func() error{
			"Open":    func() error { _, err := Open(t.Context(), c.dsn, Options{}); return err },
			"Migrate": func() error { _, _, err := Migrate(t.Context(), c.dsn, Options{}); return err },
		} {
			if what == "Migrate" && strings.Contains(c.text, "migrate") {
				continue
			}
			err := open()
			if err == nil || !strings.Contains(err.Error(), c.text) || c.err != nil && !errors.Is(err, c.err) ||
				c.err == nil && (errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt)) {
				t.Errorf("%s: %s: %v, want %q", name, what, err, c.text)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), secret) {
				t.Errorf("%s: %s shows a secret: %v", name, what, err)
			}
		}
	}
}

// TestNoCredentials leaves nothing to sign with.
func TestNoCredentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err := Open(t.Context(), newTable(), Options{Timeout: 5 * time.Second})
	if !errors.Is(err, keystore.ErrUnavailable) || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("%v", err)
	}
}

// TestRefusals are errors that repeating does not help and that are no
// outage.
func TestRefusals(t *testing.T) {
	db := openTest(t, newTable())
	latin, spaced := record(2), record(3)
	latin.ContentID, spaced.Tenant = "\xe9", "a#b"
	wrong := binding(4)
	wrong.Systems = append(wrong.Systems, "\xff")
	large := record(5)
	large.ContentID = strings.Repeat("x", 500_000)
	page := func(f keystore.BindingFilter, after string) func() error {
		return func() error { _, _, err := db.PageBindings(t.Context(), "acme", f, after, 1); return err }
	}
	for name, call := range map[string]func() error{
		"not UTF-8":              func() error { _, err := db.Commit(t.Context(), []keystore.Record{latin}, nil); return err },
		"not UTF-8, a system ID": func() error { _, err := db.Commit(t.Context(), nil, []keystore.Binding{wrong}); return err },
		"a tenant with a #":      func() error { _, err := db.Commit(t.Context(), []keystore.Record{spaced}, nil); return err },
		"no tenant":              func() error { _, err := db.DataKeys(t.Context(), ""); return err },
		"too large":              func() error { _, err := db.Commit(t.Context(), []keystore.Record{large}, nil); return err },
		"too large, of two": func() error {
			_, err := db.Commit(t.Context(), []keystore.Record{large, record(6)}, nil)
			return err
		},
		"not a position of keys": func() error { _, _, err := db.PageKeys(t.Context(), "acme", "12", 1); return err },
		"not a position":         page(keystore.BindingFilter{}, "12"),
		"an odd position":        page(keystore.BindingFilter{}, "zz#00"),
		"another's position":     page(keystore.BindingFilter{KID: record(1).KID}, "00#00"),
	} {
		err := call()
		if err == nil || errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// put stores an item as it is.
func put(t *testing.T, db *DB, it item) {
	t.Helper()
	if _, err := db.client.PutItem(t.Context(), &sdk.PutItemInput{TableName: &db.table, Item: it}); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedItems reads items that nothing of ours wrote.
func TestDamagedItems(t *testing.T) {
	r, b := record(1), binding(1)
	k := keystore.DataKey{Tenant: "acme", ID: 1, Wrapped: []byte("w"), Created: noon}
	stored := bindingAt(&b)
	for name, v := range map[string]types.AttributeValue{
		"content_id": text(b.ContentID), "requested": text(b.Requested.String()), "kid": text(b.KID.String()), "track": text(""),
		"scheme": text("cbcs"), "period_id": text(""), "period_index": text(""), "period_start": text(""), "period_end": text(""),
		"profile": text("2.0"), "iv": text(""), "first_seen": micros(noon), "last_seen": micros(noon),
	} {
		stored[name] = v
	}
	for name, c := range map[string]struct {
		item item
		read func(*DB) error
	}{
		"content key": {recordItem(&r), func(db *DB) error {
			_, err := db.Keys(t.Context(), "acme", []contentkey.KID{r.KID})
			return err
		}},
		"content key, by Commit": {recordItem(&r), func(db *DB) error {
			_, err := db.Commit(t.Context(), []keystore.Record{r}, nil)
			return err
		}},
		"data key": {dataKeyItem(&k), func(db *DB) error {
			_, err := db.DataKeys(t.Context(), "acme")
			return err
		}},
		"binding": {stored, func(db *DB) error {
			_, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{}, "", 1)
			return err
		}},
	} {
		db := openTest(t, newTable())
		for attribute := range c.item {
			if attribute == "pk" || attribute == "sk" {
				continue
			}
			for how, bad := range map[string]types.AttributeValue{
				"missing": nil, "of another kind": &types.AttributeValueMemberBOOL{}, "too large": &types.AttributeValueMemberN{Value: "1e30"},
			} {
				it := make(item)
				for name, v := range c.item {
					it[name] = v
				}
				if it[attribute] = bad; bad == nil {
					delete(it, attribute)
				}
				put(t, db, it)
				if err := c.read(db); !errors.Is(err, keystore.ErrCorrupt) {
					t.Errorf("%s: %s %s: %v", name, attribute, how, err)
				}
			}
		}
	}
}

// TestLostDataKey takes a tenant's data key away from its content keys.
func TestLostDataKey(t *testing.T) {
	db := openTest(t, newTable())
	k := keystore.DataKey{Tenant: "acme", ID: 1, KEK: "kek", Wrapped: []byte("w"), Created: noon}
	if _, err := db.CreateDataKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Commit(t.Context(), []keystore.Record{record(200)}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := db.client.DeleteItem(t.Context(), &sdk.DeleteItemInput{TableName: &db.table, Key: dataKeyAt("acme", 1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateDataKey(t.Context(), k); !errors.Is(err, keystore.ErrCorrupt) || !strings.Contains(err.Error(), "acme") {
		t.Errorf("a new first data key: %v", err)
	}
}

// TestBindingsStoredInPart finds bindings whatever an interrupted Commit left
// of them.
func TestBindingsStoredInPart(t *testing.T) {
	db := openTest(t, newTable())
	b := binding(1)
	b.Requested = record(2).KID
	find := func(step string, want int) {
		t.Helper()
		for _, f := range []keystore.BindingFilter{{}, {KID: b.KID}, {KID: b.Requested}, {ContentID: b.ContentID}, {KID: b.KID, ContentID: b.ContentID}} {
			got, next, err := db.PageBindings(t.Context(), "acme", f, "", 10)
			if err != nil || len(got) != want || next != "" {
				t.Errorf("%s: %+v: %d bindings, next %q, %v", step, f, len(got), next, err)
			}
		}
	}
	for _, it := range pointers(&b) {
		put(t, db, it)
	}
	find("pointers only", 0)
	later := b
	later.LastSeen = noon.Add(time.Hour) // looks as if it were stored
	if _, err := db.Commit(t.Context(), nil, []keystore.Binding{later}); err != nil {
		t.Fatal(err)
	}
	find("completed", 1)

	var many []keystore.Binding
	for n := range 90 {
		m := later
		m.Track, m.KID = fmt.Sprint(n), record(3).KID
		many = append(many, m)
	}
	if _, err := db.Commit(t.Context(), nil, many); err != nil { // each needs its pointers, after all
		t.Fatal(err)
	}
	got, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{KID: record(3).KID}, "", 1000)
	if err != nil || len(got) != len(many) {
		t.Errorf("%d of %d bindings, %v", len(got), len(many), err)
	}
}

// TestKnownBindings shows what news of a known binding costs.
func TestKnownBindings(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	all := []keystore.Binding{binding(1), binding(2)}
	if _, err := db.Commit(t.Context(), nil, all); err != nil {
		t.Fatal(err)
	}
	var ops []string
	items := 0
	m.set(func(_ http.ResponseWriter, r request) bool {
		var in struct{ TransactItems []any }
		if err := json.Unmarshal(r.body, &in); err != nil {
			t.Error(err)
		}
		ops, items = append(ops, r.op), len(in.TransactItems)
		return false
	}, nil)
	for i := range all {
		all[i].LastSeen = noon.Add(time.Minute)
	}
	for _, c := range []struct {
		bindings []keystore.Binding
		op       string
		items    int
	}{{all[:1], "UpdateItem", 0}, {all, "TransactWriteItems", 2}} {
		ops = nil
		if _, err := db.Commit(context.WithoutCancel(t.Context()), nil, c.bindings); err != nil {
			t.Fatal(err)
		}
		if len(ops) != 1 || ops[0] != c.op || items != c.items {
			t.Errorf("%d bindings: %v of %d items", len(c.bindings), ops, items)
		}
	}
}
