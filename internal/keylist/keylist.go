// Package keylist reads and writes lists of content keys as files: CPIX
// documents, JSON lines and CSV. It is how keys come from another key
// provider and go to one.
//
// Readers are lenient about how other products name and write things and
// strict about what they mean: a value that could be read in two ways is
// refused. No error shows a value.
package keylist

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"spekeasy/internal/keystore"
)

// Format is a kind of file.
type Format string

// The formats.
const (
	CPIX  Format = "cpix"
	JSONL Format = "jsonl"
	CSV   Format = "csv"
)

// ParseFormat reads the name of a format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case CPIX, JSONL, CSV:
		return f, nil
	default:
		return "", fmt.Errorf("format %q is none of cpix, jsonl, csv", s)
	}
}

// Detect tells the format of a file from its name or, when that says nothing,
// from how it begins.
func Detect(name string, head []byte) (Format, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".cpix", ".xml":
		return CPIX, nil
	case ".jsonl", ".ndjson":
		return JSONL, nil
	case ".csv", ".tsv":
		return CSV, nil
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(head, []byte(byteOrderMark)))
	switch {
	case len(text) == 0:
		return "", fmt.Errorf("%s is empty", name)
	case text[0] == '<':
		return CPIX, nil
	case text[0] == '{':
		return JSONL, nil
	case text[0] == '[':
		return "", fmt.Errorf("%s is a JSON array; make lines of it with: jq -c '.[]' %s", name, name)
	default:
		return CSV, nil
	}
}

const byteOrderMark = "\ufeff"

// A Reader reads content keys one after the other.
type Reader interface {
	// Read returns the next key, or io.EOF. After a [*RowError] it can go on;
	// any other error is final.
	Read() (keystore.ImportedKey, error)
}

// RowError is a row that cannot be read. It does not quote the row.
type RowError struct {
	Line   int // counts from 1; 0 when the format has no lines
	Reason string
}

func (e *RowError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// A Row is a content key as it is written.
type Row struct {
	keystore.ImportedKey
	Source  string    // what made it
	Created time.Time // when
}

// A Writer writes content keys one after the other.
type Writer interface {
	Write(*Row) error

	// Close completes the file, which is of no use without it.
	Close() error
}

// columns are the names under which a row is written, in order.
var columns = []string{
	"kid", "key", "iv", "scheme", "content_id", "track",
	"period_id", "period_index", "period_start", "period_end", "source", "created",
}
