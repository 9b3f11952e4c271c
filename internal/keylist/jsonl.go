package keylist

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"spekeasy/internal/keystore"
)

// jsonReader reads JSON objects, one a line.
type jsonReader struct {
	lines *bufio.Scanner
	line  int
}

// NewJSONReader reads JSON lines.
func NewJSONReader(r io.Reader) Reader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxRow)
	return &jsonReader{lines: lines}
}

func (j *jsonReader) Read() (keystore.ImportedKey, error) {
	for j.lines.Scan() {
		j.line++
		text := bytes.TrimSpace(j.lines.Bytes())
		if j.line == 1 {
			text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte(byteOrderMark)))
		}
		if len(text) == 0 {
			continue
		}
		k, err := parseJSON(text)
		if err != nil {
			return keystore.ImportedKey{}, &RowError{j.line, err.Error()}
		}
		return k, nil
	}
	switch err := j.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return keystore.ImportedKey{}, fmt.Errorf("line %d is longer than %d bytes; is there one object a line?", j.line+1, maxRow)
	case err != nil:
		return keystore.ImportedKey{}, fmt.Errorf("reading JSON lines: %w", err)
	}
	return keystore.ImportedKey{}, io.EOF
}

// parseJSON reads one object. Members that are not texts or numbers say
// nothing.
func parseJSON(text []byte) (keystore.ImportedKey, error) {
	var k keystore.ImportedKey
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&members); err != nil || d.More() {
		return k, errors.New("not a JSON object")
	}
	var have [numFields]bool
	for name, value := range members {
		f := meaning(name)
		if f == ignored {
			continue
		}
		var text string
		switch v := value.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		case nil:
			continue
		default:
			return keystore.ImportedKey{}, fmt.Errorf("%s: neither text nor number", fieldNames[f])
		}
		if text == "" {
			continue
		}
		if have[f] {
			return keystore.ImportedKey{}, fmt.Errorf("two members have the %s", fieldNames[f])
		}
		if err := set(&k, f, text); err != nil {
			return keystore.ImportedKey{}, err
		}
		have[f] = strings.TrimSpace(text) != ""
	}
	if err := complete(&k, have); err != nil {
		return keystore.ImportedKey{}, err
	}
	return k, nil
}

// jsonWriter writes JSON objects, one a line.
type jsonWriter struct {
	w *bufio.Writer
}

// NewJSONWriter writes JSON lines.
func NewJSONWriter(w io.Writer) Writer { return &jsonWriter{bufio.NewWriter(w)} }

func (j *jsonWriter) Write(r *Row) error {
	sep := byte('{')
	for i, text := range r.texts() {
		if text == "" {
			continue
		}
		_ = j.w.WriteByte(sep) // Flush reports it, as for all below
		sep = ','
		if err := writeJSON(j.w, columns[i], ":"); err != nil {
			return err
		}
		if err := writeJSON(j.w, text, ""); err != nil {
			return err
		}
	}
	_, err := j.w.WriteString("}\n")
	return err
}

func writeJSON(w *bufio.Writer, text, after string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		return err
	}
	_, err := w.WriteString(strings.TrimSuffix(b.String(), "\n") + after)
	return err
}

func (j *jsonWriter) Close() error { return j.w.Flush() }
