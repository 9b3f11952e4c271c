package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/packager"
	"spekeasy/internal/tenant"
	"spekeasy/internal/widevine"
	"spekeasy/speke"
)

// WithPackagers has the server answer packagers too, on paths of their own.
// It is to be called before the first request.
func (s *Server) WithPackagers(p *packager.Provider) *Server {
	s.packagers = p
	for _, route := range packagerRoutes() {
		s.mux.HandleFunc(route.Path, s.handler(route))
	}
	return s
}

// packaging is a protocol of packagers.
type packaging struct {
	profile     string
	contentType []string

	// tenant finds the wildcard of the path that names the tenant, as the
	// URLs of such services do; the credential must agree.
	tenant part

	answer func(p *packager.Provider, ctx context.Context, t *tenant.Tenant, r *http.Request, body []byte) (*packager.Answer, error)
	refuse func(error) error // puts a refusal into the protocol's words; nil leaves it
}

// maxPackagerRequest bounds the requests of packagers, which say little.
const maxPackagerRequest = 64 << 10

// packagerRoutes are the paths under which packagers ask.
func packagerRoutes() []Route {
	route := func(method, path string, p *packaging) Route {
		return Route{Method: method, Path: path, MaxBody: maxPackagerRequest, Timeout: requestTimeout, Audited: true, handle: p.handle}
	}
	return []Route{
		route(http.MethodPost, auth.WidevinePath+"getcontentkey/{provider}", getContentKey),
		route(http.MethodPost, "/playready/packaging/{tenant}", acquirePackagingData),
		route(http.MethodGet, "/cpix/content/{content...}", cpixByContent),
		{Method: http.MethodPost, Path: "/cpix", MaxBody: MaxBody, Timeout: requestTimeout, Audited: true, handle: (*Server).answerCPIX},
	}
}

// The protocols of packagers.
var (
	getContentKey = &packaging{
		profile: packager.ProfileWidevine, contentType: contentTypeJSON, tenant: inPath("provider"),
		answer: func(p *packager.Provider, ctx context.Context, t *tenant.Tenant, _ *http.Request, body []byte) (*packager.Answer, error) {
			e, err := widevine.ParseEnvelope(body) // the authenticator has seen it, unless the client came by other means
			if err != nil {
				return nil, &widevine.Error{Status: widevine.MalformedRequest, Cause: err}
			}
			return p.Widevine(ctx, t, e.Request)
		},
		refuse: refuseWidevine,
	}

	acquirePackagingData = &packaging{
		profile: packager.ProfilePlayReady, contentType: []string{"text/xml; charset=utf-8"}, tenant: inPath("tenant"),
		answer: func(p *packager.Provider, ctx context.Context, t *tenant.Tenant, r *http.Request, body []byte) (*packager.Answer, error) {
			scheme, err := schemeInQuery(r)
			if err != nil {
				return nil, err
			}
			return p.PlayReady(ctx, t, body, scheme)
		},
	}

	cpixByContent = &packaging{
		profile: packager.ProfileCPIX, contentType: contentTypeXML, tenant: inQuery("tenant"),
		answer: func(p *packager.Provider, ctx context.Context, t *tenant.Tenant, r *http.Request, _ []byte) (*packager.Answer, error) {
			scheme, err := schemeInQuery(r)
			if err != nil {
				return nil, err
			}
			query := r.URL.Query()
			ask := &packager.CPIXRequest{
				ContentID: r.PathValue("content"), Scheme: scheme,
				Labels: tenant.Labels(query.Get("labels")), Period: query.Get("period"),
			}
			if list := query.Get("systems"); list != "" {
				ask.Systems = strings.Split(list, ",")
			}
			return p.CPIX(ctx, t, ask)
		},
	}
)

// schemeInQuery is the common encryption scheme that the packager will use,
// where its protocol has no place for it; cenc by default.
func schemeInQuery(r *http.Request) (contentkey.Scheme, error) {
	switch name := r.URL.Query().Get("scheme"); name {
	case "", "cenc":
		return contentkey.Cenc, nil
	case "cbcs":
		return contentkey.Cbcs, nil
	default:
		return 0, &packager.Refused{Reason: "the scheme is neither cenc nor cbcs"}
	}
}

// answerCPIX answers a CPIX request document as SPEKE v2 has it, from clients
// that know CPIX and not SPEKE's headers.
func (s *Server) answerCPIX(ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte) error {
	if r.Header.Get(speke.HeaderVersion) == "" {
		r.Header.Set(speke.HeaderVersion, "2.0")
	}
	return s.answerKeys(ctx, w, r, body)
}

var contentTypeJSON = []string{"application/json"}

// refuseWidevine answers whoever is not known with the one word that the
// protocol has for it (D-503). Whoever has failed too often hears 429.
func refuseWidevine(err error) error {
	if _, ok := errors.AsType[*auth.ThrottledError](err); ok {
		return err
	}
	switch {
	case errors.Is(err, auth.ErrUnauthenticated), errors.Is(err, tenant.ErrNotFound):
		return &widevine.Error{Status: widevine.SignatureFailed, Cause: err}
	case errors.Is(err, auth.ErrForbidden):
		return &widevine.Error{Status: widevine.AccessDenied, Cause: err}
	}
	return err
}

// handle is the path of a packager's request: who asks, the keys, the record,
// the answer. It is that of [Server.answerKeys] but for the protocol.
func (p *packaging) handle(s *Server, ctx context.Context, w http.ResponseWriter, r *http.Request, body []byte) error {
	if r.Method == http.MethodHead { // which elsewhere goes with GET, and would make keys for nobody
		w.Header().Set("Allow", http.MethodGet)
		return errMethod
	}
	rec := &audit.Record{Event: audit.KeyRequest, RequestID: w.Header().Get(headerRequestID), Remote: s.auth.Remote(r), Profile: p.profile}
	answer, err := p.ask(s, ctx, r, body, rec)
	if err == nil {
		err = s.audit.Record(ctx, rec) // no record, no keys
	}
	if err != nil {
		if p.refuse != nil {
			err = p.refuse(err)
		}
		return &refusal{err, rec}
	}
	if answer.Created > 0 || s.log.Enabled(ctx, slog.LevelDebug) {
		level := slog.LevelDebug
		if answer.Created > 0 {
			level = slog.LevelInfo
		}
		s.log.LogAttrs(ctx, level, "keys delivered", slog.String("request_id", rec.RequestID), slog.String("tenant", rec.Tenant),
			slog.String("credential", rec.Credential), slog.String("profile", p.profile), slog.String("content_id", audit.Clip(answer.ContentID)),
			slog.Any("kids", firstOf(answer.KIDs)), slog.Int("keys", len(answer.KIDs)), slog.Int("created", answer.Created))
	}
	h := w.Header()
	h["Content-Type"] = p.contentType
	h["Content-Length"] = []string{strconv.Itoa(len(answer.Body))}
	h["Cache-Control"] = noStore
	if _, err := w.Write(answer.Body); err != nil {
		// The keys are stored; the packager will ask again.
		s.log.LogAttrs(ctx, slog.LevelWarn, "answer not delivered", slog.String("request_id", rec.RequestID),
			slog.String("tenant", rec.Tenant), slog.String("error", err.Error()))
	}
	return nil
}

// ask finds out who asks and gets the answer; rec is told what is known by
// then.
func (p *packaging) ask(s *Server, ctx context.Context, r *http.Request, body []byte, rec *audit.Record) (*packager.Answer, error) {
	who, err := s.encryptor(r, body, rec)
	if err != nil {
		return nil, err
	}
	t, err := s.tenants.Tenant(ctx, who.Tenant)
	if err != nil {
		return nil, err
	}
	noted := note(ctx)
	noted.class, noted.profile = t.Class, p.profile
	if name := p.tenant(r); name != "" && !t.Named(name) {
		return nil, fmt.Errorf("the path names a tenant other than its credential's, %s: %w", t.ID, auth.ErrForbidden)
	}
	// These protocols give keys in clear.
	if t.RefuseClear {
		return nil, fmt.Errorf("%w: %w", errClearKeys, auth.ErrForbidden)
	}
	if err := s.auth.CheckRecipients(who, nil); err != nil {
		return nil, err
	}
	pass, err := t.Gate.Enter(who.Credential)
	if err != nil {
		return nil, err
	}
	defer pass.Leave()
	answer, err := p.answer(s.packagers, ctx, t, r, body)
	if err != nil {
		return nil, err
	}
	rec.Result, rec.Created, rec.Protection, rec.KIDs = audit.Delivered, answer.Created, audit.Clear, answer.KIDs
	rec.ContentID, rec.Scheme = answer.ContentID, answer.Scheme.String()
	return answer, nil
}

// packagerAnswer is answerTo for the refusals of packagers' protocols.
func packagerAnswer(err error) (status int, text string, ok bool) {
	if e, is := errors.AsType[*widevine.Error](err); is {
		body, err := widevine.Refusal(e.Status)
		return http.StatusOK, string(body), err == nil // the status is in the body (D-525)
	}
	if e, is := errors.AsType[*packager.Refused](err); is {
		return http.StatusUnprocessableEntity, e.Reason, true
	}
	return 0, "", false
}

// statusInWords is the HTTP status that a refusal would have had whose protocol
// puts it into the body. It is for counting.
func statusInWords(err error) int {
	e, ok := errors.AsType[*widevine.Error](err)
	switch {
	case ok && e.Status == widevine.SignatureFailed:
		return http.StatusUnauthorized
	case ok && e.Status == widevine.AccessDenied:
		return http.StatusForbidden
	default:
		return http.StatusUnprocessableEntity
	}
}

// errorType is the Content-Type of an answer to an error.
func errorType(err error) []string {
	if _, ok := errors.AsType[*widevine.Error](err); ok {
		return contentTypeJSON
	}
	return contentTypeText
}
