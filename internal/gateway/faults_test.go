package gateway_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

var twoKeys = encryptor.Options{Service: encryptor.MediaPackageV2, Version: encryptor.V20, Systems: []string{"widevine", "playready"}, Scheme: "cenc"}

func always(kind string) vendorsim.Options {
	return vendorsim.Options{Faults: []vendorsim.Fault{{Kind: kind, Probability: 1}}, Delay: time.Second}
}

func quick(u *upstream.Settings) { u.Timeout = upstream.Duration(300 * time.Millisecond) }

// patient leaves a busy machine time for what does not take any.
func patient(u *upstream.Settings) { u.Timeout = upstream.Duration(10 * time.Second) }

// TestFaults: whatever goes wrong upstream is 502, or 504 for a timeout, with a
// sentence and the request ID (SX-GW-01); nothing is recorded; the fault is in
// health and diagnosis, without content keys and credentials.
func TestFaults(t *testing.T) {
	for kind, want := range map[string]struct {
		status   int
		kind     gateway.Kind
		sentence string
	}{
		vendorsim.FaultSlow:         {504, gateway.Timeout, "did not answer in time"},
		vendorsim.FaultHang:         {504, gateway.Timeout, "did not answer in time"},
		vendorsim.FaultReset:        {502, gateway.Interrupted, "connection to it broke"},
		vendorsim.FaultHalf:         {502, gateway.Interrupted, "broke off"},
		vendorsim.FaultCut:          {502, gateway.NotCPIX, "not all of one"},
		vendorsim.FaultEmpty:        {502, gateway.NotCPIX, "200 with nothing"},
		vendorsim.FaultHTML:         {502, gateway.NotCPIX, "HTML page"},
		vendorsim.FaultJSON:         {502, gateway.NotCPIX, "JSON"},
		vendorsim.FaultWrongKID:     {502, gateway.Invalid, "without a content key for key ID"},
		vendorsim.FaultWrongContent: {502, gateway.Invalid, "another content ID"},
		vendorsim.FaultNoKey:        {502, gateway.Invalid, "without a content key"},
		vendorsim.FaultContract:     {502, gateway.Invalid, "encryption contract"},
		"500":                       {502, gateway.Broken, "status 500"},
		"503":                       {502, gateway.Broken, "status 503"},
		"404":                       {502, gateway.Refused, "status 404"},
		"401":                       {502, gateway.Credentials, "does not accept our credential"},
		"429":                       {502, gateway.Busy, "asked too often"},
	} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t)
			s := startSim(t, vendorsim.Axinom, always(kind))
			timeout := patient
			if want.kind == gateway.Timeout {
				timeout = quick
			}
			tn := b.tenant(s.upstream(t, timeout))
			_, err := b.ask(tn, build(t, twoKeys))
			var refusal *speke.Error
			var fault *gateway.Fault
			if !errors.As(err, &refusal) || !errors.As(err, &fault) {
				t.Fatalf("%v", err)
			}
			if refusal.Status != want.status || fault.Kind != want.kind {
				t.Errorf("status %d, kind %s: %v", refusal.Status, fault.Kind, err)
			}
			contains(t, refusal.Text, want.sentence, "REQ-1", "axinom")
			if got := b.bound("movie-1"); len(got) != 0 {
				t.Errorf("recorded %v", got)
			}
			h := b.gate.Health()[0]
			if h.Failed[want.kind] != 1 || !strings.Contains(h.LastError, want.sentence) || h.LastFailure.IsZero() {
				t.Errorf("health %+v", h)
			}
			x, ok := b.gate.Exchange("acme", "REQ-1")
			if !ok || x.Error == "" || len(x.Calls) != 1 || !strings.Contains(x.Calls[0].Fault, want.sentence) {
				t.Errorf("diagnosis %+v", x)
			}
			hides(t, b, s, err.Error(), x.Calls[0].Received, x.Calls[0].Fault)
		})
	}
}

// hides holds that texts, and the gateway's log, have neither the credential
// of a simulator nor the keys of the movie.
func hides(t *testing.T, b *bench, s *sim, texts ...string) {
	t.Helper()
	up := s.upstream(t)
	var secrets []string
	if up.Auth.Basic != nil {
		secrets = append(secrets, string(up.Auth.Basic.Password))
	}
	if up.Auth.Token != "" {
		secrets = append(secrets, string(up.Auth.Token))
	}
	for _, k := range build(t, twoKeys).Keys {
		v, _, err := s.keys.Make("vendorsim", k.KID)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, base64Of(v[:]), hexOf(v[:]))
	}
	for _, text := range append(texts, b.log.String()) {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in %q", text)
			}
		}
	}
}

// TestRetries: what is safe to repeat is repeated, and nothing else is.
func TestRetries(t *testing.T) {
	for kind, want := range map[string]int{"503": 3, "502": 3, "504": 3, "500": 1, "429": 1, vendorsim.FaultReset: 1, vendorsim.FaultJSON: 1} {
		b := newBench(t)
		s := startSim(t, vendorsim.Generic, always(kind))
		retries := 2
		tn := b.tenant(s.upstream(t, patient, func(u *upstream.Settings) { u.Retries = &retries }))
		if _, err := b.ask(tn, build(t, twoKeys)); err == nil {
			t.Errorf("%s: answered", kind)
		}
		s.Close() // waits for the requests
		if got := len(s.requests()); got != want {
			t.Errorf("%s: %d requests, want %d", kind, got, want)
		}
	}
}

// TestUnreachable: a vendor that is not there at all.
func TestUnreachable(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	s.Close()
	_, err := b.ask(b.tenant(s.upstream(t, quick)), build(t, twoKeys))
	var fault *gateway.Fault
	if !errors.As(err, &fault) || fault.Kind != gateway.Connection {
		t.Errorf("%v", err)
	}
}

// TestPassedOn: an error text of the specification that is about the
// encryptor's own document reaches it as it came; one about a document of ours
// does not (SX-GW-01).
func TestPassedOn(t *testing.T) {
	const text = "Requested CPIX encryption contract not supported"
	for speaks, want := range map[string]string{"2.0": text, "1.0": "status 422"} {
		b := newBench(t)
		s := stub(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, 422) })
		_, err := b.ask(b.tenant(&upstream.Settings{Vendor: "generic", URL: s.URL, SPEKE: speaks}), build(t, twoKeys))
		var refusal *speke.Error
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Text, want) || (refusal.Text == text) != (speaks == "2.0") {
			t.Errorf("speaking %s: %v", speaks, err)
		}
	}
}

// TestBreaker: a vendor that fails again and again is left alone, and found
// again after a pause.
func TestBreaker(t *testing.T) {
	clock := newClock()
	b := newBenchAt(t, clock.now)
	down := true
	var asked int
	s := stub(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		if down {
			w.WriteHeader(500)
			return
		}
		http.Error(w, "Malformed encryption contract", 422)
	})
	tn := b.tenant(&upstream.Settings{Vendor: "generic", URL: s.URL, Breaker: upstream.Breaker{Failures: 3, Pause: upstream.Duration(time.Minute)}})
	try := func() gateway.Kind {
		_, err := b.ask(tn, build(t, twoKeys))
		var fault *gateway.Fault
		if !errors.As(err, &fault) {
			t.Fatal(err)
		}
		return fault.Kind
	}
	for range 3 {
		if k := try(); k != gateway.Broken {
			t.Fatal(k)
		}
	}
	if k := try(); k != gateway.Paused || asked != 3 || b.gate.Health()[0].State != "open" {
		t.Fatalf("%s after %d requests, %s", k, asked, b.gate.Health()[0].State)
	}
	clock.add(time.Minute)
	if s := b.gate.Health()[0].State; s != "half-open" {
		t.Error(s)
	}
	if k := try(); k != gateway.Broken || asked != 4 {
		t.Fatalf("%s after %d requests", k, asked)
	}
	if k := try(); k != gateway.Paused {
		t.Fatal(k)
	}
	clock.add(time.Minute)
	down = false
	if k := try(); k != gateway.Refused { // it is there, and says no
		t.Fatal(k)
	}
	if k := try(); k != gateway.Refused || b.gate.Health()[0].State != "closed" {
		t.Fatalf("%s, %s", k, b.gate.Health()[0].State)
	}
}

// TestEncryptorLeaves: who does not wait is no failure of the vendor's.
func TestEncryptorLeaves(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, always(vendorsim.FaultHang))
	tn := b.tenant(s.upstream(t))
	r := build(t, twoKeys)
	req, err := speke.ParseRequest(r.Header, r.Body, &tn.Policy)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := cancelAfter(t, 50*time.Millisecond)
	defer cancel()
	if _, err := b.gate.Provide(ctx, tn, req); err == nil {
		t.Fatal("answered")
	}
	if h := b.gate.Health()[0]; len(h.Failed) != 0 || h.State != "closed" {
		t.Errorf("%+v", h)
	}
}

// TestClosedConnection: a connection that was kept, and that the vendor has
// closed meanwhile, is replaced without anybody noticing.
func TestClosedConnection(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Generic, vendorsim.Options{})
	tn := b.tenant(s.upstream(t))
	for range 20 {
		b.must(tn, build(t, twoKeys))
		s.CloseClientConnections()
	}
	if h := b.gate.Health()[0]; len(h.Failed) != 0 {
		t.Errorf("%+v", h)
	}
}
