package gcpkms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"spekeasy/internal/kms/rest"
)

const scope = "https://www.googleapis.com/auth/cloudkms"

// tokenSource chooses where tokens come from, in the order that Google's own
// libraries use on a server.
func tokenSource(h *http.Client, file string, opts Options) (rest.Fetch, error) {
	if file == "" {
		file = opts.Getenv("GOOGLE_APPLICATION_CREDENTIALS")
	}
	api := &rest.Client{HTTP: h, Words: rest.TokenWords}
	if file != "" {
		account, err := readServiceAccount(file)
		if err != nil {
			return nil, fmt.Errorf("google credentials %s: %w", file, err)
		}
		return func(ctx context.Context) (string, time.Duration, error) { return account.token(ctx, api, opts.Now()) }, nil
	}
	host := opts.Getenv("GCE_METADATA_HOST")
	if host == "" {
		host = "metadata.google.internal"
	}
	return func(ctx context.Context) (string, time.Duration, error) { return metadataToken(ctx, api, host) }, nil
}

// serviceAccount is the JSON key of a service account.
type serviceAccount struct {
	email, keyID, tokenURI string
	key                    *rsa.PrivateKey
}

func readServiceAccount(path string) (*serviceAccount, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		if pathErr, ok := errors.AsType[*os.PathError](err); ok {
			err = pathErr.Err // the caller names the file
		}
		return nil, err
	}
	defer clear(b)
	var f struct {
		Type     string `json:"type"`
		Email    string `json:"client_email"`
		KeyID    string `json:"private_key_id"`
		Key      string `json:"private_key"`
		TokenURI string `json:"token_uri"`
	}
	// Errors of the decoders are left out: they can quote the key.
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, errors.New("not a JSON key file")
	}
	if f.Type != "service_account" {
		return nil, fmt.Errorf("credentials of type %q are not supported; use the key of a service_account, or run where the metadata server gives credentials", f.Type)
	}
	if f.TokenURI, err = rest.Endpoint(f.TokenURI); err != nil {
		return nil, fmt.Errorf("token_uri: %w", err)
	}
	if f.Email == "" {
		return nil, errors.New("client_email is missing")
	}
	block, _ := pem.Decode([]byte(f.Key))
	if block == nil {
		return nil, errors.New("private_key is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("private_key is not a PKCS #8 key")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("private_key is not an RSA key")
	}
	return &serviceAccount{f.Email, f.KeyID, f.TokenURI, key}, nil
}

// token exchanges a signed assertion for an access token (RFC 7523).
func (s *serviceAccount) token(ctx context.Context, api *rest.Client, now time.Time) (string, time.Duration, error) {
	assertion, err := s.assertion(now)
	if err != nil {
		return "", 0, err
	}
	return requestToken(ctx, api, func(ctx context.Context) (*http.Request, error) {
		return rest.NewForm(ctx, s.tokenURI, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"},
			"assertion":  {assertion},
		})
	})
}

func (s *serviceAccount) assertion(now time.Time) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": s.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": s.email, "scope": scope, "aud": s.tokenURI,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(header) + "." + encode(claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return signed + "." + encode(signature), nil
}

// metadataToken asks the metadata server of the machine, or of GKE's
// workload identity. The scopes are those the machine was given.
func metadataToken(ctx context.Context, api *rest.Client, host string) (string, time.Duration, error) {
	return requestToken(ctx, api, func(ctx context.Context) (*http.Request, error) {
		u := url.URL{Scheme: "http", Host: host, Path: "/computeMetadata/v1/instance/service-accounts/default/token"}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Metadata-Flavor", "Google")
		return req, nil
	})
}

func requestToken(ctx context.Context, api *rest.Client, newRequest func(context.Context) (*http.Request, error)) (string, time.Duration, error) {
	token, lifetime, err := rest.RequestToken(ctx, api, newRequest)
	if _, unknown := errors.AsType[*net.DNSError](err); unknown {
		err = fmt.Errorf("%w; outside Google Cloud, set GOOGLE_APPLICATION_CREDENTIALS or credentials_file", err)
	}
	if err != nil {
		return "", 0, fmt.Errorf("google credentials: %w", err)
	}
	return token, lifetime, nil
}
