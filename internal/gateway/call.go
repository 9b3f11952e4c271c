package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// question is one request to an upstream.
type question struct {
	profile   speke.Profile
	body      string // the document; not sent with GET
	contentID string
	kid       contentkey.KID // of its first content key
}

// reply is an answer with status 200.
type reply struct {
	header http.Header
	body   []byte
}

// urlTemplate is an address with the query that goes with every request.
type urlTemplate struct {
	fixed *url.URL // the address, if it is the same for all requests
	text  string   // else its template, with what is the same already filled in
}

func newURLTemplate(text string, s *upstream.Settings, tenant string) (urlTemplate, error) {
	for _, name := range sortedKeys(s.Query) {
		value := string(s.Query[name])
		switch value {
		case "{contentId}", "{kid}", "{tenant}":
		default:
			value = url.QueryEscape(value)
		}
		separator := "?"
		if strings.Contains(text, "?") {
			separator = "&"
		}
		text += separator + url.QueryEscape(name) + "=" + value
	}
	fixed := true
	text = upstream.Expand(text, func(placeholder string) string {
		switch placeholder {
		case "tenant":
			return tenant
		case "token":
			return string(s.Auth.Token)
		}
		fixed = false
		return "\x00" + placeholder
	})
	if !fixed {
		return urlTemplate{text: text}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return urlTemplate{}, errors.New("url: cannot be read")
	}
	return urlTemplate{fixed: u}, nil
}

func sortedKeys(m map[string]upstream.Secret) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (t *urlTemplate) of(q *question) (*url.URL, error) {
	if t.fixed != nil {
		u := *t.fixed
		return &u, nil
	}
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	u, err := url.Parse(strings.NewReplacer("%00contentId", escape(q.contentID), "%00kid", q.kid.String()).Replace(t.text))
	if err != nil {
		return nil, errors.New("address cannot be made") // the parser's error would quote it
	}
	return u, nil
}

// request makes the HTTP request without credentials.
func (s *source) request(ctx context.Context, q *question) (*http.Request, error) {
	u, err := s.urlOf(q.profile).of(q)
	if err != nil {
		return nil, err
	}
	r := (&http.Request{
		Method: s.set.Method, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 8),
	}).WithContext(ctx)
	r.Header["Accept"] = []string{"application/xml, text/xml"}
	r.Header["User-Agent"] = []string{"spekeasy"}
	if q.profile != speke.V10 {
		r.Header[speke.HeaderVersion] = []string{q.profile.String()}
	}
	if s.set.Method == http.MethodPost {
		r.Header["Content-Type"] = []string{s.set.ContentType}
		r.ContentLength = int64(len(q.body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(q.body)), nil }
		r.Body, _ = r.GetBody()
	}
	return r, nil
}

// call is one HTTP exchange. The token that it used is returned for the case
// that it was refused.
func (s *source) call(ctx context.Context, q *question, refused string) (*reply, string, *Fault) {
	if ctx.Err() != nil {
		return nil, "", gone(ctx)
	}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.set.Timeout))
	defer cancel()
	r, err := s.request(ctx, q)
	if err != nil {
		return nil, "", unsupported("the content ID does not fit into its address")
	}
	body := q.body
	if r.Body == nil {
		body = ""
	}
	token, err := s.creds.apply(ctx, r, body, refused)
	if err != nil {
		return nil, "", s.noToken(parent, ctx, err)
	}
	// A kept connection that the other end has closed meanwhile is replaced.
	// The same request has the same answer (SX-SEQ-16), so that is safe; the
	// empty value is for the transport and not sent.
	r.Header["X-Idempotency-Key"] = nil
	res, err := s.transport.RoundTrip(r) //nolint:bodyclose // readBody closes it. Not a client: no redirect, and no error that quotes the URL
	if err != nil {
		return nil, token, s.network(parent, ctx, err)
	}
	b, err := readBody(res)
	if errors.Is(err, errTooLong) {
		return nil, token, &Fault{Kind: NotCPIX, Sentence: "it answered more than a CPIX document can be", Status: res.StatusCode}
	}
	if err != nil {
		f := s.network(parent, ctx, err)
		if f.Kind == Connection || f.Kind == Interrupted {
			f.Kind, f.Sentence, f.again = Interrupted, "its answer broke off", false
		}
		return nil, token, f
	}
	if res.StatusCode != http.StatusOK {
		return nil, token, s.status(res, b)
	}
	return &reply{header: res.Header, body: b}, token, nil
}

// maxAnswer bounds an answer. Twenty keys for four systems stay below 300 kB.
const maxAnswer = 4 << 20

var errTooLong = errors.New("answer too long")

// readBody reads an answer to its end, within bounds, and closes it.
func readBody(res *http.Response) ([]byte, error) {
	defer func() { _ = res.Body.Close() }()
	if res.ContentLength > maxAnswer {
		return nil, errTooLong
	}
	var b []byte
	if res.ContentLength > 0 {
		b = make([]byte, 0, res.ContentLength+1)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := res.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > maxAnswer:
			return nil, errTooLong
		case err == io.EOF:
			return b, nil
		case err != nil:
			return nil, err
		}
	}
}

// noToken is the fault of a request whose credentials are not to be had.
func (s *source) noToken(parent, ctx context.Context, err error) *Fault {
	if parent.Err() != nil {
		return gone(parent)
	}
	f := &Fault{Kind: Credentials, Sentence: "no access token could be got for it", Words: s.red.line([]byte(err.Error()), maxWords), down: true}
	if ctx.Err() != nil {
		f.Kind, f.Sentence = Timeout, "its token endpoint did not answer in time"
	}
	return f
}

// network is the fault of a connection.
func (s *source) network(parent, ctx context.Context, err error) *Fault {
	if parent.Err() != nil {
		return gone(parent)
	}
	f := &Fault{Kind: Interrupted, Sentence: "the connection to it broke", Words: s.red.line([]byte(err.Error()), maxWords), down: true}
	var timeout net.Error
	var dial *net.OpError
	switch {
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		f.Kind, f.Sentence = Timeout, "it did not answer in time"
	case errors.As(err, &dial) && dial.Op == "dial":
		f.Kind, f.Sentence, f.again = Connection, "it cannot be reached", true // nothing was sent
	}
	return f
}

const maxWords = 500 // bytes of somebody else's words in logs and records

// vendorError is where Axinom says what was wrong.
const vendorError = "X-AxDRM-ErrorMessage"

// status is the fault of an answer with another status than 200.
func (s *source) status(res *http.Response, body []byte) *Fault {
	words := s.red.line(body, maxWords)
	if h := res.Header.Get(vendorError); h != "" {
		words = strings.TrimSpace(s.red.line([]byte(h), maxWords) + " " + words)
	}
	f := &Fault{Kind: Refused, Status: res.StatusCode, Words: words, Sentence: fmt.Sprintf("it answered with status %d", res.StatusCode)}
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		f.Kind, f.Sentence = Credentials, fmt.Sprintf("it does not accept our credential (status %d)", res.StatusCode)
	case res.StatusCode == http.StatusTooManyRequests:
		f.Kind, f.Sentence = Busy, "it is asked too often (status 429)"
	case res.StatusCode >= 500:
		f.Kind, f.down = Broken, true
		switch res.StatusCode {
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			f.again = true
		}
	case res.StatusCode >= 300 && res.StatusCode < 400:
		f.Sentence = fmt.Sprintf("it answered with a redirection (status %d), which is not followed", res.StatusCode)
	case res.StatusCode >= 400:
		if text := strings.TrimSpace(string(body)); len(text) < maxWords && speke.IsSpecified(text) {
			f.passOn = text
		}
	}
	return f
}
