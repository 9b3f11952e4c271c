package keystore

import (
	"context"
	"errors"
)

// Feed is a [Store] whose bindings can be followed: each is met once, in an
// order in which nothing is overtaken by what is stored later. A binding is
// in the feed by the very write that creates it; merging it again adds
// nothing. The rules for methods are those of [Store].
type Feed interface {
	// FollowBindings returns at most limit bindings of a tenant that come
	// after a position in the feed, as they are now. The position "" is the
	// beginning. The error is [ErrPosition] for a position that is not one of
	// this feed.
	FollowBindings(ctx context.Context, tenant, after string, limit int) ([]Followed, error)

	// FeedEnd returns the position after everything that FollowBindings can
	// return now.
	FeedEnd(ctx context.Context, tenant string) (string, error)

	// Note returns a value that was kept under a name, with its version; 0
	// and nil when there is none.
	Note(ctx context.Context, name string) (value []byte, version int64, err error)

	// SetNote keeps a value of at most 256 KiB, and reports whether it did:
	// not if the version kept is another than the one given, 0 being that of
	// a name without value. The next version is one more.
	SetNote(ctx context.Context, name string, value []byte, version int64) (done bool, err error)
}

// Followed is a binding in the feed.
type Followed struct {
	Binding
	Position string // behind it
}

// ErrPosition reports a position that is not one of the feed, or of the pages
// of bindings, for example because the database is an older copy of the one
// that it was in.
var ErrPosition = errors.New("no such position among the bindings")

// ErrNoFeed reports a store whose bindings cannot be followed.
var ErrNoFeed = errors.New("this kind of store has no feed of bindings")

// Feed returns the feed of bindings.
func (k *Keystore) Feed() (Feed, error) {
	f, ok := underlying(k.store).(Feed)
	if !ok {
		return nil, ErrNoFeed
	}
	return f, nil
}

// PageBindings returns a page of bindings of a tenant that match the filter;
// see [Pager].
func (c *Custody) PageBindings(ctx context.Context, tenant string, f BindingFilter, after string, limit int) ([]Binding, string, error) {
	return c.store.PageBindings(ctx, tenant, f, after, limit)
}
