package keystore

import (
	"context"
	"errors"
	"time"

	"spekeasy/contentkey"
)

// ErrNoDataKey reports a record whose data key is not stored. It was retired
// when a newer one had long taken its place, or never existed.
var ErrNoDataKey = errors.New("the data key is not stored")

// Custodian changes what a [Store] keeps, as far as that may ever change: the
// seal of a record, the wrapping of a data key, and whether a key is deleted.
// The rules for methods are those of [Store]; what they changed is durable
// when they return. When a method fails, any part may have been changed, and
// repeating it completes the rest; what an earlier attempt did is missing from
// its count then. Each record and each data key changes as a
// whole and only from the state that the method asks for, so that processes
// that do not know of each other can work on one store.
type Custodian interface {
	// Reseal gives records of a tenant their new Wrapped and DataKey, and
	// returns how many took them. A record whose stored Wrapped and DataKey
	// are not the old ones of its change stays as it is.
	Reseal(ctx context.Context, tenant string, changes []Reseal) (done int, err error)

	// RewrapDataKey replaces KEK and Wrapped of a stored data key by those of
	// now, and reports whether it did: not if the stored Wrapped is another
	// than that of old.
	RewrapDataKey(ctx context.Context, old, now DataKey) (done bool, err error)

	// RemoveDataKey removes a data key, and reports whether it is gone: not
	// if it is the tenant's highest, or anything stored is sealed under it. A
	// backend that cannot exclude that a record under it is created at the
	// same time relies on its caller, who removes no data key that has been
	// the highest within the last hour.
	RemoveDataKey(ctx context.Context, tenant string, id uint32) (gone bool, err error)

	// Delete sets Deleted of those of the keys that live, and returns how
	// many it found living.
	Delete(ctx context.Context, tenant string, kids []contentkey.KID, at time.Time) (done int, err error)

	// Undelete clears Deleted of those of the keys that are deleted and whose
	// Wrapped is not empty, and returns their number.
	Undelete(ctx context.Context, tenant string, kids []contentkey.KID) (done int, err error)

	// Purge empties Wrapped of those of the keys that were deleted at the
	// given time or before, and returns the number of those whose Wrapped was
	// not empty yet.
	Purge(ctx context.Context, tenant string, kids []contentkey.KID, before time.Time) (done int, err error)
}

// Reseal is a change of the seal of one record.
type Reseal struct {
	KID        contentkey.KID
	OldWrapped []byte
	OldDataKey uint32
	Wrapped    []byte
	DataKey    uint32
}

// Scrubber is a [Store] whose files can hold copies of what it has replaced.
type Scrubber interface {
	// Scrub rewrites the files so that nothing is in them but what is stored
	// now. Meanwhile reads go on and writes may wait.
	Scrub(ctx context.Context) error
}

// Checker is a [Store] that can examine itself below what its rows say.
type Checker interface {
	// Check reads all of the database and returns what is wrong with it, in
	// sentences for an operator.
	Check(ctx context.Context) (faults []string, err error)
}
