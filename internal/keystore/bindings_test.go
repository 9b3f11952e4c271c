package keystore_test

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/logtest"
)

// TestBindings holds design decision 1: what asked for a key is recorded
// before the key is handed out.
func TestBindings(t *testing.T) {
	f := start(t, keystore.Options{})
	a := ask("movie", kid(1), kid(2))
	a.Profile = "2.1"
	period := contentkey.Period{ID: "period-7", Index: "7", Start: "2026-11-22T12:00:00Z", End: "2026-11-22T13:00:00Z"}
	a.Wants[0].Requested = kid(100) // a KID override
	a.Wants[0].Uses = []keystore.Use{{Track: "HD", Period: period}, {Track: "UHD1", Period: period}}
	a.Wants[0].Systems = []string{"b", "a", "b"}
	a.Wants[1].Uses, a.Wants[1].Systems = nil, nil
	f.obtain(a)

	common := keystore.Binding{
		Tenant: "acme", ContentID: "movie", Scheme: contentkey.Cbcs, Profile: "2.1", FirstSeen: noon, LastSeen: noon,
	}
	hd, uhd, plain := common, common, common
	hd.Requested, hd.KID, hd.Track, hd.Period, hd.Systems = kid(100), kid(1), "HD", period, []string{"a", "b"}
	uhd.Requested, uhd.KID, uhd.Track, uhd.Period, uhd.Systems = kid(100), kid(1), "UHD1", period, []string{"a", "b"}
	plain.Requested, plain.KID, plain.Systems = kid(2), kid(2), []string{}
	want := []keystore.Binding{hd, uhd, plain}
	got := f.bindings()
	if len(got) != len(want) {
		t.Fatalf("bindings: %+v", got)
	}
	for i := range want {
		if got[i].Identity() != want[i].Identity() || !slices.Equal(got[i].Systems, want[i].Systems) ||
			got[i].Profile != "2.1" || got[i].IV != "" || !got[i].FirstSeen.Equal(noon) || !got[i].LastSeen.Equal(noon) {
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
}

// TestNewBindingsAreWritten changes a known request one member at a time.
func TestNewBindingsAreWritten(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*keystore.Ask)
		writes bool
	}{
		"nothing":         {func(*keystore.Ask) {}, false},
		"profile":         {func(a *keystore.Ask) { a.Profile = "2.1" }, false},
		"fewer systems":   {func(a *keystore.Ask) { a.Wants[0].Systems = a.Wants[0].Systems[:1] }, false},
		"other order":     {func(a *keystore.Ask) { slices.Reverse(a.Wants[0].Systems) }, false},
		"another system":  {func(a *keystore.Ask) { a.Wants[0].Systems[0] = "x" }, true},
		"content ID":      {func(a *keystore.Ask) { a.ContentID = "x" }, true},
		"scheme":          {func(a *keystore.Ask) { a.Scheme = contentkey.Cenc }, true},
		"requested KID":   {func(a *keystore.Ask) { a.Wants[0].Requested = kid(9) }, true},
		"track":           {func(a *keystore.Ask) { a.Wants[0].Uses[0].Track = "x" }, true},
		"one track more":  {func(a *keystore.Ask) { a.Wants[0].Uses = append(a.Wants[0].Uses, keystore.Use{Track: "x"}) }, true},
		"no track":        {func(a *keystore.Ask) { a.Wants[0].Uses = nil }, true},
		"period ID":       {func(a *keystore.Ask) { a.Wants[0].Uses[0].Period.ID = "x" }, true},
		"period index":    {func(a *keystore.Ask) { a.Wants[0].Uses[0].Period.Index = "x" }, true},
		"period start":    {func(a *keystore.Ask) { a.Wants[0].Uses[0].Period.Start = "x" }, true},
		"period end":      {func(a *keystore.Ask) { a.Wants[0].Uses[0].Period.End = "x" }, true},
		"the first IV":    {func(a *keystore.Ask) { a.Wants[0].IV, a.Wants[0].HasIV = contentkey.IV{1}, true }, true},
		"the zero IV too": {func(a *keystore.Ask) { a.Wants[0].HasIV = true }, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, keystore.Options{})
			f.obtain(ask("movie", kid(1)))
			f.spy.taken()
			a := ask("movie", kid(1))
			c.change(a)
			f.advance(time.Second)
			for i := range 2 {
				f.obtain(a)
				calls := f.spy.taken()
				if want := c.writes && i == 0; slices.Contains(calls, "Commit") != want {
					t.Errorf("request %d: calls %v, want a Commit: %v", i+2, calls, want)
				}
			}
		})
	}
}

// TestBindingRetried holds that a binding that could not be written fails the
// request, though the key is known, and is written by the retry.
func TestBindingRetried(t *testing.T) {
	f := start(t, keystore.Options{})
	f.obtain(ask("movie", kid(1)))
	f.spy.fail = func(m string) error {
		if m == "Commit" {
			return keystore.ErrUnavailable
		}
		return nil
	}
	for range 2 {
		if keys, err := f.Obtain(t.Context(), ask("other", kid(1))); keys != nil || !errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	}
	f.obtain(ask("movie", kid(1))) // what is known needs no database
	f.spy.fail = nil
	f.obtain(ask("other", kid(1)))
	if all := f.bindings(); len(all) != 2 || all[1].ContentID != "other" {
		t.Errorf("bindings: %+v", all)
	}
}

// TestRequestBufferIsNotKept reuses the memory of a request, as a server
// that pools its buffers does.
func TestRequestBufferIsNotKept(t *testing.T) {
	f := start(t, keystore.Options{})
	buffer := []byte("movie VIDEO edef8ba9 period 2.0 acme")
	text := func(from, to int) string { return bytesAsString(buffer[from:to]) }
	a := ask(text(0, 5), kid(1))
	a.Tenant, a.Profile = text(32, 36), text(28, 31)
	a.Wants[0].Uses[0] = keystore.Use{Track: text(6, 11), Period: contentkey.Period{Index: text(21, 27)}}
	a.Wants[0].Systems = []string{text(12, 20)}
	f.obtain(a)
	f.advance(time.Second)
	f.obtain(a)
	copy(buffer, bytes.Repeat([]byte("#"), len(buffer)))
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := f.bindings()
	if len(all) != 1 || all[0].ContentID != "movie" || all[0].Track != "VIDEO" || all[0].Period.Index != "period" ||
		!slices.Equal(all[0].Systems, []string{"edef8ba9"}) || all[0].Profile != "2.0" || !all[0].LastSeen.After(noon) {
		t.Errorf("bindings: %+v", all)
	}
}

func TestLastSeen(t *testing.T) {
	f := start(t, keystore.Options{FlushEvery: time.Hour})
	f.obtain(ask("movie", kid(1)))
	f.obtain(ask("quiet", kid(2)))
	check := func(when string, want time.Time, profile string) {
		t.Helper()
		all := f.bindings()
		if len(all) != 2 || !all[0].LastSeen.Equal(want) || !all[0].FirstSeen.Equal(noon) || all[0].Profile != profile {
			t.Errorf("%s: %+v, want %v in profile %s", when, all[0], want, profile)
		}
		if !all[1].LastSeen.Equal(noon) {
			t.Errorf("%s: a binding that nobody asked for changed: %+v", when, all[1])
		}
	}
	for range 10 {
		f.advance(time.Second)
		a := ask("movie", kid(1))
		a.Profile = "2.1"
		f.obtain(a)
	}
	check("before the flush", noon, "2.0")
	f.spy.taken()
	for range 2 {
		if err := f.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("after the flush", noon.Add(10*time.Second), "2.1")
	}
	if calls := f.spy.taken(); !slices.Equal(calls, []string{"Commit"}) {
		t.Errorf("ten requests and two flushes: %v", calls)
	}

	f.advance(-time.Hour) // the clock is set back
	f.obtain(ask("movie", kid(1)))
	f.advance(2 * time.Hour)
	f.obtain(ask("movie", kid(1)))
	last := time.UnixMicro(f.now.Load())
	f.advance(-time.Minute)
	f.obtain(ask("movie", kid(1)))
	f.restart() // Close flushes
	check("after a restart", last, "2.0")
}

// TestFlushFails holds that last-seen times survive an outage of the
// database, and that the log says so.
func TestFlushFails(t *testing.T) {
	var logged logtest.Buffer
	f := start(t, keystore.Options{
		FlushEvery: time.Millisecond,
		Log:        slog.New(slog.NewTextHandler(&logged, nil)),
	})
	f.obtain(ask("movie", kid(1)))
	f.spy.mu.Lock()
	f.spy.fail = func(string) error { return keystore.ErrUnavailable }
	f.spy.mu.Unlock()
	f.advance(time.Minute)
	f.obtain(ask("movie", kid(1)))
	eventually(t, "a failed flush is logged", func() bool {
		return strings.Contains(logged.String(), keystore.ErrUnavailable.Error())
	})
	if err := f.Flush(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Flush: %v", err)
	}
	f.spy.mu.Lock()
	f.spy.fail = nil
	f.spy.mu.Unlock()
	eventually(t, "the background flush writes the time", func() bool {
		return f.bindings()[0].LastSeen.Equal(noon.Add(time.Minute))
	})
}

// TestLateNewsDoNotUndo lets a flush of an old state arrive after a request
// that changed it.
func TestLateNewsDoNotUndo(t *testing.T) {
	f := start(t, keystore.Options{FlushEvery: time.Hour})
	f.obtain(ask("movie", kid(1)))
	f.advance(time.Second)
	f.obtain(ask("movie", kid(1))) // due
	f.advance(time.Second)
	a := ask("movie", kid(1))
	a.Profile, a.Wants[0].Systems = "2.1", []string{"new"}
	f.obtain(a) // written at once
	if err := f.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := f.bindings()
	if len(all) != 1 || all[0].Profile != "2.1" || len(all[0].Systems) != 3 || !all[0].LastSeen.Equal(noon.Add(2*time.Second)) {
		t.Errorf("bindings: %+v", all)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 500 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("not within 5 seconds: %s", what)
}
