package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Report is what [Verify] found.
type Report struct {
	Segments    int // of a directory, or parts in a database
	Records     uint64
	First, Last Position   // the records at both ends
	Begin, End  time.Time  // and their times
	Breaks      []Break    // where the log is not as it was written; at most maxBreaks
	More        int        // breaks beyond those
	Notes       []Break    // what is explained by a crash
	Heads       []Position // of a database: where the log of each writer ends
}

// Sound reports whether no break was found.
func (r *Report) Sound() bool { return len(r.Breaks) == 0 }

// Break is a place in the log.
type Break struct {
	Segment string // file name; empty for the log as a whole
	Line    int    // from 1, which is the header of a segment; 0 for the segment as a whole
	Text    string
}

func (b Break) String() string {
	where := b.Segment
	if b.Line > 0 {
		where = strings.TrimSpace(fmt.Sprintf("%s line %d", where, b.Line))
	}
	if where == "" {
		return b.Text
	}
	return where + ": " + b.Text
}

// maxBreaks bounds the breaks of a report, which may be about any file.
const maxBreaks = 100

// asideSuffix ends the name of a segment that was put aside at a start.
const asideSuffix = ".damaged"

// Verify checks all segments of a directory: that every record is as it was
// written, that none is missing between two others, before the first, or at
// the end as far as the file head tells. Checkpoints are positions of the log
// that were kept elsewhere; the log must still have them. A server may be
// writing meanwhile. The error is about reading only.
func Verify(dir string, checkpoints ...Position) (*Report, error) {
	v := newVerifier(checkpoints)
	// Records are only added, so that what the head says now must be found.
	text, err := os.ReadFile(filepath.Join(dir, headName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	list, err := segments(dir)
	if err != nil {
		return nil, err
	}
	head, headGood := parseHead(text)
	if headGood && head.Seq > 0 {
		v.expect[head.Seq] = append(v.expect[head.Seq], expected{head.Hash, "the file head"})
	}
	for i := range list {
		if err := v.segment(&list[i], i+1 == len(list)); err != nil {
			return nil, err
		}
	}
	aside, err := filepath.Glob(filepath.Join(dir, "*"+asideSuffix))
	if err != nil {
		return nil, err
	}
	for _, path := range aside {
		v.report.Notes = append(v.report.Notes, Break{filepath.Base(path), 0, "put aside at a start, since no record of it could be read"})
	}
	v.finish()
	switch {
	case !headGood && (len(list) > 0 || len(text) > 0):
		v.fault(0, "the file head is missing or damaged: records may be missing at the end")
	case len(list) == 0 && head.Seq == 0:
		v.fault(0, "there is no audit log in this directory")
	case head.Seq > v.at.Seq:
		v.fault(0, "records %d to %d are missing at the end: the file head names record %d", v.at.Seq+1, head.Seq, head.Seq)
	}
	return &v.report, nil
}

// VerifyStream checks lines that a [Stream] has written, or a query of a whole
// log, without anything else to hold them against but checkpoints: that they
// follow one another and, from the second on, are as they were written. Lines
// that do not start with a brace are somebody else's, and a record 1 begins
// another chain, as a new process does.
func VerifyStream(r io.Reader, checkpoints ...Position) (*Report, error) {
	v := newVerifier(checkpoints)
	v.stream = true
	if err := v.lines(newLineReader(r), true); err != nil {
		return nil, err
	}
	v.finish()
	if v.report.Records == 0 {
		v.fault(0, "there are no records")
	}
	return &v.report, nil
}

type verifier struct {
	report Report
	chain  chain
	expect map[uint64][]expected

	stream bool   // no segments, and other lines between ours
	many   bool   // several logs
	name   string // of the segment
	line   int
	known  bool     // at and other are good
	at     Position // of the record before
	other  Hash     // a hash that the record before may have instead
	start  uint64   // first record by the name of the first segment
	torn   int64    // length of an unfinished line at the end of the segment before
	kept   uint64   // what the last retention record says
	head   Position // of the part, or zero

	deleted map[string]bool // parts, as retention records say
}

// expected is a hash that a record must have.
type expected struct {
	hash Hash
	from string
}

func newVerifier(checkpoints []Position) *verifier {
	v := &verifier{expect: make(map[uint64][]expected), deleted: make(map[string]bool)}
	for _, c := range checkpoints {
		v.expect[c.Seq] = append(v.expect[c.Seq], expected{c.Hash, "the checkpoint"})
	}
	return v
}

func (v *verifier) fault(line int, format string, args ...any) {
	if len(v.report.Breaks) >= maxBreaks {
		v.report.More++
		return
	}
	v.report.Breaks = append(v.report.Breaks, Break{v.name, line, fmt.Sprintf(format, args...)})
}

// segment checks one segment.
func (v *verifier) segment(s *segment, last bool) error {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: deleted meanwhile, try again", err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	v.name, v.line = s.name(), 1
	v.report.Segments++
	r := newLineReader(f)
	text, err := r.next()
	if final(err) && !errors.Is(err, io.EOF) {
		return err
	}
	before, ok := parseHeader(text)
	switch {
	case !ok || err != nil:
		v.fault(1, "the header of the segment has changed")
		before = Position{Seq: s.first - 1} // by its name
	case before.Seq+1 != s.first:
		v.fault(0, "the segment begins with record %d, not with that of its name", before.Seq+1)
	}
	if v.report.Segments == 1 {
		v.start, v.known, v.at, v.other = s.first, ok, before, before.Hash
	} else {
		v.follow(before, ok)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return v.lines(r, last)
}

// follow checks that a segment begins where the one before it ended.
func (v *verifier) follow(before Position, ok bool) {
	switch {
	case before.Seq > v.at.Seq:
		v.fault(0, "records %d to %d are missing before this segment", v.at.Seq+1, before.Seq)
		v.known, v.at, v.other = ok, before, before.Hash
	case before.Seq < v.at.Seq:
		v.fault(0, "records %d to %d are there again", before.Seq+1, v.at.Seq)
		v.known, v.at, v.other = ok, before, before.Hash
	case ok && v.known && before.Hash != v.at.Hash && before.Hash != v.other:
		v.fault(1, "the segment does not follow the record before it")
		v.other = before.Hash
	case ok && !v.known:
		v.known, v.at, v.other = true, before, before.Hash
	}
}

// lines checks the lines of a segment after its header.
func (v *verifier) lines(r *lineReader, last bool) error {
	for first := true; ; first = false {
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			v.unfinished(int64(len(text)), last)
			return nil
		}
		if final(err) {
			return err
		}
		v.line++
		if v.stream && !bytes.HasPrefix(text, []byte("{")) {
			continue
		}
		l, ok := cutLine(text)
		if !ok || err != nil {
			v.fault(v.line, "this is not a record; record %d was expected", v.at.Seq+1)
			v.known = false
			continue
		}
		v.record(&l, text, first)
	}
}

// unfinished looks at what follows the last line end of a segment.
func (v *verifier) unfinished(n int64, last bool) {
	switch {
	case n == 0:
	case last:
		v.report.Notes = append(v.report.Notes, Break{v.name, v.line + 1,
			"unfinished: it is being written, or a crash cut it off and the next start will record that"})
	default:
		v.torn = n
		v.line++
	}
}

// record checks one record.
func (v *verifier) record(l *line, text []byte, first bool) {
	if v.torn > 0 {
		v.explainTorn(l, text, first)
	}
	if v.stream && l.seq == 1 { // each process begins a chain of its own
		v.known, v.at, v.other = true, Position{}, Hash{}
	}
	next := Position{l.seq, l.hash}
	computed := v.chain.next(v.at.Hash, l.covered)
	switch {
	case v.report.Records == 0 && !v.known: // nothing to hold it against
	case l.seq > v.at.Seq+2:
		v.fault(v.line, "records %d to %d are missing before record %d", v.at.Seq+1, l.seq-1, l.seq)
	case l.seq == v.at.Seq+2 && v.known:
		v.fault(v.line, "record %d is missing before record %d", v.at.Seq+1, l.seq)
	case l.seq <= v.at.Seq:
		v.fault(v.line, "record %d comes after record %d", l.seq, v.at.Seq)
	case !v.known: // the line before is not a record and is reported
	case computed == l.hash:
	case v.chain.next(v.other, l.covered) == l.hash: // only the hash of the line before was changed
	default:
		v.fault(v.line, "record %d does not match its hash: it has changed, or the record before it was replaced", l.seq)
	}
	v.at, v.other, v.known = next, computed, true

	if v.head.Seq == next.Seq && v.head.Hash != next.Hash {
		v.fault(v.line, "record %d is another one than the end of the part names", next.Seq)
	}
	v.compare(next)
	v.events(l, text)
	if v.report.Records == 0 {
		v.report.First, v.report.Begin = next, l.when()
	}
	v.report.Records++
	v.report.Last, v.report.End = next, l.when()
}

// compare holds a record against what it must be. In a stream or a database
// there may be several of a number, one of which will do.
func (v *verifier) compare(p Position) {
	list := v.expect[p.Seq]
	if len(list) == 0 {
		return
	}
	several := v.stream || v.many
	v.expect[p.Seq] = slices.DeleteFunc(list, func(e expected) bool {
		if e.hash != p.Hash && !several {
			v.fault(v.line, "record %d is another one than %s names", p.Seq, e.from)
		}
		return e.hash == p.Hash || !several
	})
}

// explainTorn accepts an unfinished line at the end of a segment when the next
// start recorded it.
func (v *verifier) explainTorn(l *line, text []byte, first bool) {
	var r Record
	if first && string(l.event) == serverStart && json.Unmarshal(text, &r) == nil && r.Torn == v.torn {
		v.report.Notes = append(v.report.Notes, Break{v.name, v.line,
			fmt.Sprintf("a crash left %d bytes of an unfinished record at the end of the segment before; the next start recorded it", v.torn)})
	} else {
		v.fault(v.line, "the segment before ends with %d bytes that are no record, and no start recorded that", v.torn)
	}
	v.torn = 0
}

// events reads what the log says about itself.
func (v *verifier) events(l *line, text []byte) {
	var r Record
	switch string(l.event) {
	case serverStart:
		if json.Unmarshal(text, &r) == nil && r.Error != "" {
			v.fault(v.line, "the server found this when it started: %s", r.Error)
		}
	case syncFailed:
		if json.Unmarshal(text, &r) == nil {
			v.report.Notes = append(v.report.Notes, Break{v.name, v.line, "the server recorded: " + r.Error})
		}
	case retention:
		if json.Unmarshal(text, &r) == nil {
			v.kept = max(v.kept, r.KeptFrom)
			for id := range strings.FieldsSeq(r.Change) {
				v.deleted[id] = true
			}
		}
	}
}

// finish checks what can be told only at the end.
func (v *verifier) finish() {
	v.name = ""
	if v.kept < v.start && v.start > 1 {
		v.fault(0, "records before %d are missing, and no record says that they were deleted", v.start)
	}
	v.unseen()
}

// unseen reports the checkpoints that no record matched.
func (v *verifier) unseen() {
	for seq, list := range v.expect {
		for _, e := range list {
			if e.from == "the checkpoint" {
				v.fault(0, "record %d, which %s names, is not there", seq, e.from)
			}
		}
	}
}
