package xmltree

import (
	"cmp"
	"errors"
	"slices"

	"spekeasy/internal/b64"
	"spekeasy/internal/reuse"
)

// Edits is a list of changes to the source of one document. They are queued
// in any order and applied at once, so that no change moves the ground under
// another. [Edits.Reset] makes the zero value a list.
type Edits struct {
	doc  *Doc
	list []edit
}

// An edit replaces source[start:end] by the piece. When the piece is the
// content of an element that was written as an empty-element tag, the name in
// it is source[nameStart:nameEnd]: the end of its start tag goes before the
// piece and an end tag after it.
type edit struct {
	start, end         int32
	nameStart, nameEnd int32
	Piece
}

func (e *edit) opensTag() bool { return e.nameEnd > 0 }

// removes reports whether the edit puts nothing in.
func (e *edit) removes() bool {
	return !e.opensTag() && e.Before == "" && e.Head == "" && len(e.Body) == 0 && e.After == ""
}

// Edit returns an empty list of changes to d with room for n.
func (d *Doc) Edit(n int) *Edits {
	ed := new(Edits)
	ed.Reset(d)
	ed.Grow(n)
	return ed
}

// maxKept is how many edits a list that is reset has memory for.
const maxKept = 2048

// Reset makes ed an empty list of changes to d, in the memory that it has.
func (ed *Edits) Reset(d *Doc) { ed.doc, ed.list = d, reuse.Slice(ed.list, maxKept) }

// Grow makes room for n more changes.
func (ed *Edits) Grow(n int) { ed.list = slices.Grow(ed.list, n) }

// ErrOverlap reports two changes to the same bytes. What is taken out of a
// part that is replaced anyway is no change of its own.
var ErrOverlap = errors.New("overlapping edits of one document")

// A Piece is what an edit puts in: well-formed XML, the base64 of Head and
// Body as one, and well-formed XML again. Body must not change until the edits
// are applied.
type Piece struct {
	Before string
	Head   string
	Body   []byte
	After  string
}

func (ed *Edits) add(start, end int32, p Piece) {
	ed.list = append(ed.list, edit{start: start, end: end, Piece: p})
}

// SetContent replaces the content of e. An empty-element tag becomes a start
// and an end tag spelled like it.
func (ed *Edits) SetContent(e *Element, p Piece) {
	if !e.empty {
		ed.add(e.inner, e.innerEnd, p)
		return
	}
	ed.list = append(ed.list, edit{start: e.inner, end: e.end, nameStart: e.start + 1, nameEnd: e.nameEnd, Piece: p})
}

// Append adds a piece at the end of the content of e. On an element that is
// written as an empty-element tag it can be used once.
func (ed *Edits) Append(e *Element, p Piece) {
	if e.empty {
		ed.SetContent(e, p)
		return
	}
	ed.add(e.innerEnd, e.innerEnd, p)
}

// InsertAfter adds a piece right behind e.
func (ed *Edits) InsertAfter(e *Element, p Piece) {
	ed.add(e.end, e.end, p)
}

// Replace puts a piece in the place of e.
func (ed *Edits) Replace(e *Element, p Piece) {
	ed.add(e.start, e.end, p)
}

// Remove takes e out, tags and content. White space around it stays.
func (ed *Edits) Remove(e *Element) { ed.Replace(e, Piece{}) }

// AddAttr adds an attribute behind the last one of e; name is a qualified
// name and value is text that is escaped here.
func (ed *Edits) AddAttr(e *Element, name, value string) {
	at := e.nameEnd
	if e.attrTo > e.attrFrom {
		at = ed.doc.attrs[e.attrTo-1].valueEnd + 1
	}
	ed.add(at, at, Piece{Before: " " + name + `="` + Escape(value) + `"`})
}

// SetAttr replaces the value of an attribute by text that is escaped here.
func (ed *Edits) SetAttr(a *Attr, value string) {
	ed.add(a.value, a.valueEnd, Piece{Before: Escape(value)})
}

// RemoveAttr takes an attribute out of e, with the white space before it.
func (ed *Edits) RemoveAttr(e *Element, a *Attr) {
	start := e.nameEnd
	for i := e.attrFrom; i < e.attrTo && ed.doc.attrs[i].name < a.name; i++ {
		start = ed.doc.attrs[i].valueEnd + 1
	}
	ed.add(start, a.valueEnd+1, Piece{})
}

// AppendTo appends the source with all changes made to out, and returns the
// longer slice. The error is [ErrOverlap].
func (ed *Edits) AppendTo(out []byte) ([]byte, error) {
	list := ed.list
	order := func(a, b edit) int {
		switch {
		case a.start != b.start:
			return cmp.Compare(a.start, b.start)
		case a.start == a.end || b.start == b.end:
			// What is inserted at the beginning of a replaced part comes first,
			return cmp.Compare(a.end, b.end)
		case a.end != b.end:
			return cmp.Compare(b.end, a.end)
		case a.removes() == b.removes():
			return 0
		case a.removes():
			return 1 // and what is taken out of it comes behind it.
		}
		return -1
	}
	if !slices.IsSortedFunc(list, order) {
		slices.SortStableFunc(list, order)
	}
	src := ed.doc.src
	size, at := len(src), int32(0)
	for i := range list {
		e := &list[i]
		if e.start < at {
			if !e.removes() || e.end > at {
				return nil, ErrOverlap
			}
			continue
		}
		at = e.end
		size += len(e.Before) + b64.EncodedLen(len(e.Head)+len(e.Body)) + len(e.After) - int(e.end-e.start)
		if e.opensTag() {
			size += len("></>") + int(e.nameEnd-e.nameStart)
		}
	}
	out = slices.Grow(out, size)
	at = 0
	for i := range list {
		e := &list[i]
		if e.start < at {
			continue // gone with what is around it
		}
		out = append(out, src[at:e.start]...)
		at = e.end
		if e.opensTag() {
			out = append(out, '>')
		}
		out = e.appendTo(out)
		if e.opensTag() {
			out = append(out, "</"...)
			out = append(out, src[e.nameStart:e.nameEnd]...)
			out = append(out, '>')
		}
	}
	return append(out, src[at:]...), nil
}

func (p *Piece) appendTo(out []byte) []byte {
	if p.Before != "" {
		out = append(out, p.Before...)
	}
	if len(p.Head)+len(p.Body) > 0 {
		out = b64.AppendJoined(out, p.Head, p.Body)
	}
	if p.After != "" {
		out = append(out, p.After...)
	}
	return out
}

// Escape returns s as it is written in character data and in attribute
// values of either quote.
func Escape(s string) string {
	for i := range len(s) {
		if escapes[s[i]] != "" {
			return string(appendEscaped(make([]byte, 0, len(s)+16), s))
		}
	}
	return s
}

var escapes = [256]string{
	'&': "&amp;", '<': "&lt;", '>': "&gt;", '"': "&quot;", '\'': "&apos;",
	'\t': "&#9;", '\n': "&#10;", '\r': "&#13;",
}

func appendEscaped(out []byte, s string) []byte {
	for i := range len(s) {
		if esc := escapes[s[i]]; esc != "" {
			out = append(out, esc...)
		} else {
			out = append(out, s[i])
		}
	}
	return out
}
