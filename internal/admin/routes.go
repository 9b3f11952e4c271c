package admin

import (
	"context"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"spekeasy/adminapi"
	"spekeasy/internal/audit"
)

// operation is one entry of the API's surface.
type operation struct {
	Method, Path string
	id, summary  string
	role         string // that it takes, or one above
	event        string // of a change, in the audit log; "" for what only reads
	status       int    // of success; 200 if zero
}

const (
	viewer   = adminapi.RoleViewer
	operator = adminapi.RoleOperator
	officer  = adminapi.RoleSecurityOfficer
)

// register makes the surface; this is the whole of it.
func (a *API) register() {
	const (
		get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete

		tenants     = "/tenants"
		oneTenant   = "/tenants/{tenant}"
		credentials = "/tenants/{tenant}/credentials"
		credential  = "/tenants/{tenant}/credentials/{credential}"
		keys        = "/tenants/{tenant}/keys"
		exchanges   = "/tenants/{tenant}/exchanges"
	)
	handle(a, operation{get, "/whoami", "whoami", "Who you are", viewer, "", 0}, (*call).whoami)
	handle(a, operation{get, "/health", "health", "How the server is", viewer, "", 0}, (*call).health)

	handle(a, operation{get, tenants, "list-tenants", "List tenants", viewer, "", 0}, (*call).listTenants)
	handle(a, operation{post, tenants, "create-tenant", "Make a tenant", operator, audit.TenantCreate, 201}, (*call).createTenant)
	handle(a, operation{get, oneTenant, "show-tenant", "Show a tenant", viewer, "", 0}, (*call).showTenant)
	handle(a, operation{put, oneTenant, "update-tenant", "Replace a tenant's settings", operator, audit.TenantUpdate, 0}, (*call).updateTenant)
	handle(a, operation{del, oneTenant, "delete-tenant", "Delete a tenant; its content keys stay", officer, audit.TenantDelete, 204}, (*call).deleteTenant)

	handle(a, operation{get, credentials, "list-credentials", "List a tenant's credentials", viewer, "", 0}, (*call).listCredentials)
	handle(a, operation{post, credentials, "create-credential", "Make a credential; its secret is shown this once", operator, audit.CredentialCreate, 201}, (*call).createCredential)
	handle(a, operation{get, credential, "show-credential", "Show a credential", viewer, "", 0}, (*call).showCredential)
	handle(a, operation{post, credential + "/rotate", "rotate-credential", "Make a new secret beside the present one, which ends after a while", operator, audit.CredentialRotate, 201}, (*call).rotateCredential)
	handle(a, operation{put, credential + "/validity", "update-credential", "Set when a credential is good", operator, audit.CredentialUpdate, 0}, (*call).updateCredential)
	handle(a, operation{del, credential, "revoke-credential", "Revoke a credential at once", operator, audit.CredentialRevoke, 204}, (*call).revokeCredential)

	handle(a, operation{get, "/tenants/{tenant}/contents", "list-contents", "List what content keys were asked for", viewer, "", 0}, (*call).listContents)
	handle(a, operation{get, keys, "list-keys", "List content keys, without values", viewer, "", 0}, (*call).listKeys)
	handle(a, operation{get, keys + "/{kid}", "show-key", "Show a content key, without its value", viewer, "", 0}, (*call).showKey)
	handle(a, operation{post, keys + "/delete", "delete-keys", "Refuse content keys from now on", operator, audit.KeyDelete, 0}, (*call).deleteKeys)
	handle(a, operation{post, keys + "/undelete", "undelete-keys", "Bring deleted content keys back", operator, audit.KeyUndelete, 0}, (*call).undeleteKeys)
	handle(a, operation{post, keys + "/purge", "purge-keys", "Destroy the values of keys that were deleted long ago", officer, audit.KeyPurge, 0}, (*call).purgeKeys)
	handle(a, operation{post, keys + "/export", "export-keys", "Read content keys in clear", officer, audit.KeyExport, 0}, (*call).exportKeys)

	handle(a, operation{get, "/upstreams", "list-upstreams", "List how upstreams fare", viewer, "", 0}, (*call).listUpstreams)
	handle(a, operation{get, exchanges, "list-exchanges", "List a tenant's latest key requests that went upstream", operator, "", 0}, (*call).listExchanges)
	handle(a, operation{get, exchanges + "/{requestId}", "show-exchange", "Show what became of a key request that went upstream", operator, "", 0}, (*call).showExchange)

	handle(a, operation{get, "/audit", "query-audit", "Find records of the audit log, oldest first", viewer, "", 0}, (*call).queryAudit)

	handle(a, operation{get, "/admins", "list-admins", "List the credentials of this API", officer, "", 0}, (*call).listAdmins)
	handle(a, operation{post, "/admins", "create-admin", "Make a credential of this API; its password is shown this once", officer, audit.AdminCreate, 201}, (*call).createAdmin)
	handle(a, operation{del, "/admins/{admin}", "revoke-admin", "Revoke a credential of this API", officer, audit.AdminRevoke, 204}, (*call).revokeAdmin)
}

// handle adds an operation. Its input and output are those of huma.
func handle[I, O any](a *API, op operation, f func(*call, context.Context, *I) (*O, error)) {
	op.Path = adminapi.Base + op.Path
	a.routes[op.Method+" "+op.Path] = &op
	errors := []int{400, 401, 403, 404, 422, 429, 500, 503}
	if op.event != "" {
		errors = append(errors, 409, 412, 428)
	}
	description := "Takes the role " + op.role + "."
	if op.event != "" {
		description += " Recorded in the audit log as " + op.event + "."
	}
	if op.Method == http.MethodPost {
		description += " With an Idempotency-Key header, repeating the request gives the answer of the first one for 24 hours."
	}
	huma.Register(a.huma, huma.Operation{
		Method: op.Method, Path: op.Path, OperationID: op.id, Summary: op.summary, Description: description,
		DefaultStatus: op.status, MaxBodyBytes: maxBody, BodyReadTimeout: -1, Errors: errors,
		Parameters: idempotencyParameter(op.Method),
	}, func(ctx context.Context, in *I) (*O, error) {
		c := ctx.Value(callKey{}).(*call)
		out, err := f(c, ctx, in)
		if err != nil {
			_, p := toProblem(err)
			a.Log.WarnContext(ctx, "admin request refused", "request_id", c.requestID, "status", p.Status, "operation", op.id, "admin", c.admin, "error", err)
			return nil, p
		}
		return out, nil
	})
}

func idempotencyParameter(method string) []*huma.Param {
	if method != http.MethodPost {
		return nil
	}
	longest := maxIdempotency
	return []*huma.Param{{
		Name: headerIdempotency, In: "header", Schema: &huma.Schema{Type: "string", MaxLength: &longest},
		Description: "Made up by the client; the same key with the same request does it once.",
	}}
}

// PageInput asks for a page of a list.
type PageInput struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Items on a page."`
	Cursor string `query:"cursor" maxLength:"1024" doc:"next of the page before."`
}

// after returns the position that the cursor stands for.
func (p *PageInput) after() (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	position, ok := strings.CutPrefix(string(b), "1:")
	if err != nil || !ok {
		return "", problem(http.StatusBadRequest, "The cursor is not one that was given by this list.")
	}
	return position, nil
}

// cursor is what clients see of a position; "" stays "".
func cursor(position string) string {
	if position == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte("1:" + position))
}

// Match is the precondition of a change.
type Match struct {
	IfMatch string `header:"If-Match" doc:"The ETag that was read, or *."`
}

// holds reports whether a version is the one that the client has seen.
func (m *Match) holds(version uint64) error {
	switch m.IfMatch {
	case "":
		return problem(http.StatusPreconditionRequired, textNoMatch)
	case "*", etag(version):
		return nil
	}
	return problem(http.StatusPreconditionFailed, textChanged)
}

func etag(version uint64) string {
	if version == 0 {
		return ""
	}
	return `"` + strconv.FormatUint(version, 10) + `"`
}

// body is an answer.
type body[T any] struct{ Body T }

// tagged is an answer with the version of what it shows.
type tagged[T any] struct {
	ETag string `header:"ETag"`
	Body T
}

func (c *call) whoami(context.Context, *struct{}) (*body[adminapi.Who], error) {
	return &body[adminapi.Who]{adminapi.Who{Name: c.admin, Role: c.role}}, nil
}

func (c *call) health(ctx context.Context, _ *struct{}) (*body[adminapi.Health], error) {
	h := adminapi.Health{Status: "ok", Version: c.api.Version, Stored: len(c.api.Directory.Stored().Tenants), Faults: c.api.Directory.Faults()}
	if _, err := c.api.Store.Revision(ctx); err != nil {
		h.Status = "unavailable"
	}
	return &body[adminapi.Health]{h}, nil
}
