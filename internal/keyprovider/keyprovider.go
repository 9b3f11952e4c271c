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
	"time"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// Keys is what this package needs of the keystore.
type Keys interface {
	Obtain(ctx context.Context, ask *keystore.Ask) ([]keystore.Key, error)
}

// Local answers with keys of the keystore. It is safe for concurrent use.
type Local struct {
	keys    Keys
	now     func() time.Time
	sealers *Sealers
}

// Options are the optional settings of [New].
type Options struct {
	// SealFor is how long a document key serves the same tenant and
	// recipients; 0 makes each document fresh.
	SealFor time.Duration
}

// New returns a key provider. random is the source of document keys and IVs.
func New(keys Keys, random io.Reader, now func() time.Time, o Options) *Local {
	return &Local{keys: keys, now: now, sealers: NewSealers(random, now, o.SealFor)}
}

// Provide answers one request for one tenant. Refusals are a [*speke.Error];
// then nothing was created. Other errors wrap those of package keystore.
func (l *Local) Provide(ctx context.Context, t *tenant.Tenant, req *speke.Request) (*speke.Answer, error) {
	// Everything that can be refused comes before the first key is made.
	sealer, err := l.sealers.Get(t.ID, req, func(c *x509.Certificate) error { return t.Certificates.Check(c, l.now()) })
	if err != nil {
		return nil, err
	}
	ask, err := Question(t, req)
	if err != nil {
		return nil, err
	}
	keys, err := l.keys.Obtain(ctx, ask)
	if err != nil {
		return nil, refusal(err)
	}
	grants := make([]speke.Grant, len(keys))
	for i := range keys {
		grants[i] = speke.Grant{KID: keys[i].KID, Value: keys[i].Value, IV: keys[i].IV}
	}
	signaling, err := signal(req, grants)
	if err != nil {
		return nil, err
	}
	body, err := req.Answer(grants, signaling, sealer)
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
	ask := &keystore.Ask{
		Tenant: t.ID, ContentID: req.ContentID, Profile: req.Profile.String(), Scheme: req.Scheme,
		Source: t.Source, Reuse: t.Reuse, Admit: t.NewKeys, Wants: make([]keystore.Want, len(req.Keys)),
	}
	for i := range req.Keys {
		k, w := &req.Keys[i], &ask.Wants[i]
		w.Requested, w.KID, w.IV, w.HasIV = k.KID, k.KID, k.IV, k.HasIV
	}
	addUses(ask.Wants, req.Keys)
	addSystems(ask.Wants, req.Systems)
	if !t.KIDRule.IsAsAsked() {
		return ask, override(ask, t.KIDRule, req)
	}
	return ask, nil
}

// addUses says what each key is for. The lists of all keys share an array.
func addUses(wants []keystore.Want, keys []speke.Key) {
	n := 0
	for i := range keys {
		n += len(keys[i].Uses)
	}
	all := make([]keystore.Use, 0, n)
	for i := range keys {
		from := len(all)
		for _, u := range keys[i].Uses {
			all = append(all, keystore.Use(u))
		}
		wants[i].Uses = all[from:len(all):len(all)]
	}
}

// addSystems says which systems each key is signaled for. The lists share an
// array as long as all are of one length, as they are in nearly every request.
func addSystems(wants []keystore.Want, systems []speke.System) {
	each := (len(systems) + len(wants) - 1) / len(wants)
	all := make([]string, each*len(wants))
	for i := range wants {
		wants[i].Systems = all[i*each : i*each : (i+1)*each]
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
func signal(req *speke.Request, grants []speke.Grant) ([]drm.Signaling, error) {
	out := make([]drm.Signaling, len(req.Systems))
	track := &drm.Track{ContentID: req.ContentID, Scheme: req.Scheme}
	for i := range req.Systems {
		s := &req.Systems[i]
		g := &grants[s.Key]
		track.KID, track.Key, track.IV = g.KID, g.Value, req.TrackIV(s.Key, g.IV)
		var err error
		if out[i], err = s.Signal(track, s.Want); err != nil {
			return nil, fmt.Errorf("%s signaling of key ID %s: %w", s.Name(), g.KID, err)
		}
	}
	return out, nil
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
