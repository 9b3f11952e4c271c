package playback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// call is one request of a player.
type call struct {
	r     *http.Request
	body  []byte
	grant *grant
	rec   *audit.Record
}

// answer is what a player gets.
type answer struct {
	contentType string
	body        []byte
}

// route is one entry of the surface for players.
type route struct {
	method, path string
	maxBody      int64
	handle       func(*Service, context.Context, *call) (*answer, error)
}

// License challenges are some kB, with client information at most some 100.
const (
	maxClearKey  = 16 << 10
	maxChallenge = 512 << 10
)

func routes() []route {
	return []route{
		{http.MethodPost, "/license/clearkey", maxClearKey, (*Service).clearKeyLicense},
		{http.MethodGet, "/client/{contentId}/{kid}", 0, (*Service).hlsKey},
		{http.MethodPost, "/license/widevine", maxChallenge, (*Service).widevineLicense},
		{http.MethodPost, "/license/playready", maxChallenge, (*Service).playReadyLicense},
		{http.MethodPost, "/license/fairplay", maxChallenge, (*Service).fairPlayLicense},
		{http.MethodGet, "/license/fairplay/certificate", 0, (*Service).fairPlayCertificate},
	}
}

// callTimeout bounds a call, that of a license service with it.
const callTimeout = 20 * time.Second

// Handlers returns the handlers for players, by the patterns of their paths.
func (s *Service) Handlers() map[string]http.Handler {
	all := make(map[string]http.Handler)
	for _, rt := range routes() {
		all[rt.path] = s.handler(rt)
	}
	return all
}

func (s *Service) handler(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		// Any page may ask: what opens is the token, which no browser adds by
		// itself, and the token says from which origins (D-405).
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "X-Request-Id")
		switch r.Method {
		case http.MethodOptions:
			h.Set("Access-Control-Allow-Methods", rt.method)
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, SOAPAction")
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
		case rt.method:
			s.serve(ctx, w, r, &rt)
		default:
			h.Set("Allow", rt.method+", OPTIONS")
			s.fail(w, r, refuse(http.StatusMethodNotAllowed, "method not allowed"))
		}
	})
}

// serve answers one call: who asks, for what, the record, the license.
func (s *Service) serve(ctx context.Context, w http.ResponseWriter, r *http.Request, rt *route) {
	c := &call{r: r, rec: &audit.Record{
		Event: audit.License, RequestID: w.Header().Get("X-Request-Id"), Remote: r.RemoteAddr, Profile: rt.path,
	}}
	a, err := s.respond(ctx, w, c, rt)
	if err == nil {
		c.rec.Result = audit.Delivered
		err = s.Audit.Record(ctx, c.rec) // no record, no license
	} else if failure := s.recordRefusal(ctx, c.rec, err); failure != nil {
		err = failure
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.Write(a.body) //nolint:errcheck // the player is gone and will ask again
}

func (s *Service) respond(ctx context.Context, w http.ResponseWriter, c *call, rt *route) (*answer, error) {
	var err error
	if rt.maxBody > 0 {
		c.body, err = io.ReadAll(http.MaxBytesReader(w, c.r.Body, rt.maxBody))
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, refuse(http.StatusRequestEntityTooLarge, "request body too large")
		}
		if err != nil {
			return nil, &Error{Status: http.StatusBadRequest, Text: "request body could not be read", why: err}
		}
	}
	if c.grant, err = s.authorize(ctx, c.r, c.body); c.grant != nil {
		c.rec.Tenant, c.rec.Credential = c.grant.tenant.ID, c.grant.credential
	}
	if err != nil {
		return nil, err
	}
	return rt.handle(s, ctx, c)
}

// recordRefusal records that a call ends in an error.
func (s *Service) recordRefusal(ctx context.Context, rec *audit.Record, err error) error {
	rec.Error, rec.Protection = err.Error(), ""
	rec.Status, _ = answerTo(err)
	rec.Result = audit.Refused
	if rec.Status >= http.StatusInternalServerError {
		rec.Result = audit.Failed
	}
	if failure := s.Audit.Record(context.WithoutCancel(ctx), rec); failure != nil {
		return fmt.Errorf("%w; it was to record status %d: %s", failure, rec.Status, rec.Error)
	}
	return nil
}

// answerTo turns an error into status and text.
func answerTo(err error) (int, string) {
	if errors.Is(err, audit.ErrUnavailable) {
		return http.StatusServiceUnavailable, "temporarily unavailable"
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Status, e.Text
	}
	if _, ok := errors.AsType[*auth.ThrottledError](err); ok {
		return http.StatusTooManyRequests, "too many failed attempts"
	}
	switch {
	case errors.Is(err, auth.ErrUnauthenticated), errors.Is(err, tenant.ErrNotFound):
		return http.StatusUnauthorized, "unauthorized"
	case errors.Is(err, auth.ErrForbidden):
		return http.StatusForbidden, "forbidden"
	case errors.Is(err, keystore.ErrUnavailable), errors.Is(err, auth.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "temporarily unavailable"
	}
	return http.StatusInternalServerError, "internal error"
}

// fail answers an error and logs it. The URL may hold a token, so that the
// route stands for it.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, text := answerTo(err)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="spekeasy playback"`)
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		h.Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge:
		h.Set("Connection", "close") // the rest of the body is not read
	}
	w.WriteHeader(status)
	io.WriteString(w, text) //nolint:errcheck // the player is gone
	level := slog.LevelWarn
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	s.Log.LogAttrs(r.Context(), level, "player refused", slog.String("request_id", h.Get("X-Request-Id")), slog.Int("status", status),
		slog.String("method", r.Method), slog.String("route", r.Pattern), slog.String("remote", r.RemoteAddr), slog.String("error", err.Error()))
}
