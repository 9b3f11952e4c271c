package cpix_test

import (
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"spekeasy/cpix"
)

// BenchmarkParse reads key requests of the exchange tests.
func BenchmarkParse(b *testing.B) {
	for _, name := range []string{"v1-mediaconvert-dash", "v2-cmaf-cbcs", "preset-combined"} {
		ar, err := txtar.ParseFile(filepath.Join("../testdata/exchange", name+".txtar"))
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range ar.Files {
			if f.Name != "request.xml" {
				continue
			}
			b.Run(name, func(b *testing.B) {
				b.SetBytes(int64(len(f.Data)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := cpix.Parse(f.Data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
