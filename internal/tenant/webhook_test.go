package tenant_test

import (
	"fmt"
	"strings"
	"testing"

	"spekeasy/internal/tenant"
)

const goodSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3" // 24 bytes

func TestWebhooks(t *testing.T) {
	good := tenant.Webhook{Name: "cms", URL: "https://cms.example.com/hook", Secret: goodSecret, FormerSecret: "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldY"}
	s := tenant.Settings{ID: "acme", Webhooks: []tenant.Webhook{good, {Name: "local", URL: "http://127.0.0.1:9000/", Secret: goodSecret}}}
	built, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := built.Webhooks[0].Secrets()
	if err != nil || len(secrets) != 2 || string(secrets[0]) != "0123456789abcdef01234567" || string(secrets[1]) != "ABCDEFGHIJKLMNOPQRSTUVWX" {
		t.Errorf("%q %v", secrets, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", s, s.Webhooks, s.Webhooks); strings.Contains(text, "MDEyMzQ1") {
		t.Errorf("%s shows a secret", text)
	}
	for name, change := range map[string]func(*tenant.Webhook){
		"no name":          func(w *tenant.Webhook) { w.Name = "" },
		"a path as name":   func(w *tenant.Webhook) { w.Name = "a/b" },
		"no URL":           func(w *tenant.Webhook) { w.URL = "" },
		"plain HTTP":       func(w *tenant.Webhook) { w.URL = "http://cms.example.com/" },
		"another scheme":   func(w *tenant.Webhook) { w.URL = "ftp://cms.example.com/" },
		"no secret":        func(w *tenant.Webhook) { w.Secret = "" },
		"no prefix":        func(w *tenant.Webhook) { w.Secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3" },
		"a short secret":   func(w *tenant.Webhook) { w.Secret = "whsec_MDEy" },
		"a bad old secret": func(w *tenant.Webhook) { w.FormerSecret = "x" },
	} {
		w := good
		change(&w)
		_, err := (&tenant.Settings{ID: "acme", Webhooks: []tenant.Webhook{w}}).Build()
		if err == nil || !strings.Contains(err.Error(), "webhooks[0]") || strings.Contains(err.Error(), "MDEy") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (&tenant.Settings{ID: "acme", Webhooks: []tenant.Webhook{good, good}}).Build(); err == nil {
		t.Error("two webhooks of one name")
	}
}

func TestRoles(t *testing.T) {
	basic := &tenant.Basic{User: "u", Password: "p"}
	for name, c := range map[string]struct {
		credential                   tenant.Credential
		good, encryptor, entitlement bool
	}{
		"by default":  {tenant.Credential{Name: "c", Basic: basic}, true, true, false},
		"entitlement": {tenant.Credential{Name: "c", Basic: basic, Roles: []tenant.Role{tenant.RoleEntitlement}}, true, false, true},
		"both":        {tenant.Credential{Name: "c", Basic: basic, Roles: []tenant.Role{"encryptor", "entitlement"}}, true, true, true},
		"unknown":     {tenant.Credential{Name: "c", Basic: basic, Roles: []tenant.Role{"admin"}}, false, false, false},
		"no secret": {tenant.Credential{Name: "c", DeliveryCertificate: &tenant.DeliveryCertificate{SHA256: tenant.Fingerprint(strings.Repeat("ab", 32))},
			Roles: []tenant.Role{tenant.RoleEntitlement}}, false, false, true},
	} {
		if err := c.credential.Check(); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
		if c.credential.Has(tenant.RoleEncryptor) != c.encryptor || c.credential.Has(tenant.RoleEntitlement) != c.entitlement {
			t.Errorf("%s: encryptor %t, entitlement %t", name, c.credential.Has(tenant.RoleEncryptor), c.credential.Has(tenant.RoleEntitlement))
		}
	}
}
