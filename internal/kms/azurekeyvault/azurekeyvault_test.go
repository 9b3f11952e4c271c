package azurekeyvault_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/azurekeyvault"
	"spekeasy/internal/kms/azurekeyvault/azurekeyvaulttest"
	"spekeasy/internal/kms/kmstest"
)

const (
	vault = "films.vault.azure.net"
	hsm   = "films.managedhsm.azure.net"
)

type env map[string]string

func (e env) get(name string) string { return e[name] }

func secretEnv(s *azurekeyvaulttest.Server) env {
	return env{"AZURE_TENANT_ID": azurekeyvaulttest.Tenant, "AZURE_CLIENT_ID": azurekeyvaulttest.Client, "AZURE_CLIENT_SECRET": s.Secret}
}

func open(t *testing.T, raw string, opts azurekeyvault.Options) *azurekeyvault.Manager {
	t.Helper()
	uri, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m, err := azurekeyvault.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func openAt(t *testing.T, s *azurekeyvaulttest.Server, path string) *azurekeyvault.Manager {
	t.Helper()
	return open(t, "azurekeyvault://"+s.Host+"/keys/"+path, azurekeyvault.Options{
		HTTPClient: &http.Client{Transport: s.Transport()},
		Getenv:     secretEnv(s).get,
	})
}

func TestSuite(t *testing.T) {
	for name, c := range map[string]struct{ host, kind, query string }{
		"RSA key of a vault":       {vault, "RSA", ""},
		"AES key of a Managed HSM": {hsm, "oct-HSM", "?algorithm=A256GCM"},
	} {
		t.Run(name, func(t *testing.T) {
			s := azurekeyvaulttest.New(t, c.host)
			s.CreateKey(t, "one", c.kind)
			s.CreateKey(t, "other", c.kind)
			kmstest.Run(t, kmstest.Backend{
				Open:      func(t *testing.T) kms.Manager { return openAt(t, s, "one"+c.query) },
				OpenOther: func(t *testing.T) kms.Manager { return openAt(t, s, "other"+c.query) },
				OpenUnreachable: func(t *testing.T) kms.Manager {
					return open(t, "azurekeyvault://"+c.host+"/keys/one"+c.query, azurekeyvault.Options{
						HTTPClient: &http.Client{Transport: kmstest.Hosts{}},
						Getenv:     secretEnv(s).get,
					})
				},
				Samples: 100,
			})
		})
	}
}

// What an RSA key wraps, everybody with its public half can wrap as well:
// without the signature, who can write to the database could plant a data
// key that they know.
func TestWrappedKeyMadeFromThePublicKeyIsRefused(t *testing.T) {
	s := azurekeyvaulttest.New(t, vault)
	s.CreateKey(t, "one", "RSA")
	m := openAt(t, s, "one")
	genuine, err := m.Wrap(t.Context(), []byte("data key"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}

	part := func(b, p []byte) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...) }
	key := make([]byte, 32)
	wrappedKey, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, s.PublicKey("one"), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	forged := part(genuine[:1+2+32:1+2+32], wrappedKey)
	forged = part(forged, aead.Seal(nil, nil, []byte("known to the attacker"), append(forged[:len(forged):len(forged)], "aad"...)))
	forged = append(forged, genuine[len(genuine)-2-256:]...) // the best there is
	if _, err := m.Unwrap(t.Context(), m.KeyID(), forged, []byte("aad")); !errors.Is(err, kms.ErrNotOpened) || !strings.Contains(err.Error(), "did not sign") {
		t.Errorf("%v, want %v for want of a signature", err, kms.ErrNotOpened)
	}
	if _, err := m.Unwrap(t.Context(), m.KeyID(), genuine, []byte("other")); !errors.Is(err, kms.ErrNotOpened) || !strings.Contains(err.Error(), "did not sign") {
		t.Errorf("other associated data: %v, want it to be refused by the signature", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := env{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "hunter2"}
	for name, c := range map[string]struct {
		uri  string
		env  env
		want string
	}{
		"no key":            {"azurekeyvault://" + vault, good, "want azurekeyvault://"},
		"a secret":          {"azurekeyvault://" + vault + "/secrets/one", good, "want azurekeyvault://"},
		"odd version":       {"azurekeyvault://" + vault + "/keys/one/latest", good, "want azurekeyvault://"},
		"path too long":     {"azurekeyvault://" + vault + "/keys/one/0123456789abcdef0123456789abcdef/wrapkey", good, "want azurekeyvault://"},
		"bare vault name":   {"azurekeyvault://films/keys/one", good, "want azurekeyvault://"},
		"port":              {"azurekeyvault://" + vault + ":8443/keys/one", good, "want azurekeyvault://"},
		"unknown parameter": {"azurekeyvault://" + vault + "/keys/one?secret=hunter2", good, "secret"},
		"RSA1_5":            {"azurekeyvault://" + vault + "/keys/one?algorithm=RSA1_5", good, "algorithm"},
		"plain http":        {"azurekeyvault://" + vault + "/keys/one?endpoint=http://10.0.0.1", good, "https"},
		"secret alone":      {"azurekeyvault://" + vault + "/keys/one", env{"AZURE_CLIENT_SECRET": "hunter2"}, "AZURE_TENANT_ID"},
		"certificate":       {"azurekeyvault://" + vault + "/keys/one", env{"AZURE_CLIENT_CERTIFICATE_PATH": "/x"}, "not supported"},
		"authority by http": {"azurekeyvault://" + vault + "/keys/one", env{"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "hunter2", "AZURE_AUTHORITY_HOST": "http://10.0.0.1"}, "AZURE_AUTHORITY_HOST"},
	} {
		uri, err := url.Parse(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		_, err = azurekeyvault.Open(t.Context(), uri, azurekeyvault.Options{Getenv: c.env.get})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one about %q that shows no secret", name, err, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		kind    string
		prepare func(s *azurekeyvaulttest.Server)
		want    error
		says    string
	}{
		"RSA version disabled": {"RSA", func(s *azurekeyvaulttest.Server) { s.Disable("one") }, kms.ErrKeyUnusable, "disabled"},
		"AES version disabled": {"oct-HSM", func(s *azurekeyvaulttest.Server) { s.Disable("one") }, kms.ErrKeyUnusable, "disabled"},
		"key deleted":          {"RSA", func(s *azurekeyvaulttest.Server) { s.Delete("one") }, kms.ErrKeyUnusable, "no such key"},
		"no permission":        {"RSA", func(s *azurekeyvaulttest.Server) { s.Deny() }, kms.ErrDenied, "Key Vault Crypto User"},
		"no permission on HSM": {"oct-HSM", func(s *azurekeyvaulttest.Server) { s.Deny() }, kms.ErrDenied, "Managed HSM Crypto User"},
	} {
		t.Run(name, func(t *testing.T) {
			s := azurekeyvaulttest.New(t, vault)
			s.CreateKey(t, "one", c.kind)
			path := "one"
			if c.kind == "oct-HSM" {
				path += "?algorithm=A256GCM"
			}
			m := openAt(t, s, path)
			wrapped, err := m.Wrap(t.Context(), []byte("data key"), nil)
			if err != nil {
				t.Fatal(err)
			}
			c.prepare(s)
			_, wrapErr := m.Wrap(t.Context(), []byte("data key"), nil)
			_, unwrapErr := m.Unwrap(t.Context(), m.KeyID(), wrapped, nil)
			for what, err := range map[string]error{"Wrap": wrapErr, "Unwrap": unwrapErr, "Check": m.Check(t.Context())} {
				if !errors.Is(err, c.want) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), m.KeyID()) {
					t.Errorf("%s: %v; want %v with %q and the key ID", what, err, c.want, c.says)
				}
				kmstest.Discreet(t, err, []byte("data key"))
				kmstest.Discreet(t, err, []byte(s.Secret))
			}
		})
	}
}

func TestKeyThatCannotWrap(t *testing.T) {
	for name, c := range map[string]struct {
		kind, query, says string
		ops               []string
	}{
		"EC key":                     {"EC", "", "type EC", nil},
		"AES key taken for RSA":      {"oct-HSM", "", "needs RSA", nil},
		"RSA key taken for AES":      {"RSA-HSM", "?algorithm=A256GCM", "needs oct", nil},
		"key that must not sign":     {"RSA", "", "sign", []string{"wrapKey", "unwrapKey", "verify"}},
		"key that must not unwrap":   {"RSA", "", "unwrapKey", []string{"wrapKey", "sign", "verify"}},
		"AES key that must not open": {"oct-HSM", "?algorithm=A256GCM", "decrypt", []string{"encrypt"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := azurekeyvaulttest.New(t, vault)
			s.CreateKey(t, "one", c.kind)
			if c.ops != nil {
				s.SetOps("one", c.ops...)
			}
			if err := openAt(t, s, "one"+c.query).Check(t.Context()); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %v with %q", err, kms.ErrKeyUnusable, c.says)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	s := azurekeyvaulttest.New(t, vault)
	s.CreateKey(t, "one", "RSA")
	current := openAt(t, s, "one")
	old, err := current.Wrap(t.Context(), []byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second := s.Rotate(t, "one")
	pinned := openAt(t, s, "one/"+second)
	s.Rotate(t, "one")
	if want := "https://" + vault + "/keys/one/" + second; pinned.KeyID() != want {
		t.Errorf("key ID %s, want %s", pinned.KeyID(), want)
	}
	middle, err := pinned.Wrap(t.Context(), []byte("middle"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*azurekeyvault.Manager{current, pinned} {
		for _, id := range []string{current.KeyID(), pinned.KeyID()} {
			if got, err := m.Unwrap(t.Context(), id, old, nil); err != nil || string(got) != "old" {
				t.Errorf("%s opening %s, wrapped before two rotations: %q, %v", m.KeyID(), id, got, err)
			}
			if got, err := m.Unwrap(t.Context(), id, middle, nil); err != nil || string(got) != "middle" {
				t.Errorf("%s opening %s, wrapped by a pinned version: %q, %v", m.KeyID(), id, got, err)
			}
		}
	}
	s.CreateKey(t, "one0", "RSA")
	for _, id := range []string{current.KeyID() + "0", current.KeyID() + "/", current.KeyID() + "/x", pinned.KeyID() + "/", strings.Replace(current.KeyID(), "films", "other", 1)} {
		if _, err := current.Unwrap(t.Context(), id, old, nil); !errors.Is(err, kms.ErrOtherKey) {
			t.Errorf("key ID %s: %v, want %v", id, err, kms.ErrOtherKey)
		}
	}
}

func TestSourcesOfTokens(t *testing.T) {
	tokenFile := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(tokenFile, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := azurekeyvaulttest.New(t, vault)
	s.FederatedToken = "signed by the cluster"
	s.CreateKey(t, "one", "RSA")
	id := env{"AZURE_TENANT_ID": azurekeyvaulttest.Tenant, "AZURE_CLIENT_ID": azurekeyvaulttest.Client}
	with := func(more env) env {
		e := env{}
		for _, m := range []env{id, more} {
			for k, v := range m {
				e[k] = v
			}
		}
		return e
	}
	check := func(e env) error {
		t.Helper()
		return open(t, "azurekeyvault://"+vault+"/keys/one", azurekeyvault.Options{HTTPClient: &http.Client{Transport: s.Transport()}, Getenv: e.get}).Check(t.Context())
	}

	write(s.FederatedToken + "\n")
	for name, e := range map[string]env{
		"secret":                      with(env{"AZURE_CLIENT_SECRET": s.Secret}),
		"secret at another authority": with(env{"AZURE_CLIENT_SECRET": s.Secret, "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/"}),
		"workload identity":           with(env{"AZURE_FEDERATED_TOKEN_FILE": tokenFile}),
		"identity of an app":          {"IDENTITY_ENDPOINT": "http://169.254.169.254/msi/token", "IDENTITY_HEADER": s.Secret},
		"identity of the machine":     {},
		"one of several identities":   id,
	} {
		if err := check(e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	write("signed by somebody else")
	for name, c := range map[string]struct {
		env  env
		says string
	}{
		"wrong secret":             {with(env{"AZURE_CLIENT_SECRET": "hunter2"}), "AADSTS7000215"},
		"unknown client":           {env{"AZURE_TENANT_ID": azurekeyvaulttest.Tenant, "AZURE_CLIENT_ID": "x", "AZURE_CLIENT_SECRET": s.Secret}, "AADSTS700016"},
		"workload token refused":   {with(env{"AZURE_FEDERATED_TOKEN_FILE": tokenFile}), "AADSTS700024"},
		"workload token not there": {with(env{"AZURE_FEDERATED_TOKEN_FILE": tokenFile + "x"}), "AZURE_FEDERATED_TOKEN_FILE"},
		"wrong header of an app":   {env{"IDENTITY_ENDPOINT": "http://169.254.169.254/msi/token", "IDENTITY_HEADER": "hunter2"}, "invalid_request"},
		"machine without that one": {env{"AZURE_CLIENT_ID": "x"}, "Identity not found"},
	} {
		err := check(c.env)
		if !errors.Is(err, kms.ErrDenied) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, kms.ErrDenied, c.says)
		}
		kmstest.Discreet(t, err, []byte("hunter2"))
	}
}

func TestTokensAreReplaced(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := azurekeyvaulttest.New(t, vault)
	s.Now = func() time.Time { return now }
	s.CreateKey(t, "one", "RSA")
	m := open(t, "azurekeyvault://"+vault+"/keys/one", azurekeyvault.Options{
		HTTPClient: &http.Client{Transport: s.Transport()}, Getenv: secretEnv(s).get, Now: s.Now,
	})
	for _, step := range []struct {
		name   string
		do     func()
		issued int
	}{
		{"first use", func() {}, 1},
		{"second use", func() {}, 1},
		{"almost an hour later", func() { now = now.Add(59*time.Minute + time.Second) }, 2},
		{"revoked", s.RevokeTokens, 3},
	} {
		step.do()
		if err := m.Check(t.Context()); err != nil || s.Issued() != step.issued {
			t.Errorf("%s: %v with %d tokens issued, want %d", step.name, err, s.Issued(), step.issued)
		}
	}
}

// A token that the vault never accepts is not fetched for ever.
func TestVaultOfAnotherTenant(t *testing.T) {
	s := azurekeyvaulttest.New(t, vault)
	s.CreateKey(t, "one", "RSA")
	m := openAt(t, s, "one")
	refuse := kmstest.Answer(401, `{"error":{"code":"Unauthorized","message":"AKV10032: Invalid issuer."}}`)
	allow := s.ServeHTTP
	s.Next(allow, refuse, allow, refuse)
	err := m.Check(t.Context())
	if !errors.Is(err, kms.ErrDenied) || !strings.Contains(err.Error(), "tenant") || !strings.Contains(err.Error(), "AKV10032") || s.Seen() != 4 {
		t.Errorf("%v after %d requests", err, s.Seen())
	}
}

func TestFaultsThatPass(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"throttled":       kmstest.Answer(429, `{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received."}}`),
		"unavailable":     kmstest.Answer(503, ``),
		"connection lost": kmstest.HangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := azurekeyvaulttest.New(t, vault)
			s.CreateKey(t, "one", "RSA")
			m := openAt(t, s, "one")
			s.Next(fault, s.ServeHTTP, fault, s.ServeHTTP, fault, s.ServeHTTP, fault) // token, get, wrapkey, sign
			if err := m.Check(t.Context()); err != nil || s.Seen() != 10 {
				t.Errorf("%v after %d requests, want 10", err, s.Seen())
			}
		})
	}
}

func TestAnswersThatMeanNothing(t *testing.T) {
	other := `{"kid":"https://films.vault.azure.net/keys/other/0123456789abcdef0123456789abcdef","value":"AAAA"}`
	for what, answer := range map[string]http.HandlerFunc{
		"not JSON":             kmstest.Answer(200, `<html>`),
		"JSON of another kind": kmstest.Answer(200, `[]`),
		"empty object":         kmstest.Answer(200, `{}`),
		"for another key":      kmstest.Answer(200, other),
		"blocked by a proxy":   kmstest.Answer(403, `<html>`),
		"huge":                 kmstest.Huge,
	} {
		t.Run(what, func(t *testing.T) {
			s := azurekeyvaulttest.New(t, hsm)
			s.CreateKey(t, "one", "oct-HSM")
			m := openAt(t, s, "one?algorithm=A256GCM")
			wrapped, err := m.Wrap(t.Context(), []byte("x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Next(answer) // meets get
			if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Wrap, get: %v", err)
			}
			s.Next(s.ServeHTTP, answer) // meets encrypt
			if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Wrap, encrypt: %v", err)
			}
			s.Next(answer)
			if _, err := m.Unwrap(t.Context(), m.KeyID(), wrapped, nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Unwrap: %v", err)
			}
		})
	}
}

func TestEndpointReplacesTheVaultsAddress(t *testing.T) {
	s := azurekeyvaulttest.New(t, vault)
	s.CreateKey(t, "one", "RSA")
	e := secretEnv(s)
	e["AZURE_AUTHORITY_HOST"] = s.URL
	m := open(t, "azurekeyvault://"+vault+"/keys/one?endpoint="+s.URL, azurekeyvault.Options{Getenv: e.get})
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if want := "https://" + vault + "/keys/one"; m.KeyID() != want {
		t.Errorf("key ID %s, want %s: it must not depend on the way there", m.KeyID(), want)
	}
}
