package tenant_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
	"spekeasy/internal/upstream"
)

const hook = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"

func withSecrets() *tenant.Settings {
	return &tenant.Settings{
		ID: "acme", KeySource: tenant.KeySource{Kind: "hkdf", Seed: "the-seed"},
		Webhooks: []tenant.Webhook{{Name: "a", URL: "https://hooks.example", Secret: hook, FormerSecret: hook + "x"}, {Name: "b", Secret: hook + "y"}},
		Upstream: &upstream.Settings{
			Vendor: "generic", URL: "https://a.example", Timeout: upstream.Duration(1500 * time.Millisecond),
			Headers: map[string]upstream.Secret{"X-A": "of-a-header"},
			Auth:    upstream.Auth{Basic: &upstream.Basic{User: "u", Password: "of-basic"}},
			Fallback: []upstream.Settings{{
				Vendor: "generic", URL: "https://b.example", SameKeys: true, Auth: upstream.Auth{Token: "of-a-fallback"},
			}},
		},
	}
}

// TestSettingsSealed: settings come back from their document with all their
// secrets, which are nowhere in it in clear.
func TestSettingsSealed(t *testing.T) {
	v := tenant.NewVault(sealer{})
	d := tenant.Document{Version: 1}
	if err := v.Settings(t.Context(), &d, withSecrets()); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"the-seed", "of-a-header", "of-basic", "of-a-fallback", hook} {
		if strings.Contains(string(d.Body), secret) {
			t.Errorf("%s is in the body", secret)
		}
	}
	if s, err := v.OpenSettings(t.Context(), &d); err != nil || !reflect.DeepEqual(&s, withSecrets()) {
		t.Errorf("%+v, %v", s, err)
	}
	public, err := v.PublicSettings(t.Context(), &d)
	if err != nil || public.Upstream.Auth.Basic.Password != tenant.Hidden || public.Webhooks[1].Secret != tenant.Hidden || public.KeySource.Seed != "" {
		t.Errorf("%v", err)
	}
	// A secret too few is damage, not an upstream that is asked with "(secret)".
	if err := v.Seal(t.Context(), &d, "acme", []byte(`{"upstream.auth.basic.password":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := v.OpenSettings(t.Context(), &d); !errors.Is(err, keystore.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// TestKeep: a secret that is shown as hidden stays when it is sent back so,
// unless it would go elsewhere.
func TestKeep(t *testing.T) {
	hidden := func(change func(*tenant.Settings)) *tenant.Settings {
		s := withSecrets()
		s.Upstream.Headers["X-A"], s.Upstream.Auth.Basic.Password, s.Upstream.Fallback[0].Auth.Token = tenant.Hidden, tenant.Hidden, tenant.Hidden
		s.Webhooks[0].Secret, s.Webhooks[1].Secret = tenant.Hidden, tenant.Hidden
		change(s)
		return s
	}
	s := hidden(func(s *tenant.Settings) { s.MaxKeys, s.Webhooks[0], s.Webhooks[1] = 3, s.Webhooks[1], s.Webhooks[0] })
	if err := s.Keep(withSecrets()); err != nil {
		t.Fatal(err)
	}
	if s.Upstream.Auth.Basic.Password != "of-basic" || s.Upstream.Fallback[0].Auth.Token != "of-a-fallback" ||
		s.Webhooks[0].Secret != hook+"y" || s.Webhooks[1].Secret != hook {
		t.Error("another secret is kept")
	}
	for name, c := range map[string]struct {
		before *tenant.Settings
		change func(*tenant.Settings)
		want   string
	}{
		"a new tenant": {nil, func(*tenant.Settings) {}, "there is nothing"},
		"another host": {withSecrets(), func(s *tenant.Settings) { s.Upstream.URL = "https://evil.example" }, "has to be given again"},
		"a new place":  {withSecrets(), func(s *tenant.Settings) { s.Upstream.Auth.Token = tenant.Hidden }, "upstream.auth.token: (secret) keeps what there is, but there is nothing"},
		"a new hook":   {withSecrets(), func(s *tenant.Settings) { s.Webhooks[0].Name = "c" }, "webhooks.c.secret: "},
	} {
		if err := hidden(c.change).Keep(c.before); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.Upstream.Auth.Basic.Password = "another"
	if got := strings.Join(s.ChangedSecrets(withSecrets()), " "); got != "upstream" {
		t.Errorf("changed: %s", got)
	}
}
