package secretref_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spekeasy/internal/config"
	"spekeasy/internal/secretref"
)

const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:upstream-AbCdEf"

// keepers are a Vault and a Secrets Manager, as far as they are asked here.
func keepers(t *testing.T) (getenv func(string) (string, bool), asked map[string]int) {
	t.Helper()
	asked = make(map[string]int)
	mux := http.NewServeMux()
	vault := func(answer string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked[r.URL.Path]++
			if r.Header.Get("X-Vault-Token") != "s.token" || r.Header.Get("X-Vault-Namespace") != "tv" {
				http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
				return
			}
			io.WriteString(w, answer) //nolint:errcheck // a test
		}
	}
	mux.HandleFunc("GET /v1/secret/data/spekeasy", vault(`{"data":{"data":{"password":"hunter2","port":8443,"list":[]},"metadata":{"version":3}}}`))
	mux.HandleFunc("GET /v1/kv1/spekeasy", vault(`{"data":{"data":"no wrapping","password":"hunter1"}}`))
	mux.HandleFunc("GET /v1/odd", vault(`<html>`))
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		asked["aws"]++
		if r.Header.Get("X-Amz-Target") != "secretsmanager.GetSecretValue" || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIDTEST/") {
			http.Error(w, `{"__type":"AccessDeniedException"}`, http.StatusBadRequest)
			return
		}
		io.WriteString(w, `{"ARN":"`+arn+`","VersionId":"1","SecretString":"{\"key\":\"from aws\"}"}`) //nolint:errcheck // a test
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("s.token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"PLAIN": "value", "VAULT_ADDR": s.URL, "VAULT_TOKEN_FILE": tokenFile, "VAULT_NAMESPACE": "tv",
		"AWS_ENDPOINT_URL_SECRETS_MANAGER": s.URL + "/",
	}
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }, asked
}

func TestLookup(t *testing.T) {
	getenv, asked := keepers(t)
	r := secretref.New(t.Context(), getenv)
	for range 2 {
		for ref, want := range map[string]string{
			"PLAIN":                               "value",
			"vault:secret/data/spekeasy#password": "hunter2",
			"vault:secret/data/spekeasy#port":     "8443",
			"vault:kv1/spekeasy#password":         "hunter1",
			"vault:kv1/spekeasy#data":             "no wrapping",
			"secretsmanager:" + arn + "#key":      "from aws",
		} {
			if got, ok := r.Lookup(ref); !ok || got != want {
				t.Errorf("%s: %q %t, %v", ref, got, ok, r.Err())
			}
		}
	}
	if r.Err() != nil || len(asked) != 3 || asked["/v1/secret/data/spekeasy"] != 1 || asked["aws"] != 1 {
		t.Errorf("asked %v, %v", asked, r.Err())
	}
}

func TestFaults(t *testing.T) {
	getenv, _ := keepers(t)
	without := func(name string) func(string) (string, bool) {
		return func(n string) (string, bool) {
			if n == name {
				return "", false
			}
			return getenv(n)
		}
	}
	for _, c := range []struct {
		ref, want string
		getenv    func(string) (string, bool)
	}{
		{"vault:secret/data/spekeasy", "want PATH#FIELD", getenv},
		{"vault:secret/data/spekeasy#nothing", `secret/data/spekeasy: it has no field "nothing"`, getenv},
		{"vault:secret/data/spekeasy#list", "neither text nor a number", getenv},
		{"vault:secret/data/other#x", "404 Not Found", getenv},
		{"vault:odd#x", "not that of a secret", getenv},
		{"vault:kv1/spekeasy#password", "neither VAULT_TOKEN nor VAULT_TOKEN_FILE", without("VAULT_TOKEN_FILE")},
		{"vault:kv1/spekeasy#password", "VAULT_ADDR is not", without("VAULT_ADDR")},
		{"vault:kv1/spekeasy#password", "403 Forbidden", without("VAULT_NAMESPACE")},
		{"secretsmanager:" + arn + "#nothing", `no field "nothing"`, getenv},
	} {
		r := secretref.New(t.Context(), c.getenv)
		got, ok := r.Lookup(c.ref)
		if ok || got != "" || r.Err() == nil || !strings.Contains(r.Err().Error(), c.want) {
			t.Errorf("%s: %q %t, %v", c.ref, got, ok, r.Err())
		} else if text := r.Err().Error(); strings.Contains(text, "hunter") || strings.Contains(text, "s.token") {
			t.Errorf("%s: tells %s", c.ref, text)
		}
	}
	// A variable that is not set is for the configuration to report.
	r := secretref.New(t.Context(), getenv)
	if _, ok := r.Lookup("UNSET"); ok || r.Err() != nil {
		t.Error(ok, r.Err())
	}
}

// TestInConfiguration reads a configuration with references.
func TestInConfiguration(t *testing.T) {
	getenv, _ := keepers(t)
	r := secretref.New(context.Background(), getenv)
	c, err := config.Parse([]byte("data: d\ntenants:\n- id: acme\n  credentials:\n  - {name: c, basic: {user: u, password: '${vault:secret/data/spekeasy#password}'}}\n"), r.Lookup)
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	if got := string(c.Tenants[0].Credentials[0].Basic.Password); got != "hunter2" {
		t.Errorf("%q", got)
	}
}
