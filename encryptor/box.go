package encryptor

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"spekeasy/contentkey"
	"spekeasy/drm"
	"spekeasy/internal/xmltree"
)

// psshBox is one pssh box.
type psshBox struct {
	system drm.SystemID
	kids   []contentkey.KID // version 1
	data   []byte
}

// parseBox reads a value that is exactly one pssh box (CPIX-DRM-01, D-102).
func parseBox(b []byte) (*psshBox, error) {
	const fixed = 28 // size, type, version, flags, system ID
	if len(b) < fixed+4 || string(b[4:8]) != "pssh" {
		return nil, errors.New("not a pssh box")
	}
	if size := binary.BigEndian.Uint32(b); uint64(size) != uint64(len(b)) {
		return nil, fmt.Errorf("pssh box says %d bytes, has %d", size, len(b))
	}
	version := b[8]
	if version > 1 {
		return nil, fmt.Errorf("pssh box of version %d", version)
	}
	box := &psshBox{}
	copy(box.system[:], b[12:fixed])
	rest := b[fixed:]
	if version == 1 {
		n := uint64(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		if n*16+4 > uint64(len(rest)) {
			return nil, errors.New("pssh box with more key IDs than bytes")
		}
		for range n {
			box.kids = append(box.kids, contentkey.KID(rest))
			rest = rest[16:]
		}
	}
	if n := binary.BigEndian.Uint32(rest); uint64(n) != uint64(len(rest)-4) {
		return nil, fmt.Errorf("pssh box with %d bytes of data says %d", len(rest)-4, n)
	}
	box.data = rest[4:]
	return box, nil
}

// widevine is what matters of a Widevine box's data.
type widevine struct {
	kids   []contentkey.KID
	scheme uint64 // four-character code; 0 when absent
}

var errProtobuf = errors.New("malformed Widevine data")

// parseWidevine reads the fields key_id and protection_scheme and skips the
// others (D-115).
func parseWidevine(b []byte) (w widevine, err error) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 == 0 {
			return w, errProtobuf
		}
		b = b[n:]
		switch tag & 7 {
		case 0:
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return w, errProtobuf
			}
			if tag>>3 == 9 {
				w.scheme = v
			}
			b = b[n:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return w, errProtobuf
			}
			if tag>>3 == 2 && size == 16 {
				w.kids = append(w.kids, contentkey.KID(b[n:]))
			}
			b = b[n+int(size):]
		case 1, 5:
			size := 8
			if tag&7 == 5 {
				size = 4
			}
			if len(b) < size {
				return w, errProtobuf
			}
			b = b[size:]
		default:
			return w, errProtobuf
		}
	}
	return w, nil
}

// playReadyObject is what matters of a PlayReady Object's header.
type playReadyObject struct {
	version string
	kids    []contentkey.KID
	algs    []string // ALGID of each, where named
}

const playReadySpace = "http://schemas.microsoft.com/DRM/2007/03/PlayReadyHeader"

// parseObject reads a PlayReady Object (D-201 to -203, S2-PR-02).
func parseObject(b []byte) (*playReadyObject, error) {
	if len(b) < 6 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) {
		return nil, errors.New("not a PlayReady Object")
	}
	records, rest := int(binary.LittleEndian.Uint16(b[4:])), b[6:]
	var header []byte
	for range records {
		if len(rest) < 4 {
			return nil, errors.New("PlayReady Object with a cut record")
		}
		kind, size := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if rest = rest[4:]; len(rest) < size {
			return nil, errors.New("PlayReady Object with a cut record")
		}
		if kind == 1 && header == nil {
			header = rest[:size]
		}
		rest = rest[size:]
	}
	if len(rest) > 0 {
		return nil, errors.New("PlayReady Object with bytes left over")
	}
	text, err := utf16Text(header)
	if err != nil {
		return nil, err
	}
	return parseHeader(text)
}

// utf16Text decodes little-endian UTF-16 without a byte-order mark.
func utf16Text(b []byte) (string, error) {
	bad := errors.New("PlayReady header is not UTF-16 without byte-order mark")
	if len(b) == 0 || len(b)%2 != 0 || b[0] == 0xff && b[1] == 0xfe {
		return "", bad
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i += 2 {
		r := rune(binary.LittleEndian.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			if i += 2; i == len(b) {
				return "", bad
			}
			if r = utf16.DecodeRune(r, rune(binary.LittleEndian.Uint16(b[i:]))); r == utf8.RuneError {
				return "", bad
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), nil
}

// parseHeader reads a WRMHEADER of version 4.0 to 4.3.
func parseHeader(text string) (*playReadyObject, error) {
	tree, err := xmltree.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("PlayReady header: %w", err)
	}
	root := tree.Root()
	if root.Local() != "WRMHEADER" || root.Space() != playReadySpace {
		return nil, errors.New("PlayReady header without WRMHEADER")
	}
	o := &playReadyObject{}
	if a := root.Attr("version"); a != nil {
		o.version = a.Value()
	}
	data := child(root, playReadySpace, "DATA")
	info := child(data, playReadySpace, "PROTECTINFO")
	for e := range children(data) { // 4.0
		if e.Local() == "KID" {
			err = errors.Join(err, o.add(strings.TrimSpace(e.Text())))
		}
	}
	if alg := child(info, playReadySpace, "ALGID"); alg != nil {
		o.algs = append(o.algs, strings.TrimSpace(alg.Text()))
	}
	for _, list := range [...]*xmltree.Element{info, child(info, playReadySpace, "KIDS")} { // 4.1, then 4.2 and 4.3
		for e := range children(list) {
			if e.Local() != "KID" {
				continue
			}
			if a := e.Attr("ALGID"); a != nil {
				o.algs = append(o.algs, a.Value())
			}
			if a := e.Attr("VALUE"); a != nil {
				err = errors.Join(err, o.add(a.Value()))
			}
		}
	}
	return o, err
}

// add takes in a key ID in PlayReady's byte order (D-002).
func (o *playReadyObject) add(text string) error {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != 16 {
		return errors.New("PlayReady header with a KID that is not the base64 of 16 bytes")
	}
	for _, swap := range [...][2]int{{0, 3}, {1, 2}, {4, 5}, {6, 7}} {
		b[swap[0]], b[swap[1]] = b[swap[1]], b[swap[0]]
	}
	o.kids = append(o.kids, contentkey.KID(b))
	return nil
}

// child returns the first child of that name, or nil; e may be nil.
func child(e *xmltree.Element, space, local string) *xmltree.Element {
	for c := range children(e) {
		if c.Local() == local && c.Space() == space {
			return c
		}
	}
	return nil
}

// children goes through the elements inside e, which may be nil.
func children(e *xmltree.Element) func(yield func(*xmltree.Element) bool) {
	return func(yield func(*xmltree.Element) bool) {
		if e == nil {
			return
		}
		for c := e.FirstChild(); c != nil; c = c.Next() {
			if !yield(c) {
				return
			}
		}
	}
}
