package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/testserver"
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

func found(t testing.TB, db *DB) {
	t.Helper()
	_, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "acme", ID: 1, KEK: "kek", Wrapped: []byte("w"), Created: noon})
	if err != nil {
		t.Fatal(err)
	}
}

// failing makes the next n inserts of content keys run a statement of
// PL/pgSQL. The count survives the rollback of what failed.
func failing(t *testing.T, dsn, statement string, n int) {
	t.Helper()
	execSQL(t, dsn, "DROP SEQUENCE IF EXISTS inserts", "CREATE SEQUENCE inserts",
		`CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('inserts') <= `+fmt.Sprint(n)+` THEN `+statement+`; END IF; RETURN NEW; END $$`,
		"CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON content_keys FOR EACH ROW EXECUTE FUNCTION fail()")
}

// TestFaultsOfTheServer makes the database report errors while a key is
// stored.
func TestFaultsOfTheServer(t *testing.T) {
	const forEver = 1_000_000
	raise := func(code string) string { return "RAISE EXCEPTION 'no' USING ERRCODE = '" + code + "'" }
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		dsn := newDatabase(t, s)
		db := openTest(t, dsn)
		found(t, db)
		n := byte(0)
		for _, c := range []struct {
			name, statement string
			times           int
			want            error
		}{
			{"serialization failures pass", raise("40001"), 6, nil},
			{"deadlocks pass", raise("40P01"), 6, nil},
			{"serialization failures for ever", raise("40001"), forEver, keystore.ErrUnavailable},
			{"connections lost", "PERFORM pg_terminate_backend(pg_backend_pid())", 2, nil},
			{"connections lost for ever", "PERFORM pg_terminate_backend(pg_backend_pid())", forEver, keystore.ErrUnavailable},
			{"a server that became a standby", raise("25006"), 2, nil},
			{"a server that stays a standby", raise("25006"), forEver, keystore.ErrUnavailable},
			{"the outcome is unknown", raise("40003"), 2, nil},
			{"shutdown", raise("57P01"), forEver, keystore.ErrUnavailable},
			{"starting up", raise("57P03"), forEver, keystore.ErrUnavailable},
			{"too many connections", raise("53300"), forEver, keystore.ErrUnavailable},
			{"disk full", raise("53100"), forEver, keystore.ErrUnavailable},
			{"disk failing", raise("58030"), forEver, keystore.ErrUnavailable},
			{"statement timeout", raise("57014"), forEver, keystore.ErrUnavailable},
			{"damaged page", raise("XX001"), forEver, keystore.ErrCorrupt},
			{"damaged index", raise("XX002"), forEver, keystore.ErrCorrupt},
		} {
			n++
			failing(t, dsn, c.statement, c.times)
			got, err := db.Commit(t.Context(), []keystore.Record{record(n)}, []keystore.Binding{binding(n)})
			if !errors.Is(err, c.want) {
				t.Errorf("%s: %v", c.name, err)
			}
			if err == nil && (len(got) != 1 || got[0].KID != record(n).KID) {
				t.Errorf("%s: %+v", c.name, got)
			}
			stored, err := db.Keys(t.Context(), "acme", []contentkey.KID{record(n).KID})
			if err != nil || (len(stored) == 1) != (c.want == nil) {
				t.Errorf("%s: %d keys stored, %v", c.name, len(stored), err)
			}
			bound, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{KID: record(n).KID}, "", 5)
			if err != nil || (len(bound) == 1) != (c.want == nil) {
				t.Errorf("%s: %d bindings stored, %v", c.name, len(bound), err)
			}
		}
	})
}

// TestRefusals are errors that repeating does not help and that are no
// outage.
func TestRefusals(t *testing.T) {
	db := openTest(t, newDatabase(t, servers[15]))
	found(t, db)
	nul, latin, orphan := record(1), record(2), record(3)
	nul.ContentID, latin.Source, orphan.DataKey = "a\x00b", "\xe9", 7
	wrong := binding(4)
	wrong.Systems = append(wrong.Systems, "a\x00")
	for name, commit := range map[string]func() error{
		"a NUL":                func() error { _, err := db.Commit(t.Context(), []keystore.Record{record(9), nul}, nil); return err },
		"not UTF-8":            func() error { _, err := db.Commit(t.Context(), []keystore.Record{record(9), latin}, nil); return err },
		"a NUL in a system ID": func() error { _, err := db.Commit(t.Context(), nil, []keystore.Binding{wrong}); return err },
		"no such data key":     func() error { _, err := db.Commit(t.Context(), []keystore.Record{record(9), orphan}, nil); return err },
		"a NUL in a tenant":    func() error { _, err := db.DataKeys(t.Context(), "a\x00"); return err },
		"a NUL in a filter": func() error {
			_, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{ContentID: "\x00"}, "", 1)
			return err
		},
		"not a position of keys": func() error { _, _, err := db.PageKeys(t.Context(), "acme", "12", 1); return err },
		"not a position": func() error {
			_, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{}, "12", 1)
			return err
		},
	} {
		err := commit()
		if err == nil || errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	all, _, err := db.PageKeys(t.Context(), "acme", "", 10)
	if err != nil || len(all) != 0 {
		t.Errorf("%d keys were stored beside one that was refused, %v", len(all), err)
	}
}

// TestIdleConnectionsLost ends every connection of the pool at once, as a
// proxy or a failover does.
func TestIdleConnectionsLost(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		dsn := newDatabase(t, s)
		db := openTest(t, dsn)
		found(t, db)
		for n := range byte(5) {
			execSQL(t, s.URL("postgres"),
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test%' AND pid <> pg_backend_pid()")
			if _, err := db.Commit(t.Context(), []keystore.Record{record(n)}, nil); err != nil {
				t.Errorf("the first call: %v", err)
			}
		}
	})
}

// TestLocked waits for rows that another transaction holds.
func TestLocked(t *testing.T) {
	dsn := newDatabase(t, servers[18])
	patient, hasty, slow := openTest(t, dsn), openTest(t, dsn), openTest(t, dsn+"&statement_timeout=1000")
	hasty.timeout = 200 * time.Millisecond
	found(t, patient)
	other, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	if _, err := other.Exec(t.Context(), "BEGIN; LOCK content_keys IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = hasty.Commit(t.Context(), []keystore.Record{record(1)}, nil)
	if !errors.Is(err, keystore.ErrUnavailable) || time.Since(start) > 5*time.Second {
		t.Errorf("with our timeout: %v after %v", err, time.Since(start))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = patient.Commit(ctx, []keystore.Record{record(1)}, nil)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("with the caller's deadline: %v", err)
	}
	if _, err := slow.Commit(t.Context(), []keystore.Record{record(1)}, nil); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("with a statement timeout: %v", err)
	}
	if got, err := patient.Keys(t.Context(), "acme", []contentkey.KID{record(1).KID}); err != nil || len(got) != 0 {
		t.Errorf("a read meanwhile: %d keys, %v", len(got), err)
	}
	if _, err := other.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if _, err := patient.Commit(t.Context(), []keystore.Record{record(1)}, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestPoolExhausted lets calls wait for a connection in vain.
func TestPoolExhausted(t *testing.T) {
	db := openTest(t, newDatabase(t, servers[18])+"&pool_max_conns=1")
	db.timeout = 100 * time.Millisecond
	conn, err := db.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.DataKeys(t.Context(), "acme"); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("without a free connection: %v", err)
	}
	conn.Release()
	db.timeout = defaultTimeout
	if _, err := db.DataKeys(t.Context(), "acme"); err != nil {
		t.Errorf("with a free connection: %v", err)
	}
}

// TestLostDataKey takes a tenant's data key away from its content keys.
func TestLostDataKey(t *testing.T) {
	dsn := newDatabase(t, servers[15])
	db := openTest(t, dsn)
	found(t, db)
	if _, err := db.Commit(t.Context(), []keystore.Record{record(1)}, nil); err != nil {
		t.Fatal(err)
	}
	execSQL(t, dsn, "ALTER TABLE content_keys DROP CONSTRAINT content_keys_tenant_data_key_fkey", "DELETE FROM data_keys")
	_, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "acme", ID: 1, KEK: "kek", Wrapped: []byte("new"), Created: noon})
	if !errors.Is(err, keystore.ErrCorrupt) || !strings.Contains(err.Error(), "acme") {
		t.Errorf("a new first data key: %v", err)
	}
}

// TestDamagedRows reads rows that nothing of ours wrote.
func TestDamagedRows(t *testing.T) {
	dsn := newDatabase(t, servers[15])
	db := openTest(t, dsn)
	found(t, db)
	if _, err := db.Commit(t.Context(), []keystore.Record{record(1)}, []keystore.Binding{binding(1)}); err != nil {
		t.Fatal(err)
	}
	execSQL(t, dsn, "UPDATE content_keys SET scheme = 'cbc2'", "UPDATE bindings SET scheme = 'cbc2'")
	if _, err := db.Keys(t.Context(), "acme", []contentkey.KID{record(1).KID}); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Keys: %v", err)
	}
	if _, err := db.Commit(t.Context(), []keystore.Record{record(1)}, nil); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{}, "", 9); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("PageBindings: %v", err)
	}
}

// TestTenantsInByteOrder names tenants that the server's language would sort
// otherwise.
func TestTenantsInByteOrder(t *testing.T) {
	eachServer(t, func(t *testing.T, s *testserver.Postgres) {
		db := openTest(t, newDatabase(t, s))
		want := []string{"Z", "_custody", "a", "a-b", "a.b", "a0", "a_b", "aa", "b", "ä"}
		for _, name := range want {
			if _, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: name, ID: 1, Created: noon}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := db.Tenants(t.Context(), "", 100)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v, %v", got, want, err)
		}
	})
}
