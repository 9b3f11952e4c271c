package packager_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
)

const (
	cenc = contentkey.Cenc
	cbcs = contentkey.Cbcs
)

// TestTrackMap holds which key that SPEKE gave to a content answers which
// track type, contract by contract. "own" is a key that only packagers know, "none" SPEKE v1's without label.
func TestTrackMap(t *testing.T) {
	contract := func(labels ...string) (uses []use) {
		for i, label := range labels {
			uses = append(uses, use{kid(byte(i + 1)), label, ""})
		}
		return uses
	}
	for _, c := range []struct {
		name     string
		settings tenant.Packager
		uses     []use
		want     string // labels that answer SD, HD, UHD1, UHD2, AUDIO
	}{
		{"SPEKE v1", tenant.Packager{}, contract(""), "none none none none none"},
		{"shared", tenant.Packager{}, contract("ALL"), "ALL ALL ALL ALL ALL"},
		{"PRESET-VIDEO-1, PRESET-AUDIO-1", tenant.Packager{}, contract("VIDEO", "AUDIO"), "VIDEO VIDEO VIDEO VIDEO AUDIO"},
		{"PRESET-VIDEO-2, PRESET-AUDIO-2", tenant.Packager{}, contract("SD", "HD", "STEREO_AUDIO", "MULTICHANNEL_AUDIO"), "SD HD HD HD STEREO_AUDIO"},
		{"PRESET-VIDEO-3", tenant.Packager{}, contract("SD", "HD", "UHD"), "SD HD UHD UHD own"},
		{"PRESET-VIDEO-4", tenant.Packager{}, contract("SD", "HD", "UHD1", "UHD2"), "SD HD UHD1 UHD2 own"},
		{"PRESET-VIDEO-6", tenant.Packager{}, contract("SD", "HD1", "HD2", "UHD"), "SD HD2 UHD UHD own"},
		{"PRESET-VIDEO-7", tenant.Packager{}, contract("SD+HD1", "HD2", "UHD"), "SD+HD1 HD2 UHD UHD own"},
		{"audio alone", tenant.Packager{}, contract("AUDIO"), "own own own own AUDIO"},
		{"labels that nobody knows", tenant.Packager{}, contract("premium", "VIDEO+"), "VIDEO+ VIDEO+ VIDEO+ VIDEO+ own"},
		{"a map of the tenant's", tenant.Packager{Tracks: map[string][]string{"HD": {"premium"}, "AUDIO": {"VIDEO"}}},
			contract("premium", "VIDEO"), "VIDEO premium VIDEO VIDEO VIDEO"},
		{"a map that leads nowhere", tenant.Packager{Tracks: map[string][]string{"SD": {}}}, contract("VIDEO"), "own VIDEO VIDEO VIDEO own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := start(t)
			tn := build(t, tenant.Settings{Packager: c.settings})
			f.speke("movie", cbcs, c.uses...)
			byKID := make(map[contentkey.KID]string)
			for _, u := range c.uses {
				byKID[u.kid] = u.track
			}
			got := f.ask(tn, "movie", cbcs, nil)
			var labels []string
			for _, name := range widevine.TrackTypes() {
				track := got[name]
				label, ok := byKID[track.KID]
				switch {
				case !ok:
					label = "own"
				case label == "":
					label = "none"
				}
				labels = append(labels, label)
				if track.Key != f.value(track.KID) {
					t.Errorf("%s: another key than that of key ID %s", name, track.KID)
				}
			}
			if text := strings.Join(labels, " "); text != c.want {
				t.Errorf("answered by %s, want %s", text, c.want)
			}
		})
	}
}

// TestSameForEver holds D-511: a slot keeps its key, whoever asks later, after
// a restart of the cache and under the rules of the tenant.
func TestSameForEver(t *testing.T) {
	for _, rule := range []string{"", "uuidv5", "sha256-xor"} {
		t.Run("rule "+rule, func(t *testing.T) {
			f := start(t)
			tn := build(t, tenant.Settings{KIDRule: rule})
			first := f.ask(tn, "movie", cenc, nil)
			f.speke("movie", cenc, use{kid(1), "SD", ""}, use{kid(2), "ALL", ""})
			again := f.ask(tn, "movie", cenc, nil)
			seen := make(map[contentkey.KID]string)
			for name, track := range first {
				if again[name].KID != track.KID || again[name].Key != track.Key {
					t.Errorf("%s: key ID %s, then %s", name, track.KID, again[name].KID)
				}
				if other, taken := seen[track.KID]; taken {
					t.Errorf("%s and %s have one key", name, other)
				}
				seen[track.KID] = name
			}
			// The other scheme has keys of its own, as far as the rule knows
			// schemes (D-218).
			if other := f.ask(tn, "movie", cbcs, nil); (other["SD"].KID == first["SD"].KID) != (rule == "uuidv5") {
				t.Errorf("under cbcs the key ID is %s", other["SD"].KID)
			}
			if rule == "uuidv5" { // encryptors get the same one
				want := kidrule.UUIDv5.KID(&kidrule.Input{Tenant: "acme", ContentID: "movie", Track: "HD"})
				if first["HD"].KID != want {
					t.Errorf("HD has key ID %s, the rule gives %s", first["HD"].KID, want)
				}
			}
		})
	}
}

// TestRace has many packagers ask first: all get the same keys.
func TestRace(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	answers := make([]string, 20)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answer, err := f.p.Widevine(t.Context(), tn, request(t, "movie", cbcs, nil))
			if err != nil {
				t.Error(err)
				return
			}
			tracks, _, err := widevine.ReadAnswer(answer.Body)
			if err != nil {
				t.Error(err)
			}
			for _, track := range tracks {
				answers[i] += fmt.Sprintf("%s %s %x %x\n", track.Type, track.KID, track.Key[:], track.IV[:])
			}
		})
	}
	all.Wait()
	for _, a := range answers {
		if a != answers[0] || a == "" {
			t.Fatalf("answers\n%s\nand\n%s", answers[0], a)
		}
	}
}

// TestFirstKeyCounts gives an encryptor's second key of a label to nobody.
func TestFirstKeyCounts(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	f.speke("movie", cenc, use{kid(9), "VIDEO", ""})
	f.speke("movie", cenc, use{kid(1), "VIDEO", ""})
	f.speke("movie", cbcs, use{kid(2), "SD", ""})
	f.speke("other", cenc, use{kid(3), "SD", ""})
	if got := f.ask(tn, "movie", cenc, nil)["SD"]; got.KID != kid(9) {
		t.Errorf("SD has key ID %s", got.KID)
	}
}

// TestPeriods holds D-520 and D-524: every type in every period, keys that
// SPEKE gave to a period of that index, and content whose one constant period
// is 0 (S2-SEQ-15) as content without.
func TestPeriods(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	f.speke("channel", cbcs, use{kid(1), "VIDEO", "0"}, use{kid(2), "AUDIO", "0"}, use{kid(3), "VIDEO", "2"})
	if got := f.ask(tn, "channel", cbcs, nil); got["HD"].KID != kid(1) || got["AUDIO"].KID != kid(2) {
		t.Errorf("without periods: %v", got)
	}
	window := map[string]any{"first_crypto_period_index": 1, "crypto_period_count": 3, "crypto_period_seconds": 60}
	got := f.ask(tn, "channel", cbcs, window)
	if len(got) != 15 || got["SD/2"].KID != kid(3) || got["UHD2/2"].KID != kid(3) || got["SD/1"].KID == got["SD/3"].KID || got["SD/1"].KID == kid(1) {
		t.Errorf("periods 1 to 3: %v", got)
	}
	box, err := drm.ParseBox(got["SD/2"].PSSH[0].Box)
	if err != nil {
		t.Fatal(err)
	}
	data, err := drm.ParseWidevineData(box.Data)
	if err != nil || data.CryptoPeriodIndex != 2 || data.CryptoPeriodSeconds != 60 || string(box.Data) != string(got["SD/2"].PSSH[0].Data) {
		t.Errorf("box of period 2: %+v, %v", data, err)
	}
	// A window that overlaps has the same keys.
	window["first_crypto_period_index"] = 3
	if again := f.ask(tn, "channel", cbcs, window); again["AUDIO/3"].KID != got["AUDIO/3"].KID || again["SD/5"].KID == got["SD/3"].KID {
		t.Errorf("periods 3 to 5: %v", again)
	}
}

// TestSignaling holds D-521 to D-523 and D-111.
func TestSignaling(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	for _, scheme := range []contentkey.Scheme{cenc, cbcs} {
		for name, track := range f.ask(tn, "movie", scheme, nil) {
			if len(track.PSSH) != 1 || track.HasIV != (scheme == cbcs) {
				t.Fatalf("%s: %d boxes, IV %t", name, len(track.PSSH), track.HasIV)
			}
			box, err := drm.ParseBox(track.PSSH[0].Box)
			if err != nil {
				t.Fatal(err)
			}
			data, err := drm.ParseWidevineData(track.PSSH[0].Data)
			if err != nil || box.Version != 0 || string(box.Data) != string(track.PSSH[0].Data) ||
				string(data.KeyIDs[0]) != string(track.KID[:]) || string(data.ContentID) != "movie" || data.ProtectionScheme != scheme.FourCC() {
				t.Errorf("%s: box %+v, data %+v, %v", name, box, data, err)
			}
		}
	}
	more := f.ask(tn, "movie", cenc, map[string]any{"drm_types": []string{"WIDEVINE", "PLAYREADY", "FAIRPLAY"}})["SD"]
	if len(more.PSSH) != 2 || more.PSSH[1].DRMType != "PLAYREADY" {
		t.Fatalf("with PlayReady: %v", more.PSSH)
	}
	if _, err := drm.ParsePlayReadyObject(more.PSSH[1].Data); err != nil {
		t.Error(err)
	}
}

// TestTenantRules holds that packagers are under the rules of their tenant.
func TestTenantRules(t *testing.T) {
	status := func(err error) widevine.Status {
		if e, ok := errors.AsType[*widevine.Error](err); ok {
			return e.Status
		}
		return ""
	}
	t.Run("tracks that are refused are left out", func(t *testing.T) {
		f := start(t)
		tn := build(t, tenant.Settings{Contract: tenant.Contract{RefuseTrackTypes: []string{"UHD1", "UHD2"}}})
		if got := f.ask(tn, "movie", cenc, nil); len(got) != 3 || got["UHD1"].Type != "" {
			t.Errorf("%v", got)
		}
		_, err := f.p.Widevine(t.Context(), tn, request(t, "movie", cenc, map[string]any{"tracks": []map[string]string{{"type": "UHD1"}}}))
		if status(err) != widevine.AccessDenied {
			t.Errorf("nothing but refused tracks: %v", err)
		}
	})
	t.Run("quota", func(t *testing.T) {
		f := start(t)
		tn := build(t, tenant.Settings{})
		tn.NewKeys = func(n int) error { return fmt.Errorf("%d are too many", n) }
		if _, err := f.p.Widevine(t.Context(), tn, request(t, "movie", cenc, nil)); err == nil || !strings.Contains(err.Error(), "5 are too many") {
			t.Errorf("%v", err)
		}
	})
	t.Run("scheme reuse", func(t *testing.T) {
		f := start(t)
		tn := build(t, tenant.Settings{KIDRule: "uuidv5", SchemeReuse: "refuse"})
		f.ask(tn, "movie", cenc, nil)
		if _, err := f.p.Widevine(t.Context(), tn, request(t, "movie", cbcs, nil)); status(err) != widevine.AccessDenied {
			t.Errorf("%v", err)
		}
	})
	t.Run("deleted key", func(t *testing.T) {
		f := start(t)
		tn := build(t, tenant.Settings{})
		f.speke("movie", cenc, use{kid(1), "VIDEO", ""})
		custody, err := f.keys.Custody()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := custody.Delete(t.Context(), "acme", []contentkey.KID{kid(1)}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.p.Widevine(t.Context(), tn, request(t, "movie", cenc, nil)); status(err) != widevine.AssetMissingKey {
			t.Errorf("%v", err)
		}
	})
	t.Run("keystore away", func(t *testing.T) { // D-526
		f := start(t)
		if err := f.keys.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := f.p.Widevine(t.Context(), build(t, tenant.Settings{}), request(t, "movie", cenc, nil))
		if !errors.Is(err, keystore.ErrUnavailable) || status(err) != "" {
			t.Errorf("%v", err)
		}
	})
	t.Run("key source", func(t *testing.T) {
		f := start(t)
		tn := build(t, tenant.Settings{KeySource: tenant.KeySource{Kind: "playready-seed", Test: true, Seed: "XVBovsmzhP9gRIZxWfFta3VVRPzVEWmJsazEJ46I"}})
		got := f.ask(tn, "movie", cenc, nil)["SD"]
		want, err := tn.Source.(*keystore.Derived).Key(got.KID)
		if err != nil || got.Key != want {
			t.Errorf("the key does not come from the tenant's source: %v", err)
		}
	})
}

// TestDecryption answers with the keys that a pssh box lists, and with none
// that do not exist.
func TestDecryption(t *testing.T) {
	f := start(t)
	tn := build(t, tenant.Settings{})
	f.speke("movie", cbcs, use{kid(1), "VIDEO", ""}, use{kid(2), "AUDIO", ""})
	one, two := kid(1), kid(2)
	data := func(ids ...[]byte) map[string]any {
		d := drm.WidevineData{KeyIDs: ids, ProtectionScheme: cbcs.FourCC()}
		return map[string]any{"pssh_data": d.Append(nil), "content_id": ""}
	}
	got := f.ask(tn, "", cenc, data(two[:], one[:], two[:]))
	if len(got) != 2 || got["SD"].KID != two || got["HD"].Key != f.value(one) {
		t.Errorf("%v", got)
	}
	missing := kid(3)
	for name, c := range map[string]struct {
		more map[string]any
		want widevine.Status
	}{
		"unknown key":    {data(one[:], missing[:]), widevine.AssetNotFound},
		"no key":         {data(), widevine.InvalidPSSH},
		"short key ID":   {data(one[:8]), widevine.InvalidPSSH},
		"not data":       {map[string]any{"pssh_data": []byte{0xff}, "content_id": ""}, widevine.InvalidPSSH},
		"too many":       {data([]byte("0123456789abcdef"), one[:], two[:], missing[:], []byte("fedcba9876543210"), []byte("6666666666666666")), widevine.InvalidPSSH},
		"with a content": {map[string]any{"pssh_data": []byte{0x10}}, widevine.TooManyContent},
	} {
		_, err := f.p.Widevine(t.Context(), tn, request(t, "movie", cenc, c.more))
		if e, ok := errors.AsType[*widevine.Error](err); !ok || e.Status != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}
