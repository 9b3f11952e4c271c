package cpix_test

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"spekeasy/cpix"
)

// One Document reads and edits one request after another like new ones,
// whatever came before.
func TestReuse(t *testing.T) {
	sealer, err := cpix.NewSealer(zeros{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob("../testdata/exchange/*.txtar")
	if err != nil || len(names) == 0 {
		t.Fatalf("%d exchanges, %v", len(names), err)
	}
	var d cpix.Document
	for _, name := range names {
		ar, err := txtar.ParseFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range ar.Files {
			if filepath.Ext(f.Name) != ".xml" {
				continue
			}
			fresh, want := cpix.Parse(f.Data)
			got := d.Parse(f.Data)
			if (got == nil) != (want == nil) || want != nil && got.Error() != want.Error() {
				t.Errorf("%s, %s: %v, want %v", name, f.Name, got, want)
			}
			if got != nil || want != nil {
				continue
			}
			if got, want := editAll(t, &d, sealer), editAll(t, fresh, sealer); got != want {
				t.Errorf("%s, %s: edited document\n%s\nwant\n%s", name, f.Name, got, want)
			}
		}
	}
	if err := d.Parse([]byte("<x/>")); !errors.Is(err, cpix.ErrRoot) || d.Source() != "" || len(d.ContentKeys) != 0 {
		t.Errorf("refused: %v, source %q, %d content keys", err, d.Source(), len(d.ContentKeys))
	}
}
