package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/sqlite"
)

func TestDeleteUndeletePurge(t *testing.T) {
	f := start(t, keystore.Options{CacheLifetime: time.Minute})
	keys := f.obtain(ask("movie", kid(1), kid(2), kid(3)))
	c := f.operator(nil, f.kek)
	two := []contentkey.KID{kid(1), kid(2)}
	if _, err := c.Delete(t.Context(), "acme", append(two, kid(9))); !errors.Is(err, keystore.ErrNotFound) || !strings.Contains(err.Error(), kid(9).String()) {
		t.Errorf("deleting a key that is not there: %v", err)
	}
	if !f.stored(kid(1)).Deleted.IsZero() {
		t.Error("a refused deletion deleted another key")
	}
	for _, want := range []int{2, 0} {
		if n, err := c.Delete(t.Context(), "acme", two); n != want || err != nil {
			t.Errorf("Delete: %d, want %d: %v", n, want, err)
		}
		f.advance(time.Second)
	}
	if got := f.stored(kid(2)).Deleted; !got.Equal(noon) {
		t.Errorf("deleted at %v", got)
	}
	// The server goes on from its cache until that has expired.
	if got := f.obtain(ask("movie", kid(1))); got[0].Value != keys[0].Value {
		t.Error("another key")
	}
	f.advance(time.Minute)
	if _, err := f.Obtain(t.Context(), ask("movie", kid(3), kid(1))); !errors.Is(err, keystore.ErrDeleted) {
		t.Errorf("a deleted key: %v", err)
	}
	if n, err := c.Undelete(t.Context(), "acme", []contentkey.KID{kid(1), kid(3)}); n != 1 || err != nil {
		t.Errorf("Undelete: %d, %v", n, err)
	}
	if got := f.obtain(ask("movie", kid(1))); got[0].Value != keys[0].Value || got[0].IV != keys[0].IV || got[0].Created {
		t.Error("an undeleted key has changed")
	}

	// Time of grace: kid(2) was deleted at noon.
	f.now.Store(noon.Add(keystore.DefaultGrace - time.Microsecond).UnixMicro())
	o := keystore.PurgeOptions{Grace: keystore.DefaultGrace}
	purge := func(when string, want keystore.PurgeReport) {
		t.Helper()
		if r, err := c.Purge(t.Context(), o); r != want || err != nil {
			t.Errorf("%s: %+v, want %+v: %v", when, r, want, err)
		}
	}
	purge("within the time of grace", keystore.PurgeReport{Looked: 3, Waiting: 1})
	f.advance(time.Microsecond)
	o.DryRun = true
	purge("a dry run", keystore.PurgeReport{Looked: 3, Purged: 1})
	o.DryRun, o.Tenant = false, "other"
	purge("another tenant", keystore.PurgeReport{})
	o.Tenant = "acme"
	purge("afterwards", keystore.PurgeReport{Looked: 3, Purged: 1})
	purge("once more", keystore.PurgeReport{Looked: 3, Before: 1})
	if _, err := c.Undelete(t.Context(), "acme", two); !errors.Is(err, keystore.ErrPurged) || !strings.Contains(err.Error(), kid(2).String()) {
		t.Errorf("undeleting a purged key: %v", err)
	}
	if got := f.stored(kid(2)); !got.Purged() || got.Deleted.IsZero() {
		t.Errorf("a purged record: %+v", got)
	}
	for range 2 { // for ever, and past a rotation
		f.restart()
		if _, err := f.Obtain(t.Context(), ask("movie", kid(2))); !errors.Is(err, keystore.ErrDeleted) {
			t.Errorf("a purged key: %v", err)
		}
		c = f.operator(nil, f.kek)
		f.rewrap(c, keystore.RewrapOptions{NewDataKeys: true})
		f.advance(2 * time.Hour)
		if r := f.rewrap(c, keystore.RewrapOptions{}); r.Removed != 1 || r.Damaged != 0 {
			t.Errorf("a rotation past a purged key: %+v", r)
		}
	}
	if got := f.obtain(ask("movie", kid(1), kid(3))); got[0].Value != keys[0].Value || got[1].Value != keys[2].Value {
		t.Error("the other keys have changed")
	}
}

// TestOwnDeletionIsSeenAtOnce deletes through the process that has the key in
// memory.
func TestOwnDeletionIsSeenAtOnce(t *testing.T) {
	db, err := sqlite.Open(t.Context(), t.TempDir()+"/keys.db", sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	k, err := keystore.Open(t.Context(), db, ring(t, 1), keystore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close(context.Background())
	c, err := k.Custody()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Obtain(t.Context(), ask("movie", kid(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(t.Context(), "acme", []contentkey.KID{kid(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Obtain(t.Context(), ask("movie", kid(1))); !errors.Is(err, keystore.ErrDeleted) {
		t.Errorf("a key that this process deleted: %v", err)
	}
}

func TestStoreWithoutCustody(t *testing.T) {
	f := start(t, keystore.Options{})
	if _, err := f.Custody(); !errors.Is(err, keystore.ErrNoCustody) { // its spy has only a Store's methods
		t.Errorf("Custody: %v", err)
	}
}

// imported returns a key as it comes from another provider.
func imported(n int) keystore.ImportedKey {
	return keystore.ImportedKey{
		KID: kid(n), Value: contentkey.Value{1, byte(n), byte(n >> 8)}, IV: contentkey.IV{2, byte(n), byte(n >> 8)}, HasIV: true,
		ContentID: "old-movie", Track: "HD", Scheme: contentkey.Cbcs,
	}
}

func (f *fixture) imports(c *keystore.Custody, dryRun bool, keys ...keystore.ImportedKey) []keystore.ImportOutcome {
	f.t.Helper()
	im, err := c.NewImport("acme", dryRun)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []keystore.ImportOutcome
	for batch := range slices.Chunk(keys, 3) {
		outcomes, err := im.Add(f.t.Context(), batch)
		if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, outcomes...)
	}
	return all
}

func TestImport(t *testing.T) {
	f := start(t, keystore.Options{})
	ours := f.obtain(ask("movie", kid(1), kid(2)))
	c := f.operator(nil, f.kek)
	if _, err := c.Delete(t.Context(), "acme", []contentkey.KID{kid(2)}); err != nil {
		t.Fatal(err)
	}
	same, otherIV, plain, clash := imported(1), imported(1), imported(4), imported(3)
	same.Value, same.HasIV = ours[0].Value, false
	otherIV.Value = ours[0].Value
	plain.HasIV, plain.ContentID, plain.Track, plain.Scheme = false, "", "", 0
	clash.Value[0] ^= 1
	keys := []keystore.ImportedKey{
		imported(3), imported(5), imported(5), // the first batch
		imported(1), same, otherIV,
		imported(2), plain, clash,
		imported(3), imported(6),
	}
	want := []keystore.ImportOutcome{
		keystore.ImportCreated, keystore.ImportCreated, keystore.ImportPresent,
		keystore.ImportConflict, keystore.ImportPresent, keystore.ImportOtherIV,
		keystore.ImportDeleted, keystore.ImportCreated, keystore.ImportConflict,
		keystore.ImportPresent, keystore.ImportCreated,
	}
	before := len(f.bindings())
	if got := f.imports(c, true, keys...); !slices.Equal(got, want) {
		t.Errorf("a dry run:\n got %v\nwant %v", got, want)
	}
	if f.stored(kid(3)) != nil || len(f.bindings()) != before {
		t.Error("the dry run stored something")
	}
	if got := f.imports(c, false, keys...); !slices.Equal(got, want) {
		t.Errorf("the import:\n got %v\nwant %v", got, want)
	}
	for i, o := range want {
		if o == keystore.ImportCreated {
			want[i] = keystore.ImportPresent
		}
	}
	for _, dryRun := range []bool{true, false} {
		if got := f.imports(c, dryRun, keys...); !slices.Equal(got, want) {
			t.Errorf("once more, dry run %t:\n got %v\nwant %v", dryRun, got, want)
		}
	}

	// Servers hand out what was imported, whatever content asks.
	a := ask("any-content", kid(3), kid(4), kid(1))
	a.Reuse = keystore.ReusePolicy{RefuseKID: true, RefuseScheme: true}
	a.Wants, a.ContentID = a.Wants[:2], "new-content"
	got := f.obtain(a)
	if got[0].Value != imported(3).Value || got[0].IV != imported(3).IV || got[1].Value != plain.Value || got[1].IV.IsZero() {
		t.Error("other keys than were imported")
	}
	if got := f.obtain(ask("movie", kid(1)))[0]; got.Value != ours[0].Value || got.IV != ours[0].IV {
		t.Error("an import changed a key")
	}
	if r := f.stored(kid(3)); r.Source != "import" || r.ContentID != "" || r.Scheme != 0 {
		t.Errorf("the record: %+v", r)
	}
	f.restart()
	var bound []string
	for _, b := range f.bindings() {
		if b.ContentID == "old-movie" {
			bound = append(bound, fmt.Sprint(b.KID, " ", b.Track, " ", b.Scheme, " ", b.LastSeen.IsZero()))
		}
	}
	slices.Sort(bound)
	var wantBound []string
	for _, n := range []int{1, 3, 5, 6} { // 1 as the key that was present
		wantBound = append(wantBound, fmt.Sprint(kid(n), " HD cbcs true"))
	}
	if !slices.Equal(bound, wantBound) {
		t.Errorf("bindings:\n got %q\nwant %q", bound, wantBound)
	}
}

// TestImportRaces lets an import and requests for the same key IDs race: both
// end up with what is stored.
func TestImportRaces(t *testing.T) {
	f := start(t, keystore.Options{})
	c := f.operator(nil, f.kek)
	var keys []keystore.ImportedKey
	for i := range 300 {
		keys = append(keys, imported(i))
	}
	done := make(chan map[contentkey.KID]contentkey.Value)
	go func() {
		all := make(map[contentkey.KID]contentkey.Value)
		for i := range 300 {
			got, err := f.Obtain(t.Context(), ask("movie", kid(299-i)))
			if err != nil {
				t.Error(err)
				break
			}
			all[got[0].KID] = got[0].Value
		}
		done <- all
	}()
	outcomes := f.imports(c, false, keys...)
	served := <-done
	for i, o := range outcomes {
		if ours := served[kid(i)] == keys[i].Value; ours != (o == keystore.ImportCreated) || !ours && o != keystore.ImportConflict {
			t.Errorf("key %d: %v, served as imported: %t", i, o, ours)
		}
	}
}

func TestImportFailures(t *testing.T) {
	f := start(t, keystore.Options{})
	c := f.operator(nil, f.kek)
	if _, err := c.NewImport("ACME", false); !errors.Is(err, keystore.ErrTenant) {
		t.Errorf("a tenant that cannot be: %v", err)
	}
	im, err := c.NewImport("acme", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := im.Add(ctx, []keystore.ImportedKey{imported(1)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if got := f.imports(c, false, imported(1)); got[0] > keystore.ImportPresent {
		t.Errorf("after an interruption: %v", got)
	}
}

// TestOpener examines rows without a keystore.
func TestOpener(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1), kid(2)))
	rows, err := f.db.DataKeys(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := keystore.NewOpener(ring(t, 2)).Add(t.Context(), rows[0]); !errors.Is(err, keystore.ErrWrongKEK) {
		t.Errorf("with another KEK: %v", err)
	}
	o := keystore.NewOpener(f.kek)
	if err := o.Check(f.stored(kid(1))); !errors.Is(err, keystore.ErrNoDataKey) {
		t.Errorf("without its data key: %v", err)
	}
	if err := o.Add(t.Context(), rows[0]); err != nil {
		t.Fatal(err)
	}
	good, bad, moved, gone := *f.stored(kid(1)), *f.stored(kid(1)), *f.stored(kid(1)), *f.stored(kid(1))
	bad.Wrapped = bytes.Clone(bad.Wrapped)
	bad.Wrapped[len(bad.Wrapped)-1] ^= 1
	moved.KID = kid(2)
	gone.Deleted = noon
	purged := gone
	purged.Wrapped = nil
	hollow := good
	hollow.Wrapped = nil
	for name, c := range map[string]struct {
		record keystore.Record
		want   error
	}{
		"a good one": {good, nil}, "a deleted one": {gone, nil}, "a purged one": {purged, nil},
		"a changed one": {bad, keystore.ErrCorrupt}, "one that was moved": {moved, keystore.ErrCorrupt},
		"one without content": {hollow, keystore.ErrCorrupt},
	} {
		if err := o.Check(&c.record); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
