package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"spekeasy/internal/logtest"
)

// spySink notes when what happens to it.
type spySink struct {
	mu       sync.Mutex
	appended []time.Time // of each record
	synced   []time.Time // of each sync
	batches  int
	block    chan struct{} // appends wait for it, if there is one
	blocked  chan struct{} // told when one waits
	syncErr  error
	closed   bool
}

func (*spySink) Resume() State { return State{} }

func (s *spySink) Append(b *Batch) error {
	s.mu.Lock()
	for range b.Last.Seq - b.First + 1 {
		s.appended = append(s.appended, time.Now())
	}
	s.batches++
	block := s.block
	s.mu.Unlock()
	if block != nil {
		s.blocked <- struct{}{}
		<-block
	}
	return nil
}

func (s *spySink) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = append(s.synced, time.Now())
	return s.syncErr
}

func (s *spySink) Close() error { s.closed = true; return nil }

// TestSyncInterval syncs every record within 100 ms, however they come, and
// not at all when there is nothing new.
func TestSyncInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(spySink)
		l, err := Open(Options{}, s)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			record(t, l, request(i))
			time.Sleep(time.Duration(i%13) * time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, at := range s.appended {
			if !slices.ContainsFunc(s.synced, func(sync time.Time) bool { return !sync.Before(at) && sync.Sub(at) < 100*time.Millisecond }) {
				t.Fatalf("the record of %v was not synced in time", at)
			}
		}
		before := len(s.synced)
		if before > 100 {
			t.Errorf("%d syncs in 3 seconds", before)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.synced) != before {
			t.Errorf("%d syncs of nothing", len(s.synced)-before)
		}
		closeLog(t, l)
		if !s.closed || !s.synced[len(s.synced)-1].Equal(time.Now()) {
			t.Error("the end was not synced and closed")
		}
	})
}

// TestSyncFirst answers nobody before a sync, and lets many share one.
func TestSyncFirst(t *testing.T) {
	d := newDisk()
	dir := t.TempDir()
	l := open(t, dir, FileOptions{open: d.open}, Options{SyncFirst: true})
	var syncing, answered atomic.Int64
	gate := make(chan struct{})
	d.set(func() { d.onSync = func() { syncing.Add(1); <-gate } })
	const requests = 100
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			if err := l.Record(t.Context(), request(i)); err != nil {
				t.Error(err)
			}
			answered.Add(1)
		})
	}
	waitFor(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return syncing.Load() == 1 && len(l.queue) == requests-1
	})
	if n := answered.Load(); n != 0 {
		t.Errorf("%d answers before the sync", n)
	}
	close(gate)
	wg.Wait()
	d.mu.Lock()
	if d.syncs > 5 {
		t.Errorf("%d syncs for %d requests", d.syncs, requests)
	}
	d.mu.Unlock()
	closeLog(t, l)
	mustBeSound(t, dir)
}

// TestConcurrentRecords writes every record once and chains them all.
func TestConcurrentRecords(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, FileOptions{SegmentBytes: 64 << 10}, Options{})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 200 {
				r := request(worker*1000 + i)
				if err := l.Record(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	r := mustBeSound(t, dir)
	ids := requestIDs(t, dir, Query{})
	slices.Sort(ids)
	if n := len(slices.Compact(ids)); n != 16*200 || r.Records != 16*200+2 || r.Segments < 10 {
		t.Errorf("%d requests, report %+v", n, r)
	}
}

// TestWaitingEnds lets a request go whose time is over, while the disk hangs,
// and still writes its record.
func TestWaitingEnds(t *testing.T) {
	s := &spySink{blocked: make(chan struct{}, 10)}
	l, err := Open(Options{}, s)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.block = make(chan struct{})
	s.mu.Unlock()
	first := make(chan error)
	go func() { first <- l.Record(context.Background(), request(1)) }()
	<-s.blocked
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Record(ctx, request(2)); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request whose time is over: %v", err)
	}
	close(s.block)
	if err := <-first; err != nil {
		t.Error(err)
	}
	closeLog(t, l)
	if len(s.appended) != 4 { // with start and stop
		t.Errorf("%d records", len(s.appended))
	}
}

// TestTooLong refuses a record that readers would not accept.
func TestTooLong(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, FileOptions{}, Options{})
	r := request(1)
	for len(r.KIDs) < maxLine/39 {
		r.KIDs = append(r.KIDs, r.KIDs...)
	}
	refuse(t, l, r)
	r.KIDs = r.KIDs[:maxLine/2/39-100]
	record(t, l, r)
	closeLog(t, l)
	mustBeSound(t, dir)
	if got := events(t, dir); len(got) != 3 || len(got[1].KIDs) != len(r.KIDs) {
		t.Errorf("%d records", len(got))
	}
}

// TestCheckpointsInTheLog tells the server's own log where the audit log ends.
func TestCheckpointsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told logtest.Buffer
		l, err := Open(Options{Log: textLog(&told)}, new(spySink))
		if err != nil {
			t.Fatal(err)
		}
		record(t, l, request(1))
		time.Sleep(3*time.Hour + time.Minute)
		synctest.Wait()
		closeLog(t, l)
		var seqs []string
		for line := range strings.Lines(told.String()) {
			_, at, ok := strings.Cut(line, `msg="audit checkpoint" record=`)
			if p, err := ParsePosition(strings.TrimSpace(at)); ok && err == nil {
				seqs = append(seqs, fmt.Sprint(p.Seq))
			}
		}
		if got := strings.Join(seqs, " "); got != "1 2 3" { // the start, within the first hour, the stop
			t.Errorf("checkpoints of records %s in\n%s", got, told.String())
		}
	})
}

// TestAllocations keeps the cost of a record for the garbage collector low. It
// is nothing, but under the race detector a pool forgets things on purpose.
func TestAllocations(t *testing.T) {
	l := open(t, t.TempDir(), FileOptions{}, Options{})
	defer closeLog(t, l)
	r := sample()
	if n := testing.AllocsPerRun(1000, func() {
		if err := l.Record(t.Context(), r); err != nil {
			t.Error(err)
		}
	}); n > 2 {
		t.Errorf("%v allocations per record", n)
	}
}
