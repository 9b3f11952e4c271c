package gateway

import (
	"slices"
	"strings"
	"sync"
	"time"

	"spekeasy/contentkey"
	"spekeasy/speke"
)

// Exchange is what happened to one request, for people who look for a fault.
// It holds neither content keys nor credentials.
type Exchange struct {
	RequestID string        `json:"request_id"`
	Time      time.Time     `json:"time"`
	Took      time.Duration `json:"took_ns"`
	Tenant    string        `json:"tenant"`

	// What arrived.
	Profile   string        `json:"profile"`
	ContentID string        `json:"content_id"`
	Scheme    string        `json:"scheme"`
	Encrypted bool          `json:"encrypted,omitzero"` // encrypted content keys were asked for
	Keys      []ExchangeKey `json:"keys"`
	Systems   []string      `json:"systems"` // names
	Request   string        `json:"request"` // the document, cut short

	// What was asked of whom, and what came of it.
	Calls      []*Call `json:"calls"`
	AnsweredBy string  `json:"answered_by,omitzero"` // an upstream, or a copy of its keys; empty when it failed
	CopyError  string  `json:"copy_error,omitzero"`  // why the resilience copy could not answer
	Error      string  `json:"error,omitzero"`       // what was wrong in the end
}

// ExchangeKey is one content key of a request.
type ExchangeKey struct {
	Requested contentkey.KID `json:"requested"`
	Answered  contentkey.KID `json:"answered,omitzero"`
	Tracks    []string       `json:"tracks,omitempty"`
	Periods   []string       `json:"periods,omitempty"`
}

// Call is what was asked of one upstream.
type Call struct {
	Upstream string        `json:"upstream"`
	Origin   string        `json:"origin"`
	Time     time.Time     `json:"time"`
	Took     time.Duration `json:"took_ns"`
	Profile  string        `json:"profile,omitzero"`  // the version it was asked in
	Requests int           `json:"requests,omitzero"` // how many it took
	Verbatim bool          `json:"verbatim,omitzero"` // the encryptor's own document went up
	Sent     string        `json:"sent,omitzero"`     // the first document, cut short, if another one
	Relayed  bool          `json:"relayed,omitzero"`  // the answer went down as it came
	Received string        `json:"received,omitzero"` // a document that was wrong, cut short and redacted
	Fixes    []string      `json:"fixes,omitempty"`   // what was changed of the answer
	Fault    string        `json:"fault,omitzero"`    // what was wrong

	mu sync.Mutex // of Received, while several requests are under way
}

// maxKept bounds the documents that are kept of an exchange.
const maxKept = 4 << 10

func clip(s string) string {
	if len(s) > maxKept {
		return strings.Clone(strings.ToValidUTF8(s[:maxKept], "")) + " ..."
	}
	return strings.Clone(s)
}

func newExchange(now time.Time, id, tenant string, req *speke.Request) *Exchange {
	x := &Exchange{
		RequestID: strings.Clone(id), Time: now, Tenant: tenant, Profile: req.Profile.String(), ContentID: strings.Clone(req.ContentID),
		Scheme: req.Scheme.String(), Encrypted: req.Encrypted(), Keys: make([]ExchangeKey, len(req.Keys)), Request: clip(req.Document().Source()),
	}
	for i := range req.Keys {
		x.Keys[i].Requested = req.Keys[i].KID
		for _, u := range req.Keys[i].Uses {
			if u.Track != "" {
				x.Keys[i].Tracks = append(x.Keys[i].Tracks, strings.Clone(u.Track))
			}
			if !u.Period.IsZero() {
				x.Keys[i].Periods = append(x.Keys[i].Periods, strings.Clone(u.Period.Name()))
			}
		}
	}
	for i := range req.Systems {
		if name := req.Systems[i].Name(); !slices.Contains(x.Systems, name) {
			x.Systems = append(x.Systems, name)
		}
	}
	return x
}

func (x *Exchange) begin(s *source, now time.Time) *Call {
	c := &Call{Upstream: s.set.Name, Origin: s.set.Origin(), Time: now}
	x.Calls = append(x.Calls, c)
	return c
}

func (x *Exchange) skipped(s *source, err error) {
	x.Calls = append(x.Calls, &Call{Upstream: s.set.Name, Origin: s.set.Origin(), Fault: "not asked: " + err.Error()})
}

func (x *Exchange) end(now time.Time, a *speke.Answer, err error) {
	x.Took = now.Sub(x.Time)
	if err != nil {
		x.Error = err.Error()
		return
	}
	for i, kid := range a.KIDs {
		x.Keys[i].Answered = kid
	}
}

func (c *Call) sent(parts []part) {
	c.Profile, c.Requests, c.Verbatim = parts[0].profile.String(), len(parts), parts[0].verbatim
	if !c.Verbatim {
		c.Sent = clip(parts[0].body)
	}
}

func (c *Call) received(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.Received == "" {
		c.Received = text
	}
}

func (c *Call) end(now time.Time, h *harvest, f *Fault) {
	c.Took = now.Sub(c.Time)
	if f != nil {
		c.Fault = f.Error()
		return
	}
	c.Relayed, c.Fixes = h.body != nil, h.fixes.names()
}

// ring keeps the latest exchanges.
type ring struct {
	limit int

	mu   sync.Mutex
	all  []*Exchange
	next int // the oldest one, once it is full
}

func (r *ring) add(x *Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.all) < r.limit {
		r.all = append(r.all, x)
		return
	}
	r.all[r.next] = x
	r.next = (r.next + 1) % r.limit
}

// latest returns the exchanges, newest first.
func (r *ring) latest() []*Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*Exchange, 0, len(r.all))
	for i := range r.all {
		out = append(out, r.all[(r.next+len(r.all)-1-i)%len(r.all)])
	}
	return out
}

// Exchange returns what happened to the request with that ID, the latest one
// of a tenant, as long as it is remembered. tenant "" finds any.
func (g *Gateway) Exchange(tenant, requestID string) (*Exchange, bool) {
	for _, x := range g.ring.latest() {
		if x.RequestID == requestID && (tenant == "" || x.Tenant == tenant) {
			return x, true
		}
	}
	return nil, false
}

// Exchanges returns the latest requests that are remembered, newest first:
// all, or those of one tenant.
func (g *Gateway) Exchanges(tenant string) []*Exchange {
	all := g.ring.latest()
	out := all[:0]
	for _, x := range all {
		if tenant == "" || x.Tenant == tenant {
			out = append(out, x)
		}
	}
	return out
}
