package postgres

import (
	"crypto/rand"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// The servers of these benchmarks do not wait for the disk; a real one adds
// one flush to each commit, or to each group of commits under load.

func randomRecord() keystore.Record {
	r := record(0)
	r.ContentID, r.Wrapped = "an-ordinary-content-id-of-some-length", make([]byte, 61)
	rand.Read(r.KID[:])
	rand.Read(r.Wrapped)
	return r
}

func bindingOf(r *keystore.Record) keystore.Binding {
	b := binding(0)
	b.ContentID, b.Requested, b.KID = r.ContentID, r.KID, r.KID
	return b
}

// fill stores n keys as an import does and returns their key IDs.
func fill(t testing.TB, db *DB, n int) []contentkey.KID {
	t.Helper()
	var kids []contentkey.KID
	for len(kids) < n {
		batch := make([]keystore.Record, min(1000, n-len(kids)))
		bindings := make([]keystore.Binding, len(batch))
		for i := range batch {
			batch[i] = randomRecord()
			bindings[i] = bindingOf(&batch[i])
			kids = append(kids, batch[i].KID)
		}
		if _, err := db.Commit(t.Context(), batch, bindings); err != nil {
			t.Fatal(err)
		}
	}
	return kids
}

// BenchmarkCommit measures one new key with its binding, alone and when many
// requests do so.
func BenchmarkCommit(b *testing.B) {
	for version, s := range servers {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("postgres=%d/writers=%d", version, writers), func(b *testing.B) {
				db := openTest(b, newDatabase(b, s))
				found(b, db)
				b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
				if writers == 1 {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
				}
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						r := randomRecord()
						_, err := db.Commit(b.Context(), []keystore.Record{r}, []keystore.Binding{bindingOf(&r)})
						if err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkSizes measures reading, creating and paging with many keys stored;
// -short leaves out a million.
func BenchmarkSizes(b *testing.B) {
	sizes := []int{1_000, 100_000, 1_000_000}
	if testing.Short() {
		sizes = sizes[:2]
	}
	for _, size := range sizes {
		db := openTest(b, newDatabase(b, servers[15]))
		found(b, db)
		start := time.Now()
		kids := fill(b, db, size)
		b.Logf("%d keys with bindings stored in %v", size, time.Since(start)) // shown with -v
		b.Run(fmt.Sprintf("keys=%d/read", size), func(b *testing.B) {
			var next atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(next.Add(7919)) % len(kids)
					if got, err := db.Keys(b.Context(), "acme", kids[i:i+1]); err != nil || len(got) != 1 {
						b.Fatal(len(got), err)
					}
				}
			})
		})
		b.Run(fmt.Sprintf("keys=%d/create", size), func(b *testing.B) {
			for b.Loop() {
				if _, err := db.Commit(b.Context(), []keystore.Record{randomRecord()}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, f := range map[string]keystore.BindingFilter{
			"all": {}, "content": {ContentID: randomRecord().ContentID}, "key": {KID: kids[0]},
		} {
			b.Run(fmt.Sprintf("keys=%d/bindings-of-%s", size, name), func(b *testing.B) {
				after := ""
				for b.Loop() {
					page, next, err := db.PageBindings(b.Context(), "acme", f, after, 1000)
					if err != nil || len(page) == 0 && after == "" {
						b.Fatal(len(page), err)
					}
					after = next
				}
			})
		}
		b.Run(fmt.Sprintf("keys=%d/page-of-1000", size), func(b *testing.B) {
			after := ""
			for b.Loop() {
				_, next, err := db.PageKeys(b.Context(), "acme", after, 1000)
				if err != nil {
					b.Fatal(err)
				}
				after = next
			}
		})
	}
}
