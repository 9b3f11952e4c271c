package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"spekeasy/contentkey"
)

// Query chooses records. Every member that is not empty must match; the zero
// Query matches all.
type Query struct {
	ContentID  string
	KID        contentkey.KID // answered or asked for
	Credential string
	Tenant     string
	RequestID  string
	Admin      string
	Since      time.Time // not before
	Until      time.Time // before
	Denied     bool      // refused or failed

	after uint64 // where a reading goes on: records with a higher number
}

// Run reads a directory in order and yields the records that match: the line
// as it was written, without its line end and valid until the next one, and
// what it says. Segments outside the time are not read. Lines that are not
// records are left out; finding those is the business of [Verify]. A server
// may be writing meanwhile.
func (q *Query) Run(dir string, yield func(text []byte, r *Record) error) error {
	list, err := segments(dir)
	if err != nil {
		return err
	}
	f := q.filter()
	for i := range list {
		if wanted, err := f.overlaps(&list[i]); err != nil {
			return err
		} else if !wanted {
			continue
		}
		if err := f.segment(&list[i], yield); err != nil {
			return fmt.Errorf("%s: %w", list[i].name(), err)
		}
	}
	return nil
}

// filter is a query, prepared.
type filter struct {
	q            *Query
	must         [][]byte // what a line must contain to be worth decoding
	since, until string   // in the form of lines, which sorts by time
}

func (q *Query) filter() *filter {
	f := &filter{q: q}
	for _, m := range []struct{ name, value string }{
		{`"content_id":"`, Clip(q.ContentID)},
		{`"credential":"`, clip(q.Credential, maxShort)},
		{`"tenant":"`, clip(q.Tenant, maxShort)},
		{`"request_id":"`, clip(q.RequestID, maxShort)},
		{`"admin":"`, clip(q.Admin, maxShort)},
	} {
		if m.value != "" {
			f.must = append(f.must, appendText(nil, m.name, m.value))
		}
	}
	if q.KID != (contentkey.KID{}) {
		f.must = append(f.must, []byte(`"`+q.KID.String()+`"`))
	}
	if !q.Since.IsZero() {
		f.since = q.Since.UTC().Format(timeFormat)
	}
	if !q.Until.IsZero() {
		f.until = q.Until.UTC().Format(timeFormat)
	}
	return f
}

// overlaps reports whether a segment may have records of the time. Records of
// one segment are in order but for clocks that went back a little.
func (f *filter) overlaps(s *segment) (bool, error) {
	if f.since == "" && f.until == "" {
		return true, nil
	}
	first, err := firstTime(s)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // retention was faster
	}
	if err != nil {
		return false, err
	}
	if f.until != "" && !first.IsZero() && !first.Add(-backwards).Before(f.q.Until) {
		return false, nil
	}
	if f.since == "" {
		return true, nil
	}
	last, err := lastTime(s)
	if err != nil {
		return false, err
	}
	return last.IsZero() || !last.Add(backwards).Before(f.q.Since), nil
}

// lastTime returns the time of the last record that can be seen in the last
// part of a segment, or the zero time.
func lastTime(s *segment) (time.Time, error) {
	const part = 16 << 10
	f, err := os.Open(s.path)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	text := make([]byte, min(info.Size(), part))
	n, err := f.ReadAt(text, info.Size()-int64(len(text)))
	if err != nil && !errors.Is(err, io.EOF) {
		return time.Time{}, err
	}
	text = text[:n]
	for len(text) > 0 {
		end := bytes.LastIndexByte(text, '\n')
		if end < 0 {
			break
		}
		begin := bytes.LastIndexByte(text[:end], '\n') + 1
		if l, ok := cutLine(text[begin:end]); ok {
			return l.when(), nil
		}
		text = text[:begin]
	}
	return time.Time{}, nil
}

// segment yields the records of one segment.
func (f *filter) segment(s *segment, yield func([]byte, *Record) error) error {
	in, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // retention was faster
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return f.lines(in, yield)
}

// lines yields the records among lines.
func (f *filter) lines(in io.Reader, yield func([]byte, *Record) error) error {
	for r := newLineReader(in); ; {
		text, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if final(err) {
			return err
		}
		l, ok := cutLine(text)
		if err != nil || !ok || !f.mayMatch(&l, text) {
			continue
		}
		var record Record
		if json.Unmarshal(text, &record) != nil || !f.matches(&record) {
			continue
		}
		if err := yield(text, &record); err != nil {
			return err
		}
	}
}

// mayMatch is the cheap part of matching.
func (f *filter) mayMatch(l *line, text []byte) bool {
	if l.seq <= f.q.after || f.since != "" && string(l.time) < f.since || f.until != "" && string(l.time) >= f.until {
		return false
	}
	for _, part := range f.must {
		if !bytes.Contains(text, part) {
			return false
		}
	}
	return true
}

func (f *filter) matches(r *Record) bool {
	q := f.q
	is := func(want, have string) bool { return want == "" || want == have }
	return is(Clip(q.ContentID), r.ContentID) && is(clip(q.Credential, maxShort), r.Credential) &&
		is(clip(q.Tenant, maxShort), r.Tenant) && is(clip(q.RequestID, maxShort), r.RequestID) && is(clip(q.Admin, maxShort), r.Admin) &&
		(q.KID == contentkey.KID{} || slices.Contains(r.KIDs, q.KID) || slices.Contains(r.Requested, q.KID)) &&
		(!q.Denied || r.Result == Refused || r.Result == Failed)
}
