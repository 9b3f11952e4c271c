// Package gateway answers key requests with the keys of other people's key
// services: the vendors that package upstream describes. It is the other key
// provider beside package keyprovider, behind the same endpoint.
//
// A request that was validated goes up as it came, if the upstream can make
// something of it, and what comes back is checked and goes down as it came.
// Where an answer needs repair, or the upstream speaks another version, keys
// and signaling are taken out of it and spliced into the encryptor's own
// document, so that contract, periods, order and spelling are the encryptor's
// again. Each key ID that is answered is recorded before the answer leaves, and
// belongs to its upstream from then on: keys of two sources never mix.
//
// Whatever an upstream does wrong is a [Fault], which says so in a sentence
// for the encryptor and, in the upstream's own words, redacted, for logs and
// for [Gateway.Exchange].
package gateway

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/requestid"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// Keys is what this package needs of the keystore.
type Keys interface {
	Claim(ctx context.Context, ask *keystore.Ask, source string, copies *keystore.Copies) (created int, err error)
	Claimed(ctx context.Context, tenant, source string, kids []contentkey.KID) error
	Copies(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Copy, error)
}

// Options are the optional settings of [New].
type Options struct {
	SealFor  time.Duration // how long a document key serves the same recipients, as in package keyprovider
	Remember int           // exchanges that are kept for diagnosis; 0 is 256
	Log      *slog.Logger  // nil discards
}

// Gateway answers through upstreams. It may be used concurrently.
type Gateway struct {
	keys    Keys
	now     func() time.Time
	log     *slog.Logger
	sealers *keyprovider.Sealers
	ring    ring

	ctx    context.Context // of heartbeats
	stop   context.CancelFunc
	beats  sync.WaitGroup
	mu     sync.RWMutex
	routes map[string]*route // by tenant
}

// route is a tenant's upstreams in the order in which they are asked.
type route struct {
	settings *upstream.Settings
	sources  []*source
	stop     context.CancelFunc // ends its heartbeats
}

// New returns a gateway. random is the source of document keys and IVs.
func New(keys Keys, random io.Reader, now func() time.Time, o Options) *Gateway {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Remember == 0 {
		o.Remember = 256
	}
	g := &Gateway{
		keys: keys, now: now, log: o.Log, sealers: keyprovider.NewSealers(random, now, o.SealFor),
		ring: ring{limit: o.Remember}, routes: make(map[string]*route),
	}
	g.ctx, g.stop = context.WithCancel(context.Background())
	return g
}

// Close ends heartbeats and idle connections. Requests under way go on.
func (g *Gateway) Close(context.Context) error {
	g.stop()
	g.beats.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.routes {
		r.close()
	}
	return nil
}

func (r *route) close() {
	r.stop()
	for _, s := range r.sources {
		s.close()
	}
}

// Prepare makes a tenant's upstreams ready, which happens by itself with its
// first request, and begins their heartbeats. The error names the setting that
// cannot be used.
func (g *Gateway) Prepare(t *tenant.Tenant) error {
	_, err := g.route(t)
	return err
}

func (g *Gateway) route(t *tenant.Tenant) (*route, error) {
	g.mu.RLock()
	r := g.routes[t.ID]
	g.mu.RUnlock()
	if r != nil && r.settings == t.Upstream {
		return r, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.routes[t.ID]
	if old != nil && (old.settings == t.Upstream || reflect.DeepEqual(old.settings, t.Upstream)) {
		// What was learned of the upstreams outlives a configuration that was
		// loaded again without changing them.
		same := *old
		same.settings = t.Upstream
		g.routes[t.ID] = &same
		return &same, nil
	}
	sources, err := newSources(t, g.now)
	if err != nil {
		return nil, err
	}
	r = &route{settings: t.Upstream, sources: sources}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(g.ctx)
	for _, s := range r.sources {
		if s.set.Heartbeat.URL != "" && s.set.Heartbeat.Every > 0 {
			g.beats.Go(func() { s.beat(ctx, g.log) })
		}
	}
	if old != nil {
		old.close()
	}
	g.routes[t.ID] = r
	return r, nil
}

// Provide answers one request for one tenant. What an upstream did wrong is a
// [*speke.Error] that wraps a [*Fault].
func (g *Gateway) Provide(ctx context.Context, t *tenant.Tenant, req *speke.Request) (*speke.Answer, error) {
	x := newExchange(g.now(), requestid.From(ctx), t.ID, req)
	answer, err := g.provide(ctx, t, req, x)
	x.end(g.now(), answer, err)
	g.ring.add(x)
	return answer, err
}

func (g *Gateway) provide(ctx context.Context, t *tenant.Tenant, req *speke.Request, x *Exchange) (*speke.Answer, error) {
	r, err := g.route(t)
	if err != nil {
		return nil, err
	}
	// Everything that can be refused comes before anybody is asked.
	sealer, err := g.sealers.Get(t.ID, req, func(c *x509.Certificate) error { return t.Certificates.Check(c, g.now()) })
	if err != nil {
		return nil, err
	}
	ask, err := keyprovider.Question(t, req)
	if err != nil {
		return nil, err
	}
	kids := make([]contentkey.KID, len(ask.Wants))
	for i := range kids {
		kids[i] = ask.Wants[i].KID
	}
	e := &exchange{gateway: g, tenant: t, req: req, ask: ask, kids: kids, sealer: sealer, note: x}
	var failed *Fault
	var by *source
	for i, s := range r.sources {
		if i > 0 && !s.set.SameKeys {
			// Whoever answered a key ID first goes on answering it.
			if err := g.keys.Claimed(ctx, t.ID, s.set.Name, kids); err != nil {
				x.skipped(s, err)
				continue
			}
		}
		answer, f, err := e.through(ctx, s)
		if err != nil || f == nil {
			if err == nil && i > 0 {
				g.log.WarnContext(ctx, "answered by a fallback", "request_id", x.RequestID, "tenant", t.ID, "upstream", s.set.Name,
					"origin", s.set.Origin(), "instead_of", r.sources[0].set.Name, "because", failed.Error())
			}
			return answer, err
		}
		s.stats.failed(f, g.now())
		if failed == nil {
			failed, by = f, s
		}
		if f.passOn != "" || f.Kind == Gone || f.Kind == Conflict || ctx.Err() != nil {
			failed, by = f, s
			break
		}
	}
	if t.Upstream.Copy && failed.Kind != Gone && failed.Kind != Conflict && failed.passOn == "" {
		if answer, err := e.fromCopies(ctx); err == nil {
			by.stats.copies.Add(1)
			g.log.WarnContext(ctx, "answered from the resilience copy", "request_id", x.RequestID, "tenant", t.ID, "upstream", by.set.Name,
				"because", failed.Error())
			return answer, nil
		} else {
			x.CopyError = err.Error()
		}
	}
	return nil, failed.refusal(by.set.Name, x.RequestID)
}
