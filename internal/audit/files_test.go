package audit

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFormat shows a whole log, as docs/audit.md describes it.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, FileOptions{}, Options{Now: newClock().Now, Server: "spekeasy/1.0 on keys-1, PID 77"})
	r := sample()
	r.Protection, r.Recipients, r.Created = Encrypted, []string{strings.Repeat("5e", 32)}, 2
	record(t, l, r)
	record(t, l, &Record{
		Event: KeyRequest, Result: Refused, Status: 401, RequestID: "probe-1", Remote: "198.51.100.9:40022",
		Error: `basic user "acme": unauthenticated`,
	})
	closeLog(t, l)
	want := `{"audit":1,"first":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000"}
{"seq":1,"time":"2026-03-01T10:00:00.000000Z","event":"server_start","server":"spekeasy/1.0 on keys-1, PID 77","hash":"HASH"}
{"seq":2,"time":"2026-03-01T10:00:00.000000Z","event":"key_request","result":"delivered","request_id":"6RJ2XQ7M3KDLW5TA","remote":"203.0.113.10:51234","tenant":"acme","credential":"encoders","profile":"2.0","content_id":"channel-7","scheme":"cbcs","kids":["01020300-0000-0000-0000-000000000000","04050600-0000-0000-0000-000000000000"],"protection":"encrypted","recipients":["5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e"],"created":2,"hash":"HASH"}
{"seq":3,"time":"2026-03-01T10:00:00.000000Z","event":"key_request","result":"refused","status":401,"request_id":"probe-1","remote":"198.51.100.9:40022","error":"basic user \"acme\": unauthenticated","hash":"HASH"}
{"seq":4,"time":"2026-03-01T10:00:00.000000Z","event":"server_stop","hash":"HASH"}
`
	got := files(t, dir)[segmentName(1)]
	for line := range strings.Lines(got) {
		if at := strings.Index(line, lineHash); at > 0 {
			got = strings.Replace(got, line[at+len(lineHash):], "HASH\"}\n", 1)
		}
	}
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	// It is also what the operator is told.
	docs, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(got) {
		if example, _, ok := strings.Cut(line, "HASH"); ok && strings.Contains(line, KeyRequest) && !strings.Contains(string(docs), "\n"+example) {
			t.Errorf("docs/audit.md does not have %s", example)
		}
	}

	for name, mode := range map[string]fs.FileMode{"": 0o700, segmentName(1): 0o600, headName: 0o600} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || name != "" && info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	made := filepath.Join(t.TempDir(), "a", "b")
	closeLog(t, open(t, made, FileOptions{}, Options{}))
	if info, err := os.Stat(made); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", info, err)
	}
}

// TestSegments begins a new segment when the current one is full, each day,
// and when the clock goes back; a restart goes on in the same one.
func TestSegments(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := open(t, dir, FileOptions{SegmentBytes: 2000}, Options{Now: c.Now})
	seq := uint64(1)
	write := func(n int) {
		t.Helper()
		for range n {
			record(t, l, request(0))
			seq++
		}
	}
	begins := []uint64{1}
	check := func(what string, begun bool) {
		t.Helper()
		if begun {
			begins = append(begins, seq)
		}
		var want []string
		for _, first := range begins {
			want = append(want, segmentName(first))
		}
		if got := segmentNames(files(t, dir)); !slices.Equal(got, want) {
			t.Fatalf("%s: segments %v, want %v", what, got, want)
		}
	}
	write(4)
	check("some records", false)
	write(1)
	check("a full one", true)
	c.add(13*time.Hour + 59*time.Minute)
	write(1)
	check("the end of the day", false)
	c.add(time.Minute)
	write(1)
	check("the next day", true)
	c.add(5 * time.Minute)
	write(1)
	c.add(-time.Minute)
	write(1)
	check("a clock that went back a minute", false)
	c.add(-time.Second)
	write(1)
	check("a clock that went back more", true)

	closeLog(t, l)
	l = open(t, dir, FileOptions{SegmentBytes: 2000}, Options{Now: c.Now})
	seq += 2
	check("a restart", false)
	closeLog(t, l)
	c.add(24 * time.Hour)
	l = open(t, dir, FileOptions{SegmentBytes: 2000}, Options{Now: c.Now})
	seq += 2
	check("a restart on another day", true)
	closeLog(t, l)
	r := mustBeSound(t, dir)
	if r.Records != seq+1 || r.Segments != len(begins) {
		t.Errorf("report %+v, %d records written", r, seq+1)
	}

	// No segment is larger than it may be, unless one batch is.
	for name, text := range files(t, dir) {
		if len(text) > 2000 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
	}
}

// TestRetention deletes whole segments of which even the last record is old,
// and what is left can still be verified.
func TestRetention(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	o := Options{Now: c.Now, Retain: 3 * 24 * time.Hour}
	l := open(t, dir, FileOptions{}, o)
	for i := range 6 {
		record(t, l, request(i))
		c.add(24 * time.Hour)
	}
	l.prune()
	record(t, l, request(6))
	if got := requestIDs(t, dir, Query{}); !slices.Equal(got, []string{"request-3", "request-4", "request-5", "request-6"}) {
		t.Errorf("left are %v", got)
	}
	r := mustBeSound(t, dir)
	if r.First.Seq != 5 { // a start and three requests before it
		t.Errorf("report %+v", r)
	}
	var said []uint64
	for _, e := range events(t, dir) {
		if e.Event == retention {
			said = append(said, e.KeptFrom)
		}
	}
	if !slices.Equal(said, []uint64{5}) {
		t.Errorf("recorded deletions %v", said)
	}
	l.prune()
	if after := mustBeSound(t, dir); after.First != r.First || after.Last != r.Last {
		t.Errorf("nothing to delete: %+v", after)
	}
	closeLog(t, l)

	// Somebody else's deletion is told apart.
	m := files(t, dir)
	delete(m, segmentNames(m)[0])
	if r := verify(t, directory(t, m)); r.Sound() || r.Breaks[0].String() != "records before 6 are missing, and no record says that they were deleted" {
		t.Errorf("breaks %v", r.Breaks)
	}

	// A deletion that was cut off after its record is made up for later.
	c.add(30 * 24 * time.Hour)
	m = files(t, dir)
	closeLog(t, open(t, dir, FileOptions{}, o))
	if left := segmentNames(files(t, dir)); len(left) != 1 {
		t.Fatalf("left are %v", left)
	}
	for _, name := range segmentNames(m)[2:] {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(m[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustBeSound(t, dir)
	closeLog(t, open(t, dir, FileOptions{}, o))
	if left := segmentNames(files(t, dir)); len(left) != 1 {
		t.Fatalf("left are %v", left)
	}
	mustBeSound(t, dir)
}

// TestForEver deletes nothing by default.
func TestForEver(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	l := open(t, dir, FileOptions{}, Options{Now: c.Now})
	c.add(100 * 365 * 24 * time.Hour)
	record(t, l, request(1))
	l.prune()
	closeLog(t, l)
	if names := segmentNames(files(t, dir)); len(names) != 2 {
		t.Errorf("left are %v", names)
	}
}

// TestUnfinishedSegment removes what a process left before a segment was
// ready, and leaves other files alone.
func TestUnfinishedSegment(t *testing.T) {
	m := threeSegments(t)
	m[segmentName(33)+tempSuffix] = `{"audit":1,`
	m["notes.txt"], m["1.jsonl"] = "mine", "not one of ours"
	dir := directory(t, m)
	closeLog(t, open(t, dir, FileOptions{}, Options{Now: func() time.Time { return newClock().Now().Add(48 * time.Hour) }}))
	after := files(t, dir)
	if len(after) != len(m)-1 || after["notes.txt"] != "mine" || after["1.jsonl"] != "not one of ours" {
		t.Errorf("files %v", after)
	}
	mustBeSound(t, dir)

	// One that is ready and has no record is used.
	last := mustBeSound(t, dir).Last
	header := filepath.Join(dir, segmentName(last.Seq+1))
	if err := os.WriteFile(header, segmentHeader(last.Seq+1, last.Hash), 0o600); err != nil {
		t.Fatal(err)
	}
	mustBeSound(t, dir)
	closeLog(t, open(t, dir, FileOptions{}, Options{}))
	if r := mustBeSound(t, dir); r.Segments != 4 || r.Last.Seq != last.Seq+2 {
		t.Errorf("report %+v", r)
	}
}

// TestUnfinishedRecordBeforeANewSegment is a crash right after the one that
// left half a record: the new segment is there, and nothing in it says why.
func TestUnfinishedRecordBeforeANewSegment(t *testing.T) {
	m := threeSegments(t)
	last := mustBeSound(t, directory(t, m)).Last
	m[segmentName(22)] += `{"seq":33,`
	m[segmentName(33)] = string(segmentHeader(33, last.Hash))
	dir := directory(t, m)
	mustBeSound(t, dir)
	closeLog(t, open(t, dir, FileOptions{}, Options{}))
	if r := mustBeSound(t, dir); len(r.Notes) != 1 || !strings.Contains(r.Notes[0].Text, "10 bytes") {
		t.Errorf("notes %v", r.Notes)
	}
}
