package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
)

// maxTokenRequest bounds a request for a token.
const maxTokenRequest = 16 << 10

// oauthRoutes are our own token endpoint and the key that its tokens are
// verified with. They are there for tenants with OAuth clients.
func oauthRoutes() []Route {
	return []Route{
		{Method: http.MethodPost, Path: "/oauth/token", MaxBody: maxTokenRequest, Timeout: requestTimeout, handle: (*Server).issueToken},
		{Method: http.MethodGet, Path: "/oauth/jwks", handle: (*Server).tokenKeys},
		{Method: http.MethodGet, Path: "/.well-known/jwks.json", handle: (*Server).tokenKeys},
	}
}

// issueToken answers as RFC 6749, 5 wants it; its errors are JSON too.
func (s *Server) issueToken(ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte) error {
	if !s.auth.IssuesTokens() {
		return errNotFound
	}
	token, err := s.auth.Token(r, body)
	rec := &audit.Record{Event: audit.TokenIssue, RequestID: w.Header().Get(headerRequestID), Remote: s.auth.Remote(r)}
	if refused, ok := errors.AsType[*auth.TokenError](err); ok {
		rec.Result, rec.Status, rec.Error = audit.Refused, refused.Status, err.Error()
		if err := s.audit.Record(ctx, rec); err != nil {
			return err
		}
		if refused.Status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="spekeasy"`)
		}
		writeJSON(w, refused.Status, refused)
		s.logRefusal(ctx, r, w.Header().Get(headerRequestID), refused.Status, err)
		return nil
	}
	if err != nil {
		return err
	}
	rec.Result, rec.Tenant, rec.Credential = audit.Delivered, token.Tenant, token.Credential
	if err := s.audit.Record(ctx, rec); err != nil {
		return err // no record, no token
	}
	writeJSON(w, http.StatusOK, token)
	return nil
}

func (s *Server) tokenKeys(_ context.Context, w http.ResponseWriter, _ *http.Request, _ []byte) error {
	if !s.auth.IssuesTokens() {
		return errNotFound
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "max-age=300")
	_, _ = w.Write(s.auth.JWKS()) // an error means that the client is gone
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h["X-Content-Type-Options"] = noSniff
	h["Cache-Control"] = noStore
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}
