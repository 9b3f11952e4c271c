package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"spekeasy/adminapi"
	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

func (a *API) adminView(c *tenant.StoredCredential, origin string, version uint64) adminapi.Admin {
	v := adminapi.Admin{
		Name: c.Name, Role: c.Role, Kind: c.Kind(), Origin: origin, Expires: string(c.Expires), Created: c.Created, Version: version,
	}
	v.State, v.DaysLeft = state(&c.Credential, a.Now())
	return v
}

func (c *call) listAdmins(ctx context.Context, in *PageInput) (*body[adminapi.Page[adminapi.Admin]], error) {
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	var all []adminapi.Admin
	_, files := c.api.Directory.Files()
	for i := range files {
		if files[i].Name > after {
			all = append(all, c.api.adminView(&files[i], adminapi.OriginFile, 0))
		}
	}
	for d, err := range tenant.Documents(ctx, c.api.Store, tenant.KindAdmin, "", after, in.Limit+1) {
		if err != nil {
			return nil, err
		}
		if d.Deleted {
			continue
		}
		var v adminapi.Admin
		stored, err := c.api.vault.OpenCredential(ctx, d)
		switch {
		case errors.Is(err, keystore.ErrCorrupt):
			v = adminapi.Admin{Name: d.ID, Origin: adminapi.OriginStore, State: adminapi.StateDamaged, Version: d.Version}
			c.damaged(ctx, d)
		case err != nil:
			return nil, err
		default:
			v = c.api.adminView(stored, adminapi.OriginStore, d.Version)
		}
		if all = append(all, v); len(all) > in.Limit+len(files) {
			break
		}
	}
	slices.SortStableFunc(all, func(a, b adminapi.Admin) int { return strings.Compare(a.Name, b.Name) })
	return listed(all, in.Limit, func(a *adminapi.Admin) string { return a.Name }), nil
}

type createAdminInput struct{ Body adminapi.NewAdmin }

func (c *call) createAdmin(ctx context.Context, in *createAdminInput) (*tagged[adminapi.Admin], error) {
	a, name := c.api, in.Body.Name
	c.record.Change = name
	_, files := a.Directory.Files()
	for i := range files {
		if f := &files[i]; f.Name == name || f.Basic != nil && f.Basic.User == name {
			return nil, problem(http.StatusConflict, "The name "+name+" is in the configuration file.")
		}
	}
	password := tenant.Secret(rand.Text())
	cred := tenant.Credential{Name: name, Expires: tenant.Time(in.Body.Expires), Basic: &tenant.Basic{User: name, Password: password}}
	if err := cred.Check(); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, err.Error())
	}
	if err := cred.Stored(); err != nil {
		return nil, err
	}
	d := tenant.Document{Kind: tenant.KindAdmin, ID: name, Version: 1, Changed: a.stamp()}
	if _, err := a.Store.Document(ctx, d.Kind, d.ID); err == nil {
		return nil, tenant.ErrExists
	}
	stored := &tenant.StoredCredential{Credential: cred, Created: d.Changed, Role: in.Body.Role}
	if err := c.write(ctx, audit.Record{Change: name + ", " + in.Body.Role}); err != nil {
		return nil, err
	}
	if err := a.vault.Credential(ctx, &d, keystore.CustodyTenant, stored); err != nil {
		return nil, err
	}
	if err := a.Store.CreateDocument(ctx, d); err != nil {
		return nil, err
	}
	c.refresh(ctx)
	v := a.adminView(stored, adminapi.OriginStore, d.Version)
	v.Password = adminapi.Secret(password)
	return &tagged[adminapi.Admin]{etag(d.Version), v}, nil
}

type revokeAdminInput struct {
	Admin string `path:"admin" maxLength:"64" doc:"Name of the admin credential."`
	Match
}

func (c *call) revokeAdmin(ctx context.Context, in *revokeAdminInput) (*struct{}, error) {
	c.record.Change = in.Admin
	if in.Admin == c.admin {
		return nil, problem(http.StatusConflict, "You cannot revoke the credential that you use.")
	}
	absent := problem(http.StatusNotFound, fmt.Sprintf("There is no admin %.64q in the store.", in.Admin))
	if tenant.CheckName(in.Admin) != nil {
		return nil, absent
	}
	d, err := c.api.Store.Document(ctx, tenant.KindAdmin, in.Admin)
	if errors.Is(err, tenant.ErrAbsent) || err == nil && d.Deleted {
		return nil, absent
	}
	if err != nil {
		return nil, err
	}
	return nil, c.bury(ctx, &d, &in.Match, audit.Record{Change: in.Admin})
}
