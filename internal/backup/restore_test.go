package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"

	"filippo.io/age"

	"spekeasy/internal/backup"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/sqlite"
)

// cut is a store that fails from the n-th write on.
type cut struct {
	*sqlite.DB
	left int
}

var errCut = errors.New("cut off")

func (c *cut) spend() error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return nil
}

func (c *cut) CreateDataKey(ctx context.Context, k keystore.DataKey) (keystore.DataKey, error) {
	if err := c.spend(); err != nil {
		return keystore.DataKey{}, err
	}
	return c.DB.CreateDataKey(ctx, k)
}

func (c *cut) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	if err := c.spend(); err != nil { // half of it happens
		_, halfErr := c.DB.Commit(ctx, keys[:len(keys)/2], bindings[:len(bindings)/2])
		return nil, errors.Join(err, halfErr)
	}
	return c.DB.Commit(ctx, keys, bindings)
}

// TestInterruptedRestore ends a restore at each of its writes. No server
// starts on what is there, and repeating the restore completes it.
func TestInterruptedRestore(t *testing.T) {
	db, id := filled(t, 600), identity(t)
	file := write(t, db, id.Recipient())
	want := rows(t, db)
	restore := func(s backup.Target) error {
		_, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), s, nil)
		return err
	}
	ended := 0
	for n := 0; ; n++ {
		fresh := openDB(t)
		err := restore(&cut{fresh, n})
		if err == nil {
			break
		}
		ended++
		if !errors.Is(err, errCut) {
			t.Fatalf("cut off at write %d: %v", n, err)
		}
		if n > 0 {
			if _, err := keystore.Open(t.Context(), fresh, ring(t, 1), keystore.Options{}); !errors.Is(err, keystore.ErrCorrupt) {
				t.Fatalf("cut off at write %d: a server starts, %v", n, err)
			}
		}
		if err := restore(fresh); err != nil {
			t.Fatalf("repeated after write %d: %v", n, err)
		}
		if !reflect.DeepEqual(rows(t, fresh), want) {
			t.Fatalf("repeated after write %d: the rows differ", n)
		}
	}
	if ended < 10 {
		t.Errorf("only %d interruptions", ended)
	}
}

func TestRestoreIntoUsedStore(t *testing.T) {
	db, id := filled(t, 20), identity(t)
	file := write(t, db, id.Recipient())
	before := rows(t, db)
	restore := func(s backup.Target) error {
		_, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), s, nil)
		return err
	}
	if err := restore(db); !errors.Is(err, backup.ErrFounded) {
		t.Errorf("into the store it comes from: %v", err)
	}
	if !reflect.DeepEqual(rows(t, db), before) {
		t.Error("a refused restore changed the store")
	}
	for name, spoil := range map[string]func(*sqlite.DB) error{
		"another data key": func(db *sqlite.DB) error {
			_, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "acme", ID: 1, KEK: "kek-1", Wrapped: []byte("x"), Created: noon})
			return err
		},
		"a data key of another tenant": func(db *sqlite.DB) error {
			_, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "third", ID: 1, KEK: "kek-1", Wrapped: []byte("x"), Created: noon})
			return err
		},
		"another record": func(db *sqlite.DB) error {
			if err := restore(&cut{db, 2}); !errors.Is(err, errCut) {
				return fmt.Errorf("not cut off: %w", err)
			}
			_, err := db.Commit(t.Context(), []keystore.Record{{Tenant: "acme", KID: kid(5), Wrapped: []byte("x"), DataKey: 2, Source: "random", Created: noon}}, nil)
			return err
		},
		"a record more": func(db *sqlite.DB) error {
			if err := restore(&cut{db, 2}); !errors.Is(err, errCut) {
				return fmt.Errorf("not cut off: %w", err)
			}
			_, err := db.Commit(t.Context(), []keystore.Record{{Tenant: "acme", KID: kid(999), Wrapped: []byte("x"), DataKey: 2, Source: "random", Created: noon}}, nil)
			return err
		},
		"a binding more": func(db *sqlite.DB) error {
			_, err := db.Commit(t.Context(), nil, []keystore.Binding{{Tenant: "acme", ContentID: "x", FirstSeen: noon, LastSeen: noon}})
			return err
		},
	} {
		fresh := openDB(t)
		if err := spoil(fresh); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := restore(fresh); !errors.Is(err, backup.ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
		if _, founded, _ := keystore.Founded(t.Context(), fresh); founded {
			t.Errorf("%s: the store is founded", name)
		}
	}
}

// changing is a file that is another one when it is read again.
type changing struct {
	io.ReadSeeker
	second io.ReadSeeker
}

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	c.ReadSeeker = c.second
	return c.ReadSeeker.Seek(offset, whence)
}

func TestFileChangesMeanwhile(t *testing.T) {
	id := identity(t)
	a, b := write(t, filled(t, 5), id.Recipient()), write(t, filled(t, 5), id.Recipient())
	fresh := openDB(t)
	if _, err := backup.Restore(t.Context(), &changing{bytes.NewReader(a), bytes.NewReader(b)}, []age.Identity{id}, ring(t, 1), fresh, nil); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("another file the second time: %v", err)
	}
	if _, founded, _ := keystore.Founded(t.Context(), fresh); founded {
		t.Error("the store is founded")
	}
}

// TestFoundedMeanwhile lets a server start on the store while it is restored
// into.
func TestFoundedMeanwhile(t *testing.T) {
	id := identity(t)
	file := write(t, filled(t, 5), id.Recipient())
	fresh := openDB(t)
	s := &founding{fresh}
	if _, err := backup.Restore(t.Context(), bytes.NewReader(file), []age.Identity{id}, ring(t, 1), s, nil); !errors.Is(err, backup.ErrFounded) {
		t.Errorf("founded meanwhile: %v", err)
	}
}

type founding struct{ *sqlite.DB }

func (f *founding) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	_, err := f.CreateDataKey(ctx, keystore.DataKey{Tenant: keystore.CustodyTenant, ID: 1, KEK: "kek-2", Wrapped: []byte("x"), Created: noon})
	stored, commitErr := f.DB.Commit(ctx, keys, bindings)
	return stored, errors.Join(err, commitErr)
}
