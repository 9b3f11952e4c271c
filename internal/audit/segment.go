package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A directory holds the log in segments, files of lines named by the number of
// their first record, and the file head. The first line of a segment is its
// header, which names the first record and the hash of the record before it,
// so that each segment can be checked without those before it.
const (
	segmentSuffix = ".jsonl"
	tempSuffix    = ".new" // a segment whose header is not durable yet
	headName      = "head"
)

func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, segmentSuffix) }

const headerFormat = `{"audit":1,"first":%d,"previous":"%s"}` + "\n"

func segmentHeader(first uint64, previous Hash) []byte {
	return fmt.Appendf(nil, headerFormat, first, previous)
}

// parseHeader reads a header without its line end. There is one way to write
// it, so that no byte of it can change unseen.
func parseHeader(text []byte) (before Position, ok bool) {
	var first uint64
	var digits string
	_, err := fmt.Sscanf(string(text), `{"audit":1,"first":%d,"previous":"%64s"}`, &first, &digits)
	if err != nil || first == 0 || first>>seqBits > 0 || before.Hash.UnmarshalText([]byte(digits)) != nil {
		return Position{}, false
	}
	before.Seq = first - 1
	return before, bytes.Equal(segmentHeader(first, before.Hash), append(slices.Clip(text), '\n'))
}

// segment is a file of a directory.
type segment struct {
	path  string
	first uint64 // by its name
}

func (s *segment) name() string { return filepath.Base(s.path) }

// segments lists those of a directory in order. Files with other names are
// nobody's business.
func segments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var list []segment
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), segmentSuffix)
		if !ok || len(digits) != 20 {
			continue
		}
		if first, err := strconv.ParseUint(digits, 10, seqBits); err == nil {
			list = append(list, segment{filepath.Join(dir, e.Name()), first})
		}
	}
	return list, nil
}

// lineReader reads the lines of a segment.
type lineReader struct {
	in   *bufio.Reader
	long []byte // a line longer than the buffer
	at   int64  // bytes read so far
}

var errLineTooLong = errors.New("line too long")

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(r, 64<<10)}
}

// next returns a line without its line end, valid until the next call. At the
// end the error is [io.EOF], with the bytes after the last line end. A line
// longer than maxLine is [errLineTooLong], and its beginning.
func (r *lineReader) next() ([]byte, error) {
	r.long = r.long[:0]
	var tooLong bool
	for {
		part, err := r.in.ReadSlice('\n')
		r.at += int64(len(part))
		if errors.Is(err, bufio.ErrBufferFull) || len(r.long) > 0 {
			tooLong = tooLong || len(r.long)+len(part) > maxLine
			if !tooLong {
				r.long = append(r.long, part...)
			}
			part = r.long
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return part, err
		case tooLong:
			return part, errLineTooLong
		}
		return part[:len(part)-1], nil
	}
}

// final reports whether no line comes after an error of next.
func final(err error) bool { return err != nil && !errors.Is(err, errLineTooLong) }

// ending is how a segment ends.
type ending struct {
	at     Position  // of the last good record; of the header when there is none
	good   int64     // bytes up to the end of that record
	size   int64     // bytes of the file
	begun  time.Time // of the first record
	latest time.Time // of any record
	sound  bool      // header and all records are good
	passed bool      // the record that head names is there
}

// readEnding finds where the chain goes on after a segment. A record is good
// when it fits the one before it, or when that one cannot be read. One that
// was changed amid others therefore does no harm here: finding it is the
// business of [Verify].
func readEnding(s *segment, head Position) (end ending, err error) {
	f, err := os.Open(s.path)
	if err != nil {
		return end, err
	}
	defer f.Close()
	r := newLineReader(f)
	text, err := r.next()
	before, known := parseHeader(text)
	if known = known && err == nil && before.Seq+1 == s.first; known {
		end.good = r.at
	} else {
		before = Position{Seq: s.first - 1}
	}
	end.at, end.sound = before, known
	var hashes chain
	at := before // of the line before, good or not
	for {
		if text, err = r.next(); final(err) {
			break
		}
		l, ok := cutLine(text)
		if !ok || err != nil {
			end.sound, known = false, false
			continue
		}
		fits := !known || l.seq == at.Seq+1 && hashes.next(at.Hash, l.covered) == l.hash
		at, known = Position{l.seq, l.hash}, true
		end.passed = end.passed || at == head
		if !fits {
			end.sound = false
			continue
		}
		end.at, end.good = at, r.at
		t := l.when()
		if end.begun.IsZero() {
			end.begun = t
		}
		if t.After(end.latest) {
			end.latest = t
		}
	}
	end.size = r.at
	end.sound = end.sound && end.good == end.size
	end.passed = end.passed || before == head
	if !errors.Is(err, io.EOF) {
		return end, err
	}
	return end, nil
}

// firstTime returns the time of a segment's first record, or the zero time
// when it has none.
func firstTime(s *segment) (time.Time, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	for r := newLineReader(f); ; {
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			return time.Time{}, nil
		}
		if final(err) {
			return time.Time{}, err
		}
		if l, ok := cutLine(text); ok && !l.when().IsZero() {
			return l.when(), nil
		}
	}
}

// The head is the position up to which the log is known to be durable. It is
// written after each sync and is not synced itself, so that it can be behind
// the segments but never ahead of them, unless records were taken away.
const headLen = 20 + 1 + 2*len(Hash{}) + 1

func headText(p Position) []byte { return fmt.Appendf(nil, "%020d %s\n", p.Seq, p.Hash) }

func parseHead(text []byte) (p Position, ok bool) {
	if len(text) != headLen {
		return p, false
	}
	seq, err := strconv.ParseUint(string(text[:20]), 10, seqBits)
	if err != nil || p.Hash.UnmarshalText(text[21:headLen-1]) != nil {
		return Position{}, false
	}
	p.Seq = seq
	if seq == 0 && !p.Hash.IsZero() {
		return Position{}, false
	}
	return p, bytes.Equal(headText(p), text)
}
