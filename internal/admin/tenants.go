package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"spekeasy/adminapi"
	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

type TenantPath struct {
	Tenant string `path:"tenant" maxLength:"64" doc:"ID of the tenant."`
}

// fileTenant returns a tenant of the configuration file, or nil.
func (a *API) fileTenant(id string) *tenant.Settings {
	all, _ := a.Directory.Files()
	for i := range all {
		if all[i].ID == id {
			return &all[i]
		}
	}
	return nil
}

// storedTenant returns the document of a tenant that lives.
func (a *API) storedTenant(ctx context.Context, id string) (tenant.Document, error) {
	if keystore.CheckTenant(id) != nil {
		return tenant.Document{}, noTenant(id)
	}
	d, err := a.Store.Document(ctx, tenant.KindTenant, id)
	if errors.Is(err, tenant.ErrAbsent) || err == nil && d.Deleted {
		return d, noTenant(id)
	}
	return d, err
}

// ownTenant is storedTenant for a change.
func (a *API) ownTenant(ctx context.Context, id string) (tenant.Document, error) {
	if a.fileTenant(id) != nil {
		return tenant.Document{}, problem(http.StatusConflict, "Tenant "+id+" comes from the configuration file and is changed there.")
	}
	return a.storedTenant(ctx, id)
}

func noTenant(id string) error {
	return problem(http.StatusNotFound, fmt.Sprintf("There is no tenant %.64q.", id))
}

// knownTenant holds that there is or was a tenant, for its keys.
func (a *API) knownTenant(ctx context.Context, id string) error {
	if a.fileTenant(id) != nil {
		return nil
	}
	_, err := a.storedTenant(ctx, id)
	if p := (*problemError)(nil); errors.As(err, &p) && keystore.CheckTenant(id) == nil {
		if rows, readErr := a.keys().DataKeys(ctx, id); readErr != nil || len(rows) > 0 {
			return readErr
		}
	}
	return err
}

func fileView(s *tenant.Settings) (adminapi.Tenant, error) {
	// Paths in a file can hold tokens.
	public := *s
	if s.Upstream != nil {
		public.Upstream = s.Upstream.WithoutPaths()
	}
	public.Webhooks = slices.Clone(s.Webhooks)
	for i := range public.Webhooks {
		if u, err := url.Parse(s.Webhooks[i].URL); err == nil {
			public.Webhooks[i].URL = u.Scheme + "://" + u.Host
		}
	}
	settings, err := settingsFor(&public)
	return adminapi.Tenant{ID: s.ID, Origin: adminapi.OriginFile, Settings: settings}, err
}

func (a *API) storedView(ctx context.Context, d *tenant.Document) (adminapi.Tenant, error) {
	t := adminapi.Tenant{ID: d.ID, Origin: adminapi.OriginStore, Version: d.Version, Changed: d.Changed}
	s, err := a.vault.PublicSettings(ctx, d)
	if err != nil {
		return t, err
	}
	t.Settings, err = settingsFor(&s)
	return t, err
}

// listTenants merges those of the file with those of the store.
func (c *call) listTenants(ctx context.Context, in *PageInput) (*body[adminapi.Page[adminapi.Tenant]], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	var all []adminapi.Tenant
	files, _ := c.api.Directory.Files()
	for i := range files {
		if files[i].ID > after {
			v, err := fileView(&files[i])
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
	}
	for d, err := range tenant.Documents(ctx, c.api.Store, tenant.KindTenant, "", after, in.Limit+1) {
		if err != nil {
			return nil, err
		}
		if d.Deleted {
			continue
		}
		v, err := c.api.storedView(ctx, d)
		if errors.Is(err, keystore.ErrCorrupt) {
			v.Fault, err = textDamaged, nil
			c.damaged(ctx, d)
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, v); len(all) > in.Limit+len(files) {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b adminapi.Tenant) int { return strings.Compare(a.ID, b.ID) })
	// The file's tenant goes before one of its ID in the store, which is not
	// served.
	all = slices.CompactFunc(all, func(a, b adminapi.Tenant) bool { return a.ID == b.ID })
	return listed(all, in.Limit, func(t *adminapi.Tenant) string { return t.ID }), nil
}

// textDamaged says of one row what keeps nobody from seeing the others.
const textDamaged = "Its row in the store is damaged, or was not written by a server: it is not served. Bring it back from a backup, or delete it."

// damaged tells the log of a row that a list names and cannot show.
func (c *call) damaged(ctx context.Context, d *tenant.Document) {
	c.api.Log.WarnContext(ctx, "a damaged row is listed", "request_id", c.requestID, "kind", string(d.Kind), "id", d.ID)
}

// listed cuts a list to a page.
func listed[T any](all []T, limit int, position func(*T) string) *body[adminapi.Page[T]] {
	p := adminapi.Page[T]{Items: all}
	if len(all) > limit {
		p.Items = all[:limit]
		p.Next = cursor(position(&all[limit-1]))
	}
	if p.Items == nil {
		p.Items = []T{}
	}
	return &body[adminapi.Page[T]]{p}
}

func (c *call) showTenant(ctx context.Context, in *TenantPath) (*tagged[adminapi.Tenant], error) {
	if s := c.api.fileTenant(in.Tenant); s != nil {
		v, err := fileView(s)
		return &tagged[adminapi.Tenant]{"", v}, err
	}
	d, err := c.api.storedTenant(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	v, err := c.api.storedView(ctx, &d)
	return &tagged[adminapi.Tenant]{etag(d.Version), v}, err
}

type createTenantInput struct{ Body adminapi.NewTenant }

// seedBytes is how long seeds are that we make up, by kind of source.
var seedBytes = map[string]int{"hkdf": 32, "playready-seed": 30}

func (c *call) createTenant(ctx context.Context, in *createTenantInput) (*tagged[adminapi.Tenant], error) {
	a, id := c.api, in.Body.ID
	c.record.Tenant = id
	s, err := settingsOf(id, &in.Body.Settings, nil)
	if err != nil {
		return nil, err
	}
	made := ""
	if n := seedBytes[s.KeySource.Kind]; n > 0 && s.KeySource.Seed == "" {
		seed := make([]byte, n)
		rand.Read(seed)
		made = base64.StdEncoding.EncodeToString(seed)
		s.KeySource.Seed = made
	}
	if a.fileTenant(id) != nil {
		return nil, problem(http.StatusConflict, "Tenant "+id+" is in the configuration file.")
	}
	if _, err := a.Store.Document(ctx, tenant.KindTenant, id); err == nil {
		return nil, tenant.ErrExists
	}
	if err := a.checkSettings(&s); err != nil {
		return nil, err
	}
	if err := c.write(ctx, audit.Record{Tenant: id}); err != nil {
		return nil, err
	}
	d := tenant.Document{Version: 1, Changed: a.stamp()}
	if err := a.vault.Settings(ctx, &d, &s); err != nil {
		return nil, err
	}
	if err := a.Store.CreateDocument(ctx, d); err != nil {
		return nil, err
	}
	c.refresh(ctx)
	v, err := c.api.storedView(ctx, &d)
	v.Settings.KeySource.Seed = adminapi.Secret(made)
	return &tagged[adminapi.Tenant]{etag(d.Version), v}, err
}

// checkSettings holds that a tenant can be served with these settings.
func (a *API) checkSettings(s *tenant.Settings) error {
	if _, err := s.Build(); err != nil {
		return problem(http.StatusUnprocessableEntity, "settings: "+err.Error())
	}
	return a.check(a.Directory.Stored().With(*s))
}

// check holds that the store's tenants can be served if they are these, as
// far as they can be now.
func (a *API) check(stored []tenant.Settings) error {
	faults, err := a.Directory.Check(stored)
	if err != nil {
		return err
	}
	now := a.Directory.Faults()
	for _, f := range faults {
		known := slices.ContainsFunc(now, func(o adminapi.Fault) bool { return o.Tenant == f.Tenant && o.Credential == f.Credential })
		switch {
		case known:
		case f.Credential == "":
			return problem(http.StatusUnprocessableEntity, "settings: "+f.Error)
		default:
			return problem(http.StatusConflict, "credential "+f.Credential+": "+f.Error)
		}
	}
	return nil
}

// refresh has a change take effect at once. It is stored, so that at worst it
// does so a little later.
func (c *call) refresh(ctx context.Context) {
	if err := c.api.Directory.Refresh(context.WithoutCancel(ctx)); err != nil {
		c.api.Log.Error("a change takes effect later", "request_id", c.requestID, "error", err)
	}
}

type updateTenantInput struct {
	TenantPath
	Match
	Body adminapi.TenantSettings
}

func (c *call) updateTenant(ctx context.Context, in *updateTenantInput) (*tagged[adminapi.Tenant], error) {
	a := c.api
	c.record.Tenant = in.Tenant
	d, err := a.ownTenant(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	if err := in.holds(d.Version); err != nil {
		return nil, err
	}
	before, err := a.vault.OpenSettings(ctx, &d)
	if err != nil {
		return nil, err
	}
	s, err := settingsOf(in.Tenant, &in.Body, &before)
	if err != nil {
		return nil, err
	}
	if s.KeySource.Seed == "" && s.KeySource.Kind == before.KeySource.Kind {
		s.KeySource.Seed = before.KeySource.Seed
	}
	if err := a.checkSettings(&s); err != nil {
		return nil, err
	}
	change := changedMembers(&before, &s)
	if err := c.write(ctx, audit.Record{Tenant: in.Tenant, Change: change}); err != nil {
		return nil, err
	}
	d.Version++
	d.Changed = a.stamp()
	if err := a.vault.Settings(ctx, &d, &s); err != nil {
		return nil, err
	}
	if err := a.Store.ReplaceDocument(ctx, d); err != nil {
		return nil, err
	}
	c.refresh(ctx)
	v, err := c.api.storedView(ctx, &d)
	return &tagged[adminapi.Tenant]{etag(d.Version), v}, err
}

// changedMembers names the settings that differ.
func changedMembers(before, after *tenant.Settings) string {
	members := func(s *tenant.Settings) map[string]json.RawMessage {
		m := make(map[string]json.RawMessage)
		if b, err := json.Marshal(s); err == nil {
			_ = json.Unmarshal(b, &m) // it was just written
		}
		return m
	}
	a, b := members(before), members(after)
	var names []string
	for name := range b {
		if string(a[name]) != string(b[name]) {
			names = append(names, name)
		}
	}
	for name := range a {
		if _, ok := b[name]; !ok {
			names = append(names, name)
		}
	}
	names = append(names, after.ChangedSecrets(before)...)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

type deleteTenantInput struct {
	TenantPath
	Match
}

func (c *call) deleteTenant(ctx context.Context, in *deleteTenantInput) (*struct{}, error) {
	c.record.Tenant = in.Tenant
	d, err := c.api.ownTenant(ctx, in.Tenant)
	if err != nil {
		return nil, err
	}
	return nil, c.bury(ctx, &d, &in.Match, audit.Record{Tenant: in.Tenant})
}

// bury puts a tombstone in the place of a document.
func (c *call) bury(ctx context.Context, d *tenant.Document, m *Match, r audit.Record) error {
	if err := m.holds(d.Version); err != nil {
		return err
	}
	if err := c.write(ctx, r); err != nil {
		return err
	}
	grave := tenant.Document{Kind: d.Kind, ID: d.ID, Version: d.Version + 1, Changed: c.api.stamp(), Deleted: true}
	if err := c.api.Store.ReplaceDocument(ctx, grave); err != nil {
		return err
	}
	c.refresh(ctx)
	return nil
}
