package tenant

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"
)

// Errors that every [Store] reports alike, beside those of a keystore's store
// for an outage and for damage. Backends wrap them.
var (
	// ErrExists reports a document that is there already, perhaps deleted.
	ErrExists = errors.New("exists already")

	// ErrChanged reports a document whose version is another one than the
	// caller has seen.
	ErrChanged = errors.New("was changed meanwhile")

	// ErrAbsent reports a document that was never made.
	ErrAbsent = errors.New("does not exist")
)

// Kind says what a document is about.
type Kind string

// The kinds of documents.
const (
	KindTenant     Kind = "tenant"     // settings; its ID is the tenant's
	KindCredential Kind = "credential" // a way in; its ID is TENANT/NAME
	KindAdmin      Kind = "admin"      // a credential of the admin API; its ID is the name
	KindAnswer     Kind = "answer"     // what the admin API answered under an idempotency key
)

// Document is something that the admin API manages, at rest. Its ID has only
// printable ASCII.
type Document struct {
	Kind    Kind
	ID      string
	Version uint64    // 1 when it is created, then one more with each change
	Body    []byte    // without secrets
	Changed time.Time // UTC, microseconds
	Deleted bool      // a tombstone: the ID stays taken

	// Sealed are its secrets under the data key of their owner; empty without
	// any, and then Owner and DataKey are zero.
	Sealed  []byte
	Owner   string
	DataKey uint32
}

// Equal reports whether two documents are the same in every member.
func (d *Document) Equal(o *Document) bool {
	return d.Kind == o.Kind && d.ID == o.ID && d.Version == o.Version && d.Deleted == o.Deleted && d.Owner == o.Owner &&
		d.DataKey == o.DataKey && d.Changed.Equal(o.Changed) && bytes.Equal(d.Body, o.Body) && bytes.Equal(d.Sealed, o.Sealed)
}

// Store keeps documents. Like a keystore's store it is asked only for what
// every database has: methods may be called concurrently and repeated, honour
// the context, and what they wrote is durable and seen by every process when
// they return. A call that finds its own effect, since an earlier attempt was
// told of an outage and succeeded in truth, succeeds.
type Store interface {
	// CreateDocument stores a document, of version 1 unless it is restored from
	// a backup, or reports [ErrExists].
	CreateDocument(ctx context.Context, d Document) error

	// Document returns a document, also a deleted one, or [ErrAbsent].
	Document(ctx context.Context, kind Kind, id string) (Document, error)

	// ReplaceDocument stores a document in the place of the version before
	// its own, or reports [ErrChanged]; a tombstone is stored like this too.
	// A document that was never made is [ErrAbsent].
	ReplaceDocument(ctx context.Context, d Document) error

	// PageDocuments returns the documents of a kind whose ID begins with the
	// prefix and is behind after, in ascending order of the ID's bytes,
	// tombstones included. Fewer than limit, which is 1 or more, means that
	// the end was reached.
	PageDocuments(ctx context.Context, kind Kind, prefix, after string, limit int) ([]Document, error)

	// Revision returns a number that grows with each change of a document of
	// a kind other than [KindAnswer].
	Revision(ctx context.Context) (uint64, error)
}

// Documents walks the documents that [Store].PageDocuments returns in pages of
// a size, as the caller takes them. It does not go on after an error.
func Documents(ctx context.Context, s Store, kind Kind, prefix, after string, size int) iter.Seq2[*Document, error] {
	return func(yield func(*Document, error) bool) {
		for {
			page, err := s.PageDocuments(ctx, kind, prefix, after, size)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if len(page) < size {
				return
			}
			after = page[size-1].ID
		}
	}
}

// Bounds returns the range of IDs that begin with a prefix and are behind
// after: more than low and less than high.
func Bounds(prefix, after string) (low, high string) {
	low, high = after, "\x7f"
	if prefix != "" {
		low = max(after, prefix)
		high = prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
	}
	return low, high
}
