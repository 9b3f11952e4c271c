package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/audit"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
)

// exchangeWith plays a request of our own encryptor and returns the answer,
// which must break no rule.
func exchangeWith(t *testing.T, h http.Handler, o encryptor.Options) *encryptor.Answer {
	t.Helper()
	req, err := o.Build()
	if err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	r := ask(t, h, "POST", "/speke/copyProtection", bytes.NewReader(req.Body), "X-Speke-Version", req.Header.Get("X-Speke-Version"), "Content-Type", "application/xml")
	body := text(t, r)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%+v: %d %s", o, r.StatusCode, body)
	}
	a, err := encryptor.ReadAnswer(req, r.Header, []byte(body))
	if err != nil {
		t.Fatalf("%+v: %v", o, err)
	}
	for _, v := range a.Check() {
		t.Errorf("%+v: %s", o, v)
	}
	return a
}

// TestEveryEncryptor plays what each of AWS's services can send, in each
// version of SPEKE and each packaging, with each preset, in clear and
// encrypted (section 14). Every answer must pass all checks of an encryptor.
func TestEveryEncryptor(t *testing.T) {
	h := newTestServer(t, exampleTenant(), nil)
	recipient := newRecipient(t, "one").Recipient
	presets := [][2]string{{"", ""}, {encryptor.Shared, encryptor.Shared}, {"PRESET_VIDEO_7", "PRESET_AUDIO_3"}, {encryptor.Unencrypted, "PRESET-AUDIO-2"}}
	for i := range 8 {
		presets = append(presets, [2]string{"PRESET-VIDEO-" + string(rune('1'+i)), encryptor.Unencrypted})
	}
	played := make(map[encryptor.Service]int)
	for _, service := range []encryptor.Service{encryptor.MediaConvert, encryptor.MediaPackageV1, encryptor.MediaPackageV1VOD, encryptor.MediaPackageV2, encryptor.OnPremises} {
		for _, version := range []encryptor.Version{encryptor.V10, encryptor.V20, encryptor.V21} {
			for _, packaging := range []encryptor.Packaging{encryptor.DASH, encryptor.HLS, encryptor.CMAF, encryptor.Smooth} {
				for _, scheme := range []string{"", "cenc", "cbcs", "SAMPLE-AES-CTR"} {
					for _, preset := range presets {
						o := encryptor.Options{Service: service, Version: version, Packaging: packaging, Scheme: scheme, VideoPreset: preset[0], AudioPreset: preset[1], ContentID: "all-of-them"}
						if _, err := o.Build(); err != nil {
							if _, ok := errors.AsType[*encryptor.OptionError](err); !ok {
								t.Fatal(err)
							}
							continue // no service sends it
						}
						clear := exchangeWith(t, h, o)
						played[service]++
						o.Recipients = []*encryptor.Recipient{recipient}
						if _, err := o.Build(); err != nil {
							continue
						}
						sealed := exchangeWith(t, h, o)
						for i := range clear.Keys {
							if !sealed.Encrypted || !sealed.Keys[i].HasValue || sealed.Keys[i].Value != clear.Keys[i].Value {
								t.Errorf("%+v: content key %d is another when it is encrypted", o, i)
							}
						}
					}
				}
			}
		}
	}
	for service, least := range map[encryptor.Service]int{
		encryptor.MediaConvert: 40, encryptor.MediaPackageV1: 30, encryptor.MediaPackageV1VOD: 30, encryptor.MediaPackageV2: 80, encryptor.OnPremises: 4,
	} {
		if played[service] < least {
			t.Errorf("%s: %d requests, want %d at least", service, played[service], least)
		}
	}
}

// TestTwentyKeysFourSystems holds that a request as large as any that is known
// is answered in full (SX-HTTP-08).
func TestTwentyKeysFourSystems(t *testing.T) {
	var periods []contentkey.Period
	for _, index := range []string{"4294967294", "4294967295", "0", "7"} { // counts wrap and have gaps (SX-SEQ-14)
		periods = append(periods, contentkey.Period{Index: index})
	}
	a := exchangeWith(t, newTestServer(t, exampleTenant(), nil), encryptor.Options{
		Service: encryptor.MediaPackageV2, ContentID: "channel", Scheme: "cbcs", Force: true,
		Systems: []string{"widevine", "playready", "fairplay", "common"}, VideoPreset: "PRESET-VIDEO-3", AudioPreset: "PRESET-AUDIO-2", Periods: periods,
	})
	if len(a.Keys) != 20 {
		t.Fatalf("%d keys", len(a.Keys))
	}
	for _, k := range a.Keys {
		if len(k.Systems) != 4 || !k.HasValue {
			t.Errorf("key ID %s has %d systems", k.KID, len(k.Systems))
		}
	}
}

// TestRotation holds that periods of a session have keys of their own under
// one contract, and that each of them repeats (SX-SEQ-11 to -16, S2-SEQ-19).
func TestRotation(t *testing.T) {
	h := newTestServer(t, exampleTenant(), nil)
	o := encryptor.Options{Service: encryptor.MediaPackageV2, ContentID: "channel", Scheme: "cbcs"}
	var previous *encryptor.Answer
	for _, index := range []string{"11425", "11426", "0"} {
		o.Periods = []contentkey.Period{{Index: index}}
		a := exchangeWith(t, h, o)
		for _, v := range encryptor.CheckRepeat(a, exchangeWith(t, h, o)) {
			t.Error(v)
		}
		if previous != nil {
			for _, v := range encryptor.CheckRotation(previous, a) {
				t.Error(v)
			}
		}
		previous = a
	}
}

// TestRacingFirstRequests holds that encryptors which ask for the same new
// keys at the same time get the same ones (SX-SEQ-16).
func TestRacingFirstRequests(t *testing.T) {
	h := newTestServer(t, exampleTenant(), nil)
	req, err := (&encryptor.Options{Service: encryptor.MediaPackageV2, ContentID: "race", Scheme: "cbcs", IVs: nil}).Build()
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]string, 24)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			if r := ask(t, h, "POST", keyPath, bytes.NewReader(req.Body)); r.StatusCode == http.StatusOK {
				answers[i] = text(t, r)
			}
		})
	}
	wg.Wait()
	for i, a := range answers {
		if a == "" || a != answers[0] {
			t.Errorf("answer %d differs", i)
		}
	}
}

// countingKeys counts how often it is asked for keys.
type countingKeys struct{ asked atomic.Int32 }

func (c *countingKeys) Obtain(ctx context.Context, ask *keystore.Ask) ([]keystore.Key, error) {
	c.asked.Add(1)
	return digestKeys{}.Obtain(ctx, ask)
}

// TestRefusalsMakeNoKey holds that the keystore is not asked for a request
// that is refused, whatever is wrong with it.
func TestRefusalsMakeNoKey(t *testing.T) {
	files, err := filepath.Glob("../../testdata/exchange/error-*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d exchanges, %v", len(files), err)
	}
	for _, name := range files {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s := settings(t, ar)
		built, err := s.Build()
		if err != nil {
			t.Fatal(err)
		}
		var keys countingKeys
		now := func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
		h := server.New(authenticator(t, s.ID), tenant.Static{s.ID: built}, keyprovider.New(&keys, zeros{}, now, keyprovider.Options{}),
			audit.Off{}, "spekeasy/test", slog.New(slog.DiscardHandler))
		r := play(t, h, ar)
		if want, _ := file(ar, "response.txt"); strings.TrimSuffix(string(want), "\n") != text(t, r) {
			t.Errorf("%s: another answer, %d", filepath.Base(name), r.StatusCode)
		}
		if n := keys.asked.Load(); n != 0 || r.StatusCode == http.StatusOK {
			t.Errorf("%s: status %d, the keystore was asked %d times", filepath.Base(name), r.StatusCode, n)
		}
	}
}

// TestReuse holds what a tenant may make of a key ID that comes again under
// another content ID or scheme (design decision 1): by default the same key,
// or a refusal.
func TestReuse(t *testing.T) {
	body := string(requestOf(t, "v2-vod-two-keys"))
	content := strings.Replace(body, "vod-asset-2001", "another", 1)
	scheme := strings.ReplaceAll(body, `"cenc"`, `"cbcs"`)
	const kid = "11f8a3d2-5b6c-4d7e-8f90-a1b2c3d4e5f6"
	for _, c := range []struct {
		name    string
		tenant  tenant.Settings
		again   string
		refused string
	}{
		{"content ID, by default", tenant.Settings{}, content, ""},
		{"scheme, by default", tenant.Settings{}, scheme, ""},
		{"content ID refused", tenant.Settings{KIDReuse: "refuse"}, content, "key ID " + kid + " is in use under another content ID"},
		{"scheme refused", tenant.Settings{SchemeReuse: "refuse"}, scheme, "key ID " + kid + " is in use under another common encryption scheme"},
		{"the other one refused", tenant.Settings{SchemeReuse: "refuse"}, content, ""},
		{"the same again", tenant.Settings{KIDReuse: "refuse", SchemeReuse: "refuse"}, body, ""},
	} {
		c.tenant.ID = "example"
		h := newTestServer(t, c.tenant, nil)
		first := text(t, ask(t, h, "POST", keyPath, strings.NewReader(body)))
		r := ask(t, h, "POST", keyPath, strings.NewReader(c.again))
		second := text(t, r)
		if c.refused != "" {
			if r.StatusCode != http.StatusUnprocessableEntity || second != c.refused {
				t.Errorf("%s: %d %q", c.name, r.StatusCode, second)
			}
			continue
		}
		if r.StatusCode != http.StatusOK || between(first, "PlainValue>", "<") != between(second, "PlainValue>", "<") || between(first, "PlainValue>", "<") == "" {
			t.Errorf("%s: %d, another key", c.name, r.StatusCode)
		}
	}
}

func between(s, start, end string) string {
	_, s, _ = strings.Cut(s, start)
	s, _, _ = strings.Cut(s, end)
	return s
}

// TestIVOverTime holds design decision 4: the first IV of a key ID is stored,
// made or brought; an encryptor that brings its own gets its own.
func TestIVOverTime(t *testing.T) {
	asked := string(requestOf(t, "v2-cmaf-cbcs-adds-iv"))
	with := func(iv string) string {
		return strings.Replace(asked, `commonEncryptionScheme="cbcs"`, `commonEncryptionScheme="cbcs" explicitIV="`+iv+`"`, 1)
	}
	const a, b = "AAAAAAAAAAAAAAAAAAAAAA==", "AQEBAQEBAQEBAQEBAQEBAQ=="
	iv := func(h http.Handler, body string) string {
		out := text(t, ask(t, h, "POST", keyPath, strings.NewReader(body)))
		if strings.Count(out, "explicitIV=") != 1 {
			t.Fatalf("%d explicitIV in %s", strings.Count(out, "explicitIV="), out)
		}
		return between(out, `explicitIV="`, `"`)
	}
	h := newTestServer(t, exampleTenant(), nil)
	made := iv(h, asked)
	for body, want := range map[string]string{asked: made, with(a): a, with(b): b} {
		if got := iv(h, body); got != want {
			t.Errorf("IV %s, want %s", got, want)
		}
	}
	if got := iv(h, asked); got != made {
		t.Errorf("the made IV changed from %s to %s", made, got)
	}
	h = newTestServer(t, exampleTenant(), nil)
	if iv(h, with(a)); iv(h, asked) != a { // all zero is an IV too
		t.Error("the IV that was brought first is not the stored one")
	}
	if iv(h, with(b)); iv(h, asked) != a {
		t.Error("a later IV took the place of the stored one")
	}
}
