package main

import (
	"compress/gzip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"spekeasy/internal/config"
	"spekeasy/internal/kms/envkey"
)

// The package's configuration is good, and agrees with its unit.
func TestPackagedConfig(t *testing.T) {
	c, err := config.Load("../../deploy/packages/config.yaml", func(name string) (string, bool) { return "hunter2", name == "ACME_PASSWORD" })
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../../deploy/systemd/spekeasy.service")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(unit), "\n")
	for _, want := range []string{
		"ExecStart=/usr/bin/spekeasy serve --config /etc/spekeasy/config.yaml --data " + c.Data, "StateDirectory=" + filepath.Base(c.Data),
		"User=spekeasy", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "LimitCORE=0", "MemoryDenyWriteExecute=yes",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %s in the unit", want)
		}
	}
}

// What secrets.sh makes is all that the Compose file's configuration needs,
// and it never makes another key encryption key.
func TestComposeConfig(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"secrets.sh", "config.yaml"} {
		text, err := os.ReadFile("../../deploy/compose/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "secrets.sh")).CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "secrets.env"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		secrets[name] = value
	}
	lookup := func(name string) (string, bool) { v, ok := secrets[name]; return v, ok }
	c, err := config.Load(filepath.Join(dir, "config.yaml"), lookup)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := url.Parse(c.KeyManager)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := envkey.Open(kek, lookup); err != nil {
		t.Errorf("key manager: %v", err)
	}
	if u, err := url.Parse(c.Store); err != nil || u.Scheme != "postgres" || u.Host != "postgres" || secrets["POSTGRES_PASSWORD"] == "" {
		t.Errorf("store %s, %v", c.Store, err)
	} else if password, _ := u.User.Password(); password != secrets["POSTGRES_PASSWORD"] {
		t.Error("store and database have different passwords")
	}
	if err := exec.CommandContext(t.Context(), filepath.Join(dir, "secrets.sh")).Run(); err == nil {
		t.Error("a second run replaced the secrets")
	}
	if again, err := os.ReadFile(filepath.Join(dir, "secrets.env")); err != nil || string(again) != string(text) {
		t.Errorf("the secrets changed, %v", err)
	}
}

// Every server of the Compose file is as locked up as the image allows.
func TestComposeServers(t *testing.T) {
	text, err := os.ReadFile("../../deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Services map[string]struct {
			Image    string   `yaml:"image"`
			ReadOnly bool     `yaml:"read_only"`
			CapDrop  []string `yaml:"cap_drop"`
			Options  []string `yaml:"security_opt"`
			Volumes  []string `yaml:"volumes"`
			Ports    []string `yaml:"ports"`
		} `yaml:"services"`
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	servers := 0
	for name, s := range file.Services {
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s is open to the world: %s", name, p)
			}
		}
		if !strings.Contains(s.Image, "spekeasy") {
			continue
		}
		servers++
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.Options, "no-new-privileges:true") ||
			!slices.ContainsFunc(s.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+imageHome) }) ||
			!slices.Contains(s.Volumes, "./config.yaml:"+imageConfig+":ro") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if servers != 3 {
		t.Errorf("%d servers", servers)
	}
}

// The chart is packed under the version that is released, its own file first.
func TestChart(t *testing.T) {
	t.Chdir("../..")
	for version, want := range map[string]string{"v1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3-rc.1", "0441067": "0.0.0-g0441067"} {
		r := &release{src: source{version: version, time: testSource.time}, dir: t.TempDir()}
		if err := r.chart(t.Context()); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(r.dir, "spekeasy-chart_"+want+".tgz"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		headers, texts := unpack(t, z)
		if headers[0].Name != "spekeasy/Chart.yaml" || len(headers) < 10 || texts["spekeasy/templates/deployment.yaml"] == nil {
			t.Errorf("%d files, the first is %s", len(headers), headers[0].Name)
		}
		if text := string(texts["spekeasy/Chart.yaml"]); !strings.Contains(text, "\nversion: "+want+"\nappVersion: \""+version+"\"\n") {
			t.Errorf("%s:\n%s", version, text)
		}
	}
}
