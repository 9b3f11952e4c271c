package spekeasy_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports holds who may import whom. Data flows one way, and so do
// imports: the domain knows no backend and no transport.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}:{{join .Imports ","}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		pkg, list, _ := strings.Cut(strings.TrimSpace(line), ":")
		imports[strings.TrimPrefix(pkg, "spekeasy/")] = strings.Split(list, ",")
	}
	if len(imports) < 15 {
		t.Fatalf("only %d packages", len(imports))
	}
	ours := func(pkg string) (list []string) {
		for _, i := range imports[pkg] {
			if rest, ok := strings.CutPrefix(i, "spekeasy/"); ok {
				list = append(list, rest)
			}
		}
		return list
	}
	// What each package may import of ours; packages not listed are free.
	for pkg, allowed := range map[string][]string{
		"contentkey":        {},
		"internal/b64":      {},
		"internal/reuse":    {},
		"internal/xmltree":  {"internal/b64", "internal/reuse"},
		"cpix":              {"contentkey", "internal/b64", "internal/reuse", "internal/xmltree"},
		"drm":               {"contentkey", "internal/b64", "internal/reuse"},
		"speke":             {"contentkey", "cpix", "drm", "internal/reuse"},
		"encryptor":         {"contentkey", "cpix", "drm", "internal/xmltree"},
		"internal/keystore": {"contentkey"},
		"internal/kidrule":  {"contentkey"},
		"internal/tenant":   {"contentkey", "cpix", "drm", "internal/keystore", "internal/kidrule", "internal/limit", "internal/password", "internal/upstream", "internal/widevine", "speke"},
		"internal/widevine": {"contentkey"},
		"internal/packager": {"contentkey", "cpix", "drm", "internal/keystore", "internal/kidrule", "internal/tenant", "internal/widevine", "internal/xmltree"},
		"internal/upstream": {"contentkey"},
		"internal/gateway": {"contentkey", "cpix", "drm", "encryptor", "internal/keyprovider", "internal/keystore", "internal/requestid",
			"internal/tenant", "internal/upstream", "internal/xmltree", "speke"},
		"internal/requestid":   {},
		"internal/h1":          {},
		"internal/limit":       {},
		"internal/keyprovider": {"contentkey", "cpix", "drm", "internal/keystore", "internal/kidrule", "internal/reuse", "internal/tenant", "speke"},
		"internal/binding":     {"internal/gateway", "contentkey", "drm", "internal/auth", "internal/keystore", "internal/kidrule", "internal/limit", "internal/tenant"},
		"internal/vendorsim":   {"contentkey", "cpix", "drm", "internal/keystore", "internal/kidrule", "internal/xmltree", "speke"},
		"internal/audit":       {"contentkey"},
		"internal/auth":        {"internal/password", "internal/tenant", "internal/widevine"},
		"internal/password":    {},
		"internal/demo":        {"contentkey", "drm", "encryptor", "internal/playback", "internal/tenant"},
		"internal/playback":    {"contentkey", "drm", "internal/audit", "internal/auth", "internal/keystore", "internal/tenant", "internal/widevine"},
		"internal/server":      {"contentkey", "internal/audit", "internal/auth", "internal/keystore", "internal/kidrule", "internal/limit", "internal/packager", "internal/requestid", "internal/telemetry", "internal/tenant", "internal/widevine", "speke"},
		"internal/metrics":     {"internal/keystore"},
		"internal/telemetry":   {},
		"internal/ops":         {},
		"adminapi":             {"contentkey", "drm"},
		"internal/admin":       {"adminapi", "contentkey", "internal/audit", "internal/auth", "internal/config", "internal/gateway", "internal/keystore", "internal/tenant"},
		"internal/config":      {"internal/tenant"},

		"internal/lambdahttp":     {"internal/auth"},
		"internal/secretsmanager": {},
	} {
		if imports[pkg] == nil {
			t.Errorf("%s does not exist", pkg)
		}
		for _, i := range ours(pkg) {
			if !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s", pkg, i)
			}
		}
	}
	for _, pkg := range []string{"contentkey", "cpix", "drm", "internal/keystore", "internal/tenant"} {
		if slices.Contains(imports[pkg], "net/http") {
			t.Errorf("%s imports net/http", pkg)
		}
	}
	for pkg := range imports {
		for _, i := range imports[pkg] {
			if (i == "testing" || strings.HasPrefix(i, "spekeasy/") && strings.HasSuffix(i, "test")) && !strings.HasSuffix(pkg, "test") {
				t.Errorf("%s imports %s, which is for tests", pkg, i)
			}
		}
		if strings.HasPrefix(pkg, "internal/store/") || strings.HasPrefix(pkg, "internal/kms/") {
			for _, i := range ours(pkg) {
				if !strings.HasPrefix(i, "internal/store/") && !strings.HasPrefix(i, "internal/kms") && i != "internal/keystore" && i != "internal/tenant" && i != "internal/audit" && i != "contentkey" {
					t.Errorf("backend %s imports %s", pkg, i)
				}
			}
		}
	}
}
