package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress tells how far a long command has come: as a bar on a terminal,
// else as a line now and then.
type progress struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	next     time.Time
	drawn    bool
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, terminal: isTerminal(w), every: 10 * time.Second}
	if p.terminal {
		p.every = 100 * time.Millisecond
	}
	p.next = time.Now().Add(p.every)
	return p
}

// show tells what is done, as a share between 0 and 1, or less than 0 when
// the whole is not known.
func (p *progress) show(share float64, text string) {
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(p.every)
	switch {
	case !p.terminal && share < 0:
		fmt.Fprintln(p.w, text)
	case !p.terminal:
		fmt.Fprintf(p.w, "%3.0f %%  %s\n", 100*share, text)
	case share < 0:
		fmt.Fprintf(p.w, "\r\x1b[K%s", text)
	default:
		const width = 30
		full := min(width, int(width*share))
		fmt.Fprintf(p.w, "\r\x1b[K[%s%s] %3.0f %%  %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), 100*share, text)
	}
	p.drawn = p.terminal
}

// done makes room for what is printed next.
func (p *progress) done() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// counted reads and counts.
type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

// count is a number of things in English.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
