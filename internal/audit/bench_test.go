package audit

import (
	"io"
	"strconv"
	"syscall"
	"testing"
	"time"

	"spekeasy/contentkey"
)

// sample is the record of a common answer: SPEKE 2.0, two content keys.
func sample() *Record {
	return &Record{
		Event: KeyRequest, Result: Delivered, RequestID: "6RJ2XQ7M3KDLW5TA", Remote: "203.0.113.10:51234",
		Tenant: "acme", Credential: "encoders", Profile: "2.0", ContentID: "channel-7", Scheme: "cbcs",
		KIDs: []contentkey.KID{{1, 2, 3}, {4, 5, 6}}, Protection: Clear,
	}
}

// BenchmarkRecord measures what a key request pays for its record. cpu-ns/op
// is the CPU time of the process, which has the share of the kernel and of
// syncs too.
func BenchmarkRecord(b *testing.B) {
	for _, c := range []struct {
		name  string
		sink  func(b *testing.B) Sink
		first bool
		by    int // goroutines per processor, 0 for one alone
	}{
		{"discard", func(*testing.B) Sink { return NewStream(io.Discard) }, false, 0},
		{"files", openBench, false, 0},
		{"files,8", openBench, false, 4},
		{"files,64", openBench, false, 32},
		{"files,always", openBench, true, 0},
		{"files,always,64", openBench, true, 32},
	} {
		b.Run(c.name, func(b *testing.B) {
			l, err := Open(Options{SyncFirst: c.first}, c.sink(b))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close(b.Context())
			r := sample()
			b.ReportAllocs()
			before := cpuTime(b)
			if c.by == 0 {
				for b.Loop() {
					if err := l.Record(b.Context(), r); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.SetParallelism(c.by)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if err := l.Record(b.Context(), r); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func openBench(b *testing.B) Sink {
	f, err := OpenFiles(b.TempDir(), FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkVerify checks a segment of full size.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	f, err := OpenFiles(dir, FileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(Options{}, f)
	if err != nil {
		b.Fatal(err)
	}
	const records = 50_000
	r := sample()
	for i := range records {
		r.ContentID = "movie-" + strconv.Itoa(i)
		if err := l.Record(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			report, err := Verify(dir)
			if err != nil || !report.Sound() {
				b.Fatal(report, err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	})
	b.Run("query", func(b *testing.B) {
		for b.Loop() {
			n := 0
			q := Query{ContentID: "movie-77"}
			if err := q.Run(dir, func([]byte, *Record) error { n++; return nil }); err != nil || n != 1 {
				b.Fatal(n, err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			f, err := OpenFiles(dir, FileOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
