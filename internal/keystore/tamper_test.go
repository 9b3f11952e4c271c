package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// edit returns a keystore over the fixture's database that reads records as
// the function changes them.
func edit(t *testing.T, f *fixture, change func(*keystore.Record)) *keystore.Keystore {
	t.Helper()
	s := &spy{Store: f.db, records: func(all []keystore.Record) {
		for i := range all {
			change(&all[i])
		}
	}}
	k, err := keystore.Open(t.Context(), s, f.kek, keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(context.Background()) })
	return k
}

// TestTamperedRecords changes a stored row in every way that whoever can
// write to the database has, short of deleting it.
func TestTamperedRecords(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1), kid(2)))
	theirs := ask("movie", kid(1))
	theirs.Tenant = "other"
	f.obtain(theirs)
	rotate(t, f, 2)
	row, neighbour := f.stored(kid(1)), f.stored(kid(2))
	others, err := f.db.Keys(t.Context(), "other", []contentkey.KID{kid(1)})
	if err != nil || len(others) != 1 {
		t.Fatal(err)
	}
	secret, err := f.SealSecret(t.Context(), "acme", "content-key", kid(1).String(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}

	changes := map[string]func(*keystore.Record){
		"the row of another key ID":  func(r *keystore.Record) { r.Wrapped = neighbour.Wrapped },
		"the row of another tenant":  func(r *keystore.Record) { r.Wrapped = others[0].Wrapped },
		"a sealed secret":            func(r *keystore.Record) { r.Wrapped = secret[4:] },
		"another data key's number":  func(r *keystore.Record) { r.DataKey = 2 },
		"a data key that is missing": func(r *keystore.Record) { r.DataKey = 77 },
		"data key zero":              func(r *keystore.Record) { r.DataKey = 0 },
		"nothing":                    func(r *keystore.Record) { r.Wrapped = nil },
		"one byte":                   func(r *keystore.Record) { r.Wrapped = r.Wrapped[:1] },
		"cut short":                  func(r *keystore.Record) { r.Wrapped = r.Wrapped[:len(r.Wrapped)-1] },
		"lengthened":                 func(r *keystore.Record) { r.Wrapped = append(bytes.Clone(r.Wrapped), 0) },
	}
	for name, change := range changes {
		k := edit(t, f, func(r *keystore.Record) {
			if r.KID == kid(1) {
				change(r)
			}
		})
		keys, err := k.Obtain(t.Context(), ask("movie", kid(1)))
		if keys != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		if keys, err := k.Lookup(t.Context(), "acme", []contentkey.KID{kid(1)}); keys != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: Lookup: %d keys, %v", name, len(keys), err)
		}
		if _, err := k.Obtain(t.Context(), ask("movie", kid(2))); err != nil {
			t.Errorf("%s: the neighbour: %v", name, err)
		}
	}

	var bit int
	k := edit(t, f, func(r *keystore.Record) {
		r.Wrapped = bytes.Clone(r.Wrapped)
		r.Wrapped[bit/8] ^= 1 << (bit % 8)
	})
	for bit = range 8 * len(row.Wrapped) {
		if keys, err := k.Lookup(t.Context(), "acme", []contentkey.KID{kid(1)}); keys != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Fatalf("bit %d flipped: %d keys, %v", bit, len(keys), err)
		}
	}
	if after := f.stored(kid(1)); !bytes.Equal(after.Wrapped, row.Wrapped) {
		t.Error("a damaged row was written anew")
	}
}

// TestTamperedDataKeys moves wrapped data keys between tenants and numbers.
func TestTamperedDataKeys(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	rows, err := f.db.DataKeys(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]keystore.DataKey{
		"another tenant": {Tenant: "other", ID: 1, KEK: rows[0].KEK, Wrapped: rows[0].Wrapped, Created: noon},
		"another number": {Tenant: "third", ID: 2, KEK: rows[0].KEK, Wrapped: rows[0].Wrapped, Created: noon},
		"flipped":        {Tenant: "fourth", ID: 1, KEK: rows[0].KEK, Wrapped: append([]byte{^rows[0].Wrapped[0]}, rows[0].Wrapped[1:]...), Created: noon},
		"empty":          {Tenant: "fifth", ID: 1, KEK: rows[0].KEK, Wrapped: []byte{}, Created: noon},
	} {
		if _, err := f.db.CreateDataKey(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		a := ask("movie", kid(1))
		a.Tenant = row.Tenant
		if keys, err := f.Obtain(t.Context(), a); keys != nil || !errors.Is(err, keystore.ErrWrongKEK) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

func TestSecrets(t *testing.T) {
	f := start(t, keystore.Options{})
	sealed, err := f.SealSecret(t.Context(), "acme", "upstream", "axinom", []byte("hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("hunter2")) {
		t.Error("the secret is readable")
	}
	f.restart()
	if got, err := f.OpenSecret(t.Context(), "acme", "upstream", "axinom", sealed); err != nil || string(got) != "hunter2" {
		t.Errorf("OpenSecret: %v", err)
	}
	rotate(t, f, 2)
	f.restart()
	if got, err := f.OpenSecret(t.Context(), "acme", "upstream", "axinom", sealed); err != nil || string(got) != "hunter2" {
		t.Errorf("OpenSecret under an older data key: %v", err)
	}
	if empty, err := f.SealSecret(t.Context(), "acme", "p", "n", nil); err != nil {
		t.Error(err)
	} else if got, err := f.OpenSecret(t.Context(), "acme", "p", "n", empty); err != nil || len(got) != 0 {
		t.Errorf("an empty secret: %v", err)
	}
	if _, err := f.SealSecret(t.Context(), "other", "upstream", "axinom", nil); err != nil { // so that it has a data key
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ tenant, purpose, name string }{
		"another tenant":  {"other", "upstream", "axinom"},
		"another purpose": {"acme", "webhook", "axinom"},
		"another name":    {"acme", "upstream", "insys"},
		"a moved border":  {"acme", "upstreama", "xinom"},
	} {
		if got, err := f.OpenSecret(t.Context(), c.tenant, c.purpose, c.name, sealed); got != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if got, err := f.OpenSecret(t.Context(), "acme", "upstream", "axinom", bad); got != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if got, err := f.OpenSecret(t.Context(), "acme", "upstream", "axinom", sealed[:i]); got != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// TestOddStore holds that a store that breaks its contract is found out.
func TestOddStore(t *testing.T) {
	f := start(t, keystore.Options{})
	asked := 0
	for name, change := range map[string]func([]keystore.Record) []keystore.Record{
		"no records":     func([]keystore.Record) []keystore.Record { return nil },
		"too many":       func(r []keystore.Record) []keystore.Record { return append(r, r...) },
		"another key ID": func(r []keystore.Record) []keystore.Record { r[0].KID = kid(99); return r },
	} {
		k, err := keystore.Open(t.Context(), oddStore{f.db, change}, f.kek, keystore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		asked++ // a key ID that is new
		if keys, err := k.Obtain(t.Context(), ask("movie", kid(asked))); keys != nil || !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		k.Close(t.Context())
	}
}

type oddStore struct {
	keystore.Store
	change func([]keystore.Record) []keystore.Record
}

func (s oddStore) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	stored, err := s.Store.Commit(ctx, keys, bindings)
	return s.change(stored), err
}
