package audit

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// Store is a database that several servers keep their logs in. Each process
// is a writer of its own, whose log is in parts as a directory's is in
// segments.
type Store interface {
	// AppendAudit puts a page after the head of its part and moves the head,
	// durably, or does neither. begin makes the part, with the page as its
	// first. The error is [ErrMoved] when the part does not end where the page
	// begins, or is there already. A call may be repeated.
	AppendAudit(ctx context.Context, p *Page, begin bool) error

	// AuditParts returns parts in the order of their IDs, those after an ID.
	AuditParts(ctx context.Context, after string, limit int) ([]Part, error)

	// AuditPages returns pages of a part in order, those whose first record
	// has a higher number than after.
	AuditPages(ctx context.Context, part string, after uint64, limit int) ([]Page, error)

	// DeleteAudit deletes a part with its pages.
	DeleteAudit(ctx context.Context, part string) error
}

// ErrMoved reports a part that does not end where a page begins.
var ErrMoved = errors.New("the audit log in the database has moved on")

// Part is consecutive records of one writer.
type Part struct {
	ID      string    // the writer and a number, WRITER/000001
	Before  Position  // the record before the first one
	Head    Position  // the last one
	Written time.Time // and when that was; to the microsecond
}

// Page is the lines of one write.
type Page struct {
	Part   string
	Before Position
	Last   Position
	Time   time.Time // to the microsecond
	Lines  []byte    // each with its line end
}

// Bounds of what is written and read at once.
const (
	maxPage   = 256 << 10 // bytes of lines, unless a single one is longer; DynamoDB takes 400 kB
	pagesRead = 16
	partsRead = 100

	databaseTimeout = 15 * time.Second // longer than the stores' own
)

// writerTime begins the name of a writer, so that names sort by time.
const writerTime = "20060102T150405Z"

// maxParts is how many parts one retention record names.
const maxParts = 24

// Database is a sink that keeps its pages in a [Store]. What Append returned
// is as durable as the database makes it.
//
// After a failed write nobody knows whether it will be stored yet. The sink
// leaves it where it is and begins another part after the last record that
// counts. It begins one every day, too, so that retention deletes whole parts.
type Database struct {
	store  Store
	writer string
	number int  // of the current part; 0 before the first
	doubt  bool // the current part may end elsewhere
	begun  time.Time
	at     Position

	today atomic.Int64 // the day of the newest part that is there, in seconds since 1970
}

var (
	_ Sink   = (*Database)(nil)
	_ Pruner = (*Database)(nil)
)

// NewDatabase returns a sink for a process that starts now. The store belongs
// to its owner.
func NewDatabase(s Store, now time.Time) *Database {
	var id [8]byte
	rand.Read(id[:]) //nolint:errcheck // it does not fail
	return &Database{store: s, writer: now.UTC().Format(writerTime) + "-" + hex.EncodeToString(id[:])}
}

func (d *Database) part() string { return partID(d.writer, d.number) }

func partID(writer string, number int) string { return fmt.Sprintf("%s/%06d", writer, number) }

// Resume returns the beginning of a log: each process has its own.
func (*Database) Resume() State { return State{} }

// Append implements [Sink].
func (d *Database) Append(b *Batch) error {
	ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
	defer cancel()
	at := Position{b.First - 1, b.Previous}
	for rest := b.Lines; len(rest) > 0; {
		p := Page{Before: at, Time: b.Time.Truncate(time.Microsecond)}
		if p.Lines, rest = cutPage(rest); len(rest) == 0 {
			p.Last = b.Last
		} else if l, ok := cutLine(lastLine(p.Lines)); ok {
			p.Last = Position{l.seq, l.hash}
		} else {
			return errors.New("audit page: not a record")
		}
		if err := d.append(ctx, &p); err != nil {
			d.doubt = true
			return fmt.Errorf("audit record in the database: %w", err)
		}
		at = p.Last
	}
	return nil
}

// append writes a page to the current part, or to a new one.
func (d *Database) append(ctx context.Context, p *Page) error {
	begin := d.number == 0 || d.doubt || p.Before != d.at || p.Time.Truncate(24*time.Hour) != d.begun
	if begin && (d.number == 0 || d.begun != time.Time{}) {
		d.number, d.begun = d.number+1, time.Time{} // zero until it is there
	}
	for {
		p.Part = d.part()
		err := d.store.AppendAudit(ctx, p, begin)
		if errors.Is(err, ErrMoved) {
			// Taken by a write that failed and was stored after all, or deleted
			// or changed by others.
			begin = true
			d.number, d.begun = d.number+1, time.Time{}
			if ctx.Err() == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if begin {
			d.begun = p.Time.Truncate(24 * time.Hour)
			d.today.Store(d.begun.Unix())
		}
		d.at, d.doubt = p.Last, false
		return nil
	}
}

// cutPage cuts off as many lines as a page takes, at least one.
func cutPage(lines []byte) (page, rest []byte) {
	if len(lines) <= maxPage {
		return lines, nil
	}
	end := bytes.LastIndexByte(lines[:maxPage], '\n')
	if end < 0 {
		end = bytes.IndexByte(lines, '\n')
	}
	return lines[:end+1], lines[end+1:]
}

// lastLine returns the last of lines without its line end.
func lastLine(lines []byte) []byte {
	lines = bytes.TrimSuffix(lines, []byte("\n"))
	return lines[bytes.LastIndexByte(lines, '\n')+1:]
}

// Sync does nothing: what was appended is durable.
func (*Database) Sync() error { return nil }

// Close does nothing; the store is its owner's.
func (*Database) Close() error { return nil }

// Expired implements [Pruner]: the parts, of any writer, whose last record is
// old. Those of one writer go in order. It asks for one part at first: when
// that is of a writer that is young enough, so are all others. Parts of today
// and yesterday are never deleted, as a server may be writing to them.
func (d *Database) Expired(before time.Time) (e Expiry, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if yesterday := time.Unix(d.today.Load(), 0).Add(-24 * time.Hour); yesterday.Before(before) {
		before = yesterday
	}
	young := before.UTC().Format(writerTime)
	kept := "" // a writer whose further parts stay
	err = eachPart(ctx, d.store, 1, func(p *Part) error {
		writer, _, _ := strings.Cut(p.ID, "/")
		switch {
		case p.ID > young || len(e.Parts) == maxParts:
			return errEnough
		case writer == kept:
		case p.Written.Before(before):
			e.Parts = append(e.Parts, p.ID)
		default:
			kept = writer
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return e, err
}

var errEnough = errors.New("enough")

// Delete implements [Pruner].
func (d *Database) Delete(e Expiry) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	for _, id := range e.Parts {
		if err := d.store.DeleteAudit(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// eachPart reads all parts, as many at first as limit says.
func eachPart(ctx context.Context, s Store, limit int, f func(*Part) error) error {
	for after := ""; ; limit = partsRead {
		parts, err := s.AuditParts(ctx, after, limit)
		if err != nil {
			return err
		}
		for i := range parts {
			if err := f(&parts[i]); err != nil {
				return err
			}
			after = parts[i].ID
		}
		if len(parts) < limit {
			return nil
		}
	}
}

func eachPage(ctx context.Context, s Store, part string, f func(*Page) error) error {
	for after := uint64(0); ; {
		pages, err := s.AuditPages(ctx, part, after, pagesRead)
		if err != nil {
			return err
		}
		for i := range pages {
			if err := f(&pages[i]); err != nil {
				return err
			}
			after = pages[i].Before.Seq + 1
		}
		if len(pages) < pagesRead {
			return nil
		}
	}
}

// VerifyStore checks the logs of all writers in a database, as [Verify] does
// with a directory: that every record is as it was written, and that none is
// missing between two others, at the end of a part, or before the first one
// unless a record says that retention took it. Checkpoints are positions of
// any of the logs. Servers may be writing meanwhile.
func VerifyStore(ctx context.Context, s Store, checkpoints ...Position) (*Report, error) {
	v := newVerifier(checkpoints)
	v.many = true
	var missing []missingParts
	var writer string
	var number int // of the part before
	err := eachPart(ctx, s, partsRead, func(part *Part) error {
		v.name, v.line = "part "+part.ID, 0
		w, digits, _ := strings.Cut(part.ID, "/")
		n, ok := parsePart(digits)
		if !ok {
			v.fault(0, "this is not the name of a part")
			return nil
		}
		if w != writer {
			writer, number = w, 0
			v.endOfWriter()
			v.known, v.at, v.other = true, part.Before, part.Before.Hash
			if n == 1 && part.Before.Seq > 0 {
				v.note("it goes on after record %d, which is in the files of that server", part.Before.Seq)
			}
		} else {
			v.followPart(part)
		}
		if n > number+1 {
			missing = append(missing, missingParts{w, number + 1, n})
		}
		number = n
		return v.part(ctx, s, part)
	})
	if err != nil {
		return nil, err
	}
	v.endOfWriter()
	v.name, v.line = "", 0
	for _, m := range missing {
		from := m.from
		if from == 1 { // the record that tells of the oldest ones may be deleted by now
			from = m.to - 1
		}
		for n := from; n < m.to; n++ {
			if id := partID(m.writer, n); !v.deleted[id] {
				v.fault(0, "part %s is missing, and no record says that it was deleted", id)
			}
		}
	}
	v.unseen()
	if v.report.Segments == 0 {
		v.fault(0, "there is no audit log in this database")
	}
	return &v.report, nil
}

// missingParts are the numbers from from to before to.
type missingParts struct {
	writer   string
	from, to int
}

func parsePart(digits string) (n int, ok bool) {
	_, err := fmt.Sscanf(digits, "%06d", &n)
	return n, err == nil && n > 0 && fmt.Sprintf("%06d", n) == digits
}

func (v *verifier) note(format string, args ...any) {
	v.report.Notes = append(v.report.Notes, Break{v.name, v.line, fmt.Sprintf(format, args...)})
}

// endOfWriter keeps where the log of a writer ends.
func (v *verifier) endOfWriter() {
	if v.at.Seq > 0 {
		v.report.Heads = append(v.report.Heads, v.at)
	}
	v.at = Position{}
}

// followPart checks how a part goes on after the one before it.
func (v *verifier) followPart(part *Part) {
	before := part.Before
	switch {
	case before.Seq > v.at.Seq:
		v.note("records %d to %d are not in the database, which could not be written to: no keys were let go for them", v.at.Seq+1, before.Seq)
	case before.Seq < v.at.Seq:
		v.note("records %d to %d of the part before were written when the answer was a failure: no keys were let go for them", before.Seq+1, v.at.Seq)
	case v.known && before.Hash != v.at.Hash && before.Hash != v.other:
		v.fault(0, "it does not follow the part before it")
	}
	v.known, v.at, v.other = true, before, before.Hash
}

// part checks one part.
func (v *verifier) part(ctx context.Context, s Store, part *Part) error {
	v.report.Segments++
	v.head = part.Head
	err := eachPage(ctx, s, part.ID, func(p *Page) error {
		v.name, v.line = fmt.Sprintf("part %s page %d", part.ID, p.Before.Seq+1), 0
		v.follow(p.Before, true)
		if err := v.lines(newLineReader(bytes.NewReader(p.Lines)), false); err != nil {
			return err
		}
		if v.torn > 0 {
			v.fault(v.line, "the page ends with %d bytes that are no record", v.torn)
			v.torn = 0
		}
		if v.at != p.Last {
			v.fault(0, "the page ends with record %d; record %d was written last", v.at.Seq, p.Last.Seq)
		}
		return nil
	})
	v.name, v.line = "part "+part.ID, 0
	if v.at.Seq < part.Head.Seq {
		v.fault(0, "records %d to %d are missing at the end", v.at.Seq+1, part.Head.Seq)
		v.known, v.at, v.other = true, part.Head, part.Head.Hash
	}
	v.head = Position{}
	return err
}
