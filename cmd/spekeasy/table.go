package main

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// table is text in columns that share their widths over the whole table.
// A row of one cell is a heading over the rows that follow it.
type table struct {
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) heading(text string) { t.rows = append(t.rows, []string{text}) }

// write prints the table; headings get an empty line before them.
func (t *table) write(w io.Writer) error {
	var widths []int
	for _, cells := range t.rows {
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if len(cells) > 1 {
				widths[i] = max(widths[i], utf8.RuneCountInString(c))
			}
		}
	}
	out := bufio.NewWriter(w)
	for _, cells := range t.rows {
		if len(cells) == 1 {
			out.WriteString("\n" + cells[0] + "\n") //nolint:errcheck // Flush reports it
			continue
		}
		var line strings.Builder
		for i, c := range cells {
			line.WriteString(c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2))
		}
		out.WriteString(strings.TrimRight(line.String(), " ") + "\n") //nolint:errcheck // Flush reports it
	}
	return out.Flush()
}
