package admin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"spekeasy/adminapi"
	"spekeasy/internal/audit"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

type CredentialPath struct {
	TenantPath
	Credential string `path:"credential" maxLength:"64" doc:"Name of the credential."`
}

// info is a credential as clients see it.
func (a *API) info(c *tenant.StoredCredential, origin string, version uint64, secret tenant.Secret) (adminapi.CredentialInfo, error) {
	public, err := credentialFor(&c.Credential, secret)
	info := adminapi.CredentialInfo{Credential: public, Kind: c.Kind(), Origin: origin, Created: c.Created, Version: version}
	info.State, info.DaysLeft = state(&c.Credential, a.Now())
	return info, err
}

func (c *call) listCredentials(ctx context.Context, in *struct {
	TenantPath
	PageInput
}) (*body[adminapi.Page[adminapi.CredentialInfo]], error) {
	a := c.api
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	var all []adminapi.CredentialInfo
	if s := a.fileTenant(in.Tenant); s != nil {
		sorted := slices.SortedFunc(slices.Values(s.Credentials), func(a, b tenant.Credential) int { return strings.Compare(a.Name, b.Name) })
		for i := range sorted {
			if sorted[i].Name <= after {
				continue
			}
			info, err := a.info(&tenant.StoredCredential{Credential: sorted[i]}, adminapi.OriginFile, 0, "")
			if err != nil {
				return nil, err
			}
			all = append(all, info)
		}
		return listed(all, in.Limit, credentialName), nil
	}
	if _, err := a.storedTenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	prefix, from := tenant.CredentialID(in.Tenant, ""), ""
	if after != "" {
		from = prefix + after
	}
	for d, err := range tenant.Documents(ctx, a.Store, tenant.KindCredential, prefix, from, in.Limit+1) {
		if err != nil {
			return nil, err
		}
		if d.Deleted {
			continue
		}
		var info adminapi.CredentialInfo
		stored, err := a.vault.OpenCredential(ctx, d)
		if errors.Is(err, keystore.ErrCorrupt) {
			info = adminapi.CredentialInfo{
				Credential: adminapi.Credential{Name: strings.TrimPrefix(d.ID, prefix)},
				Origin:     adminapi.OriginStore, State: adminapi.StateDamaged, Version: d.Version,
			}
			err = nil
			c.damaged(ctx, d)
		} else if err == nil {
			info, err = a.info(stored, adminapi.OriginStore, d.Version, "")
		}
		if err != nil {
			return nil, err
		}
		if all = append(all, info); len(all) > in.Limit {
			break
		}
	}
	return listed(all, in.Limit, credentialName), nil
}

func credentialName(c *adminapi.CredentialInfo) string { return c.Name }

// storedCredential returns a credential that lives, of a tenant that does.
func (a *API) storedCredential(ctx context.Context, p *CredentialPath) (d tenant.Document, c *tenant.StoredCredential, err error) {
	if _, err := a.ownTenant(ctx, p.Tenant); err != nil {
		return d, nil, err
	}
	if tenant.CheckName(p.Credential) != nil {
		return d, nil, noCredential(p.Credential)
	}
	d, err = a.Store.Document(ctx, tenant.KindCredential, tenant.CredentialID(p.Tenant, p.Credential))
	if errors.Is(err, tenant.ErrAbsent) || err == nil && d.Deleted {
		return d, nil, noCredential(p.Credential)
	}
	if err != nil {
		return d, nil, err
	}
	c, err = a.vault.OpenCredential(ctx, &d)
	return d, c, err
}

func noCredential(name string) error {
	return problem(http.StatusNotFound, fmt.Sprintf("There is no credential %.64q.", name))
}

func (c *call) showCredential(ctx context.Context, in *CredentialPath) (*tagged[adminapi.CredentialInfo], error) {
	a := c.api
	if s := a.fileTenant(in.Tenant); s != nil {
		for i := range s.Credentials {
			if s.Credentials[i].Name == in.Credential {
				info, err := a.info(&tenant.StoredCredential{Credential: s.Credentials[i]}, adminapi.OriginFile, 0, "")
				return &tagged[adminapi.CredentialInfo]{"", info}, err
			}
		}
		return nil, noCredential(in.Credential)
	}
	d, stored, err := a.storedCredential(ctx, in)
	if err != nil {
		return nil, err
	}
	info, err := a.info(stored, adminapi.OriginStore, d.Version, "")
	return &tagged[adminapi.CredentialInfo]{etag(d.Version), info}, err
}

type createCredentialInput struct {
	TenantPath
	Body adminapi.Credential
}

func (c *call) createCredential(ctx context.Context, in *createCredentialInput) (*tagged[adminapi.CredentialInfo], error) {
	c.record.Tenant, c.record.Credential = in.Tenant, in.Body.Name
	if _, err := c.api.ownTenant(ctx, in.Tenant); err != nil {
		return nil, err
	}
	cred, err := credentialOf(&in.Body)
	if err != nil {
		return nil, err
	}
	complete(cred, in.Tenant)
	return c.addCredential(ctx, in.Tenant, cred, audit.Record{Change: cred.Kind()})
}

// complete fills in what a client has left to us.
func complete(c *tenant.Credential, user string) {
	def := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	secret := rand.Text()
	switch {
	case c.Basic != nil:
		def(&c.Basic.User, user)
	case c.Digest != nil:
		def(&c.Digest.User, user)
	case c.OAuthClient != nil:
		def(&c.OAuthClient.ID, user)
	case c.SigV4 != nil:
		def(&c.SigV4.AccessKeyID, "SPKE"+rand.Text()[:16])
		secret += rand.Text()[:14] // as long as those of AWS
	case c.WidevineSigner != nil:
		def(&c.WidevineSigner.Name, user)
		if s := c.WidevineSigner; s.AESKey == "" && s.RSAPublicKey == "" {
			var made [48]byte
			rand.Read(made[:])
			s.AESKey, s.AESIV = tenant.Secret(hex.EncodeToString(made[:32])), tenant.Secret(hex.EncodeToString(made[32:]))
		}
	}
	if p := c.Plain(); p != nil && *p == "" {
		*p = tenant.Secret(secret)
	}
}

// addCredential checks, records and stores a credential with its secret in
// plain text, and answers it with the secret.
func (c *call) addCredential(ctx context.Context, tenantID string, cred *tenant.Credential, r audit.Record) (*tagged[adminapi.CredentialInfo], error) {
	a := c.api
	if err := cred.Check(); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "credential: "+err.Error())
	}
	if err := tenant.CheckName(cred.Name); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, err.Error())
	}
	var secret tenant.Secret
	if p := cred.Plain(); p != nil {
		secret = *p
	}
	if err := cred.Stored(); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, err.Error())
	}
	d := tenant.Document{Kind: tenant.KindCredential, ID: tenant.CredentialID(tenantID, cred.Name), Version: 1, Changed: a.stamp()}
	if _, err := a.Store.Document(ctx, d.Kind, d.ID); err == nil {
		return nil, tenant.ErrExists
	}
	if err := a.check(a.Directory.Stored().WithCredential(tenantID, *cred)); err != nil {
		return nil, err
	}
	r.Tenant, r.Credential = tenantID, cred.Name
	if err := c.write(ctx, r); err != nil {
		return nil, err
	}
	stored := &tenant.StoredCredential{Credential: *cred, Created: d.Changed}
	if err := a.vault.Credential(ctx, &d, tenantID, stored); err != nil {
		return nil, err
	}
	if err := a.Store.CreateDocument(ctx, d); err != nil {
		return nil, err
	}
	c.refresh(ctx)
	info, err := a.info(stored, adminapi.OriginStore, d.Version, secret)
	if s := cred.WidevineSigner; s != nil {
		info.WidevineSigner.AESKey, info.WidevineSigner.AESIV = adminapi.Secret(s.AESKey), adminapi.Secret(s.AESIV)
	}
	return &tagged[adminapi.CredentialInfo]{etag(d.Version), info}, err
}

type rotateInput struct {
	CredentialPath
	Body adminapi.Rotation
}

const defaultOverlap = 14 * 24 * time.Hour

// rotateCredential makes another credential like the present one, which ends
// when clients have had time to take up the new secret.
func (c *call) rotateCredential(ctx context.Context, in *rotateInput) (*tagged[adminapi.CredentialInfo], error) {
	a := c.api
	c.record.Tenant, c.record.Credential = in.Tenant, in.Credential
	d, old, err := a.storedCredential(ctx, &in.CredentialPath)
	if err != nil {
		return nil, err
	}
	overlap, err := duration(in.Body.Overlap, defaultOverlap, "overlap")
	if err != nil {
		return nil, err
	}
	public, err := credentialFor(&old.Credential, "")
	if err != nil {
		return nil, err
	}
	if old.Plain() == nil {
		return nil, problem(http.StatusUnprocessableEntity, "A credential of the kind "+old.Kind()+" has no secret to rotate.")
	}
	if public.Name = in.Body.Name; public.Name == "" {
		if public.Name, err = a.nextName(ctx, in.Tenant, in.Credential); err != nil {
			return nil, err
		}
	}
	public.NotBefore, public.Expires = "", in.Body.Expires
	if public.SigV4 != nil {
		public.SigV4.AccessKeyID = ""
	}
	next, err := credentialOf(&public)
	if err != nil {
		return nil, err
	}
	complete(next, in.Tenant)
	end := a.Now().UTC().Add(overlap).Truncate(time.Second)
	if _, until, _ := old.Validity(); !until.IsZero() && until.Before(end) { // it was good when it was stored
		end = until
	}
	out, err := c.addCredential(ctx, in.Tenant, next,
		audit.Record{Change: fmt.Sprintf("in the place of %s, which ends %s", in.Credential, end.Format(time.RFC3339))})
	if err != nil {
		return nil, err
	}
	old.Expires = tenant.Time(end.Format(time.RFC3339))
	if from, _, _ := old.Validity(); !from.Before(end) {
		old.NotBefore = ""
	}
	if err := c.replaceCredential(ctx, &d, in.Tenant, old); err != nil {
		return nil, fmt.Errorf("credential %s is made, but %s does not end: %w", next.Name, in.Credential, err)
	}
	return out, nil
}

var numbered = regexp.MustCompile(`^(.*)-([0-9]{1,6})$`)

// nextName counts on from a name until one was never used.
func (a *API) nextName(ctx context.Context, tenantID, name string) (string, error) {
	n := 2
	if m := numbered.FindStringSubmatch(name); m != nil {
		name = m[1]
		n, _ = strconv.Atoi(m[2]) // digits
		n++
	}
	for ; ; n++ {
		next := fmt.Sprintf("%s-%d", name, n)
		_, err := a.Store.Document(ctx, tenant.KindCredential, tenant.CredentialID(tenantID, next))
		if errors.Is(err, tenant.ErrAbsent) {
			return next, nil
		}
		if err != nil {
			return "", err
		}
	}
}

func (c *call) replaceCredential(ctx context.Context, d *tenant.Document, tenantID string, cred *tenant.StoredCredential) error {
	d.Version++
	d.Changed = c.api.stamp()
	if err := c.api.vault.Credential(ctx, d, tenantID, cred); err != nil {
		return err
	}
	if err := c.api.Store.ReplaceDocument(ctx, *d); err != nil {
		return err
	}
	c.refresh(ctx)
	return nil
}

// duration reads a duration such as 72h or 14d.
func duration(text string, byDefault time.Duration, name string) (time.Duration, error) {
	if text == "" {
		return byDefault, nil
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil || d < 0 {
		return 0, problem(http.StatusUnprocessableEntity, fmt.Sprintf("%s: %.64q is not a duration such as 72h or 14d", name, text))
	}
	return time.Duration(d), nil
}

type updateCredentialInput struct {
	CredentialPath
	Match
	Body adminapi.Validity
}

func (c *call) updateCredential(ctx context.Context, in *updateCredentialInput) (*tagged[adminapi.CredentialInfo], error) {
	a := c.api
	c.record.Tenant, c.record.Credential = in.Tenant, in.Credential
	d, cred, err := a.storedCredential(ctx, &in.CredentialPath)
	if err != nil {
		return nil, err
	}
	if err := in.holds(d.Version); err != nil {
		return nil, err
	}
	cred.NotBefore, cred.Expires = tenant.Time(in.Body.NotBefore), tenant.Time(in.Body.Expires)
	if _, _, err := cred.Validity(); err != nil {
		return nil, problem(http.StatusUnprocessableEntity, err.Error())
	}
	change := fmt.Sprintf("not_before %q, expires %q", in.Body.NotBefore, in.Body.Expires)
	if err := c.write(ctx, audit.Record{Tenant: in.Tenant, Credential: in.Credential, Change: change}); err != nil {
		return nil, err
	}
	if err := c.replaceCredential(ctx, &d, in.Tenant, cred); err != nil {
		return nil, err
	}
	info, err := a.info(cred, adminapi.OriginStore, d.Version, "")
	return &tagged[adminapi.CredentialInfo]{etag(d.Version), info}, err
}

type revokeCredentialInput struct {
	CredentialPath
	Match
}

func (c *call) revokeCredential(ctx context.Context, in *revokeCredentialInput) (*struct{}, error) {
	c.record.Tenant, c.record.Credential = in.Tenant, in.Credential
	d, _, err := c.api.storedCredential(ctx, &in.CredentialPath)
	if err != nil && !errors.Is(err, keystore.ErrCorrupt) { // which is a reason more
		return nil, err
	}
	return nil, c.bury(ctx, &d, &in.Match, audit.Record{Tenant: in.Tenant, Credential: in.Credential})
}
