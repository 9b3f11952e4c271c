package vendorsim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/cpix"
	"spekeasy/internal/vendorsim"
)

func always(kind string) vendorsim.Options {
	return vendorsim.Options{Faults: []vendorsim.Fault{{Kind: kind, Probability: 1}}, Delay: 50 * time.Millisecond}
}

func TestBrokenConnections(t *testing.T) {
	for _, kind := range []string{vendorsim.FaultReset, vendorsim.FaultHalf} {
		s := start(t, vendorsim.Generic, always(kind))
		if a, err := s.try(s.up.V1.String(), testdata(t, "v1.xml"), s.basic()); err == nil {
			t.Errorf("%s: status %s and %d bytes without an error", kind, a.Status, len(a.body))
		}
	}
}

func TestHang(t *testing.T) {
	s := start(t, vendorsim.Generic, always(vendorsim.FaultHang))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.try(s.up.V1.String(), testdata(t, "v1.xml"), s.basic(), func(r *http.Request) { *r = *r.WithContext(ctx) })
	if err == nil || ctx.Err() == nil {
		t.Errorf("error %v before the client gave up", err)
	}
}

func TestSlow(t *testing.T) {
	s := start(t, vendorsim.Generic, always(vendorsim.FaultSlow))
	from := time.Now()
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), s.basic()).document(t)
	if took := time.Since(from); took < 50*time.Millisecond {
		t.Errorf("answered after %s", took)
	}
}

// TestBadAnswers holds that each fault of the answer's content is one: what
// comes with status 200 is not what was asked for.
func TestBadAnswers(t *testing.T) {
	ask := testdata(t, "v2.xml")
	right := start(t, vendorsim.Generic, vendorsim.Options{})
	good := right.post(right.up.V2.String(), ask, right.basic(), v2).body
	for kind, bad := range map[string]func(t *testing.T, body []byte, d *cpix.Document) bool{
		vendorsim.FaultCut:   func(_ *testing.T, b []byte, d *cpix.Document) bool { return d == nil && len(b) == len(good)/2 },
		vendorsim.FaultEmpty: func(_ *testing.T, b []byte, _ *cpix.Document) bool { return len(b) == 0 },
		vendorsim.FaultHTML: func(_ *testing.T, b []byte, d *cpix.Document) bool {
			return d == nil && bytes.Contains(b, []byte("<html>"))
		},
		vendorsim.FaultJSON: func(_ *testing.T, b []byte, _ *cpix.Document) bool { return json.Valid(b) },
		vendorsim.FaultWrongKID: func(_ *testing.T, _ []byte, d *cpix.Document) bool {
			return d.ContentKeys[0].KID != d.DRMSystems[0].KID && d.ContentKeys[1].KID == d.DRMSystems[2].KID
		},
		vendorsim.FaultWrongContent: func(_ *testing.T, _ []byte, d *cpix.Document) bool { return d.ContentID == "movie2-other" },
		vendorsim.FaultNoKey: func(_ *testing.T, _ []byte, d *cpix.Document) bool {
			return d.ContentKeys[0].Secret.IsZero() && !d.ContentKeys[1].Secret.IsZero()
		},
		vendorsim.FaultContract: func(_ *testing.T, _ []byte, d *cpix.Document) bool {
			return d.UsageRules[0].IntendedTrackType == "OTHER" && d.UsageRules[1].IntendedTrackType == "AUDIO"
		},
		vendorsim.FaultNoRules: func(_ *testing.T, _ []byte, d *cpix.Document) bool { return len(d.UsageRules) == 0 },
		vendorsim.FaultUpperCase: func(_ *testing.T, b []byte, _ *cpix.Document) bool {
			return bytes.Contains(b, []byte(`systemId="94CE86FB-`))
		},
		vendorsim.FaultNoPlaylist: func(_ *testing.T, b []byte, _ *cpix.Document) bool {
			return !bytes.Contains(b, []byte(`playlist="media"`))
		},
		vendorsim.FaultV1: func(_ *testing.T, b []byte, _ *cpix.Document) bool {
			return bytes.Contains(b, []byte(cpix.NamespaceSPEKE))
		},
		vendorsim.FaultBareData: func(t *testing.T, _ []byte, d *cpix.Document) bool {
			return !strings.Contains(signal(t, d, cpix.PSSH), "pssh")
		},
	} {
		t.Run(kind, func(t *testing.T) {
			s := start(t, vendorsim.Generic, always(kind))
			a := s.post(s.up.V2.String(), ask, s.basic(), v2)
			d, _ := cpix.Parse(a.body)
			if a.StatusCode != 200 || bytes.Equal(a.body, good) || !bad(t, a.body, d) {
				t.Errorf("status %s, %s", a.Status, a.body)
			}
		})
	}
}

func TestStatusFaults(t *testing.T) {
	for vendor, header := range map[string]string{vendorsim.Axinom: "X-Axdrm-Errormessage", vendorsim.Insys: "", vendorsim.PallyCon: "", vendorsim.KeyOS: "", vendorsim.Generic: ""} {
		s := start(t, vendor, always("503"))
		a := s.post(s.up.V1.String(), testdata(t, "v1.xml"))
		if a.StatusCode != 503 || header != "" && a.Header.Get(header) == "" {
			t.Errorf("%s: status %s, %v", vendor, a.Status, a.Header)
		}
	}
}

// TestDeniedOnce holds that a request denied by the fault passes as it is the
// next time.
func TestDeniedOnce(t *testing.T) {
	s := start(t, vendorsim.Axinom, always(vendorsim.FaultDenied))
	for range 2 {
		if a := s.post(s.up.V1.String(), testdata(t, "v1.xml"), s.basic()); a.StatusCode != 401 {
			t.Fatalf("first try: %s", a.Status)
		}
		s.post(s.up.V1.String(), testdata(t, "v1.xml"), s.basic()).document(t)
	}
}

func TestExpire(t *testing.T) {
	var calls atomic.Int64
	o := always(vendorsim.FaultExpire)
	o.Faults[0].Probability = 0.5
	o.Chance = func() float64 { return float64(calls.Add(1)%2) * 0.9 } // strikes the second, fourth ...
	s := start(t, vendorsim.Insys, o)
	token := func() with {
		a := s.post(s.up.TokenURL.String()+"?grant_type=client_credentials&scope="+s.up.Scope, nil, s.basic())
		var token struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.Unmarshal(a.body, &token); err != nil {
			t.Fatal(err)
		}
		return header("Authorization", "Bearer "+token.AccessToken)
	}
	bearer := token()
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), bearer).document(t)
	if a := s.post(s.up.V1.String(), testdata(t, "v1.xml"), bearer); a.StatusCode != 401 {
		t.Errorf("ended token: %s", a.Status)
	}
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), token()).document(t)
}

func TestObserve(t *testing.T) {
	seen := make(chan vendorsim.Exchange, 1)
	s := start(t, vendorsim.Generic, vendorsim.Options{
		Faults:  []vendorsim.Fault{{Kind: "500", Probability: 1}},
		Observe: func(x vendorsim.Exchange) { seen <- x },
	})
	s.post(s.up.V1.String(), testdata(t, "v1.xml"), s.basic())
	if x := <-seen; x.Status != 500 || x.Fault != "500" || x.Header.Get("Authorization") == "" || !bytes.Equal(x.Body, testdata(t, "v1.xml")) {
		t.Errorf("%+v", x)
	}
}

func TestParseFault(t *testing.T) {
	for text, want := range map[string]vendorsim.Fault{
		"slow":      {Kind: "slow", Probability: 1},
		"503:0.25":  {Kind: "503", Probability: 0.25},
		"401once:0": {Kind: "401once", Probability: 0},
	} {
		if got, err := vendorsim.ParseFault(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "fire", "200", "slow:", "slow:2", "slow:-1", "slow:NaN", "slow:x"} {
		if f, err := vendorsim.ParseFault(text); err == nil {
			t.Errorf("%q is %+v", text, f)
		}
	}
}
