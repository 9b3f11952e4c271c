// Package keyprovider answers key requests with our own keys: it finds or
// makes the content keys, has each DRM system signal them, and hands both
// back to be spliced into the request. The other key provider is package
// gateway, which asks an upstream.
package keyprovider

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/reuse"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// Keys is what this package needs of the keystore. Texts of ask may be kept,
// the rest of it serves the next request.
type Keys interface {
	Obtain(ctx context.Context, ask *keystore.Ask) ([]keystore.Key, error)
}

// Local answers with keys of the keystore. It is safe for concurrent use.
type Local struct {
	keys    Keys
	now     func() time.Time
	sealers *Sealers
	works   sync.Pool // of *work
}

// Options are the optional settings of [New].
type Options struct {
	// SealFor is how long a document key serves the same tenant and
	// recipients; 0 makes each document fresh.
	SealFor time.Duration
}

// New returns a key provider. random is the source of document keys and IVs.
func New(keys Keys, random io.Reader, now func() time.Time, o Options) *Local {
	l := &Local{keys: keys, now: now, sealers: NewSealers(random, now, o.SealFor)}
	l.works.New = func() any { return new(work) }
	return l
}

// work is the memory in which one answer is worked out and which then serves
// the next one. None of it leaves Provide.
type work struct {
	question  question
	grants    []speke.Grant
	track     drm.Track
	signaling []drm.Signaling
	room      drm.Room
}

// maxKept is how many entries of a list are kept for the next answer.
const maxKept = 1024

// reset clears everything, content keys above all.
func (w *work) reset() {
	w.question.reset()
	w.room.Reset()
	*w = work{
		question:  w.question,
		grants:    reuse.Slice(w.grants, maxKept),
		signaling: reuse.Slice(w.signaling, maxKept),
		room:      w.room,
	}
}

// Provide answers one request for one tenant. Refusals are a [*speke.Error];
// then nothing was created. Other errors wrap those of package keystore.
func (l *Local) Provide(ctx context.Context, t *tenant.Tenant, req *speke.Request) (*speke.Answer, error) {
	// Everything that can be refused comes before the first key is made.
	sealer, err := l.sealers.Get(t.ID, req, func(c *x509.Certificate) error { return t.Certificates.Check(c, l.now()) })
	if err != nil {
		return nil, err
	}
	w := l.works.Get().(*work)
	defer func() {
		w.reset()
		l.works.Put(w)
	}()
	ask, err := w.question.put(t, req)
	if err != nil {
		return nil, err
	}
	keys, err := l.keys.Obtain(ctx, ask)
	if err != nil {
		return nil, refusal(err)
	}
	w.grants = append(w.grants, make([]speke.Grant, len(keys))...)
	for i := range keys {
		w.grants[i] = speke.Grant{KID: keys[i].KID, Value: keys[i].Value, IV: keys[i].IV}
	}
	if err := w.signal(req); err != nil {
		return nil, err
	}
	body, err := req.Answer(w.grants, w.signaling, sealer)
	if err != nil {
		return nil, fmt.Errorf("content %q: %w", req.ContentID, err)
	}
	answer := &speke.Answer{Body: body, KIDs: make([]contentkey.KID, len(keys))}
	if sealer != nil {
		answer.Recipients = sealer.Fingerprints()
	}
	for i := range keys {
		answer.KIDs[i] = keys[i].KID
		if keys[i].Created {
			answer.Created++
		}
	}
	return answer, nil
}

// Question puts the request to the keystore: under which key ID each key is
// kept, and what for. The error is a [*speke.Error].
func Question(t *tenant.Tenant, req *speke.Request) (*keystore.Ask, error) {
	return new(question).put(t, req)
}

// question is what is put to the keystore. The lists of all keys share arrays.
type question struct {
	ask     keystore.Ask
	uses    []keystore.Use
	systems []string
}

func (q *question) reset() {
	*q = question{
		ask:     keystore.Ask{Wants: reuse.Slice(q.ask.Wants, maxKept)},
		uses:    reuse.Slice(q.uses, maxKept),
		systems: reuse.Slice(q.systems, maxKept),
	}
}

// put fills in an empty question.
func (q *question) put(t *tenant.Tenant, req *speke.Request) (*keystore.Ask, error) {
	q.ask = keystore.Ask{
		Tenant: t.ID, ContentID: req.ContentID, Profile: req.Profile.String(), Scheme: req.Scheme,
		Source: t.Source, Reuse: t.Reuse, Admit: t.NewKeys, Wants: append(q.ask.Wants, make([]keystore.Want, len(req.Keys))...),
	}
	for i := range req.Keys {
		k, w := &req.Keys[i], &q.ask.Wants[i]
		w.Requested, w.KID, w.IV, w.HasIV = k.KID, k.KID, k.IV, k.HasIV
	}
	q.addUses(req.Keys)
	q.addSystems(req.Systems)
	if !t.KIDRule.IsAsAsked() {
		return &q.ask, override(&q.ask, t.KIDRule, req)
	}
	return &q.ask, nil
}

// addUses says what each key is for.
func (q *question) addUses(keys []speke.Key) {
	for i := range keys {
		from := len(q.uses)
		for _, u := range keys[i].Uses {
			q.uses = append(q.uses, keystore.Use(u))
		}
		q.ask.Wants[i].Uses = slices.Clip(q.uses[from:])
	}
}

// addSystems says which systems each key is signaled for. The lists fit into
// their array as long as all are of one length, as they are in nearly every
// request.
func (q *question) addSystems(systems []speke.System) {
	wants := q.ask.Wants
	each := (len(systems) + len(wants) - 1) / len(wants)
	q.systems = append(q.systems, make([]string, each*len(wants))...)
	for i := range wants {
		wants[i].Systems = q.systems[i*each : i*each : (i+1)*each]
	}
	for i := range systems {
		w := &wants[systems[i].Key]
		w.Systems = append(w.Systems, systems[i].ID().String())
	}
}

// override replaces the key IDs by those of the tenant's rule. Two keys of a
// request never get one key ID (SX-KID-05).
func override(ask *keystore.Ask, rule kidrule.Rule, req *speke.Request) error {
	seen := make(map[contentkey.KID]bool, len(ask.Wants))
	for i := range ask.Wants {
		w := &ask.Wants[i]
		var tracks, periods []string
		for _, u := range w.Uses {
			tracks = append(tracks, u.Track)
			periods = append(periods, u.Period.Name())
		}
		w.KID = rule.KID(&kidrule.Input{
			Tenant: ask.Tenant, ContentID: ask.ContentID, Requested: w.Requested, V1: req.Profile == speke.V10,
			Index: i, Period: kidrule.Join(periods), Track: kidrule.Join(tracks), Scheme: ask.Scheme,
		})
		if seen[w.KID] {
			return &speke.Error{Status: http.StatusUnprocessableEntity,
				Text: fmt.Sprintf("KID rule %s gives one key ID to two content keys of the request", rule)}
		}
		seen[w.KID] = true
	}
	return nil
}

// signal has every system of the request signal its key.
func (w *work) signal(req *speke.Request) error {
	w.track = drm.Track{ContentID: req.ContentID, Scheme: req.Scheme, Room: &w.room}
	for i := range req.Systems {
		s := &req.Systems[i]
		g := &w.grants[s.Key]
		w.track.KID, w.track.Key, w.track.IV = g.KID, g.Value, req.TrackIV(s.Key, g.IV)
		signaling, err := s.Signal(&w.track, s.Want)
		if err != nil {
			return fmt.Errorf("%s signaling of key ID %s: %w", s.Name(), g.KID, err)
		}
		w.signaling = append(w.signaling, signaling)
	}
	return nil
}

// refusal turns what the keystore refuses by policy into an answer for the
// encryptor; whatever else went wrong stays as it is.
func refusal(err error) error {
	var reuse *keystore.ReuseError
	if errors.As(err, &reuse) {
		return &speke.Error{Status: http.StatusUnprocessableEntity, Text: reuse.Error()}
	}
	if errors.Is(err, keystore.ErrDeleted) || errors.Is(err, keystore.ErrElsewhere) {
		return &speke.Error{Status: http.StatusUnprocessableEntity, Text: err.Error()}
	}
	return err
}
