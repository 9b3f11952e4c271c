package keystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"time"

	"spekeasy/contentkey"
)

// ImportedKey is a content key that was made elsewhere.
type ImportedKey struct {
	KID   contentkey.KID
	Value contentkey.Value
	IV    contentkey.IV
	HasIV bool // else one is made

	// What the key is for becomes a binding. Without any of it there is none.
	ContentID string
	Track     string // intendedTrackType
	Scheme    contentkey.Scheme
	Period    contentkey.Period
}

// Format hides the key.
func (k ImportedKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(imported content key %s)", k.KID) }

// ImportOutcome is what became of one imported key.
type ImportOutcome uint8

// The outcomes of an import. What is stored is never overwritten.
const (
	ImportCreated  ImportOutcome = iota // the key is stored now
	ImportPresent                       // it was stored already
	ImportConflict                      // its key ID has another key
	ImportOtherIV                       // its key ID has this key with another IV
	ImportDeleted                       // its key ID was deleted, and stays refused
	numOutcomes
)

var outcomeTexts = [numOutcomes]string{
	"imported", "present", "the key ID has another key", "the key has another IV", "the key was deleted",
}

func (o ImportOutcome) String() string {
	if o < numOutcomes {
		return outcomeTexts[o]
	}
	return fmt.Sprintf("ImportOutcome(%d)", uint8(o))
}

// Refused reports whether the key that is stored, if any, is not the imported
// one.
func (o ImportOutcome) Refused() bool { return o > ImportPresent }

// Import brings keys of one tenant in, a batch at a time. It is not safe for
// concurrent use.
type Import struct {
	*Custody
	tenant string
	dryRun bool
	seed   maphash.Seed
	seen   map[contentkey.KID]uint64 // in a dry run: digests of the keys that would be stored
}

// NewImport begins an import. A dry run stores nothing and tells what an
// import would do.
func (c *Custody) NewImport(tenant string, dryRun bool) (*Import, error) {
	if err := CheckTenant(tenant); err != nil {
		return nil, err
	}
	im := &Import{Custody: c, tenant: tenant, dryRun: dryRun, seed: maphash.MakeSeed()}
	if dryRun {
		im.seen = make(map[contentkey.KID]uint64)
	}
	return im, nil
}

// Add imports a batch of some hundred keys, which are durable when it
// returns, and says what became of each. An import that was interrupted is
// completed by another one of the same keys.
func (im *Import) Add(ctx context.Context, batch []ImportedKey) ([]ImportOutcome, error) {
	records, err := im.stored(ctx, batch)
	if err != nil {
		return nil, err
	}
	outcomes := make([]ImportOutcome, len(batch))
	var bound []Binding
	for i := range batch {
		if outcomes[i], err = im.outcome(ctx, &batch[i], records[i]); err != nil {
			return nil, late(err)
		}
		if b, ok := batch[i].binding(im.tenant, im.now()); ok && !outcomes[i].Refused() {
			bound = append(bound, b)
		}
	}
	if im.dryRun || len(bound) == 0 {
		return outcomes, nil
	}
	if _, err := im.store.Commit(ctx, nil, bound); err != nil {
		return nil, fmt.Errorf("recording bindings of tenant %s: %w", im.tenant, err)
	}
	return outcomes, nil
}

// found is the record that is stored for an imported key.
type found struct {
	record *Record // nil when there is none, in a dry run
	ours   bool    // this import made it
}

// stored stores the keys that do not exist, unless this is a dry run, and
// returns what is stored for each.
func (im *Import) stored(ctx context.Context, batch []ImportedKey) ([]found, error) {
	all := make([]found, len(batch))
	if im.dryRun {
		kids := make([]contentkey.KID, len(batch))
		for i := range batch {
			kids[i] = batch[i].KID
		}
		records, err := im.store.Keys(ctx, im.tenant, kids)
		if err != nil {
			return nil, fmt.Errorf("reading content keys of tenant %s: %w", im.tenant, err)
		}
		byKID := make(map[contentkey.KID]*Record)
		for i := range records {
			byKID[records[i].KID] = &records[i]
		}
		for i := range batch {
			all[i].record = byKID[batch[i].KID]
		}
		return all, nil
	}
	made, err := im.seal(ctx, batch)
	if err != nil {
		return nil, err
	}
	records, err := im.store.Commit(ctx, made, nil)
	if err != nil {
		return nil, fmt.Errorf("storing content keys of tenant %s: %w", im.tenant, err)
	}
	if len(records) != len(made) {
		return nil, fmt.Errorf("storing content keys of tenant %s: %w: %d records for %d keys", im.tenant, ErrCorrupt, len(records), len(made))
	}
	for i := range records {
		all[i] = found{&records[i], bytes.Equal(records[i].Wrapped, made[i].Wrapped)}
	}
	return all, nil
}

func (im *Import) seal(ctx context.Context, batch []ImportedKey) ([]Record, error) {
	dk, err := im.k.dataKeys.get(ctx, im.tenant, newest)
	if err != nil {
		return nil, late(err)
	}
	now := im.now()
	records := make([]Record, len(batch))
	for i := range batch {
		key := &batch[i]
		iv := key.IV
		if !key.HasIV {
			if err := readRandom(nil, iv[:]); err != nil {
				return nil, fmt.Errorf("content key %s: %w", key.KID, err)
			}
		}
		records[i] = Record{Tenant: im.tenant, KID: key.KID, Source: sourceImport, Created: now}
		records[i].sealKey(dk, key.Value, iv)
	}
	return records, nil
}

const sourceImport = "import"

// outcome compares an imported key with what is stored.
func (im *Import) outcome(ctx context.Context, key *ImportedKey, f found) (ImportOutcome, error) {
	switch {
	case f.record == nil:
		return im.dryOutcome(key), nil
	case f.ours:
		return ImportCreated, nil
	case !f.record.Deleted.IsZero():
		return ImportDeleted, nil
	}
	o, err := im.k.open(ctx, im.tenant, f.record)
	switch {
	case errors.Is(err, ErrElsewhere):
		return im.fill(ctx, key, f.record)
	case err != nil:
		return 0, err
	case o.value != key.Value:
		return ImportConflict, nil
	case key.HasIV && o.iv != key.IV:
		return ImportOtherIV, nil
	default:
		return ImportPresent, nil
	}
}

// fill puts an imported key into the record of a key ID that another key
// provider has answered and whose key was not kept: its owner brings it along.
func (im *Import) fill(ctx context.Context, key *ImportedKey, r *Record) (ImportOutcome, error) {
	if im.dryRun {
		return ImportCreated, nil
	}
	sealed, err := im.seal(ctx, []ImportedKey{*key})
	if err != nil {
		return 0, err
	}
	done, err := im.store.Reseal(ctx, im.tenant, []Reseal{{
		KID: r.KID, OldWrapped: r.Wrapped, OldDataKey: r.DataKey, Wrapped: sealed[0].Wrapped, DataKey: sealed[0].DataKey,
	}})
	if err != nil {
		return 0, fmt.Errorf("content key %s: %w", r.KID, err)
	}
	if done != 1 {
		return 0, fmt.Errorf("content key %s: %w: it was changed at the same time", r.KID, ErrUnavailable)
	}
	return ImportCreated, nil
}

// dryOutcome is the outcome for a key ID that is not stored, but may have
// been met in this import.
func (im *Import) dryOutcome(key *ImportedKey) ImportOutcome {
	digest := maphash.Bytes(im.seed, key.Value[:])
	switch had, ok := im.seen[key.KID]; {
	case !ok:
		im.seen[key.KID] = digest
		return ImportCreated
	case had != digest:
		return ImportConflict
	default:
		return ImportPresent
	}
}

// binding returns the binding of an imported key, which nobody has asked for
// yet: LastSeen is zero.
func (k *ImportedKey) binding(tenant string, now time.Time) (Binding, bool) {
	b := Binding{
		Tenant: tenant, ContentID: k.ContentID, Requested: k.KID, KID: k.KID,
		Track: k.Track, Scheme: k.Scheme, Period: k.Period, FirstSeen: now,
	}
	return b, k.ContentID != "" || k.Track != "" || k.Scheme != 0 || !k.Period.IsZero()
}
