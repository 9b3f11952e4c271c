package tenant

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"spekeasy/internal/password"
)

// Credential is a way in for a tenant's encryptors. A tenant may have several
// at once, of one kind or of many, so that a secret can be changed while the
// one before still works. Exactly one of the kinds is set.
type Credential struct {
	Name      string `yaml:"name" json:"name"`                                // for records; unique within the tenant
	NotBefore Time   `yaml:"not_before,omitempty" json:"not_before,omitzero"` // from the beginning if empty
	Expires   Time   `yaml:"expires,omitempty" json:"expires,omitzero"`       // never if empty
	Roles     []Role `yaml:"roles,omitempty" json:"roles,omitzero"`           // what it may do; encryptor if empty

	Basic  *Basic  `yaml:"basic,omitempty" json:"basic,omitzero"`
	APIKey *APIKey `yaml:"api_key,omitempty" json:"api_key,omitzero"`
	Token  *Token  `yaml:"token,omitempty" json:"token,omitzero"`
	Digest *Digest `yaml:"digest,omitempty" json:"digest,omitzero"`

	OAuthClient *OAuthClient `yaml:"oauth_client,omitempty" json:"oauth_client,omitzero"`
	JWT         *JWT         `yaml:"jwt,omitempty" json:"jwt,omitzero"`

	MTLS                *MTLS                `yaml:"mtls,omitempty" json:"mtls,omitzero"`
	DeliveryCertificate *DeliveryCertificate `yaml:"delivery_certificate,omitempty" json:"delivery_certificate,omitzero"`

	IAM   *IAM   `yaml:"iam,omitempty" json:"iam,omitzero"`
	SigV4 *SigV4 `yaml:"sigv4,omitempty" json:"sigv4,omitzero"`

	WidevineSigner *WidevineSigner `yaml:"widevine_signer,omitempty" json:"widevine_signer,omitzero"`
}

// Format hides the secrets. Their type does so too, but fmt does not ask the
// type of a member when it is given a verb that does not fit a pointer around
// it.
func (c Credential) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(credential %s)", c.Name) }

// Time is an instant in writing: RFC 3339, or a date, which means its
// beginning in UTC.
type Time string

// Time reads the instant; it is zero if there is none.
func (t Time) Time() (time.Time, error) {
	if t == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if v, err := time.Parse(layout, string(t)); err == nil {
			return v, nil
		}
	}
	return time.Time{}, errors.New("neither a date such as 2026-12-31 nor a time such as 2026-12-31T12:00:00Z")
}

// Secret is a text that opens something. It does not print.
type Secret string

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(f fmt.State, _ rune) { f.Write([]byte("(secret)")) } //nolint:errcheck // fmt keeps the error

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText keeps a secret out of whatever is written.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// Fingerprint is a SHA-256 digest in hexadecimal; colons, as OpenSSL writes
// them, are allowed.
type Fingerprint string

// Bytes reads the digest.
func (f Fingerprint) Bytes() ([sha256.Size]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(string(f), ":", ""))
	if err != nil || len(b) != sha256.Size {
		return [sha256.Size]byte{}, errors.New("not a SHA-256 digest in hexadecimal")
	}
	return [sha256.Size]byte(b), nil
}

func (f Fingerprint) check() error {
	if _, err := f.Bytes(); err != nil {
		return fmt.Errorf("sha256: %w", err)
	}
	return nil
}

// Basic is a user name and password (RFC 7617).
type Basic struct {
	User         string `yaml:"user" json:"user"`
	Password     Secret `yaml:"password,omitempty" json:"-"`
	PasswordHash Secret `yaml:"password_hash,omitempty" json:"-"` // bcrypt or argon2id, instead of the password
}

// APIKey is a secret that is the whole value of a header.
type APIKey struct {
	Header string      `yaml:"header,omitempty" json:"header,omitzero"` // x-api-key by default
	Key    Secret      `yaml:"key,omitempty" json:"-"`
	SHA256 Fingerprint `yaml:"sha256,omitempty" json:"-"` // of the key, instead of it
}

// DefaultAPIKeyHeader is where an API key stands if nothing else is said.
const DefaultAPIKeyHeader = "X-Api-Key"

// Token is a secret in the URL: in a query parameter, or in the path of the
// routes that have one.
type Token struct {
	Parameter string      `yaml:"parameter,omitempty" json:"parameter,omitzero"` // enc-token by default
	Token     Secret      `yaml:"token,omitempty" json:"-"`
	SHA256    Fingerprint `yaml:"sha256,omitempty" json:"-"` // of the token, instead of it
}

// DefaultTokenParameter is the query parameter of a token if nothing else is
// said.
const DefaultTokenParameter = "enc-token"

// Validity returns from when on and until when the credential is good; zero
// times are no bounds.
func (c *Credential) Validity() (from, until time.Time, err error) {
	if from, err = c.NotBefore.Time(); err != nil {
		return from, until, fmt.Errorf("not_before: %w", err)
	}
	if until, err = c.Expires.Time(); err != nil {
		return from, until, fmt.Errorf("expires: %w", err)
	}
	if !until.IsZero() && !until.After(from) {
		return from, until, errors.New("expires: must be after not_before")
	}
	return from, until, nil
}

// Digest is a user name and password for HTTP Digest (RFC 7616). The scheme
// needs the password itself, or what is as good as it.
type Digest struct {
	User     string `yaml:"user" json:"user"`
	Password Secret `yaml:"password" json:"-"`
	RFC2069  bool   `yaml:"rfc2069,omitempty" json:"rfc2069,omitzero"` // allows clients without qop, whose requests can be replayed
}

// OAuthClient is a client of our own token endpoint (RFC 6749, 4.4).
type OAuthClient struct {
	ID     string      `yaml:"id" json:"id"`
	Secret Secret      `yaml:"secret,omitempty" json:"-"`
	SHA256 Fingerprint `yaml:"sha256,omitempty" json:"-"` // of the secret, instead of it
}

// JWT is the tokens of an external issuer. A token opens the tenant if it was
// issued for the audience and has all the claims.
type JWT struct {
	Issuer   string            `yaml:"issuer" json:"issuer"`                    // iss
	JWKS     string            `yaml:"jwks_url" json:"jwks_url"`                // where the issuer has its keys
	Audience string            `yaml:"audience" json:"audience"`                // aud
	Claims   map[string]string `yaml:"claims,omitempty" json:"claims,omitzero"` // of a claim with several values, one has to be it
}

// MTLS is a client certificate of mutual TLS.
type MTLS struct {
	SHA256  Fingerprint `yaml:"sha256,omitempty" json:"sha256,omitzero"`   // of the certificate in DER
	Subject string      `yaml:"subject,omitempty" json:"subject,omitzero"` // as in RFC 2253, of a certificate that a client CA issued
}

// DeliveryCertificate is a certificate to which keys are encrypted and which
// stands for the tenant. It proves nothing: anybody who has it can have keys
// made and learn key IDs, but nobody without its key can read one.
type DeliveryCertificate struct {
	SHA256 Fingerprint `yaml:"sha256" json:"sha256"` // of the certificate in DER
}

// IAM is principals of AWS IAM that an API gateway has recognized.
type IAM struct {
	// ARNs of roles, users and sessions; "*" in what follows the account is
	// any text without a slash. The ARN of a role stands for its sessions too.
	ARNs []string `yaml:"arns" json:"arns"`
}

// SigV4 is an access key that we issue for AWS Signature Version 4. The
// scheme needs the secret itself.
type SigV4 struct {
	AccessKeyID     string   `yaml:"access_key_id" json:"access_key_id"`
	SecretAccessKey Secret   `yaml:"secret_access_key" json:"-"`
	Regions         []string `yaml:"regions" json:"regions"` // that the scope of a signature may have
}

// CheckName reports whether a text can name a credential that the admin API
// manages.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("name: %.64q is not 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', beginning with a letter or digit", name)
	}
	return nil
}

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`)

// Check judges a credential by itself. The error never holds a secret.
func (c *Credential) Check() error {
	if c.Name == "" {
		return errors.New("name: required")
	}
	if _, _, err := c.Validity(); err != nil {
		return err
	}
	if err := c.checkRoles(); err != nil {
		return err
	}
	var all, given []string
	var check func() error
	kind := func(name string, set bool, f func() error) {
		all = append(all, name)
		if set {
			given = append(given, name)
			check = f
		}
	}
	kind("basic", c.Basic != nil, c.Basic.check)
	kind("api_key", c.APIKey != nil, c.APIKey.check)
	kind("token", c.Token != nil, c.Token.check)
	kind("digest", c.Digest != nil, c.Digest.check)
	kind("oauth_client", c.OAuthClient != nil, c.OAuthClient.check)
	kind("jwt", c.JWT != nil, c.JWT.check)
	kind("mtls", c.MTLS != nil, c.MTLS.check)
	kind("delivery_certificate", c.DeliveryCertificate != nil, c.DeliveryCertificate.check)
	kind("iam", c.IAM != nil, c.IAM.check)
	kind("sigv4", c.SigV4 != nil, c.SigV4.check)
	kind("widevine_signer", c.WidevineSigner != nil, c.WidevineSigner.check)
	switch len(given) {
	case 0:
		return fmt.Errorf("no way in is given: one of %s is required", strings.Join(all, ", "))
	case 1:
		if err := check(); err != nil {
			return fmt.Errorf("%s: %w", given[0], err)
		}
		return nil
	default:
		return fmt.Errorf("%s are given, but a credential is one way in", strings.Join(given, " and "))
	}
}

func (b *Basic) check() error {
	switch {
	case b.User == "" || (b.Password == "") == (b.PasswordHash == ""):
		return errors.New("user and one of password and password_hash are required")
	case strings.Contains(b.User, ":"):
		return errors.New("user must not have a colon")
	case b.PasswordHash != "":
		if _, err := password.Parse(string(b.PasswordHash)); err != nil {
			return fmt.Errorf("password_hash: %w", err)
		}
	}
	return nil
}

func (d *Digest) check() error {
	switch {
	case d.User == "" || d.Password == "":
		return errors.New("user and password are required")
	case strings.Contains(d.User, ":"):
		return errors.New("user must not have a colon")
	}
	return nil
}

func (c *OAuthClient) check() error {
	if c.ID == "" {
		return errors.New("id: required")
	}
	return checkHashable("secret", c.Secret, c.SHA256)
}

func (j *JWT) check() error {
	if j.Issuer == "" || j.Audience == "" {
		return errors.New("issuer, jwks_url and audience are required")
	}
	u, err := url.Parse(j.JWKS)
	if err != nil || u.Host == "" {
		return errors.New("jwks_url: not a URL")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !ip.IsLoopback()) {
		return errors.New("jwks_url: https is required")
	}
	return nil
}

func (m *MTLS) check() error {
	if (m.SHA256 == "") == (m.Subject == "") {
		return errors.New("one of sha256 and subject is required")
	}
	if m.SHA256 == "" {
		return nil
	}
	return m.SHA256.check()
}

func (d *DeliveryCertificate) check() error { return d.SHA256.check() }

func (i *IAM) check() error {
	if len(i.ARNs) == 0 {
		return errors.New("arns: at least one is required")
	}
	for _, arn := range i.ARNs {
		if !arnPattern.MatchString(arn) {
			return fmt.Errorf("arns: %q is not the ARN of a role, user or session in one account", arn)
		}
	}
	return nil
}

// arnPattern wants an account: without one, everybody with an AWS account
// would fit.
var arnPattern = regexp.MustCompile(`^arn:aws(-[a-z]+)*:(iam::[0-9]{12}:(role|user)|sts::[0-9]{12}:(assumed-role|federated-user))/[\w+=,.@/*-]+$`)

func (s *SigV4) check() error {
	switch {
	case !accessKeyPattern.MatchString(s.AccessKeyID):
		return errors.New("access_key_id: 4 to 128 letters, digits, - and _")
	case len(s.SecretAccessKey) < 16:
		return errors.New("secret_access_key: at least 16 characters")
	case len(s.Regions) == 0 || slices.Contains(s.Regions, ""):
		return errors.New("regions: at least one is required")
	}
	return nil
}

var accessKeyPattern = regexp.MustCompile(`^[0-9A-Za-z_-]{4,128}$`)

func (k *APIKey) check() error {
	if k.Header != "" && !isToken(k.Header) {
		return errors.New("header: not the name of a header")
	}
	return checkHashable("key", k.Key, k.SHA256)
}

func (t *Token) check() error {
	if t.Parameter != "" && !isToken(t.Parameter) {
		return errors.New("parameter: not the name of a query parameter")
	}
	return checkHashable("token", t.Token, t.SHA256)
}

// checkHashable judges a secret that is given as itself or as its digest.
func checkHashable(name string, secret Secret, digest Fingerprint) error {
	if (secret == "") == (digest == "") {
		return fmt.Errorf("one of %s and sha256 is required", name)
	}
	if digest == "" {
		return nil
	}
	return digest.check()
}

// isToken reports whether s is a token of RFC 9110, as names of headers are.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c > '~' || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
