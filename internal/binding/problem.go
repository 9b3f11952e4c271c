package binding

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/limit"
	"spekeasy/internal/tenant"
)

// problem is an error of the API (RFC 9457).
type problem struct {
	Status    int    `json:"status"`
	Title     string `json:"title"`
	Detail    string `json:"detail,omitempty"`
	RequestID string `json:"request_id,omitempty"`
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

func badRequest(format string, args ...any) error {
	return &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &problem{Status: http.StatusNotFound, Detail: fmt.Sprintf(format, args...)}
}

// problemOf turns an error into what the client is told.
func problemOf(err error) (p problem, retry time.Duration) {
	if e, ok := errors.AsType[*problem](err); ok {
		return *e, 0
	}
	if e, ok := errors.AsType[*auth.ThrottledError](err); ok {
		return problem{Status: http.StatusTooManyRequests, Detail: limit.TextRequests}, e.After
	}
	if e, ok := errors.AsType[*limit.Error](err); ok {
		return problem{Status: http.StatusTooManyRequests, Detail: e.Text}, e.After
	}
	switch {
	case errors.Is(err, auth.ErrUnauthenticated), errors.Is(err, tenant.ErrNotFound):
		return problem{Status: http.StatusUnauthorized, Detail: "no credential, or not a good one"}, 0
	case errors.Is(err, auth.ErrForbidden):
		return problem{Status: http.StatusForbidden, Detail: "the credential has not the role " + string(tenant.RoleEntitlement)}, 0
	case errors.Is(err, keystore.ErrPosition):
		return problem{Status: http.StatusGone, Detail: "no such position in the feed any more; begin without one, or with latest"}, 0
	case errors.Is(err, keystore.ErrUnavailable), errors.Is(err, auth.ErrUnavailable),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return problem{Status: http.StatusServiceUnavailable, Detail: keystore.ErrUnavailable.Error()}, time.Second
	}
	return problem{Status: http.StatusInternalServerError}, 0
}

// fail answers an error and logs it.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	p, retry := problemOf(err)
	p.Title, p.RequestID = http.StatusText(p.Status), w.Header().Get("X-Request-Id")
	h := w.Header()
	if p.Status == http.StatusUnauthorized {
		a.auth.Challenge(h, err)
	}
	if retry > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((retry+time.Second-1)/time.Second), 10))
	}
	level := slog.LevelWarn
	if p.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	a.log.LogAttrs(r.Context(), level, "request refused", slog.String("request_id", p.RequestID), slog.Int("status", p.Status),
		slog.String("method", r.Method), slog.String("route", r.Pattern), slog.String("remote", r.RemoteAddr), slog.String("error", err.Error()))
	writeJSON(w, p.Status, "application/problem+json", p)
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}
