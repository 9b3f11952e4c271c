package drm

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"spekeasy/contentkey"
)

// ParsePlayReadyObject reads a PlayReady Object and returns its header: the
// first record of type 1, other records are passed over. It fails with
// [ErrPlayReadyObject] for lengths that do not fit, bytes left over, text
// that is not UTF-16LE or has a DOCTYPE or processing instruction (D-203),
// and for a header that breaks the rules of its version. Elements that are
// not known are ignored.
func ParsePlayReadyObject(b []byte) (PlayReadyHeader, error) {
	record, err := headerRecord(b)
	if err != nil {
		return PlayReadyHeader{}, fmt.Errorf("%w: %w", ErrPlayReadyObject, err)
	}
	text, err := decodeUTF16(record)
	if err != nil {
		return PlayReadyHeader{}, fmt.Errorf("%w: %w", ErrPlayReadyObject, err)
	}
	h, err := parseHeader(text)
	if err != nil {
		return PlayReadyHeader{}, fmt.Errorf("%w: header: %w", ErrPlayReadyObject, err)
	}
	if err := h.check(); err != nil {
		return PlayReadyHeader{}, err
	}
	return h, nil
}

func headerRecord(b []byte) (header []byte, err error) {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != uint32(len(b)) {
		return nil, fmt.Errorf("length field does not say %d", len(b))
	}
	count := binary.LittleEndian.Uint16(b[4:])
	b = b[6:]
	for range count {
		if len(b) < 4 {
			return nil, errors.New("record cut off")
		}
		typ, size := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		b = b[4:]
		if size > len(b) {
			return nil, errors.New("record cut off")
		}
		if typ == recordTypeHeader && header == nil {
			header = b[:size]
		}
		b = b[size:]
	}
	switch {
	case len(b) > 0:
		return nil, fmt.Errorf("%d bytes after the last record", len(b))
	case header == nil:
		return nil, errors.New("no header record")
	}
	return header, nil
}

func decodeUTF16(b []byte) (string, error) {
	if len(b)%2 != 0 {
		return "", errors.New("odd number of bytes in UTF-16 text")
	}
	var s strings.Builder
	s.Grow(len(b) / 2)
	for ; len(b) > 0; b = b[2:] {
		r := rune(binary.LittleEndian.Uint16(b))
		if utf16.IsSurrogate(r) {
			if len(b) < 4 {
				return "", errors.New("lone surrogate in UTF-16 text")
			}
			r = utf16.DecodeRune(r, rune(binary.LittleEndian.Uint16(b[2:])))
			if r == utf8.RuneError {
				return "", errors.New("lone surrogate in UTF-16 text")
			}
			b = b[2:]
		}
		s.WriteRune(r)
	}
	return s.String(), nil
}

func parseHeader(text string) (h PlayReadyHeader, err error) {
	root, err := parseElement(text)
	if err != nil {
		return h, err
	}
	if root.name != (xml.Name{Space: headerNamespace, Local: "WRMHEADER"}) {
		return h, fmt.Errorf("root is %q in namespace %q", root.name.Local, root.name.Space)
	}
	version, _ := root.attr("version")
	var ok bool
	if h.Version, ok = strings.CutSuffix(version, ".0.0"); !ok {
		return h, fmt.Errorf("version %q", version)
	}
	data, err := root.child("DATA")
	if err != nil {
		return h, err
	}
	if data == nil {
		return h, errors.New("no DATA")
	}
	if h.Keys, err = parseKeys(h.Version, data); err != nil {
		return h, err
	}
	var setup string
	for _, s := range []struct {
		name string
		to   *string
	}{{"LA_URL", &h.LAURL}, {"LUI_URL", &h.LUIURL}, {"DS_ID", &h.DSID}, {"DECRYPTORSETUP", &setup}} {
		if *s.to, err = data.childText(s.name); err != nil {
			return h, err
		}
	}
	if h.OnDemand = setup != ""; h.OnDemand && setup != "ONDEMAND" {
		return h, fmt.Errorf("DECRYPTORSETUP %q", setup)
	}
	for i := range data.children {
		// In the PlayReady namespace, or in none, as its rules have it.
		if n := &data.children[i]; n.name.Local == "CUSTOMATTRIBUTES" {
			if h.CustomAttributes != "" {
				return h, errors.New("two CUSTOMATTRIBUTES")
			}
			h.CustomAttributes = n.raw
		}
	}
	return h, nil
}

// parseKeys reads the keys from where the version has them.
func parseKeys(version string, data *element) ([]PlayReadyKey, error) {
	info, err := data.child("PROTECTINFO")
	if err != nil {
		return nil, err
	}
	if version == "4.0" {
		k, err := parseOnlyKey(info, data)
		return []PlayReadyKey{k}, err
	}
	if info == nil {
		return nil, nil
	}
	if version != "4.1" {
		if info, err = info.child("KIDS"); err != nil || info == nil {
			return nil, err
		}
	}
	var keys []PlayReadyKey
	for i := range info.children {
		n := &info.children[i]
		if n.name != (xml.Name{Space: headerNamespace, Local: "KID"}) {
			continue
		}
		var k PlayReadyKey
		k.Algorithm, _ = n.attr("ALGID")
		value, _ := n.attr("VALUE")
		if k.KID, err = parseGUID(value); err != nil {
			return nil, err
		}
		if sum, ok := n.attr("CHECKSUM"); ok {
			if k.Checksum, err = parseChecksum(sum); err != nil {
				return nil, err
			}
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// parseOnlyKey reads the key of a 4.0 header.
func parseOnlyKey(info, data *element) (k PlayReadyKey, err error) {
	if info == nil {
		return k, errors.New("no PROTECTINFO")
	}
	size, err := info.childText("KEYLEN")
	if err != nil {
		return k, err
	}
	if size != "16" {
		return k, fmt.Errorf("KEYLEN %q", size)
	}
	if k.Algorithm, err = info.childText("ALGID"); err != nil {
		return k, err
	}
	kid, err := data.childText("KID")
	if err != nil {
		return k, err
	}
	if k.KID, err = parseGUID(kid); err != nil {
		return k, err
	}
	sum, err := data.childText("CHECKSUM")
	if err == nil && sum != "" {
		k.Checksum, err = parseChecksum(sum)
	}
	return k, err
}

func parseGUID(s string) (contentkey.KID, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != 16 {
		return contentkey.KID{}, fmt.Errorf("key ID %q is not the base64 of 16 bytes", s)
	}
	return guid([16]byte(b)), nil
}

func parseChecksum(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("CHECKSUM is not base64")
	}
	return b, nil
}

// element is a parsed XML element.
type element struct {
	name     xml.Name
	attrs    []xml.Attr
	children []element
	text     string // all character data directly inside
	raw      string // from the start tag to the end tag
}

// parseElement reads text that is one element and nothing else but white
// space and comments. A DOCTYPE or a processing instruction is an error, the
// XML declaration included.
func parseElement(text string) (element, error) {
	d := xml.NewDecoder(strings.NewReader(text))
	doc := element{}
	if err := doc.read(d, text); !errors.Is(err, io.EOF) {
		return element{}, fmt.Errorf("not well-formed XML: %w", err)
	}
	if len(doc.children) != 1 || strings.TrimSpace(doc.text) != "" {
		return element{}, errors.New("not exactly one element")
	}
	return doc.children[0], nil
}

// read reads the content of n up to its end tag.
func (n *element) read(d *xml.Decoder, text string) error {
	var chars strings.Builder
	for {
		from := d.InputOffset()
		tok, err := d.Token()
		if err != nil {
			n.text = chars.String()
			return err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			child := element{name: tok.Name, attrs: tok.Attr}
			if err := child.read(d, text); err != nil {
				return err
			}
			child.raw = text[from:d.InputOffset()]
			n.children = append(n.children, child)
		case xml.EndElement:
			n.text = chars.String()
			return nil
		case xml.CharData:
			chars.Write(tok)
		case xml.Directive, xml.ProcInst:
			return errors.New("a DOCTYPE or processing instruction")
		}
	}
}

func (n *element) attr(name string) (string, bool) {
	for _, a := range n.attrs {
		if a.Name == (xml.Name{Local: name}) {
			return a.Value, true
		}
	}
	return "", false
}

// child returns the child of that name in PlayReady's namespace, or nil.
func (n *element) child(name string) (found *element, err error) {
	for i := range n.children {
		if n.children[i].name != (xml.Name{Space: headerNamespace, Local: name}) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("two %s", name)
		}
		found = &n.children[i]
	}
	return found, nil
}

func (n *element) childText(name string) (string, error) {
	c, err := n.child(name)
	if err != nil || c == nil {
		return "", err
	}
	if len(c.children) > 0 {
		return "", fmt.Errorf("elements inside %s", name)
	}
	return c.text, nil
}
