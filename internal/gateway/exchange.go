package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// exchange is one request on its way.
type exchange struct {
	gateway *Gateway
	tenant  *tenant.Tenant
	req     *speke.Request
	ask     *keystore.Ask
	kids    []contentkey.KID // that are asked for upstream
	sealer  *cpix.Sealer     // nil for clear keys
	note    *Exchange
}

// through answers by one upstream. A fault means that another one may be
// asked; an error ends the request.
func (e *exchange) through(ctx context.Context, s *source) (*speke.Answer, *Fault, error) {
	call := e.note.begin(s, e.gateway.now())
	h, f := e.fetch(ctx, s, call)
	call.end(e.gateway.now(), h, f)
	if f != nil {
		return nil, f, nil
	}
	s.stats.fixed(h.fixes, func(first fixes) {
		e.gateway.log.LogAttrs(ctx, slog.LevelInfo, "upstream's answers need repair", slog.String("tenant", e.tenant.ID),
			slog.String("upstream", s.set.Name), slog.String("request_id", e.note.RequestID), slog.String("repairs", first.String()))
	})
	created, err := e.claim(ctx, s, h)
	if conflict, ok := errors.AsType[*keystore.SourceError](err); ok {
		f := &Fault{Kind: Conflict, Sentence: conflict.Error(), cause: conflict}
		call.Fault = f.Error()
		return nil, f, nil
	}
	if errors.Is(err, keystore.ErrDeleted) {
		return nil, nil, &speke.Error{Status: 422, Text: err.Error()}
	}
	if err != nil {
		return nil, nil, err // no record, no keys
	}
	body, err := e.body(h)
	if err != nil {
		f := invalid("its answer cannot be put into the encryptor's document")
		f.cause = err
		return nil, f, nil
	}
	e.note.AnsweredBy = s.set.Name
	e.gateway.succeeded(ctx, e.tenant.ID, s)
	return &speke.Answer{Body: body, KIDs: h.kids, Created: created, UserAgent: h.agent, Source: s.set.Name, Recipients: e.recipients()}, nil, nil
}

// recipients are the fingerprints of who can open the answer's keys.
func (e *exchange) recipients() []string {
	if e.sealer == nil {
		return nil
	}
	return e.sealer.Fingerprints()
}

// fetch asks the upstream, in as many parts as it takes, and puts together
// what came back.
func (e *exchange) fetch(ctx context.Context, s *source, call *Call) (*harvest, *Fault) {
	parts, f := s.plan(e.req, e.kids)
	if f != nil {
		return nil, f
	}
	call.sent(parts)
	answers := make([]*answer, len(parts))
	if len(parts) == 1 {
		if answers[0], f = e.one(ctx, s, &parts[0], call); f != nil {
			return nil, f
		}
		return s.collect(e.tenant, e.req, answers)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wait sync.WaitGroup
	var once sync.Once
	for i := range parts {
		wait.Go(func() {
			a, failed := e.one(ctx, s, &parts[i], call)
			if failed != nil {
				once.Do(func() { f = failed; cancel() }) // the rest is of no use
				return
			}
			answers[i] = a
		})
	}
	wait.Wait()
	if f != nil {
		return nil, f
	}
	return s.collect(e.tenant, e.req, answers)
}

// one is one part's exchange. What is wrong with a document that came is kept
// for diagnosis.
func (e *exchange) one(ctx context.Context, s *source, p *part, call *Call) (*answer, *Fault) {
	r, f := s.ask(ctx, &p.question)
	if f != nil {
		if !p.verbatim {
			f.passOn = "" // it is about our document, not the encryptor's
		}
		return nil, f
	}
	a, f := s.read(p, r)
	if f != nil {
		call.received(s.red.text(r.body, maxKept))
		return nil, f
	}
	return a, nil
}

// claim records that the upstream answered these key IDs, and keeps a copy of
// the keys if the tenant wants one.
func (e *exchange) claim(ctx context.Context, s *source, h *harvest) (int, error) {
	for i := range e.ask.Wants {
		e.ask.Wants[i].KID = h.kids[i]
	}
	var copies *keystore.Copies
	if e.tenant.Upstream.Copy && h.values {
		copies = e.copies(h)
	}
	created, err := e.gateway.keys.Claim(ctx, e.ask, s.set.Name, copies)
	for i := range e.ask.Wants { // another upstream may be asked
		e.ask.Wants[i].KID = e.kids[i]
	}
	return created, err
}

// body makes the answer: the upstream's bytes, or its values in the
// encryptor's document.
func (e *exchange) body(h *harvest) ([]byte, error) {
	switch {
	case h.body != nil:
		return h.body, nil
	case h.sealed != nil:
		return e.req.Relay(h.grants, h.signaling, h.sealed, h.secrets)
	case e.req.Encrypted() && e.sealer == nil:
		return nil, fmt.Errorf("content %q: nobody to encrypt to", e.req.ContentID)
	}
	return e.req.Answer(h.grants, h.signaling, e.sealer)
}
