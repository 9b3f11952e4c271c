package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultSegmentBytes is when a segment is full by default.
const DefaultSegmentBytes = 32 << 20

// backwards is how far the clock may go back before a new segment begins.
// Within a segment no record is older than others before it by more.
const backwards = time.Minute

// FileOptions are the optional settings of [OpenFiles].
type FileOptions struct {
	// SegmentBytes is the size at which a new segment begins,
	// DefaultSegmentBytes by default. One begins every day (UTC) anyway.
	SegmentBytes int64

	Log *slog.Logger // nothing by default

	open openFile // os.OpenFile, unless a test makes it fail
}

// file is what is asked of an open segment.
type file interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

type openFile func(name string, flag int, perm os.FileMode) (file, error)

// Files is a sink that appends to segments in a directory. One process at a
// time has it.
type Files struct {
	dir   string
	o     FileOptions
	state State
	head  *os.File // locked

	// Of Append.
	size   int64     // of the current segment
	begun  time.Time // of its first record, zero before that
	latest time.Time // of its records
	torn   bool      // a failed write may have left something at its end

	syncing sync.Mutex // held during a sync, and while a segment gives way to the next

	mu      sync.Mutex
	current file     // nil until the next Append begins one
	written Position // what was appended last
	durable Position // what was written when the last sync began
	suspect bool     // a sync of the current segment failed
}

var (
	_ Sink   = (*Files)(nil)
	_ Pruner = (*Files)(nil)
)

// OpenFiles opens a directory, which it makes if there is none, and finds the
// end of the log in it. It never changes a record that is there: after a
// damaged end a new segment begins.
func OpenFiles(dir string, o FileOptions) (*Files, error) {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = DefaultSegmentBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.open == nil {
		o.open = func(name string, flag int, perm os.FileMode) (file, error) { return os.OpenFile(name, flag, perm) }
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit directory: %w", err)
	}
	f := &Files{dir: dir, o: o}
	head, err := f.lock()
	if err == nil {
		err = f.resume(head)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit directory %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// lock takes the directory for this process and reads the head.
func (f *Files) lock() (text []byte, err error) {
	if f.head, err = os.OpenFile(filepath.Join(f.dir, headName), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.head.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.New("in use by another process")
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(f.head)
}

// resume finds the end of the log, and opens the last segment again if
// nothing is wrong with it.
func (f *Files) resume(text []byte) error {
	if err := removeUnfinished(f.dir); err != nil {
		return err
	}
	list, err := segments(f.dir)
	if err != nil {
		return err
	}
	head, headGood := parseHead(text)
	end := ending{sound: true, passed: head == Position{}}
	if len(list) > 0 {
		if end, err = readEnding(&list[len(list)-1], head); err != nil {
			return err
		}
		f.state.Torn = end.size - end.good
	}
	if n := len(list); n > 1 && end.at.Seq+1 == list[n-1].first {
		// Begun after a damaged end, by a process that could not record it any
		// more.
		before, err := readEnding(&list[n-2], head)
		if err != nil {
			return err
		}
		f.state.Torn += before.size - before.good
	}
	f.state.At = end.at
	switch {
	case !headGood && (len(text) > 0 || len(list) > 0):
		f.state.Trouble = "the file head is missing or damaged, so that records may be missing at the end"
	case head.Seq > end.at.Seq:
		f.state.At = head
		f.state.Trouble = fmt.Sprintf("records %d to %d are missing at the end", end.at.Seq+1, head.Seq)
	case !end.passed && head.Seq+1 >= list[len(list)-1].first:
		f.state.Trouble = fmt.Sprintf("record %d has changed since it was written", head.Seq)
	}
	f.written, f.durable = f.state.At, f.state.At
	if len(list) > 0 {
		if err := f.reuse(&list[len(list)-1], &end); err != nil {
			return err
		}
	}
	// Synced this once, so that the head is there and of its length for ever.
	if _, err := f.head.WriteAt(headText(f.durable), 0); err != nil {
		return err
	}
	return errors.Join(f.head.Sync(), syncPath(f.dir))
}

// reuse makes what a killed process left in the last segment durable, and
// opens the segment again if nothing is wrong with it.
func (f *Files) reuse(last *segment, end *ending) error {
	if err := syncPath(last.path); err != nil {
		return err
	}
	switch {
	case end.sound && f.state.Trouble == "":
		f.size, f.begun, f.latest = end.size, end.begun, end.latest
		var err error
		f.current, err = f.o.open(last.path, os.O_WRONLY|os.O_APPEND, 0)
		return err
	case last.first == f.state.At.Seq+1: // it has no record, and its name is needed
		return os.Rename(last.path, last.path+asideSuffix)
	default:
		return nil
	}
}

// removeUnfinished removes segments that a process began and left before they
// were ready; they hold no record.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), segmentSuffix+tempSuffix) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Resume implements [Sink].
func (f *Files) Resume() State { return f.state }

// Append implements [Sink].
func (f *Files) Append(b *Batch) error {
	if f.torn {
		// Readers would take the beginning of a record for a crash.
		if err := f.current.Truncate(f.size); err != nil {
			return fmt.Errorf("audit segment after a failed write: %w", err)
		}
		f.torn = false
	}
	if f.full(b) {
		if err := f.begin(b); err != nil {
			return fmt.Errorf("audit segment %s: %w", segmentName(b.First), err)
		}
	}
	n, err := f.current.Write(b.Lines)
	if err != nil {
		f.torn = n > 0
		return fmt.Errorf("audit record: %w", err)
	}
	f.size += int64(n)
	if f.begun.IsZero() {
		f.begun = b.Time
	}
	if b.Time.After(f.latest) {
		f.latest = b.Time
	}
	f.mu.Lock()
	f.written = b.Last
	f.mu.Unlock()
	return nil
}

// full reports whether a batch must begin a new segment.
func (f *Files) full(b *Batch) bool {
	f.mu.Lock()
	unusable := f.current == nil || f.suspect
	f.mu.Unlock()
	switch {
	case unusable:
		return true
	case f.begun.IsZero():
		return false // never two segments without a record
	default:
		return f.size+int64(len(b.Lines)) > f.o.SegmentBytes ||
			b.Time.Truncate(24*time.Hour) != f.begun.UTC().Truncate(24*time.Hour) || f.latest.Sub(b.Time) > backwards
	}
}

// begin replaces the current segment by a new one. It is there under its name
// only when its header is durable.
func (f *Files) begin(b *Batch) error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	if err := f.finish(); err != nil {
		return err
	}
	path := filepath.Join(f.dir, segmentName(b.First))
	header := segmentHeader(b.First, b.Previous)
	next, err := f.o.open(path+tempSuffix, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = next.Write(header); err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	if err == nil {
		err = syncPath(f.dir)
	}
	if err != nil {
		return errors.Join(err, next.Close())
	}
	f.size, f.begun, f.latest = int64(len(header)), time.Time{}, time.Time{}
	f.mu.Lock()
	f.current, f.suspect = next, false
	f.mu.Unlock()
	return nil
}

// finish closes the current segment, durable unless a sync of it has failed
// before. The caller holds syncing.
func (f *Files) finish() error {
	if err := f.sync(); err != nil {
		return err
	}
	f.mu.Lock()
	old, suspect := f.current, f.suspect
	f.current, f.suspect = nil, false
	f.mu.Unlock()
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil && !suspect {
		return err
	}
	return nil
}

// syncPath makes a file, or the names in a directory, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Sync implements [Sink].
func (f *Files) Sync() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	return f.sync()
}

// sync makes the current segment durable and moves the head. The caller holds
// syncing.
func (f *Files) sync() error {
	f.mu.Lock()
	current, from, to := f.current, f.durable, f.written
	skip := current == nil || f.suspect || from == to
	f.mu.Unlock()
	if skip {
		return nil
	}
	if err := current.Sync(); err != nil {
		f.mu.Lock()
		f.suspect = true
		f.mu.Unlock()
		return &SyncError{From: from.Seq + 1, To: to.Seq, Err: err}
	}
	f.mu.Lock()
	f.durable = to
	f.mu.Unlock()
	if _, err := f.head.WriteAt(headText(to), 0); err != nil {
		f.o.Log.Warn("the head of the audit log is behind", "error", err)
	}
	return nil
}

// Close makes everything durable and gives the directory back.
func (f *Files) Close() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	err := f.finish()
	if f.head != nil {
		err = errors.Join(err, f.head.Close())
	}
	return err
}

// Expired implements [Pruner]. Segments are deleted as a whole, when even
// their last record is old; the last one is always kept.
func (f *Files) Expired(before time.Time) (e Expiry, err error) {
	list, err := segments(f.dir)
	if err != nil {
		return e, err
	}
	for i := 1; i < len(list); i++ {
		last, err := lastTime(&list[i-1])
		if err == nil && last.IsZero() { // not in the part that was looked at
			last, err = firstTime(&list[i])
		}
		if err != nil {
			return e, err
		}
		if last.IsZero() || !last.Before(before) {
			break
		}
		e.KeptFrom = list[i].first
	}
	return e, nil
}

// Delete implements [Pruner]. The oldest segment goes first, so that what
// remains is the end of the log whenever this is cut off.
func (f *Files) Delete(e Expiry) error {
	list, err := segments(f.dir)
	if err != nil {
		return err
	}
	for i := range list {
		if i+1 == len(list) || list[i+1].first > e.KeptFrom {
			break
		}
		if err := os.Remove(list[i].path); err != nil {
			return err
		}
	}
	return syncPath(f.dir)
}
