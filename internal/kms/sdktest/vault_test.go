package sdktest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	vault "github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/helper/keysutil"
	"github.com/hashicorp/vault/sdk/logical"
	bao "github.com/openbao/openbao/api/v2"

	"spekeasy/internal/kms/hashivault"
	"spekeasy/internal/kms/hashivault/hashivaulttest"
)

// transitClient is what the clients of both projects have in common here.
type transitClient struct {
	write  func(path string, data map[string]any) (map[string]any, error)
	read   func(path string) (map[string]any, error)
	login  func(path string, data map[string]any) (string, error)
	status func(error) int
}

func vaultClient(t *testing.T, s *hashivaulttest.Server) transitClient {
	t.Helper()
	c, err := vault.NewClient(&vault.Config{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(s.Root)
	c.SetNamespace(s.Namespace)
	c.SetMaxRetries(0)
	data := func(r *vault.Secret, err error) (map[string]any, error) {
		if r == nil {
			return nil, err
		}
		return r.Data, err
	}
	return transitClient{
		write: func(path string, in map[string]any) (map[string]any, error) {
			return data(c.Logical().WriteWithContext(t.Context(), path, in))
		},
		read: func(path string) (map[string]any, error) { return data(c.Logical().ReadWithContext(t.Context(), path)) },
		login: func(path string, in map[string]any) (string, error) {
			r, err := c.Logical().WriteWithContext(t.Context(), path, in)
			if err != nil {
				return "", err
			}
			return r.Auth.ClientToken, nil
		},
		status: func(err error) int {
			if e, ok := errors.AsType[*vault.ResponseError](err); ok {
				return e.StatusCode
			}
			return 0
		},
	}
}

func baoClient(t *testing.T, s *hashivaulttest.Server) transitClient {
	t.Helper()
	config := bao.DefaultConfig()
	config.Address = s.URL
	c, err := bao.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(s.Root)
	c.SetNamespace(s.Namespace)
	c.SetMaxRetries(0)
	data := func(r *bao.Secret, err error) (map[string]any, error) {
		if r == nil {
			return nil, err
		}
		return r.Data, err
	}
	return transitClient{
		write: func(path string, in map[string]any) (map[string]any, error) {
			return data(c.Logical().WriteWithContext(t.Context(), path, in))
		},
		read: func(path string) (map[string]any, error) { return data(c.Logical().ReadWithContext(t.Context(), path)) },
		login: func(path string, in map[string]any) (string, error) {
			r, err := c.Logical().WriteWithContext(t.Context(), path, in)
			if err != nil {
				return "", err
			}
			return r.Auth.ClientToken, nil
		},
		status: func(err error) int {
			if e, ok := errors.AsType[*bao.ResponseError](err); ok {
				return e.StatusCode
			}
			return 0
		},
	}
}

func vaultManager(t *testing.T, s *hashivaulttest.Server) *hashivault.Manager {
	t.Helper()
	namespace := ""
	if s.Namespace != "" {
		namespace = "&namespace=" + s.Namespace
	}
	m, err := hashivault.Open(t.Context(), parse(t, "hashivault://"+strings.TrimPrefix(s.URL, "http://")+"/kek?tls=off"+namespace), hashivault.Options{
		Getenv: func(n string) string { return map[string]string{"VAULT_TOKEN": s.Root}[n] },
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestVaultAndOpenBao(t *testing.T) {
	for name, client := range map[string]func(*testing.T, *hashivaulttest.Server) transitClient{"Vault": vaultClient, "OpenBao": baoClient} {
		t.Run(name, func(t *testing.T) {
			s := hashivaulttest.New(t, false)
			s.Namespace = "media"
			s.CreateKey("kek", hashivaulttest.Key{})
			sdk, ours := client(t, s), vaultManager(t, s)
			b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

			wrapped, err := ours.Wrap(t.Context(), []byte("ours"), []byte("aad"))
			if err != nil {
				t.Fatal(err)
			}
			opened, err := sdk.write("transit/decrypt/kek", map[string]any{"ciphertext": string(wrapped), "associated_data": b64("aad")})
			if err != nil || opened["plaintext"] != b64("ours") {
				t.Errorf("client opens ours: %v, %v", opened, err)
			}
			theirs, err := sdk.write("transit/encrypt/kek", map[string]any{"plaintext": b64("theirs"), "associated_data": b64("aad")})
			if err != nil {
				t.Fatal(err)
			}
			ciphertext, _ := theirs["ciphertext"].(string)
			if got, err := ours.Unwrap(t.Context(), ours.KeyID(), []byte(ciphertext), []byte("aad")); err != nil || string(got) != "theirs" {
				t.Errorf("we open the client's: %q, %v", got, err)
			}
			key, err := sdk.read("transit/keys/kek")
			if err != nil || key["type"] != "aes256-gcm96" || key["derived"] != false {
				t.Errorf("key: %v, %v", key, err)
			}
			if key, err := sdk.read("transit/keys/none"); key != nil || err != nil {
				t.Errorf("key that is not there: %v, %v; the client takes 404 for nothing", key, err)
			}

			token, err := sdk.login("auth/approle/login", map[string]any{"role_id": s.RoleID, "secret_id": s.SecretID})
			if err != nil || token == "" {
				t.Errorf("AppRole: %v", err)
			}
			token, err = sdk.login("auth/kubernetes/login", map[string]any{"role": s.Role, "jwt": s.JWT})
			if err != nil || token == "" {
				t.Errorf("Kubernetes: %v", err)
			}

			_, err = sdk.write("transit/decrypt/kek", map[string]any{"ciphertext": string(wrapped)})
			if sdk.status(err) != 400 || !strings.Contains(err.Error(), "cipher: message authentication failed") {
				t.Errorf("no associated data: %v", err)
			}
			s.May = nil
			_, err = sdk.write("transit/encrypt/kek", map[string]any{"plaintext": b64("x")})
			if sdk.status(err) != 403 {
				t.Errorf("no permission: %v", err)
			}
		})
	}
}

// associated is what Vault's transit engine hands to keysutil.
type associated struct{ encoded string }

func (a associated) GetAssociatedData() ([]byte, error) {
	return base64.StdEncoding.DecodeString(a.encoded)
}

// The code that encrypts inside Vault's transit engine is published as a
// library. It opens what the test server made with the same key, and the
// test server opens what it made.
func TestCiphertextsAreThoseOfVaultsTransitEngine(t *testing.T) {
	s := hashivaulttest.New(t, false)
	s.CreateKey("kek", hashivaulttest.Key{})
	s.Rotate("kek")
	ours := vaultManager(t, s)

	storage := &logical.InmemStorage{}
	real := keysutil.NewPolicy(keysutil.PolicyConfig{Name: "kek", Type: keysutil.KeyType_AES256_GCM96})
	for version := 1; version <= 2; version++ {
		if err := real.Import(context.Background(), storage, s.Material("kek", version), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	aad := associated{base64.StdEncoding.EncodeToString([]byte("aad"))}

	wrapped, err := ours.Wrap(t.Context(), []byte("ours"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := real.DecryptWithFactory(nil, nil, string(wrapped), aad)
	if err != nil || got != base64.StdEncoding.EncodeToString([]byte("ours")) {
		t.Errorf("transit opens ours: %q, %v", got, err)
	}
	if _, err := real.DecryptWithFactory(nil, nil, string(wrapped), associated{}); err == nil {
		t.Error("transit opens ours without the associated data")
	} else if !strings.Contains(err.Error(), "cipher: message authentication failed") {
		t.Errorf("transit has other words for it now: %v", err)
	}

	for version := 1; version <= 2; version++ {
		theirs, err := real.EncryptWithFactory(version, nil, nil, base64.StdEncoding.EncodeToString([]byte("theirs")), aad)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(theirs, "vault:v"+strconv.Itoa(version)+":") {
			t.Errorf("transit writes %q", theirs)
		}
		if got, err := ours.Unwrap(t.Context(), ours.KeyID(), []byte(theirs), []byte("aad")); err != nil || string(got) != "theirs" {
			t.Errorf("we open what transit encrypted under version %d: %q, %v", version, got, err)
		}
	}
}
