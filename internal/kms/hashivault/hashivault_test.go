package hashivault_test

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/hashivault"
	"spekeasy/internal/kms/hashivault/hashivaulttest"
	"spekeasy/internal/kms/kmstest"
)

type env map[string]string

func (e env) get(name string) string { return e[name] }

func open(t *testing.T, raw string, opts hashivault.Options) *hashivault.Manager {
	t.Helper()
	uri, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Getenv == nil {
		opts.Getenv = env{}.get
	}
	m, err := hashivault.Open(t.Context(), uri, opts)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func openAt(t *testing.T, s *hashivaulttest.Server, keyAndParams string) *hashivault.Manager {
	t.Helper()
	separator := "?"
	if strings.Contains(keyAndParams, "?") {
		separator = "&"
	}
	return open(t, "hashivault://"+strings.TrimPrefix(s.URL, "http://")+"/"+keyAndParams+separator+"tls=off", hashivault.Options{
		Getenv: env{"VAULT_TOKEN": s.Root, "VAULT_ROLE_ID": s.RoleID, "VAULT_SECRET_ID": s.SecretID}.get,
	})
}

func TestSuite(t *testing.T) {
	s := hashivaulttest.New(t, false)
	s.CreateKey("one", hashivaulttest.Key{})
	s.CreateKey("other", hashivaulttest.Key{})
	kmstest.Run(t, kmstest.Backend{
		Open:      func(t *testing.T) kms.Manager { return openAt(t, s, "one") },
		OpenOther: func(t *testing.T) kms.Manager { return openAt(t, s, "other") },
		OpenUnreachable: func(t *testing.T) kms.Manager {
			return open(t, "hashivault://127.0.0.1:1/one", hashivault.Options{Getenv: env{"VAULT_TOKEN": "x"}.get})
		},
	})
}

func TestOpenRefuses(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca")
	if err := os.WriteFile(notPEM, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		"hashivault:///key":                                     "want hashivault://",
		"hashivault://vault:8200":                               "want hashivault://",
		"hashivault://vault:8200/":                              "want hashivault://",
		"hashivault://vault:8200/a/b":                           "want hashivault://",
		"hashivault://vault:8200/..":                            "want hashivault://",
		"hashivault://vault:8200/a%2Fb":                         "want hashivault://",
		"hashivault://hvs.hunter2@vault:8200/key":               "credentials",
		"hashivault://vault:8200/key?token=hunter2":             "token",
		"hashivault://vault:8200/key?mount=/transit":            "mount",
		"hashivault://vault:8200/key?mount=a/../b":              "mount",
		"hashivault://vault:8200/key?namespace=a//b":            "namespace",
		"hashivault://vault:8200/key?tls=off":                   "https",
		"hashivault://127.0.0.1:8200/key?tls=no":                "tls",
		"hashivault://vault:8200/key?auth=ldap":                 "approle or kubernetes",
		"hashivault://vault:8200/key?auth=kubernetes":           "role",
		"hashivault://vault:8200/key?role=x":                    "auth=token",
		"hashivault://vault:8200/key?auth=approle&token_file=x": "auth=approle",
		"hashivault://vault:8200/key?ca_file=/nonexistent":      "/nonexistent",
		"hashivault://vault:8200/key?ca_file=" + notPEM:         "no PEM certificate",
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = hashivault.Open(t.Context(), uri, hashivault.Options{Getenv: env{}.get})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one about %q that shows no secret", raw, err, want)
		}
	}
}

func TestKeyID(t *testing.T) {
	for raw, want := range map[string]string{
		"hashivault://vault:8200/films":                              "hashivault:transit/keys/films",
		"hashivault://other.example/films":                           "hashivault:transit/keys/films",
		"hashivault://vault:8200/films?mount=kms/transit":            "hashivault:kms/transit/keys/films",
		"hashivault://vault:8200/films?namespace=media/de&mount=kms": "hashivault:media/de/kms/keys/films",
	} {
		if got := open(t, raw, hashivault.Options{}).KeyID(); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(s *hashivaulttest.Server)
		want    error
		says    string
	}{
		"deleted":             {func(s *hashivaulttest.Server) { s.Change("one", nil) }, kms.ErrKeyUnusable, "no such key"},
		"deleted, restorable": {func(s *hashivaulttest.Server) { s.Change("one", func(k *hashivaulttest.Key) { k.SoftDeleted = true }) }, kms.ErrKeyUnusable, "restored"},
		"no permission":       {func(s *hashivaulttest.Server) { s.May = nil }, kms.ErrDenied, "update on encrypt/one"},
		"token revoked":       {func(s *hashivaulttest.Server) { s.Root = "hvs.other" }, kms.ErrDenied, "token is no longer good"},
		"mount moved":         {func(s *hashivaulttest.Server) { s.Mount = "elsewhere" }, kms.ErrKeyUnusable, "mount"},
	} {
		t.Run(name, func(t *testing.T) {
			s := hashivaulttest.New(t, false)
			s.CreateKey("one", hashivaulttest.Key{})
			m := openAt(t, s, "one")
			wrapped, err := m.Wrap(t.Context(), []byte("data key"), nil)
			if err != nil {
				t.Fatal(err)
			}
			root := s.Root
			c.prepare(s)
			_, wrapErr := m.Wrap(t.Context(), []byte("data key"), nil)
			_, unwrapErr := m.Unwrap(t.Context(), m.KeyID(), wrapped, nil)
			for what, err := range map[string]error{"Wrap": wrapErr, "Unwrap": unwrapErr, "Check": m.Check(t.Context())} {
				if !errors.Is(err, c.want) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "transit/keys/one") {
					t.Errorf("%s: %v; want %v with %q and the key's name", what, err, c.want, c.says)
				}
				kmstest.Discreet(t, err, []byte("data key"))
				kmstest.Discreet(t, err, []byte(root))
			}
		})
	}
}

func TestKeyThatCannotWrap(t *testing.T) {
	for says, key := range map[string]hashivaulttest.Key{
		"rsa-2048": {Type: "rsa-2048"},
		"ed25519":  {Type: "ed25519"},
		"derived":  {Derived: true},
	} {
		s := hashivaulttest.New(t, false)
		s.CreateKey("one", key)
		if err := openAt(t, s, "one").Check(t.Context()); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %v with %q", err, kms.ErrKeyUnusable, says)
		}
	}
}

// Vault makes a key that somebody encrypts with. A KEK that is missing must
// stay missing: a new one under its name would hide the loss.
func TestMissingKeyIsNotMade(t *testing.T) {
	s := hashivaulttest.New(t, false)
	s.May = []string{"read", "update", "create"}
	m := openAt(t, s, "one")
	if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrKeyUnusable) {
		t.Errorf("%v, want %v", err, kms.ErrKeyUnusable)
	}
	s.CreateKey("one", hashivaulttest.Key{})
	if err := m.Check(t.Context()); err != nil {
		t.Error(err)
	}
	s.Change("one", nil)
	if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrKeyUnusable) {
		t.Errorf("deleted while we run: %v, want %v", err, kms.ErrKeyUnusable)
	}
	if s.Exists("one") {
		t.Error("the key was made")
	}
}

func TestServerThatIgnoresAssociatedData(t *testing.T) {
	s := hashivaulttest.New(t, false)
	s.BeforeAssociatedData = true
	s.CreateKey("one", hashivaulttest.Key{})
	m := openAt(t, s, "one")
	for range 2 {
		if _, err := m.Wrap(t.Context(), []byte("x"), []byte("aad")); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), "1.13") {
			t.Errorf("%v, want %v and the version", err, kms.ErrKeyUnusable)
		}
	}
}

func TestRotationInVault(t *testing.T) {
	s := hashivaulttest.New(t, false)
	s.CreateKey("one", hashivaulttest.Key{})
	m := openAt(t, s, "one")
	old, err := m.Wrap(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Rotate("one")
	if err := m.Check(t.Context()); err != nil {
		t.Errorf("new version: %v", err)
	}
	if got, err := m.Unwrap(t.Context(), m.KeyID(), old, nil); err != nil || string(got) != "data key" {
		t.Errorf("old version: %q, %v", got, err)
	}
	s.Change("one", func(k *hashivaulttest.Key) { k.MinDecrypt = 2 })
	if _, err := m.Unwrap(t.Context(), m.KeyID(), old, nil); !errors.Is(err, kms.ErrKeyUnusable) || !strings.Contains(err.Error(), "min_decryption_version") {
		t.Errorf("old version that is locked out: %v", err)
	}
}

func TestAuthentication(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	s := hashivaulttest.New(t, false)
	s.Namespace, s.Mount, s.AppRoleMount = "media", "kms/transit", "apps/approle"
	s.CreateKey("one", hashivaulttest.Key{})
	const base = "one?namespace=media&mount=kms/transit"
	for name, params := range map[string]string{
		"token of the environment": "",
		"token of a file":          "&token_file=" + file("token", s.Root+"\n"),
		"AppRole":                  "&auth=approle&auth_mount=apps/approle",
		"AppRole of files":         "&auth=approle&auth_mount=apps/approle&role_id_file=" + file("role", s.RoleID) + "&secret_id_file=" + file("secret", s.SecretID+"\n"),
		"Kubernetes":               "&auth=kubernetes&role=spekeasy&jwt_file=" + file("jwt", s.JWT),
	} {
		if err := openAt(t, s, base+params).Check(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct{ params, says string }{
		"wrong token":        {"&token_file=" + file("bad", "hunter2"), "token is no longer good"},
		"no token file":      {"&token_file=" + dir + "/none", "no such file"},
		"empty token file":   {"&token_file=" + file("empty", ""), "VAULT_TOKEN"},
		"wrong secret ID":    {"&auth=approle&auth_mount=apps/approle&secret_id_file=" + file("bad", "hunter2"), "invalid role or secret ID"},
		"no such auth mount": {"&auth=approle", "no handler for route"},
		"wrong JWT":          {"&auth=kubernetes&role=spekeasy&jwt_file=" + file("bad", "hunter2"), "permission denied"},
		"wrong role":         {"&auth=kubernetes&role=other&jwt_file=" + file("jwt", s.JWT), "invalid role name"},
		"not in a cluster":   {"&auth=kubernetes&role=other", "/var/run/secrets/kubernetes.io/serviceaccount/token"},
	} {
		err := openAt(t, s, base+c.params).Check(t.Context())
		if !errors.Is(err, kms.ErrDenied) || errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want %v with %q", name, err, kms.ErrDenied, c.says)
		}
		kmstest.Discreet(t, err, []byte("hunter2"))
	}
	m := open(t, "hashivault://"+strings.TrimPrefix(s.URL, "http://")+"/one?tls=off&auth=approle", hashivault.Options{})
	if err := m.Check(t.Context()); !errors.Is(err, kms.ErrDenied) || !strings.Contains(err.Error(), "VAULT_ROLE_ID") {
		t.Errorf("no role ID: %v", err)
	}
}

// Vault can quote a secret ID that it refuses.
func TestSecretInVaultsAnswerIsNotRepeated(t *testing.T) {
	s := hashivaulttest.New(t, false)
	m := openAt(t, s, "one?auth=approle")
	s.Next(kmstest.Answer(400, `{"errors":["invalid secret_id \"`+s.SecretID+`\""]}`))
	err := m.Check(t.Context())
	if !errors.Is(err, kms.ErrDenied) {
		t.Errorf("%v, want %v", err, kms.ErrDenied)
	}
	kmstest.Discreet(t, err, []byte(s.SecretID))
}

func TestLoginIsRepeatedWhenTheTokenEnds(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := hashivaulttest.New(t, false)
	s.Now = func() time.Time { return now }
	s.CreateKey("one", hashivaulttest.Key{})
	m := open(t, "hashivault://"+strings.TrimPrefix(s.URL, "http://")+"/one?tls=off&auth=approle", hashivault.Options{
		Getenv: env{"VAULT_ROLE_ID": s.RoleID, "VAULT_SECRET_ID": s.SecretID}.get, Now: s.Now,
	})
	for _, step := range []struct {
		name   string
		do     func()
		logins int
	}{
		{"first use", func() {}, 1},
		{"second use", func() {}, 1},
		{"almost an hour later", func() { now = now.Add(59*time.Minute + time.Second) }, 2},
		{"revoked", s.RevokeTokens, 3},
		{"tokens that last for ever", func() { s.RevokeTokens(); s.TTL = 0 }, 4},
		{"a year later", func() { now = now.Add(365 * 24 * time.Hour) }, 4},
	} {
		step.do()
		if err := m.Check(t.Context()); err != nil || s.Logins() != step.logins {
			t.Errorf("%s: %v with %d logins, want %d", step.name, err, s.Logins(), step.logins)
		}
	}
}

// An agent writes a new token to the file before the old one ends.
func TestTokenFileIsReadAgain(t *testing.T) {
	s := hashivaulttest.New(t, false)
	s.CreateKey("one", hashivaulttest.Key{})
	path := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(s.Root)
	m := openAt(t, s, "one?token_file="+path)
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Root = "hvs.next"
	write(s.Root)
	if err := m.Check(t.Context()); err != nil {
		t.Errorf("after the token was replaced: %v", err)
	}
}

func TestCAFile(t *testing.T) {
	s := hashivaulttest.New(t, true)
	s.CreateKey("one", hashivaulttest.Key{})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.HTTP.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(s.URL, "https://")
	opts := hashivault.Options{Getenv: env{"VAULT_TOKEN": s.Root}.get}
	if err := open(t, "hashivault://"+address+"/one?ca_file="+ca, opts).Check(t.Context()); err != nil {
		t.Errorf("with the CA: %v", err)
	}
	if err := open(t, "hashivault://"+address+"/one", opts).Check(t.Context()); !errors.Is(err, kms.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the CA: %v", err)
	}
	opts.HTTPClient = &http.Client{Transport: &http.Transport{}}
	if err := open(t, "hashivault://"+address+"/one?ca_file="+ca, opts).Check(t.Context()); err != nil {
		t.Errorf("with the CA and a client: %v", err)
	}
}

func TestFaultsThatPass(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"sealed":              kmstest.Answer(503, `{"errors":["Vault is sealed"]}`),
		"rate limited":        kmstest.Answer(429, `{"errors":["request path \"transit/encrypt/one\": rate limit quota exceeded"]}`),
		"internal error":      kmstest.Answer(500, `{"errors":["internal error"]}`),
		"not yet replicated":  kmstest.Answer(412, `{"errors":["required index state not present"]}`),
		"performance standby": kmstest.Answer(473, `{"errors":[]}`),
		"connection lost":     kmstest.HangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hashivaulttest.New(t, false)
			s.CreateKey("one", hashivaulttest.Key{})
			m := openAt(t, s, "one")
			s.Next(fault)
			if err := m.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnswersThatMeanNothing(t *testing.T) {
	for what, answer := range map[string]http.HandlerFunc{
		"not JSON":             kmstest.Answer(200, `<html>`),
		"JSON of another kind": kmstest.Answer(200, `[]`),
		"empty object":         kmstest.Answer(200, `{}`),
		"no ciphertext":        kmstest.Answer(200, `{"data":{"ciphertext":"vault:v1:","plaintext":""}}`),
		"blocked by a proxy":   kmstest.Answer(403, `<html>`),
		"not found by a proxy": kmstest.Answer(404, `not here`),
		"standby node":         kmstest.Redirect("https://active.example:8200/v1/transit/encrypt/one"),
		"huge":                 kmstest.Huge,
	} {
		t.Run(what, func(t *testing.T) {
			s := hashivaulttest.New(t, false)
			s.CreateKey("one", hashivaulttest.Key{})
			m := openAt(t, s, "one")
			wrapped, err := m.Wrap(t.Context(), []byte("x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			s.Next(answer, answer) // meets read, twice where a token is refused
			if _, err := m.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Wrap, read: %v", err)
			}
			fresh := hashivaulttest.New(t, false)
			fresh.CreateKey("one", hashivaulttest.Key{})
			n := openAt(t, fresh, "one")
			if err := n.Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			fresh.Next(fresh.ServeHTTP, answer, answer) // meets encrypt
			if _, err := n.Wrap(t.Context(), []byte("x"), nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Wrap, encrypt: %v", err)
			}
			last := hashivaulttest.New(t, false)
			last.Next(answer, answer)
			if _, err := openAt(t, last, "one").Unwrap(t.Context(), m.KeyID(), wrapped, nil); !errors.Is(err, kms.ErrUnavailable) {
				t.Errorf("Unwrap: %v", err)
			}
		})
	}
}
