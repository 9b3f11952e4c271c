package audit

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// threeSegments is a log in three segments with 30 requests: a start, ten
// requests a day, and a stop.
func threeSegments(t *testing.T) map[string]string {
	t.Helper()
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, FileOptions{}, Options{Now: c.Now, Server: "test"})
	for i := range 30 {
		record(t, l, request(i))
		if i%10 == 9 && i < 29 {
			c.add(24 * time.Hour)
		}
	}
	closeLog(t, l)
	m := files(t, dir)
	if names := segmentNames(m); !slices.Equal(names, []string{segmentName(1), segmentName(12), segmentName(22)}) {
		t.Fatalf("segments %v", names)
	}
	r := mustBeSound(t, directory(t, m))
	if r.Segments != 3 || r.Records != 32 || r.First.Seq != 1 || r.Last.Seq != 32 || len(r.Notes) != 0 || r.End.Sub(r.Begin) != 48*time.Hour {
		t.Fatalf("report %+v", r)
	}
	return m
}

// editLines changes the lines of a file of the log. Line 0 is the header.
func editLines(m map[string]string, name string, edit func([]string) []string) {
	lines := strings.SplitAfter(strings.TrimSuffix(m[name], "\n")+"\n", "\n")
	m[name] = strings.Join(edit(lines[:len(lines)-1]), "")
}

func TestTampering(t *testing.T) {
	whole := threeSegments(t)
	first, second, third := segmentName(1), segmentName(12), segmentName(22)
	for _, c := range []struct {
		name   string
		tamper func(m map[string]string)
		want   []string
	}{
		{"delete a line", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return slices.Delete(l, 4, 5) })
		}, []string{second + " line 5: record 15 is missing before record 16"}},
		{"delete lines", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return slices.Delete(l, 4, 7) })
		}, []string{second + " line 5: records 15 to 17 are missing before record 18"}},
		{"delete the first record of a segment", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return slices.Delete(l, 1, 2) })
		}, []string{second + " line 2: record 12 is missing before record 13"}},
		{"delete the last record of a segment", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return l[:len(l)-1] })
		}, []string{third + ": records 21 to 21 are missing before this segment"}},
		{"change a content ID", func(m map[string]string) {
			m[second] = strings.Replace(m[second], "movie-12", "movie-99", 1)
		}, []string{second + " line 4: record 14 does not match its hash: it has changed, or the record before it was replaced"}},
		{"change the time of the last record", func(m map[string]string) {
			editLines(m, third, func(l []string) []string {
				l[len(l)-1] = strings.Replace(l[len(l)-1], "T10:", "T11:", 1)
				return l
			})
		}, []string{third + " line 12: record 32 does not match its hash: it has changed, or the record before it was replaced"}},
		{"change a digit of a hash", func(m map[string]string) {
			editLines(m, second, func(l []string) []string {
				at := strings.Index(l[4], lineHash) + len(lineHash)
				digit := "0"
				if l[4][at] == '0' {
					digit = "1"
				}
				l[4] = l[4][:at] + digit + l[4][at+1:]
				return l
			})
		}, []string{second + " line 5: record 15 does not match its hash: it has changed, or the record before it was replaced"}},
		{"write a hash in upper case", func(m map[string]string) {
			editLines(m, second, func(l []string) []string {
				at := strings.Index(l[4], lineHash) + len(lineHash)
				l[4] = l[4][:at] + strings.ToUpper(l[4][at:at+64]) + l[4][at+64:]
				return l
			})
		}, []string{second + " line 5: this is not a record; record 15 was expected"}},
		{"replace a record and its hash", func(m map[string]string) {
			editLines(m, second, func(l []string) []string {
				before, _ := cutLine([]byte(strings.TrimSpace(l[3])))
				at := Position{before.seq, before.hash}
				r := request(99)
				l[4] = string(new(Log).appendLine(nil, &at, newClock().Now(), r.appendMembers(nil)))
				return l
			})
		}, []string{second + " line 6: record 16 does not match its hash: it has changed, or the record before it was replaced"}},
		{"swap two lines", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { l[4], l[5] = l[5], l[4]; return l })
		}, []string{
			second + " line 5: record 15 is missing before record 16",
			second + " line 6: record 15 comes after record 16",
			second + " line 7: record 16 is missing before record 17",
		}},
		{"repeat a line", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return slices.Insert(l, 5, l[4]) })
		}, []string{second + " line 6: record 15 comes after record 15"}},
		{"put a line in", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return slices.Insert(l, 5, "{}\n") })
		}, []string{second + " line 6: this is not a record; record 16 was expected"}},
		{"blank a line", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { l[4] = strings.Repeat(" ", len(l[4])-1) + "\n"; return l })
		}, []string{second + " line 5: this is not a record; record 15 was expected"}},
		{"delete the first segment", func(m map[string]string) { delete(m, first) },
			[]string{"records before 12 are missing, and no record says that they were deleted"}},
		{"delete a segment amid others", func(m map[string]string) { delete(m, second) },
			[]string{third + ": records 12 to 21 are missing before this segment"}},
		{"delete the last segment", func(m map[string]string) { delete(m, third) },
			[]string{"records 22 to 32 are missing at the end: the file head names record 32"}},
		{"delete all segments", func(m map[string]string) { clear(m); m[headName] = string(headText(Position{32, Hash{}})) },
			[]string{"records 1 to 32 are missing at the end: the file head names record 32"}},
		{"delete everything", func(m map[string]string) { clear(m) }, []string{"there is no audit log in this directory"}},
		{"cut the last record off", func(m map[string]string) {
			editLines(m, third, func(l []string) []string { return l[:len(l)-1] })
		}, []string{"records 32 to 32 are missing at the end: the file head names record 32"}},
		{"cut the last record off within", func(m map[string]string) { m[third] = m[third][:len(m[third])-9] },
			[]string{"records 32 to 32 are missing at the end: the file head names record 32"}},
		{"cut the end and the head off", func(m map[string]string) {
			editLines(m, third, func(l []string) []string { return l[:len(l)-1] })
			delete(m, headName)
		}, []string{"the file head is missing or damaged: records may be missing at the end"}},
		{"change the head", func(m map[string]string) { m[headName] = strings.Replace(m[headName], "32", "3x", 1) },
			[]string{"the file head is missing or damaged: records may be missing at the end"}},
		{"head of another log", func(m map[string]string) { m[headName] = string(headText(Position{20, Hash{1}})) },
			[]string{second + " line 10: record 20 is another one than the file head names"}},
		{"change the first record of a header", func(m map[string]string) {
			m[second] = strings.Replace(m[second], `"first":12`, `"first":13`, 1)
		}, []string{
			second + ": the segment begins with record 13, not with that of its name",
			second + ": records 12 to 12 are missing before this segment",
			second + " line 2: record 12 comes after record 12",
		}},
		{"change the hash of a header", func(m map[string]string) {
			at := strings.Index(m[second], `"previous":"`) + len(`"previous":"`)
			m[second] = m[second][:at] + strings.Repeat("0", 64) + m[second][at+64:]
		}, []string{second + " line 1: the segment does not follow the record before it"}},
		{"write a header otherwise", func(m map[string]string) { m[second] = strings.Replace(m[second], `:12,`, `: 12,`, 1) },
			[]string{second + " line 1: the header of the segment has changed"}},
		{"take a header away", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { return l[1:] })
		}, []string{
			second + " line 1: the header of the segment has changed",
			second + " line 2: record 12 is missing before record 13",
		}},
		{"rename a segment", func(m map[string]string) { m[segmentName(13)] = m[second]; delete(m, second) },
			[]string{segmentName(13) + ": the segment begins with record 12, not with that of its name"}},
		{"a segment twice", func(m map[string]string) { m[segmentName(13)] = m[second] },
			[]string{
				segmentName(13) + ": the segment begins with record 12, not with that of its name",
				segmentName(13) + ": records 12 to 21 are there again",
			}},
		{"empty a segment", func(m map[string]string) { m[second] = "" },
			[]string{
				second + " line 1: the header of the segment has changed",
				third + ": records 12 to 21 are missing before this segment",
			}},
		{"put bytes behind a segment", func(m map[string]string) { m[second] += "x" },
			[]string{third + " line 2: the segment before ends with 1 bytes that are no record, and no start recorded that"}},
		{"join two lines", func(m map[string]string) {
			editLines(m, second, func(l []string) []string { l[4] = strings.TrimSuffix(l[4], "\n"); return l })
		}, []string{
			second + " line 5: record 15 does not match its hash: it has changed, or the record before it was replaced",
			second + " line 6: record 16 is missing before record 17",
		}},
		{"zeros", func(m map[string]string) { m[second] = strings.Repeat("\x00", len(m[second])) },
			[]string{second + " line 1: the header of the segment has changed", third + ": records 12 to 21 are missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := maps.Clone(whole)
			c.tamper(m)
			r := verify(t, directory(t, m))
			var got []string
			for _, b := range r.Breaks {
				got = append(got, b.String())
			}
			if !slices.EqualFunc(got, c.want, strings.HasPrefix) {
				t.Errorf("found:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// TestEveryByteCounts changes each byte of a log, one at a time, and cuts it
// off at each byte.
func TestEveryByteCounts(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, FileOptions{}, Options{Now: c.Now})
	record(t, l, &Record{Event: KeyRequest})
	c.add(24 * time.Hour)
	record(t, l, &Record{Event: KeyRequest})
	closeLog(t, l)
	m := files(t, dir)
	if len(m) != 3 {
		t.Fatalf("%d files", len(m))
	}
	for name, text := range m {
		path := filepath.Join(dir, name)
		changed := []byte(text)
		for i := range changed {
			changed[i] ^= 0x04
			if err := os.WriteFile(path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			if verify(t, dir).Sound() {
				t.Errorf("%s byte %d: %q for %q is not found", name, i, changed[i], text[i])
			}
			changed[i] ^= 0x04
			if err := os.WriteFile(path, changed[:i], 0o600); err != nil {
				t.Fatal(err)
			}
			if verify(t, dir).Sound() {
				t.Errorf("%s cut off after %d bytes is not found", name, i)
			}
		}
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustBeSound(t, dir)
}

// TestCheckpoints finds a log that was written anew, which only a position
// that was kept elsewhere can tell.
func TestCheckpoints(t *testing.T) {
	dir := directory(t, threeSegments(t))
	good := verify(t, dir).Last
	if r := verify(t, dir, good); !r.Sound() {
		t.Errorf("the log's own checkpoint: %v", r.Breaks)
	}
	anew := t.TempDir()
	l := open(t, anew, FileOptions{}, Options{Now: newClock().Now, Server: "test"})
	for i := range 32 {
		record(t, l, request(i+100))
	}
	closeLog(t, l)
	mustBeSound(t, anew)
	if r := verify(t, anew, good); r.Sound() || !strings.HasSuffix(r.Breaks[0].String(), "line 33: record 32 is another one than the checkpoint names") {
		t.Errorf("a log written anew: %v", r.Breaks)
	}
	if r := verify(t, dir, Position{33, Hash{}}); r.Sound() || r.Breaks[0].String() != "record 33, which the checkpoint names, is not there" {
		t.Errorf("a checkpoint beyond the end: %v", r.Breaks)
	}
	text := good.String()
	if p, err := ParsePosition(text); err != nil || p != good {
		t.Errorf("%s is read as %v, %v", text, p, err)
	}
	for _, bad := range []string{"", "1", "1:", ":" + good.Hash.String(), "x:" + good.Hash.String(), text + "0", "-" + text} {
		if p, err := ParsePosition(bad); err == nil {
			t.Errorf("%q is read as %v", bad, p)
		}
	}
}

// TestManyBreaks bounds what is told of a file that is something else.
func TestManyBreaks(t *testing.T) {
	m := threeSegments(t)
	m[segmentName(12)] = strings.Repeat("\n", 5000)
	r := verify(t, directory(t, m))
	if len(r.Breaks) != maxBreaks || r.More < 4800 {
		t.Errorf("%d breaks and %d more", len(r.Breaks), r.More)
	}
}

// TestStreams verifies lines without a directory.
func TestStreams(t *testing.T) {
	var out strings.Builder
	l, err := Open(Options{}, NewStream(&out))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		record(t, l, request(i))
	}
	closeLog(t, l)
	lines := strings.SplitAfter(out.String(), "\n")
	check := func(text string, checkpoints ...Position) string {
		r, err := VerifyStream(strings.NewReader(text), checkpoints...)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(r.Records, r.Breaks)
	}
	if got := check(out.String()); got != "7 []" {
		t.Error(got)
	}
	if got := check(strings.Join(lines[3:], "")); got != "4 []" {
		t.Errorf("from the middle: %s", got)
	}
	if got := check(lines[0] + lines[2]); got != "2 [line 2: record 2 is missing before record 3]" {
		t.Error(got)
	}
	if got := check(out.String() + "ready\n" + out.String()); got != "14 []" {
		t.Errorf("two processes: %s", got)
	}
	if got := check(strings.Replace(lines[0], "server_start", "server_stArt", 1)); got != "1 [line 1: record 1 does not match its hash: it has changed, or the record before it was replaced]" {
		t.Error(got)
	}
	third, _ := cutLine([]byte(strings.TrimSpace(lines[2])))
	if got := check(out.String(), Position{3, third.hash}); got != "7 []" {
		t.Errorf("its own checkpoint: %s", got)
	}
	if got := check(out.String(), Position{3, Hash{1}}); got != "7 [record 3, which the checkpoint names, is not there]" {
		t.Errorf("another's checkpoint: %s", got)
	}
	if got := check(""); got != "0 [there are no records]" {
		t.Error(got)
	}
}
