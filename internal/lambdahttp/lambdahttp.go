// Package lambdahttp has an [http.Handler] answer the events with which AWS
// Lambda is invoked by API Gateway (REST APIs and HTTP APIs, payload formats
// 1.0 and 2.0), by function URLs and by Application Load Balancers.
//
// Who sent a request is taken from the part of the event that the service
// writes, never from a header.
package lambdahttp

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

// Options are the optional settings of a [Handler]; the zero value works.
type Options struct {
	// BasePath is taken away from the beginning of paths, such as /drm where
	// an API's resource is /drm/{proxy+}. Stages and the base paths of custom
	// domains are taken away without it.
	BasePath string

	Log *slog.Logger // nothing by default
}

// Handler is a handler of aws-lambda-go. It answers one event after the other
// or several at once.
type Handler struct {
	next http.Handler
	base string
	log  *slog.Logger
}

// New returns a handler that has next answer.
func New(next http.Handler, o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Handler{next: next, base: o.BasePath, log: o.Log}
}

// reserve is how long before the function is stopped its requests are told to
// end, so that the client gets an answer.
const reserve = 500 * time.Millisecond

// Invoke answers an event. An error, which Lambda reports as the function's,
// means that the event is not the one of an HTTP request.
func (h *Handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("event: %w", withoutQuote(err))
	}
	k, err := e.kind()
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-reserve))
		defer cancel()
	}
	r, err := e.request(ctx, k, h.base)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	w := &answer{header: make(http.Header)}
	h.serve(w, r)
	return w.encode(k, r.Method, len(e.Headers) > 0)
}

// withoutQuote keeps what the decoder quotes of the event out of the log.
func withoutQuote(err error) error {
	if t, ok := err.(*json.UnmarshalTypeError); ok { //nolint:errorlint // the decoder does not wrap it
		return fmt.Errorf("%s: not of the type %s", t.Field, t.Type)
	}
	return err
}

// serve has the request answered. A panic is a fault of this one request, as
// in net/http; the process goes on. Its stack is not logged: it shows
// arguments, and keys are arguments.
func (h *Handler) serve(w *answer, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		text := fmt.Sprintf("%T", v)
		if e, ok := v.(runtime.Error); ok {
			text = e.Error()
		}
		h.log.Error("panic", "error", text, "request_id", r.Header.Get("X-Request-Id"))
		*w = answer{header: make(http.Header)}
		http.Error(w, "internal error", http.StatusInternalServerError)
	}()
	h.next.ServeHTTP(w, r)
}

// answer is an [http.ResponseWriter] that keeps what is written.
type answer struct {
	header http.Header
	sent   http.Header // as it was when the status was written
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status, a.sent = status, a.header.Clone()
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// result is an answer as the services read it.
type result struct {
	Status      int               `json:"statusCode"`
	Description string            `json:"statusDescription,omitempty"`
	Header      map[string]string `json:"headers,omitempty"`
	Headers     http.Header       `json:"multiValueHeaders,omitempty"`
	Cookies     []string          `json:"cookies,omitempty"`
	Body        string            `json:"body"`
	Base64      bool              `json:"isBase64Encoded"`
}

// encode writes the answer in the form of the event. Load balancers take
// either single or multiple values of headers, as they send them.
func (a *answer) encode(k kind, method string, multiple bool) ([]byte, error) {
	a.WriteHeader(http.StatusOK)
	for _, name := range []string{"Content-Length", "Connection", "Transfer-Encoding"} {
		a.sent.Del(name) // of the connection, which is the service's
	}
	res := result{Status: a.status}
	if k == alb {
		res.Description = fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	}
	if k == payload2 {
		res.Cookies = a.sent.Values("Set-Cookie")
		a.sent.Del("Set-Cookie")
	}
	if k == payload1 || k == alb && multiple {
		res.Headers = a.sent
	} else {
		res.Header = make(map[string]string, len(a.sent))
		for name, values := range a.sent {
			res.Header[name] = strings.Join(values, ", ")
		}
	}
	if method != http.MethodHead {
		if body := a.body.Bytes(); isText(a.sent.Get("Content-Type")) && utf8.Valid(body) {
			res.Body = string(body)
		} else if len(body) > 0 {
			res.Body, res.Base64 = base64.StdEncoding.EncodeToString(body), true
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // XML would be six times as long
	err := enc.Encode(res)
	return out.Bytes(), err
}

// isText reports whether a body of this type can go as it is; everything else
// goes as base64 (SX-HTTP-07).
func isText(contentType string) bool {
	t, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	t = strings.TrimSpace(t)
	return strings.HasPrefix(t, "text/") || strings.HasSuffix(t, "/xml") || strings.HasSuffix(t, "/json") ||
		strings.HasSuffix(t, "+xml") || strings.HasSuffix(t, "+json")
}
