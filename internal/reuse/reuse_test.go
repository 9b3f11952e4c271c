package reuse_test

import (
	"testing"

	"spekeasy/internal/reuse"
)

func TestSlice(t *testing.T) {
	kept := make([]int, 3, 8)
	kept[2] = 7
	s := reuse.Slice(kept, 8)
	if len(s) != 0 || cap(s) != 8 || kept[2] != 0 {
		t.Errorf("length %d, capacity %d, kept %v; want 0, 8 and zeros", len(s), cap(s), kept)
	}
	if s := reuse.Slice(kept, 7); s != nil {
		t.Errorf("capacity %d is kept, at most 7 may be", cap(s))
	}
}

func TestGrow(t *testing.T) {
	if s := reuse.Grow(make([]int, 0, 4), 5); len(s) != 0 || cap(s) < 5 {
		t.Errorf("length %d, capacity %d; want 0, 5", len(s), cap(s))
	}
	s := make([]int, 0, 4)
	if g := reuse.Grow(s, 4); cap(g) != 4 || &g[:1][0] != &s[:1][0] {
		t.Error("other memory, though there was room")
	}
}
