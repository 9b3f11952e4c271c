package xmltree_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"spekeasy/internal/xmltree"
)

func TestRefuses(t *testing.T) {
	for name, src := range map[string]string{
		"empty document":             "",
		"only white space":           " \n",
		"no root":                    "<!-- c -->",
		"document type":              "<!DOCTYPE a><a/>",
		"document type, entity":      `<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>`,
		"undefined entity":           "<a>&x;</a>",
		"entity without semicolon":   "<a>&amp</a>",
		"bare ampersand":             "<a> & </a>",
		"reference to no character":  "<a>&#0;</a>",
		"surrogate reference":        "<a>&#xD800;</a>",
		"reference too large":        "<a>&#x110000;</a>",
		"entity in attribute":        `<a b="&x;"/>`,
		"less-than in attribute":     `<a b="<"/>`,
		"duplicate attribute":        `<a b="1" b="2"/>`,
		"duplicate by namespace":     `<a xmlns:p="u" xmlns:q="u" p:b="1" q:b="2"/>`,
		"duplicate declaration":      `<a xmlns:p="u" xmlns:p="v"/>`,
		"undeclared prefix":          "<p:a/>",
		"undeclared attribute":       `<a p:b="1"/>`,
		"prefix out of scope":        `<a><b xmlns:p="u"/><p:c/></a>`,
		"undeclared by empty name":   `<a xmlns:p=""/>`,
		"xmlns as prefix":            `<a xmlns:xmlns="u"/>`,
		"xml bound elsewhere":        `<a xmlns:xml="u"/>`,
		"xml namespace elsewhere":    `<a xmlns:p="http://www.w3.org/XML/1998/namespace"/>`,
		"wrong nesting":              "<a><b></a></b>",
		"end tag of another case":    "<a></A>",
		"end tag with longer name":   "<a></ab>",
		"end tag alone":              "</a>",
		"unclosed root":              "<a>",
		"unclosed child":             "<a><b></a>",
		"second root":                "<a/><b/>",
		"text before root":           "x<a/>",
		"text after root":            "<a/>x",
		"CDATA after root":           "<a/><![CDATA[x]]>",
		"unclosed CDATA":             "<a><![CDATA[x</a>",
		"]]> in text":                "<a>]]></a>",
		"-- in comment":              "<a><!-- -- --></a>",
		"comment ends in three":      "<a><!-- x ---></a>",
		"unclosed comment":           "<a><!-- x </a>",
		"second declaration":         `<a><?xml version="1.0"?></a>`,
		"declaration after blank":    ` <?xml version="1.0"?><a/>`,
		"declaration not first":      `<a/><?xml version="1.0"?>`,
		"XML 1.1":                    `<?xml version="1.1"?><a/>`,
		"no version":                 `<?xml encoding="UTF-8"?><a/>`,
		"Latin-1":                    `<?xml version="1.0" encoding="ISO-8859-1"?><a/>`,
		"UTF-16 declared":            `<?xml version="1.0" encoding="UTF-16"?><a/>`,
		"UTF-16":                     "\xff\xfe<\x00a\x00/\x00>\x00",
		"Latin-1 bytes":              "<a>\xe9</a>",
		"overlong UTF-8":             "<a>\xc0\xbc</a>",
		"NUL":                        "<a>\x00</a>",
		"control character":          "<a>12345678\x0112345678</a>",
		"U+FFFE":                     "<a>\ufffe</a>",
		"attribute without value":    "<a b/>",
		"attribute without quotes":   "<a b=1/>",
		"attribute without space":    `<a b="1"c="2"/>`,
		"unclosed attribute":         `<a b="1/>`,
		"two colons":                 `<a:b:c xmlns:a="u"/>`,
		"empty prefix":               "<:a/>",
		"empty local name":           `<a: xmlns:a="u"/>`,
		"name begins with a digit":   "<1a/>",
		"local begins with a digit":  `<a:1 xmlns:a="u"/>`,
		"name with a times sign":     "<\u00d7/>",
		"name begins with a mark":    "<\u0300a/>",
		"name begins with a dot":     "<\u00b7a/>",
		"name with a question mark":  "<a\u037e/>",
		"name with punctuation":      "<a\u2051/>",
		"blank before name":          "< a/>",
		"blank in end tag":           "<a></ a>",
		"slash in tag":               "<a / >",
		"instruction without target": "<a><? x?></a>",
		"instruction unclosed":       "<a><?x ></a>",
		"markup declaration":         "<a><!ELEMENT b></a>",
		"truncated tag":              "<a",
		"single byte":                "<",
		"too deep":                   strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65),
		"too many attributes":        "<a" + attrs(129) + "/>",
		"too many namespaces":        "<a" + declarations(65) + "/>",
		"too many declarations":      nested(9, 57) + strings.Repeat("</a>", 9),
	} {
		doc, err := xmltree.Parse(src)
		var syntax *xmltree.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%s: %v, %v; want a SyntaxError", name, doc, err)
		}
	}
}

// Characters are checked many at a time, so a bad one is looked for in every
// place.
func TestRefusesBadCharactersAnywhere(t *testing.T) {
	for _, bad := range []string{"\x00", "\x1f", "\x80", "\xe9", "\xff", "\xc0\xbc", "\xed\xa0\x80", "\ufffe"} {
		for at := range 40 {
			for _, before := range []string{"x", "\n", "é"} {
				src := "<a>" + strings.Repeat(before, at) + bad + strings.Repeat("y", 40-at) + "</a>"
				_, err := xmltree.Parse(src)
				syntax, ok := errors.AsType[*xmltree.SyntaxError](err)
				if !ok || syntax.Offset != len("<a>")+at*len(before) {
					t.Errorf("%q: %v", src, err)
				}
			}
		}
	}
}

// Attribute values are looked through many bytes at a time.
func TestAttributeValuesAnywhere(t *testing.T) {
	for raw, want := range map[string]string{"&lt;": "<", "\n": " ", "\t": " ", "\r\n": " ", "&#10;": "\n", "é": "é", ">": ">", "\x7f": "\x7f"} {
		for at := range 20 {
			around := func(s string) string { return strings.Repeat("x", at) + s + strings.Repeat("y", 20-at) }
			if got := parse(t, `<a b="`+around(raw)+`"/>`).Root().Attr("b").Value(); got != around(want) {
				t.Errorf("%q after %d bytes reads as %q", raw, at, got)
			}
			if _, err := xmltree.Parse(`<a b="` + around("<") + `"/>`); err == nil {
				t.Errorf("< after %d bytes of a value accepted", at)
			}
		}
	}
}

func attrs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" a" + strings.Repeat("b", i) + `=""`)
	}
	return b.String()
}

func declarations(n int) string {
	var b strings.Builder
	for i := range n {
		name := "a" + strings.Repeat("b", i)
		b.WriteString(" xmlns:" + name + `="` + name + `"`)
	}
	return b.String()
}

// nested opens so many elements, each with so many declarations of its own.
func nested(elements, declarations int) string {
	var b strings.Builder
	for i := range elements {
		b.WriteString("<a")
		for j := range declarations {
			fmt.Fprintf(&b, ` xmlns:p%d="u"`, i*declarations+j)
		}
		b.WriteString(">")
	}
	return b.String()
}

func TestAccepts(t *testing.T) {
	for name, src := range map[string]string{
		"declaration":                        `<?xml version="1.0" encoding="utf-8" standalone="yes"?><a/>`,
		"byte order mark":                    "\ufeff" + `<?xml version='1.0'?><a/>`,
		"comment around":                     "<!-- a --><a/><!-- b -->\n",
		"instruction":                        `<?p x?><a><?q?></a>`,
		"blank in end tag":                   "<a></a \n>",
		"single quotes":                      `<a b='"'/>`,
		"greater-than":                       `<a b=">">></a>`,
		"64 deep":                            strings.Repeat("<a>", 64) + strings.Repeat("</a>", 64),
		"128 attributes":                     "<a" + attrs(128) + "/>",
		"same name elsewhere":                `<a b="1" xmlns:p="u" p:b="2"/>`,
		"xml prefix":                         `<a xml:lang="en"/>`,
		"letters":                            "<é ü='ö'>日本</é>",
		"marks inside names":                 "<a\u00b7\u0300\u203f x\u2040='1'/>",
		"names since XML 1.0, fifth edition": "<\u0800 \u037f='\U00020000'><\U00020000/></\u0800>",
		"long zero reference":                "<a>&#x000000000000000000041;</a>",
		"default undeclared":                 `<a xmlns="u"><b xmlns=""/></a>`,
		"512 declarations":                   nested(8, 64) + strings.Repeat("</a>", 8),
		"declarations beside":                "<a>" + strings.Repeat(nested(1, 64)+"</a>", 9) + "</a>",
	} {
		doc, err := xmltree.Parse(src)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if out, err := doc.Edit(0).AppendTo(nil); err != nil || string(out) != src {
			t.Errorf("%s: unedited document came back as %q, %v", name, out, err)
		}
	}
}

func parse(t testing.TB, src string) *xmltree.Doc {
	t.Helper()
	doc, err := xmltree.Parse(src)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestReads(t *testing.T) {
	doc := parse(t, `<p:a xmlns:p="u" xmlns="v" k=" x&#9;&lt;`+"\n"+`y "><b p:k="1" k="2">t<!-- n -->&amp;<c>no</c><![CDATA[<r>]]><?i?>`+"\r\n"+`</b><b/></p:a>`)
	a := doc.Root()
	b := a.FirstChild()
	switch {
	case a.Space() != "u" || a.Local() != "a" || a.Prefix() != "p" || a.QName() != "p:a" || a.Parent() != nil:
		t.Error("root misread")
	case a.Attr("k").Value() != " x\t< y ":
		t.Errorf("attribute %q", a.Attr("k").Value())
	case b.Space() != "v" || b.Prefix() != "" || b.Parent() != a:
		t.Error("child misread")
	case b.Attr("k").Value() != "2":
		t.Error("attribute of another namespace taken")
	case b.Text() != "t&<r>\n":
		t.Errorf("text %q", b.Text())
	case b.Next() == nil || b.Next().Next() != nil || b.FirstChild().Local() != "c" || b.Next().FirstChild() != nil:
		t.Error("tree misread")
	}
	for space, want := range map[string]string{"u": "p", "v": ""} {
		if got, ok := b.PrefixFor(space); got != want || ok != (want != "") {
			t.Errorf("PrefixFor(%q) = %q, %v", space, got, ok)
		}
	}
}

func TestPrefixForHonoursRebinding(t *testing.T) {
	doc := parse(t, `<a xmlns:p="u"><b xmlns:p="v"><c xmlns:q="u"/></b></a>`)
	b := doc.Root().FirstChild()
	if got, ok := b.PrefixFor("u"); ok {
		t.Errorf("prefix %q is bound to something else here", got)
	}
	if got, _ := b.FirstChild().PrefixFor("u"); got != "q" {
		t.Errorf("prefix %q, want q", got)
	}
}

func TestEdits(t *testing.T) {
	doc := parse(t, `<a x="1" y='2' ><b/><c />t<d>old</d> <e>gone</e><f></f></a>`)
	a := doc.Root()
	child := func(name string) *xmltree.Element {
		for c := a.FirstChild(); c != nil; c = c.Next() {
			if c.Local() == name {
				return c
			}
		}
		t.Fatal(name)
		return nil
	}
	ed := doc.Edit(0)
	ed.Append(child("f"), xmltree.Piece{Before: "<g/>"})
	ed.Remove(child("e"))
	ed.SetContent(child("d"), xmltree.Piece{Body: []byte("new")})
	ed.SetContent(child("c"), xmltree.Piece{Before: "<", Body: []byte{0xff}, After: "!"})
	ed.AddAttr(child("c"), "k", `"<&'`+"\n")
	ed.SetContent(child("b"), xmltree.Piece{Body: []byte("b")})
	ed.InsertAfter(child("b"), xmltree.Piece{Before: "<h/>"})
	ed.SetAttr(a.Attr("y"), "3'")
	ed.RemoveAttr(a, a.Attr("x"))
	ed.AddAttr(a, "z", "4")
	got, err := ed.AppendTo(nil)
	want := `<a y='3&apos;' z="4" ><b>Yg==</b><h/><c k="&quot;&lt;&amp;&apos;&#10;" ><` + `/w==!</c>t<d>bmV3</d> <f><g/></f></a>`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestOverlappingEdits(t *testing.T) {
	doc := parse(t, `<a><b><c/></b></a>`)
	b := doc.Root().FirstChild()
	ed := doc.Edit(0)
	ed.Remove(b)
	ed.SetContent(b.FirstChild(), xmltree.Piece{Before: "x"})
	if out, err := ed.AppendTo(nil); !errors.Is(err, xmltree.ErrOverlap) {
		t.Errorf("%q, %v; want ErrOverlap", out, err)
	}
}

func TestRemovalsInsideWhatIsReplaced(t *testing.T) {
	doc := parse(t, `<a><b><c x="1"/>t<c/></b><b y="2"/><d><c/></d></a>`)
	b := doc.Root().FirstChild()
	c := b.FirstChild()
	ed := doc.Edit(0)
	ed.Remove(c.Next())
	ed.Remove(c)
	ed.RemoveAttr(c, c.Attr("x"))
	ed.SetContent(b, xmltree.Piece{Before: "new"})
	ed.RemoveAttr(b.Next(), b.Next().Attr("y"))
	ed.Remove(b.Next())
	d := b.Next().Next()
	ed.Remove(d.FirstChild()) // all of the content
	ed.SetContent(d, xmltree.Piece{Before: "new"})
	got, err := ed.AppendTo(nil)
	if want := `<a><b>new</b><d>new</d></a>`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}

// FuzzParse compares with encoding/xml, which accepts more: whatever this
// package accepts, that one must accept too, with as many elements, and an
// edited document must parse again.
func FuzzParse(f *testing.F) {
	f.Add(`<?xml version="1.0"?><a xmlns="u" b='c'>x<!-- y --><p:d xmlns:p="v" p:e="&lt;"/>&amp;<![CDATA[z]]></a>`)
	f.Add("\ufeff<a><b/><b></b></a>")
	f.Add("<?>")
	f.Add("<a-long-name another-long-name='a value of some length'>text\nof some\tlength \u00e9\x80</a-long-name>")
	f.Fuzz(func(t *testing.T, src string) {
		doc, err := xmltree.Parse(src)
		if err != nil {
			return
		}
		if out, err := doc.Edit(0).AppendTo(nil); err != nil || string(out) != src {
			t.Fatalf("unedited: %q, %v", out, err)
		}
		elements := 0
		dec := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(src, "\ufeff")))
		for {
			tok, err := dec.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil && strings.Contains(err.Error(), "invalid XML name") && !isASCII(src) {
				return // it knows the letters of XML's fourth edition only
			}
			if err != nil {
				t.Fatalf("encoding/xml refuses what was accepted: %v", err)
			}
			if _, ok := tok.(xml.StartElement); ok {
				elements++
			}
		}
		if elements != doc.Len() {
			t.Fatalf("%d elements, encoding/xml finds %d", doc.Len(), elements)
		}
		ed := doc.Edit(0)
		n := 0
		for e := doc.Root(); e != nil; e = e.FirstChild() {
			ed.AddAttr(e, "added-by-the-test-"+strings.Repeat("n", n), `"'<&>`)
			n++
			e.Text()
			if len(e.Attrs()) >= xmltree.MaxAttributes {
				return
			}
		}
		out, err := ed.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := xmltree.Parse(string(out)); err != nil || again.Len() != doc.Len() {
			t.Fatalf("edited document: %v\n%s", err, out)
		}
	})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f })
}
