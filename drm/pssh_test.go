package drm_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"testing"

	"github.com/Eyevinn/mp4ff/mp4"

	"spekeasy/drm"
)

// TestBox reads and writes boxes of real packagers, vendors and standards
// (D-101), and compares with an independent implementation.
func TestBox(t *testing.T) {
	for _, v := range loadVectors(t).PSSH {
		t.Run(v.Name, func(t *testing.T) {
			x, err := drm.ParseBox(v.Box)
			if err != nil {
				t.Fatal(err)
			}
			if x.Version != v.Version || x.SystemID != v.SystemID || !slices.Equal(x.KIDs, v.KIDs) ||
				!bytes.Equal(x.Data, v.Data) {
				t.Errorf("got %+v", x)
			}
			if got := x.Append(nil); !bytes.Equal(got, v.Box) {
				t.Errorf("written again:\n%x, want\n%x", got, v.Box)
			}
			checkBoxElsewhere(t, v.Box)
		})
	}
}

// checkBoxElsewhere compares our reading of a box with mp4ff's.
func checkBoxElsewhere(t *testing.T, b []byte) {
	t.Helper()
	ours, err := drm.ParseBox(b)
	if err != nil {
		t.Fatal(err)
	}
	boxes, err := mp4.PsshBoxesFromBytes(b)
	if err != nil || len(boxes) != 1 {
		t.Fatalf("mp4ff: %d boxes, %v", len(boxes), err)
	}
	theirs := boxes[0]
	if theirs.Version != ours.Version || theirs.Flags != 0 || theirs.SystemID.String() != ours.SystemID.String() ||
		len(theirs.KIDs) != len(ours.KIDs) || !bytes.Equal(theirs.Data, ours.Data) {
		t.Errorf("mp4ff reads %+v, we read %+v", theirs, ours)
	}
	for i, kid := range theirs.KIDs {
		if kid.String() != ours.KIDs[i].String() {
			t.Errorf("key ID %d: mp4ff reads %s, we read %s", i, kid, ours.KIDs[i])
		}
	}
	var out bytes.Buffer
	if err := theirs.Encode(&out); err != nil || !bytes.Equal(out.Bytes(), b) {
		t.Errorf("mp4ff writes %x, %v", out.Bytes(), err)
	}
}

// TestBoxRejects holds D-102 and D-104.
func TestBoxRejects(t *testing.T) {
	whole := mustHex("00000044" + "70737368" + "01000000" + "1077efecc0b24d02ace33c1e52e2fb4b" + "00000002" +
		"30313233343536373839303132333435" + "4142434445464748494a4b4c4d4e4f50" + "00000000")
	change := func(at int, v byte) []byte {
		b := slices.Clone(whole)
		b[at] = v
		return b
	}
	cases := map[string][]byte{
		"empty":                   {},
		"31 bytes":                whole[:31],
		"size 0, to the end":      change(3, 0),
		"size 1, 64 bits":         change(3, 1),
		"size one less":           change(3, 0x43),
		"size one more":           change(3, 0x45),
		"other type":              change(4, 'P'),
		"version 2":               change(8, 2),
		"version 255":             change(8, 255),
		"a key ID too many":       change(31, 3),
		"a key ID too few":        change(31, 1),
		"2^28 key IDs":            change(28, 0x10),
		"data size without data":  change(67, 1),
		"no box header":           whole[8:],
		"a byte after the box":    append(slices.Clone(whole), 0),
		"another box after it":    append(slices.Clone(whole), whole...),
		"version 1, no key count": mustHex("00000020" + "70737368" + "01000000" + "1077efecc0b24d02ace33c1e52e2fb4b" + "00000001"),
	}
	for _, v := range loadVectors(t).PSSHMustReject {
		cases[v.Name] = v.Box
		if v.Prefix != "" {
			b, err := base64.RawStdEncoding.DecodeString(v.Prefix)
			if err != nil {
				t.Fatal(err)
			}
			cases[v.Name] = b
		}
	}
	if _, err := drm.ParseBox(whole); err != nil {
		t.Fatal(err)
	}
	for name, b := range cases {
		if x, err := drm.ParseBox(b); !errors.Is(err, drm.ErrBox) {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
		if name == "another box after it" {
			continue
		}
		if x, err := drm.ParseBoxes(b); !errors.Is(err, drm.ErrBox) {
			t.Errorf("several boxes, %s: %+v, %v", name, x, err)
		}
	}
}

// TestBoxes reads init data of several boxes (D-103).
func TestBoxes(t *testing.T) {
	v := loadVectors(t)
	var all []byte
	for _, p := range v.PSSH {
		all = append(all, p.Box...)
	}
	boxes, err := drm.ParseBoxes(all)
	if err != nil || len(boxes) != len(v.PSSH) {
		t.Fatalf("%d boxes, %v", len(boxes), err)
	}
	var again []byte
	for i, x := range boxes {
		if x.SystemID != v.PSSH[i].SystemID {
			t.Errorf("box %d is of %s", i, x.SystemID)
		}
		again = x.Append(again)
	}
	if !bytes.Equal(again, all) {
		t.Error("the boxes, written again, differ")
	}
	if boxes, err := drm.ParseBoxes(append(all, 'x')); !errors.Is(err, drm.ErrBox) {
		t.Errorf("with a byte left over: %d boxes, %v", len(boxes), err)
	}
}

// FuzzBox: what parses prints back to the same bytes, but for the flags,
// which are not kept; and mp4ff reads it too.
func FuzzBox(f *testing.F) {
	v := loadVectors(f)
	for _, p := range v.PSSH {
		f.Add(p.Box)
	}
	for _, p := range v.PSSHMustReject {
		f.Add([]byte(p.Box))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		boxes, err := drm.ParseBoxes(b)
		if err != nil {
			if !errors.Is(err, drm.ErrBox) {
				t.Fatal(err)
			}
			return
		}
		var again []byte
		for _, x := range boxes {
			from := len(again)
			again = x.Append(again)
			copy(b[from+9:from+12], []byte{0, 0, 0})
			checkBoxElsewhere(t, again[from:])
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x prints as %x", b, again)
		}
	})
}
