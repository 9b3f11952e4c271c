package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/limit"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

var (
	errMethod   = errors.New("method not allowed")
	errNotFound = errors.New("not found")
	errTooLarge = errors.New("request body too large")
	errBody     = errors.New("request body could not be read")

	errClearKeys = errors.New("the tenant's content keys leave encrypted only")
)

// answerTo turns an error into status and text. What the specification
// words is told in its words; the rest tells the encryptor no more than it
// needs, and the log everything (SX-ERR-41).
func answerTo(err error) (status int, text string) {
	if e, ok := errors.AsType[*speke.Error](err); ok {
		return e.Status, e.Text
	}
	if status, text, ok := packagerAnswer(err); ok {
		return status, text
	}
	if _, ok := errors.AsType[*auth.ThrottledError](err); ok {
		return http.StatusTooManyRequests, limit.TextRequests
	}
	if e, ok := errors.AsType[*limit.Error](err); ok {
		return http.StatusTooManyRequests, e.Text
	}
	switch {
	case errors.Is(err, auth.ErrUnauthenticated), errors.Is(err, tenant.ErrNotFound):
		return http.StatusUnauthorized, "unauthorized" // an unknown tenant looks like a wrong password
	case errors.Is(err, auth.ErrForbidden):
		return http.StatusForbidden, "forbidden"
	case errors.Is(err, errMethod):
		return http.StatusMethodNotAllowed, errMethod.Error()
	case errors.Is(err, errNotFound):
		return http.StatusNotFound, errNotFound.Error()
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge, errTooLarge.Error()
	case errors.Is(err, errBody):
		return http.StatusBadRequest, errBody.Error()
	case errors.Is(err, keystore.ErrUnavailable), errors.Is(err, auth.ErrUnavailable), errors.Is(err, audit.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, keystore.ErrUnavailable.Error()
	default:
		return http.StatusInternalServerError, "internal error"
	}
}

// retryAfter is the time in whole seconds after which a request that was one
// too many may be tried again.
func retryAfter(err error) string {
	wait := time.Second
	if e, ok := errors.AsType[*auth.ThrottledError](err); ok {
		wait = e.After
	}
	if e, ok := errors.AsType[*limit.Error](err); ok {
		wait = e.After
	}
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

// fail answers an error and logs it.
func (s *Server) fail(ctx context.Context, w http.ResponseWriter, r *http.Request, id string, err error) {
	status, text := answerTo(err)
	h := w.Header()
	speke.AnswerHeader(h, r.Header, s.userAgent) // S2-HTTP-13
	h["Content-Type"] = errorType(err)
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noStore
	switch status {
	case http.StatusUnauthorized:
		s.auth.Challenge(h, err)
	case http.StatusTooManyRequests:
		h.Set("Retry-After", retryAfter(err))
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge, http.StatusBadRequest:
		h.Set("Connection", "close") // the rest of the body is not read
	}
	w.WriteHeader(status)
	io.WriteString(w, text) //nolint:errcheck // the client is gone, nothing to do

	s.logRefusal(ctx, r, id, status, err)
}

// logRefusal writes to the log why a request was refused. A URL may hold a
// token, so that the route stands for it.
func (s *Server) logRefusal(ctx context.Context, r *http.Request, id string, status int, err error) {
	level := slog.LevelWarn
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	s.log.LogAttrs(ctx, level, "request refused", slog.String("request_id", id), slog.Int("status", status),
		slog.String("method", r.Method), slog.String("route", r.Pattern), slog.String("remote", s.auth.Remote(r)), slog.String("error", err.Error()))
}
