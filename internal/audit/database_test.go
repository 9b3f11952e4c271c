package audit_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
	"spekeasy/internal/store/sqlite"
)

var morning = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

// database is one that logs are kept in, and its file, for those who change
// what is there.
func database(t *testing.T) (*sqlite.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, path
}

// change runs a statement behind the server's back.
func change(t *testing.T, path, query string, args ...any) {
	t.Helper()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatal(err)
	}
}

func openLog(t *testing.T, o audit.Options, sink audit.Sink, more ...audit.Sink) *audit.Log {
	t.Helper()
	l, err := audit.Open(o, sink, more...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func release(n int) *audit.Record {
	return &audit.Record{Event: audit.KeyRequest, Result: audit.Delivered, RequestID: fmt.Sprint("request-", n), ContentID: "movie"}
}

func put(t *testing.T, l *audit.Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := l.Record(t.Context(), release(n)); err != nil {
			t.Fatal(err)
		}
	}
}

func end(t *testing.T, l *audit.Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func verifyStore(t *testing.T, s audit.Store, checkpoints ...audit.Position) *audit.Report {
	t.Helper()
	r, err := audit.VerifyStore(t.Context(), s, checkpoints...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// requests counts the records of key requests by their ID.
func requests(t *testing.T, s audit.Store) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	err := audit.InStore{Store: s}.Read(t.Context(), &audit.Query{ContentID: "movie"}, "", func(_ string, _ []byte, r *audit.Record) error {
		seen[r.RequestID]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// TestDatabaseTampered changes what two servers wrote, each time in another
// way, and wants that to show.
func TestDatabaseTampered(t *testing.T) {
	const first = "part = (SELECT min(id) FROM audit_parts)"
	for _, c := range []struct{ name, query, want string }{
		{"a record changed", "UPDATE audit_pages SET lines = CAST(replace(CAST(lines AS TEXT), 'request-3', 'request-8') AS BLOB) WHERE " + first,
			"record 5 does not match its hash"},
		{"a page taken away", "DELETE FROM audit_pages WHERE before_seq = 3 AND " + first, "records 4 to 4 are missing before this segment"},
		{"the first page taken away", "DELETE FROM audit_pages WHERE before_seq = 0 AND " + first, "records 1 to 1 are missing"},
		{"the last page taken away", "DELETE FROM audit_pages WHERE before_seq = 10 AND " + first, "records 11 to 11 are missing at the end"},
		{"all pages taken away", "DELETE FROM audit_pages WHERE " + first, "records 1 to 11 are missing at the end"},
		{"a line taken from a page", "UPDATE audit_pages SET lines = x'' WHERE before_seq = 4 AND " + first,
			"the page ends with record 4; record 5 was written last"},
		{"half a line", "UPDATE audit_pages SET lines = substr(lines, 1, 40) WHERE before_seq = 4 AND " + first, "bytes that are no record"},
		{"pages in another order", "UPDATE audit_pages SET lines = (SELECT lines FROM audit_pages o WHERE o.part = audit_pages.part AND " +
			"o.before_seq = 9 - audit_pages.before_seq) WHERE before_seq IN (4, 5) AND " + first, "record 5 is missing before record 6"},
		{"a page of the other server", "UPDATE audit_pages SET lines = (SELECT lines FROM audit_pages o WHERE o.before_seq = audit_pages.before_seq " +
			"AND NOT o." + first + ") WHERE before_seq = 4 AND " + first, "record 5 does not match its hash"},
		{"the head", "UPDATE audit_parts SET head_hash = randomblob(32) WHERE id = (SELECT min(id) FROM audit_parts)",
			"record 11 is another one than the end of the part names"},
		{"a part taken away", "DELETE FROM audit_parts WHERE id LIKE '%/000001'", "/000001 is missing, and no record says that it was deleted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, path := database(t)
			for server := range 2 {
				now := morning.Add(time.Duration(server) * time.Second)
				l := openLog(t, audit.Options{Now: func() time.Time { return now }}, audit.NewDatabase(db, now))
				put(t, l, 10*server, 10*server+10)
				now = now.Add(24 * time.Hour)
				put(t, l, 100, 101) // the first record of another part
				end(t, l)
			}
			if r := verifyStore(t, db); !r.Sound() || len(r.Notes) > 0 || r.Segments != 4 || r.Records != 26 {
				t.Fatalf("before: %+v", r)
			}
			change(t, path, c.query)
			r := verifyStore(t, db)
			for _, b := range r.Breaks {
				if strings.Contains(b.String(), c.want) {
					return
				}
			}
			t.Errorf("breaks %v, want %q", r.Breaks, c.want)
		})
	}
}

// TestDatabaseCheckpoint wants a position that was kept to be in one of the
// logs, whoever wrote all of a log anew.
func TestDatabaseCheckpoint(t *testing.T) {
	db, _ := database(t)
	for range 2 {
		l := openLog(t, audit.Options{}, audit.NewDatabase(db, morning))
		put(t, l, 0, 3)
		end(t, l)
	}
	r := verifyStore(t, db)
	if len(r.Heads) != 2 || r.Heads[0] == r.Heads[1] {
		t.Fatalf("%+v", r)
	}
	if r := verifyStore(t, db, r.Heads...); !r.Sound() {
		t.Errorf("with its own checkpoints: %v", r.Breaks)
	}
	kept := r.Heads[0]
	kept.Hash[0]++
	if r := verifyStore(t, db, kept); r.Sound() {
		t.Error("with a checkpoint of a record that is not there")
	}
}

// outage is a database that fails when it is told to, before or after it has
// done what it was asked.
type outage struct {
	audit.Store
	mu            sync.Mutex
	before, after bool
}

func (o *outage) set(before, after bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before, o.after = before, after
}

func (o *outage) AppendAudit(ctx context.Context, p *audit.Page, begin bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.before {
		return keystore.ErrUnavailable
	}
	err := o.Store.AppendAudit(ctx, p, begin)
	if o.after {
		return keystore.ErrUnavailable
	}
	return err
}

// TestDatabaseOutage refuses while the database does not answer and goes on
// afterwards, whether or not it has stored what it did not confirm.
func TestDatabaseOutage(t *testing.T) {
	for name, stored := range map[string]bool{"nothing was stored": false, "it was stored": true} {
		t.Run(name, func(t *testing.T) {
			db, _ := database(t)
			o := &outage{Store: db}
			l := openLog(t, audit.Options{}, audit.NewDatabase(o, morning))
			put(t, l, 0, 3)
			for round := range 2 {
				o.set(!stored, stored)
				for n := range 3 {
					err := l.Record(t.Context(), release(100+10*round+n))
					if !errors.Is(err, audit.ErrUnavailable) {
						t.Fatalf("during the outage: %v", err)
					}
				}
				o.set(false, false)
				put(t, l, 10*round+10, 10*round+13)
			}
			end(t, l)
			seen := requests(t, db)
			for _, n := range []int{0, 1, 2, 10, 11, 12, 20, 21, 22} {
				if id := fmt.Sprint("request-", n); seen[id] != 1 {
					t.Errorf("%s was answered and is %d times on record", id, seen[id])
				}
			}
			r := verifyStore(t, db)
			if !r.Sound() || (len(r.Notes) > 0) != stored || len(r.Heads) != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestDatabaseBesideFiles keeps the records in both places. What the database
// did not take is in the files.
func TestDatabaseBesideFiles(t *testing.T) {
	db, _ := database(t)
	o := &outage{Store: db}
	dir := t.TempDir()
	for process := range 2 {
		files, err := audit.OpenFiles(dir, audit.FileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l := openLog(t, audit.Options{}, files, audit.NewDatabase(o, morning.Add(time.Duration(process)*time.Second)))
		put(t, l, 10*process, 10*process+3)
		o.set(true, false)
		if err := l.Record(t.Context(), release(99)); !errors.Is(err, audit.ErrUnavailable) {
			t.Errorf("during the outage: %v", err)
		}
		o.set(false, false)
		put(t, l, 10*process+3, 10*process+5)
		end(t, l)
	}
	if seen := requests(t, db); len(seen) != 10 {
		t.Errorf("%v", seen)
	}
	r := verifyStore(t, db)
	if !r.Sound() || r.Records != 14 || len(r.Notes) != 3 {
		t.Errorf("%+v", r)
	}
	if f, err := audit.Verify(dir); err != nil || !f.Sound() || f.Records != 16 || f.Last != r.Heads[1] {
		t.Errorf("the files: %+v, %v", f, err)
	}
}

// TestDatabaseRetention deletes old parts of all servers, says so, and leaves
// what is young.
func TestDatabaseRetention(t *testing.T) {
	db, path := database(t)
	now := morning
	o := audit.Options{Now: func() time.Time { return now }, Retain: 10 * 24 * time.Hour}
	long := openLog(t, o, audit.NewDatabase(db, now))
	for day := range 5 {
		put(t, long, 10*day, 10*day+2)
		short := openLog(t, o, audit.NewDatabase(db, now.Add(time.Second)))
		end(t, short)
		now = now.Add(24 * time.Hour)
	}
	if r := verifyStore(t, db); !r.Sound() || r.Segments != 10 {
		t.Fatalf("%+v", r)
	}
	now = morning.Add(12*24*time.Hour - time.Minute) // what is before the third day goes
	end(t, openLog(t, o, audit.NewDatabase(db, now)))
	r := verifyStore(t, db)
	if !r.Sound() || r.Segments != 7 {
		t.Errorf("%+v", r)
	}
	if seen := requests(t, db); len(seen) != 6 || seen["request-30"] != 1 {
		t.Errorf("%v are left", seen)
	}
	put(t, long, 100, 101) // whose own beginning was deleted by another
	end(t, long)
	if r := verifyStore(t, db); !r.Sound() {
		t.Errorf("%+v", r)
	}
	change(t, path, "DELETE FROM audit_parts WHERE id = (SELECT min(id) FROM audit_parts)")
	if r := verifyStore(t, db); r.Sound() {
		t.Error("a part that somebody else deleted is not missed")
	}
	o.Retain = time.Minute // what others may be writing to is kept
	now = now.Add(time.Hour)
	end(t, openLog(t, o, audit.NewDatabase(db, now)))
	if r := verifyStore(t, db); r.Segments != 3 {
		t.Errorf("%+v", r)
	}
}

// TestDatabaseLongBatch stores a batch that is longer than a page.
func TestDatabaseLongBatch(t *testing.T) {
	db, _ := database(t)
	l := openLog(t, audit.Options{}, audit.NewDatabase(db, morning))
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			r := release(n)
			r.KIDs = make([]contentkey.KID, 2000) // 78 kB
			if err := l.Record(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	end(t, l)
	if seen := requests(t, db); len(seen) != 40 {
		t.Errorf("%d records", len(seen))
	}
	if r := verifyStore(t, db); !r.Sound() || r.Records != 42 {
		t.Errorf("%+v", r)
	}
	pages := 0
	parts, err := db.AuditParts(t.Context(), "", 10)
	if err != nil || len(parts) != 1 {
		t.Fatal(parts, err)
	}
	all, err := db.AuditPages(t.Context(), parts[0].ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if pages++; len(p.Lines) > 256<<10 {
			t.Errorf("a page of %d bytes", len(p.Lines))
		}
	}
}

// TestDatabaseEmpty wants a database without a log to be reported.
func TestDatabaseEmpty(t *testing.T) {
	db, _ := database(t)
	if r := verifyStore(t, db); r.Sound() {
		t.Error("no log is sound")
	}
}

// BenchmarkDatabase has many requests share the writes of an embedded
// database, each of which is an fsync.
func BenchmarkDatabase(b *testing.B) {
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	l, err := audit.Open(audit.Options{}, audit.NewDatabase(db, morning))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Record(b.Context(), release(1)); err != nil {
				b.Error(err)
			}
		}
	})
	if err := l.Close(b.Context()); err != nil {
		b.Error(err)
	}
}
