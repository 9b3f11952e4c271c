package backup_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"testing"
	"time"

	"filippo.io/age"

	"spekeasy/contentkey"
	"spekeasy/internal/backup"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/dynamodb"
	"spekeasy/internal/store/postgres"
	"spekeasy/internal/tenant"
	"spekeasy/internal/testserver"
)

// TestBetweenStores moves keys from SQLite to PostgreSQL, on to DynamoDB and
// back, and works on them as an operator in each.
func TestBetweenStores(t *testing.T) {
	id := identity(t)
	db := filled(t, 300)
	first, _ := openKeystore(t, db)
	addDocuments(t, db, first)
	addClaims(t, first)
	want := values(t, db)
	var store backup.Source = db
	for _, next := range []struct {
		name string
		open func(*testing.T) keystore.CustodyStore
	}{
		{"postgres", openPostgres},
		{"dynamodb", openDynamoDB},
		{"sqlite", func(t *testing.T) keystore.CustodyStore { return openDB(t) }},
	} {
		file := write(t, store, id.Recipient())
		target := next.open(t)
		if _, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), target, nil); err != nil {
			t.Fatalf("%s: %v", next.name, err)
		}
		again := write(t, target, id.Recipient())
		report, err := backup.Verify(t.Context(), bytes.NewReader(again), []age.Identity{id}, ring(t, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		if report.Keys != 605 || report.Tenants != 4 || report.Documents != 4 {
			t.Errorf("%s: %+v", next.name, report)
		}
		if got := values(t, target); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d keys are not the %d that were there", next.name, len(got), len(want))
		}

		k, c := openKeystore(t, target)
		checkClaims(t, k)
		documents := target.(tenant.Store)
		if got := documentSecrets(t, documents, k); got != "seed of acme, password of acme" {
			t.Errorf("%s: the documents have the secrets %s", next.name, got)
		}
		r, err := c.Rewrap(t.Context(), keystore.RewrapOptions{
			NewDataKeys: true, Secrets: tenant.NewResealer(documents, tenant.NewVault(k), time.Now),
		})
		if got := documentSecrets(t, documents, k); got != "seed of acme, password of acme" || r.Secrets != 2 {
			t.Errorf("%s: %d secrets resealed to %s", next.name, r.Secrets, got)
		}
		if err != nil || r.Resealed != r.Looked || r.Left != 0 {
			t.Errorf("Rewrap: %+v, %v", r, err)
		}
		if _, err := c.Delete(t.Context(), "other", []contentkey.KID{kid(9)}); err != nil {
			t.Error(err)
		}
		if _, err := k.Obtain(t.Context(), ask("other", 9, 1)); err == nil {
			t.Error("a deleted key is handed out")
		}
		if n, err := c.Undelete(t.Context(), "other", []contentkey.KID{kid(9)}); n != 1 || err != nil {
			t.Errorf("Undelete: %d, %v", n, err)
		}
		if got := values(t, target); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: keys have changed", next.name)
		}
		checkClaims(t, k)
		store = target
	}
	// What was there is there still: deleted and purged keys, and bindings.
	before, after := rows(t, db), rows(t, store)
	for i := range before {
		page, ok := before[i].([]keystore.Binding)
		if ok && !reflect.DeepEqual(page, after[i]) {
			t.Error("bindings have changed")
		}
	}
}

// upstreamKey is a key of another key provider, of which a copy is kept.
var upstreamKey = keystore.Foreign{Value: contentkey.Value{5, 6}, IV: contentkey.IV{7, 8}, Signaling: []byte(`{"edef8ba9":"signaling"}`)}

// addClaims has another key provider answer three key IDs of the tenant
// "claims"; of one a copy is kept, and one is deleted.
func addClaims(t *testing.T, k *keystore.Keystore) {
	t.Helper()
	for n, copies := range []*keystore.Copies{nil, {Keys: []keystore.Foreign{upstreamKey}}, nil} {
		if _, err := k.Claim(t.Context(), ask("claims", n, 1), "axinom", copies); err != nil {
			t.Fatal(err)
		}
	}
	c, err := k.Custody()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Delete(t.Context(), "claims", []contentkey.KID{kid(2)}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}

// checkClaims holds that they are as addClaims has left them.
func checkClaims(t *testing.T, k *keystore.Keystore) {
	t.Helper()
	for n := range 2 {
		if err := k.Claimed(t.Context(), "claims", "axinom", []contentkey.KID{kid(n)}); err != nil {
			t.Error(err)
		}
		if _, err := k.Claim(t.Context(), ask("claims", n, 1), "keyos", nil); err == nil {
			t.Error("a claimed key ID is given to another key provider")
		}
	}
	if _, err := k.Claim(t.Context(), ask("claims", 2, 1), "axinom", nil); !errors.Is(err, keystore.ErrDeleted) {
		t.Errorf("a deleted key ID is claimed: %v", err)
	}
	if _, err := k.Copies(t.Context(), "claims", []contentkey.KID{kid(0)}); !errors.Is(err, keystore.ErrElsewhere) {
		t.Errorf("a key that was not kept: %v", err)
	}
	got, err := k.Copies(t.Context(), "claims", []contentkey.KID{kid(1)})
	if err != nil || got[0].Source != "axinom" || !reflect.DeepEqual(got[0].Foreign, upstreamKey) {
		t.Errorf("the copy is another one: %v", err)
	}
}

// values returns all content keys of a store.
func values(t *testing.T, s keystore.Store) map[string]contentkey.Value {
	t.Helper()
	_, c := openKeystore(t, s)
	all := make(map[string]contentkey.Value)
	for _, tenant := range []string{"acme", "other", "imports", "claims"} {
		for k, err := range c.Keys(t.Context(), tenant) {
			if err != nil {
				t.Fatal(err)
			}
			all[fmt.Sprint(tenant, " ", k.KID, " ", k.IV)] = k.Value
		}
	}
	return all
}

func openPostgres(t *testing.T) keystore.CustodyStore {
	s, err := testserver.NewPostgres(18)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	db, err := postgres.Open(t.Context(), s.URL("postgres"), postgres.Options{Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func openDynamoDB(t *testing.T) keystore.CustodyStore {
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "id-of-the-tests", "AWS_SECRET_ACCESS_KEY": "of-the-tests", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	} {
		t.Setenv(name, value)
	}
	s, err := testserver.NewDynamoDB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	dsn := "dynamodb://keys?region=local&endpoint=" + url.QueryEscape("http://"+s.Addr)
	db, err := dynamodb.Open(t.Context(), dsn, dynamodb.Options{Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}
