package dynamodb

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// These measure our side and an emulator on the same machine; the service
// itself answers within milliseconds whatever the size of the table.

func randomRecord() keystore.Record {
	r := record(0)
	r.ContentID, r.Wrapped = "an-ordinary-content-id-of-some-length", make([]byte, 61)
	rand.Read(r.KID[:])
	rand.Read(r.Wrapped)
	return r
}

func bindingFor(r *keystore.Record) keystore.Binding {
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
		for i := range batch {
			batch[i] = randomRecord()
			kids = append(kids, batch[i].KID)
		}
		if _, err := db.Commit(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	return kids
}

// BenchmarkCommit measures one new key with its binding.
func BenchmarkCommit(b *testing.B) {
	db := openTest(b, newTable())
	b.ReportAllocs()
	for b.Loop() {
		r := randomRecord()
		if _, err := db.Commit(b.Context(), []keystore.Record{r}, []keystore.Binding{bindingFor(&r)}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSizes measures reading, creating and paging with many keys stored;
// -short leaves out the larger table.
func BenchmarkSizes(b *testing.B) {
	sizes := []int{1_000, 100_000}
	if testing.Short() {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		db := openTest(b, newTable())
		start := time.Now()
		kids := fill(b, db, size)
		b.Logf("%d keys stored in %v", size, time.Since(start)) // shown with -v
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
