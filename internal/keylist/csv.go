package keylist

import (
	"bufio"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"spekeasy/internal/keystore"
)

// maxRow bounds one row of CSV or one line of JSON.
const maxRow = 1 << 20

// csvReader reads CSV with a heading, separated by commas, semicolons or tabs.
type csvReader struct {
	csv    *csv.Reader
	bound  *bound
	fields []field // of the columns
}

// NewCSVReader reads the heading. The error says which columns are missing.
func NewCSVReader(r io.Reader) (Reader, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading CSV: %w", err)
	}
	if strings.HasPrefix(string(head), byteOrderMark) {
		_, _ = in.Discard(len(byteOrderMark)) // it was peeked
	}
	b := &bound{r: in, left: maxRow}
	c := &csvReader{csv: csv.NewReader(b), bound: b}
	c.csv.Comma = separator(string(head))
	c.csv.ReuseRecord = true
	c.csv.TrimLeadingSpace = c.csv.Comma != '\t' // it would skip empty columns
	heading, err := c.csv.Read()
	if err != nil {
		return nil, fmt.Errorf("reading the heading of CSV: %w", plain(err))
	}
	var have [numFields]bool
	for _, name := range heading {
		f := meaning(name)
		if f != ignored && have[f] {
			return nil, fmt.Errorf("CSV: two columns have the %s", fieldNames[f])
		}
		have[f] = true
		c.fields = append(c.fields, f)
	}
	if !have[fieldKID] || !have[fieldKey] {
		return nil, errors.New("CSV: the first line must name the columns, of which kid and key are required")
	}
	return c, nil
}

// separator returns what separates the columns of the first line.
func separator(head string) rune {
	line, _, _ := strings.Cut(head, "\n")
	sep, most := ',', strings.Count(line, ",")
	for _, c := range []rune{';', '\t'} {
		if n := strings.Count(line, string(c)); n > most {
			sep, most = c, n
		}
	}
	return sep
}

func (c *csvReader) Read() (keystore.ImportedKey, error) {
	c.bound.left = maxRow
	row, err := c.csv.Read()
	if err != nil {
		if parse, ok := errors.AsType[*csv.ParseError](err); ok && !errors.Is(err, errTooLong) {
			return keystore.ImportedKey{}, &RowError{parse.Line, parse.Err.Error()} // which quotes nothing
		}
		return keystore.ImportedKey{}, plain(err)
	}
	line, _ := c.csv.FieldPos(0)
	var k keystore.ImportedKey
	var have [numFields]bool
	for i, text := range row {
		f := c.fields[i]
		if f == ignored {
			continue
		}
		if err := set(&k, f, text); err != nil {
			return keystore.ImportedKey{}, &RowError{line, err.Error()}
		}
		have[f] = strings.TrimSpace(text) != ""
	}
	if err := complete(&k, have); err != nil {
		return keystore.ImportedKey{}, &RowError{line, err.Error()}
	}
	return k, nil
}

// plain is the error without a position where that is of no use.
func plain(err error) error {
	if errors.Is(err, errTooLong) {
		return errTooLong
	}
	return err
}

var errTooLong = fmt.Errorf("a row is longer than %d bytes; is a quotation mark missing?", maxRow)

// bound is a reader that gives up when a row takes too much of it.
type bound struct {
	r    io.Reader
	left int
}

func (b *bound) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLong
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// csvWriter writes CSV.
type csvWriter struct {
	csv *csv.Writer
}

// NewCSVWriter writes the heading.
func NewCSVWriter(w io.Writer) (Writer, error) {
	c := &csvWriter{csv.NewWriter(w)}
	return c, c.csv.Write(columns)
}

func (c *csvWriter) Write(r *Row) error { return c.csv.Write(r.texts()) }

func (c *csvWriter) Close() error {
	c.csv.Flush()
	return c.csv.Error()
}

// texts returns the row under the names of columns.
func (r *Row) texts() []string {
	iv, created := "", ""
	if r.HasIV {
		iv = hex.EncodeToString(r.IV[:])
	}
	if !r.Created.IsZero() {
		created = r.Created.UTC().Format(time.RFC3339Nano)
	}
	p := r.Period
	return []string{
		r.KID.String(), hex.EncodeToString(r.Value[:]), iv, r.Scheme.String(), r.ContentID, r.Track,
		p.ID, p.Index, p.Start, p.End, r.Source, created,
	}
}
