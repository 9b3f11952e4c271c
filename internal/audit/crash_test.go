package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain runs children of tests too: a log under load until it is killed, or
// one that is only opened.
func TestMain(m *testing.M) {
	dir := os.Getenv("AUDIT_DIR")
	var err error
	switch os.Getenv("AUDIT_CHILD") {
	case "":
		os.Exit(m.Run())
	case "load":
		err = load(dir, os.Getenv("AUDIT_SYNC") == "always")
	case "open":
		_, err = OpenFiles(dir, FileOptions{})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// load records without end, from sixteen goroutines, and says which requests
// it could answer.
func load(dir string, always bool) error {
	f, err := OpenFiles(dir, FileOptions{SegmentBytes: 256 << 10})
	if err != nil {
		return err
	}
	l, err := Open(Options{SyncFirst: always}, f)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for worker := range 16 {
		go func() {
			for i := 0; ; i++ {
				r := sample()
				r.RequestID = fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				if err := l.Record(context.Background(), r); err != nil {
					errs <- err
					return
				}
				if _, err := fmt.Println(r.RequestID); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKills kills a loaded process again and again. Whatever it answered has
// its record, and the chain goes on over all of them.
func TestKills(t *testing.T) {
	dir := t.TempDir()
	var answered []string
	for round := range 8 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "AUDIT_CHILD=load", "AUDIT_DIR="+dir)
		if round%4 == 3 {
			c.Env = append(c.Env, "AUDIT_SYNC=always")
		}
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := sync.OnceValue(c.Process.Kill)
		before := len(answered)
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				break // what the kill cut off was not said
			}
			if answered = append(answered, strings.TrimSpace(line)); len(answered) == before+300 {
				time.AfterFunc(time.Duration(rand.IntN(100))*time.Millisecond, func() { _ = kill() })
			}
		}
		_ = kill() // in case it said nothing
		if err := c.Wait(); err == nil || c.ProcessState.Exited() {
			t.Fatalf("round %d: the process ended by itself: %v", round, err)
		}
	}
	recorded := make(map[string]int)
	for _, id := range requestIDs(t, dir, Query{}) {
		recorded[id]++
	}
	for _, id := range answered {
		if recorded[id] != 1 {
			t.Errorf("request %s was answered and has %d records", id, recorded[id])
		}
	}
	r := mustBeSound(t, dir)
	t.Logf("%d answers, %d records in %d segments, notes %v", len(answered), len(recorded), r.Segments, r.Notes)
	if len(answered) < 300 || r.Segments < 2 {
		t.Error("too few to prove anything")
	}
}

// TestPowerFailure takes the power away: of what was not synced, any part may
// be on the disk. The next start finds its way at every length of the last
// segment, and nothing that was synced is missed.
func TestPowerFailure(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, FileOptions{}, Options{Now: newClock().Now})
	for i := range 3 {
		record(t, l, request(i))
	}
	if err := l.sync(); err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(filepath.Join(dir, headName))
	if err != nil {
		t.Fatal(err)
	}
	name := segmentName(1)
	synced := len(files(t, dir)[name])
	for i := range 2 {
		record(t, l, request(i+3))
	}
	m := files(t, dir)
	whole := m[name]
	m[headName] = string(head)
	closeLog(t, l)

	torn := 0
	for size := synced; size <= len(whole); size += 29 {
		for _, garbage := range []string{"", "\x00\x00\x00", "\x00\n\x00"} {
			m[name] = whole[:size] + garbage
			after := directory(t, m)
			next := open(t, after, FileOptions{}, Options{Now: newClock().Now})
			record(t, next, request(9))
			closeLog(t, next)
			want := []string{"request-0", "request-1", "request-2"}
			if got := requestIDs(t, after, Query{}); !slices.Equal(got[:3], want) || got[len(got)-1] != "request-9" {
				t.Fatalf("cut off at %d of %d: %v", size, len(whole), got)
			}
			report := verify(t, after)
			if garbage == "\x00\n\x00" {
				if report.Sound() {
					t.Fatalf("cut off at %d of %d: a line of garbage is not found", size, len(whole))
				}
				continue
			}
			if !report.Sound() {
				t.Fatalf("cut off at %d of %d: %v", size, len(whole), report.Breaks)
			}
			torn += len(report.Notes)
		}
	}
	if torn < 40 {
		t.Errorf("%d torn lines", torn)
	}
}

// TestDamageAtTheStart goes on after an end that was tampered with, keeps what
// is there as it is, and says in the log what was found.
func TestDamageAtTheStart(t *testing.T) {
	for _, c := range []struct {
		name    string
		tamper  func(m map[string]string)
		trouble string
		torn    int64
	}{
		{"nothing", func(map[string]string) {}, "", 0},
		{"head gone", func(m map[string]string) { delete(m, headName) },
			"the file head is missing or damaged, so that records may be missing at the end", 0},
		{"end gone", func(m map[string]string) {
			editLines(m, segmentName(22), func(l []string) []string { return l[:len(l)-2] })
		}, "records 31 to 32 are missing at the end", 0},
		{"last segment gone", func(m map[string]string) { delete(m, segmentName(22)) }, "records 22 to 32 are missing at the end", 0},
		{"all segments gone", func(m map[string]string) {
			for _, name := range segmentNames(m) {
				delete(m, name)
			}
		}, "records 1 to 32 are missing at the end", 0},
		{"last record changed", func(m map[string]string) {
			m[segmentName(22)] = strings.Replace(m[segmentName(22)], serverStop, "server_stOp", 1)
		}, "records 32 to 32 are missing at the end", -1},
		{"record amid others changed", func(m map[string]string) {
			m[segmentName(22)] = strings.Replace(m[segmentName(22)], "movie-25", "movie-99", 1)
		}, "", 0},
		{"header changed", func(m map[string]string) {
			m[segmentName(22)] = strings.Replace(m[segmentName(22)], `"audit":1`, `"audit":2`, 1)
		}, "", 0},
		{"only a damaged header", func(m map[string]string) { m[segmentName(22)] = "{" }, "records 22 to 32 are missing at the end", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := threeSegments(t)
			c.tamper(m)
			dir := directory(t, m)
			soundBefore := verify(t, dir).Sound()
			l := open(t, dir, FileOptions{}, Options{Now: func() time.Time { return newClock().Now().Add(48 * time.Hour) }})
			record(t, l, request(99))
			closeLog(t, l)

			list := events(t, dir)
			i := slices.IndexFunc(list, func(r Record) bool { return r.RequestID == "request-99" })
			start := list[i-1]
			if start.Event != serverStart || start.Error != c.trouble || c.torn >= 0 && start.Torn != c.torn || c.torn < 0 && start.Torn == 0 {
				t.Errorf("the start is recorded as %+v", start)
			}
			if start.Seq < 31 {
				t.Errorf("record numbers are given again from %d", start.Seq)
			}
			if sound := verify(t, dir).Sound(); sound != soundBefore {
				t.Errorf("sound before the start: %v, after it: %v: %v", soundBefore, sound, verify(t, dir).Breaks)
			}
			for name, text := range m {
				if kept := files(t, dir)[name]; name != headName && !strings.HasPrefix(kept, text) {
					t.Errorf("%s was changed", name)
				}
			}
		})
	}
}

// TestOneProcess keeps a second process out of a directory.
func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, FileOptions{}, Options{})
	if _, err := OpenFiles(dir, FileOptions{}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second one: %v", err)
	}
	closeLog(t, l)
	closeLog(t, open(t, dir, FileOptions{}, Options{}))
	if err := l.Record(t.Context(), request(1)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a closed log: %v", err)
	}
}
