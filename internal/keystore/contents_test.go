package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"spekeasy/internal/keystore"
)

// TestBindingsOfContent walks what a content was asked for, over several
// pages, and nothing of other contents and tenants.
func TestBindingsOfContent(t *testing.T) {
	f := start(t, keystore.Options{})
	a := ask("movie", kid(1))
	a.Wants[0].Uses = nil
	const many = 1203 // more than two pages
	for i := range many {
		a.Wants[0].Uses = append(a.Wants[0].Uses, keystore.Use{Track: fmt.Sprint(i)})
	}
	f.obtain(a)
	f.obtain(ask("other", kid(2)))
	k, err := keystore.Open(t.Context(), f.db, f.kek, keystore.Options{
		Observe: func(context.Context, keystore.Call) {}, // stands before the store, as in servers
	}) // the fixture's store cannot page
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for page, err := range k.Bindings(t.Context(), "acme", "movie") {
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page {
			if b.ContentID != "movie" || b.KID != kid(1) {
				t.Fatalf("%+v", b)
			}
			seen[b.Track] = true
		}
	}
	if len(seen) != many {
		t.Errorf("%d bindings", len(seen))
	}
	for range k.Bindings(t.Context(), "umbrella", "movie") {
		t.Error("another tenant has bindings")
	}
	wants := func(tenant string, want error) {
		t.Helper()
		n := 0
		for _, err := range k.Bindings(t.Context(), tenant, "movie") {
			if n++; !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		if n != 1 {
			t.Errorf("%d pages", n)
		}
	}
	wants("", keystore.ErrTenant)
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants("acme", keystore.ErrClosed)
}
