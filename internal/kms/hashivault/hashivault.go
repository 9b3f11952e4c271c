// Package hashivault wraps keys with the transit engine of HashiCorp Vault
// (1.13 or later) or OpenBao:
//
//	hashivault://vault.example.com:8200/KEY?auth=approle
//
// Parameters:
//
//	mount=transit           where the transit engine is
//	namespace=NS            X-Vault-Namespace
//	auth=token              token, approle or kubernetes
//	auth_mount=approle      where the auth method is, its own name by default
//	token_file=PATH         for token, instead of VAULT_TOKEN; read again when refused
//	role_id_file=PATH       for approle, instead of VAULT_ROLE_ID
//	secret_id_file=PATH     for approle, instead of VAULT_SECRET_ID
//	role=NAME               for kubernetes
//	jwt_file=PATH           for kubernetes, the service account's token by default
//	ca_file=PATH            PEM certificates that sign the server's, instead of the system's
//	tls=off                 plain HTTP, to an agent on this machine only
//
// The key must be of a type with associated data: aes256-gcm96 (Vault's
// default), aes128-gcm96, chacha20-poly1305 or xchacha20-poly1305, and not
// derived. Vault's encrypt endpoint makes a key that does not exist, if the
// token's policy lets it; Wrap therefore looks first.
package hashivault

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/rest"
)

var _ kms.Manager = (*Manager)(nil)

// Options are what a manager may be given; the zero value works.
type Options struct {
	// HTTPClient reaches Vault; nil for one with timeouts.
	HTTPClient *http.Client

	// Getenv looks up VAULT_TOKEN, VAULT_ROLE_ID and VAULT_SECRET_ID; nil
	// for os.Getenv.
	Getenv func(string) string

	// Now tells when a token expires; nil for time.Now.
	Now func() time.Time
}

// Manager wraps under one transit key.
type Manager struct {
	name      string // mount and name of the key, as KeyID has it
	key       string
	mount     string // URL of the engine
	namespace string
	api       *rest.Client
	token     *rest.Token
	binds     atomic.Bool // seen to enforce associated data
}

// A path of segments, as Vault has them for mounts and namespaces.
var (
	keyPattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	pathPattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)
)

// Open returns the manager that a URI chooses. It does not ask Vault.
func Open(_ context.Context, uri *url.URL, opts Options) (*Manager, error) {
	params, err := kms.Query(uri, "mount", "namespace", "auth", "auth_mount", "token_file", "role_id_file", "secret_id_file", "role", "jwt_file", "ca_file", "tls")
	if err != nil {
		return nil, err
	}
	key := strings.TrimPrefix(uri.Path, "/")
	if uri.Host == "" || !keyPattern.MatchString(key) {
		return nil, errors.New("hashivault URI: want hashivault://HOST:PORT/KEY")
	}
	for _, name := range []string{"mount", "namespace", "auth_mount"} {
		if v, ok := params[name]; ok && !pathPattern.MatchString(v) {
			return nil, fmt.Errorf("hashivault URI: %s is not a path", name)
		}
	}
	mount := params["mount"]
	if mount == "" {
		mount = "transit"
	}
	scheme := "https://"
	if off, ok := params["tls"]; ok {
		if off != "off" {
			return nil, errors.New("hashivault URI: tls can only be off")
		}
		scheme = "http://"
	}
	address, err := rest.Endpoint(scheme + uri.Host)
	if err != nil {
		return nil, fmt.Errorf("hashivault URI: %w", err)
	}
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if file, ok := params["ca_file"]; ok {
		if opts.HTTPClient, err = trusting(opts.HTTPClient, file); err != nil {
			return nil, fmt.Errorf("hashivault URI: ca_file: %w", err)
		}
	}
	m := &Manager{
		name:      mount + "/keys/" + key,
		key:       key,
		mount:     address + "/v1/" + mount,
		namespace: params["namespace"],
		api:       &rest.Client{HTTP: rest.HTTPClient(opts.HTTPClient), Words: words, Transient: transient},
	}
	if m.namespace != "" {
		m.name = m.namespace + "/" + m.name
	}
	fetch, err := m.tokenSource(address, params, opts.Getenv)
	if err != nil {
		return nil, fmt.Errorf("hashivault URI: %w", err)
	}
	m.token = rest.NewToken(opts.Now, fetch)
	return m, nil
}

// trusting returns a copy of a client that trusts the certificates in a file
// only.
func trusting(h *http.Client, file string) (*http.Client, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	c := http.Client{}
	if h != nil {
		c = *h
	}
	if c.Transport == nil {
		c.Transport = rest.Transport()
	}
	t, ok := c.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("cannot be set on the HTTP client that this program uses")
	}
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.RootCAs = roots
	c.Transport = t
	return &c, nil
}

// KeyID returns hashivault:[NAMESPACE/]MOUNT/keys/KEY. The server's address
// is left out: it changes in the life of a key.
func (m *Manager) KeyID() string { return "hashivault:" + m.name }

// Wrap implements [kms.Manager].
func (m *Manager) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := kms.CheckPlaintext(plaintext); err != nil {
		return nil, err
	}
	if err := m.look(ctx); err != nil {
		return nil, err
	}
	if !m.binds.Load() {
		if err := m.probe(ctx); err != nil {
			return nil, err
		}
		m.binds.Store(true)
	}
	return m.encrypt(ctx, plaintext, aad)
}

// look asks for the key without making it, and whether it is of a kind that
// can wrap.
func (m *Manager) look(ctx context.Context) error {
	var out struct {
		Data struct {
			Type        string `json:"type"`
			Derived     bool   `json:"derived"`
			SoftDeleted bool   `json:"soft_deleted"`
		} `json:"data"`
	}
	if err := m.call(ctx, "read", http.MethodGet, "/keys/", nil, &out); err != nil {
		return err
	}
	switch key := out.Data; {
	case key.Type == "":
		return fmt.Errorf("%w: %s: read was answered without a key type", kms.ErrUnavailable, m.name)
	case !slices.Contains([]string{"aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305"}, key.Type):
		return fmt.Errorf("%w: %s: type %s has no associated data; use aes256-gcm96", kms.ErrKeyUnusable, m.name, key.Type)
	case key.Derived:
		return fmt.Errorf("%w: %s: it is derived; make one without derived=true", kms.ErrKeyUnusable, m.name)
	case key.SoftDeleted:
		return fmt.Errorf("%w: %s: it is deleted and can be restored", kms.ErrKeyUnusable, m.name)
	}
	return nil
}

// probe refuses a Vault that does not know associated data. One before 1.13
// would ignore it without a word, and wrapped keys could be exchanged.
func (m *Manager) probe(ctx context.Context) error {
	secret := make([]byte, 32)
	rand.Read(secret)
	w, err := m.encrypt(ctx, secret, []byte("spekeasy probe"))
	if err != nil {
		return err
	}
	_, err = m.decrypt(ctx, w, []byte("spekeasy other"))
	if err == nil {
		return fmt.Errorf("%w: %s: this server ignores associated data; Vault needs to be 1.13 or later", kms.ErrKeyUnusable, m.name)
	}
	if !errors.Is(err, kms.ErrNotOpened) {
		return err
	}
	return nil
}

// operand is the body of a request, and data that of an answer.
type (
	operand struct {
		Plaintext  []byte `json:"plaintext,omitempty"`
		Ciphertext string `json:"ciphertext,omitempty"`
		AAD        []byte `json:"associated_data,omitempty"`
	}
	result struct {
		Data struct {
			Plaintext  []byte `json:"plaintext"`
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
)

func (m *Manager) encrypt(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	var out result
	if err := m.call(ctx, "encrypt", http.MethodPost, "/encrypt/", operand{Plaintext: plaintext, AAD: aad}, &out); err != nil {
		return nil, err
	}
	w := []byte(out.Data.Ciphertext)
	if !wellFormed(w) {
		return nil, fmt.Errorf("%w: %s: encrypt was answered without a ciphertext", kms.ErrUnavailable, m.name)
	}
	return w, nil
}

// Unwrap implements [kms.Manager].
func (m *Manager) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	if keyID != m.KeyID() {
		return nil, fmt.Errorf("%w: %q, not %s", kms.ErrOtherKey, keyID, m.KeyID())
	}
	if !wellFormed(ciphertext) {
		return nil, fmt.Errorf("%w: it does not have the form of a transit ciphertext", kms.ErrNotOpened)
	}
	return m.decrypt(ctx, ciphertext, aad)
}

func (m *Manager) decrypt(ctx context.Context, ciphertext, aad []byte) ([]byte, error) {
	var out result
	if err := m.call(ctx, "decrypt", http.MethodPost, "/decrypt/", operand{Ciphertext: string(ciphertext), AAD: aad}, &out); err != nil {
		return nil, err
	}
	if len(out.Data.Plaintext) == 0 {
		return nil, fmt.Errorf("%w: %s: decrypt was answered without a plaintext", kms.ErrUnavailable, m.name)
	}
	return out.Data.Plaintext, nil
}

var ciphertextPattern = regexp.MustCompile(`^vault:v[1-9][0-9]{0,8}:([A-Za-z0-9+/=]+)$`)

// wellFormed reports whether bytes are vault:vVERSION:BASE64 in the one way
// to write it. Vault itself would accept variants of the base64.
func wellFormed(ciphertext []byte) bool {
	parts := ciphertextPattern.FindSubmatch(ciphertext)
	if parts == nil {
		return false
	}
	_, err := base64.StdEncoding.Strict().AppendDecode(nil, parts[1])
	return err == nil
}

// Check implements [kms.Manager].
func (m *Manager) Check(ctx context.Context) error { return kms.RoundTrip(ctx, m) }

func (m *Manager) call(ctx context.Context, what, method, path string, in, out any) error {
	a, err := m.api.DoWith(ctx, m.token, http.StatusForbidden, func(ctx context.Context, token string) (*http.Request, error) {
		return m.newRequest(ctx, method, m.mount+path+m.key, token, in)
	})
	if err == nil {
		err = a.Into(out, func(a rest.Answer) error { return m.refusal(what, a) })
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", m.name, what, err)
	}
	return nil
}

func (m *Manager) newRequest(ctx context.Context, method, u, token string, in any) (*http.Request, error) {
	req, err := rest.NewJSON(ctx, method, u, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Vault-Request", "true") // an agent can insist on it
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if m.namespace != "" {
		req.Header.Set("X-Vault-Namespace", m.namespace)
	}
	return req, nil
}

// words joins what Vault says was wrong.
func words(a rest.Answer) string {
	var body struct{ Errors []string }
	_ = json.Unmarshal(a.Body, &body) // no words are an answer too
	return strings.Join(body.Errors, "; ")
}

// fromVault reports whether an error answer is Vault's and not of something
// on the way to it: it has a list of errors, if only an empty one.
func fromVault(a rest.Answer) bool {
	var body struct{ Errors *[]string }
	return json.Unmarshal(a.Body, &body) == nil && body.Errors != nil
}

// transient reports Vault's own ways to say "later" or "another node": not
// yet replicated, a disaster recovery secondary, a performance standby.
func transient(a rest.Answer) bool {
	return a.Status == http.StatusPreconditionFailed || a.Status == 472 || a.Status == 473
}

func (m *Manager) refusal(what string, a rest.Answer) error {
	said := m.api.Explain(a)
	switch {
	case !fromVault(a):
		return fmt.Errorf("%w: answered status %d, but not as Vault would", kms.ErrUnavailable, a.Status)
	case a.Status == http.StatusForbidden:
		return fmt.Errorf("%w: the token is no longer good, or its policy does not allow read on keys/%s and update on encrypt/%s and decrypt/%s of this mount (%s)", kms.ErrDenied, m.key, m.key, m.key, said)
	case a.Status == http.StatusNotFound, strings.Contains(said, "encryption key not found"):
		return fmt.Errorf("%w: there is no such key, mount or namespace (%s)", kms.ErrKeyUnusable, said)
	case strings.Contains(said, "disallowed by policy (too old)"):
		return fmt.Errorf("%w: the version that wrapped this is below the key's min_decryption_version (%s)", kms.ErrKeyUnusable, said)
	case strings.Contains(said, "soft-deleted"):
		return fmt.Errorf("%w: it is deleted and can be restored (%s)", kms.ErrKeyUnusable, said)
	case a.Status == http.StatusBadRequest && what == "decrypt":
		return fmt.Errorf("%w: it was altered, belongs to another key, or was wrapped with other associated data (%s)", kms.ErrNotOpened, said)
	}
	return errors.New(said)
}
