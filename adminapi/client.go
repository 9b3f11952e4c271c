package adminapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client speaks to the admin API of a server. It may be used concurrently.
//
// A method that changes something takes the version that the caller has seen,
// and fails with an [*Error] of status 412 when there is a newer one; version
// 0 stands for any. Requests that make something carry an idempotency key, so
// that the client may send them again when no answer came.
type Client struct {
	Server   string // URL without path, such as http://127.0.0.1:8081
	Name     string // of the admin credential
	Password Secret
	HTTP     *http.Client // http.DefaultClient if nil
}

// Error is an answer that is not a success (RFC 9457).
type Error struct {
	Status    int           `json:"status"`
	Title     string        `json:"title"`
	Detail    string        `json:"detail"`
	Errors    []ErrorDetail `json:"errors"`
	RequestID string        `json:"-"` // as in the server's log and audit log
}

// ErrorDetail says what is wrong with one part of a request.
type ErrorDetail struct {
	Message  string `json:"message"`
	Location string `json:"location"`
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", e.Status, e.Title)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	for _, d := range e.Errors {
		b.WriteString("; " + d.Location + ": " + d.Message)
	}
	return b.String()
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// do sends a request and reads the answer into out, which may be nil.
func (c *Client) do(ctx context.Context, method, path string, header http.Header, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	if method == http.MethodPost {
		header = header.Clone()
		if header == nil {
			header = make(http.Header)
		}
		header.Set("Idempotency-Key", rand.Text())
	}
	err := c.send(ctx, method, path, header, body, out)
	if lost := (*lostError)(nil); errors.As(err, &lost) && ctx.Err() == nil && method != http.MethodPut {
		err = c.send(ctx, method, path, header, body, out)
	}
	return err
}

// lostError is a request without an answer.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

func (c *Client) send(ctx context.Context, method, path string, header http.Header, body []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.Server, "/")+Base+path, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL of the server cannot be understood")
	}
	for name, values := range header {
		r.Header[name] = values
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.SetBasicAuth(c.Name, string(c.Password))
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil {
		return &lostError{err}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return &lostError{fmt.Errorf("%s %s: %w", method, path, err)}
	}
	if answer.StatusCode >= http.StatusBadRequest {
		e := &Error{Status: answer.StatusCode, Title: http.StatusText(answer.StatusCode), RequestID: answer.Header.Get("X-Request-Id")}
		_ = json.Unmarshal(text, e) // it may come from something in between
		e.Status = answer.StatusCode
		return e
	}
	if out == nil || answer.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s %s: the answer is not one of an admin API: %w", method, path, err)
	}
	return nil
}

// seen is the precondition of a change.
func seen(version uint64) http.Header {
	if version == 0 {
		return http.Header{"If-Match": {"*"}}
	}
	return http.Header{"If-Match": {`"` + strconv.FormatUint(version, 10) + `"`}}
}

func (p PageRequest) query(q url.Values) string {
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Cursor != "" {
		q.Set("cursor", p.Cursor)
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func get[T any](ctx context.Context, c *Client, path string) (*T, error) {
	out := new(T)
	if err := c.do(ctx, http.MethodGet, path, nil, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}

func change[T any](ctx context.Context, c *Client, method, path string, header http.Header, in any) (*T, error) {
	out := new(T)
	if err := c.do(ctx, method, path, header, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// All walks the pages of a list.
func All[T any](list func(PageRequest) (*Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for p := (PageRequest{Limit: 500}); ; {
			page, err := list(p)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if p.Cursor = page.Next; p.Cursor == "" {
				return
			}
		}
	}
}

func tenantPath(id string) string { return "/tenants/" + url.PathEscape(id) }

func credentialPath(id, name string) string {
	return tenantPath(id) + "/credentials/" + url.PathEscape(name)
}

// Whoami returns who the client is.
func (c *Client) Whoami(ctx context.Context) (*Who, error) { return get[Who](ctx, c, "/whoami") }

// Health returns how the server is.
func (c *Client) Health(ctx context.Context) (*Health, error) { return get[Health](ctx, c, "/health") }

// Tenants lists tenants, in ascending order of ID.
func (c *Client) Tenants(ctx context.Context, p PageRequest) (*Page[Tenant], error) {
	return get[Page[Tenant]](ctx, c, "/tenants"+p.query(url.Values{}))
}

// Tenant returns one tenant.
func (c *Client) Tenant(ctx context.Context, id string) (*Tenant, error) {
	return get[Tenant](ctx, c, tenantPath(id))
}

// CreateTenant makes a tenant. A seed that the server made up is in the
// answer, and never again.
func (c *Client) CreateTenant(ctx context.Context, t NewTenant) (*Tenant, error) {
	return change[Tenant](ctx, c, http.MethodPost, "/tenants", nil, t)
}

// UpdateTenant replaces the settings of a tenant. The seed of its key source
// stays unless there is one.
func (c *Client) UpdateTenant(ctx context.Context, id string, version uint64, s TenantSettings) (*Tenant, error) {
	return change[Tenant](ctx, c, http.MethodPut, tenantPath(id), seen(version), s)
}

// DeleteTenant deletes a tenant. Its content keys stay.
func (c *Client) DeleteTenant(ctx context.Context, id string, version uint64) error {
	return c.do(ctx, http.MethodDelete, tenantPath(id), seen(version), nil, nil)
}

// Credentials lists a tenant's credentials, in ascending order of name.
func (c *Client) Credentials(ctx context.Context, tenant string, p PageRequest) (*Page[CredentialInfo], error) {
	return get[Page[CredentialInfo]](ctx, c, tenantPath(tenant)+"/credentials"+p.query(url.Values{}))
}

// Credential returns one credential.
func (c *Client) Credential(ctx context.Context, tenant, name string) (*CredentialInfo, error) {
	return get[CredentialInfo](ctx, c, credentialPath(tenant, name))
}

// CreateCredential makes a credential. Its secret is in the answer, and never
// again.
func (c *Client) CreateCredential(ctx context.Context, tenant string, cred Credential) (*CredentialInfo, error) {
	return change[CredentialInfo](ctx, c, http.MethodPost, tenantPath(tenant)+"/credentials", nil, cred)
}

// RotateCredential makes a new secret beside the present one.
func (c *Client) RotateCredential(ctx context.Context, tenant, name string, r Rotation) (*CredentialInfo, error) {
	return change[CredentialInfo](ctx, c, http.MethodPost, credentialPath(tenant, name)+"/rotate", nil, r)
}

// UpdateCredential sets when a credential is good.
func (c *Client) UpdateCredential(ctx context.Context, tenant, name string, version uint64, v Validity) (*CredentialInfo, error) {
	return change[CredentialInfo](ctx, c, http.MethodPut, credentialPath(tenant, name)+"/validity", seen(version), v)
}

// RevokeCredential ends a credential at once and for ever.
func (c *Client) RevokeCredential(ctx context.Context, tenant, name string, version uint64) error {
	return c.do(ctx, http.MethodDelete, credentialPath(tenant, name), seen(version), nil, nil)
}

// Contents lists what content keys of a tenant were asked for; contentID and
// kid choose when they are not empty.
func (c *Client) Contents(ctx context.Context, tenant, contentID, kid string, p PageRequest) (*Page[Use], error) {
	q := url.Values{}
	if contentID != "" {
		q.Set("content_id", contentID)
	}
	if kid != "" {
		q.Set("kid", kid)
	}
	return get[Page[Use]](ctx, c, tenantPath(tenant)+"/contents"+p.query(q))
}

// Keys lists content keys, in ascending order of key ID.
func (c *Client) Keys(ctx context.Context, tenant string, p PageRequest) (*Page[Key], error) {
	return get[Page[Key]](ctx, c, tenantPath(tenant)+"/keys"+p.query(url.Values{}))
}

// Key returns what is known of a content key.
func (c *Client) Key(ctx context.Context, tenant, kid string) (*Key, error) {
	return get[Key](ctx, c, tenantPath(tenant)+"/keys/"+url.PathEscape(kid))
}

// DeleteKeys has content keys refused from now on.
func (c *Client) DeleteKeys(ctx context.Context, tenant string, kids []string) (*Changed, error) {
	return change[Changed](ctx, c, http.MethodPost, tenantPath(tenant)+"/keys/delete", nil, KeyIDs{kids})
}

// UndeleteKeys brings deleted content keys back.
func (c *Client) UndeleteKeys(ctx context.Context, tenant string, kids []string) (*Changed, error) {
	return change[Changed](ctx, c, http.MethodPost, tenantPath(tenant)+"/keys/undelete", nil, KeyIDs{kids})
}

// PurgeKeys destroys the values of keys that were deleted long ago.
func (c *Client) PurgeKeys(ctx context.Context, tenant string, p Purge) (*Purged, error) {
	return change[Purged](ctx, c, http.MethodPost, tenantPath(tenant)+"/keys/purge", nil, p)
}

// ExportKeys returns content keys in clear.
func (c *Client) ExportKeys(ctx context.Context, tenant string, e Export) (*Exported, error) {
	return change[Exported](ctx, c, http.MethodPost, tenantPath(tenant)+"/keys/export", nil, e)
}

// Upstreams lists how the key services behind tenants fare.
func (c *Client) Upstreams(ctx context.Context) (*Page[UpstreamHealth], error) {
	return get[Page[UpstreamHealth]](ctx, c, "/upstreams")
}

// Exchanges lists the latest key requests of a tenant that went upstream, as
// far as the server remembers, the latest first.
func (c *Client) Exchanges(ctx context.Context, tenant string) (*Page[Exchange], error) {
	return get[Page[Exchange]](ctx, c, tenantPath(tenant)+"/exchanges")
}

// Exchange returns one of them.
func (c *Client) Exchange(ctx context.Context, tenant, requestID string) (*Exchange, error) {
	return get[Exchange](ctx, c, tenantPath(tenant)+"/exchanges/"+url.PathEscape(requestID))
}

// Audit returns records of the audit log, oldest first.
func (c *Client) Audit(ctx context.Context, q AuditQuery, p PageRequest) (*Page[AuditRecord], error) {
	v := url.Values{}
	for name, value := range map[string]string{
		"content_id": q.ContentID, "kid": q.KID, "tenant": q.Tenant, "credential": q.Credential, "admin": q.Admin, "request_id": q.RequestID,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		v.Set("until", q.Until.UTC().Format(time.RFC3339Nano))
	}
	if q.Denied {
		v.Set("denied", "true")
	}
	return get[Page[AuditRecord]](ctx, c, "/audit"+p.query(v))
}

// Admins lists the credentials of the API.
func (c *Client) Admins(ctx context.Context, p PageRequest) (*Page[Admin], error) {
	return get[Page[Admin]](ctx, c, "/admins"+p.query(url.Values{}))
}

// CreateAdmin makes a credential of the API. Its password is in the answer,
// and never again.
func (c *Client) CreateAdmin(ctx context.Context, a NewAdmin) (*Admin, error) {
	return change[Admin](ctx, c, http.MethodPost, "/admins", nil, a)
}

// RevokeAdmin ends a credential of the API.
func (c *Client) RevokeAdmin(ctx context.Context, name string, version uint64) error {
	return c.do(ctx, http.MethodDelete, "/admins/"+url.PathEscape(name), seen(version), nil, nil)
}
