// Package azurekeyvault wraps keys with Azure Key Vault and Managed HSM:
//
//	azurekeyvault://VAULT.vault.azure.net/keys/KEY
//	azurekeyvault://HSM.managedhsm.azure.net/keys/KEY?algorithm=A256GCM
//
// Without a version, Wrap uses the current one; /keys/KEY/VERSION pins it.
// Parameters: algorithm, which is RSA-OAEP-256 for RSA keys (the default) or
// A256GCM for the AES keys of Managed HSM; endpoint=https://... sends the
// requests elsewhere.
//
// An RSA key can bind no associated data, and whoever has its public half
// can wrap anything. Wrap therefore makes a fresh AES-256 key, seals the
// plaintext with it and the associated data (AES-GCM), has the RSA key wrap
// the AES key, and has the RSA key sign the whole (PS256). An AES key of
// Managed HSM does all of this in one operation.
package azurekeyvault

import (
	"context"
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
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/rest"
)

var _ kms.Manager = (*Manager)(nil)

const apiVersion = "7.4"

// Options are what a manager may be given; the zero value works.
type Options struct {
	// HTTPClient reaches the vault and the sources of tokens; nil for one
	// with timeouts.
	HTTPClient *http.Client

	// Getenv looks up the AZURE_ and IDENTITY_ variables that give
	// credentials; nil for os.Getenv.
	Getenv func(string) string

	// Now tells when a token expires; nil for time.Now.
	Now func() time.Time
}

// Manager wraps under one key of a vault.
type Manager struct {
	id       string // https://HOST/keys/NAME
	pinned   string // version, "" for the current one
	scheme   scheme
	endpoint string // of the key, in place of id
	api      *rest.Client
	token    *rest.Token
}

var (
	hostPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)+$`)
	pathPattern    = regexp.MustCompile(`^/keys/([0-9A-Za-z-]{1,127})(?:/([0-9a-f]{32}))?$`)
	versionPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// Open returns the manager that a URI chooses. It does not ask Azure.
func Open(_ context.Context, uri *url.URL, opts Options) (*Manager, error) {
	params, err := kms.Query(uri, "algorithm", "endpoint")
	if err != nil {
		return nil, err
	}
	path := pathPattern.FindStringSubmatch(uri.Path)
	if path == nil || !hostPattern.MatchString(uri.Host) {
		return nil, errors.New("azurekeyvault URI: want azurekeyvault://VAULT.vault.azure.net/keys/KEY, with or without /VERSION")
	}
	endpoint := params["endpoint"]
	if endpoint == "" {
		endpoint = "https://" + uri.Host
	}
	if endpoint, err = rest.Endpoint(endpoint); err != nil {
		return nil, fmt.Errorf("azurekeyvault URI: endpoint: %w", err)
	}
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	// The audience of tokens is the service, not the vault.
	_, service, _ := strings.Cut(uri.Host, ".")
	httpClient := rest.HTTPClient(opts.HTTPClient)
	fetch, err := tokenSource(httpClient, "https://"+service, opts.Getenv)
	if err != nil {
		return nil, fmt.Errorf("azure credentials: %w", err)
	}
	m := &Manager{
		id:       "https://" + uri.Host + "/keys/" + path[1],
		pinned:   path[2],
		endpoint: endpoint + "/keys/" + path[1],
		api:      &rest.Client{HTTP: httpClient, Words: words},
		token:    rest.NewToken(opts.Now, fetch),
	}
	switch params["algorithm"] {
	case "", rsaOAEP256:
		m.scheme = rsaScheme{m}
	case a256GCM:
		m.scheme = aesScheme{m}
	default:
		return nil, fmt.Errorf("azurekeyvault URI: algorithm must be %s or %s", rsaOAEP256, a256GCM)
	}
	return m, nil
}

// KeyID returns the key identifier, https://VAULT/keys/KEY, with a version
// only if the URI pins one.
func (m *Manager) KeyID() string {
	if m.pinned != "" {
		return m.id + "/" + m.pinned
	}
	return m.id
}

// Wrap implements [kms.Manager].
func (m *Manager) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := kms.CheckPlaintext(plaintext); err != nil {
		return nil, err
	}
	version, err := m.version(ctx)
	if err != nil {
		return nil, err
	}
	return m.scheme.wrap(ctx, version, plaintext, aad)
}

// Unwrap implements [kms.Manager]. Every version of the key is accepted: the
// wrapped bytes say which one is needed.
func (m *Manager) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	if version, pinned := strings.CutPrefix(keyID, m.id+"/"); keyID != m.id && !(pinned && versionPattern.MatchString(version)) {
		return nil, fmt.Errorf("%w: %q, not %s", kms.ErrOtherKey, keyID, m.id)
	}
	return m.scheme.unwrap(ctx, ciphertext, aad)
}

// Check implements [kms.Manager].
func (m *Manager) Check(ctx context.Context) error { return kms.RoundTrip(ctx, m) }

// version returns the version to wrap with, after a look at whether it can.
func (m *Manager) version(ctx context.Context) (string, error) {
	var out struct {
		Key struct {
			ID   string   `json:"kid"`
			Type string   `json:"kty"`
			Ops  []string `json:"key_ops"`
		} `json:"key"`
		Attributes struct {
			Enabled *bool `json:"enabled"`
		} `json:"attributes"`
	}
	if err := m.call(ctx, "get", http.MethodGet, "/"+m.pinned, nil, &out); err != nil {
		return "", err
	}
	version, err := m.versionOf(out.Key.ID)
	if err != nil {
		return "", err
	}
	if m.pinned != "" && version != m.pinned {
		return "", fmt.Errorf("%w: %s: asked for version %s, answered for %s", kms.ErrUnavailable, m.id, m.pinned, version)
	}
	kind := strings.TrimSuffix(out.Key.Type, "-HSM")
	if kind != m.scheme.keyType() {
		return "", fmt.Errorf("%w: %s: it is of type %s, the algorithm needs %s", kms.ErrKeyUnusable, m.id, out.Key.Type, m.scheme.keyType())
	}
	if out.Attributes.Enabled != nil && !*out.Attributes.Enabled {
		return "", fmt.Errorf("%w: %s: version %s is disabled", kms.ErrKeyUnusable, m.id, version)
	}
	for _, op := range m.scheme.operations() {
		if out.Key.Ops != nil && !slices.Contains(out.Key.Ops, op) {
			return "", fmt.Errorf("%w: %s: its key_ops do not allow %s", kms.ErrKeyUnusable, m.id, op)
		}
	}
	return version, nil
}

// versionOf returns the version in a key identifier of the answer, which has
// to be one of this key.
func (m *Manager) versionOf(kid string) (string, error) {
	version, ok := strings.CutPrefix(strings.ToLower(kid), strings.ToLower(m.id)+"/")
	if !ok || !versionPattern.MatchString(version) {
		return "", fmt.Errorf("%w: %s: answered for key %q", kms.ErrUnavailable, m.id, kid)
	}
	return version, nil
}

// b64url is bytes as the API writes them: base64url without padding.
type b64url []byte

func (b b64url) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

func (b *b64url) UnmarshalText(text []byte) (err error) {
	*b, err = base64.RawURLEncoding.AppendDecode(nil, []byte(strings.TrimRight(string(text), "=")))
	return err
}

// result is the answer to an operation.
type result struct {
	ID    string `json:"kid"`
	Value b64url `json:"value"`
	IV    b64url `json:"iv"`
	Tag   b64url `json:"tag"`
}

// operation asks a version of the key for a cryptographic operation that
// returns bytes.
func (m *Manager) operation(ctx context.Context, name, version string, in any) (result, error) {
	var out result
	if err := m.call(ctx, name, http.MethodPost, "/"+version+"/"+name, in, &out); err != nil {
		return result{}, err
	}
	if v, err := m.versionOf(out.ID); err != nil {
		return result{}, err
	} else if v != version || len(out.Value) == 0 {
		return result{}, fmt.Errorf("%w: %s: %s was answered for version %s", kms.ErrUnavailable, m.id, name, v)
	}
	return out, nil
}

func (m *Manager) call(ctx context.Context, name, method, path string, in, out any) error {
	a, err := m.api.DoWith(ctx, m.token, http.StatusUnauthorized, func(ctx context.Context, token string) (*http.Request, error) {
		req, err := rest.NewJSON(ctx, method, m.endpoint+path+"?api-version="+apiVersion, in)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		return req, nil
	})
	if err == nil {
		err = a.Into(out, func(a rest.Answer) error { return m.refusal(name, a) })
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", m.id, name, err)
	}
	return nil
}

type problem struct {
	Error struct {
		Code, Message string
		Inner         struct{ Code string } `json:"innererror"`
	}
}

func problemOf(a rest.Answer) (p problem) {
	_ = json.Unmarshal(a.Body, &p) // no code is an answer too
	return p
}

func words(a rest.Answer) string {
	p := problemOf(a)
	return strings.TrimSpace(strings.TrimSpace(p.Error.Code+" "+p.Error.Inner.Code) + " " + p.Error.Message)
}

func (m *Manager) refusal(operation string, a rest.Answer) error {
	said := m.api.Explain(a)
	p := problemOf(a)
	switch {
	case a.Status == http.StatusUnauthorized:
		return fmt.Errorf("%w: the vault does not accept the token; does the vault belong to the tenant of these credentials? (%s)", kms.ErrDenied, said)
	case p.Error.Code == "":
		return fmt.Errorf("%w: answered status %d without an error code, as Key Vault would", kms.ErrUnavailable, a.Status)
	case p.Error.Inner.Code == "KeyDisabled" || p.Error.Inner.Code == "KeyNotYetValid" || p.Error.Inner.Code == "KeyExpired":
		return fmt.Errorf("%w: this version is disabled or outside of its dates (%s)", kms.ErrKeyUnusable, said)
	case a.Status == http.StatusForbidden:
		return fmt.Errorf("%w: grant the role %q, or the key permissions %s, and see that the vault's firewall lets this machine in (%s)",
			kms.ErrDenied, m.scheme.role(), strings.Join(append(m.scheme.operations(), "get"), ", "), said)
	case a.Status == http.StatusNotFound:
		return fmt.Errorf("%w: the vault has no such key or version (%s)", kms.ErrKeyUnusable, said)
	case a.Status == http.StatusBadRequest && (operation == "unwrapkey" || operation == "decrypt" || operation == "verify"):
		return fmt.Errorf("%w: it was altered, belongs to another key, or was wrapped with other associated data (%s)", kms.ErrNotOpened, said)
	}
	return errors.New(said)
}
