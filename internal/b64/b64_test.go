package b64_test

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"testing"

	"spekeasy/internal/b64"
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
	for i := range 1 << 16 {
		check(t, []byte{byte(i >> 8), byte(i)})
	}
}

// TestAppendFromItself encodes bytes that dst already holds.
func TestAppendFromItself(t *testing.T) {
	buf := append(make([]byte, 0, 64), "content key"...)
	buf = b64.Append(buf, buf[:7])
	if got, want := string(buf), "content keyY29udGVudA=="; got != want {
		t.Errorf("got %q, want %q", got, want)
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
	got := b64.Append(bytes.Clone(prefix), src)
	if !bytes.Equal(got, want) {
		t.Fatalf("%x: got %q, want %q", src, got, want)
	}
	if n := len(prefix) + b64.EncodedLen(len(src)); len(got) != n {
		t.Fatalf("%x: EncodedLen does not fit: %d, want %d", src, n, len(got))
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{16, 72, 650, 2400} {
		src, dst := make([]byte, n), make([]byte, 0, b64.EncodedLen(n))
		for i := range src {
			src[i] = byte(i * 7)
		}
		b.Run("b64/"+strconv.Itoa(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				b64.Append(dst, src)
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
