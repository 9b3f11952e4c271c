// Package awskms wraps keys with AWS KMS:
//
//	awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
//
// The KEK is named by its ARN, not by an alias: an alias can be pointed at
// another key, and what was wrapped before would no longer open. The
// parameter endpoint=https://... replaces the public endpoint of the region,
// for a VPC endpoint or FIPS.
//
// Associated data becomes the encryption context {"spekeasy": base64}, which
// KMS authenticates and writes to CloudTrail in the clear.
package awskms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/rest"
)

var _ kms.Manager = (*Manager)(nil)

// Options are what a manager may be given; the zero value works.
type Options struct {
	// HTTPClient reaches KMS and the sources of credentials; nil for one
	// with timeouts.
	HTTPClient *http.Client

	// Credentials sign the requests; nil for the usual AWS chain:
	// environment, web identity, shared files, container, instance.
	Credentials aws.CredentialsProvider

	// Now is the time that goes into signatures; nil for time.Now.
	Now func() time.Time
}

// Manager wraps under one KMS key.
type Manager struct {
	key         keyARN
	endpoint    string
	credentials aws.CredentialsProvider
	signer      *v4.Signer
	now         func() time.Time
	api         *rest.Client
}

// keyARN is a parsed arn:PARTITION:kms:REGION:ACCOUNT:key/ID.
type keyARN struct{ partition, region, account, id string }

func (k keyARN) String() string {
	return "arn:" + k.partition + ":kms:" + k.region + ":" + k.account + ":key/" + k.id
}

// sameKey reports whether two ARNs name the same key material: replicas of a
// multi-Region key differ in the region only, and open each other's
// ciphertexts.
func (k keyARN) sameKey(arn string) bool {
	o, ok := parseARN(arn)
	if ok && strings.HasPrefix(k.id, "mrk-") {
		o.region = k.region
	}
	return ok && o == k
}

var arnPattern = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]+):([0-9]{12}):key/((?:mrk-)?[0-9a-f-]{32,36})$`)

func parseARN(s string) (keyARN, bool) {
	m := arnPattern.FindStringSubmatch(s)
	if m == nil {
		return keyARN{}, false
	}
	return keyARN{m[1], m[2], m[3], m[4]}, true
}

// domain returns where the endpoints of a partition are.
func domain(partition string) (string, bool) {
	switch partition {
	case "aws", "aws-us-gov":
		return "amazonaws.com", true
	case "aws-cn":
		return "amazonaws.com.cn", true
	case "aws-eusc":
		return "amazonaws.eu", true
	}
	return "", false
}

// Open returns the manager that a URI chooses. It does not ask KMS.
func Open(ctx context.Context, uri *url.URL, opts Options) (*Manager, error) {
	params, err := kms.Query(uri, "endpoint")
	if err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(uri.Path, "/")
	key, ok := parseARN(name)
	switch {
	case uri.Host == "alias" || strings.Contains(name, "alias/"):
		return nil, errors.New("awskms URI: an alias can be pointed at another key; name the key by its ARN (aws kms describe-key --key-id ALIAS)")
	case uri.Host != "" || !ok:
		return nil, errors.New("awskms URI: want awskms:///arn:aws:kms:REGION:ACCOUNT:key/ID, with three slashes")
	}
	endpoint := params["endpoint"]
	if endpoint == "" {
		d, ok := domain(key.partition)
		if !ok {
			return nil, fmt.Errorf("awskms URI: the endpoint of partition %s is not known; give endpoint=https://...", key.partition)
		}
		endpoint = "https://kms." + key.region + "." + d
	}
	if endpoint, err = rest.Endpoint(endpoint); err != nil {
		return nil, fmt.Errorf("awskms URI: endpoint: %w", err)
	}
	m := &Manager{
		key:         key,
		endpoint:    endpoint + "/",
		credentials: opts.Credentials,
		signer:      v4.NewSigner(),
		now:         opts.Now,
		api:         &rest.Client{HTTP: rest.HTTPClient(opts.HTTPClient), Words: words, Transient: transient},
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.credentials == nil {
		load := []func(*config.LoadOptions) error{
			config.WithRegion(key.region),
			config.WithLogger(logging.Nop{}), // it would write to standard error
		}
		if opts.HTTPClient != nil {
			load = append(load, config.WithHTTPClient(opts.HTTPClient))
		}
		cfg, err := config.LoadDefaultConfig(ctx, load...)
		if err != nil {
			return nil, fmt.Errorf("aws configuration: %w", err)
		}
		m.credentials = cfg.Credentials
	}
	return m, nil
}

// KeyID returns the ARN of the KMS key.
func (m *Manager) KeyID() string { return m.key.String() }

// Wrap implements [kms.Manager] with kms:Encrypt.
func (m *Manager) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := kms.CheckPlaintext(plaintext); err != nil {
		return nil, err
	}
	in := struct {
		KeyId             string
		Plaintext         []byte
		EncryptionContext map[string]string `json:",omitempty"`
	}{m.KeyID(), plaintext, encryptionContext(aad)}
	var out struct {
		KeyId          string
		CiphertextBlob []byte
	}
	if err := m.call(ctx, "Encrypt", in, &out); err != nil {
		return nil, err
	}
	if !m.key.sameKey(out.KeyId) || len(out.CiphertextBlob) == 0 {
		return nil, fmt.Errorf("%w: %s: Encrypt was answered for key %q", kms.ErrUnavailable, m.key, out.KeyId)
	}
	return out.CiphertextBlob, nil
}

// Unwrap implements [kms.Manager] with kms:Decrypt. The ARN of another
// replica of the same multi-Region key is accepted.
func (m *Manager) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	if !m.key.sameKey(keyID) {
		return nil, fmt.Errorf("%w: %q, not %s", kms.ErrOtherKey, keyID, m.key)
	}
	if len(ciphertext) == 0 {
		return nil, fmt.Errorf("%w: it is empty", kms.ErrNotOpened)
	}
	in := struct {
		KeyId             string
		CiphertextBlob    []byte
		EncryptionContext map[string]string `json:",omitempty"`
	}{m.KeyID(), ciphertext, encryptionContext(aad)}
	var out struct {
		KeyId     string
		Plaintext []byte
	}
	if err := m.call(ctx, "Decrypt", in, &out); err != nil {
		return nil, err
	}
	if !m.key.sameKey(out.KeyId) || len(out.Plaintext) == 0 {
		clear(out.Plaintext)
		return nil, fmt.Errorf("%w: %s: Decrypt was answered for key %q", kms.ErrUnavailable, m.key, out.KeyId)
	}
	return out.Plaintext, nil
}

// Check implements [kms.Manager].
func (m *Manager) Check(ctx context.Context) error { return kms.RoundTrip(ctx, m) }

func encryptionContext(aad []byte) map[string]string {
	if len(aad) == 0 {
		return nil
	}
	return map[string]string{"spekeasy": base64.StdEncoding.EncodeToString(aad)}
}

// call makes one request of the AWS JSON 1.1 protocol.
func (m *Manager) call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	a, err := m.api.Do(ctx, func(ctx context.Context) (*http.Request, error) { return m.newRequest(ctx, operation, body) })
	if err == nil {
		err = a.Into(out, m.refusal)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", m.key, operation, err)
	}
	return nil
}

// newRequest signs a request with Signature Version 4.
func (m *Manager) newRequest(ctx context.Context, operation string, body []byte) (*http.Request, error) {
	c, err := m.credentials.Retrieve(ctx)
	if err != nil {
		return nil, credentialsError(ctx, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService."+operation)
	hash := sha256.Sum256(body)
	return req, m.signer.SignHTTP(ctx, c, req, hex.EncodeToString(hash[:]), "kms", m.key.region, m.now())
}

// credentialsError tells a source of credentials that could not be reached
// from one that has none or refused.
func credentialsError(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); errors.Is(ctxErr, context.Canceled) {
		return ctxErr
	}
	var answered interface{ HTTPStatusCode() int }
	_, network := errors.AsType[net.Error](err)
	if errors.As(err, &answered) && answered.HTTPStatusCode() != 0 {
		network = answered.HTTPStatusCode() >= 500
	}
	if network {
		return fmt.Errorf("%w: aws credentials: %w", kms.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: aws credentials: %w", kms.ErrDenied, err)
}

// code returns the error code of an answer: NAME, NAME:URI or
// NAMESPACE#NAME, in a header or in the body.
func code(a rest.Answer) string {
	c := a.Header.Get("X-Amzn-ErrorType")
	if c == "" {
		var body struct {
			Type string `json:"__type"`
			Code string `json:"code"`
		}
		_ = json.Unmarshal(a.Body, &body) // no code is an answer too
		c = body.Type
		if c == "" {
			c = body.Code
		}
	}
	c, _, _ = strings.Cut(c, ":")
	return c[strings.LastIndexByte(c, '#')+1:]
}

func words(a rest.Answer) string {
	var body struct{ Message string } // matches "message" and "Message"
	_ = json.Unmarshal(a.Body, &body)
	return strings.TrimSpace(code(a) + " " + body.Message)
}

func transient(a rest.Answer) bool {
	switch code(a) {
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "RequestThrottled", "TooManyRequestsException",
		"KeyUnavailableException", "DependencyTimeoutException", "KMSInternalException",
		"InternalFailure", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException":
		return true
	}
	return false
}

// refusal turns an error answer into an error that says what to do.
func (m *Manager) refusal(a rest.Answer) error {
	said := m.api.Explain(a)
	switch code(a) {
	case "InvalidCiphertextException", "IncorrectKeyException":
		return fmt.Errorf("%w: it was altered, belongs to another KMS key, or was wrapped with other associated data (%s)", kms.ErrNotOpened, said)
	case "DisabledException":
		return fmt.Errorf("%w: it is disabled; aws kms enable-key (%s)", kms.ErrKeyUnusable, said)
	case "KMSInvalidStateException":
		return fmt.Errorf("%w: it is pending deletion or its key material is missing; aws kms describe-key shows its state (%s)", kms.ErrKeyUnusable, said)
	case "NotFoundException":
		return fmt.Errorf("%w: it does not exist in this account and region (%s)", kms.ErrKeyUnusable, said)
	case "InvalidKeyUsageException":
		return fmt.Errorf("%w: it must be a symmetric key with usage ENCRYPT_DECRYPT (%s)", kms.ErrKeyUnusable, said)
	case "AccessDeniedException":
		return fmt.Errorf("%w: the key policy and IAM must allow kms:Encrypt and kms:Decrypt on this key (%s)", kms.ErrDenied, said)
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException":
		return fmt.Errorf("%w: the secret access key is wrong, or this machine's clock is (%s)", kms.ErrDenied, said)
	case "ExpiredTokenException", "ExpiredToken", "RequestExpired":
		return fmt.Errorf("%w: the credentials have expired (%s)", kms.ErrDenied, said)
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized", "OptInRequired":
		return fmt.Errorf("%w: AWS does not know these credentials in this region (%s)", kms.ErrDenied, said)
	}
	if code(a) == "" {
		return fmt.Errorf("%w: answered status %d without an error code, as KMS would", kms.ErrUnavailable, a.Status)
	}
	return errors.New(said)
}
