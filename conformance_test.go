package spekeasy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestConformanceDocument holds that docs/conformance.md names exchanges and
// tests that exist, has every exchange, and explains every rule that code and
// tests cite.
func TestConformanceDocument(t *testing.T) {
	b, err := os.ReadFile("docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	tests := make(map[string]bool)    // "package.TestName"
	cited := make(map[string]string)  // rule to a file that cites it
	exchanges := make(map[string]int) // how often the document names each
	rule := regexp.MustCompile(`\b(?:S1|S2|S21|SX|SUITE|CPIX)-[A-Z]+-?[0-9]+\b|\bD-[0-9]{2,3}\b`)
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if ext := filepath.Ext(path); d.IsDir() || ext != ".go" && ext != ".txtar" {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(b)
		if name, ok := strings.CutPrefix(filepath.ToSlash(path), "testdata/exchange/"); ok {
			exchanges[strings.TrimSuffix(name, ".txtar")] = 0
			text, _, _ = strings.Cut(text, "-- request.http --")
		}
		for _, id := range rule.FindAllString(text, -1) {
			cited[id] = path
		}
		for _, m := range function.FindAllStringSubmatch(text, -1) {
			tests[filepath.Base(filepath.Dir(path))+"."+m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`exchange/([a-z0-9][a-z0-9.-]*[a-z0-9])`).FindAllStringSubmatch(doc, -1) {
		if _, ok := exchanges[m[1]]; ok {
			exchanges[m[1]]++
		} else if m[1] != "error" { // "every exchange/error-..."
			t.Errorf("exchange/%s does not exist", m[1])
		}
	}
	if len(exchanges) < 100 {
		t.Errorf("only %d exchanges", len(exchanges))
	}
	for name, n := range exchanges {
		if n == 0 {
			t.Errorf("exchange/%s shows nothing", name)
		}
	}
	for _, m := range regexp.MustCompile(`\b([a-z0-9]+\.(?:Test|Fuzz)[A-Z]\w*)`).FindAllStringSubmatch(doc, -1) {
		if !tests[m[1]] {
			t.Errorf("%s does not exist", m[1])
		}
	}
	explained := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z0-9]+-[A-Z0-9-]+) \|`).FindAllStringSubmatch(doc, -1) {
		if explained[m[1]] {
			t.Errorf("%s has two rows", m[1])
		}
		explained[m[1]] = true
	}
	for id, path := range cited {
		if !explained[id] {
			t.Errorf("%s is cited in %s and explained nowhere", id, path)
		}
	}
}
