package packager_test

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/keystore/keystoretest"
	"spekeasy/internal/packager"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

// fixture is a provider over a keystore with a database file and a clock that
// is set by hand.
type fixture struct {
	t    *testing.T
	keys *keystore.Keystore
	p    *packager.Provider
	now  atomic.Int64 // seconds
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.now.Store(1e9)
	f.keys, _ = keystoretest.Open(t, keystore.Options{Clock: func() time.Time { return time.Unix(f.now.Add(1), 0) }})
	f.p = packager.New(f.keys)
	return f
}

// build makes the tenant acme.
func build(t *testing.T, s tenant.Settings) *tenant.Tenant {
	t.Helper()
	s.ID = "acme"
	built, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func kid(n byte) contentkey.KID { return contentkey.KID{0xaa, 15: n} }

// use is a key that an encryptor is given.
type use struct {
	kid    contentkey.KID
	track  string
	period string
}

// speke asks for keys as SPEKE does, all in one request.
func (f *fixture) speke(content string, scheme contentkey.Scheme, uses ...use) {
	f.t.Helper()
	ask := &keystore.Ask{Tenant: "acme", ContentID: content, Profile: "2.0", Scheme: scheme}
	for _, u := range uses {
		w := keystore.Want{Requested: u.kid, KID: u.kid, Systems: []string{"x"}}
		p := contentkey.Period{}
		if u.period != "" {
			p = contentkey.Period{ID: "id-" + u.period, Index: u.period, Start: "2026-01-01T00:00:00Z", End: "2026-01-01T01:00:00Z"}
		}
		w.Uses = []keystore.Use{{Track: u.track, Period: p}}
		ask.Wants = append(ask.Wants, w)
	}
	if _, err := f.keys.Obtain(f.t.Context(), ask); err != nil {
		f.t.Fatal(err)
	}
}

// value is the key of a key ID.
func (f *fixture) value(kid contentkey.KID) contentkey.Value {
	f.t.Helper()
	keys, err := f.keys.Lookup(f.t.Context(), "acme", []contentkey.KID{kid})
	if err != nil {
		f.t.Fatal(err)
	}
	return keys[0].Value
}

// request writes a get-content-key request for all track types.
func request(t *testing.T, content string, scheme contentkey.Scheme, more map[string]any) []byte {
	t.Helper()
	m := map[string]any{"content_id": []byte(content), "protection_scheme": strings.ToUpper(scheme.String())}
	var tracks []map[string]string
	for _, name := range widevine.TrackTypes() {
		tracks = append(tracks, map[string]string{"type": name})
	}
	m["tracks"] = tracks
	for k, v := range more {
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask asks for a content's keys as packagers do, and returns them by track
// type or, with periods, by "type/period".
func (f *fixture) ask(t *tenant.Tenant, content string, scheme contentkey.Scheme, more map[string]any) map[string]widevine.Track {
	f.t.Helper()
	answer, err := f.p.Widevine(f.t.Context(), t, request(f.t, content, scheme, more))
	if err != nil {
		f.t.Fatal(err)
	}
	tracks, used, err := widevine.ReadAnswer(answer.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if used != (answer.Created == 0) {
		f.t.Errorf("already_used is %t after %d keys were made", used, answer.Created)
	}
	byType := make(map[string]widevine.Track)
	for _, track := range tracks {
		name := track.Type
		if track.Period != nil {
			name += "/" + contentkey.Period{Index: string(rune('0' + *track.Period))}.Name()
		}
		byType[name] = track
		if !slices.Contains(answer.KIDs, track.KID) {
			f.t.Errorf("key ID %s is not to be recorded", track.KID)
		}
	}
	if len(byType) != len(tracks) {
		f.t.Errorf("%d tracks, %d distinct", len(tracks), len(byType))
	}
	return byType
}
