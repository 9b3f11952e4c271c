package gateway_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

// TestSecondRegion: the same key service at another place answers for key IDs
// that the first one has answered.
func TestSecondRegion(t *testing.T) {
	b := newBench(t)
	east, west := startSim(t, vendorsim.Axinom, vendorsim.Options{}), startSim(t, vendorsim.Axinom, vendorsim.Options{})
	tn := b.tenant(east.upstream(t, func(u *upstream.Settings) {
		u.Fallback = []upstream.Settings{{SameKeys: true, URL: west.upstream(t).URL}}
	}))
	first := b.must(tn, build(t, twoKeys))
	east.Close()
	again := b.must(tn, build(t, twoKeys))
	if string(first.Body) != string(again.Body) || len(west.requests()) != 1 {
		t.Error("the second region had another answer")
	}
	x := b.last()
	if len(x.Calls) != 2 || x.Calls[0].Fault == "" || x.Calls[1].Fault != "" || x.Calls[1].Origin != west.URL || x.AnsweredBy != "axinom" {
		t.Errorf("%+v", x)
	}
	contains(t, b.log.String(), "answered by a fallback")
	other := twoKeys
	other.ContentID = "movie-2"
	b.must(tn, build(t, other)) // it may answer new key IDs too: its keys are the same
}

// TestSecondVendor: another vendor answers only for key IDs that nobody has
// answered (SX-GW-02), and what it has answered stays its own.
func TestSecondVendor(t *testing.T) {
	b := newBench(t)
	one := startSim(t, vendorsim.Axinom, vendorsim.Options{})
	two := startSim(t, vendorsim.Generic, vendorsim.Options{Seed: "another"})
	var down atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(500)
			return
		}
		res, body := forward(t, one, r)
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.Write(body) //nolint:errcheck // a test's own client
	}))
	t.Cleanup(front.Close)
	tn := b.tenant(one.upstream(t, func(u *upstream.Settings) {
		u.URL = strings.Replace(u.URL, one.URL, front.URL, 1)
		u.Fallback = []upstream.Settings{*two.upstream(t)}
		u.Breaker.Failures = 1000
	}))
	movie := func(id string) *encryptor.Request { o := twoKeys; o.ContentID = id; return build(t, o) }

	b.must(tn, movie("old"))
	down.Store(true)
	b.must(tn, movie("new"))
	if x := b.last(); x.AnsweredBy != "generic" {
		t.Errorf("%+v", x)
	}
	_, err := b.ask(tn, movie("old"))
	if err == nil || len(two.requests()) != 1 {
		t.Fatalf("%v, %d requests", err, len(two.requests()))
	}
	contains(t, b.last().Calls[1].Fault, "not asked", "belongs to another source of keys, upstream:axinom")

	down.Store(false)
	_, err = b.ask(tn, movie("new"))
	var fault *gateway.Fault
	if !errors.As(err, &fault) || fault.Kind != gateway.Conflict {
		t.Fatalf("%v", err)
	}
	contains(t, err.Error(), "belongs to another source of keys, upstream:generic")
}

// TestResilienceCopy: with a copy, what was answered is answered again while
// the vendor is down, to the byte, and after a restart; nothing is invented.
func TestResilienceCopy(t *testing.T) {
	for vendor, scheme := range map[string]string{vendorsim.Axinom: "cbcs", vendorsim.Generic: "cenc"} {
		b := newBench(t)
		s := startSim(t, vendor, vendorsim.Options{})
		tn := b.tenant(s.upstream(t, func(u *upstream.Settings) { u.Copy = true }))
		o := encryptor.Options{Service: encryptor.MediaPackageV2, Version: encryptor.V20, Scheme: scheme, Systems: []string{"widevine", "playready"}}
		if scheme == "cbcs" {
			o.Systems = append(o.Systems, "fairplay")
		}
		dash := o
		dash.Systems, dash.Force = []string{"widevine"}, true
		first := b.must(tn, build(t, o))
		v1 := encryptor.Options{Service: encryptor.MediaConvert, Version: encryptor.V10, ContentID: "movie-v1"}
		b.must(tn, build(t, v1))
		s.Close()
		again := b.must(tn, build(t, o))
		if string(first.Body) != string(again.Body) {
			t.Errorf("%s: the copy has another answer\n%s\n%s", vendor, first.Body, again.Body)
		}
		b.must(tn, build(t, dash))
		b.must(tn, build(t, v1))
		if x := b.last(); x.AnsweredBy != "copy of "+vendor || x.Calls[0].Fault == "" {
			t.Errorf("%+v", x)
		}
		if n := b.gate.Health()[0].Copies; n != 3 {
			t.Errorf("%d copies", n)
		}
		contains(t, b.log.String(), "answered from the resilience copy")

		other := o
		other.ContentID = "movie-2"
		if _, err := b.ask(tn, build(t, other)); err == nil {
			t.Error("a key was invented")
		}
		contains(t, b.last().CopyError, "no such content key")

		other = o
		other.Packaging, other.Systems, other.Force = encryptor.Smooth, []string{"playready"}, true
		if _, err := b.ask(tn, build(t, other)); err == nil {
			t.Error("signaling was invented")
		}

		restarted := gateway.New(b.keys, rand.Reader, time.Now, gateway.Options{})
		defer restarted.Close(t.Context()) //nolint:errcheck // it has nothing to say
		r := build(t, o)
		req, err := speke.ParseRequest(r.Header, r.Body, &tn.Policy)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := restarted.Provide(t.Context(), tn, req); err != nil || string(a.Body) != string(first.Body) {
			t.Errorf("after a restart: %v", err)
		}
	}
}

// TestChangedKey: a vendor whose key for a key ID is another one than before,
// which a copy can tell, would make content that no license opens.
func TestChangedKey(t *testing.T) {
	b := newBench(t)
	one, two := startSim(t, vendorsim.Generic, vendorsim.Options{}), startSim(t, vendorsim.Generic, vendorsim.Options{Seed: "another"})
	copied := func(u *upstream.Settings) { u.Copy = true }
	b.must(b.tenant(one.upstream(t, copied)), build(t, twoKeys))
	_, err := b.ask(b.tenant(two.upstream(t, copied)), build(t, twoKeys))
	var fault *gateway.Fault
	if !errors.As(err, &fault) || fault.Kind != gateway.Conflict {
		t.Fatal(err)
	}
	contains(t, err.Error(), "had another content key")
}

// TestNoRecordNoKeys: when the key IDs cannot be recorded, no key leaves.
func TestNoRecordNoKeys(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	tn := b.tenant(s.upstream(t))
	if err := b.keys.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a, err := b.ask(tn, build(t, twoKeys)); err == nil {
		t.Errorf("answered %v", a.KIDs)
	}
}

// TestHedge: a second request overtakes one that hangs.
func TestHedge(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	var n atomic.Int64
	front := stub(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			io.Copy(io.Discard, r.Body) //nolint:errcheck // or the server does not see that the client leaves
			<-r.Context().Done()
			return
		}
		res, body := forward(t, s, r)
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.Write(body) //nolint:errcheck // a test's own client
	})
	up := s.upstream(t, func(u *upstream.Settings) {
		u.URL, u.Hedge = strings.Replace(u.URL, s.URL, front.URL, 1), upstream.Duration(20*time.Millisecond)
	})
	start := time.Now()
	b.must(b.tenant(up), build(t, twoKeys))
	if took := time.Since(start); took > 3*time.Second || b.gate.Health()[0].Hedged != 1 {
		t.Errorf("%s, %+v", took, b.gate.Health()[0])
	}
}

// TestHeartbeat: a vendor's heartbeat is asked and shown.
func TestHeartbeat(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.PallyCon, vendorsim.Options{})
	tn := b.tenant(s.upstream(t))
	if err := b.gate.Prepare(tn); err != nil {
		t.Fatal(err)
	}
	if failed := b.gate.Heartbeats(t.Context(), "acme"); len(failed) != 0 || b.gate.Health()[0].Heartbeat.IsZero() {
		t.Errorf("%v %+v", failed, b.gate.Health())
	}
	s.Close()
	if failed := b.gate.Heartbeats(t.Context(), "acme"); failed["pallycon"] == nil || b.gate.Health()[0].HeartbeatError == "" {
		t.Errorf("%v %+v", failed, b.gate.Health())
	}
}

// TestSettingsChange: new settings take the place of old ones with the next
// request; the same ones, loaded again, keep what is known of the upstream.
func TestSettingsChange(t *testing.T) {
	b := newBench(t)
	one, two := startSim(t, vendorsim.Generic, vendorsim.Options{}), startSim(t, vendorsim.Generic, vendorsim.Options{})
	b.must(b.tenant(one.upstream(t)), build(t, twoKeys))
	b.must(b.tenant(one.upstream(t)), build(t, twoKeys))
	if h := b.gate.Health(); len(h) != 1 || h[0].Answered != 2 {
		t.Errorf("%+v", h)
	}
	b.must(b.tenant(two.upstream(t)), build(t, twoKeys))
	if h := b.gate.Health(); len(h) != 1 || h[0].Origin != two.URL || len(two.requests()) != 1 {
		t.Errorf("%+v", h)
	}
}

// TestLocalKeepsOut: a key ID of an upstream never gets a key of our own.
func TestLocalKeepsOut(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	r := build(t, twoKeys)
	b.must(b.tenant(s.upstream(t)), r)
	local := (&tenant.Settings{ID: "acme"})
	tn, err := local.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provideLocally(context.WithoutCancel(t.Context()), b, tn, r); err == nil {
		t.Error("answered")
	}
	if _, err := b.keys.Lookup(t.Context(), "acme", []contentkey.KID{r.Keys[0].KID}); err == nil {
		t.Error("there is a key")
	}
}
