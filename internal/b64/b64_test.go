package b64

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
)

// TestAppend compares with encoding/base64 for every length up to 300 and
// every pair of bytes.
func TestAppend(t *testing.T) {
	src := make([]byte, 300)
	for i := range src {
		src[i] = byte(i*i*31 + i)
	}
	for n := range len(src) + 1 {
		check(t, src[:n])
	}
	for n := range 256 { // each byte in each place of a block
		check(t, bytes.Repeat([]byte{byte(n), byte(n + 1), byte(n + 5), byte(n + 9), byte(n + 30)}, 20))
	}
	for i := range 1 << 16 {
		check(t, []byte{byte(i >> 8), byte(i)})
	}
}

// TestAppendFromItself encodes bytes that dst already holds.
func TestAppendFromItself(t *testing.T) {
	buf := append(make([]byte, 0, 64), "content key"...)
	buf = Append(buf, buf[:7])
	if got, want := string(buf), "content keyY29udGVudA=="; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAppendJoined(t *testing.T) {
	src := bytes.Repeat([]byte("content key"), 10)
	for n := range len(src) + 1 {
		for at := range n + 1 {
			want := "before" + base64.StdEncoding.EncodeToString(src[:n])
			if got := AppendJoined([]byte("before"), string(src[:at]), src[at:n]); string(got) != want {
				t.Fatalf("%q and %q: got %q, want %q", src[:at], src[at:n], got, want)
			}
		}
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("pssh"))
	f.Add(bytes.Repeat([]byte{0xff}, 33))
	f.Fuzz(func(t *testing.T, src []byte) { check(t, src) })
}

func check(t *testing.T, src []byte) {
	t.Helper()
	prefix := []byte("before")
	want := base64.StdEncoding.AppendEncode(bytes.Clone(prefix), src)
	if n := len(prefix) + EncodedLen(len(src)); len(want) != n {
		t.Fatalf("%x: EncodedLen does not fit: %d, want %d", src, n, len(want))
	}
	// What stands behind the output must not be touched.
	const behind = 32
	room := bytes.Repeat([]byte{'#'}, len(want)+behind)
	if got := Append(append(room[:0], prefix...), src); !bytes.Equal(got, want) || string(room[len(want):]) != strings.Repeat("#", behind) {
		t.Fatalf("%x: got %q, want %q", src, room, want)
	}
	// So it must be on processors that cannot encode blocks.
	clear(room)
	copy(room, prefix)
	encodePairs(room[len(prefix):len(want)], src)
	if !bytes.Equal(room[:len(want)], want) {
		t.Fatalf("%x: encodePairs gives %q, want %q", src, room[:len(want)], want)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{16, 72, 650, 2400} {
		src, dst := make([]byte, n), make([]byte, 0, EncodedLen(n))
		for i := range src {
			src[i] = byte(i * 7)
		}
		b.Run("b64/"+strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				Append(dst, src)
			}
		})
		b.Run("std/"+strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				base64.StdEncoding.AppendEncode(dst, src)
			}
		})
	}
}
