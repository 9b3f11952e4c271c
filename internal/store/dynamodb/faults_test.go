package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/storetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

func record(n byte) keystore.Record {
	return keystore.Record{
		Tenant: "acme", KID: contentkey.KID{n, 15: n}, Wrapped: []byte{0, n, 0xff}, DataKey: 1, Source: "random",
		ContentID: "movie", Scheme: contentkey.Cbcs, Created: noon,
	}
}

func binding(n byte) keystore.Binding {
	r := record(n)
	return keystore.Binding{
		Tenant: r.Tenant, ContentID: r.ContentID, Requested: r.KID, KID: r.KID, Track: "VIDEO", Scheme: r.Scheme,
		Profile: "2.0", Systems: []string{"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"}, FirstSeen: noon, LastSeen: noon,
	}
}

// request is what the middle sees of one.
type request struct {
	op   string // PutItem
	body []byte
}

// middle stands between a store and the server and may answer itself.
type middle struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(http.ResponseWriter, request) (answered bool)
	after  func(request) (drop bool) // whether the server's answer is lost
}

func newMiddle(t testing.TB) *middle {
	m := &middle{}
	onward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Addr})
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client has gone
		}
		_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		seen := request{op, body}
		m.mu.Lock()
		answer, after := m.answer, m.after
		m.mu.Unlock()
		if answer != nil && answer(w, seen) {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if after == nil || !after(seen) {
			onward.ServeHTTP(w, r)
			return
		}
		onward.ServeHTTP(httptest.NewRecorder(), r)
		drop(w, seen)
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *middle) set(answer func(http.ResponseWriter, request) bool, after func(request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer, m.after = answer, after
}

// drop ends the connection without an answer.
func drop(http.ResponseWriter, request) bool { panic(http.ErrAbortHandler) }

// fail answers with an error.
func fail(status int, code, message string) func(http.ResponseWriter, request) bool {
	return func(w http.ResponseWriter, _ request) bool {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": message})
		return true
	}
}

// cancel answers a transaction with the same reason for each item.
func cancel(reason string) func(http.ResponseWriter, request) bool {
	return func(w http.ResponseWriter, r request) bool {
		var in struct{ TransactItems []any }
		if err := json.Unmarshal(r.body, &in); err != nil {
			panic(err)
		}
		type code struct{ Code string }
		reasons := make([]code, len(in.TransactItems))
		reasons[0].Code = reason
		for i := range reasons[1:] {
			reasons[i+1].Code = "None"
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", "CancellationReasons": reasons,
		})
		return true
	}
}

// first lets an answer happen to the first n requests of an operation.
func first(n int, op string, answer func(http.ResponseWriter, request) bool) func(http.ResponseWriter, request) bool {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r request) bool {
		mu.Lock()
		now := r.op == op && n > 0
		if now {
			n--
		}
		mu.Unlock()
		return now && answer(w, r)
	}
}

const forEver = 1_000_000

// TestFaultsOfTheServer makes the server fail while a key is stored, alone
// or in a transaction.
func TestFaultsOfTheServer(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	lasts := errors.New("an error that is no outage")
	n := byte(0)
	for _, c := range []struct {
		name   string
		op     string
		answer func(http.ResponseWriter, request) bool
		times  int
		want   error
	}{
		{"throttled", "PutItem", fail(400, "ProvisionedThroughputExceededException", "slow down"), 3, nil},
		{"throttled for ever", "PutItem", fail(400, "ThrottlingException", "slow down"), forEver, keystore.ErrUnavailable},
		{"a failing server", "PutItem", fail(500, "InternalServerError", "oh"), 3, nil},
		{"a failing server for ever", "TransactWriteItems", fail(500, "InternalServerError", "oh"), forEver, keystore.ErrUnavailable},
		{"a gateway's page", "PutItem", func(w http.ResponseWriter, _ request) bool {
			http.Error(w, "<html>bad gateway</html>", http.StatusBadGateway)
			return true
		}, forEver, keystore.ErrUnavailable},
		{"no JSON", "TransactWriteItems", func(w http.ResponseWriter, _ request) bool {
			_, _ = io.WriteString(w, "{{")
			return true
		}, forEver, keystore.ErrUnavailable},
		{"lost before the server", "PutItem", drop, 3, nil},
		{"lost before the server, in a transaction", "TransactWriteItems", drop, 3, nil},
		{"lost for ever", "TransactWriteItems", drop, forEver, keystore.ErrUnavailable},
		{"an item in another transaction", "PutItem", fail(400, "TransactionConflictException", "busy"), 5, nil},
		{"a transaction in conflict", "TransactWriteItems", cancel("TransactionConflict"), 5, nil},
		{"a throttled transaction", "TransactWriteItems", cancel("ThrottlingError"), 5, nil},
		{"a transaction in progress", "TransactWriteItems", fail(400, "TransactionInProgressException", "busy"), 2, nil},
		{"credentials expired", "PutItem", fail(400, "ExpiredTokenException", "expired"), forEver, keystore.ErrUnavailable},
		{"not allowed", "PutItem", fail(400, "AccessDeniedException", "no"), forEver, keystore.ErrUnavailable},
		{"refused", "PutItem", fail(400, "ValidationException", "item too large"), forEver, lasts},
		{"a refused item", "TransactWriteItems", cancel("ValidationError"), forEver, lasts},
		{"a table that is gone", "TransactWriteItems", fail(400, "ResourceNotFoundException", "gone"), forEver, lasts},
	} {
		n++
		var bound []keystore.Binding
		if c.op == "TransactWriteItems" {
			bound = []keystore.Binding{binding(n)}
		}
		m.set(first(c.times, c.op, c.answer), nil)
		start := time.Now()
		got, err := db.Commit(t.Context(), []keystore.Record{record(n)}, bound)
		took := time.Since(start)
		m.set(nil, nil)
		if outage := errors.Is(err, keystore.ErrUnavailable); outage != errors.Is(c.want, keystore.ErrUnavailable) ||
			(err != nil) != (c.want != nil) || errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && !reflect.DeepEqual(got, []keystore.Record{record(n)}) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if took > 8*time.Second {
			t.Errorf("%s: it took %v", c.name, took)
		}
		stored, err := db.Keys(t.Context(), "acme", []contentkey.KID{record(n).KID})
		if err != nil || (len(stored) == 1) != (c.want == nil) {
			t.Errorf("%s: %d keys stored, %v", c.name, len(stored), err)
		}
	}
}

// TestConflictsForEver ends when the time of a call does.
func TestConflictsForEver(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	db.timeout = 500 * time.Millisecond
	m.set(first(forEver, "TransactWriteItems", cancel("TransactionConflict")), nil)
	start := time.Now()
	_, err := db.Commit(t.Context(), []keystore.Record{record(1)}, []keystore.Binding{binding(1)})
	if !errors.Is(err, keystore.ErrUnavailable) || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// TestAnswersLost stores a key and loses the answer: it is the same key
// afterwards, and ours.
func TestAnswersLost(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	for n, bound := range [][]keystore.Binding{nil, {binding(1)}} {
		lost := 0
		m.set(nil, func(r request) bool {
			if r.op == "PutItem" || r.op == "TransactWriteItems" {
				lost++
			}
			return lost > 0 && lost < 3
		})
		want := []keystore.Record{record(byte(n))}
		got, err := db.Commit(t.Context(), want, bound)
		if err != nil || lost < 3 || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, %d answers lost", got, err, lost)
		}
	}
}

// TestNoAnswer waits for a server that says nothing.
func TestNoAnswer(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	db.timeout = 300 * time.Millisecond
	quiet := make(chan struct{})
	defer close(quiet)
	m.set(func(http.ResponseWriter, request) bool { <-quiet; return true }, nil)
	start := time.Now()
	if _, err := db.DataKeys(t.Context(), "acme"); !errors.Is(err, keystore.ErrUnavailable) || time.Since(start) > 5*time.Second {
		t.Errorf("with our timeout: %v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := db.DataKeys(ctx, "acme"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("with the caller's deadline: %v", err)
	}
}

// TestUnprocessedKeys reads from a server that returns less than it was asked
// for.
func TestUnprocessedKeys(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	var all []keystore.Record
	var kids []contentkey.KID
	for n := range byte(210) {
		all = append(all, record(n))
		kids = append(kids, record(n).KID)
	}
	if _, err := db.Commit(t.Context(), all, nil); err != nil {
		t.Fatal(err)
	}
	none := func(w http.ResponseWriter, r request) bool {
		var in struct{ RequestItems json.RawMessage }
		if err := json.Unmarshal(r.body, &in); err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(map[string]any{"Responses": map[string]any{}, "UnprocessedKeys": in.RequestItems})
		return true
	}
	m.set(first(3, "BatchGetItem", none), nil)
	got, err := db.Keys(t.Context(), "acme", kids)
	seen := make(map[contentkey.KID]bool)
	for _, r := range got {
		seen[r.KID] = true
	}
	if err != nil || len(got) != len(all) || len(seen) != len(all) {
		t.Errorf("%d keys, %d different, of %d: %v", len(got), len(seen), len(all), err)
	}
	m.set(first(forEver, "BatchGetItem", none), nil)
	if _, err := db.Keys(t.Context(), "acme", kids[:1]); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("nothing processed for ever: %v", err)
	}
}

// TestSecretsInMessages has the server repeat what it was sent.
func TestSecretsInMessages(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	m.set(fail(400, "InvalidSignatureException", "The signature does not match.\n\nThe Canonical String should have been\n"+
		"'POST\n/\n\nx-amz-security-token:a-session-token"), nil)
	_, err := db.DataKeys(t.Context(), "acme")
	if err == nil || !strings.Contains(err.Error(), "The signature does not match.") || strings.Contains(fmt.Sprintf("%v %+v", err, err), "a-session-token") {
		t.Errorf("%v", err)
	}
}

// TestStore runs the suite and looks at each request: reads are consistent,
// transactions within DynamoDB's bounds, and nothing scans.
func TestStore(t *testing.T) {
	m := newMiddle(t)
	seen := 0
	m.set(func(_ http.ResponseWriter, r request) bool {
		var in struct {
			ConsistentRead bool
			RequestItems   map[string]struct {
				ConsistentRead bool
				Keys           []any
			}
			TransactItems []any
		}
		if err := json.Unmarshal(r.body, &in); err != nil {
			t.Errorf("%s: %v", r.op, err)
		}
		for _, batch := range in.RequestItems {
			in.ConsistentRead = batch.ConsistentRead
			if len(batch.Keys) > 100 {
				t.Errorf("%s of %d items", r.op, len(batch.Keys))
			}
		}
		switch r.op {
		case "GetItem", "BatchGetItem", "Query":
			if !in.ConsistentRead {
				t.Errorf("%s may miss what was written: %s", r.op, r.body)
			}
		case "Scan":
			t.Error("a scan")
		}
		if len(in.TransactItems) > 100 || len(r.body) > 4<<20 {
			t.Errorf("%s of %d items and %d bytes", r.op, len(in.TransactItems), len(r.body))
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		seen++
		return false
	}, nil)
	storetest.Run(t, func(t *testing.T) storetest.Store { return openTest(t, tableAt(m.URL)) })

	db := openTest(t, tableAt(m.URL))
	var keys []keystore.Record
	var bindings []keystore.Binding
	for n := range byte(40) {
		r, b := record(n), binding(n)
		r.ContentID = strings.Repeat("long ", 12_000)
		b.Period.Start = r.ContentID
		keys, bindings = append(keys, r), append(bindings, b)
	}
	if got, err := db.Commit(t.Context(), keys, bindings); err != nil || !reflect.DeepEqual(got, keys) {
		t.Errorf("long texts: %d keys, %v", len(got), err)
	}
	if seen == 0 {
		t.Error("no request came by")
	}
}

// TestRoundTrips counts the requests that the calls of a key request make.
func TestRoundTrips(t *testing.T) {
	m := newMiddle(t)
	db := openTest(t, tableAt(m.URL))
	count := 0
	m.set(func(http.ResponseWriter, request) bool { count++; return false }, nil)
	commit := func() error {
		_, err := db.Commit(t.Context(), []keystore.Record{record(1), record(2)}, []keystore.Binding{binding(1), binding(2), binding(3)})
		return err
	}
	for _, c := range []struct {
		name string
		call func() error
		want int
	}{
		{"new keys", commit, 1},
		{"keys of somebody faster", commit, 2},
		{"reading keys", func() error {
			_, err := db.Keys(t.Context(), "acme", []contentkey.KID{record(1).KID, record(2).KID})
			return err
		}, 1},
		{"one new key without a binding", func() error {
			_, err := db.Commit(t.Context(), []keystore.Record{record(9)}, nil)
			return err
		}, 1},
		{"the same, by somebody faster", func() error {
			_, err := db.Commit(t.Context(), []keystore.Record{record(9)}, nil)
			return err
		}, 1},
	} {
		count = 0
		if err := c.call(); err != nil || count != c.want {
			t.Errorf("%s: %d requests, want %d: %v", c.name, count, c.want, err)
		}
	}
}
