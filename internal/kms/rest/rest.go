// Package rest is what the key managers with an HTTP API share: bounded
// requests that are repeated while that can help, and tokens that are
// replaced when they expire.
package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"spekeasy/internal/kms"
)

const (
	timeout      = 10 * time.Second // of one attempt
	attempts     = 4
	firstPause   = 100 * time.Millisecond // doubles with every attempt
	longestPause = 5 * time.Second        // that a Retry-After can ask for
	maxAnswer    = 1 << 20
	maxWords     = 300
)

// Answer is an HTTP response, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Decode reads a JSON answer. One that is not JSON came from something else
// than the key manager, a proxy for example, and counts as unavailable.
func (a Answer) Decode(v any) error {
	if err := json.Unmarshal(a.Body, v); err != nil {
		// The error of the decoder is left out: it can quote the answer.
		return fmt.Errorf("%w: answered status %d with something that is not its JSON", kms.ErrUnavailable, a.Status)
	}
	return nil
}

// Into decodes an answer of status 200 into out; of any other, refusal makes
// the error. The body is cleared: it may hold a data key or a token.
func (a Answer) Into(out any, refusal func(Answer) error) error {
	defer clear(a.Body)
	if a.Status != http.StatusOK {
		return refusal(a)
	}
	return a.Decode(out)
}

// Client sends requests to one service.
type Client struct {
	// HTTP is made by [HTTPClient].
	HTTP *http.Client

	// Words returns the service's own explanation in an answer that reports
	// an error, "" when there is none.
	Words func(Answer) string

	// Transient reports answers that are worth a repetition in addition to
	// 429 and all of 5xx. It may be nil.
	Transient func(Answer) bool
}

// Do sends the request that newRequest makes, anew for each attempt since
// signatures and tokens age, and returns an answer that repeating would not
// change, whatever its status. When there is none, the error is a
// [kms.ErrUnavailable], unless ctx was cancelled.
func (c *Client) Do(ctx context.Context, newRequest func(context.Context) (*http.Request, error)) (Answer, error) {
	for attempt := 1; ; attempt++ {
		req, err := newRequest(ctx)
		if err != nil {
			return Answer{}, err
		}
		a, err := c.once(req)
		if err == nil && !c.transient(a) {
			if a.Status >= 300 && a.Status < 400 {
				return Answer{}, fmt.Errorf("%w: %s answered status %d and wants to be asked at %s", kms.ErrUnavailable, req.URL.Host, a.Status, printable(hostOf(a.Header.Get("Location"))))
			}
			return a, nil
		}
		if err == nil {
			err = fmt.Errorf("%w: %s answered status %d: %s", kms.ErrUnavailable, req.URL.Host, a.Status, c.words(a))
		}
		if attempt == attempts || errors.Is(err, errTooLarge) || ctx.Err() != nil {
			return Answer{}, cancelled(ctx, err)
		}
		if ctxErr := pause(ctx, attempt, a.Header); ctxErr != nil {
			return Answer{}, cancelled(ctx, fmt.Errorf("%w; gave up: %w", err, ctxErr))
		}
	}
}

// cancelled replaces an error by the cancellation that led to it, which says
// nothing about the service. A deadline that passed does: it stays.
func cancelled(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return err
}

var errTooLarge = errors.New("answer too large")

func (c *Client) once(req *http.Request) (Answer, error) {
	resp, err := c.HTTP.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL says nothing that the host does not
		}
		return Answer{}, fmt.Errorf("%w: %s: %w", kms.ErrUnavailable, req.URL.Host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %s: reading the answer: %w", kms.ErrUnavailable, req.URL.Host, err)
	}
	if len(body) > maxAnswer {
		return Answer{}, fmt.Errorf("%w: %s: %w: more than %d bytes", kms.ErrUnavailable, req.URL.Host, errTooLarge, maxAnswer)
	}
	return Answer{resp.StatusCode, resp.Header, body}, nil
}

func (c *Client) transient(a Answer) bool {
	return a.Status == http.StatusTooManyRequests || a.Status >= 500 || c.Transient != nil && c.Transient(a)
}

// Explain returns the service's own words in an error answer in a form that
// is safe to log: one short line.
func (c *Client) Explain(a Answer) string {
	if words := c.words(a); words != "" {
		return words
	}
	return "status " + strconv.Itoa(a.Status)
}

func (c *Client) words(a Answer) string { return printable(c.Words(a)) }

// pause waits before the next attempt: exponentially longer, with jitter so
// that many processes do not come back at once, or as the service asks.
func pause(ctx context.Context, attempt int, h http.Header) error {
	d := firstPause << (attempt - 1)
	d = d/2 + rand.N(d/2)
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s > 0 {
		d = min(time.Duration(s)*time.Second, longestPause)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// NewJSON makes a request with a JSON body, or without a body for nil.
func NewJSON(ctx context.Context, method, url string, body any) (*http.Request, error) {
	if body == nil {
		return http.NewRequestWithContext(ctx, method, url, nil)
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	return req, nil
}

// NewForm makes a POST request with a form as its body.
func NewForm(ctx context.Context, url string, form url.Values) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req, nil
}

// HTTPClient returns a copy of h, or of a default for nil, that never follows
// a redirect, which could carry a token elsewhere, and always has a timeout.
func HTTPClient(h *http.Client) *http.Client {
	if h == nil {
		h = &http.Client{Transport: Transport()}
	}
	c := *h
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.Timeout == 0 {
		c.Timeout = timeout
	}
	return &c
}

// Transport returns the transport of the default client.
func Transport() *http.Transport {
	return &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: timeout / 2}).DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: timeout / 2,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     90 * time.Second,
	}
}

// proxy keeps requests for the credentials of this machine away from the
// proxy that the environment names: they mean the machine itself.
func proxy(req *http.Request) (*url.URL, error) {
	host := req.URL.Hostname()
	if ip := net.ParseIP(host); ip != nil && ip.IsLinkLocalUnicast() || host == "metadata.google.internal" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(req)
}

// Endpoint parses the base URL of a service, without the slash at its end.
// Data keys and tokens travel there, so it has to be https unless it is on
// this machine.
func Endpoint(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("not a plain https URL")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname())) {
		return "", fmt.Errorf("%s://%s: must be https", u.Scheme, u.Host)
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// Loopback reports whether a host is this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func hostOf(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "another place"
	}
	return u.Host
}

// printable makes one line of foreign text, without what a terminal obeys.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "..."
	}
	return s
}
