package keystore

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"spekeasy/contentkey"
)

// Errors that every [Store] reports alike. Backends wrap them; callers use
// errors.Is.
var (
	// ErrUnavailable reports that the database or the key manager could not
	// be asked. Nothing is known about whether a write happened; repeating
	// the call is safe.
	ErrUnavailable = errors.New("temporarily unavailable")

	// ErrDeleted reports a key ID whose key was deleted. It stays refused for
	// ever: a new key under the old ID could never decrypt what the old one
	// encrypted.
	ErrDeleted = errors.New("content key was deleted")

	// ErrElsewhere reports a key ID whose key is another key provider's, and
	// not kept here.
	ErrElsewhere = errors.New("content key is kept by another key provider")

	// ErrCorrupt reports that stored data is damaged, incomplete or moved.
	// Repeating the call does not help; no key is made up in its place.
	ErrCorrupt = errors.New("stored data is damaged")
)

// Record is a content key at rest. A record never changes once stored, except
// that Wrapped and DataKey change together when the data key is rotated and
// that a deletion sets Deleted and, after the grace period, empties Wrapped.
type Record struct {
	Tenant    string
	KID       contentkey.KID
	Wrapped   []byte            // key and IV, sealed under the data key; nothing, sealed, for a key that is kept elsewhere
	DataKey   uint32            // the tenant's data key that sealed it; it must be stored already
	Source    string            // what made the key: "random", "hkdf", "playready-seed", "import", "upstream:" and a name
	ContentID string            // the content that first asked for it; "" when imported
	Scheme    contentkey.Scheme // the scheme it was first asked under; 0 when imported
	Created   time.Time         // UTC, microseconds
	Deleted   time.Time         // zero while the key lives
}

// DataKey is a tenant's key that wraps content keys, itself wrapped by a KEK.
type DataKey struct {
	Tenant  string
	ID      uint32 // counts from 1; the highest one is in use
	KEK     string // the key manager's name for the KEK that wrapped it
	Wrapped []byte
	Created time.Time
}

// Binding records that an encryptor asked for a content key under a content
// ID, for a track and period. It is identified by all members but Systems,
// Profile, IV and the times.
type Binding struct {
	Tenant    string
	ContentID string
	Requested contentkey.KID // as in the request
	KID       contentkey.KID // as answered; differs under a KID override
	Track     string         // intendedTrackType, "" in SPEKE v1
	Scheme    contentkey.Scheme
	Period    contentkey.Period
	Profile   string   // SPEKE version of the latest request, "1.0", "2.0" or "2.1", or what else was spoken
	Systems   []string // system IDs asked for so far, lower case, sorted
	IV        string   // explicitIV of the latest request that had one, base64
	FirstSeen time.Time
	LastSeen  time.Time
}

// Identity is a digest of the members that identify the binding. Content IDs
// and period texts have no length limit that all databases can index; a
// backend may use the digest as its unique key instead.
func (b *Binding) Identity() [sha256.Size]byte {
	p := b.Period
	return sha256.Sum256(appendFields(nil, b.Tenant, b.ContentID, string(b.Requested[:]), string(b.KID[:]),
		b.Track, b.Scheme.String(), p.ID, p.Index, p.Start, p.End))
}

// Store keeps records, data keys and bindings. It is asked only for what
// every database has: read, create if absent, page through. All methods may
// be called concurrently, honour the context, report an unreachable database
// as [ErrUnavailable] and a damaged one as [ErrCorrupt]; a call that was
// cancelled reports the context's error. A read that starts after a write
// returned sees the write, from any process. Callers do not change what they
// passed to a method, even after it returned an error.
type Store interface {
	// Keys returns the records of those of the key IDs that are stored, in
	// any order, deleted ones included.
	Keys(ctx context.Context, tenant string, kids []contentkey.KID) ([]Record, error)

	// Commit creates those of the keys that do not exist yet and merges the
	// bindings, and returns for each of the keys, in order, the record that
	// is stored now: the given one, or that of whoever was faster. All of it
	// is durable before Commit returns. When Commit fails, any part may have
	// been stored; repeating it completes the rest. A backend that can tell
	// refuses a key whose data key is not stored with [ErrNoDataKey].
	//
	// Merging a binding creates it, or else adds its Systems to the stored
	// ones, keeps FirstSeen, and unless the stored LastSeen is later takes its
	// Profile, LastSeen and, if it has one, IV.
	Commit(ctx context.Context, keys []Record, bindings []Binding) ([]Record, error)

	// DataKeys returns all data keys of a tenant in ascending order of ID.
	DataKeys(ctx context.Context, tenant string) ([]DataKey, error)

	// CreateDataKey stores a data key unless the tenant has one with that ID
	// already, and returns the one that is stored now.
	CreateDataKey(ctx context.Context, k DataKey) (DataKey, error)

	// Close ends the store; calls under way may fail.
	Close() error
}

// NewCommitter is the ability of a store to create keys without anybody
// reading before whether they exist. To try is cheaper than to read where one
// process writes.
type NewCommitter interface {
	// CommitNew is Commit for keys that do not exist. If one does, it stores
	// nothing and reports false.
	CommitNew(ctx context.Context, keys []Record, bindings []Binding) (bool, error)
}

// Pager walks everything that a [Store] holds, for export, backup, rewrap and
// lists. Each method returns at most limit entries, limit being 1 or more,
// after the given position in a fixed order; entries that were there before a
// walk began are all met by it once.
type Pager interface {
	// Tenants returns names that own data keys, in ascending order of their
	// bytes; fewer than limit means that the end was reached. One of them is
	// [CustodyTenant], whose data key must be rewrapped and backed up like
	// any other.
	Tenants(ctx context.Context, after string, limit int) ([]string, error)

	// PageKeys returns records of a tenant in ascending order of KID, from
	// the start when after is ""; next is the position after the last one, ""
	// at the end.
	PageKeys(ctx context.Context, tenant, after string, limit int) (page []Record, next string, err error)

	// PageBindings returns bindings of a tenant that match the filter; after
	// and next are as in PageKeys.
	PageBindings(ctx context.Context, tenant string, f BindingFilter, after string, limit int) (page []Binding, next string, err error)
}

// BindingFilter selects bindings; members with a zero value select all.
type BindingFilter struct {
	ContentID string
	KID       contentkey.KID // matches the requested or the answered key ID
}
