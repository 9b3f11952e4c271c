package h1

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// response writes one answer. An answer that is written at once with its
// length announced goes out from the handler's memory; others are gathered.
type response struct {
	conn     *conn
	exchange *exchange
	header   http.Header // as the handler has it
	final    http.Header // as it was when the handler said the status
	status   int         // 0 until then
	length   int         // announced; -1 if it was not
	body     []byte
	sent     bool
	last     bool // the connection ends after it
	err      error
}

func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header, 8)
	}
	return w.header
}

// WriteHeader settles the status and the headers. Informational ones are left
// out, and a second one is ignored.
func (w *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if w.status == 0 && status >= 200 {
		w.settle(status)
		w.final = w.header.Clone()
	}
}

func (w *response) settle(status int) {
	w.final, w.status, w.length = w.Header(), status, -1
	if v := w.header["Content-Length"]; len(v) == 1 {
		if n, ok := number(v[0]); ok {
			w.length = n
			return
		}
	}
	delete(w.header, "Content-Length")
}

// Write takes a part of the body, and sends it if it is the whole.
func (w *response) Write(p []byte) (int, error) {
	implied := w.status == 0
	if implied {
		w.settle(http.StatusOK)
	}
	switch {
	case w.err != nil:
		return 0, w.err
	case !hasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length == len(p) && !w.sent:
		if w.err = w.send(p); w.err != nil {
			return 0, w.err
		}
		return len(p), nil
	case w.length >= 0 && (w.sent || len(w.body)+len(p) > w.length):
		w.last = true // the handler is wrong, and the client must not wait for the rest
		return 0, http.ErrContentLength
	}
	if implied {
		w.final = w.header.Clone()
	}
	w.body = append(w.body, p...)
	return len(p), nil
}

// hasBody reports whether an answer of this status may have a body (RFC 9110,
// 6.4.1).
func hasBody(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// finish sends what the handler left to be sent.
func (w *response) finish() error {
	if w.status == 0 {
		w.settle(http.StatusOK)
	}
	if w.sent || w.err != nil {
		return w.err
	}
	if w.length < 0 && hasBody(w.status) {
		w.final["Content-Length"] = []string{strconv.Itoa(len(w.body))}
	}
	w.err = w.send(w.body)
	if w.length > len(w.body) {
		w.last = true // more was announced
	}
	return w.err
}

// send writes the answer's head and its body.
func (w *response) send(body []byte) error {
	w.sent = true
	c := w.conn
	w.appendHead(body)
	if now := w.exchange.now; now.Sub(c.writeBy) > deadlineStep {
		c.net.SetWriteDeadline(deadline(now, c.listener.server.WriteTimeout)) //nolint:errcheck // writing will fail as well
		c.writeBy = now
	}
	c.vector = [2][]byte{c.head, body}
	c.unsent = c.vector[:]
	_, err := c.unsent.WriteTo(c.net) // one write for both
	c.vector, c.unsent = [2][]byte{}, nil
	return err
}

// appendHead makes the answer's head in the connection's memory.
func (w *response) appendHead(body []byte) {
	c, h := w.conn, w.final
	if h["Date"] == nil {
		h["Date"] = c.listener.dates.at(w.exchange.now)
	}
	if _, set := h["Content-Type"]; !set && len(body) > 0 && h["Content-Encoding"] == nil {
		h["Content-Type"] = []string{http.DetectContentType(body)}
	}
	delete(h, "Transfer-Encoding") // the length is known
	if v := h["Connection"]; len(v) == 1 && strings.EqualFold(v[0], "close") {
		w.last = true
	}
	select {
	case <-c.listener.closed:
		w.last = true
	default:
	}
	if w.last {
		h["Connection"] = []string{"close"}
	}
	b := append(c.head[:0], "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(w.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(w.status)...)
	b = append(b, "\r\n"...)
	var room [16]string
	names := room[:0]
	for name := range h {
		if isToken(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // the same answer is the same bytes
	for _, name := range names {
		for _, value := range h[name] {
			b = append(b, name...)
			b = append(b, ": "...)
			b = appendValue(b, value)
			b = append(b, "\r\n"...)
		}
	}
	c.head = append(b, "\r\n"...)
}

// appendValue appends a header's value. A line break in it must not begin
// another header, or another answer.
func appendValue(b []byte, value string) []byte {
	value = strings.Trim(value, " \t")
	from := len(b)
	b = append(b, value...)
	for i := from; i < len(b); i++ {
		if b[i] == '\r' || b[i] == '\n' {
			b[i] = ' '
		}
	}
	return b
}
