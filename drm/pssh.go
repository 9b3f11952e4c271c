package drm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"spekeasy/contentkey"
	"spekeasy/internal/b64"
)

// Box is a protection system specific header box, "pssh", of ISO/IEC 23001-7.
type Box struct {
	Version  uint8 // 0, or 1 for a box that lists key IDs
	SystemID SystemID
	KIDs     []contentkey.KID // only in version 1
	Data     []byte           // the system's own data, may be empty
}

// ErrBox reports bytes that are not a pssh box.
var ErrBox = errors.New("malformed pssh box")

// boxHeaderLen is the length of a version 0 box without its data: size, type,
// version and flags, system ID, data size.
const boxHeaderLen = 4 + 4 + 4 + 16 + 4

// Append appends the box to dst, with flags 0. Version 0 has no place for key
// IDs, which are then not written.
func (x Box) Append(dst []byte) []byte {
	size := boxHeaderLen + len(x.Data)
	if x.Version == 1 {
		size += 4 + len(x.KIDs)*16
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = append(dst, 'p', 's', 's', 'h', x.Version, 0, 0, 0)
	dst = append(dst, x.SystemID[:]...)
	if x.Version == 1 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(x.KIDs)))
		for i := range x.KIDs {
			dst = append(dst, x.KIDs[i][:]...)
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(x.Data)))
	return append(dst, x.Data...)
}

// ParseBox reads exactly one pssh box of version 0 or 1. It fails with
// [ErrBox] when a size or count does not fit the bytes given, and for bytes
// left over inside or after the box (D-102). Flags are ignored. Data is a
// part of b, not a copy.
func ParseBox(b []byte) (Box, error) {
	x, rest, err := cutBox(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes after the box", ErrBox, len(rest))
	}
	if err != nil {
		return Box{}, err
	}
	return x, nil
}

// ParseBoxes reads one or more pssh boxes back to back, which is what EME
// calls "cenc" initialization data (D-103, D-410). It is as strict as
// [ParseBox].
func ParseBoxes(b []byte) ([]Box, error) {
	var boxes []Box
	for {
		x, rest, err := cutBox(b)
		if err != nil {
			return nil, fmt.Errorf("box %d: %w", len(boxes)+1, err)
		}
		boxes = append(boxes, x)
		if len(rest) == 0 {
			return boxes, nil
		}
		b = rest
	}
}

func cutBox(b []byte) (x Box, rest []byte, err error) {
	if len(b) < boxHeaderLen {
		return x, nil, fmt.Errorf("%w: %d bytes, the shortest box has %d", ErrBox, len(b), boxHeaderLen)
	}
	// Sizes 0 and 1, "to the end" and "64 bits follow", have no meaning here;
	// they fall under the lower bound.
	size := uint64(binary.BigEndian.Uint32(b))
	if size < boxHeaderLen || size > uint64(len(b)) {
		return x, nil, fmt.Errorf("%w: size %d, %d bytes given", ErrBox, size, len(b))
	}
	b, rest = b[:size:size], b[size:]
	if string(b[4:8]) != "pssh" {
		return x, nil, fmt.Errorf("%w: type %q", ErrBox, b[4:8])
	}
	x.Version = b[8]
	if x.Version > 1 {
		return x, nil, fmt.Errorf("%w: version %d", ErrBox, x.Version)
	}
	copy(x.SystemID[:], b[12:28])
	b = b[28:]
	if x.Version == 1 {
		n := uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
		if n*16+4 > uint64(len(b)) {
			return x, nil, fmt.Errorf("%w: %d key IDs in %d bytes", ErrBox, n, len(b))
		}
		if n > 0 {
			x.KIDs = make([]contentkey.KID, n)
		}
		for i := range x.KIDs {
			b = b[copy(x.KIDs[i][:], b):]
		}
	}
	if n := uint64(binary.BigEndian.Uint32(b)); n != uint64(len(b)-4) {
		return x, nil, fmt.Errorf("%w: data size %d, %d bytes left", ErrBox, n, len(b)-4)
	}
	x.Data = b[4:]
	return x, rest, nil
}

// putBoxHeader makes b a whole box of version 0: its first bytes, which the
// caller left free, become the header, and what follows them is the data.
// Widevine and PlayReady are written in that version (D-101).
func putBoxHeader(b []byte, id SystemID) {
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	copy(b[4:12], "pssh\x00\x00\x00\x00")
	copy(b[12:28], id[:])
	binary.BigEndian.PutUint32(b[28:], uint32(len(b)-boxHeaderLen))
}

// base64Once appends the base64 of raw as often as asked, and computes it
// once: the same text stands in the manifest and in the key tags.
type base64Once struct{ raw, text []byte }

func (o *base64Once) append(b []byte) []byte {
	if o.text != nil {
		return append(b, o.text...)
	}
	from := len(b)
	b = b64.Append(b, o.raw)
	o.text = b[from:]
	return b
}

// The element of a DASH ContentProtection that holds a pssh box (D-810): it
// declares its own prefix, and its text is the PSSH element's text to the
// letter (S2-PAY-43).
const (
	psshElementStart = `<cenc:pssh xmlns:cenc="urn:mpeg:cenc:2013">`
	psshElementEnd   = `</cenc:pssh>`
)

func appendPSSHElement(b []byte, box *base64Once) []byte {
	b = append(b, psshElementStart...)
	b = box.append(b)
	return append(b, psshElementEnd...)
}

// psshElementLen is the length of the element for a box of n bytes.
func psshElementLen(n int) int {
	return len(psshElementStart) + b64.EncodedLen(n) + len(psshElementEnd)
}

// tail returns what b has gained since it was from bytes long. Appending to
// the result cannot reach what will be written behind it.
func tail(b []byte, from int) []byte { return b[from:len(b):len(b)] }
