package xmltree_test

import (
	"strings"
	"testing"

	"spekeasy/internal/xmltree"
)

// One Doc and one Edits read and change one document after another like new
// ones, whatever came before.
func TestReuse(t *testing.T) {
	var doc xmltree.Doc
	var edits xmltree.Edits
	for _, src := range []string{
		`<a xmlns="u" xmlns:p="v"><p:b c="1"/><p:b c="2">x</p:b></a>`,
		`<a>` + strings.Repeat(`<b c="d"/>`, 3000) + `</a>`,
		`<a/>`,
		`<a xmlns:p="v"><b`, // refused
		`<q:a xmlns:q="w" c="1"><q:b q:c="2"><q:d/></q:b></q:a>`,
	} {
		fresh, freshErr := xmltree.Parse(src)
		err := doc.Parse(src)
		if (err == nil) != (freshErr == nil) || err != nil && err.Error() != freshErr.Error() {
			t.Fatalf("%.40s: %v, want %v", src, err, freshErr)
		}
		if err != nil {
			continue
		}
		if doc.Len() != fresh.Len() || strings.Join(doc.Spaces(), " ") != strings.Join(fresh.Spaces(), " ") {
			t.Errorf("%.40s: %d elements, spaces %q; want %d, %q", src, doc.Len(), doc.Spaces(), fresh.Len(), fresh.Spaces())
		}
		edits.Reset(&doc)
		got, err := addOne(&doc, &edits)
		want, wantErr := addOne(fresh, fresh.Edit(1))
		if got != want || err != nil || wantErr != nil {
			t.Errorf("%.40s: %.60q, %v; want %.60q, %v", src, got, err, want, wantErr)
		}
	}
}

// addOne adds an attribute and a child to the root.
func addOne(doc *xmltree.Doc, edits *xmltree.Edits) (string, error) {
	edits.AddAttr(doc.Root(), "new", "1")
	edits.Append(doc.Root(), xmltree.Piece{Before: "<new/>"})
	out, err := edits.AppendTo(nil)
	return string(out), err
}

// A document that is read again costs no memory.
func TestReuseAllocatesNothing(t *testing.T) {
	src := `<a xmlns="u" xmlns:p="v"><p:b c="1"/><p:b c="2">x</p:b></a>`
	var doc xmltree.Doc
	var edits xmltree.Edits
	n := testing.AllocsPerRun(10, func() {
		if err := doc.Parse(src); err != nil {
			t.Fatal(err)
		}
		edits.Reset(&doc)
		edits.Remove(doc.Root().FirstChild())
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is left of a document after a reset is cleared, so that whoever kept
// a part of it does not take the next document for it.
func TestResetClears(t *testing.T) {
	doc := parse(t, `<a b="c"><d/></a>`)
	attrs := doc.Root().Attrs()
	doc.Reset()
	if doc.Len() != 0 || doc.Source() != "" || attrs[0] != (xmltree.Attr{}) {
		t.Errorf("%d elements, source %q", doc.Len(), doc.Source())
	}
}
