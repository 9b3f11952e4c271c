package b64

import "golang.org/x/sys/cpu"

// A block of 24 bytes becomes 32 characters. Four bytes behind the last block
// are read as well, and not used.
const (
	blockIn  = 24
	blockOut = 32
	blockPad = 4
)

var hasAVX2 = cpu.X86.HasAVX2

// encodeBlocks encodes the beginning of src into that of out and returns how
// many bytes of src that was, a multiple of three and all but the last few.
func encodeBlocks(out, src []byte) int {
	if len(src) < blockIn+blockPad || !hasAVX2 {
		return 0
	}
	n := (len(src) - blockPad) / blockIn
	_ = out[:n*blockOut]
	encodeAVX2(&out[0], &src[0], n)
	// One more block ends as late as it can; it begins among what is done.
	last := (len(src) - blockIn - blockPad) / 3 * 3
	_ = out[:last/3*4+blockOut]
	encodeAVX2(&out[last/3*4], &src[last], 1)
	return last + blockIn
}

// encodeAVX2 encodes one or more blocks.
//
//go:noescape
func encodeAVX2(dst, src *byte, blocks int)
