package drm

import "spekeasy/internal/reuse"

// Room is memory for signaling that is used again and again, for whoever
// signals much; see [Track]. The zero Room is ready for use.
type Room struct {
	block []byte // up to its length it is taken
}

const (
	minBlock = 4 << 10
	maxBlock = 256 << 10 // a block of more is not kept
)

// Reset makes the memory free again. Signaling that was made in it is cleared
// and must not be used any more.
func (r *Room) Reset() { r.block = reuse.Slice(r.block, maxBlock) }

// take returns room for n bytes, which is memory of its own if r is nil.
func (r *Room) take(n int) []byte {
	if r == nil {
		return make([]byte, 0, n)
	}
	from := len(r.block)
	if n > cap(r.block)-from {
		// What was taken before stays where it is.
		r.block, from = make([]byte, 0, max(n, 2*cap(r.block), minBlock)), 0
	}
	r.block = r.block[:from+n]
	return r.block[from:from:len(r.block)]
}
