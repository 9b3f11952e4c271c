package admin

import (
	"context"
	"errors"
	"net/http"

	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// problemError is an error for the client (RFC 9457). huma sends it as it is.
type problemError struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func problem(status int, detail string) *problemError {
	return &problemError{Title: http.StatusText(status), Status: status, Detail: detail}
}

func (p *problemError) Error() string { return p.Detail }

// GetStatus implements huma.StatusError.
func (p *problemError) GetStatus() int { return p.Status }

// ContentType implements huma.ContentTypeFilter.
func (p *problemError) ContentType(string) string { return "application/problem+json" }

// Texts of problems that several operations have.
const (
	textUnauthenticated = "The credential is missing, wrong or expired."
	textUnavailable     = "The store, the key manager or the audit log cannot be used now. Nothing is known about whether something was changed; look before trying again."
	textChanged         = "It was changed meanwhile: read it again and decide anew."
	textNoMatch         = "If-Match is required: send the ETag that you have read."
)

// toProblem is the one place where errors become answers. What is not known
// here is nobody's business but the log's.
func toProblem(err error) (int, *problemError) {
	p, ok := errors.AsType[*problemError](err)
	switch {
	case errors.Is(err, audit.ErrUnavailable), errors.Is(err, keystore.ErrUnavailable), errors.Is(err, auth.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		p = problem(http.StatusServiceUnavailable, textUnavailable)
	case ok:
	case errors.As(err, new(*auth.ThrottledError)):
		p = problem(http.StatusTooManyRequests, "Too many failed attempts.")
	case errors.Is(err, auth.ErrUnauthenticated):
		p = problem(http.StatusUnauthorized, textUnauthenticated)
	case errors.Is(err, tenant.ErrChanged):
		p = problem(http.StatusPreconditionFailed, textChanged)
	case errors.Is(err, tenant.ErrExists):
		p = problem(http.StatusConflict, "The name is taken, perhaps by something that was deleted.")
	case errors.Is(err, tenant.ErrAbsent):
		p = problem(http.StatusNotFound, "There is no such thing.")
	case errors.Is(err, keystore.ErrNotFound):
		p = problem(http.StatusNotFound, "There is no such content key; nothing was changed.")
	case errors.Is(err, keystore.ErrPurged):
		p = problem(http.StatusConflict, "A content key was purged; nothing was changed.")
	case errors.Is(err, keystore.ErrDeleted):
		p = problem(http.StatusConflict, "A content key is deleted.")
	default:
		p = problem(http.StatusInternalServerError, "Internal error; the server's log says more.")
	}
	return p.Status, p
}
