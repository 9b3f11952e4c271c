package contentkey_test

import (
	"testing"

	"spekeasy/contentkey"
)

func BenchmarkParseKID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := contentkey.ParseKID("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseIV(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := contentkey.ParseIV("dJ5l+Gn20AOodk5erTvEmg=="); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendKID(b *testing.B) {
	var buf [36]byte
	b.ReportAllocs()
	for b.Loop() {
		contentkey.KID{1, 2, 3}.AppendText(buf[:0])
	}
}
