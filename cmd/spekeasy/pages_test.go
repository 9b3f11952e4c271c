package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var (
	pageBlocks = regexp.MustCompile("(?s)\n```(sh|yaml|csv)\n(.*?)```\n")
	pageLinks  = regexp.MustCompile(`\]\(([^)#:]+\.md)[^)]*\)`)
)

// TestPages: what the pages for encryptors and for vendors that are left show
// is what their scripts run, to the byte: every command in its order, the
// configuration, the list of keys.
func TestPages(t *testing.T) {
	for dir, prefix := range map[string]string{"leaving": "leaving_", "encryptors": "encryptor_"} {
		pages, err := filepath.Glob("../../docs/" + dir + "/*.md")
		if err != nil || len(pages) < 5 {
			t.Fatalf("%s: %d pages, %v", dir, len(pages), err)
		}
		for _, path := range pages {
			page, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".md"), "-", "_")
			script, err := txtar.ParseFile("testdata/script/" + prefix + name + ".txtar")
			if err != nil {
				t.Error(err)
				continue
			}
			samePage(t, path, string(page), script)
		}
	}
}

func samePage(t *testing.T, path, page string, script *txtar.Archive) {
	t.Helper()
	var runs, shown []string
	files := make(map[string]string)
	step := 0
	for _, b := range pageBlocks.FindAllStringSubmatch(page, -1) {
		lang, text := b[1], b[2]
		switch {
		case lang == "yaml":
			files["spekeasy.yaml"] = text
		case lang == "csv":
			files["keys.csv"] = text
		case strings.HasPrefix(text, "spekeasy serve "):
			shown = append(shown, "start SERVER "+strings.TrimPrefix(strings.TrimSpace(text), "spekeasy "))
		default:
			step++
			file := fmt.Sprintf("%d.sh", step)
			files[file] = text
			shown = append(shown, "exec sh -eu "+file)
		}
	}
	for line := range strings.Lines(string(script.Comment)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "exec ") || strings.HasPrefix(line, "start ") {
			runs = append(runs, line)
		}
	}
	if strings.Join(runs, "\n") != strings.Join(shown, "\n") {
		t.Errorf("%s shows\n%s\nits script runs\n%s", path, strings.Join(shown, "\n"), strings.Join(runs, "\n"))
	}
	for _, f := range script.Files {
		if files[f.Name] != string(f.Data) {
			t.Errorf("%s and %s of its script differ:\n%s\n%s", path, f.Name, files[f.Name], f.Data)
		}
		delete(files, f.Name)
	}
	for name := range files {
		t.Errorf("%s shows %s, its script does not have it", path, name)
	}
	if step < 2 {
		t.Errorf("%s: only %d steps", path, step)
	}
}

// TestLinks: links between documents lead somewhere.
func TestLinks(t *testing.T) {
	links := 0
	err := filepath.WalkDir("../../docs", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".md") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, l := range pageLinks.FindAllStringSubmatch(string(text), -1) {
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), l[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil || links < 20 {
		t.Errorf("%d links, %v", links, err)
	}
}
