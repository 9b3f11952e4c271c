package packager_test

import (
	"context"
	"errors"
	"iter"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

var errNothing = errors.New("nothing to give")

// nothing is a keystore that has nothing to give.
type nothing struct{}

func (nothing) Obtain(context.Context, *keystore.Ask) ([]keystore.Key, error) { return nil, errNothing }

func (nothing) Lookup(context.Context, string, []contentkey.KID) ([]keystore.Key, error) {
	return nil, keystore.ErrNotFound
}

func (nothing) Bindings(context.Context, string, string) iter.Seq2[[]keystore.Binding, error] {
	return func(func([]keystore.Binding, error) bool) {}
}
