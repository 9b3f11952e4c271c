package config_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"spekeasy/internal/config"
)

// What could be secret is left out wherever it stands, the rest stays.
func TestRedact(t *testing.T) {
	const text = `
listen: 127.0.0.1:8080
store: postgres://user:hunter2@db.example.com/keys?sslpassword=hunter2
former_key_managers: ["hashivault://vault/key?token=hunter2"]
never_heard_of: hunter2
telemetry: {headers: {x-api-key: hunter2}}
tenants:
- id: acme
  max_keys: 40
  credentials:
  - {name: a, basic: {user: hunter2, password: hunter2}}
  - {name: b, api_key: {key: "${B}", header: X}}
  - {name: c, token: {token: "${file:/run/secret} and hunter2"}}
  - {name: d, token: {token: 222333}}
  key_source: {kind: hkdf, seed: hunter2}
  drm: {fairplay: {uri: "skd://hunter2"}}
`
	out, err := config.Redact([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"hunter2", "222333", "/run/secret"} {
		if strings.Contains(string(out), gone) {
			t.Errorf("%s in\n%s", gone, out)
		}
	}
	for _, kept := range []string{"listen: 127.0.0.1:8080", "store: postgres://db.example.com/keys", "- hashivault://vault/key", "max_keys: 40", "name: b", "key: ${B}", "kind: hkdf"} {
		if !strings.Contains(string(out), kept) {
			t.Errorf("no %s in\n%s", kept, out)
		}
	}
	if out, err := config.Redact([]byte("a: [hunter2\nb: hunter2")); err == nil || out != nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("of a broken text: %q, %v", out, err)
	}
}

// The commented example keeps its shape.
func TestRedactExample(t *testing.T) {
	text, err := os.ReadFile("../../examples/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, err := config.Redact(text)
	if err != nil || !strings.Contains(string(out), "password: ${ACME_PASSWORD}") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestSecrets(t *testing.T) {
	c, err := config.Parse([]byte(`
data: d
store: postgres://user:one@db/keys
telemetry: {endpoint: "http://c", headers: {a: two}}
auth: {digest: {key: three-is-a-long-secret-for-nonces}}
tenants:
- id: acme
  credentials: [{name: a, basic: {user: u, password: four}}]
  key_source: {kind: hkdf, seed: c2VlZCBvZiBhbGwga2V5cyB0aGF0IG5vYm9keSBtYXkgc2Vl}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := c.Secrets()
	for _, want := range []string{"one", "two", "three-is-a-long-secret-for-nonces", "four", "c2VlZCBvZiBhbGwga2V5cyB0aGF0IG5vYm9keSBtYXkgc2Vl"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
}
