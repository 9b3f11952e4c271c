package keystore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

func foreign(n byte) keystore.Foreign {
	return keystore.Foreign{Value: contentkey.Value{n, 1}, IV: contentkey.IV{n, 2}, Signaling: []byte{'s', n}}
}

func copies(n ...byte) *keystore.Copies {
	c := &keystore.Copies{Merge: func(kept, now []byte) []byte {
		if strings.Contains(string(kept), string(now)) {
			return kept
		}
		return append(append([]byte(nil), kept...), now...)
	}}
	for _, i := range n {
		c.Keys = append(c.Keys, foreign(i))
	}
	return c
}

// direct opens the keystore over the database itself, which can reseal.
func direct(t *testing.T) (*fixture, *keystore.Keystore) {
	t.Helper()
	f := start(t, keystore.Options{})
	k, err := keystore.Open(t.Context(), f.db, f.kek, keystore.Options{Clock: func() time.Time { return time.UnixMicro(f.now.Load()) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(t.Context()) }) //nolint:errcheck // it has nothing to write
	return f, k
}

// TestClaim: a claim records bindings and whose the key IDs are, and keeps no
// key; claimed again it is known without the database, until its time is over.
func TestClaim(t *testing.T) {
	f := start(t, keystore.Options{})
	a := ask("movie", kid(1), kid(2))
	created, err := f.Claim(t.Context(), a, "axinom", nil)
	if err != nil || created != 2 {
		t.Fatal(created, err)
	}
	if got := f.bindings(); len(got) != 2 || got[0].Track != "VIDEO" || got[0].ContentID != "movie" {
		t.Errorf("%+v", got)
	}
	if r := f.stored(kid(1)); r.Source != "upstream:axinom" || r.ContentID != "movie" || r.Scheme != contentkey.Cbcs || len(r.Wrapped) > 40 {
		t.Errorf("%+v", r)
	}
	f.spy.taken()
	if created, err = f.Claim(t.Context(), a, "axinom", nil); err != nil || created != 0 || len(f.spy.taken()) != 0 {
		t.Errorf("%d created, %v", created, err)
	}
	f.advance(time.Hour)
	if created, err = f.Claim(t.Context(), a, "axinom", nil); err != nil || created != 0 || len(f.spy.taken()) == 0 {
		t.Errorf("an hour later: %d created, %v", created, err)
	}
	if _, err = f.Claim(t.Context(), ask("other", kid(1)), "axinom", nil); err != nil || len(f.bindings()) != 3 {
		t.Errorf("a new binding: %v", err)
	}
	f.restart()
	if created, err = f.Claim(t.Context(), a, "axinom", nil); err != nil || created != 0 {
		t.Errorf("after a restart: %d, %v", created, err)
	}
	for name, err := range map[string]error{
		"obtain": func() error { _, err := f.Obtain(t.Context(), a); return err }(),
		"lookup": func() error { _, err := f.Lookup(t.Context(), "acme", []contentkey.KID{kid(1)}); return err }(),
		"copies": func() error { _, err := f.Copies(t.Context(), "acme", []contentkey.KID{kid(1)}); return err }(),
	} {
		if !errors.Is(err, keystore.ErrElsewhere) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClaimsExclude: a key ID has one source of keys, whoever came first.
func TestClaimsExclude(t *testing.T) {
	f := start(t, keystore.Options{})
	var wrong *keystore.SourceError
	f.obtain(ask("movie", kid(1)))
	if _, err := f.Claim(t.Context(), ask("movie", kid(2), kid(1)), "axinom", nil); !errors.As(err, &wrong) || wrong.KID != kid(1) || wrong.Source != "random" {
		t.Errorf("a key of ours: %v", err)
	}
	if len(f.bindings()) != 1 {
		t.Error("a refused claim was recorded")
	}
	if _, err := f.Claim(t.Context(), ask("movie", kid(3)), "axinom", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Claim(t.Context(), ask("movie", kid(3)), "keyos", nil); !errors.As(err, &wrong) || wrong.Source != "upstream:axinom" {
		t.Errorf("another upstream's: %v", err)
	}
	if err := f.Claimed(t.Context(), "acme", "axinom", []contentkey.KID{kid(3), kid(4)}); err != nil {
		t.Error(err)
	}
	if err := f.Claimed(t.Context(), "acme", "keyos", []contentkey.KID{kid(4), kid(3)}); !errors.As(err, &wrong) {
		t.Error(err)
	}

	// Racers: one wins each key ID, and all know who.
	var wait sync.WaitGroup
	won := make([]error, 16)
	for i := range won {
		wait.Go(func() { _, won[i] = f.Claim(t.Context(), ask("race", kid(9)), fmt.Sprintf("u%d", i%2), nil) })
	}
	wait.Wait()
	owner := strings.TrimPrefix(f.stored(kid(9)).Source, "upstream:u")
	for i, err := range won {
		if mine := fmt.Sprint(i%2) == owner; mine != (err == nil) {
			t.Errorf("racer %d of owner %s: %v", i, owner, err)
		}
	}
}

// TestClaimDeleted: a deleted key ID stays refused.
func TestClaimDeleted(t *testing.T) {
	f := start(t, keystore.Options{CacheLifetime: time.Minute})
	if _, err := f.Claim(t.Context(), ask("movie", kid(1)), "axinom", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.db.Delete(t.Context(), "acme", []contentkey.KID{kid(1)}, noon); err != nil {
		t.Fatal(err)
	}
	f.advance(2 * time.Minute)
	if _, err := f.Claim(t.Context(), ask("movie", kid(1)), "axinom", nil); !errors.Is(err, keystore.ErrDeleted) {
		t.Error(err)
	}
}

// TestCopies: kept keys come back with their signaling; a claim without a copy
// gets one later, signaling is merged, another key is refused.
func TestCopies(t *testing.T) {
	f, k := direct(t)
	a := ask("movie", kid(1), kid(2))
	if _, err := k.Claim(t.Context(), a, "axinom", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Claim(t.Context(), a, "axinom", copies(1, 2)); err != nil {
		t.Fatal(err)
	}
	more := copies(1, 2)
	more.Keys[0].Signaling = []byte("more")
	f.advance(10 * time.Minute)
	if _, err := k.Claim(t.Context(), a, "axinom", more); err != nil {
		t.Fatal(err)
	}
	got, err := k.Copies(t.Context(), "acme", []contentkey.KID{kid(2), kid(1)})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Value != foreign(2).Value || got[0].IV != foreign(2).IV || got[0].KID != kid(2) || got[0].Source != "axinom" || string(got[1].Signaling) != "s\x01more" {
		t.Errorf("%v %q", got, got[1].Signaling)
	}
	if text := fmt.Sprintf("%v %+v %#v %x", got, got[0], got[0].Foreign, copies(1).Keys[0]); strings.Contains(text, "1 1") || strings.Contains(text, "0x1") {
		t.Error(text)
	}
	var wrong *keystore.SourceError
	if _, err := k.Claim(t.Context(), a, "axinom", copies(1, 3)); !errors.As(err, &wrong) || !wrong.Key || wrong.KID != kid(2) {
		t.Errorf("another key: %v", err)
	}
	for name, kids := range map[string][]contentkey.KID{"unknown": {kid(1), kid(7)}} {
		if _, err := k.Copies(t.Context(), "acme", kids); !errors.Is(err, keystore.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if keys, err := k.Obtain(t.Context(), a); err != nil || keys[0].Value != foreign(1).Value {
		t.Errorf("a tenant that left its upstream: %v", err)
	}
}

// TestForeignCustody: data keys rotate under claims and copies, exports leave
// claims out, and an import brings a claimed key along.
func TestForeignCustody(t *testing.T) {
	f, k := direct(t)
	claimed, copied := ask("movie", kid(1)), ask("movie", kid(2))
	if _, err := k.Claim(t.Context(), claimed, "axinom", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Claim(t.Context(), copied, "axinom", copies(2)); err != nil {
		t.Fatal(err)
	}
	c, err := k.Custody()
	if err != nil {
		t.Fatal(err)
	}
	before := f.stored(kid(1)).DataKey
	report, err := c.Rewrap(t.Context(), keystore.RewrapOptions{NewDataKeys: true})
	if err != nil || report.Damaged != 0 || report.Resealed != 2 || f.stored(kid(1)).DataKey == before {
		t.Fatalf("%+v %v", report, err)
	}
	if got, err := k.Copies(t.Context(), "acme", []contentkey.KID{kid(2)}); err != nil || got[0].Value != foreign(2).Value || string(got[0].Signaling) != "s\x02" {
		t.Errorf("%v %v", got, err)
	}
	var exported []contentkey.KID
	for s, err := range c.Keys(t.Context(), "acme") {
		if err != nil {
			t.Fatal(err)
		}
		exported = append(exported, s.KID)
	}
	if len(exported) != 1 || exported[0] != kid(2) {
		t.Errorf("exported %v", exported)
	}
	for _, dry := range []bool{true, false} {
		im, err := c.NewImport("acme", dry)
		if err != nil {
			t.Fatal(err)
		}
		outcomes, err := im.Add(t.Context(), []keystore.ImportedKey{{KID: kid(1), Value: contentkey.Value{7}}, {KID: kid(2), Value: contentkey.Value{7}}})
		if err != nil || outcomes[0] != keystore.ImportCreated || outcomes[1] != keystore.ImportConflict {
			t.Errorf("%v %v", outcomes, err)
		}
	}
	if keys, err := k.Obtain(t.Context(), claimed); err != nil || keys[0].Value != (contentkey.Value{7}) {
		t.Errorf("imported: %v", err)
	}
}
