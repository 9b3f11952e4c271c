package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

// checked is a request and an upstream whose answers are checked without a
// network.
type checked struct {
	tenant  *tenant.Tenant
	source  *source
	request *encryptor.Request
}

func newChecked(tb testing.TB, o encryptor.Options, change func(*upstream.Settings)) *checked {
	tb.Helper()
	up := &upstream.Settings{Vendor: "generic", URL: "http://vendor.example"}
	change(up)
	settings := tenant.Settings{ID: "acme", Upstream: up}
	tn, err := settings.Build()
	if err != nil {
		tb.Fatal(err)
	}
	s, err := newSource(tn.Upstream, "acme", time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	o.ContentID = "movie-1"
	r, err := o.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return &checked{tn, s, r}
}

// vendor is what a simulated vendor answers.
func (c *checked) vendor(tb testing.TB, faults ...vendorsim.Fault) []byte {
	tb.Helper()
	sim, err := vendorsim.New(vendorsim.Generic, vendorsim.Options{Faults: faults})
	if err != nil {
		tb.Fatal(err)
	}
	stands, err := sim.Upstream("http://vendor.example")
	if err != nil {
		tb.Fatal(err)
	}
	up, err := upstream.ParseWord(stands.Word())
	if err != nil {
		tb.Fatal(err)
	}
	q := httptest.NewRequestWithContext(tb.Context(), http.MethodPost, up.URL, bytes.NewReader(c.request.Body))
	q.Header = c.request.Header.Clone()
	q.SetBasicAuth(up.Auth.Basic.User, string(up.Auth.Basic.Password))
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, q)
	if w.Code != http.StatusOK {
		tb.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func (c *checked) parse(tb testing.TB) *speke.Request {
	tb.Helper()
	req, err := speke.ParseRequest(c.request.Header, c.request.Body, &c.tenant.Policy)
	if err != nil {
		tb.Fatal(err)
	}
	return req
}

// check reads an upstream's answer.
func (c *checked) check(tb testing.TB, req *speke.Request, body []byte) (*harvest, *Fault) {
	kids := make([]contentkey.KID, len(req.Keys))
	for i := range kids {
		kids[i] = req.Keys[i].KID
	}
	parts, f := c.source.plan(req, kids)
	if f != nil {
		tb.Fatal(f)
	}
	a, f := c.source.read(&parts[0], &reply{header: make(http.Header), body: body})
	if f != nil {
		return nil, f
	}
	return c.source.collect(c.tenant, req, []*answer{a})
}

var twoKeys = encryptor.Options{Service: encryptor.MediaPackageV2, Version: encryptor.V20, VideoPreset: "PRESET-VIDEO-1", AudioPreset: "PRESET-AUDIO-1"}

// valuesByKID reads the content keys of a document with the XML reader of the
// standard library, which takes more than ours does: all that could be a key.
func valuesByKID(body []byte) (map[string][]contentkey.Value, error) {
	var doc struct {
		Keys []struct {
			Attrs  []xml.Attr `xml:",any,attr"`
			Values []string   `xml:"Data>Secret>PlainValue"`
		} `xml:"ContentKeyList>ContentKey"`
	}
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, err
	}
	all := make(map[string][]contentkey.Value)
	for _, k := range doc.Keys {
		for _, a := range k.Attrs {
			if a.Name.Local != "kid" {
				continue
			}
			kid := strings.ToLower(strings.TrimSpace(a.Value))
			for _, text := range k.Values {
				b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
				if err == nil && len(b) == len(contentkey.Value{}) {
					all[kid] = append(all[kid], contentkey.Value(b))
				}
			}
		}
	}
	return all, nil
}

// swapped has the content keys of a document in reverse order.
func swapped(doc []byte) []byte {
	all := regexp.MustCompile(`(?s)<cpix:ContentKey .*?</cpix:ContentKey>`).FindAll(doc, -1)
	n := len(all)
	return regexp.MustCompile(`(?s)<cpix:ContentKey .*?</cpix:ContentKey>`).ReplaceAllFunc(doc, func([]byte) []byte {
		n--
		return all[n]
	})
}

// FuzzAnswer: whatever an upstream answers, the encryptor gets an error, or a
// content key for each key ID that it asked for: the one that the upstream
// has under that key ID. Where the upstream may choose key IDs, it is the one
// that it has under the key ID that it chose.
func FuzzAnswer(f *testing.F) {
	keep := func(*upstream.Settings) {}
	cases := []*checked{
		newChecked(f, twoKeys, keep),
		newChecked(f, encryptor.Options{Service: encryptor.MediaConvert, Version: encryptor.V10}, keep),
		newChecked(f, twoKeys, func(s *upstream.Settings) { s.KIDPolicy = upstream.KIDAny }),
	}
	for n, c := range cases {
		good := c.vendor(f)
		f.Add(uint8(n), good)
		f.Add(uint8(n), good[:len(good)/2])
		f.Add(uint8(n), bytes.ReplaceAll(good, []byte("cpix:"), []byte("")))
		f.Add(uint8(n), []byte(`{"error":"no"}`))
		f.Add(uint8(n), swapped(good))
		for _, kind := range []string{
			vendorsim.FaultWrongKID, vendorsim.FaultWrongContent, vendorsim.FaultNoKey, vendorsim.FaultUpperCase,
			vendorsim.FaultNoRules, vendorsim.FaultNoPlaylist, vendorsim.FaultV1, vendorsim.FaultBareData, vendorsim.FaultContract,
		} {
			f.Add(uint8(n), c.vendor(f, vendorsim.Fault{Kind: kind, Probability: 1}))
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, body []byte) {
		c := cases[int(n)%len(cases)]
		req := c.parse(t)
		h, fault := c.check(t, req, body)
		if fault != nil {
			return
		}
		out := h.body
		if out == nil {
			var err error
			if out, err = req.Answer(h.grants, h.signaling, nil); err != nil {
				return
			}
		}
		theirs, err := valuesByKID(body)
		if err != nil {
			return // this reader does not know the encoding, and cannot tell
		}
		ours, err := valuesByKID(out)
		if err != nil {
			t.Fatalf("what goes down cannot be read: %v\n%s", err, out)
		}
		if len(ours) != len(req.Keys) {
			t.Fatalf("%d key IDs go down where %d were asked for", len(ours), len(req.Keys))
		}
		for i := range req.Keys {
			kid := h.kids[i]
			if c.source.set.KIDPolicy == upstream.KIDKeep && kid != req.Keys[i].KID {
				t.Errorf("key ID %s became %s", req.Keys[i].KID, kid)
			}
			values := ours[kid.String()]
			if len(values) != 1 || values[0] != h.grants[i].Value || !slices.Contains(theirs[kid.String()], values[0]) {
				t.Errorf("key ID %s: %d keys go down, which the upstream does not have\nits answer\n%s\nours\n%s", kid, len(values), body, out)
			}
		}
	})
}

// TestAnswersGetThrough: what the fuzz target holds is not held for want of
// answers that pass.
func TestAnswersGetThrough(t *testing.T) {
	c := newChecked(t, twoKeys, func(*upstream.Settings) {})
	if h, f := c.check(t, c.parse(t), swapped(c.vendor(t))); f != nil || h.fixes.String() != "order" {
		t.Errorf("swapped content keys: %v", f)
	}
	if h, f := c.check(t, c.parse(t), c.vendor(t)); f != nil || h.body == nil {
		t.Errorf("a good answer is not relayed: %v", f)
	}
	for _, kind := range []string{vendorsim.FaultUpperCase, vendorsim.FaultNoRules, vendorsim.FaultV1} {
		if h, f := c.check(t, c.parse(t), c.vendor(t, vendorsim.Fault{Kind: kind, Probability: 1})); f != nil || h.body != nil || h.fixes == 0 {
			t.Errorf("%s is not repaired: %v", kind, f)
		}
	}
}

// BenchmarkCheck measures what is done to an answer that needs no repair: it
// is read, held against the request, and found good.
func BenchmarkCheck(b *testing.B) {
	for name, o := range map[string]encryptor.Options{
		"2keys,2systems": twoKeys,
		"8keys,3systems": {Service: encryptor.MediaPackageV2, Version: encryptor.V20, VideoPreset: "PRESET-VIDEO-5", AudioPreset: "PRESET-AUDIO-3"},
	} {
		b.Run(name, func(b *testing.B) {
			c := newChecked(b, o, func(*upstream.Settings) {})
			req, body := c.parse(b), c.vendor(b)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if h, f := c.check(b, req, body); f != nil || h.body == nil {
					b.Fatal(f, "not relayed")
				}
			}
		})
	}
}
