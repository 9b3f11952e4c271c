package h1

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

var crlf2 = []byte("\r\n\r\n")

// maxHeaders bounds the header lines of a plain request.
const maxHeaders = 64

// exchange is a request and its answer.
type exchange struct {
	request  *http.Request
	url      url.URL
	body     body
	context  requestContext
	response response
	now      time.Time // when its first bytes had come
}

// body is the body of a request, which is in memory.
type body struct{ bytes.Reader }

func (*body) Close() error { return nil }

// target is a request's target and what it means. An encryptor sends the same
// one with each request.
type target struct {
	text string
	url  url.URL
}

// parse returns the request with this head, and false if it is not of the
// plain form. The head ends with the empty line.
func (c *conn) parse(head []byte) (*exchange, bool) {
	text := string(head)
	line, rest, _ := strings.Cut(text, "\r\n")
	line, ok := strings.CutPrefix(line, "POST ")
	if !ok {
		return nil, false
	}
	uri, ok := strings.CutSuffix(line, " HTTP/1.1")
	if !ok || !c.setTarget(uri) {
		return nil, false
	}
	x := &exchange{url: c.last.url}
	h, length, host, ok := headers(rest)
	if !ok || length < 0 || length > c.listener.maxBody {
		return nil, false
	}
	x.context.Context, x.context.conn = c.base, c
	x.response.conn, x.response.exchange = c, x
	x.request = c.template.WithContext(&x.context)
	x.request.URL, x.request.RequestURI = &x.url, c.last.text
	x.request.Header, x.request.Host = h, host
	x.request.Body, x.request.ContentLength = &x.body, int64(length)
	return x, true
}

// setTarget understands a request's target: an absolute path with a query or
// without, in printable ASCII.
func (c *conn) setTarget(uri string) bool {
	if uri == c.last.text && uri != "" {
		return true
	}
	if !strings.HasPrefix(uri, "/") || strings.HasPrefix(uri, "//") {
		return false
	}
	for i := range len(uri) {
		if uri[i] <= ' ' || uri[i] > '~' || uri[i] == '#' {
			return false
		}
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return false
	}
	c.last = target{strings.Clone(uri), *u}
	return true
}

// headers reads the header lines up to the empty one, and the two that say
// whom the request is for and how long its body is. It reports false for
// whatever changes how a message is read, for lines that are not well-formed,
// and for values beyond printable ASCII.
func headers(text string) (h http.Header, length int, host string, ok bool) {
	n := strings.Count(text, "\r\n") - 1
	if n > maxHeaders {
		return nil, 0, "", false
	}
	h = make(http.Header, n)
	values := make([]string, n)
	length = -1
	for i := 0; ; i++ {
		line, rest, found := strings.Cut(text, "\r\n")
		if line == "" {
			return h, length, host, found && rest == "" && host != ""
		}
		text = rest
		name, value, found := strings.Cut(line, ":")
		if !found || !isToken(name) || i == n {
			return nil, 0, "", false
		}
		value = strings.Trim(value, " \t")
		if !isPrintable(value) {
			return nil, 0, "", false
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		switch name {
		case "Host":
			if host != "" || !isHost(value) {
				return nil, 0, "", false
			}
			host = value
			continue
		case "Content-Length":
			if length >= 0 {
				return nil, 0, "", false
			}
			if length, ok = number(value); !ok {
				return nil, 0, "", false
			}
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return nil, 0, "", false
			}
		case "Transfer-Encoding", "Trailer", "Expect", "Upgrade", "Te", "Pragma", "Http2-Settings":
			return nil, 0, "", false
		}
		if list := h[name]; list != nil {
			h[name] = append(list, value)
			continue
		}
		values[0] = value
		h[name], values = values[:1:1], values[1:]
	}
}

// isToken reports whether s is a header's name (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if (s[i] < ' ' || s[i] > '~') && s[i] != '\t' {
			return false
		}
	}
	return true
}

// isHost reports whether s looks like a host's name or address with or
// without a port; net/http judges others.
func isHost(s string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._:[]", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// number reads a length in bytes.
func number(s string) (n int, ok bool) {
	if s == "" || len(s) > 9 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
