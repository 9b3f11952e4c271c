package packager

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

var (
	widevineID  = drm.Widevine{}.ID()
	playReadyID = drm.PlayReady{}.ID()
)

// Widevine answers a get-content-key request (D-510 to D-527). Refusals are a
// [*widevine.Error]; whatever may heal is another error, so that the client
// hears an HTTP status and not a word that it would retry wrongly (D-526).
func (p *Provider) Widevine(ctx context.Context, t *tenant.Tenant, request []byte) (*Answer, error) {
	r, err := widevine.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	var out *Answer
	if len(r.PSSHData) > 0 {
		out, err = p.widevineByKID(ctx, t, r)
	} else {
		out, err = p.widevineByContent(ctx, t, r)
	}
	return out, widevineRefusal(err)
}

// widevineRefusal says a refusal in the words of the protocol.
func widevineRefusal(err error) error {
	if e, ok := errors.AsType[*Refused](err); ok {
		status := widevine.AccessDenied
		if errors.Is(err, keystore.ErrDeleted) {
			status = widevine.AssetMissingKey
		}
		return &widevine.Error{Status: status, Cause: e}
	}
	return err
}

func (p *Provider) widevineByContent(ctx context.Context, t *tenant.Tenant, r *widevine.Request) (*Answer, error) {
	a := &ask{contentID: ContentID(r.ContentID), scheme: r.Scheme, profile: ProfileWidevine, tracks: r.Tracks}
	for _, n := range r.Periods() {
		a.periods = append(a.periods, index(n))
	}
	var err error
	if a.systems, err = widevineSystems(t, r); err != nil {
		return nil, err
	}
	keys, created, err := p.obtain(ctx, t, a)
	if err != nil {
		return nil, err
	}
	tracks := make([]widevine.Track, len(keys))
	for i := range keys {
		k := &keys[i]
		tracks[i] = widevine.Track{Type: k.track}
		if r.PeriodCount > 0 {
			n := r.FirstPeriod + uint32(slices.Index(a.periods, k.period))
			tracks[i].Period = &n
		}
		if err := a.fill(&tracks[i], &k.Key, r); err != nil {
			return nil, err
		}
	}
	body, err := widevine.Answer(tracks, created == 0)
	if err != nil {
		return nil, err
	}
	return finish(a, keys, created, body), nil
}

// widevineSystems are the systems that the answer signals: Widevine alone,
// unless the client asks for PlayReady too (D-521).
func widevineSystems(t *tenant.Tenant, r *widevine.Request) ([]drm.System, error) {
	ids := []drm.SystemID{widevineID}
	if r.PlayReady {
		ids = append(ids, playReadyID)
	}
	var systems []drm.System
	for _, id := range ids {
		s := system(t, id)
		if s == nil {
			return nil, &Refused{drm.SystemName(id) + " is not on offer", nil}
		}
		systems = append(systems, s)
	}
	return systems, nil
}

// fill puts a key and its signaling into a track of the answer. The IV is
// given for cbcs only: a packager that takes 16 bytes for cenc makes content
// that old PlayReady clients cannot read (D-523).
func (a *ask) fill(to *widevine.Track, k *keystore.Key, r *widevine.Request) error {
	to.KID, to.Key = k.KID, k.Value
	if a.scheme == contentkey.Cbcs {
		to.IV, to.HasIV = k.IV, true
	}
	for _, s := range a.systems {
		signaled, err := s.Signal(a.track(k), drm.PSSH)
		if err != nil {
			return fmt.Errorf("%s signaling of key ID %s: %w", s.Name(), k.KID, err)
		}
		box, err := drm.ParseBox(signaled.PSSH)
		if err != nil {
			return fmt.Errorf("%s signaling of key ID %s: %w", s.Name(), k.KID, err)
		}
		if s.ID() == widevineID && to.Period != nil {
			if box.Data, err = withPeriod(box.Data, *to.Period, r.PeriodSeconds); err != nil {
				return err
			}
			signaled.PSSH = box.Append(nil)
		}
		to.PSSH = append(to.PSSH, widevine.PSSH{DRMType: strings.ToUpper(s.Name()), Data: box.Data, Box: signaled.PSSH})
	}
	return nil
}

// withPeriod adds the crypto period to Widevine data: members 7 and 10.
func withPeriod(data []byte, period, seconds uint32) ([]byte, error) {
	d, err := drm.ParseWidevineData(data)
	if err != nil {
		return nil, err
	}
	d.CryptoPeriodIndex, d.CryptoPeriodSeconds = period, seconds
	return d.Append(nil), nil
}

// widevineByKID answers with the keys that Widevine data lists, for a packager
// that decrypts. Nothing is made and nothing is bound. Each key has a track
// type of its own, since packagers accept no type twice; they look for the key
// ID.
func (p *Provider) widevineByKID(ctx context.Context, t *tenant.Tenant, r *widevine.Request) (*Answer, error) {
	data, err := drm.ParseWidevineData(r.PSSHData)
	if err != nil {
		return nil, &widevine.Error{Status: widevine.InvalidPSSH, Cause: err}
	}
	var kids []contentkey.KID
	for _, id := range data.KeyIDs {
		if len(id) != len(contentkey.KID{}) {
			return nil, &widevine.Error{Status: widevine.InvalidPSSH, Reason: fmt.Sprintf("a key ID of %d bytes", len(id))}
		}
		if kid := contentkey.KID(id); !slices.Contains(kids, kid) {
			kids = append(kids, kid)
		}
	}
	if len(kids) == 0 || len(kids) > len(r.Tracks) {
		return nil, &widevine.Error{Status: widevine.InvalidPSSH, Reason: fmt.Sprintf("%d key IDs for %d tracks", len(kids), len(r.Tracks))}
	}
	a := &ask{contentID: ContentID(data.ContentID), scheme: schemeOf(data.ProtectionScheme), profile: ProfileWidevine}
	if a.systems, err = widevineSystems(t, &widevine.Request{}); err != nil {
		return nil, err
	}
	keys, err := p.keys.Lookup(ctx, t.ID, kids)
	if errors.Is(err, keystore.ErrNotFound) {
		return nil, &widevine.Error{Status: widevine.AssetNotFound, Cause: err}
	}
	if err != nil {
		return nil, refusal(err)
	}
	tracks := make([]widevine.Track, len(keys))
	given := make([]granted, len(keys))
	for i := range keys {
		tracks[i].Type = r.Tracks[i]
		given[i].Key = keys[i]
		if err := a.fill(&tracks[i], &keys[i], r); err != nil {
			return nil, err
		}
	}
	body, err := widevine.Answer(tracks, true)
	if err != nil {
		return nil, err
	}
	return finish(a, given, 0, body), nil
}

func schemeOf(fourCC uint32) contentkey.Scheme {
	if fourCC == contentkey.Cbcs.FourCC() {
		return contentkey.Cbcs
	}
	return contentkey.Cenc
}

// hexPrefix marks a content ID that is not text.
const hexPrefix = "hex:"

// ContentID is the content ID of arbitrary bytes (D-511). Text stands for
// itself, so that it is the content that SPEKE names so; whatever is not text,
// and text that looks like the mark of it, becomes "hex:" and its hexadecimal
// digits.
func ContentID(b []byte) string {
	s := string(b)
	if !utf8.ValidString(s) || strings.HasPrefix(s, hexPrefix) || strings.TrimSpace(s) != s ||
		strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return hexPrefix + hex.EncodeToString(b)
	}
	return s
}
