// Package playback serves players: Clear Key licenses, HLS keys, and licenses
// that a tenant's own Widevine, PlayReady or FairPlay service makes. Every
// call shows a playback token, a signed JWT that says which content of which
// tenant may be played, from when until when, and from which web origin; every
// call is recorded, and no record means no license.
//
// Content keys come from the keystore that answers encryptors. Players never
// make one.
package playback

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// Tenants finds a tenant by its ID; the error is [tenant.ErrNotFound].
type Tenants interface {
	Tenant(ctx context.Context, id string) (*tenant.Tenant, error)
}

// Keys are content keys that exist; see [keystore.Keystore.Lookup].
type Keys interface {
	Lookup(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Key, error)
}

// Bindings say which content and which DRM systems content keys serve.
type Bindings interface {
	BindingPages(ctx context.Context, tenant string, f keystore.BindingFilter) iter.Seq2[[]keystore.Binding, error]
}

// Recorder writes the audit log. When it fails, no license leaves.
type Recorder interface {
	Record(ctx context.Context, r *audit.Record) error
}

// Credentials are the ways in of encryptors.
type Credentials interface {
	Authenticate(r *http.Request, body []byte) (*auth.Principal, error)
}

// Options are what a [Service] is made of. All but HTTP, Now and Log are
// required.
type Options struct {
	Tenants     Tenants
	Keys        Keys
	Bindings    Bindings
	Secrets     *Secrets
	Credentials Credentials
	Audit       Recorder

	HTTP *http.Client     // asks the tenants' license services; one with a timeout of 10 seconds by default
	Now  func() time.Time // time.Now by default
	Log  *slog.Logger     // nobody by default
}

// Service answers players. Its methods may be called concurrently.
type Service struct {
	Options
}

// New returns a service.
func New(o Options) *Service {
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: 10 * time.Second}
	}
	client := *o.HTTP
	// What is posted there is meant for that address and no other.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.HTTP = &client
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{o}
}

// Error is a refusal in words that the player may show.
type Error struct {
	Status int
	Text   string
	why    error // for the log and the record; may be nil
}

func (e *Error) Error() string {
	if e.why != nil {
		return e.Text + ": " + e.why.Error()
	}
	return e.Text
}

func (e *Error) Unwrap() error { return e.why }

func refuse(status int, text string) error { return &Error{Status: status, Text: text} }

// grant is what a call may have.
type grant struct {
	tenant     *tenant.Tenant
	settings   *tenant.Playback
	credential string  // for records
	token      *Claims // nil for an encryptor's credential, which is bound to nothing
}

// keyUse is what encryptors asked for a content key for.
type keyUse struct {
	contents map[string]bool
	systems  []string
}

// content is what a record says a key was given out for: one of the token's
// contents, or else the first.
func (u *keyUse) content(c *Claims) string {
	if c != nil {
		for _, id := range c.Contents {
			if u.contents[id] {
				return id
			}
		}
	}
	ids := slices.Sorted(maps.Keys(u.contents))
	if len(ids) == 0 {
		return ""
	}
	return ids[0]
}

func (s *Service) use(ctx context.Context, tenantID string, kid contentkey.KID) (*keyUse, error) {
	u := &keyUse{contents: make(map[string]bool)}
	for page, err := range s.Bindings.BindingPages(ctx, tenantID, keystore.BindingFilter{KID: kid}) {
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].KID == kid {
				u.contents[page[i].ContentID] = true
				u.systems = append(u.systems, page[i].Systems...)
			}
		}
	}
	return u, nil
}

// The refusals of a content key.
var (
	errNotForKey = refuse(http.StatusForbidden, "the playback token is not for this content")
	errStudioKey = refuse(http.StatusForbidden, "this content key serves a DRM system and is not given out in clear")
	errNoKey     = refuse(http.StatusNotFound, "no such content key")
	errRevoked   = refuse(http.StatusGone, "this content key was revoked")
)

// contentKey returns a key that the grant covers, and what it is used for.
// The error is one of those above, or says why it could not be found out.
func (s *Service) contentKey(ctx context.Context, g *grant, kid contentkey.KID) (keystore.Key, *keyUse, error) {
	keys, err := s.Keys.Lookup(ctx, g.tenant.ID, []contentkey.KID{kid})
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return keystore.Key{}, nil, errNoKey
	case errors.Is(err, keystore.ErrDeleted):
		return keystore.Key{}, nil, errRevoked
	case err != nil:
		return keystore.Key{}, nil, err
	}
	u, err := s.use(ctx, g.tenant.ID, kid)
	if err != nil {
		return keystore.Key{}, nil, fmt.Errorf("content key %s: %w", kid, err)
	}
	if !g.token.covers(kid, u.contents) {
		return keystore.Key{}, nil, errNotForKey
	}
	return keys[0], u, nil
}

// clearKey is contentKey for a key that is to be given out in clear.
func (s *Service) clearKey(ctx context.Context, g *grant, kid contentkey.KID) (keystore.Key, *keyUse, error) {
	key, u, err := s.contentKey(ctx, g, kid)
	if err == nil && !g.settings.MayBeClear(u.systems) {
		return keystore.Key{}, nil, errStudioKey
	}
	return key, u, err
}
