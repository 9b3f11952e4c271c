package tenant

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"spekeasy/internal/keystore"
)

// Sealer seals secrets under the data key of a tenant; it is a
// [keystore.Keystore].
type Sealer interface {
	SealSecret(ctx context.Context, tenant, purpose, name string, secret []byte) ([]byte, error)
	OpenSecret(ctx context.Context, tenant, purpose, name string, sealed []byte) ([]byte, error)
}

// Vault writes settings and credentials as documents and reads them back.
// What a scheme does not need back is kept as a hash; what it does is sealed,
// bound to the document's kind and ID. Every document is marked as written by
// a server with the store's KEK: whoever can write to the database alone makes
// no credential of his own.
type Vault struct{ sealer Sealer }

// NewVault returns a vault.
func NewVault(s Sealer) *Vault { return &Vault{s} }

// Seal puts secrets into a document. Nothing to seal empties it.
func (v *Vault) Seal(ctx context.Context, d *Document, owner string, secret []byte) (err error) {
	d.Sealed, d.Owner, d.DataKey = nil, "", 0
	if len(secret) == 0 {
		return nil
	}
	if d.Sealed, err = v.sealer.SealSecret(ctx, owner, string(d.Kind), d.ID, secret); err != nil {
		return err
	}
	// What is sealed begins with the number of its data key.
	d.Owner, d.DataKey = owner, binary.BigEndian.Uint32(d.Sealed)
	return nil
}

// Open returns the secrets of a document, nil for none.
func (v *Vault) Open(ctx context.Context, d *Document) ([]byte, error) {
	if len(d.Sealed) == 0 {
		return nil, nil
	}
	return v.sealer.OpenSecret(ctx, d.Owner, string(d.Kind), d.ID, d.Sealed)
}

// marked is the body of a document with its mark, which is sealed and says
// nothing but that it opens.
type marked struct {
	Body json.RawMessage `json:"body"`
	Mark []byte          `json:"mark"`
}

const purposeMark = "document"

// markName is what a mark is bound to: all of the document.
func markName(d *Document, body []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %q %d %x ", d.Kind, d.ID, d.Version, d.Owner, d.DataKey, d.Sealed)
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// mark writes the body of a document that is complete but for that.
func (v *Vault) mark(ctx context.Context, d *Document, body []byte) error {
	mark, err := v.sealer.SealSecret(ctx, keystore.CustodyTenant, purposeMark, markName(d, body), nil)
	if err != nil {
		return err
	}
	d.Body, err = json.Marshal(marked{body, mark})
	return err
}

// body returns what [Vault.mark] was given.
func (v *Vault) body(ctx context.Context, d *Document) ([]byte, error) {
	var m marked
	if err := json.Unmarshal(d.Body, &m); err != nil {
		return nil, fmt.Errorf("%s %s: %w: it cannot be read", d.Kind, d.ID, keystore.ErrCorrupt)
	}
	if _, err := v.sealer.OpenSecret(ctx, keystore.CustodyTenant, purposeMark, markName(d, m.Body), m.Mark); err != nil {
		return nil, fmt.Errorf("%s %s: %w", d.Kind, d.ID, err)
	}
	return m.Body, nil
}

// Settings writes a tenant's settings into its document. Credentials are
// documents of their own. The document's version is set.
func (v *Vault) Settings(ctx context.Context, d *Document, s *Settings) (err error) {
	d.Kind, d.ID = KindTenant, s.ID
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("tenant %s: %w", s.ID, err)
	}
	secrets, err := s.sealable()
	if err != nil {
		return fmt.Errorf("tenant %s: %w", s.ID, err)
	}
	defer clear(secrets)
	if err := v.Seal(ctx, d, s.ID, secrets); err != nil {
		return err
	}
	return v.mark(ctx, d, body)
}

// OpenSettings reads what [Vault.Settings] wrote.
func (v *Vault) OpenSettings(ctx context.Context, d *Document) (s Settings, err error) {
	if s, err = v.PublicSettings(ctx, d); err != nil {
		return s, err
	}
	secrets, err := v.Open(ctx, d)
	if err != nil {
		return s, err
	}
	defer clear(secrets)
	return s, s.unseal(secrets)
}

// PublicSettings is [Vault.OpenSettings] with [Hidden] in the place of secrets.
func (v *Vault) PublicSettings(ctx context.Context, d *Document) (s Settings, err error) {
	body, err := v.body(ctx, d)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(body, &s); err != nil || s.ID != d.ID {
		return s, fmt.Errorf("tenant %s: %w: its document", d.ID, keystore.ErrCorrupt)
	}
	return s, nil
}

// StoredCredential is a credential with what is known of its making.
type StoredCredential struct {
	Credential
	Created time.Time
	Role    string // of an admin's credential
}

// Format hides the secrets.
func (c StoredCredential) Format(f fmt.State, verb rune) { c.Credential.Format(f, verb) }

// credentialBody is the document of a credential. The hash is in place of its
// secret.
type credentialBody struct {
	Credential Credential `json:"credential"`
	Created    time.Time  `json:"created"`
	Role       string     `json:"role,omitzero"`
	Hash       string     `json:"hash,omitzero"`
}

// CredentialID is the ID of the document of a tenant's credential.
func CredentialID(tenant, name string) string { return tenant + "/" + name }

// Credential writes a credential into its document, whose kind, ID and version
// are set.
// Its secret must be as [Credential.Stored] leaves it.
func (v *Vault) Credential(ctx context.Context, d *Document, owner string, c *StoredCredential) (err error) {
	b := credentialBody{Credential: c.Credential, Created: c.Created, Role: c.Role}
	var secret string
	switch {
	case c.Basic != nil:
		b.Hash = string(c.Basic.PasswordHash)
	case c.APIKey != nil:
		b.Hash = string(c.APIKey.SHA256)
	case c.Token != nil:
		b.Hash = string(c.Token.SHA256)
	case c.OAuthClient != nil:
		b.Hash = string(c.OAuthClient.SHA256)
	case c.Digest != nil:
		secret = string(c.Digest.Password)
	case c.SigV4 != nil:
		secret = string(c.SigV4.SecretAccessKey)
	case c.WidevineSigner != nil && c.WidevineSigner.AESKey != "":
		secret = string(c.WidevineSigner.AESKey + ":" + c.WidevineSigner.AESIV)
	}
	body, err := json.Marshal(&b)
	if err != nil {
		return fmt.Errorf("credential %s: %w", d.ID, err)
	}
	if err := v.Seal(ctx, d, owner, []byte(secret)); err != nil {
		return err
	}
	return v.mark(ctx, d, body)
}

// OpenCredential reads what [Vault.Credential] wrote.
func (v *Vault) OpenCredential(ctx context.Context, d *Document) (*StoredCredential, error) {
	body, err := v.body(ctx, d)
	if err != nil {
		return nil, err
	}
	var b credentialBody
	name := d.ID[strings.LastIndexByte(d.ID, '/')+1:]
	if err := json.Unmarshal(body, &b); err != nil || b.Credential.Name != name {
		return nil, fmt.Errorf("credential %s: %w: its document", d.ID, keystore.ErrCorrupt)
	}
	secret, err := v.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	c := &StoredCredential{Credential: b.Credential, Created: b.Created, Role: b.Role}
	switch {
	case c.Basic != nil:
		c.Basic.PasswordHash = Secret(b.Hash)
	case c.APIKey != nil:
		c.APIKey.SHA256 = Fingerprint(b.Hash)
	case c.Token != nil:
		c.Token.SHA256 = Fingerprint(b.Hash)
	case c.OAuthClient != nil:
		c.OAuthClient.SHA256 = Fingerprint(b.Hash)
	case c.Digest != nil:
		c.Digest.Password = Secret(secret)
	case c.SigV4 != nil:
		c.SigV4.SecretAccessKey = Secret(secret)
	case c.WidevineSigner != nil && len(secret) > 0:
		key, iv, _ := strings.Cut(string(secret), ":")
		c.WidevineSigner.AESKey, c.WidevineSigner.AESIV = Secret(key), Secret(iv)
	}
	return c, nil
}

// Plain returns where a credential of a kind with one secret has it in plain
// text, and nil for other kinds.
func (c *Credential) Plain() *Secret {
	switch {
	case c.Basic != nil:
		return &c.Basic.Password
	case c.APIKey != nil:
		return &c.APIKey.Key
	case c.Token != nil:
		return &c.Token.Token
	case c.Digest != nil:
		return &c.Digest.Password
	case c.OAuthClient != nil:
		return &c.OAuthClient.Secret
	case c.SigV4 != nil:
		return &c.SigV4.SecretAccessKey
	}
	return nil
}

// Kind names the way in, as configuration files do.
func (c *Credential) Kind() string {
	switch {
	case c.Basic != nil:
		return "basic"
	case c.APIKey != nil:
		return "api_key"
	case c.Token != nil:
		return "token"
	case c.Digest != nil:
		return "digest"
	case c.OAuthClient != nil:
		return "oauth_client"
	case c.JWT != nil:
		return "jwt"
	case c.MTLS != nil:
		return "mtls"
	case c.DeliveryCertificate != nil:
		return "delivery_certificate"
	case c.IAM != nil:
		return "iam"
	case c.SigV4 != nil:
		return "sigv4"
	case c.WidevineSigner != nil:
		return "widevine_signer"
	}
	return ""
}

// minSecret is how long a secret must be that is kept as a fast hash, or that
// somebody else made up.
const minSecret = 16

// maxPassword is what bcrypt reads of a password.
const maxPassword = 72

// Stored puts a hash in the place of a secret that is not needed back. The
// secret must be one that nobody guesses.
func (c *Credential) Stored() error {
	plain := c.Plain()
	if plain == nil || *plain == "" {
		return nil
	}
	if len(*plain) < minSecret || len(*plain) > maxPassword {
		return fmt.Errorf("%s: a secret must have %d to %d characters", c.Kind(), minSecret, maxPassword)
	}
	sum := sha256.Sum256([]byte(*plain))
	digest := Fingerprint(hex.EncodeToString(sum[:]))
	switch {
	case c.Basic != nil:
		hash, err := bcrypt.GenerateFromPassword([]byte(*plain), bcrypt.DefaultCost)
		if err != nil {
			return errors.New("basic: the password cannot be hashed")
		}
		c.Basic.PasswordHash = Secret(hash)
	case c.APIKey != nil:
		c.APIKey.SHA256 = digest
	case c.Token != nil:
		c.Token.SHA256 = digest
	case c.OAuthClient != nil:
		c.OAuthClient.SHA256 = digest
	default:
		return nil // the scheme needs it back
	}
	*plain = ""
	return nil
}
