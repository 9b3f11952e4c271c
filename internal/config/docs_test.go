package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"spekeasy/internal/config"
)

// TestDocumentedSettings: what docs/authentication.md shows is taken as it
// stands.
func TestDocumentedSettings(t *testing.T) {
	text, err := os.ReadFile("../../docs/authentication.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)```\n").FindAllSubmatch(text, -1)
	if len(blocks) < 14 {
		t.Fatalf("only %d blocks", len(blocks))
	}
	for _, b := range blocks {
		block := string(b[1])
		whole := "data: d\ntenants:\n- id: acme\n"
		switch {
		case strings.HasPrefix(block, "- name:"):
			whole += "  credentials:\n" + indent(block, "  ")
		case strings.HasPrefix(block, "limits:"):
			whole += indent(block, "  ")
		default:
			whole = block + whole
		}
		if _, err := config.Parse([]byte(whole), func(string) (string, bool) { return "0123456789abcdef", true }); err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
	}
}

// TestExample: the commented example is good.
func TestExample(t *testing.T) {
	if _, err := config.Load("../../examples/config.yaml", func(string) (string, bool) { return "0123456789abcdef", true }); err != nil {
		t.Error(err)
	}
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+by) + "\n"
}

// TestDocumentedUpstreams: what docs/gateway.md shows is taken as it stands.
func TestDocumentedUpstreams(t *testing.T) {
	text, err := os.ReadFile("../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)```\n").FindAllSubmatch(text, -1)
	if len(blocks) < 5 {
		t.Fatalf("only %d blocks", len(blocks))
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		block := strings.ReplaceAll(string(b[1]), "/run/secrets/axinom", file)
		whole := "data: d\ntenants:\n- id: acme\n" + indent(block, "  ")
		c, err := config.Parse([]byte(whole), func(string) (string, bool) { return "0123456789abcdef", true })
		if err != nil || c.Tenants[0].Upstream == nil {
			t.Errorf("%v in\n%s", err, block)
		}
	}
}
