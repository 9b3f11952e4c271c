package keystore_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// BenchmarkObtainKnown measures the hot path for the two request sizes of
// the design's table.
func BenchmarkObtainKnown(b *testing.B) {
	for _, n := range []int{1, 2, 10} {
		f := start(b, keystore.Options{Clock: time.Now})
		var asks []*keystore.Ask
		for i := range 500 {
			var kids []contentkey.KID
			for j := range n {
				kids = append(kids, kid(i*n+j))
			}
			a := ask("an-ordinary-content-id-of-some-length", kids...)
			for j := range a.Wants {
				a.Wants[j].Systems = append(a.Wants[j].Systems, "9a04f079-9840-4286-ab92-e65be0885f95")
			}
			f.obtain(a)
			asks = append(asks, a)
		}
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			var next atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				i := int(next.Add(137))
				for pb.Next() {
					i++
					if _, err := f.Obtain(b.Context(), asks[i%len(asks)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		if s := f.Stats(); s.CacheMisses > uint64(500*n) {
			b.Errorf("%d misses", s.CacheMisses)
		}
	}
}

// BenchmarkObtainNew measures durable new keys, two per request.
func BenchmarkObtainNew(b *testing.B) {
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			f := start(b, keystore.Options{Clock: time.Now})
			var last atomic.Uint64
			b.SetParallelism(clients) // times GOMAXPROCS, which -cpu 1 makes 1
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := f.Obtain(b.Context(), ask("live", randomKID(&last), randomKID(&last))); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkObtainStored measures keys that exist and are not in memory, as
// after a restart, with their bindings refreshed.
func BenchmarkObtainStored(b *testing.B) {
	f := start(b, keystore.Options{CacheBytes: -1, Clock: time.Now})
	for i := range 1000 {
		f.obtain(ask("movie", kid(2*i), kid(2*i+1)))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if _, err := f.Obtain(b.Context(), ask("movie", kid(2*(i%1000)), kid(2*(i%1000)+1))); err != nil {
			b.Fatal(err)
		}
	}
}

func randomKID(last *atomic.Uint64) (k contentkey.KID) {
	rand.Read(k[:8])
	binary.BigEndian.PutUint64(k[8:], last.Add(1))
	return k
}
