package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/speke"
)

// kept is the signaling of one content key in a resilience copy, by DRM
// system and scheme, as the upstream made it.
type kept map[string]drm.Signaling

// copies are the keys of an answer with the signaling of each.
func (e *exchange) copies(h *harvest) *keystore.Copies {
	c := &keystore.Copies{Keys: make([]keystore.Foreign, len(h.grants)), Merge: mergeKept}
	all := make([]kept, len(h.grants))
	for i := range e.req.Systems {
		s := &e.req.Systems[i]
		if all[s.Key] == nil {
			all[s.Key] = make(kept)
		}
		all[s.Key][e.keptUnder(s.ID())] = h.signaling[i]
	}
	for i := range h.grants {
		g := &h.grants[i]
		text, err := json.Marshal(all[i])
		if err != nil { // byte slices always can be written
			text = nil
		}
		c.Keys[i] = keystore.Foreign{Value: g.Value, IV: g.IV, Signaling: text}
	}
	return c
}

func (e *exchange) keptUnder(id drm.SystemID) string {
	return id.String() + " " + e.req.Scheme.String()
}

// mergeKept adds to what is kept what came now.
func mergeKept(old, now []byte) []byte {
	var a, b kept
	if json.Unmarshal(old, &a) != nil || json.Unmarshal(now, &b) != nil || a == nil {
		return now
	}
	for id, s := range b {
		was := a[id]
		from := signals(&s)
		for i, to := range signals(&was) {
			if *to.value == nil {
				*to.value = *from[i].value
			}
		}
		a[id] = was
	}
	merged, err := json.Marshal(a)
	if err != nil {
		return now
	}
	if bytes.Equal(merged, old) {
		return old
	}
	return merged
}

// fromCopies answers with what the upstream answered before. Nothing is made
// up: a key ID or signaling that is not kept fails the request. Where the
// upstream had key IDs of its own, they are found by the content's bindings
// when it is asked again, and not here.
func (e *exchange) fromCopies(ctx context.Context) (*speke.Answer, error) {
	copies, err := e.gateway.keys.Copies(ctx, e.tenant.ID, e.kids)
	if err != nil {
		return nil, err
	}
	answer := &speke.Answer{KIDs: make([]contentkey.KID, len(copies)), Recipients: e.recipients()}
	grants := make([]speke.Grant, len(copies))
	all := make([]kept, len(copies))
	for i := range copies {
		c := &copies[i]
		if i > 0 && c.Source != copies[0].Source {
			return nil, fmt.Errorf("keys of %s and of %s in one request", copies[0].Source, c.Source)
		}
		if err := json.Unmarshal(c.Signaling, &all[i]); err != nil {
			return nil, fmt.Errorf("content key %s: its kept signaling cannot be read", c.KID)
		}
		answer.KIDs[i] = c.KID
		grants[i] = speke.Grant{KID: c.KID, Value: c.Value, IV: c.IV, NoIV: c.IV.IsZero()}
	}
	signaling := make([]drm.Signaling, len(e.req.Systems))
	for i := range e.req.Systems {
		s := &e.req.Systems[i]
		signaling[i] = all[s.Key][e.keptUnder(s.ID())]
		if lacks(e.req, s, &signaling[i]) {
			return nil, fmt.Errorf("content key %s: the signaling of %s is not kept", copies[s.Key].KID, s.Name())
		}
	}
	if _, err := e.gateway.keys.Claim(ctx, e.ask, copies[0].Source, nil); err != nil {
		return nil, err
	}
	if answer.Body, err = e.req.Answer(grants, signaling, e.sealer); err != nil {
		return nil, err
	}
	answer.Source = "copy of " + copies[0].Source
	e.note.AnsweredBy = answer.Source
	return answer, nil
}
