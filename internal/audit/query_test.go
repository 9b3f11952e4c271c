package audit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"spekeasy/contentkey"
)

// history is a log of four days.
func history(t *testing.T) (dir string, begin time.Time) {
	t.Helper()
	c, dir := newClock(), t.TempDir()
	l := open(t, dir, FileOptions{}, Options{Now: c.Now})
	begin = c.Now()
	for day := range 4 {
		for n, r := range []*Record{
			{Event: KeyRequest, Result: Delivered, Tenant: "acme", Credential: "encoders", ContentID: "movie", KIDs: []contentkey.KID{kid(1), kid(2)}},
			{Event: KeyRequest, Result: Delivered, Tenant: "other", Credential: "encoders", ContentID: "movie", KIDs: []contentkey.KID{kid(3)}, Requested: []contentkey.KID{kid(4)}},
			{Event: KeyRequest, Result: Refused, Status: 422, Tenant: "acme", Credential: "tests", ContentID: `a "quoted" movie`, KIDs: []contentkey.KID{kid(2)}},
			{Event: KeyRequest, Result: Failed, Status: 503, Tenant: "acme", Credential: "encoders", ContentID: strings.Repeat("long ", 1000)},
		} {
			r.RequestID = fmt.Sprintf("%d%c", day+1, 'a'+n)
			record(t, l, r)
			c.add(time.Hour)
		}
		c.add(20 * time.Hour)
	}
	closeLog(t, l)
	return dir, begin
}

func TestQuery(t *testing.T) {
	dir, begin := history(t)
	for _, c := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "1a 1b 1c 1d 2a 2b 2c 2d 3a 3b 3c 3d 4a 4b 4c 4d"},
		{"content ID", Query{ContentID: "movie"}, "1a 1b 2a 2b 3a 3b 4a 4b"},
		{"content ID that is part of others", Query{ContentID: "mov"}, ""},
		{"content ID with quotation marks", Query{ContentID: `a "quoted" movie`}, "1c 2c 3c 4c"},
		{"content ID that was clipped", Query{ContentID: strings.Repeat("long ", 1000)}, "1d 2d 3d 4d"},
		{"content ID that looks like another member", Query{ContentID: `x","tenant":"acme`}, ""},
		{"key ID", Query{KID: kid(2)}, "1a 1c 2a 2c 3a 3c 4a 4c"},
		{"key ID that was asked for", Query{KID: kid(4)}, "1b 2b 3b 4b"},
		{"credential", Query{Credential: "tests"}, "1c 2c 3c 4c"},
		{"tenant", Query{Tenant: "other"}, "1b 2b 3b 4b"},
		{"request", Query{RequestID: "3b"}, "3b"},
		{"denied", Query{Denied: true}, "1c 1d 2c 2d 3c 3d 4c 4d"},
		{"several", Query{Tenant: "acme", KID: kid(2), Denied: true}, "1c 2c 3c 4c"},
		{"since", Query{Since: begin.Add(49 * time.Hour)}, "3b 3c 3d 4a 4b 4c 4d"},
		{"until", Query{Until: begin.Add(25 * time.Hour)}, "1a 1b 1c 1d 2a"},
		{"an hour", Query{Since: begin.Add(26 * time.Hour), Until: begin.Add(27 * time.Hour)}, "2c"},
		{"another time zone", Query{Since: begin.Add(74 * time.Hour).In(time.FixedZone("", 5*3600))}, "4c 4d"},
		{"before all", Query{Until: begin}, ""},
		{"after all", Query{Since: begin.Add(1000 * time.Hour)}, ""},
	} {
		if got := strings.Join(requestIDs(t, dir, c.q), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestQueryReadsWhatItMust leaves segments of other times alone, and looks
// beside a clock that was set back.
func TestQueryReadsWhatItMust(t *testing.T) {
	dir, begin := history(t)
	names := segmentNames(files(t, dir))
	// A segment that cannot be read is noticed only when it is needed.
	path := filepath.Join(dir, names[1])
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines[2] = bytes.Repeat([]byte("x"), len(lines[2]))
	lines[2][len(lines[2])-1] = '\n'
	if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := requestIDs(t, dir, Query{}); len(got) != 15 {
		t.Errorf("with a damaged line: %v", got)
	}

	back := t.TempDir()
	c := newClock()
	l := open(t, back, FileOptions{}, Options{Now: c.Now})
	for i := range 5 {
		record(t, l, request(i))
		c.add(-50 * time.Second)
	}
	closeLog(t, l)
	for i := range 5 {
		at := begin.Add(time.Duration(-50*i) * time.Second)
		if got := requestIDs(t, back, Query{Since: at, Until: at.Add(time.Second)}); !slices.Equal(got, []string{fmt.Sprint("request-", i)}) {
			t.Errorf("a clock that goes back: %v of %v", got, at)
		}
	}
}

// TestReadersWhileWriting verifies and queries a log that is being written.
func TestReadersWhileWriting(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, FileOptions{SegmentBytes: 16 << 10}, Options{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 3000 {
			if err := l.Record(t.Context(), request(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	checks := 0
	for running := true; running; checks++ {
		select {
		case <-done:
			running = false
		default:
		}
		if r := verify(t, dir); !r.Sound() {
			t.Fatalf("breaks %v", r.Breaks)
		}
		ids := requestIDs(t, dir, Query{})
		for i, id := range ids {
			if id != fmt.Sprint("request-", i) {
				t.Fatalf("record %d is of %s", i, id)
			}
		}
	}
	closeLog(t, l)
	if checks < 3 {
		t.Errorf("%d checks", checks)
	}
}

// FuzzReaders gives any bytes to all readers as a segment, and lets a log go
// on after it.
func FuzzReaders(f *testing.F) {
	at := Position{}
	var text []byte
	l := new(Log)
	for i := range 3 {
		text = l.appendLine(text, &at, newClock().Now(), request(i).appendMembers(nil))
	}
	header := segmentHeader(1, Hash{})
	f.Add(append(bytes.Clone(header), text...), headText(at))
	f.Add(append(bytes.Clone(header), text[:len(text)-3]...), headText(Position{}))
	f.Add(text, headText(at))
	f.Add([]byte{}, []byte{})
	f.Add([]byte("\n\n{\n"), []byte("0"))
	f.Fuzz(func(t *testing.T, text, head []byte) {
		dir := directory(t, map[string]string{segmentName(1): string(text), headName: string(head)})
		before := verify(t, dir)
		if before.Sound() {
			// What is sound is what a log writes: its lines say so.
			var again []byte
			at := Position{}
			again = append(again, segmentHeader(1, Hash{})...)
			for _, line := range bytes.SplitAfter(text, []byte("\n"))[1:] {
				l, ok := cutLine(bytes.TrimSuffix(line, []byte("\n")))
				if !ok {
					break
				}
				at = Position{at.Seq + 1, new(chain).next(at.Hash, l.covered)}
				again = fmt.Appendf(again, "%s%s%s%s\n", l.covered, lineHash, at.Hash, lineEnd)
			}
			if !bytes.HasPrefix(text, again) || before.Last != at {
				t.Fatalf("%q is sound, and its records are %q", text, again)
			}
		}
		requestIDs(t, dir, Query{})
		requestIDs(t, dir, Query{Since: newClock().Now(), ContentID: "movie-1", KID: kid(1)})
		if _, err := VerifyStream(bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}

		l := open(t, dir, FileOptions{}, Options{Now: newClock().Now})
		record(t, l, request(9))
		closeLog(t, l)
		if ids := requestIDs(t, dir, Query{RequestID: "request-9"}); len(ids) == 0 {
			t.Fatal("the log does not go on")
		}
		after := verify(t, dir)
		aside := slices.ContainsFunc(after.Notes, func(b Break) bool { return strings.HasSuffix(b.Segment, asideSuffix) })
		if before.Sound() != after.Sound() && !aside {
			t.Fatalf("before: %v, after: %v", before.Breaks, after.Breaks)
		}
	})
}
