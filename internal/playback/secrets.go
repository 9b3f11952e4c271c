package playback

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// Keystore is what secrets are kept in.
type Keystore interface {
	Obtain(ctx context.Context, ask *keystore.Ask) ([]keystore.Key, error)
	Lookup(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Key, error)
}

// Secrets are what tokens are signed with, and the tokens that were revoked.
// Both are kept like content keys, wrapped and in every backup, under
// [tenant.PlaybackSecrets], so that all servers on one database agree: a
// signing secret is two keys, and a revoked token is a key that exists.
type Secrets struct{ keys Keystore }

// NewSecrets returns the secrets in a keystore.
func NewSecrets(keys Keystore) *Secrets { return &Secrets{keys} }

// name is the key ID of what is kept under a list of texts: a UUID of version
// 8 (RFC 9562, 5.8) from their SHA-256.
func name(texts ...string) contentkey.KID {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	kid := contentkey.KID(sum[:16])
	kid[6], kid[8] = kid[6]&0x0f|0x80, kid[8]&0x3f|0x80
	return kid
}

// signing returns a tenant's secret of 32 bytes or more, and makes it when it
// is first needed.
func (s *Secrets) signing(ctx context.Context, t *tenant.Tenant) ([]byte, error) {
	number := 0
	if t.Playback != nil {
		secret, err := t.Playback.SecretBytes()
		if err != nil || secret != nil {
			return secret, err
		}
		number = t.Playback.KeyNumber
	}
	what := fmt.Sprintf("signs playback tokens of %s, key %d", t.ID, number)
	keys, err := s.obtain(ctx, what, name("sign", t.ID, strconv.Itoa(number), "a"), name("sign", t.ID, strconv.Itoa(number), "b"))
	if err != nil {
		return nil, fmt.Errorf("secret of playback tokens of %s: %w", t.ID, err)
	}
	return append(keys[0].Value[:], keys[1].Value[:]...), nil
}

func (s *Secrets) obtain(ctx context.Context, what string, kids ...contentkey.KID) ([]keystore.Key, error) {
	ask := &keystore.Ask{Tenant: tenant.PlaybackSecrets, ContentID: what}
	for _, kid := range kids {
		ask.Wants = append(ask.Wants, keystore.Want{Requested: kid, KID: kid})
	}
	return s.keys.Obtain(ctx, ask)
}

// Revoke ends a token of a tenant by its ID, for good.
func (s *Secrets) Revoke(ctx context.Context, tenantID, id string) error {
	if _, err := s.obtain(ctx, "revoked playback token of "+tenantID, name("revoked", tenantID, id)); err != nil {
		return fmt.Errorf("revoking playback token %q of %s: %w", id, tenantID, err)
	}
	return nil
}

// revoked looks into the store itself each time unless the token is revoked:
// what is not there is in no cache.
func (s *Secrets) revoked(ctx context.Context, tenantID, id string) (bool, error) {
	_, err := s.keys.Lookup(ctx, tenant.PlaybackSecrets, []contentkey.KID{name("revoked", tenantID, id)})
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		return false, nil
	case err == nil, errors.Is(err, keystore.ErrDeleted):
		return true, nil
	}
	return false, fmt.Errorf("playback token %q of %s: %w", id, tenantID, err)
}
