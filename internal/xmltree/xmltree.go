// Package xmltree reads an XML document without letting go of its bytes:
// every element and attribute knows where it stands in the source, so that
// values can be spliced in and everything else stays as it came.
//
// It is stricter than encoding/xml. Refused are document type declarations,
// entities other than the five predefined ones, encodings other than UTF-8,
// undeclared prefixes, duplicate attributes, wrong nesting, a second root,
// text outside the root and absurd depth (SX-HTTP-08, CPIX-RD-03,
// CPIX-RD-06). What is accepted is well-formed XML 1.0 with namespaces.
package xmltree

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"spekeasy/internal/reuse"
)

// Limits of what [Parse] accepts, far beyond any real key request.
const (
	MaxDepth      = 64      // nested elements
	MaxAttributes = 128     // attributes of one element, declarations included
	MaxSpaces     = 64      // different namespace names in a document
	MaxScope      = 512     // namespace declarations in force at one place
	MaxSize       = 1 << 30 // bytes; servers bound the body far below
)

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// A SyntaxError says why a document was refused and where.
type SyntaxError struct {
	Line   int    // counts from 1
	Offset int    // byte offset in the document
	Reason string // never quotes the document
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("XML line %d, byte %d: %s", e.Line, e.Offset, e.Reason)
}

// A Doc is a parsed document. One that has been parsed must not be copied.
type Doc struct {
	src      string
	elements []Element
	attrs    []Attr
	spaces   []string  // namespace names by index; 0 is "no namespace"
	scope    []binding // the parser's, kept for the next document
}

// Reset makes d a document without content, which keeps its memory for the
// next one. Elements and attributes of the document must not be used any
// more; its texts are good for ever.
func (d *Doc) Reset() {
	d.src = ""
	d.elements = reuse.Slice(d.elements, maxGuess)
	d.attrs = reuse.Slice(d.attrs, maxGuess)
	d.spaces = reuse.Slice(d.spaces, 4*fewSpaces)
}

// An Element is one element of a document.
type Element struct {
	doc *Doc

	start, inner, innerEnd, end int32 // '<' of the start tag; after it; '<' of the end tag; after it
	colon, nameEnd              int32 // of the qualified name, which begins behind '<'; colon == start without a prefix
	attrFrom, attrTo            int32
	parent, first, next         int32 // indexes of elements; 0 means none (0 is the root)
	space                       int16
	empty                       bool // written <x/>: inner and innerEnd stand at the slash
	simple                      bool // content is character data without references
}

// An Attr is one attribute, namespace declarations included.
type Attr struct {
	doc                  *Doc
	name, colon, nameEnd int32 // colon == name-1 without a prefix
	value, valueEnd      int32 // between the quotes
	space                int16
	simple               bool // no references and no white space but blanks
}

// Source returns the bytes that the document was parsed from.
func (d *Doc) Source() string { return d.src }

// Root returns the document element.
func (d *Doc) Root() *Element { return &d.elements[0] }

// Len returns the number of elements.
func (d *Doc) Len() int { return len(d.elements) }

// Spaces returns the namespace names of the document; an element's or
// attribute's SpaceIndex is an index into it. The first is "".
func (d *Doc) Spaces() []string { return d.spaces }

// Declares reports whether any element of the document declares the prefix.
func (d *Doc) Declares(prefix string) bool {
	for i := range d.attrs {
		if p, ok := d.attrs[i].Declares(); ok && p == prefix {
			return true
		}
	}
	return false
}

// Prefixes returns all prefixes that are declared anywhere in the document.
func (d *Doc) Prefixes() map[string]bool {
	all := make(map[string]bool)
	for i := range d.attrs {
		if p, ok := d.attrs[i].Declares(); ok {
			all[p] = true
		}
	}
	return all
}

// Parent returns the element around e, or nil for the root.
func (e *Element) Parent() *Element {
	if e.start == e.doc.elements[0].start {
		return nil
	}
	return &e.doc.elements[e.parent]
}

// FirstChild returns the first element inside e, or nil.
func (e *Element) FirstChild() *Element { return e.doc.at(e.first) }

// Next returns the element that follows e inside the same parent, or nil.
func (e *Element) Next() *Element { return e.doc.at(e.next) }

func (d *Doc) at(i int32) *Element {
	if i == 0 {
		return nil
	}
	return &d.elements[i]
}

// Local returns the name without its prefix.
func (e *Element) Local() string { return e.doc.src[e.colon+1 : e.nameEnd] }

// Prefix returns the prefix as it was written, "" for none.
func (e *Element) Prefix() string { return prefix(e.doc.src, e.start+1, e.colon) }

// QName returns the name as it was written.
func (e *Element) QName() string { return e.doc.src[e.start+1 : e.nameEnd] }

// Space returns the namespace name.
func (e *Element) Space() string { return e.doc.spaces[e.space] }

// SpaceIndex returns the index of the namespace name in [Doc.Spaces].
func (e *Element) SpaceIndex() int { return int(e.space) }

// Attrs returns the attributes in document order, declarations included.
func (e *Element) Attrs() []Attr { return e.doc.attrs[e.attrFrom:e.attrTo] }

// Attr returns the attribute of that name and no namespace, or nil.
func (e *Element) Attr(local string) *Attr {
	for i := e.attrFrom; i < e.attrTo; i++ {
		if a := &e.doc.attrs[i]; a.space == 0 && a.Local() == local {
			return a
		}
	}
	return nil
}

// Start and End return the byte offsets of the element, tags included.
func (e *Element) Start() int { return int(e.start) }
func (e *Element) End() int   { return int(e.end) }

// Inner returns the content between the tags.
func (e *Element) Inner() string { return e.doc.src[e.inner:e.innerEnd] }

// Text returns the character data directly inside e with references
// resolved, ignoring comments, processing instructions and elements.
func (e *Element) Text() string {
	inner := e.Inner()
	if e.simple {
		return inner
	}
	var out []byte
	depth := 0
	for i := 0; i < len(inner); {
		if inner[i] != '<' {
			n := strings.IndexByte(inner[i:], '<')
			if n < 0 {
				n = len(inner) - i
			}
			if depth == 0 {
				out = appendText(out, inner[i:i+n], false)
			}
			i += n
			continue
		}
		rest := inner[i:]
		switch {
		case strings.HasPrefix(rest, "<![CDATA["):
			n := strings.Index(rest, "]]>")
			if depth == 0 {
				out = append(out, rest[9:n]...)
			}
			i += n + 3
		case strings.HasPrefix(rest, "<!--"):
			i += 4 + strings.Index(rest[4:], "-->") + 3
		case rest[1] == '?':
			i += strings.Index(rest, "?>") + 2
		case rest[1] == '/':
			depth--
			i += strings.IndexByte(rest, '>') + 1
		default:
			n, empty := tagLen(rest)
			if !empty {
				depth++
			}
			i += n
		}
	}
	return string(out)
}

// tagLen returns the length of the start tag at the beginning of s, which is
// known to be well-formed, and whether it is an empty-element tag.
func tagLen(s string) (n int, empty bool) {
	var quote byte
	for i := range len(s) {
		c := s[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i + 1, s[i-1] == '/'
		}
	}
	return len(s), false
}

// Local returns the name without its prefix.
func (a *Attr) Local() string { return a.doc.src[a.colon+1 : a.nameEnd] }

// SpaceIndex returns the index of the namespace name in [Doc.Spaces].
func (a *Attr) SpaceIndex() int { return int(a.space) }

// Value returns the value with references resolved and white space
// normalized to blanks.
func (a *Attr) Value() string {
	raw := a.doc.src[a.value:a.valueEnd]
	if a.simple {
		return raw
	}
	return string(appendText(nil, raw, true))
}

// Declares returns the prefix that a namespace declaration binds, "" for
// the default namespace; ok is false for any other attribute.
func (a *Attr) Declares() (declared string, ok bool) {
	name := a.doc.src[a.name:a.nameEnd]
	if name == "xmlns" {
		return "", true
	}
	if strings.HasPrefix(name, "xmlns:") {
		return name[6:], true
	}
	return "", false
}

// Declares reports whether e declares any namespace.
func (e *Element) Declares() bool {
	for i := e.attrFrom; i < e.attrTo; i++ {
		if _, ok := e.doc.attrs[i].Declares(); ok {
			return true
		}
	}
	return false
}

// PrefixFor returns a prefix that is bound to the namespace name where e's
// children stand; ok is false when none is. The default namespace is not a
// prefix.
func (e *Element) PrefixFor(space string) (found string, ok bool) {
	for at := e; at != nil; at = at.Parent() {
		for i := at.attrFrom; i < at.attrTo; i++ {
			a := &e.doc.attrs[i]
			p, isDecl := a.Declares()
			if !isDecl || p == "" || a.Value() != space {
				continue
			}
			if !e.rebinds(at, p) {
				return p, true
			}
		}
	}
	return "", false
}

// rebinds reports whether a declaration between e and its ancestor upper,
// upper excluded, takes the prefix.
func (e *Element) rebinds(upper *Element, prefix string) bool {
	for at := e; at != upper; at = at.Parent() {
		for i := at.attrFrom; i < at.attrTo; i++ {
			if p, ok := e.doc.attrs[i].Declares(); ok && p == prefix {
				return true
			}
		}
	}
	return false
}

func prefix(src string, name, colon int32) string {
	if colon < name {
		return ""
	}
	return src[name:colon]
}

// appendText resolves references in s, which is known to be well-formed, and
// normalizes line ends; in attribute values white space becomes a blank.
func appendText(out []byte, s string, attr bool) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '&':
			n := strings.IndexByte(s[i:], ';')
			r, _ := reference(s[i+1 : i+n])
			out = utf8.AppendRune(out, r)
			i += n
		case c == '\r':
			if i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
			if attr {
				out = append(out, ' ')
			} else {
				out = append(out, '\n')
			}
		case attr && (c == '\n' || c == '\t'):
			out = append(out, ' ')
		default:
			out = append(out, c)
		}
	}
	return out
}
