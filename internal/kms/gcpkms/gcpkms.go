// Package gcpkms wraps keys with Google Cloud KMS:
//
//	gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY
//
// Parameters: credentials_file=PATH, the JSON key of a service account,
// instead of the file that GOOGLE_APPLICATION_CREDENTIALS names; without
// either, the metadata server of the machine gives the credentials.
// endpoint=https://... replaces cloudkms.googleapis.com.
//
// The key is named without a version: Cloud KMS wraps under its primary
// version and finds the right one again by itself.
package gcpkms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/rest"
)

var _ kms.Manager = (*Manager)(nil)

// Options are what a manager may be given; the zero value works.
type Options struct {
	// HTTPClient reaches Cloud KMS and the sources of tokens; nil for one
	// with timeouts.
	HTTPClient *http.Client

	// Getenv looks up GOOGLE_APPLICATION_CREDENTIALS and GCE_METADATA_HOST;
	// nil for os.Getenv.
	Getenv func(string) string

	// Now is the time that goes into token requests and tells when a token
	// expires; nil for time.Now.
	Now func() time.Time
}

// Manager wraps under one CryptoKey.
type Manager struct {
	name     string // projects/.../cryptoKeys/KEY
	endpoint string
	api      *rest.Client
	token    *rest.Token
}

var namePattern = regexp.MustCompile(`^projects/[a-z0-9][a-z0-9:.-]*/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}$`)

// Open returns the manager that a URI chooses. It reads the credentials file
// but does not ask Google.
func Open(_ context.Context, uri *url.URL, opts Options) (*Manager, error) {
	params, err := kms.Query(uri, "credentials_file", "endpoint")
	if err != nil {
		return nil, err
	}
	name := uri.Host + uri.Path
	if strings.Contains(name, "/cryptoKeyVersions/") {
		return nil, errors.New("gcpkms URI: name the key without a version; Cloud KMS keeps track of them")
	}
	if !namePattern.MatchString(name) {
		return nil, errors.New("gcpkms URI: want gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY")
	}
	endpoint := params["endpoint"]
	if endpoint == "" {
		endpoint = "https://cloudkms.googleapis.com"
	}
	if endpoint, err = rest.Endpoint(endpoint); err != nil {
		return nil, fmt.Errorf("gcpkms URI: endpoint: %w", err)
	}
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	httpClient := rest.HTTPClient(opts.HTTPClient)
	fetch, err := tokenSource(httpClient, params["credentials_file"], opts)
	if err != nil {
		return nil, err
	}
	return &Manager{
		name:     name,
		endpoint: endpoint,
		api:      &rest.Client{HTTP: httpClient, Words: words},
		token:    rest.NewToken(opts.Now, fetch),
	}, nil
}

// KeyID returns the resource name of the CryptoKey.
func (m *Manager) KeyID() string { return m.name }

// checksum is a CRC-32C as the API writes it: a 64-bit integer in a string.
type checksum int64

func sum(b []byte) checksum {
	return checksum(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// MarshalJSON implements [json.Marshaler].
func (c checksum) MarshalJSON() ([]byte, error) {
	return strconv.AppendQuote(nil, strconv.FormatInt(int64(c), 10)), nil
}

// UnmarshalJSON implements [json.Unmarshaler]; the API's JSON mapping allows
// the number without quotes too.
func (c *checksum) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	*c = checksum(n)
	return err
}

// boundTo is the part of a request that carries associated data.
type boundTo struct {
	AAD    []byte    `json:"additionalAuthenticatedData,omitempty"`
	AADSum *checksum `json:"additionalAuthenticatedDataCrc32c,omitempty"`
}

func bind(aad []byte) boundTo {
	if len(aad) == 0 {
		return boundTo{}
	}
	c := sum(aad)
	return boundTo{aad, &c}
}

// Wrap implements [kms.Manager] with cryptoKeys.encrypt. Checksums show that
// neither the data key nor its wrapped form changed between here and there:
// one that did would be lost.
func (m *Manager) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := kms.CheckPlaintext(plaintext); err != nil {
		return nil, err
	}
	in := struct {
		Plaintext []byte   `json:"plaintext"`
		Checksum  checksum `json:"plaintextCrc32c"`
		boundTo
	}{plaintext, sum(plaintext), bind(aad)}
	var out struct {
		Name       string    `json:"name"`
		Ciphertext []byte    `json:"ciphertext"`
		Checksum   *checksum `json:"ciphertextCrc32c"`
		Verified   bool      `json:"verifiedPlaintextCrc32c"`
		AADChecked bool      `json:"verifiedAdditionalAuthenticatedDataCrc32c"`
	}
	if err := m.call(ctx, "encrypt", in, &out); err != nil {
		return nil, err
	}
	switch {
	case !strings.HasPrefix(out.Name, m.name+"/cryptoKeyVersions/"):
		return nil, fmt.Errorf("%w: %s: encrypt was answered for key %q", kms.ErrUnavailable, m.name, out.Name)
	case !out.Verified || !out.AADChecked && len(aad) > 0 || out.Checksum == nil || *out.Checksum != sum(out.Ciphertext) || len(out.Ciphertext) == 0:
		return nil, fmt.Errorf("%w: %s: encrypt: checksums do not match, the request or the answer changed on its way", kms.ErrUnavailable, m.name)
	}
	return out.Ciphertext, nil
}

// Unwrap implements [kms.Manager] with cryptoKeys.decrypt.
func (m *Manager) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	if keyID != m.name {
		return nil, fmt.Errorf("%w: %q, not %s", kms.ErrOtherKey, keyID, m.name)
	}
	if len(ciphertext) == 0 {
		return nil, fmt.Errorf("%w: it is empty", kms.ErrNotOpened)
	}
	in := struct {
		Ciphertext []byte   `json:"ciphertext"`
		Checksum   checksum `json:"ciphertextCrc32c"`
		boundTo
	}{ciphertext, sum(ciphertext), bind(aad)}
	var out struct {
		Plaintext []byte    `json:"plaintext"`
		Checksum  *checksum `json:"plaintextCrc32c"`
	}
	if err := m.call(ctx, "decrypt", in, &out); err != nil {
		return nil, err
	}
	if out.Checksum == nil || *out.Checksum != sum(out.Plaintext) || len(out.Plaintext) == 0 {
		clear(out.Plaintext)
		return nil, fmt.Errorf("%w: %s: decrypt: checksum does not match, the answer changed on its way", kms.ErrUnavailable, m.name)
	}
	return out.Plaintext, nil
}

// Check implements [kms.Manager].
func (m *Manager) Check(ctx context.Context) error { return kms.RoundTrip(ctx, m) }

func (m *Manager) call(ctx context.Context, verb string, in, out any) error {
	a, err := m.api.DoWith(ctx, m.token, http.StatusUnauthorized, func(ctx context.Context, token string) (*http.Request, error) {
		req, err := rest.NewJSON(ctx, http.MethodPost, m.endpoint+"/v1/"+m.name+":"+verb, in)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		return req, nil
	})
	if err == nil {
		err = a.Into(out, func(a rest.Answer) error { return m.refusal(verb, a) })
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", m.name, verb, err)
	}
	return nil
}

// problem returns the canonical code and the message of an error answer.
func problem(a rest.Answer) (status, message string) {
	var body struct {
		Error struct{ Status, Message string }
	}
	_ = json.Unmarshal(a.Body, &body) // no code is an answer too
	return body.Error.Status, body.Error.Message
}

func words(a rest.Answer) string {
	status, message := problem(a)
	return strings.TrimSpace(status + " " + message)
}

func (m *Manager) refusal(verb string, a rest.Answer) error {
	said := m.api.Explain(a)
	status, _ := problem(a)
	switch status {
	case "":
		return fmt.Errorf("%w: answered status %d without an error code, as Cloud KMS would", kms.ErrUnavailable, a.Status)
	case "UNAUTHENTICATED":
		return fmt.Errorf("%w: the access token was refused (%s)", kms.ErrDenied, said)
	case "PERMISSION_DENIED":
		return fmt.Errorf("%w: grant roles/cloudkms.cryptoKeyEncrypterDecrypter on the key, and see that the API is enabled (%s)", kms.ErrDenied, said)
	case "NOT_FOUND":
		return fmt.Errorf("%w: it does not exist (%s)", kms.ErrKeyUnusable, said)
	case "FAILED_PRECONDITION":
		return fmt.Errorf("%w: its version is disabled or destroyed, or it is not a key for encryption; gcloud kms keys versions list (%s)", kms.ErrKeyUnusable, said)
	case "INVALID_ARGUMENT":
		if verb == "decrypt" {
			return fmt.Errorf("%w: it was altered, belongs to another key, or was wrapped with other associated data (%s)", kms.ErrNotOpened, said)
		}
	}
	return errors.New(said)
}
