package encryptor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode"
)

// Limits of a [Client] that sets none. An answer with 20 keys and 4 systems
// stays below 300 kB.
const (
	DefaultTimeout   = 20 * time.Second
	DefaultMaxAnswer = 8 << 20 // bytes
)

// Client sends key requests to one key provider. It follows no redirect,
// since credentials and keys belong to the address that was configured. A
// Client may be used by several goroutines.
type Client struct {
	URL  string                    // where key requests are posted
	HTTP *http.Client              // http.DefaultClient if nil; its CheckRedirect is not used
	Auth func(*http.Request) error // adds credentials, see [Basic] and [Header]; may be nil and may use GetBody

	Timeout   time.Duration // of a whole exchange; 0 is [DefaultTimeout]
	MaxAnswer int64         // bytes of a body; 0 is [DefaultMaxAnswer]
}

// Basic returns an Auth for HTTP Basic authentication (SX-AUTH-06).
func Basic(user, password string) func(*http.Request) error {
	return func(r *http.Request) error {
		r.SetBasicAuth(user, password)
		return nil
	}
}

// Header returns an Auth that sets one header, such as an API key or a
// static Authorization (SX-AUTH-04).
func Header(name, value string) func(*http.Request) error {
	return func(r *http.Request) error {
		r.Header.Set(name, value)
		return nil
	}
}

// Response is an HTTP answer as it came.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // may hold content keys
}

// StatusError is an answer that is not a CPIX document: an error of the key
// provider or something that is none of SPEKE's. An encryptor stops at it and
// does not try another version (S2-ERR-05).
type StatusError struct {
	Status      int
	ContentType string

	// Text is the body of an error, which in SPEKE is one line such as
	// "Missing CPIX@contentId". It is cut at 4 kB and has no control
	// characters. With status 200 it is empty, since the body could hold keys.
	Text string
}

func (e *StatusError) Error() string {
	if e.Status == http.StatusOK {
		return fmt.Sprintf("key provider answered 200 with content type %q, want %s", e.ContentType, contentType)
	}
	text := fmt.Sprintf("key provider answered %d", e.Status)
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// ErrTooLarge reports an answer beyond [Client].MaxAnswer.
var ErrTooLarge = errors.New("answer too large")

// Do sends a request and reads the answer, which is not checked yet. The
// error is a [*StatusError] for anything but status 200 with XML (SX-ERR-01,
// S2-ERR-02), [ErrTooLarge], an error of the context or the connection, or one
// of [ReadAnswer].
func (c *Client) Do(ctx context.Context, r *Request) (*Answer, error) {
	res, err := c.Send(ctx, r.Header, r.Body)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if res.Status != http.StatusOK || media != contentType && media != "text/xml" {
		return nil, statusError(res)
	}
	return ReadAnswer(r, res.Header, res.Body)
}

// Send posts any body with any headers and returns what comes back, whatever
// it is: for requests that a key provider ought to refuse.
func (c *Client) Send(ctx context.Context, header http.Header, body []byte) (*Response, error) {
	return c.exchange(ctx, http.MethodPost, c.URL, header, body)
}

// Heartbeat asks the key provider of SPEKE v1 whether it is there, at the
// address beside the URL whose last part is "heartbeat", and returns its
// message (S1-HB-01, -02).
func (c *Client) Heartbeat(ctx context.Context) (string, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", fmt.Errorf("key provider URL: %w", withoutURL(err))
	}
	u.Path, u.RawPath, u.RawQuery = path.Join("/", path.Dir(u.Path), "heartbeat"), "", ""
	res, err := c.exchange(ctx, http.MethodGet, u.String(), nil, nil)
	if err != nil {
		return "", err
	}
	if res.Status != http.StatusOK {
		return "", statusError(res)
	}
	return printable(res.Body), nil
}

func (c *Client) exchange(ctx context.Context, method, to string, header http.Header, body []byte) (*Response, error) {
	timeout, limit := c.Timeout, c.MaxAnswer
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if limit <= 0 {
		limit = DefaultMaxAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("key request: %w", withoutURL(err))
	}
	if header != nil {
		req.Header = header.Clone()
	}
	if c.Auth != nil {
		if err := c.Auth(req); err != nil {
			return nil, fmt.Errorf("key request credentials: %w", err)
		}
	}
	res, err := c.client().Do(req)
	if err != nil {
		return nil, fmt.Errorf("key request: %w", withoutURL(err))
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("key provider's answer: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return &Response{Status: res.StatusCode, Header: res.Header, Body: data}, nil
}

// client is the configured client without redirects.
func (c *Client) client() *http.Client {
	client := http.Client{}
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func statusError(res *Response) *StatusError {
	e := &StatusError{Status: res.Status, ContentType: res.Header.Get("Content-Type")}
	if res.Status != http.StatusOK {
		e.Text = printable(res.Body)
	}
	return e
}

// printable returns a body as one line for people and logs.
func printable(b []byte) string {
	const most = 4 << 10
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), most)]), "?")))
}

// withoutURL takes the URL out of an error, since tokens can stand in its
// query.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
