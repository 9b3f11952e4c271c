package xmltree

import (
	"strings"

	"spekeasy/internal/reuse"
)

type parser struct {
	doc   *Doc
	src   string
	pos   int
	ascii bool // whether the document is
	depth int
	open  [MaxDepth]frame // elements whose end tag has not come yet
	scope []binding       // namespace declarations in force, innermost last
}

// A frame is an open element.
type frame struct {
	element int32
	last    int32 // the child that came last, 0 for none
	bound   int32 // length of the scope around it
}

type binding struct {
	prefix string
	space  int16
}

// maxGuess is how many elements, and attributes, a document gets memory for
// before it is known to have them, and keeps when it is reset.
const maxGuess = 1024

// fewSpaces is how many namespaces, and declarations of them in force at one
// place, nearly every document has at most.
const fewSpaces = 8

// Parse reads a document. The error is a [*SyntaxError].
func Parse(src string) (*Doc, error) {
	d := new(Doc)
	if err := d.Parse(src); err != nil {
		return nil, err
	}
	return d, nil
}

// Parse reads a document into the memory of the one before, which is reset.
// The error is as that of the function Parse; then there is no document.
func (d *Doc) Parse(src string) error {
	d.Reset()
	p := parser{src: src, doc: d}
	if err := p.parse(); err != nil {
		d.Reset()
		return err
	}
	return nil
}

func (p *parser) parse() error {
	if len(p.src) > MaxSize {
		return p.fail("document too large")
	}
	bad, ascii := checkChars(p.src)
	if bad >= 0 {
		p.pos = bad
		return p.fail("not UTF-8, or a character that XML does not allow")
	}
	p.ascii = ascii
	// There are as many elements as slashes in "</" and "/>" and as many
	// attributes as equals signs behind their names. What stands in values
	// makes the guesses too high; they are bounded because nothing has been
	// checked yet.
	d := p.doc
	d.src = p.src
	d.elements = reuse.Grow(d.elements, min(strings.Count(p.src, "/"), maxGuess))
	d.attrs = reuse.Grow(d.attrs, min(strings.Count(p.src, "="), maxGuess))
	d.spaces = append(reuse.Grow(d.spaces, fewSpaces), "")
	p.scope = reuse.Grow(d.scope, fewSpaces)
	err := p.document()
	d.scope = reuse.Slice(p.scope[:cap(p.scope)], 4*fewSpaces)
	return err
}

func (p *parser) fail(reason string) *SyntaxError {
	at := min(p.pos, len(p.src))
	return &SyntaxError{Line: 1 + strings.Count(p.src[:at], "\n"), Offset: at, Reason: reason}
}

func (p *parser) has(s string) bool {
	return strings.HasPrefix(p.src[p.pos:], s)
}

func (p *parser) document() error {
	if p.has("\ufeff") {
		p.pos += 3
	}
	if p.has("<?xml") && p.pos+5 < len(p.src) && class[p.src[p.pos+5]]&spaceByte != 0 {
		if err := p.declaration(); err != nil {
			return err
		}
	}
	for p.pos < len(p.src) {
		if err := p.token(); err != nil {
			return err
		}
	}
	if p.depth > 0 {
		return p.fail("end of document inside an element")
	}
	if len(p.doc.elements) == 0 {
		return p.fail("no element")
	}
	return nil
}

// token reads one piece of markup or one run of character data.
func (p *parser) token() error {
	if p.src[p.pos] != '<' {
		return p.text()
	}
	if p.pos+1 == len(p.src) {
		return p.fail("end of document inside a tag")
	}
	switch p.src[p.pos+1] {
	case '/':
		return p.endTag()
	case '?':
		return p.instruction()
	case '!':
		return p.bang()
	default:
		return p.startTag()
	}
}

// text reads character data up to the next markup.
func (p *parser) text() error {
	at := p.pos
	for at < len(p.src) && class[p.src[at]]&plainByte != 0 {
		at++
	}
	if at == len(p.src) || p.src[at] == '<' {
		p.pos = at // white space between two tags
		return nil
	}
	n := strings.IndexByte(p.src[p.pos:], '<')
	if n < 0 {
		n = len(p.src) - p.pos
	}
	s := p.src[p.pos : p.pos+n]
	if p.depth == 0 {
		for i := range len(s) {
			if class[s[i]]&spaceByte == 0 {
				p.pos += i
				return p.fail("text outside the root element")
			}
		}
		p.pos += n
		return nil
	}
	refs, err := p.references(s)
	if err != nil {
		return err
	}
	if refs || strings.IndexByte(s, '\r') >= 0 {
		p.current().simple = false
	}
	if at := strings.Index(s, "]]>"); at >= 0 {
		p.pos += at
		return p.fail("]]> in character data")
	}
	p.pos += n
	return nil
}

func (p *parser) current() *Element { return &p.doc.elements[p.open[p.depth-1].element] }

// references checks the references in s, which begins at the present
// position, and reports whether there are any.
func (p *parser) references(s string) (bool, error) {
	at := strings.IndexByte(s, '&')
	if at < 0 {
		return false, nil
	}
	for i := at; i < len(s); i++ {
		if s[i] != '&' {
			continue
		}
		n := strings.IndexByte(s[i:], ';')
		if n < 0 {
			p.pos += i
			return true, p.fail("a reference without its semicolon")
		}
		if _, ok := reference(s[i+1 : i+n]); !ok {
			p.pos += i
			return true, p.fail("a reference to an undeclared entity or to no character")
		}
		i += n
	}
	return true, nil
}

// bang reads a comment or a CDATA section and refuses declarations.
func (p *parser) bang() error {
	switch {
	case p.has("<!--"):
		n := strings.Index(p.src[p.pos+4:], "--")
		if n < 0 {
			return p.fail("a comment without its end")
		}
		end := p.pos + 4 + n + 2
		if end == len(p.src) || p.src[end] != '>' {
			return p.fail("-- inside a comment")
		}
		if p.depth > 0 {
			p.current().simple = false
		}
		p.pos = end + 1
		return nil
	case p.has("<![CDATA["):
		if p.depth == 0 {
			return p.fail("text outside the root element")
		}
		n := strings.Index(p.src[p.pos:], "]]>")
		if n < 0 {
			return p.fail("a CDATA section without its end")
		}
		p.current().simple = false
		p.pos += n + 3
		return nil
	case p.has("<!DOCTYPE"):
		return p.fail("a document type declaration is not allowed")
	}
	return p.fail("unknown markup")
}

// instruction reads a processing instruction.
func (p *parser) instruction() error {
	n := strings.Index(p.src[p.pos+2:], "?>")
	if n < 0 {
		return p.fail("a processing instruction without its end")
	}
	body := p.src[p.pos+2 : p.pos+2+n]
	end := 0
	for end < len(body) && class[body[end]]&nameByte != 0 {
		end++
	}
	if !validName(body[:end]) || end < len(body) && class[body[end]]&spaceByte == 0 {
		return p.fail("a processing instruction without a target")
	}
	if strings.EqualFold(body[:end], "xml") {
		return p.fail("an XML declaration that is not at the beginning")
	}
	if p.depth > 0 {
		p.current().simple = false
	}
	p.pos += n + 4
	return nil
}

// declaration reads the XML declaration: version 1.0, UTF-8 if it names an
// encoding, standalone yes or no.
func (p *parser) declaration() error {
	n := strings.Index(p.src[p.pos:], "?>")
	if n < 0 {
		return p.fail("an XML declaration without its end")
	}
	body := p.src[p.pos+5 : p.pos+n]
	value := func(name string) (v string, found bool, ok bool) {
		rest := strings.TrimLeft(body, " \t\r\n")
		if !strings.HasPrefix(rest, name) {
			return "", false, true
		}
		if len(rest) == len(body) {
			return "", true, false // no white space before it
		}
		rest = strings.TrimLeft(rest[len(name):], " \t\r\n")
		if len(rest) == 0 || rest[0] != '=' {
			return "", true, false
		}
		rest = strings.TrimLeft(rest[1:], " \t\r\n")
		if len(rest) < 2 || rest[0] != '"' && rest[0] != '\'' {
			return "", true, false
		}
		end := strings.IndexByte(rest[1:], rest[0])
		if end < 0 {
			return "", true, false
		}
		body = rest[end+2:]
		return rest[1 : end+1], true, true
	}
	version, found, ok := value("version")
	if !found || !ok || version != "1.0" {
		return p.fail("not XML version 1.0")
	}
	encoding, found, ok := value("encoding")
	if !ok || found && !strings.EqualFold(encoding, "utf-8") {
		return p.fail("an encoding other than UTF-8")
	}
	standalone, found, ok := value("standalone")
	if !ok || found && standalone != "yes" && standalone != "no" ||
		len(strings.TrimLeft(body, " \t\r\n")) > 0 {
		return p.fail("a malformed XML declaration")
	}
	p.pos += n + 2
	return nil
}

// qname reads a qualified name at the present position and moves behind it.
func (p *parser) qname() (colon, end int32, err error) {
	start := p.pos
	sep, at := start-1, start+nameLen(p.src[start:])
	if at < len(p.src) && p.src[at] == ':' {
		sep, at = at, at+1+nameLen(p.src[at+1:])
		if at < len(p.src) && p.src[at] == ':' {
			return 0, 0, p.fail("a name with two colons")
		}
		if !p.isName(p.src[start:sep]) {
			return 0, 0, p.fail("a malformed name")
		}
	}
	if !p.isName(p.src[sep+1 : at]) {
		return 0, 0, p.fail("a malformed name")
	}
	p.pos = at
	return int32(sep), int32(at), nil
}

// isName is [validName] for a part of the source, in short when all of that
// is ASCII.
func (p *parser) isName(s string) bool {
	return len(s) > 0 && class[s[0]]&startByte != 0 && (p.ascii || validName(s))
}

// space skips white space and reports whether there was any.
func (p *parser) space() bool {
	start := p.pos
	at := start
	for at < len(p.src) && class[p.src[at]]&spaceByte != 0 {
		at++
	}
	p.pos = at
	return at > start
}

func (p *parser) startTag() error {
	if p.depth == 0 && len(p.doc.elements) > 0 {
		return p.fail("a second root element")
	}
	if p.depth == MaxDepth {
		return p.fail("elements nested too deep")
	}
	e := Element{doc: p.doc, start: int32(p.pos), simple: true, attrFrom: int32(len(p.doc.attrs))}
	bound := int32(len(p.scope))
	p.pos++
	var err error
	if e.colon, e.nameEnd, err = p.qname(); err != nil {
		return err
	}
	for {
		spaced := p.space()
		if p.pos == len(p.src) {
			return p.fail("end of document inside a tag")
		}
		c := p.src[p.pos]
		if c == '>' {
			p.pos++
			e.inner = int32(p.pos)
			break
		}
		if c == '/' {
			if !p.has("/>") {
				return p.fail("a malformed tag")
			}
			e.inner, e.innerEnd, e.empty = int32(p.pos), int32(p.pos), true
			p.pos += 2
			e.end = int32(p.pos)
			break
		}
		if !spaced {
			return p.fail("no white space before an attribute")
		}
		if len(p.doc.attrs)-int(e.attrFrom) == MaxAttributes {
			return p.fail("too many attributes")
		}
		if err := p.attribute(); err != nil {
			return err
		}
	}
	e.attrTo = int32(len(p.doc.attrs))
	if err := p.resolve(&e); err != nil {
		return err
	}
	p.push(e, bound)
	return nil
}

// push links the element into the tree and, unless it is empty, opens it.
func (p *parser) push(e Element, bound int32) {
	i := int32(len(p.doc.elements))
	if p.depth > 0 {
		around := &p.open[p.depth-1]
		parent := &p.doc.elements[around.element]
		e.parent = around.element
		if around.last != 0 {
			p.doc.elements[around.last].next = i
		} else {
			parent.first = i
		}
		around.last = i
		parent.simple = false
	}
	p.doc.elements = append(p.doc.elements, e)
	if e.empty {
		p.scope = p.scope[:bound]
		return
	}
	p.open[p.depth] = frame{element: i, bound: bound}
	p.depth++
}

func (p *parser) attribute() error {
	a := Attr{doc: p.doc, name: int32(p.pos)}
	var err error
	if a.colon, a.nameEnd, err = p.qname(); err != nil {
		return err
	}
	p.space()
	if p.pos == len(p.src) || p.src[p.pos] != '=' {
		return p.fail("an attribute without a value")
	}
	p.pos++
	p.space()
	if p.pos == len(p.src) || p.src[p.pos] != '"' && p.src[p.pos] != '\'' {
		return p.fail("an attribute value without quotes")
	}
	quote := p.src[p.pos]
	p.pos++
	n := strings.IndexByte(p.src[p.pos:], quote)
	if n < 0 {
		return p.fail("an attribute value without its end")
	}
	a.value, a.valueEnd = int32(p.pos), int32(p.pos+n)
	v := p.src[p.pos : p.pos+n]
	if a.simple = isPlain(v); !a.simple {
		if strings.IndexByte(v, '<') >= 0 {
			return p.fail("< in an attribute value")
		}
		if _, err := p.references(v); err != nil {
			return err
		}
	}
	p.pos += n + 1
	p.doc.attrs = append(p.doc.attrs, a)
	return nil
}

// resolve takes in the declarations of a start tag, resolves its names and
// refuses duplicate attributes.
func (p *parser) resolve(e *Element) error {
	attrs := p.doc.attrs[e.attrFrom:e.attrTo]
	for i := range attrs {
		a := &attrs[i]
		name := p.src[a.name:a.nameEnd]
		if len(name) < 5 || name[:5] != "xmlns" || len(name) > 5 && name[5] != ':' {
			continue
		}
		if err := p.declare(a, name); err != nil {
			return err
		}
	}
	var ok bool
	if e.space, ok = p.lookup(e.Prefix()); !ok {
		return p.fail("an undeclared prefix")
	}
	for i := range attrs {
		a := &attrs[i]
		if a.colon > a.name && a.space == 0 {
			if a.space, ok = p.lookup(p.src[a.name:a.colon]); !ok {
				return p.fail("an undeclared prefix")
			}
		}
		for j := range attrs[:i] {
			b := &attrs[j]
			if a.nameEnd-a.colon == b.nameEnd-b.colon && a.space == b.space &&
				p.src[a.colon+1:a.nameEnd] == p.src[b.colon+1:b.nameEnd] {
				return p.fail("a duplicate attribute")
			}
		}
	}
	return nil
}

// declare takes in one namespace declaration.
func (p *parser) declare(a *Attr, name string) error {
	value := p.src[a.value:a.valueEnd]
	if !a.simple {
		value = string(appendText(nil, value, true))
	}
	declared := ""
	if len(name) > 5 {
		declared = name[6:]
		if len(value) == 0 {
			return p.fail("a prefix declared without a namespace name")
		}
	}
	isXML := declared == "xml"
	if isXML != (value == xmlSpace) || declared == "xmlns" || value == xmlnsSpace {
		return p.fail("a reserved prefix or namespace name")
	}
	space, err := p.intern(value)
	if err != nil {
		return err
	}
	if a.space, err = p.intern(xmlnsSpace); err != nil {
		return err
	}
	if len(p.scope) == MaxScope {
		return p.fail("too many namespace declarations")
	}
	p.scope = append(p.scope, binding{prefix: declared, space: space})
	return nil
}

// lookup finds the namespace that a prefix is bound to; without a prefix,
// the default namespace.
func (p *parser) lookup(prefix string) (int16, bool) {
	for i := len(p.scope) - 1; i >= 0; i-- {
		if p.scope[i].prefix == prefix {
			return p.scope[i].space, true
		}
	}
	if len(prefix) == 0 {
		return 0, true
	}
	if prefix == "xml" {
		space, err := p.intern(xmlSpace)
		return space, err == nil
	}
	return 0, false
}

// intern returns the index of a namespace name.
func (p *parser) intern(name string) (int16, error) {
	for i, s := range p.doc.spaces {
		if s == name {
			return int16(i), nil
		}
	}
	if len(p.doc.spaces) == MaxSpaces {
		return 0, p.fail("too many namespaces")
	}
	p.doc.spaces = append(p.doc.spaces, name)
	return int16(len(p.doc.spaces) - 1), nil
}

func (p *parser) endTag() error {
	if p.depth == 0 {
		return p.fail("an end tag without its start tag")
	}
	top := &p.open[p.depth-1]
	e := &p.doc.elements[top.element]
	start := p.pos
	p.pos += 2
	name := e.QName()
	if !strings.HasPrefix(p.src[p.pos:], name) {
		return p.fail("an end tag that does not match its start tag")
	}
	p.pos += len(name)
	p.space()
	if p.pos == len(p.src) || p.src[p.pos] != '>' {
		return p.fail("an end tag that does not match its start tag")
	}
	p.pos++
	e.innerEnd, e.end = int32(start), int32(p.pos)
	p.scope = p.scope[:top.bound]
	p.depth--
	return nil
}
