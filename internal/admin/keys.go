package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"spekeasy/adminapi"
	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
)

// keyStore is what reading keys takes of the store.
type keyStore interface {
	keystore.Store
	keystore.Pager
}

// keys returns the store's other side; each store of documents is one of keys.
func (a *API) keys() keyStore { return a.Store.(keyStore) }

func keyView(r *keystore.Record) adminapi.Key {
	k := adminapi.Key{
		KID: r.KID.String(), State: adminapi.KeyLive, Source: r.Source, ContentID: r.ContentID, Scheme: r.Scheme.String(),
		Created: r.Created, Deleted: r.Deleted, DataKey: r.DataKey,
	}
	switch {
	case r.Purged():
		k.State = adminapi.KeyPurged
	case !r.Deleted.IsZero():
		k.State = adminapi.KeyDeleted
	}
	return k
}

func (c *call) listKeys(ctx context.Context, in *struct {
	TenantPath
	PageInput
}) (*body[adminapi.Page[adminapi.Key]], error) {
	after, err := c.position(ctx, in.Tenant, &in.PageInput)
	if err != nil {
		return nil, err
	}
	if _, err := contentkey.ParseKID(after); after != "" && err != nil {
		return nil, problem(http.StatusBadRequest, "The cursor is not one that was given by this list.")
	}
	records, next, err := c.api.keys().PageKeys(ctx, in.Tenant, after, in.Limit)
	if err != nil {
		return nil, err
	}
	p := adminapi.Page[adminapi.Key]{Items: make([]adminapi.Key, len(records)), Next: cursor(next)}
	for i := range records {
		p.Items[i] = keyView(&records[i])
	}
	return &body[adminapi.Page[adminapi.Key]]{p}, nil
}

func (c *call) position(ctx context.Context, tenantID string, p *PageInput) (string, error) {
	if err := c.api.knownTenant(ctx, tenantID); err != nil {
		return "", err
	}
	return p.after()
}

func (c *call) showKey(ctx context.Context, in *struct {
	TenantPath
	KID string `path:"kid" doc:"Key ID."`
}) (*body[adminapi.Key], error) {
	if err := c.api.knownTenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	kids, err := parseKIDs([]string{in.KID})
	if err != nil {
		return nil, err
	}
	records, err := c.api.keys().Keys(ctx, in.Tenant, kids)
	if err == nil && len(records) == 0 {
		err = keystore.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &body[adminapi.Key]{keyView(&records[0])}, nil
}

func parseKIDs(texts []string) ([]contentkey.KID, error) {
	kids := make([]contentkey.KID, len(texts))
	for i, text := range texts {
		var err error
		if kids[i], err = contentkey.ParseKID(text); err != nil {
			return nil, problem(http.StatusUnprocessableEntity, fmt.Sprintf("%.64q is not a key ID.", text))
		}
	}
	return kids, nil
}

func (c *call) listContents(ctx context.Context, in *struct {
	TenantPath
	PageInput
	ContentID string `query:"content_id" doc:"Only what was asked for under this content ID."`
	KID       string `query:"kid" doc:"Only what asked for, or was answered with, this key ID."`
}) (*body[adminapi.Page[adminapi.Use]], error) {
	after, err := c.position(ctx, in.Tenant, &in.PageInput)
	if err != nil {
		return nil, err
	}
	f := keystore.BindingFilter{ContentID: in.ContentID}
	if in.KID != "" {
		kids, err := parseKIDs([]string{in.KID})
		if err != nil {
			return nil, err
		}
		f.KID = kids[0]
	}
	bindings, next, err := c.api.keys().PageBindings(ctx, in.Tenant, f, after, in.Limit)
	if err != nil {
		return nil, err
	}
	p := adminapi.Page[adminapi.Use]{Items: make([]adminapi.Use, len(bindings)), Next: cursor(next)}
	for i := range bindings {
		b := &bindings[i]
		p.Items[i] = adminapi.Use{
			ContentID: b.ContentID, KID: b.KID.String(), Requested: b.Requested.String(), Track: b.Track, Scheme: b.Scheme.String(),
			Period: b.Period.Name(), Profile: b.Profile, Systems: b.Systems, FirstSeen: b.FirstSeen, LastSeen: b.LastSeen,
		}
	}
	return &body[adminapi.Page[adminapi.Use]]{p}, nil
}

type keysInput struct {
	TenantPath
	Body adminapi.KeyIDs
}

func (c *call) deleteKeys(ctx context.Context, in *keysInput) (*body[adminapi.Changed], error) {
	return c.changeKeys(ctx, in, c.api.custody.Delete)
}

func (c *call) undeleteKeys(ctx context.Context, in *keysInput) (*body[adminapi.Changed], error) {
	return c.changeKeys(ctx, in, c.api.custody.Undelete)
}

func (c *call) changeKeys(ctx context.Context, in *keysInput, change func(context.Context, string, []contentkey.KID) (int, error)) (*body[adminapi.Changed], error) {
	kids, err := c.keysToChange(ctx, in.Tenant, in.Body.KIDs)
	if err != nil {
		return nil, err
	}
	if _, err := c.api.custody.Records(ctx, in.Tenant, kids); err != nil { // before it is recorded as done
		return nil, err
	}
	if err := c.write(ctx, audit.Record{Tenant: in.Tenant, KIDs: kids}); err != nil {
		return nil, err
	}
	n, err := change(ctx, in.Tenant, kids)
	if err != nil {
		return nil, err
	}
	return &body[adminapi.Changed]{adminapi.Changed{Changed: n}}, nil
}

func (c *call) keysToChange(ctx context.Context, tenantID string, texts []string) ([]contentkey.KID, error) {
	c.record.Tenant = tenantID
	if err := c.api.knownTenant(ctx, tenantID); err != nil {
		return nil, err
	}
	kids, err := parseKIDs(texts)
	c.record.KIDs = kids
	return kids, err
}

func (c *call) purgeKeys(ctx context.Context, in *struct {
	TenantPath
	Body adminapi.Purge
}) (*body[adminapi.Purged], error) {
	c.record.Tenant = in.Tenant
	if err := c.api.knownTenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	if !in.Body.Destroy {
		return nil, problem(http.StatusUnprocessableEntity, "destroy must be true: what is purged never comes back.")
	}
	grace, err := duration(in.Body.Grace, keystore.DefaultGrace, "grace")
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, audit.Record{Tenant: in.Tenant, Change: "keys deleted " + grace.String() + " ago or earlier"}); err != nil {
		return nil, err
	}
	r, err := c.api.custody.Purge(ctx, keystore.PurgeOptions{Tenant: in.Tenant, Grace: grace})
	if err != nil {
		return nil, err
	}
	return &body[adminapi.Purged]{adminapi.Purged{Looked: r.Looked, Purged: r.Purged, Waiting: r.Waiting}}, nil
}

func (c *call) exportKeys(ctx context.Context, in *struct {
	TenantPath
	Body adminapi.Export
}) (*body[adminapi.Exported], error) {
	kids, err := c.keysToChange(ctx, in.Tenant, in.Body.KIDs)
	if err != nil {
		return nil, err
	}
	if !in.Body.Reveal {
		return nil, problem(http.StatusUnprocessableEntity, "reveal must be true: content keys leave in clear.")
	}
	keys, err := c.api.Keystore.Lookup(ctx, in.Tenant, kids)
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, audit.Record{Tenant: in.Tenant, KIDs: kids, Protection: audit.Clear}); err != nil {
		return nil, err
	}
	out := adminapi.Exported{Keys: make([]adminapi.KeyValue, len(keys))}
	for i := range keys {
		out.Keys[i] = adminapi.KeyValue{KID: keys[i].KID.String(), Key: adminapi.Secret(hex.EncodeToString(keys[i].Value[:])), IV: keys[i].IV.String()}
	}
	return &body[adminapi.Exported]{out}, nil
}

var errEnough = errors.New("the page is full")

func (c *call) queryAudit(ctx context.Context, in *struct {
	PageInput
	ContentID  string    `query:"content_id"`
	KID        string    `query:"kid" doc:"Answered or asked for."`
	Tenant     string    `query:"tenant"`
	Credential string    `query:"credential"`
	Admin      string    `query:"admin"`
	RequestID  string    `query:"request_id"`
	Since      time.Time `query:"since" doc:"Not before."`
	Until      time.Time `query:"until" doc:"Before."`
	Denied     bool      `query:"denied" doc:"Only what was refused or failed."`
}) (*body[adminapi.Page[adminapi.AuditRecord]], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	q := audit.Query{
		ContentID: in.ContentID, Tenant: in.Tenant, Credential: in.Credential, Admin: in.Admin, RequestID: in.RequestID,
		Since: in.Since, Until: in.Until, Denied: in.Denied,
	}
	if in.KID != "" {
		kids, err := parseKIDs([]string{in.KID})
		if err != nil {
			return nil, err
		}
		q.KID = kids[0]
	}
	if c.api.Records == nil {
		return nil, problem(http.StatusNotFound, "The audit log is kept neither in files of this server nor in the database.")
	}
	p := adminapi.Page[adminapi.AuditRecord]{Items: []adminapi.AuditRecord{}}
	var last string
	err = c.api.Records.Read(ctx, &q, after, func(place string, text []byte, _ *audit.Record) error {
		if len(p.Items) == in.Limit {
			p.Next = cursor(last)
			return errEnough
		}
		p.Items, last = append(p.Items, bytes.Clone(text)), place
		return nil
	})
	if errors.Is(err, audit.ErrPlace) {
		return nil, problem(http.StatusBadRequest, "The cursor is not one that was given by this list.")
	}
	if err != nil && !errors.Is(err, errEnough) && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &body[adminapi.Page[adminapi.AuditRecord]]{p}, nil
}
