// Package server is the HTTP front of the key server: the listener's limits,
// authentication, and the one path that a key request takes through speke, a
// key provider and back.
package server

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/packager"
	"spekeasy/internal/requestid"
	"spekeasy/internal/telemetry"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// Provider answers a key request that passed all checks. Refusals that the
// encryptor should hear are a [*speke.Error].
type Provider interface {
	Provide(ctx context.Context, t *tenant.Tenant, req *speke.Request) (*speke.Answer, error)
}

// Tenants finds a tenant by its ID; the error is [tenant.ErrNotFound].
type Tenants interface {
	Tenant(ctx context.Context, id string) (*tenant.Tenant, error)
}

// Authenticator finds out who sent a request; it is [auth.Authenticator]
// behind whatever changes its credentials meanwhile.
type Authenticator interface {
	Authenticate(r *http.Request, body []byte) (*auth.Principal, error)
	Challenge(h http.Header, err error)
	CheckRecipients(who *auth.Principal, recipients []*x509.Certificate) error
	IssuesTokens() bool
	Remote(r *http.Request) string
	JWKS() []byte
	Token(r *http.Request, body []byte) (*auth.Token, error)
}

// Recorder writes the audit log. When it returns an error, which wraps
// [audit.ErrUnavailable], no key leaves.
type Recorder interface {
	Record(ctx context.Context, r *audit.Record) error
}

// Server answers key requests. It is an [http.Handler].
type Server struct {
	auth      Authenticator
	tenants   Tenants
	provider  Provider
	audit     Recorder
	packagers *packager.Provider // nil for none
	userAgent string
	log       *slog.Logger
	observer  Observer          // nil for nobody
	tracer    *telemetry.Tracer // nil follows what others ask for
	mux       *http.ServeMux
	fixed     map[string]http.HandlerFunc // routes whose path has no wildcard, as mux would find them
	bodies    sync.Pool                   // of *bytes.Buffer
	answers   sync.Pool                   // of *[]byte
}

// New returns a server. userAgent names the key provider in answers
// (S2-HTTP-11).
func New(a Authenticator, tenants Tenants, p Provider, rec Recorder, userAgent string, log *slog.Logger) *Server {
	s := &Server{auth: a, tenants: tenants, provider: p, audit: rec, userAgent: userAgent, log: log, mux: http.NewServeMux(), fixed: make(map[string]http.HandlerFunc)}
	s.bodies.New = func() any { return new(bytes.Buffer) }
	s.answers.New = func() any { return new([]byte) }
	for _, route := range Routes() {
		h := s.handler(route)
		s.mux.HandleFunc(route.Path, h)
		if !strings.ContainsAny(route.Path, "{") && !strings.HasSuffix(route.Path, "/") {
			s.fixed[route.Path] = h
		}
	}
	s.mux.HandleFunc("/", s.handler(Route{handle: func(*Server, context.Context, http.ResponseWriter, *http.Request, []byte) error { return errNotFound }}))
	return s
}

// Mount gives the paths of a pattern to another handler, which finds the
// request's ID in the header of its answer.
func (s *Server) Mount(pattern string, h http.Handler) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		w.Header()[headerRequestID] = []string{requestID(r)}
		h.ServeHTTP(w, r)
	})
}

// Health serves the probes of load balancers and orchestrators, which bring
// no credential and are told no more than whether all is well.
func (s *Server) Health(live, ready http.Handler) {
	s.mux.Handle("/livez", live)
	s.mux.Handle("/readyz", ready)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := s.fixed[r.URL.Path]; h != nil && r.URL.RawPath == "" {
		r.Pattern = r.URL.Path
		h(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// handler puts the parts around a route that are the same for all: request
// ID, bounded body, time limit, and the one place where errors become
// answers.
func (s *Server) handler(route Route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r)
		w.Header()[headerRequestID] = []string{id}
		var ctx context.Context
		var limit *timeLimit
		if route.Timeout > 0 {
			limit = newTimeLimit(r.Context(), route.Timeout, id)
			defer limit.release()
			ctx = limit
			s.begin(limit, &route, r)
		} else {
			ctx = requestid.With(r.Context(), id)
		}
		buf := s.bodies.Get().(*bytes.Buffer)
		defer s.bodies.Put(buf)
		buf.Reset()
		err := route.allow(w, r)
		if err == nil {
			err = readBody(buf, w, r, route.MaxBody)
		}
		if err == nil {
			err = route.handle(s, ctx, w, r, buf.Bytes())
		}
		if err != nil && route.Audited && !errors.Is(err, errMethod) {
			err = s.recordRefusal(ctx, r, id, err)
		}
		if err != nil {
			if route.ErrorHeader != "" {
				_, text := answerTo(err)
				w.Header()[route.ErrorHeader] = []string{text}
			}
			s.fail(ctx, w, r, id, err)
		}
		if limit != nil {
			s.end(limit, &route, err)
		}
	}
}

// allow refuses methods other than the route's.
func (route *Route) allow(w http.ResponseWriter, r *http.Request) error {
	if r.Method == route.Method || route.Method == "" || r.Method == http.MethodHead && route.Method == http.MethodGet {
		return nil
	}
	allowed := route.Method
	if allowed == http.MethodGet {
		allowed = "GET, HEAD"
	}
	w.Header().Set("Allow", allowed)
	return errMethod
}

// maxTrusted is how much memory a body gets for announcing its length; the
// rest it gets as it comes.
const maxTrusted = 64 << 10

// readBody reads the whole body, since some credentials cover it with a
// signature. A body that is too long is [errTooLarge] and one that breaks off
// is [errBody].
func readBody(buf *bytes.Buffer, w http.ResponseWriter, r *http.Request, limit int64) error {
	if limit == 0 {
		return nil
	}
	if r.ContentLength > limit {
		return errTooLarge
	}
	body := r.Body
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, maxTrusted)) + bytes.MinRead)
	} else {
		body = http.MaxBytesReader(w, body, limit)
	}
	_, err := buf.ReadFrom(body)
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return errTooLarge
	}
	if err != nil {
		return errors.Join(errBody, err)
	}
	return nil
}

// answerKeys handles every key request: who asks, what is asked, the keys,
// the record, the answer. Nothing is created before the request has been
// validated as a whole.
func (s *Server) answerKeys(ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte) error {
	return s.answerVendor(ctx, w, r, body, nil)
}

// answerVendor is answerKeys for a route that is used to more than SPEKE.
func (s *Server) answerVendor(ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte, v *vendor) (err error) {
	rec := &audit.Record{Event: audit.KeyRequest, RequestID: w.Header().Get(headerRequestID), Remote: s.auth.Remote(r)}
	defer func() {
		if err != nil {
			err = &refusal{err, rec}
		}
	}()
	who, err := s.encryptor(r, body, rec)
	if err != nil {
		return err
	}
	t, err := s.tenants.Tenant(ctx, who.Tenant)
	if err != nil {
		return err
	}
	noted := note(ctx)
	noted.class = t.Class
	if who, t, err = v.apply(r, who, t); err != nil {
		return err
	}
	rec.Brand = who.Brand
	pass, err := t.Gate.Enter(who.Credential)
	if err != nil {
		return err
	}
	defer pass.Leave()
	branded, err := t.Brands[who.Brand].Enter("")
	if err != nil {
		return err
	}
	defer branded.Leave()
	req, err := speke.ParseRequest(r.Header, body, &t.Policy)
	if err != nil {
		return err
	}
	noted.profile = req.Profile.String()
	rec.Profile, rec.Scheme, rec.ContentID = req.Profile.String(), req.Scheme.String(), req.ContentID
	if t.RefuseClear && !req.Encrypted() {
		return speke.EncryptionError(errClearKeys)
	}
	if who.Sealed {
		recipients, err := req.Recipients()
		if err != nil {
			return err
		}
		if err := s.auth.CheckRecipients(who, recipients); err != nil {
			return err
		}
	}
	room := s.answers.Get().(*[]byte)
	defer s.answers.Put(room)
	req.Room = *room
	answer, err := s.provider.Provide(ctx, t, req)
	if err != nil {
		rec.KIDs = req.KIDs()
		return err
	}
	if cap(answer.Body) > cap(*room) && cap(answer.Body) <= maxRoom {
		*room = answer.Body[:0]
	}
	setDelivered(rec, req, answer)
	if err := s.audit.Record(ctx, rec); err != nil {
		return err // no record, no keys
	}
	if s.log.Enabled(ctx, slog.LevelDebug) || answer.Created > 0 {
		s.log.LogAttrs(ctx, logLevel(answer), "keys delivered", slog.String("request_id", w.Header().Get(headerRequestID)),
			slog.Attr{Value: who.LogValue()}, slog.String("profile", req.Profile.String()),
			slog.String("content_id", audit.Clip(req.ContentID)), slog.Any("kids", firstOf(answer.KIDs)), slog.Int("keys", len(answer.KIDs)), slog.Int("created", answer.Created))
	}
	h := w.Header()
	speke.AnswerHeader(h, r.Header, cmp.Or(answer.UserAgent, s.userAgent))
	h["Content-Type"] = contentTypeXML
	h["Content-Length"] = []string{strconv.Itoa(len(answer.Body))}
	h["Cache-Control"] = noStore
	_, err = w.Write(answer.Body)
	if err != nil {
		// The keys are stored; the encryptor will ask again.
		s.log.LogAttrs(ctx, slog.LevelWarn, "answer not delivered", slog.String("request_id", h.Get(headerRequestID)),
			slog.String("tenant", t.ID), slog.String("error", err.Error()))
	}
	return nil
}

// firstOf bounds a line of the log; the audit log has all.
func firstOf(kids []contentkey.KID) []contentkey.KID { return kids[:min(len(kids), 8)] }

// maxRoom is how much memory of an answer, in bytes, is kept for the next.
const maxRoom = 256 << 10

// encryptor finds out who asks for keys, and whether they may. Every way to a
// key begins here.
func (s *Server) encryptor(r *http.Request, body []byte, rec *audit.Record) (*auth.Principal, error) {
	who, err := s.auth.Authenticate(r, body)
	if err != nil {
		return nil, err
	}
	rec.Tenant, rec.Credential = who.Tenant, who.Credential
	if !who.Encryptor {
		return nil, fmt.Errorf("the credential has not the role %s: %w", tenant.RoleEncryptor, auth.ErrForbidden)
	}
	return who, nil
}

func logLevel(a *speke.Answer) slog.Level {
	if a.Created > 0 {
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

// heartbeat answers v1's check of the connection with one fixed line
// (S1-HB-02, -04).
func (s *Server) heartbeat(_ context.Context, w http.ResponseWriter, r *http.Request, _ []byte) error {
	speke.AnswerHeader(w.Header(), r.Header, s.userAgent)
	w.Header()["Content-Type"] = contentTypeText
	w.Header()["Cache-Control"] = noStore
	io.WriteString(w, "key provider is available\n") //nolint:errcheck // the client is gone, nothing to do
	return nil
}

// Header values that are the same for every answer. They are shared slices:
// net/http does not change them.
var (
	contentTypeXML  = []string{speke.ContentType}
	contentTypeText = []string{"text/plain; charset=utf-8"}
	noStore         = []string{"no-store"}
	noSniff         = []string{"nosniff"}
)
