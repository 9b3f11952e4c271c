package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrPlace reports a place to read on from that no reading gave.
var ErrPlace = errors.New("no such place in the audit log")

// Directory is the log in the segments of a directory, to be read.
type Directory string

// Read yields the records that match, in order, from where an earlier reading
// stopped: after is the place of its last record, or "" for the beginning. A
// text is valid until the next one. Lines that are not records are left out;
// finding those is the business of [Verify]. A server may be writing
// meanwhile. The error is [ErrPlace], that of yield, or about reading.
func (d Directory) Read(_ context.Context, q *Query, after string, yield func(place string, text []byte, r *Record) error) error {
	from := *q
	if after != "" {
		var err error
		if from.after, err = parsePlace(after); err != nil {
			return err
		}
	}
	return from.Run(string(d), func(text []byte, r *Record) error {
		return yield(strconv.FormatUint(r.Seq, 10), text, r)
	})
}

func parsePlace(digits string) (seq uint64, err error) {
	if seq, err = strconv.ParseUint(digits, 10, seqBits); err != nil {
		return 0, fmt.Errorf("%w: %.40q", ErrPlace, digits)
	}
	return seq, nil
}

// InStore are the logs of all writers in a database, to be read.
type InStore struct{ Store Store }

// Read is [Directory.Read] for them: one writer after the other, in the order
// in which they started, and the records of each in order. All pages of the
// time are read.
func (s InStore) Read(ctx context.Context, q *Query, after string, yield func(place string, text []byte, r *Record) error) error {
	begun, digits, _ := strings.Cut(after, ":")
	var seq uint64
	if after != "" {
		var err error
		if seq, err = parsePlace(digits); err != nil {
			return err
		}
	}
	return eachPart(ctx, s.Store, partsRead, func(part *Part) error {
		if part.ID < begun || !q.Since.IsZero() && part.Written.Add(backwards).Before(q.Since) {
			return nil
		}
		from := *q
		if part.ID == begun {
			from.after = seq
		}
		f := from.filter()
		return eachPage(ctx, s.Store, part.ID, func(p *Page) error {
			return f.lines(bytes.NewReader(p.Lines), func(text []byte, r *Record) error {
				return yield(part.ID+":"+strconv.FormatUint(r.Seq, 10), text, r)
			})
		})
	})
}
