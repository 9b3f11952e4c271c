// Package keystoretest opens keystores for tests.
package keystoretest

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/store/sqlite"
)

// Open opens a keystore over a new database file and a new key encryption key,
// until the test ends.
func Open(t testing.TB, o keystore.Options) (*keystore.Keystore, *sqlite.DB) {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "keys.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := filekey.Create(filepath.Join(dir, "kek"), time.Now()); err != nil {
		t.Fatal(err)
	}
	kek, err := filekey.Open(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keystore.Open(t.Context(), store, kek, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(keys.Close(context.WithoutCancel(t.Context())), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return keys, store
}
