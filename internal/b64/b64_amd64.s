#include "textflag.h"

// The method is that of Muła and Lemire, "Faster Base64 Encoding and Decoding
// Using AVX2 Instructions" (2018): each 16-byte lane takes 12 bytes to 16
// characters.

// Bytes of three (a, b, c) are laid out as b a c b, so that each of the four
// groups of six bits lies within a 16-bit word.
DATA spread<>+0x00(SB)/8, $0x0405030401020001
DATA spread<>+0x08(SB)/8, $0x0a0b090a07080607
GLOBL spread<>(SB), (NOPTR+RODATA), $16

// What is added to a group of six bits to make a character. The index is 13
// for A-Z, 0 for a-z, 1 to 10 for the digits, 11 for + and 12 for /.
DATA offsets<>+0x00(SB)/8, $0xfcfcfcfcfcfcfc47
DATA offsets<>+0x08(SB)/8, $0x000041f0edfcfcfc
GLOBL offsets<>(SB), (NOPTR+RODATA), $16

DATA maskHigh<>+0(SB)/4, $0x0fc0fc00
GLOBL maskHigh<>(SB), (NOPTR+RODATA), $4
DATA shiftHigh<>+0(SB)/4, $0x04000040 // right by 10 and by 6
GLOBL shiftHigh<>(SB), (NOPTR+RODATA), $4
DATA maskLow<>+0(SB)/4, $0x003f03f0
GLOBL maskLow<>(SB), (NOPTR+RODATA), $4
DATA shiftLow<>+0(SB)/4, $0x01000010 // left by 8 and by 4
GLOBL shiftLow<>(SB), (NOPTR+RODATA), $4
DATA fiftyOne<>+0(SB)/4, $0x33333333
GLOBL fiftyOne<>(SB), (NOPTR+RODATA), $4
DATA twentySix<>+0(SB)/4, $0x1a1a1a1a
GLOBL twentySix<>(SB), (NOPTR+RODATA), $4
DATA thirteen<>+0(SB)/4, $0x0d0d0d0d
GLOBL thirteen<>(SB), (NOPTR+RODATA), $4

// func encodeAVX2(dst, src *byte, blocks int)
TEXT ·encodeAVX2(SB), NOSPLIT, $0-24
	MOVQ dst+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ blocks+16(FP), CX

	VBROADCASTI128 spread<>(SB), Y7
	VBROADCASTI128 offsets<>(SB), Y8
	VPBROADCASTD maskHigh<>(SB), Y9
	VPBROADCASTD shiftHigh<>(SB), Y10
	VPBROADCASTD maskLow<>(SB), Y11
	VPBROADCASTD shiftLow<>(SB), Y12
	VPBROADCASTD fiftyOne<>(SB), Y13
	VPBROADCASTD twentySix<>(SB), Y14
	VPBROADCASTD thirteen<>(SB), Y15

loop:
	VMOVDQU     (SI), X0
	VINSERTI128 $1, 12(SI), Y0, Y0
	VPSHUFB     Y7, Y0, Y0

	// Move each group of six bits to a byte of its own.
	VPAND    Y9, Y0, Y1
	VPMULHUW Y10, Y1, Y1
	VPAND    Y11, Y0, Y2
	VPMULLW  Y12, Y2, Y2
	VPOR     Y1, Y2, Y0

	// Find the offset of each and add it.
	VPSUBUSB Y13, Y0, Y1
	VPCMPGTB Y0, Y14, Y2
	VPAND    Y15, Y2, Y2
	VPOR     Y2, Y1, Y1
	VPSHUFB  Y1, Y8, Y1
	VPADDB   Y1, Y0, Y0

	VMOVDQU Y0, (DI)
	ADDQ    $24, SI
	ADDQ    $32, DI
	DECQ    CX
	JNZ     loop

	VZEROUPPER
	RET
