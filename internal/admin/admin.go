// Package admin answers the admin API: package adminapi has its types. Each
// operation is one entry of the table in routes.go with the role that it
// takes. A change is recorded in the audit log before it happens, a denial
// before it is told: no record, no change.
package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"spekeasy/adminapi"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// Gate finds out who sent a request. The principal's tenant is the role.
type Gate interface {
	Authenticate(r *http.Request, body []byte) (*auth.Principal, error)
	Challenge(h http.Header, err error)
}

// Records reads the audit log; see [audit.Directory] and [audit.InStore].
type Records interface {
	Read(ctx context.Context, q *audit.Query, after string, yield func(place string, text []byte, r *audit.Record) error) error
}

// Recorder writes the audit log.
type Recorder interface {
	Record(ctx context.Context, r *audit.Record) error
}

// Directory is the tenants and credentials that are served.
type Directory interface {
	// Files returns what the configuration file has.
	Files() (tenants []tenant.Settings, admins []tenant.StoredCredential)

	// Stored returns what was read from the store last.
	Stored() *tenant.Inventory

	// Faults are stored tenants and credentials that cannot be used.
	Faults() []adminapi.Fault

	// Check returns what would be wrong with the store's tenants if they were
	// these.
	Check(stored []tenant.Settings) ([]adminapi.Fault, error)

	// Refresh has what the store has now take effect.
	Refresh(ctx context.Context) error
}

// Options are what an [API] works with.
type Options struct {
	Gate      Gate
	Audit     Recorder
	Directory Directory
	Store     tenant.Store
	Keystore  *keystore.Keystore
	Upstreams Upstreams
	Records   Records // where the audit log is read; nil for nowhere
	Version   string  // of the program
	Now       func() time.Time
	Log       *slog.Logger
}

// API answers the admin API. It is an [http.Handler].
type API struct {
	Options
	vault   *tenant.Vault
	custody *keystore.Custody
	mux     *http.ServeMux
	huma    huma.API
	routes  map[string]*operation // by pattern
	openAPI []byte

	// describe has the operations registered. It is put off until the first
	// request: the schemas take megabytes, and most servers of a cluster never
	// see one.
	describe func() error
}

// New returns the API.
func New(o Options) (*API, error) {
	a := &API{Options: o, vault: tenant.NewVault(o.Keystore), mux: http.NewServeMux(), routes: make(map[string]*operation)}
	var err error
	if a.custody, err = o.Keystore.Custody(); err != nil {
		return nil, err
	}
	a.describe = sync.OnceValue(a.build)
	return a, nil
}

func (a *API) build() (err error) {
	a.huma = humago.New(a.mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "spekeasy admin API", Version: "1",
				Description: "Tenants, their credentials, content keys and the audit log of a spekeasy server.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"basic": {Type: "http", Scheme: "basic", Description: "The name of an admin credential and its password."},
				},
			},
			Security: []map[string][]string{{"basic": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{withoutValues},
	})
	a.register()
	a.openAPI, err = json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	return err
}

// withoutValues takes what was sent out of an error: it may be a secret, and
// the sender knows it.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		for _, e := range m.Errors {
			e.Value = nil
		}
	}
	return v, nil
}

// OpenAPI returns the description of the API, OpenAPI 3.1 in JSON.
func (a *API) OpenAPI() ([]byte, error) {
	err := a.describe()
	return a.openAPI, err
}

// Bounds of a request.
const (
	maxBody = 1 << 20
	timeout = 30 * time.Second
)

// call is one request as its handler sees it.
type call struct {
	api       *API
	admin     string // name of the admin credential
	role      string
	requestID string
	remote    string
	record    audit.Record // of a change, so far
	recorded  bool         // it was written: the change may happen
}

type callKey struct{}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := a.describe(); err != nil {
		http.Error(w, "internal error", http.StatusInternalServerError)
		a.Log.Error("admin API", "error", err)
		return
	}
	if r.URL.Path == "/openapi.json" || r.URL.Path == adminapi.Base+"/openapi.json" {
		h.Set("Content-Type", "application/json")
		w.Write(a.openAPI) //nolint:errcheck // the client is gone, nothing to do
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	c := &call{api: a, requestID: requestID(r), remote: r.RemoteAddr}
	h.Set(headerRequestID, c.requestID)
	out := &answer{Status: http.StatusOK, header: http.Header{}}
	if err := a.serve(ctx, c, out, r); err != nil {
		out.fail(err)
		a.logFailure(c, r, out.Status, err)
		var throttled *auth.ThrottledError
		switch {
		case errors.As(err, &throttled):
			out.header.Set("Retry-After", strconv.Itoa(int(throttled.After/time.Second)+1))
		case out.Status == http.StatusUnauthorized:
			a.Gate.Challenge(out.header, err)
		}
	}
	out.send(w)
}

// serve answers a request into out, or returns an error.
func (a *API) serve(ctx context.Context, c *call, out *answer, r *http.Request) error {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return problem(http.StatusRequestEntityTooLarge, "The request body must not have more than 1 MiB.")
	}
	if err != nil {
		return problem(http.StatusBadRequest, "The request body could not be read.")
	}
	who, err := a.Gate.Authenticate(r, body)
	if err != nil {
		return c.denied(ctx, err)
	}
	c.admin, c.role = who.Credential, who.Tenant
	_, pattern := a.mux.Handler(r)
	op := a.routes[pattern]
	if op == nil {
		return problem(http.StatusNotFound, "There is no such operation.")
	}
	c.record = audit.Record{Event: op.event}
	if rank(c.role) < rank(op.role) {
		return c.denied(ctx, problem(http.StatusForbidden, "This takes the role "+op.role+"."))
	}
	r = r.WithContext(context.WithValue(ctx, callKey{}, c))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	do := func() error {
		a.mux.ServeHTTP(out, r)
		if out.Status < http.StatusBadRequest || op.event == "" {
			return nil
		}
		if err := c.failed(ctx, out.Status, out.detail()); err != nil {
			return err
		}
		return nil
	}
	key := r.Header.Get(headerIdempotency)
	if op.Method != http.MethodPost || key == "" || op.event == audit.KeyExport { // keys in clear are not kept
		return do()
	}
	return a.once(ctx, c, out, key, fingerprint(r, body), do)
}

// rank orders the roles; 0 is none.
func rank(role string) int {
	switch role {
	case adminapi.RoleViewer:
		return 1
	case adminapi.RoleOperator:
		return 2
	case adminapi.RoleSecurityOfficer:
		return 3
	}
	return 0
}

// write records a change that is about to happen. Whoever changes something
// calls it first, with what there is to say.
func (c *call) write(ctx context.Context, r audit.Record) error {
	r.Event, r.Result = c.record.Event, audit.Delivered
	c.record = r
	if err := c.put(ctx, r); err != nil {
		return err
	}
	c.recorded = true
	return nil
}

// failed records a change that was refused, or that failed after it was
// recorded.
func (c *call) failed(ctx context.Context, status int, why string) error {
	r := c.record
	r.Status, r.Error, r.Result = status, why, audit.Refused
	if status >= http.StatusInternalServerError {
		r.Result = audit.Failed
	}
	return c.put(ctx, r)
}

// denied records that somebody may not, and returns why.
func (c *call) denied(ctx context.Context, err error) error {
	r := audit.Record{Event: audit.AdminDenied, Result: audit.Refused, Error: err.Error()}
	if c.record.Event != "" {
		r.Change = c.record.Event
	}
	r.Status, _ = toProblem(err)
	if r.Status >= http.StatusInternalServerError {
		r.Result = audit.Failed
	}
	return errors.Join(c.put(ctx, r), err)
}

func (c *call) put(ctx context.Context, r audit.Record) error {
	r.Admin, r.Role, r.RequestID, r.Remote = c.admin, c.role, c.requestID, c.remote
	return c.api.Audit.Record(context.WithoutCancel(ctx), &r)
}

func (a *API) logFailure(c *call, r *http.Request, status int, err error) {
	level := slog.LevelWarn
	if status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	a.Log.LogAttrs(r.Context(), level, "admin request refused", slog.String("request_id", c.requestID), slog.Int("status", status),
		slog.String("method", r.Method), slog.String("admin", c.admin), slog.String("remote", c.remote), slog.String("error", err.Error()))
}

const (
	headerRequestID   = "X-Request-Id"
	headerIdempotency = "Idempotency-Key"
)

// requestID is the one that the client or a proxy gave, if it can stand in a
// log, or a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(headerRequestID)
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return rand.Text()
		}
	}
	if id == "" || len(id) > 64 {
		return rand.Text()
	}
	return id
}
