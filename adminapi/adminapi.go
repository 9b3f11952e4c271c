// Package adminapi is the admin API of a key server: the types of its
// requests and answers, and a client. docs/admin-api.md describes it, and a
// server has the whole of it as an OpenAPI 3.1 document at /openapi.json.
//
// Times are RFC 3339 in UTC. Members that do not apply are left out.
package adminapi

import (
	"fmt"
	"log/slog"
	"time"
)

// Base is the path that all operations begin with.
const Base = "/admin/v1"

// Secret is a text that opens something. It does not print.
type Secret string

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(secret)") }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// Page is one page of a list. Next is the cursor of the next one, empty at
// the end.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitzero" doc:"Cursor of the next page; absent at the end."`
}

// PageRequest asks for a page of a list.
type PageRequest struct {
	Limit  int    // items; the server's default when 0
	Cursor string // [Page.Next] of the page before; "" for the first
}

// Roles of admin credentials. Each may do what the one before may.
const (
	RoleViewer          = "viewer"           // reads everything but secrets and key values
	RoleOperator        = "operator"         // manages tenants, credentials and the deletion of keys
	RoleSecurityOfficer = "security-officer" // purges and exports keys, deletes tenants, manages admins
)

// Who says who a request was sent by.
type Who struct {
	Name string `json:"name" doc:"Name of the admin credential."`
	Role string `json:"role" enum:"viewer,operator,security-officer"`
}

// Health says how the server is.
type Health struct {
	Status  string  `json:"status" enum:"ok,unavailable" doc:"unavailable: the store does not answer."`
	Version string  `json:"version"`
	Stored  int     `json:"stored_tenants" doc:"Tenants from the store that are served."`
	Faults  []Fault `json:"faults,omitempty" doc:"Stored tenants and credentials that cannot be used and are left out."`
}

// Fault is a stored tenant, or a credential of one, that cannot be used.
type Fault struct {
	Tenant     string `json:"tenant"`
	Credential string `json:"credential,omitzero"`
	Error      string `json:"error"`
}

// Where a tenant, a credential or an admin comes from.
const (
	OriginFile  = "file"  // the configuration file; read-only here
	OriginStore = "store" // made by this API
)

// Tenant is a customer with its settings.
type Tenant struct {
	ID       string         `json:"id"`
	Origin   string         `json:"origin" enum:"file,store"`
	Version  uint64         `json:"version,omitzero" doc:"Counts the changes; it is the ETag."`
	Changed  time.Time      `json:"changed,omitzero"`
	Settings TenantSettings `json:"settings"`
	Fault    string         `json:"fault,omitzero" doc:"What is wrong with its row in the store, in lists; its settings are not known."`
}

// NewTenant asks for a tenant.
type NewTenant struct {
	ID       string         `json:"id" minLength:"1" maxLength:"64" pattern:"^[a-z0-9][a-z0-9._-]*$" doc:"Stays for ever, also after the tenant was deleted."`
	Settings TenantSettings `json:"settings,omitzero"`
}

// Credential is a way in. Exactly one of the kinds is set. Its secret is shown
// once, when it was made.
type Credential struct {
	Name      string `json:"name" minLength:"1" maxLength:"64" pattern:"^[a-zA-Z0-9][a-zA-Z0-9._-]*$"`
	NotBefore string `json:"not_before,omitzero" doc:"A date or a time (RFC 3339); good from the beginning if absent."`
	Expires   string `json:"expires,omitzero" doc:"A date or a time (RFC 3339); never if absent."`

	Roles []string `json:"roles,omitempty" enum:"encryptor,entitlement" doc:"What it may do; encryptor if absent."`

	Basic               *Basic               `json:"basic,omitempty"`
	APIKey              *APIKey              `json:"api_key,omitempty"`
	Token               *Token               `json:"token,omitempty"`
	Digest              *Digest              `json:"digest,omitempty"`
	OAuthClient         *OAuthClient         `json:"oauth_client,omitempty"`
	JWT                 *JWT                 `json:"jwt,omitempty"`
	MTLS                *MTLS                `json:"mtls,omitempty"`
	DeliveryCertificate *DeliveryCertificate `json:"delivery_certificate,omitempty"`
	IAM                 *IAM                 `json:"iam,omitempty"`
	SigV4               *SigV4               `json:"sigv4,omitempty"`
	WidevineSigner      *WidevineSigner      `json:"widevine_signer,omitempty"`
}

// Secret returns the secret of the credential as far as it is known, "" for
// none.
func (c *Credential) Secret() Secret {
	if p := c.secret(); p != nil {
		return *p
	}
	return ""
}

// SetSecret sets the secret of a credential whose kind has one.
func (c *Credential) SetSecret(s Secret) {
	if p := c.secret(); p != nil {
		*p = s
	}
}

func (c *Credential) secret() *Secret {
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

// Basic is HTTP Basic authentication.
type Basic struct {
	User     string `json:"user,omitzero" doc:"By default the tenant's ID."`
	Password Secret `json:"password,omitzero" doc:"16 to 72 characters; made up if absent."`
}

// APIKey is a secret that is the whole value of a header.
type APIKey struct {
	Header string `json:"header,omitzero" doc:"x-api-key by default."`
	Key    Secret `json:"key,omitzero" doc:"16 to 72 characters; made up if absent."`
}

// Token is a secret in the URL.
type Token struct {
	Parameter string `json:"parameter,omitzero" doc:"Query parameter; enc-token by default."`
	Token     Secret `json:"token,omitzero" doc:"16 to 72 characters; made up if absent."`
}

// Digest is HTTP Digest authentication.
type Digest struct {
	User     string `json:"user,omitzero" doc:"By default the tenant's ID."`
	Password Secret `json:"password,omitzero" doc:"16 to 72 characters; made up if absent."`
	RFC2069  bool   `json:"rfc2069,omitzero" doc:"Allows clients without qop, whose requests can be replayed."`
}

// OAuthClient is a client of the server's own token endpoint.
type OAuthClient struct {
	ID     string `json:"id,omitzero" doc:"By default the tenant's ID."`
	Secret Secret `json:"secret,omitzero" doc:"16 to 72 characters; made up if absent."`
}

// JWT is the tokens of an external issuer.
type JWT struct {
	Issuer   string            `json:"issuer"`
	JWKS     string            `json:"jwks_url"`
	Audience string            `json:"audience"`
	Claims   map[string]string `json:"claims,omitzero"`
}

// MTLS is a client certificate of mutual TLS.
type MTLS struct {
	SHA256  string `json:"sha256,omitzero" doc:"Of the certificate in DER, hexadecimal."`
	Subject string `json:"subject,omitzero" doc:"As in RFC 2253, of a certificate that a client CA issued."`
}

// DeliveryCertificate is a certificate to which keys are encrypted and which
// stands for the tenant.
type DeliveryCertificate struct {
	SHA256 string `json:"sha256" doc:"Of the certificate in DER, hexadecimal."`
}

// IAM is principals of AWS IAM that an API gateway has recognized.
type IAM struct {
	ARNs []string `json:"arns" nullable:"false"`
}

// SigV4 is an access key for AWS Signature Version 4.
type SigV4 struct {
	AccessKeyID     string   `json:"access_key_id,omitzero" doc:"Made up if absent."`
	SecretAccessKey Secret   `json:"secret_access_key,omitzero" doc:"16 to 72 characters; made up if absent."`
	Regions         []string `json:"regions" nullable:"false"`
}

// WidevineSigner is a packager that signs its requests as those to Widevine's
// key server are signed.
type WidevineSigner struct {
	Name         string `json:"name,omitzero" doc:"By default the tenant's ID."`
	AESKey       Secret `json:"aes_key,omitzero" doc:"Hexadecimal, 16 or 32 bytes; made up if absent and there is no RSA key."`
	AESIV        Secret `json:"aes_iv,omitzero" doc:"Hexadecimal, 16 bytes; made up with the key."`
	RSAPublicKey string `json:"rsa_public_key,omitzero" doc:"PEM, instead of the AES key."`
	Test         bool   `json:"test,omitzero" doc:"Allows Google's public test key."`
}

// States of a credential.
const (
	StateActive  = "active"
	StatePending = "pending" // before not_before
	StateExpired = "expired"
	StateDamaged = "damaged" // its row in the store cannot be read, and it is not served
)

// CredentialInfo is a credential with what is known of it.
type CredentialInfo struct {
	Credential
	Kind     string    `json:"kind"`
	Origin   string    `json:"origin" enum:"file,store"`
	State    string    `json:"state" enum:"active,pending,expired,damaged"`
	DaysLeft *int      `json:"days_left,omitempty" doc:"Whole days until it expires."`
	Created  time.Time `json:"created,omitzero"`
	Version  uint64    `json:"version,omitzero" doc:"Counts the changes; it is the ETag."`
}

// Rotation asks for a new secret beside the present one.
type Rotation struct {
	Name    string `json:"name,omitzero" pattern:"^[a-zA-Z0-9][a-zA-Z0-9._-]*$" maxLength:"64" doc:"Of the new credential; by default that of the old one with a number."`
	Overlap string `json:"overlap,omitzero" doc:"How long the old one goes on, such as 72h or 14d; 14d by default."`
	Expires string `json:"expires,omitzero" doc:"When the new one ends; never if absent."`
}

// Validity is when a credential is good.
type Validity struct {
	NotBefore string `json:"not_before,omitzero"`
	Expires   string `json:"expires,omitzero"`
}

// Admin is a credential of this API.
type Admin struct {
	Name     string    `json:"name"`
	Role     string    `json:"role" enum:"viewer,operator,security-officer"`
	Kind     string    `json:"kind"`
	Origin   string    `json:"origin" enum:"file,store"`
	State    string    `json:"state" enum:"active,pending,expired,damaged"`
	Expires  string    `json:"expires,omitzero"`
	DaysLeft *int      `json:"days_left,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	Version  uint64    `json:"version,omitzero"`
	Password Secret    `json:"password,omitzero" doc:"Shown once, when it was made. The user name is the name."`
}

// NewAdmin asks for a credential of this API: a user, whose password the
// server makes up.
type NewAdmin struct {
	Name    string `json:"name" minLength:"1" maxLength:"64" pattern:"^[a-zA-Z0-9][a-zA-Z0-9._-]*$"`
	Role    string `json:"role" enum:"viewer,operator,security-officer"`
	Expires string `json:"expires,omitzero" doc:"A date or a time (RFC 3339); never if absent."`
}
