// Package secretsmanager reads secrets from AWS Secrets Manager for
// references in a configuration:
//
//	${secretsmanager:ARN}
//	${secretsmanager:ARN#FIELD}
//
// The first is the whole secret, the second a member of the JSON object that
// the secret is.
package secretsmanager

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
)

// Scheme begins a reference; what follows is for [Set.Resolve].
const Scheme = "secretsmanager:"

// Options are the optional settings of [New]; the zero value works.
type Options struct {
	// Endpoint replaces the public one of the secret's region, for a VPC
	// endpoint.
	Endpoint string

	HTTP        *http.Client            // nil for one with timeouts
	Credentials aws.CredentialsProvider // nil for the usual AWS chain
	Now         func() time.Time        // nil for time.Now
}

// Client asks Secrets Manager.
type Client struct {
	o      Options
	signer *v4.Signer

	mu     sync.Mutex // of loading credentials
	loaded aws.CredentialsProvider
}

// Bounds of one call.
const (
	attempts  = 3
	timeout   = 3 * time.Second // of one attempt
	pause     = 100 * time.Millisecond
	maxAnswer = 256 << 10 // a secret has at most 64 KiB
)

// New asks nothing yet, not even for credentials: whoever refers to no secret
// needs none.
func New(o Options) *Client {
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: timeout}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Client{o: o, signer: v4.NewSigner(), loaded: o.Credentials}
}

// secret is one version of a secret.
type secret struct{ text, version string }

// arnPattern has partition and region of the ARN of a secret.
var arnPattern = regexp.MustCompile(`^arn:(aws[a-z-]*):secretsmanager:([a-z0-9-]+):[0-9]{12}:secret:[\w/+=.@!-]+$`)

// get returns the current version of a secret. The error never holds it.
func (c *Client) get(ctx context.Context, arn string) (secret, error) {
	m := arnPattern.FindStringSubmatch(arn)
	if m == nil {
		return secret{}, errors.New("not the ARN of a secret")
	}
	endpoint := c.o.Endpoint
	if endpoint == "" {
		endpoint = "https://secretsmanager." + m[2] + "." + domain(m[1])
	}
	body, err := json.Marshal(map[string]string{"SecretId": arn})
	if err != nil {
		return secret{}, err
	}
	for attempt := 1; ; attempt++ {
		s, again, err := c.ask(ctx, endpoint, m[2], body)
		if err == nil || !again || attempt == attempts {
			return s, err
		}
		select {
		case <-ctx.Done():
			return secret{}, err
		case <-time.After(pause << attempt):
		}
	}
}

// domain returns where the endpoints of a partition are.
func domain(partition string) string {
	switch partition {
	case "aws-cn":
		return "amazonaws.com.cn"
	case "aws-eusc":
		return "amazonaws.eu"
	}
	return "amazonaws.com"
}

// ask makes one call. again is whether another may do better.
func (c *Client) ask(ctx context.Context, endpoint, region string, body []byte) (s secret, again bool, err error) {
	req, err := c.request(ctx, endpoint, region, body)
	if err != nil {
		return s, false, err
	}
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return s, true, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return s, true, err
	}
	defer clear(answer)
	var out struct {
		SecretString *string
		VersionId    string
		Type         string `json:"__type"`
		Message      string
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return s, resp.StatusCode >= 500, fmt.Errorf("answered status %d with something that is not JSON", resp.StatusCode)
	}
	if resp.StatusCode != http.StatusOK {
		code := out.Type[strings.LastIndexByte(out.Type, '#')+1:]
		return s, resp.StatusCode >= 500 || code == "ThrottlingException", fmt.Errorf("%s: %s", code, out.Message)
	}
	if out.SecretString == nil {
		return s, false, errors.New("the secret is binary, not text")
	}
	return secret{*out.SecretString, out.VersionId}, false, nil
}

// request signs a call with Signature Version 4.
func (c *Client) request(ctx context.Context, endpoint, region string, body []byte) (*http.Request, error) {
	provider, err := c.credentials(ctx, region)
	if err != nil {
		return nil, err
	}
	who, err := provider.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("aws credentials: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "secretsmanager.GetSecretValue")
	hash := sha256.Sum256(body)
	return req, c.signer.SignHTTP(ctx, who, req, hex.EncodeToString(hash[:]), "secretsmanager", region, c.o.Now())
}

func (c *Client) credentials(ctx context.Context, region string) (aws.CredentialsProvider, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded == nil {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region), config.WithLogger(logging.Nop{}))
		if err != nil {
			return nil, fmt.Errorf("aws configuration: %w", err)
		}
		c.loaded = cfg.Credentials
	}
	return c.loaded, nil
}
