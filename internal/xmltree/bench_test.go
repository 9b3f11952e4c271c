package xmltree_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"spekeasy/internal/xmltree"
)

// BenchmarkParse reads key requests of the exchange tests.
func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"v1-mediaconvert-dash", "v2-cmaf-cbcs", "preset-combined"} {
		src := request(b, name)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := xmltree.Parse(src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// request returns the document of an exchange.
func request(b *testing.B, exchange string) string {
	b.Helper()
	ar, err := txtar.ParseFile(filepath.Join("../../testdata/exchange", exchange+".txtar"))
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range ar.Files {
		if f.Name == "request.xml" {
			return string(f.Data)
		}
	}
	b.Fatalf("%s has no request.xml", exchange)
	return ""
}
