package vendorsim

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"spekeasy/drm"
	"spekeasy/internal/xmltree"
)

// insys is Insys Cloud DRM (drm.cloud).
//
// Public: /kms/speke?tenantId=GUID, and another URL for SPEKE 2; OAuth with
// grant type and scope in the query, an empty body and Basic with client ID
// and secret; a header X-API-KEY, or Basic, instead; Widevine, PlayReady and
// FairPlay only; answers of CPIX 2.3 declare the namespace of SPEKE 1.0;
// errors in JSON.
//
// Ours: the path of SPEKE 2, the lifetime of tokens, the scope, the refusal
// of content key encryption, and the codes of errors.
type insys struct {
	*Server
	auth            Auth
	tenant          string
	login, password string // of Basic; client ID and secret of OAuth
	apiKey          string
	v1, v2          []drm.System

	mu     sync.Mutex
	tokens map[string]time.Time // when each ends
}

const (
	insysV1    = "/kms/speke"
	insysV2    = "/kms/speke2"
	insysToken = "/oauth/token"
	insysScope = "kms.speke"
)

func newInsys(s *Server) (vendor, error) {
	v := &insys{
		Server: s, auth: s.o.Auth, tenant: s.secret("tenant"), login: s.secret("client"), password: s.secret("client secret"),
		apiKey: s.secret("api key"), tokens: make(map[string]time.Time),
	}
	switch v.auth {
	case "":
		v.auth = OAuth
	case OAuth, APIKey, Basic:
	default:
		return nil, fmt.Errorf("vendor %s knows no way in %q", Insys, v.auth)
	}
	v1, v2, err := systemsOf(drm.Settings{})
	v.v1, v.v2 = bigThree(v1), bigThree(v2)
	return v, err
}

func (v *insys) upstream(up *Upstream) {
	up.V1.Path, up.V1.RawQuery, up.Auth = insysV1, "tenantId="+v.tenant, v.auth
	switch v.auth {
	case APIKey:
		up.Secret = v.apiKey
	case OAuth:
		up.TokenURL, up.Scope = up.V1.ResolveReference(&url.URL{Path: insysToken}), insysScope
		fallthrough
	default:
		up.User, up.Secret = v.login, v.password
	}
}

func (v *insys) routes(mux *http.ServeMux) {
	mux.HandleFunc("POST "+insysV1, v.handler(true))
	mux.HandleFunc("POST "+insysV2, v.handler(false))
	mux.HandleFunc("POST "+insysToken, v.token)
}

// token issues a token. What a form in the body would say is refused, as
// parameters belong into the query here.
func (v *insys) token(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	q := r.URL.Query()
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case v.auth != OAuth || !hasBasic(r, v.login, v.password):
		w.Header().Set("WWW-Authenticate", `Basic realm="drm.cloud"`)
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
	case err != nil || len(body) > 0:
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": "parameters are expected in the query"})
	case q.Get("grant_type") != "client_credentials":
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
	case q.Get("scope") != insysScope:
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_scope"})
	default:
		var b [16]byte
		if _, err := io.ReadFull(v.o.Random, b[:]); err != nil {
			writeJSON(w, http.StatusInternalServerError, map[string]any{"error": "server_error"})
			return
		}
		token := hex.EncodeToString(b[:])
		v.issue(token)
		writeJSON(w, http.StatusOK, map[string]any{
			"access_token": token, "token_type": "Bearer", "expires_in": int(v.o.TokenLifetime / time.Second), "scope": insysScope,
		})
	}
}

func (v *insys) issue(token string) {
	now := v.o.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for t, end := range v.tokens {
		if !now.Before(end) {
			delete(v.tokens, t)
		}
	}
	v.tokens[token] = now.Add(v.o.TokenLifetime)
}

func (v *insys) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.tokens)
}

// admits reports whether the request may ask for keys.
func (v *insys) admits(r *http.Request) bool {
	switch v.auth {
	case APIKey:
		return same(r.Header.Get("X-API-KEY"), v.apiKey)
	case Basic:
		return hasBasic(r, v.login, v.password)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	v.mu.Lock()
	defer v.mu.Unlock()
	end, known := v.tokens[token]
	return ok && known && v.o.Now().Before(end)
}

func (v *insys) refuse(w http.ResponseWriter, status int, text string) {
	code := "drm_4002"
	switch {
	case status == http.StatusUnauthorized:
		code = "common_401"
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case status >= http.StatusInternalServerError:
		code = "common_3"
	}
	writeJSON(w, status, map[string]any{"code": code, "status": status, "message": text, "requestId": v.secret("request")[:8]})
}

func (v *insys) handler(v1 bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !v.admits(r):
			v.refuse(w, http.StatusUnauthorized, "Unauthorized")
			return
		case r.URL.Query().Get("tenantId") != v.tenant:
			v.refuse(w, http.StatusForbidden, "Unknown tenant")
			return
		}
		body, err := v.answer(r, v1)
		if err != nil {
			v.fail(w, err)
			return
		}
		answerHeader(w, r, "drm.cloud (simulated)")
		w.Write(body) //nolint:errcheck // an answer in the making takes all
	}
}

func (v *insys) answer(r *http.Request, v1 bool) ([]byte, error) {
	o, err := readOrder(r)
	if err != nil {
		return nil, err
	}
	switch {
	case v1 != o.v1 || o.version == "2.1":
		return nil, refuse(http.StatusBadRequest, "Unsupported SPEKE version")
	case len(o.doc.DeliveryData) > 0:
		return nil, refuse(http.StatusBadRequest, "Content key encryption is not supported")
	}
	if err := v.fill(o); err != nil {
		return nil, err
	}
	if v1 {
		return o.echo(v.v1, nil)
	}
	body, err := o.echo(v.v2, nil)
	if err != nil {
		return nil, err
	}
	return declareV1(body)
}

// declareV1 declares the namespace of SPEKE 1.0 on the root.
func declareV1(body []byte) ([]byte, error) {
	doc, err := xmltree.Parse(string(body))
	if err != nil {
		return nil, err
	}
	if doc.Prefixes()["speke"] {
		return body, nil
	}
	edits := doc.Edit(1)
	edits.AddAttr(doc.Root(), "xmlns:speke", "urn:aws:amazon:com:speke")
	return edits.AppendTo(nil)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // an answer in the making takes all
}
