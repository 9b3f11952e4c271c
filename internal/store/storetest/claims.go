package storetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
)

// RunClaims runs the suite of keys that another key provider answered, by
// keystores over a backend. Each call of open returns a new empty store, which
// the suite closes.
func RunClaims(t *testing.T, open func(*testing.T) Kept) {
	run(t, open, map[string]func(*testing.T, Kept){
		"racers of two sources":             claimRacers,
		"racers of one source":              copyRacers,
		"a copy is added later":             copyAddedLater,
		"racers add a copy":                 lateCopyRacers,
		"a deleted key ID is not claimed":   claimDeleted,
		"data keys rotate under claims":     claimsRewrapped,
		"data keys rotate while claimed":    claimedWhileRewrapped,
		"claims and our own keys are apart": claimsApart,
	})
}

// process opens a keystore over a store, as one more process would. Its calls
// are observed, as they are in servers.
func process(t *testing.T, s Kept) *keystore.Keystore {
	t.Helper()
	kek, err := envkey.Open(&url.URL{Scheme: "env", Opaque: "KEK"}, func(string) (string, bool) {
		return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)), true
	})
	if err != nil {
		t.Fatal(err)
	}
	k, err := keystore.Open(t.Context(), s, kek, keystore.Options{Observe: func(context.Context, keystore.Call) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(context.WithoutCancel(t.Context())) }) //nolint:errcheck // it has nothing to write
	return k
}

func asked(kids ...contentkey.KID) *keystore.Ask {
	a := &keystore.Ask{Tenant: tenant, ContentID: "movie", Profile: "2.0", Scheme: contentkey.Cbcs}
	for _, k := range kids {
		a.Wants = append(a.Wants, keystore.Want{Requested: k, KID: k, Uses: []keystore.Use{{Track: "VIDEO"}}})
	}
	return a
}

// kept are copies of keys that differ by their first byte.
func kept(signaling string, keys ...byte) *keystore.Copies {
	c := &keystore.Copies{Merge: func(old, now []byte) []byte {
		if bytes.Contains(old, now) {
			return old
		}
		return slices.Concat(old, now)
	}}
	for _, n := range keys {
		c.Keys = append(c.Keys, keystore.Foreign{Value: contentkey.Value{n, 1}, IV: contentkey.IV{n, 2}, Signaling: []byte(signaling)})
	}
	return c
}

// wantCopy reads a copy as a process does that was just started.
func wantCopy(t *testing.T, s Kept, kid contentkey.KID, key byte, source string) keystore.Copy {
	t.Helper()
	got, err := process(t, s).Copies(t.Context(), tenant, []contentkey.KID{kid})
	if err != nil {
		t.Fatal(err)
	}
	want := kept("", key).Keys[0]
	if got[0].KID != kid || got[0].Source != source || got[0].Value != want.Value || got[0].IV != want.IV {
		t.Errorf("the copy of %s is of %s, or another key", got[0].KID, got[0].Source)
	}
	return got[0]
}

// raceProcesses runs n racers at once, each with one of several processes.
func raceProcesses(t *testing.T, s Kept, n int, run func(k *keystore.Keystore, i int) error) []error {
	t.Helper()
	processes := []*keystore.Keystore{process(t, s), process(t, s), process(t, s)}
	errs := make([]error, n)
	var start, wait sync.WaitGroup
	start.Add(1)
	for i := range n {
		wait.Go(func() {
			start.Wait()
			errs[i] = run(processes[i%len(processes)], i)
		})
	}
	start.Done()
	wait.Wait()
	return errs
}

func claimRacers(t *testing.T, s Kept) {
	sources := []string{"axinom", "keyos"}
	errs := raceProcesses(t, s, 16, func(k *keystore.Keystore, i int) error {
		_, err := k.Claim(t.Context(), asked(kid(1)), sources[i%2], kept("s", byte(i%2)))
		return err
	})
	owner := strings.TrimPrefix(keys(t, s, tenant, kid(1))[0].Source, "upstream:")
	won := slices.Index(sources, owner)
	if won < 0 {
		t.Fatalf("it belongs to %q", owner)
	}
	for i, err := range errs {
		conflict := (*keystore.SourceError)(nil)
		switch {
		case i%2 == won && err != nil:
			t.Errorf("racer %d for %s, who was first: %v", i, owner, err)
		case i%2 != won && (!errors.As(err, &conflict) || conflict.Source != "upstream:"+owner || conflict.KID != kid(1) || conflict.Key):
			t.Errorf("racer %d against %s, who was first: %v", i, owner, err)
		}
	}
	wantCopy(t, s, kid(1), byte(won), owner)
	k := process(t, s)
	if err := k.Claimed(t.Context(), tenant, owner, []contentkey.KID{kid(1), kid(2)}); err != nil {
		t.Error(err)
	}
	if err := k.Claimed(t.Context(), tenant, sources[1-won], []contentkey.KID{kid(2), kid(1)}); err == nil {
		t.Error("both sources may answer it")
	}
}

// copyRacers: a vendor that gives two racers two keys for one key ID has one
// of them refused.
func copyRacers(t *testing.T, s Kept) {
	errs := raceProcesses(t, s, 16, func(k *keystore.Keystore, i int) error {
		_, err := k.Claim(t.Context(), asked(kid(1)), "axinom", kept("s", byte(i%2)))
		return err
	})
	wantOneKey(t, s, errs)
}

// wantOneKey holds that all racers with the key that is kept, an even or an
// odd one, were served, and no others.
func wantOneKey(t *testing.T, s Kept, errs []error) {
	t.Helper()
	got, err := process(t, s).Copies(t.Context(), tenant, []contentkey.KID{kid(1)})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		conflict := (*keystore.SourceError)(nil)
		switch mine := got[0].Value == kept("", byte(i%2)).Keys[0].Value; {
		case mine && err != nil:
			t.Errorf("racer %d has the key that is kept: %v", i, err)
		case !mine && (!errors.As(err, &conflict) || !conflict.Key):
			t.Errorf("racer %d has another key: %v", i, err)
		}
	}
}

func copyAddedLater(t *testing.T, s Kept) {
	claim := func(c *keystore.Copies) {
		t.Helper()
		if _, err := process(t, s).Claim(t.Context(), asked(kid(1)), "axinom", c); err != nil {
			t.Fatal(err)
		}
	}
	claim(nil)
	before := keys(t, s, tenant, kid(1))[0]
	if _, err := process(t, s).Copies(t.Context(), tenant, []contentkey.KID{kid(1)}); !errors.Is(err, keystore.ErrElsewhere) {
		t.Errorf("without a copy: %v", err)
	}
	claim(kept("one", 3))
	wantCopy(t, s, kid(1), 3, "axinom")
	claim(kept("two", 3))
	claim(nil)
	if got := wantCopy(t, s, kid(1), 3, "axinom"); string(got.Signaling) != "onetwo" {
		t.Errorf("signaling %q", got.Signaling)
	}
	same := process(t, s) // which remembers what it has claimed
	for _, signaling := range []string{"two", "three", "three", "two"} {
		if _, err := same.Claim(t.Context(), asked(kid(1)), "axinom", kept(signaling, 3)); err != nil {
			t.Fatal(err)
		}
	}
	if got := wantCopy(t, s, kid(1), 3, "axinom"); string(got.Signaling) != "onetwothree" {
		t.Errorf("signaling %q", got.Signaling)
	}
	after := keys(t, s, tenant, kid(1))[0]
	after.Wrapped, after.DataKey = before.Wrapped, before.DataKey
	equal(t, "the record but for its seal", after, before)
	conflict := (*keystore.SourceError)(nil)
	if _, err := process(t, s).Claim(t.Context(), asked(kid(1)), "axinom", kept("one", 4)); !errors.As(err, &conflict) || !conflict.Key {
		t.Errorf("another key: %v", err)
	}
	wantCopy(t, s, kid(1), 3, "axinom")
}

// lateCopyRacers: of two keys that are brought for a claim without a copy, one
// is kept and the other refused; no signaling is lost.
func lateCopyRacers(t *testing.T, s Kept) {
	if _, err := process(t, s).Claim(t.Context(), asked(kid(1)), "axinom", nil); err != nil {
		t.Fatal(err)
	}
	errs := raceProcesses(t, s, 12, func(k *keystore.Keystore, i int) error {
		_, err := k.Claim(t.Context(), asked(kid(1)), "axinom", kept(fmt.Sprintf("<%d>", i), byte(i%2)))
		return err
	})
	wantOneKey(t, s, errs)
	got, err := process(t, s).Copies(t.Context(), tenant, []contentkey.KID{kid(1)})
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if part := fmt.Sprintf("<%d>", i); (err == nil) != strings.Contains(string(got[0].Signaling), part) {
			t.Errorf("racer %d: %v, and the signaling is %s", i, err, got[0].Signaling)
		}
	}
}

func claimDeleted(t *testing.T, s Kept) {
	for _, c := range []*keystore.Copies{nil, kept("s", 1)} {
		if _, err := process(t, s).Claim(t.Context(), asked(kid(1)), "axinom", c); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Delete(t.Context(), tenant, []contentkey.KID{kid(1)}, noon); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		k := process(t, s)
		for _, again := range []*keystore.Copies{nil, kept("s", 1)} {
			if _, err := k.Claim(t.Context(), asked(kid(2), kid(1)), "axinom", again); !errors.Is(err, keystore.ErrDeleted) {
				t.Errorf("a claim of a deleted key ID: %v", err)
			}
		}
		if _, err := k.Copies(t.Context(), tenant, []contentkey.KID{kid(1)}); !errors.Is(err, keystore.ErrDeleted) {
			t.Errorf("a copy of a deleted key: %v", err)
		}
		if got := keys(t, s, tenant, kid(2)); len(got) != 0 {
			t.Error("half of a refused claim is recorded")
		}
		if n, err := s.Undelete(t.Context(), tenant, []contentkey.KID{kid(1)}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	wantCopy(t, s, kid(1), 1, "axinom")
}

func claimsRewrapped(t *testing.T, s Kept) {
	k := process(t, s)
	if _, err := k.Claim(t.Context(), asked(kid(1)), "axinom", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Claim(t.Context(), asked(kid(2)), "axinom", kept("s", 2)); err != nil {
		t.Fatal(err)
	}
	before := keys(t, s, tenant, kid(1), kid(2))
	c, err := k.Custody()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		report, err := c.Rewrap(t.Context(), keystore.RewrapOptions{NewDataKeys: true})
		if err != nil || report.Damaged != 0 || report.Resealed != 2 || report.Left != 0 {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	for i, now := range keys(t, s, tenant, kid(1), kid(2)) {
		if now.DataKey == before[i].DataKey || now.Source != "upstream:axinom" {
			t.Errorf("%s is under data key %d of %s", now.KID, now.DataKey, now.Source)
		}
	}
	if got := wantCopy(t, s, kid(2), 2, "axinom"); string(got.Signaling) != "s" {
		t.Errorf("signaling %q", got.Signaling)
	}
	if _, err := k.Claim(t.Context(), asked(kid(1), kid(2)), "axinom", kept("s", 1, 2)); err != nil {
		t.Errorf("a copy after that: %v", err)
	}
	wantCopy(t, s, kid(1), 1, "axinom")
}

// claimedWhileRewrapped: nothing that was answered is lost while an operator
// rotates data keys.
func claimedWhileRewrapped(t *testing.T, s Kept) {
	operator, err := process(t, s).Custody()
	if err != nil {
		t.Fatal(err)
	}
	const n = 6
	var wait sync.WaitGroup
	processes := []*keystore.Keystore{process(t, s), process(t, s), process(t, s)}
	for i := range n {
		wait.Go(func() {
			for j, c := range []*keystore.Copies{nil, kept("a", byte(i)), kept("b", byte(i))} {
				if _, err := processes[j].Claim(t.Context(), asked(kid(i)), "axinom", c); err != nil {
					t.Errorf("claim %d: %v", i, err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 3 {
		if _, err := operator.Rewrap(t.Context(), keystore.RewrapOptions{NewDataKeys: true}); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
	for i := range n {
		if got := wantCopy(t, s, kid(i), byte(i), "axinom"); string(got.Signaling) != "ab" {
			t.Errorf("signaling %q", got.Signaling)
		}
	}
}

// claimsApart: whoever came first keeps a key ID, we or another key provider.
func claimsApart(t *testing.T, s Kept) {
	errs := raceProcesses(t, s, 12, func(k *keystore.Keystore, i int) (err error) {
		if i%2 == 0 {
			_, err = k.Claim(t.Context(), asked(kid(1)), "axinom", nil)
		} else {
			_, err = k.Obtain(t.Context(), asked(kid(1)))
		}
		return err
	})
	ours := keys(t, s, tenant, kid(1))[0].Source == "random"
	for i, err := range errs {
		if won := ours == (i%2 == 1); won != (err == nil) {
			t.Errorf("racer %d, the key is ours: %v: %v", i, ours, err)
		}
	}
}
