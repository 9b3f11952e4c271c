package sqlite

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

func randomRecord() keystore.Record {
	r := keystore.Record{
		Tenant: "acme", DataKey: 1, Source: "random", ContentID: "an-ordinary-content-id-of-some-length",
		Scheme: contentkey.Cbcs, Wrapped: make([]byte, 61), Created: time.Now().UTC().Truncate(time.Microsecond),
	}
	rand.Read(r.KID[:])
	rand.Read(r.Wrapped)
	return r
}

func bindingOf(r *keystore.Record) keystore.Binding {
	return keystore.Binding{
		Tenant: r.Tenant, ContentID: r.ContentID, Requested: r.KID, KID: r.KID, Track: "VIDEO", Scheme: r.Scheme,
		Profile: "2.0", Systems: []string{"9a04f079-9840-4286-ab92-e65be0885f95", "edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"},
		FirstSeen: r.Created, LastSeen: r.Created,
	}
}

func found(t testing.TB, db *DB) {
	t.Helper()
	_, err := db.CreateDataKey(t.Context(), keystore.DataKey{Tenant: "acme", ID: 1, KEK: "kek", Wrapped: []byte("w")})
	if err != nil {
		t.Fatal(err)
	}
}

// fill stores n keys as an import does and returns their key IDs.
func fill(t testing.TB, db *DB, n int) []contentkey.KID {
	t.Helper()
	var kids []contentkey.KID
	batch := make([]keystore.Record, 0, 1000)
	for len(kids) < n {
		batch = batch[:0]
		for range min(cap(batch), n-len(kids)) {
			batch = append(batch, randomRecord())
			kids = append(kids, batch[len(batch)-1].KID)
		}
		if _, err := db.Commit(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
	}
	return kids
}

// BenchmarkCommit measures one durable new key with its binding, alone and
// when many requests share a transaction.
func BenchmarkCommit(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			db := openTest(b, filepath.Join(b.TempDir(), "keys.db"))
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

// BenchmarkSizes measures reading, creating and paging with many keys stored;
// -short leaves out a million.
func BenchmarkSizes(b *testing.B) {
	sizes := []int{1_000, 100_000, 1_000_000}
	if testing.Short() {
		sizes = sizes[:2]
	}
	for _, size := range sizes {
		db := openTest(b, filepath.Join(b.TempDir(), "keys.db"))
		found(b, db)
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
		b.Run(fmt.Sprintf("keys=%d/reseal-500", size), func(b *testing.B) {
			after := ""
			for b.Loop() {
				page, next, err := db.PageKeys(b.Context(), "acme", after, 500)
				if err != nil {
					b.Fatal(err)
				}
				var changes []keystore.Reseal
				for i := range page {
					changes = append(changes, keystore.Reseal{
						KID: page[i].KID, OldWrapped: page[i].Wrapped, OldDataKey: 1, Wrapped: randomRecord().Wrapped, DataKey: 1,
					})
				}
				if n, err := db.Reseal(b.Context(), "acme", changes); n != len(page) || err != nil {
					b.Fatal(n, err)
				}
				after = next
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
