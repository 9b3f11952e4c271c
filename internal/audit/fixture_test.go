package audit

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// open opens the log of a directory.
func open(t testing.TB, dir string, fo FileOptions, o Options) *Log {
	t.Helper()
	f, err := OpenFiles(dir, fo)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(o, f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// request is the record of a key request by a number.
func request(n int) *Record {
	r := sample()
	r.RequestID, r.ContentID = fmt.Sprint("request-", n), fmt.Sprint("movie-", n)
	return r
}

func record(t testing.TB, l *Log, r *Record) {
	t.Helper()
	if err := l.Record(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// requestIDs returns those of all records that a query finds.
func requestIDs(t testing.TB, dir string, q Query) (ids []string) {
	t.Helper()
	err := q.Run(dir, func(_ []byte, r *Record) error {
		if r.RequestID != "" {
			ids = append(ids, r.RequestID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// events returns those of all records, in order.
func events(t testing.TB, dir string) (list []Record) {
	t.Helper()
	err := (&Query{}).Run(dir, func(_ []byte, r *Record) error {
		list = append(list, *r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func verify(t testing.TB, dir string, checkpoints ...Position) *Report {
	t.Helper()
	r, err := Verify(dir, checkpoints...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustBeSound(t testing.TB, dir string) *Report {
	t.Helper()
	r := verify(t, dir)
	if !r.Sound() {
		t.Fatalf("breaks: %v", r.Breaks)
	}
	return r
}

// files returns the content of a directory by name.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]string)
	for _, e := range list {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		m[e.Name()] = string(b)
	}
	return m
}

// directory is a new one with such content.
func directory(t testing.TB, m map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range m {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func segmentNames(m map[string]string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if filepath.Ext(name) == segmentSuffix {
			names = append(names, name)
		}
	}
	return names
}

// disk opens files that fail when it says so.
type disk struct {
	mu          sync.Mutex
	room        int    // bytes that can still be written; negative for no limit
	syncErr     error  // of the next sync
	openErr     error  // of every opening
	truncateErr error  // of every truncation
	onSync      func() // called during syncs
	syncs       int
	writes      int
}

func newDisk() *disk { return &disk{room: -1} }

func (d *disk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *disk) open(name string, flag int, perm os.FileMode) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openErr != nil {
		return nil, d.openErr
	}
	f, err := os.OpenFile(name, flag, perm)
	return &faultyFile{f, d}, err
}

type faultyFile struct {
	*os.File
	d *disk
}

func (f *faultyFile) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.writes++
	if f.d.room < 0 || len(b) <= f.d.room {
		if f.d.room >= 0 {
			f.d.room -= len(b)
		}
		return f.File.Write(b)
	}
	n, err := f.File.Write(b[:f.d.room])
	f.d.room = 0
	if err == nil {
		err = errNoSpace
	}
	return n, err
}

func (f *faultyFile) Sync() error {
	f.d.mu.Lock()
	err, wait := f.d.syncErr, f.d.onSync
	f.d.syncErr = nil // as Linux does: the second try succeeds and proves nothing
	f.d.syncs++
	f.d.mu.Unlock()
	if wait != nil {
		wait()
	}
	if err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.truncateErr != nil {
		return f.d.truncateErr
	}
	return f.File.Truncate(n)
}

var (
	errNoSpace = errors.New("no space left on device")
	errDisk    = errors.New("input/output error")
)

func kid(n byte) contentkey.KID { return contentkey.KID{n, 15: n} }
