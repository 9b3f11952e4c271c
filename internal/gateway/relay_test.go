package gateway_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
)

// TestRelay: what was validated goes up to the byte, and a good answer comes
// down to the byte.
func TestRelay(t *testing.T) {
	b := newBench(t)
	var came []byte
	var agent string
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	tap := stub(t, func(w http.ResponseWriter, r *http.Request) {
		res, body := forward(t, s, r)
		came, agent = body, res.Header.Get("X-Speke-User-Agent")
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.Write(body) //nolint:errcheck // a test's own client
	})
	up := s.upstream(t, func(u *upstream.Settings) { u.URL = strings.Replace(u.URL, s.URL, tap.URL, 1) })
	r := build(t, twoKeys)
	a := b.must(b.tenant(up), r)
	if up := s.requests()[0]; string(up.Body) != string(r.Body) || up.Header.Get("X-Speke-Version") != "2.0" {
		t.Errorf("went up changed:\n%s", up.Body)
	}
	if string(came) != string(a.Body) {
		t.Errorf("came down changed:\n%s", a.Body)
	}
	if a.Source != "generic" {
		t.Errorf("source %q", a.Source)
	}
	if a.UserAgent == "" || a.UserAgent != agent {
		t.Errorf("the upstream's name is %q", a.UserAgent)
	}
	x := b.last()
	if c := x.Calls[0]; !c.Verbatim || !c.Relayed || c.Fixes != nil || c.Sent != "" || x.AnsweredBy != "generic" || x.Keys[0].Answered != r.Keys[0].KID || x.Keys[0].Tracks[0] != "VIDEO" {
		t.Errorf("%+v %+v", x, c)
	}
	if h := b.gate.Health()[0]; h.LastSuccess.IsZero() || h.Answered != 1 || h.LatencyMedian == 0 || h.State != "closed" || h.LastError != "" {
		t.Errorf("%+v", h)
	}
}

// TestOddities: each oddity that an encryptor would stumble over is repaired,
// counted by name, told in the log once and in the diagnosis each time. With
// repairs switched off it is an error.
func TestOddities(t *testing.T) {
	off := false
	for fault, fix := range map[string]gateway.Fix{
		vendorsim.FaultNoRules:    gateway.FixContract,
		vendorsim.FaultNoPeriods:  gateway.FixPeriods,
		vendorsim.FaultUpperCase:  gateway.FixGUID,
		vendorsim.FaultNoPlaylist: gateway.FixPlaylist,
		vendorsim.FaultV1:         gateway.FixV1,
		vendorsim.FaultBareData:   gateway.FixBox,
	} {
		for _, scheme := range []string{"cenc", "cbcs"} {
			t.Run(fault+" "+scheme, func(t *testing.T) {
				b := newBench(t)
				s := startSim(t, vendorsim.Axinom, always(fault))
				r := build(t, encryptor.Options{Service: encryptor.MediaPackageV2, Version: encryptor.V20, Scheme: scheme, Systems: []string{"widevine", "playready"}})
				a := b.must(b.tenant(s.upstream(t)), r)
				for _, k := range a.read.Keys {
					if want, _, _ := s.keys.Make("vendorsim", k.KID); k.Value != want {
						t.Error("another key")
					}
				}
				c := b.last().Calls[0]
				if c.Relayed || !slices.Contains(c.Fixes, fix.String()) || b.gate.Health()[0].Fixes[fix.String()] != 1 {
					t.Errorf("%+v %+v", c, b.gate.Health()[0])
				}
				b.must(b.tenant(s.upstream(t)), r)
				if n := strings.Count(b.log.String(), "need repair"); n != 1 {
					t.Errorf("told %d times: %s", n, b.log)
				}

				_, err := b.ask(b.tenant(s.upstream(t, func(u *upstream.Settings) { u.Fixups = &off })), r)
				var f *gateway.Fault
				if !errors.As(err, &f) || f.Kind != gateway.Invalid || !strings.Contains(f.Sentence, fix.String()) {
					t.Errorf("with repairs switched off: %v", err)
				}
			})
		}
	}
}

// TestRecords: what is recorded of each key ID, before the answer is there.
func TestRecords(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	r := build(t, encryptor.Options{
		Service: encryptor.MediaPackageV2, Version: encryptor.V21, Scheme: "cbcs", Systems: []string{"widevine", "fairplay"},
		Periods: []contentkey.Period{{Index: "7", Start: "2026-11-22T12:00:00Z", End: "2026-11-22T12:05:00Z"}},
	})
	b.must(b.tenant(s.upstream(t)), r)
	bound := b.bound("movie-1")
	if len(bound) != 2 {
		t.Fatalf("%v", bound)
	}
	for _, k := range r.Keys {
		x := bound[k.KID]
		if x.Requested != k.KID || x.Track != k.Uses[0].Track || x.Scheme != contentkey.Cbcs || x.Period != k.Uses[0].Period || x.Profile != "2.1" ||
			!slices.Equal(x.Systems, []string{"94ce86fb-07ff-4f43-adb8-93d2fa968ca2", "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"}) || x.IV != k.ExplicitIV {
			t.Errorf("%+v", x)
		}
		records, err := b.store.Keys(t.Context(), "acme", []contentkey.KID{k.KID})
		if err != nil || len(records) != 1 || records[0].Source != "upstream:generic" {
			t.Fatalf("%+v %v", records, err)
		}
		if _, err := b.keys.Lookup(t.Context(), "acme", []contentkey.KID{k.KID}); err == nil {
			t.Error("a content key is kept without a resilience copy")
		}
	}
}

// TestKIDs: key IDs by our rule, by the vendor's on request, and the vendor's
// own where that is not allowed (SX-KID-01 to -06).
func TestKIDs(t *testing.T) {
	r := build(t, twoKeys)
	for name, c := range map[string]struct {
		vendor  string
		up      func(*upstream.Settings)
		tenant  func(*tenant.Settings)
		changes bool
		header  string // that the vendor got
		query   string
	}{
		"kept":           {vendor: vendorsim.Axinom},
		"our rule":       {vendor: vendorsim.Axinom, tenant: func(s *tenant.Settings) { s.KIDRule = "uuidv5" }, changes: true},
		"Axinom's rule":  {vendor: vendorsim.Axinom, up: func(u *upstream.Settings) { u.KIDPolicy = upstream.KIDOverride }, changes: true, query: "overrideKeyIds=true"},
		"KeyOS's rule":   {vendor: vendorsim.KeyOS, up: func(u *upstream.Settings) { u.KIDPolicy, u.KIDOverride = upstream.KIDOverride, "keyos-uuidv5" }, changes: true, header: "keyos-uuidv5"},
		"PallyCon's own": {vendor: vendorsim.PallyCon, changes: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s := startSim(t, c.vendor, vendorsim.Options{})
			var changes []func(*tenant.Settings)
			if c.tenant != nil {
				changes = append(changes, c.tenant)
			}
			tn := b.tenant(s.upstream(t, func(u *upstream.Settings) {
				if c.up != nil {
					c.up(u)
				}
			}), changes...)
			a := b.must(tn, r)
			for i, k := range a.read.Keys {
				if (k.KID != r.Keys[i].KID) != c.changes {
					t.Errorf("key ID %s for %s", k.KID, r.Keys[i].KID)
				}
				if x := b.bound("movie-1")[k.KID]; x.Requested != r.Keys[i].KID || x.Track != r.Keys[i].Uses[0].Track {
					t.Errorf("recorded %+v", x)
				}
				if x := b.last().Keys[i]; x.Requested != r.Keys[i].KID || x.Answered != k.KID {
					t.Errorf("remembered %+v", x)
				}
			}
			got := s.requests()[0]
			if got.Header.Get("Kid-Override") != c.header || !strings.Contains(got.URL.RawQuery, c.query) {
				t.Errorf("%v %v", got.URL, got.Header)
			}
		})
	}

	b := newBench(t)
	s := startSim(t, vendorsim.PallyCon, vendorsim.Options{})
	_, err := b.ask(b.tenant(s.upstream(t, func(u *upstream.Settings) { u.KIDPolicy = upstream.KIDKeep })), r)
	if err == nil {
		t.Fatal("a key ID that the policy does not allow was answered")
	}
	contains(t, err.Error(), "without a content key for key ID "+r.Keys[0].KID.String())
}

// TestPeriodsAndTracks: key periods that are pinned are not told upstream and
// come back; tracks are told under the vendor's names.
func TestPeriodsAndTracks(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	o := twoKeys
	o.Periods = []contentkey.Period{{Index: "3"}}
	r := build(t, o)
	b.must(b.tenant(s.upstream(t, func(u *upstream.Settings) {
		u.Periods, u.Tracks = upstream.PeriodsPin, map[string]string{"VIDEO": "HD"}
	})), r)
	up := string(s.requests()[0].Body)
	if strings.Contains(up, "Period") || strings.Contains(up, `"VIDEO"`) {
		t.Error(up)
	}
	contains(t, up, `intendedTrackType="HD"`, `intendedTrackType="AUDIO"`)

	_, err := b.ask(b.tenant(s.upstream(t, func(u *upstream.Settings) { u.Periods = upstream.PeriodsRefuse })), r)
	if err == nil {
		t.Fatal("key periods were not refused")
	}
	contains(t, err.Error(), "switch key rotation off")
}

// TestTimesWithoutIndex: SPEKE 2.1 can name periods by times alone, 2.0
// cannot.
func TestTimesWithoutIndex(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Axinom, vendorsim.Options{})
	o := twoKeys
	o.Version, o.Periods = encryptor.V21, []contentkey.Period{{Start: "2026-11-22T12:00:00Z", End: "2026-11-22T12:05:00Z"}}
	_, err := b.ask(b.tenant(s.upstream(t)), build(t, o))
	if err == nil || len(s.requests()) != 0 {
		t.Fatalf("%v, %d requests", err, len(s.requests()))
	}
	contains(t, err.Error(), "period timing")
}
