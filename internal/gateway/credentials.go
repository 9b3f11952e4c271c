package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"spekeasy/internal/upstream"
)

// credentials let requests into one upstream.
type credentials struct {
	auth   *upstream.Auth
	header http.Header // what is the same for all requests
	query  string      // encoded; "" for none
	tokens *tokens     // nil without OAuth
	signer *v4.Signer  // nil without SigV4
	now    func() time.Time
}

func newCredentials(s *upstream.Settings, transport http.RoundTripper, now func() time.Time) *credentials {
	c := &credentials{auth: &s.Auth, header: make(http.Header), now: now}
	for name, value := range s.Headers {
		c.header.Set(name, string(value))
	}
	a := c.auth
	switch {
	case a.Basic != nil:
		r := http.Request{Header: c.header}
		r.SetBasicAuth(a.Basic.User, string(a.Basic.Password))
	case a.Bearer != nil:
		c.header.Set("Authorization", "Bearer "+string(a.Bearer.Token))
	case a.OAuth != nil:
		c.tokens = &tokens{settings: a.OAuth, transport: transport, timeout: time.Duration(s.Timeout), now: now}
	case a.SigV4 != nil:
		c.signer = v4.NewSigner()
	}
	if a.Header != nil {
		c.header.Set(a.Header.Name, string(a.Header.Value))
	}
	if a.Query != nil {
		c.query = url.Values{a.Query.Name: {string(a.Query.Value)}}.Encode()
	}
	return c
}

// apply adds the credentials to a request. refused is a token that the
// upstream did not take; the one that was used is returned.
func (c *credentials) apply(ctx context.Context, r *http.Request, body, refused string) (token string, err error) {
	for name, values := range c.header {
		r.Header[name] = values
	}
	if c.query != "" {
		r.URL.RawQuery = joinQuery(r.URL.RawQuery, c.query)
	}
	if c.tokens != nil {
		if token, err = c.tokens.get(ctx, refused); err != nil {
			return "", err
		}
		r.Header["Authorization"] = []string{"Bearer " + token}
	}
	if c.signer != nil {
		k := c.auth.SigV4
		sum := sha256.Sum256([]byte(body))
		err := c.signer.SignHTTP(ctx, aws.Credentials{
			AccessKeyID: k.AccessKeyID, SecretAccessKey: string(k.SecretAccessKey), SessionToken: string(k.SessionToken),
		}, r, hex.EncodeToString(sum[:]), k.Service, k.Region, c.now())
		if err != nil {
			return "", fmt.Errorf("signature: %w", err)
		}
	}
	return token, nil
}

func joinQuery(a, b string) string {
	if a == "" {
		return b
	}
	return a + "&" + b
}

// secrets lists what must never be shown.
func (c *credentials) secrets(s *upstream.Settings) []string {
	var out []string
	add := func(values ...string) {
		for _, v := range values {
			if v != "" {
				out = append(out, v)
			}
		}
	}
	a := c.auth
	if a.Basic != nil {
		add(string(a.Basic.Password), a.Basic.User+":"+string(a.Basic.Password))
	}
	if a.Bearer != nil {
		add(string(a.Bearer.Token))
	}
	if a.OAuth != nil {
		add(string(a.OAuth.Secret), a.OAuth.ID+":"+string(a.OAuth.Secret))
	}
	if a.Header != nil {
		add(string(a.Header.Value))
	}
	if a.Query != nil {
		add(string(a.Query.Value))
	}
	if a.SigV4 != nil {
		add(string(a.SigV4.SecretAccessKey), string(a.SigV4.SessionToken))
	}
	add(string(a.Token), string(a.MTLS.Key), string(s.Recipient.Key))
	for _, values := range []map[string]upstream.Secret{s.Headers, s.Query} {
		for _, v := range values {
			if len(v) >= 8 { // shorter ones are words such as "uuidv5"
				add(string(v))
			}
		}
	}
	return out
}

// recent lists tokens that came from elsewhere.
func (c *credentials) recent() []string {
	if c.tokens == nil {
		return nil
	}
	return c.tokens.recent()
}

// newTransport makes the connections to one upstream. They are kept open.
func newTransport(s *upstream.Settings) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	var err error
	if config.RootCAs, err = s.Auth.Roots(); err != nil {
		return nil, err
	}
	if s.Auth.MTLS != (upstream.KeyPair{}) {
		pair, err := s.Auth.MTLS.Load()
		if err != nil {
			return nil, fmt.Errorf("auth: mtls: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    time.Duration(s.Timeout),
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           s.Concurrency + 4, // and the token endpoint's
		MaxIdleConnsPerHost:    s.Concurrency,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}, nil
}
