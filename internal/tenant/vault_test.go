package tenant_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// sealer seals by putting what it is bound to in front: enough to see what a
// vault binds to what.
type sealer struct{}

func (sealer) SealSecret(_ context.Context, owner, purpose, name string, secret []byte) ([]byte, error) {
	return append(binary.BigEndian.AppendUint32(nil, 7), (owner + "|" + purpose + "|" + name + "|" + string(secret))...), nil
}

func (sealer) OpenSecret(_ context.Context, owner, purpose, name string, sealed []byte) ([]byte, error) {
	secret, ok := strings.CutPrefix(string(sealed[min(4, len(sealed)):]), owner+"|"+purpose+"|"+name+"|")
	if !ok {
		return nil, keystore.ErrCorrupt
	}
	return []byte(secret), nil
}

// TestForgedDocuments: a document that was not written by a server, was
// changed, or stands in another's place does not open.
func TestForgedDocuments(t *testing.T) {
	v := tenant.NewVault(sealer{})
	made := func(id, name string) tenant.Document {
		d := tenant.Document{Kind: tenant.KindCredential, ID: tenant.CredentialID(id, name), Version: 3}
		c := &tenant.StoredCredential{
			Credential: tenant.Credential{Name: name, Digest: &tenant.Digest{User: "u", Password: "p"}}, Created: time.Unix(1, 0).UTC(),
		}
		if err := v.Credential(t.Context(), &d, id, c); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := made("acme", "c")
	c, err := v.OpenCredential(t.Context(), &d)
	if err != nil || *c.Plain() != "p" || d.Owner != "acme" || d.DataKey != 7 {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, forge := range map[string]func(d *tenant.Document){
		"without a mark":        func(d *tenant.Document) { d.Body = []byte(`{"body":{"credential":{"name":"c"}}}`) },
		"another body":          func(d *tenant.Document) { d.Body = []byte(strings.Replace(string(d.Body), `"u"`, `"v"`, 1)) },
		"another tenant":        func(d *tenant.Document) { d.ID = "other/c" },
		"another kind":          func(d *tenant.Document) { d.Kind = tenant.KindAdmin },
		"a later version":       func(d *tenant.Document) { d.Version++ },
		"the secret of another": func(d *tenant.Document) { d.Sealed = made("acme", "d").Sealed },
		"no secret":             func(d *tenant.Document) { d.Sealed, d.Owner, d.DataKey = nil, "", 0 },
		"no JSON":               func(d *tenant.Document) { d.Body = []byte("x") },
	} {
		forged := d
		if forge(&forged); forged.Equal(&d) {
			t.Errorf("%s is as it was", name)
		}
		if c, err := v.OpenCredential(t.Context(), &forged); !errors.Is(err, keystore.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestStoredSecrets: what is not needed back is kept as a hash.
func TestStoredSecrets(t *testing.T) {
	const secret = "0123456789abcdef"
	for kind, c := range map[string]*tenant.Credential{
		"basic":        {Basic: &tenant.Basic{User: "u", Password: secret}},
		"api_key":      {APIKey: &tenant.APIKey{Key: secret}},
		"token":        {Token: &tenant.Token{Token: secret}},
		"oauth_client": {OAuthClient: &tenant.OAuthClient{ID: "i", Secret: secret}},
		"digest":       {Digest: &tenant.Digest{User: "u", Password: secret}},
		"sigv4":        {SigV4: &tenant.SigV4{AccessKeyID: "AKID", SecretAccessKey: secret, Regions: []string{"r"}}},
	} {
		c.Name = "c"
		if c.Kind() != kind {
			t.Errorf("%s is a %s", kind, c.Kind())
		}
		if err := c.Stored(); err != nil || c.Check() != nil {
			t.Errorf("%s: %v, %v", kind, err, c.Check())
		}
		if needed := kind == "digest" || kind == "sigv4"; (*c.Plain() != "") != needed {
			t.Errorf("%s: the secret is kept as it is", kind)
		}
		short := tenant.Secret("short")
		*c.Plain() = short
		if err := c.Stored(); err == nil {
			t.Errorf("%s: a short secret is taken", kind)
		}
	}
}
