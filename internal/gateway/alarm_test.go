package gateway_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/internal/gateway"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
)

// TestAlarm: the first failure is told, and that all is well again once a
// minute has passed without another one; what lies between is one alarm.
func TestAlarm(t *testing.T) {
	b, at := newBench(t), newClock()
	var told []gateway.Alarm
	b.gate = gateway.New(b.keys, rand.Reader, at.now, gateway.Options{Alarm: func(a gateway.Alarm) { told = append(told, a) }, Log: b.logger()})
	sim := startSim(t, vendorsim.Generic, vendorsim.Options{})
	var status atomic.Int64
	door := stub(t, func(w http.ResponseWriter, r *http.Request) {
		if s := status.Load(); s != 0 {
			w.WriteHeader(int(s))
			io.WriteString(w, "the vendor's own words") //nolint:errcheck // a test's server
			return
		}
		if res, body := forward(t, sim, r); res != nil {
			w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
			w.Write(body) //nolint:errcheck // a test's server
		}
	})
	tn := b.tenant(sim.upstream(t, func(s *upstream.Settings) {
		s.URL, s.URLV2 = strings.Replace(s.URL, sim.URL, door.URL, 1), strings.Replace(s.URLV2, sim.URL, door.URL, 1)
	}))
	r := build(t, twoKeys)
	begin := at.now()
	ask := func(s int64, after time.Duration) {
		t.Helper()
		at.add(after)
		status.Store(s)
		if _, err := b.ask(tn, r); (err == nil) != (s == 0) {
			t.Fatalf("status %d: %v", s, err)
		}
	}
	ask(0, 0)
	ask(404, time.Second) // is about the request
	if len(told) != 0 {
		t.Fatalf("told %+v", told)
	}
	ask(500, time.Minute)
	if len(told) != 1 || !told[0].Failing || told[0].Tenant != "acme" || told[0].Upstream != "generic" || told[0].Failures != 1 ||
		!told[0].Since.Equal(begin.Add(61*time.Second)) || !told[0].LastSuccess.Equal(begin) || told[0].Error != "it answered with status 500" {
		t.Fatalf("%+v", told)
	}
	ask(0, time.Second)
	ask(500, time.Second)
	ask(0, 59*time.Second)
	if len(told) != 1 {
		t.Fatalf("ups and downs: %+v", told)
	}
	if h := b.gate.Health()[0]; !h.FailingSince.Equal(told[0].Since) {
		t.Errorf("health says %v", h.FailingSince)
	}
	ask(0, time.Second)
	if len(told) != 2 || told[1].Failing || told[1].Failures != 2 || !told[1].Since.Equal(told[0].Since) || !told[1].At.Equal(at.now()) {
		t.Fatalf("%+v", told)
	}
	if h := b.gate.Health()[0]; !h.FailingSince.IsZero() {
		t.Errorf("health says %v", h.FailingSince)
	}
	ask(0, time.Hour)
	ask(503, time.Second)
	if len(told) != 3 || !told[2].Failing || told[2].Failures != 1 || !told[2].LastSuccess.Equal(at.now().Add(-time.Second)) {
		t.Fatalf("%+v", told)
	}
	log := b.log.String()
	if strings.Count(log, "level=WARN msg=\"an upstream fails\"") != 2 || strings.Count(log, "msg=\"an upstream serves again\"") != 1 {
		t.Errorf("the log has %s", log)
	}
	contains(t, log, "upstream=generic", "last_success=2026-11-22T12:00:00", `error="it answered with status 500"`)
}
