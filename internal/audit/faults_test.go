package audit

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"spekeasy/internal/logtest"
)

// refuse wants a record to be refused.
func refuse(t *testing.T, l *Log, r *Record) {
	t.Helper()
	if err := l.Record(t.Context(), r); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a record that cannot be kept: %v", err)
	}
}

// TestDiskFull refuses records while there is no room, at many lengths of what
// still fits, and goes on when there is room again.
func TestDiskFull(t *testing.T) {
	line := len(new(Log).appendLine(nil, &Position{}, time.Now(), request(2).appendMembers(nil)))
	for room := 0; room < line; room += 13 {
		d := newDisk()
		dir := t.TempDir()
		l := open(t, dir, FileOptions{open: d.open}, Options{})
		record(t, l, request(1))
		d.set(func() { d.room = room })
		refuse(t, l, request(2))
		refuse(t, l, request(3))
		if room%26 == 0 {
			// Readers see no damage while it lasts but an unfinished line.
			if r := verify(t, dir); !r.Sound() {
				t.Fatalf("room for %d bytes: %v", room, r.Breaks)
			}
		}
		d.set(func() { d.room = -1 })
		record(t, l, request(4))
		closeLog(t, l)
		if got := requestIDs(t, dir, Query{}); !slices.Equal(got, []string{"request-1", "request-4"}) {
			t.Fatalf("room for %d bytes: %v", room, got)
		}
		if r := mustBeSound(t, dir); len(r.Notes) > 0 {
			t.Fatalf("room for %d bytes: %v", room, r.Notes)
		}
	}
}

// TestCheck is what readiness asks: well until a write fails, then failing
// until one succeeds, which it tries itself.
func TestCheck(t *testing.T) {
	d := newDisk()
	dir := t.TempDir()
	l := open(t, dir, FileOptions{open: d.open}, Options{})
	record(t, l, request(1))
	if err := l.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.set(func() { d.room = 0 })
	if err := l.Check(t.Context()); err != nil {
		t.Fatalf("nothing was written since: %v", err)
	}
	refuse(t, l, request(2))
	for range 2 {
		if err := l.Check(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("while nothing can be written: %v", err)
		}
	}
	d.set(func() { d.room = -1 })
	for range 2 {
		if err := l.Check(t.Context()); err != nil {
			t.Fatalf("when there is room again: %v", err)
		}
	}
	closeLog(t, l)
	var failures []string
	err := (&Query{}).Run(dir, func(_ []byte, r *Record) error {
		if r.Event == writeFailed {
			failures = append(failures, r.Error)
		}
		return nil
	})
	if err != nil || len(failures) != 1 || !strings.Contains(failures[0], ErrUnavailable.Error()) {
		t.Errorf("%q, %v", failures, err)
	}
	mustBeSound(t, dir)
}

// TestFailedWriteThatStays is a disk that keeps half a line and allows no
// repair: nothing is recorded until it does, or until the next start.
func TestFailedWriteThatStays(t *testing.T) {
	d := newDisk()
	dir := t.TempDir()
	l := open(t, dir, FileOptions{open: d.open}, Options{})
	record(t, l, request(1))
	d.set(func() { d.room, d.truncateErr = 20, errDisk })
	refuse(t, l, request(2))
	d.set(func() { d.room = -1 })
	refuse(t, l, request(3))

	// A crash in this state: the next start says so and goes on.
	after := directory(t, files(t, dir))
	next := open(t, after, FileOptions{}, Options{})
	record(t, next, request(4))
	closeLog(t, next)
	list := events(t, after)
	if start := list[2]; start.Event != serverStart || start.Torn != 20 || start.Error != "" {
		t.Errorf("the next start: %+v", start)
	}
	if r := mustBeSound(t, after); len(r.Notes) != 1 || !strings.Contains(r.Notes[0].Text, "20 bytes of an unfinished record") {
		t.Errorf("notes %v", r.Notes)
	}

	d.set(func() { d.truncateErr = nil })
	record(t, l, request(5))
	closeLog(t, l)
	mustBeSound(t, dir)
	if got := requestIDs(t, dir, Query{}); !slices.Equal(got, []string{"request-1", "request-5"}) {
		t.Errorf("records %v", got)
	}
}

// TestFailedSync gives a segment up whose sync failed, as nobody can know what
// it has on the disk; a second sync that succeeds proves nothing.
func TestFailedSync(t *testing.T) {
	for _, c := range []struct {
		name  string
		first bool
	}{{"always", true}, {"interval", false}} {
		t.Run(c.name, func(t *testing.T) {
			var logged logtest.Buffer
			d := newDisk()
			dir := t.TempDir()
			l := open(t, dir, FileOptions{open: d.open}, Options{SyncFirst: c.first, Log: textLog(&logged)})
			record(t, l, request(1))
			if err := l.sync(); err != nil {
				t.Fatal(err)
			}
			d.set(func() { d.syncErr = errDisk })
			if c.first {
				refuse(t, l, request(2))
			} else {
				record(t, l, request(2))
				waitFor(t, func() bool { return len(segmentNames(files(t, dir))) == 2 })
			}

			// While no new segment can be made, nothing is recorded.
			d.set(func() { d.syncErr = errDisk })
			if c.first {
				refuse(t, l, request(3))
			}
			d.set(func() { d.syncErr = nil })
			record(t, l, request(4))
			closeLog(t, l)

			if text := logged.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "audit records may be lost") {
				t.Errorf("the log says %s", text)
			}
			names := segmentNames(files(t, dir))
			if len(names) != 2 {
				t.Fatalf("segments %v", names)
			}
			r := mustBeSound(t, dir)
			if len(r.Notes) != 1 || !strings.Contains(r.Notes[0].Text, "records 3 to 3 may not have reached the disk: input/output error") ||
				r.Notes[0].Segment != names[1] {
				t.Errorf("notes %v", r.Notes)
			}
			if got := requestIDs(t, dir, Query{}); !slices.Equal(got, []string{"request-1", "request-2", "request-4"}) {
				t.Errorf("records %v", got)
			}

			// If the disk did lose it, that is found.
			m := files(t, dir)
			editLines(m, names[0], func(l []string) []string { return l[:len(l)-1] })
			if r := verify(t, directory(t, m)); r.Sound() || r.Breaks[0].String() != names[1]+": records 3 to 3 are missing before this segment" {
				t.Errorf("breaks %v", r.Breaks)
			}
		})
	}
}

// TestNoNewSegment refuses records while a full segment has no successor.
func TestNoNewSegment(t *testing.T) {
	d, c := newDisk(), newClock()
	dir := t.TempDir()
	l := open(t, dir, FileOptions{open: d.open}, Options{Now: c.Now})
	record(t, l, request(1))
	c.add(24 * time.Hour)
	d.set(func() { d.openErr = errDisk })
	refuse(t, l, request(2))
	refuse(t, l, request(3))
	d.set(func() { d.openErr = nil; d.room = 10 }) // not even for the header
	refuse(t, l, request(4))
	d.set(func() { d.room = -1; d.syncErr = errDisk })
	refuse(t, l, request(5))
	record(t, l, request(6))
	closeLog(t, l)
	mustBeSound(t, dir)
	if got := requestIDs(t, dir, Query{}); !slices.Equal(got, []string{"request-1", "request-6"}) {
		t.Errorf("records %v", got)
	}
	if m := files(t, dir); len(m) != 3 {
		t.Errorf("files %v", segmentNames(m))
	}
}

// TestSecondSinkFails refuses a request that only the directory has a record
// of, and keeps the chain of the directory whole.
func TestSecondSinkFails(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFiles(dir, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var w brokenPipe
	l, err := Open(Options{}, f, NewStream(&w))
	if err != nil {
		t.Fatal(err)
	}
	record(t, l, request(1))
	w.fail = true
	refuse(t, l, request(2))
	w.fail = false
	record(t, l, request(3))
	closeLog(t, l)
	mustBeSound(t, dir)
	lines := strings.Split(w.String(), "\n")
	if len(lines) != 6 || len(lines[2]) != 10 || !strings.Contains(lines[3], "request-3") || !strings.Contains(lines[4], serverStop) {
		t.Errorf("stream:\n%s", w.String())
	}
}

// brokenPipe takes a few bytes of what it fails to write.
type brokenPipe struct {
	bytes.Buffer
	fail bool
}

func (w *brokenPipe) Write(b []byte) (int, error) {
	if w.fail {
		n, _ := w.Buffer.Write(b[:10])
		return n, syscall.EPIPE
	}
	return w.Buffer.Write(b)
}

// TestReadOnlyDirectory is a directory that may not be written to: there is no
// log, and so no server. Since root may write anywhere, another user tries.
func TestReadOnlyDirectory(t *testing.T) {
	dir, bin := t.TempDir(), t.TempDir()
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "self"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, bin, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(path, 0o755)
	}
	c := exec.Command(filepath.Join(bin, "self"))
	c.Env = append(os.Environ(), "AUDIT_CHILD=open", "AUDIT_DIR="+dir)
	if os.Getuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "head: permission denied") {
		t.Errorf("%v: %s", err, out)
	}
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}
