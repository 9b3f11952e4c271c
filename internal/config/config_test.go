package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/config"
)

// env is an environment.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

const minimal = `
data: /var/lib/spekeasy
tenants:
  - id: studio
    credentials:
      - name: encoder
        basic: {user: encoder, password: "${PASSWORD}"}
`

func TestMinimal(t *testing.T) {
	c, err := config.Parse([]byte(minimal), env("PASSWORD", "pa$$ word: #1"))
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	if c.Listen != want.Listen || c.Cache != want.Cache || c.Sealing != want.Sealing || c.Log != want.Log || c.Data != "/var/lib/spekeasy" {
		t.Errorf("%+v", c)
	}
	if time.Duration(c.Sealing.Reuse) != time.Minute { // SX-CKE-04
		t.Errorf("document keys are used again for %v", time.Duration(c.Sealing.Reuse))
	}
	if got := c.Tenants[0].Credentials[0].Basic.Password; got != "pa$$ word: #1" {
		t.Errorf("password %q", got)
	}
}

// TestReferences holds what stands for environment variables and files.
func TestReferences(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	getenv := env("A", "one", "B", "two ${A}", "EMPTY", "")
	for text, want := range map[string]string{
		"${A}":                 "one",
		"x${A}y${B}z":          "xoney" + "two ${A}" + "z", // what is put in is not read again
		"$${A}":                "${A}",
		"$A":                   "$A",
		"a $ b":                "a $ b",
		"${EMPTY}":             "",
		"${file:" + path + "}": "from file",
	} {
		c, err := config.Parse([]byte(minimal+"store: '"+text+"'\n"), env2(getenv))
		if err != nil || c.Store != want {
			t.Errorf("%s: %q, %v; want %q", text, c.Store, err, want)
		}
	}
}

// env2 adds the password of the minimal file.
func env2(getenv func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if name == "PASSWORD" {
			return "s3cret-password", true
		}
		return getenv(name)
	}
}

// TestFaults holds that a fault is told with its line or the member's name,
// and that no value of the file is told with it.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // each occurs in the error
	}{
		{"not YAML", "data: [\n  /x\ntenants: s3cret-value\n", []string{"line "}},
		{"unclosed quote", "data: \"s3cret-value\n", []string{"line 1"}},
		{"unknown member", "data: /x\nlisten: 127.0.0.1:1\n\nlsten: s3cret-value\n", []string{"line 4", "lsten"}},
		{"unknown member of a tenant", minimal + "    kid_ruel: s3cret-value\n", []string{"line 8", "kid_ruel"}},
		{"a list for a text", minimal + "log: [s3cret-value]\n", []string{"line 8"}},
		{"a text for a number", minimal + "cache: {bytes: s3cret-value}\n", []string{"line 8"}},
		{"a text for a list", "data: /x\ntenants: s3cret-value\n", []string{"line 2"}},
		{"a map for a password", strings.Replace(minimal, `"${PASSWORD}"`, "{a: s3cret-value}", 1), []string{"line 7"}},
		{"a duration without unit", minimal + "\ncache: {bytes: 1, lifetime: 90}\n", []string{"line 9", "unit"}},
		{"a duration alone in its block", minimal + "cache:\n\n  lifetime: 90\n", []string{"line 10", "unit"}},
		{"a level that is none", minimal + "log:\n  format: text\n  level: loud\n", []string{"line 10", "loud"}},
		{"a template of a tenant", minimal + "  - id: other\n    max_keys: 7\n    drm:\n      fairplay: {key_id: true, uri: 'skd://{key}'}\n", []string{"line 11", "{key}"}},
		{"a scheme of a tenant", minimal + "    v1_scheme: ctr\n", []string{"line 8", "scheme"}},
		{"a member twice", minimal + "data: s3cret-value\n", []string{"line 8", "data"}},
		{"two documents", minimal + "---\ndata: s3cret-value\n", []string{"more than one"}},
		{"variable that is not set", minimal + "store: x${NOT_SET}s3cret-value\n", []string{"line 8", "NOT_SET"}},
		{"reference without end", minimal + "store: s3cret-value${PASSWORD\n", []string{"line 8", "${"}},
		{"file that is not there", minimal + "store: ${file:/does/not/exist}\n", []string{"line 8", "/does/not/exist"}},

		{"no data directory", strings.Replace(minimal, "data: /var/lib/spekeasy", "", 1), []string{"data: "}},
		{"no tenants", "data: /x\n", []string{"tenants: "}},
		{"a bad address", minimal + "listen: nowhere\n", []string{"listen: "}},
		{"cache of nothing", minimal + "cache: {bytes: 0}\n", []string{"cache.bytes: "}},
		{"cache for no time", minimal + "cache: {lifetime: -1s}\n", []string{"cache.lifetime: "}},
		{"document keys for too long", minimal + "sealing: {reuse: 11m}\n", []string{"sealing.reuse: "}},
		{"log of another kind", minimal + "log: {format: xml}\n", []string{"log.format: "}},
		{"the same tenant twice", minimal + "  - id: studio\n", []string{"tenants[1] (studio)", "twice"}},
		{"fault of a tenant", minimal + "    max_keys: -1\n", []string{"tenants[0] (studio)", "max_keys: "}},
		{"fault of a seed", minimal + "    key_source: {kind: hkdf, seed: s3cret-value}\n", []string{"tenants[0] (studio)", "key_source: "}},
		{"a credential without name", strings.Replace(minimal, "name: encoder", `name: ""`, 1), []string{"tenants[0] (studio)", "credentials[0]", "name: "}},
		{"a credential without a way in", strings.Replace(minimal, `basic: {user: encoder, password: "${PASSWORD}"}`, "", 1), []string{"credentials[0] (encoder)"}},
		{"an empty password", strings.Replace(minimal, `"${PASSWORD}"`, `""`, 1), []string{"credentials[0] (encoder)", "password"}},
		{"a user with a colon", strings.Replace(minimal, "user: encoder", `user: "a:b"`, 1), []string{"credentials[0] (encoder)", "colon"}},
	} {
		_, err := config.Parse([]byte(c.text), env2(env()))
		if err == nil {
			t.Errorf("%s was taken", c.name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in %q", c.name, w, err)
			}
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error holds a value: %q", c.name, err)
		}
	}
}

// TestAllFaultsAtOnce holds that an operator sees them all in one go.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := config.Parse([]byte("listen: x\ncache: {bytes: -1}\n"), env())
	for _, want := range []string{"listen: ", "data: ", "cache.bytes: ", "tenants: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

// TestAllFaultsWithLines holds every fault of a file with many, each with its
// line and in plain words, and nothing that only follows from one of them.
func TestAllFaultsWithLines(t *testing.T) {
	_, err := config.Parse([]byte(`listen: nowhere
lsten: x
data: [s3cret]
cache: {bytes: s3cret, off: s3cret}
audit:
  retain: 90
  sync: perhaps
tenants:
- id: acme
  kid_ruel: x
  max_keys: -1
  aliases: s3cret
  credentials:
  - {name: a, basic: {user: u, password: [s3cret]}}
  - {name: a, api_key: {key: s3cret}}
- id: acme
  drm: {playready: {la_url: s3cret}}
- id: other
  kid_rule: best
`), env())
	want := `line 1: listen: address nowhere: missing port in address
line 2: unknown field "lsten"
line 3: a text is wanted here, not a list
line 4: true or false is wanted here, not a text
line 4: a number is wanted here, not a text
line 6: time: missing unit in duration "90"
line 7: audit.sync: "perhaps" is neither interval nor always
line 10: unknown field "kid_ruel"
line 11: tenants[0] (acme): max_keys: must not be negative
line 12: string was used where sequence is expected
line 14: a text is wanted here, not a list
line 15: tenants[0] (acme): credentials[1] (a): the name occurs twice
line 16: tenants[1] (acme): the ID occurs twice
line 17: tenants[1] (acme): drm: playready.la_url: not an absolute http or https URL without credentials
line 19: tenants[2] (other): kid_rule: KID rule "best" is none of as-asked, uuidv5, uuidv5-scheme, sha256-xor`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}

	c, err := config.Parse([]byte(minimal), env2(env()))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`tenant studio: credential "encoder": basic: user "x" belongs to tenant y`: `line 7: tenant studio: credential "encoder": basic: user "x" belongs to tenant y`,
		`tenant "studio": limits: too small`:                                       `line 4: tenant "studio": limits: too small`,
		`tenant unknown: is not there`:                                             `tenant unknown: is not there`,
		"data: disk full":                                                          "line 2: data: disk full",
		"nothing: of this file":                                                    "nothing: of this file",
	} {
		if got := c.Locate(errors.New(text)); got.Error() != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spekeasy.yaml")
	if err := os.WriteFile(path, []byte("data: /x\nnonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path, env()); err == nil || !strings.HasPrefix(err.Error(), path+": line 2") {
		t.Errorf("%v", err)
	}
	if _, err := config.Load(path+".not", env()); err == nil {
		t.Error("a file that is not there was loaded")
	}
}

// TestDev holds that the development mode is complete, and kept to loopback
// by whoever listens (S2-CK-03).
func TestDev(t *testing.T) {
	c := config.Dev("127.0.0.1:0", "/tmp/x", "http://127.0.0.1:8080")
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if s := c.Tenants[0]; s.ID != config.DevTenant || s.DRM.HLS.URL != "http://127.0.0.1:8080" || s.DRM.ClearKey.LicenseURL == "" {
		t.Errorf("%+v", s.DRM)
	}
	for listen, ok := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:80": true, "[::1]:80": true, "localhost:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.0.2.1:80": false, "example.com:80": false, "127.0.0.1": false, "": false,
	} {
		if err := config.CheckLoopback(listen); ok != (err == nil) {
			t.Errorf("%q: %v", listen, err)
		}
	}
}
