package lambdahttp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"spekeasy/internal/auth"
)

// event is the union of what the four services send.
type event struct {
	Version         string            `json:"version"` // 2.0 or 1.0 from HTTP APIs and function URLs, absent elsewhere
	Resource        string            `json:"resource"`
	RouteKey        string            `json:"routeKey"`
	PathParameters  map[string]string `json:"pathParameters"`
	HTTPMethod      string            `json:"httpMethod"`
	Path            string            `json:"path"`
	RawPath         string            `json:"rawPath"`
	RawQuery        string            `json:"rawQueryString"`
	Query           map[string]string `json:"queryStringParameters"`
	Queries         url.Values        `json:"multiValueQueryStringParameters"`
	Header          map[string]string `json:"headers"`
	Headers         http.Header       `json:"multiValueHeaders"`
	Cookies         []string          `json:"cookies"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	Context         eventContext      `json:"requestContext"`
}

// eventContext is what the service itself says about the request. Nothing in
// it can be set by the client.
type eventContext struct {
	ELB        *struct{} `json:"elb"`
	RequestID  string    `json:"requestId"`
	Stage      string    `json:"stage"`
	Path       string    `json:"path"`
	DomainName string    `json:"domainName"`
	Identity   struct {
		SourceIP   string      `json:"sourceIp"`
		UserARN    string      `json:"userArn"`
		ClientCert *clientCert `json:"clientCert"`
	} `json:"identity"`
	HTTP struct {
		Method   string `json:"method"`
		SourceIP string `json:"sourceIp"`
	} `json:"http"`
	Authorizer     json.RawMessage `json:"authorizer"` // of a kind that the API's owner chose
	Authentication struct {
		ClientCert *clientCert `json:"clientCert"`
	} `json:"authentication"`
}

type clientCert struct {
	PEM string `json:"clientCertPem"`
}

// kind is who sent an event, as far as it matters for the answer.
type kind int

const (
	payload1 kind = iota // API Gateway, payload format 1.0
	payload2             // API Gateway, payload format 2.0, and function URLs
	alb                  // Application Load Balancer
)

func (e *event) kind() (kind, error) {
	switch {
	case e.Version == "2.0" && e.Context.HTTP.Method != "":
		return payload2, nil
	case e.Context.ELB != nil && e.HTTPMethod != "":
		return alb, nil
	case e.HTTPMethod != "" && e.Path != "":
		return payload1, nil
	}
	return 0, errors.New("not an event of API Gateway, of a function URL or of a load balancer")
}

// request makes the request that the client sent. base is a prefix of the
// path that is for somebody else.
func (e *event) request(ctx context.Context, k kind, base string) (*http.Request, error) {
	body, err := e.body()
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: e.HTTPMethod, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: e.header(k), Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
	if k == payload2 {
		r.Method = e.Context.HTTP.Method
	}
	r.Host = r.Header.Get("Host")
	if r.Host == "" {
		r.Host = e.Context.DomainName
	}
	for _, name := range []string{"Host", "Transfer-Encoding", "Connection"} {
		r.Header.Del(name) // of the connection to the service, as net/http has it
	}
	if r.Header.Get("X-Request-Id") == "" && e.Context.RequestID != "" {
		r.Header.Set("X-Request-Id", e.Context.RequestID)
	}
	query := e.query(k)
	r.URL = e.url(k, base)
	r.URL.RawQuery = query
	r.RequestURI = e.sent(k)
	if query != "" {
		r.RequestURI += "?" + query
	}
	r.RemoteAddr = net.JoinHostPort(e.source(k, r.Header), "0")
	if arn := e.principal(k); arn != "" {
		ctx = auth.WithIAM(ctx, arn)
	}
	if r.TLS, err = e.tls(); err != nil {
		return nil, err
	}
	return r.WithContext(ctx), nil
}

func (e *event) body() (string, error) {
	if !e.IsBase64Encoded {
		return e.Body, nil
	}
	b, err := base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		return "", errors.New("body: not the base64 that the event says it is")
	}
	return string(b), nil
}

// header has the names in their canonical case, whatever the service made of
// them (SX-HTTP-03).
func (e *event) header(k kind) http.Header {
	h := make(http.Header, len(e.Header)+len(e.Headers))
	if len(e.Headers) > 0 {
		for name, values := range e.Headers {
			for _, v := range values {
				h.Add(name, v)
			}
		}
	} else {
		for name, v := range e.Header {
			h.Add(name, v)
		}
	}
	if k == payload2 && len(e.Cookies) > 0 {
		h.Set("Cookie", strings.Join(e.Cookies, "; "))
	}
	return h
}

// query is the query string. Load balancers leave parameters escaped as the
// client had them; the first format of API Gateway has them unescaped.
func (e *event) query(k kind) string {
	if k == payload2 {
		return e.RawQuery
	}
	values := e.Queries
	if len(values) == 0 {
		values = make(url.Values, len(e.Query))
		for name, v := range e.Query {
			values.Set(name, v)
		}
	}
	if k == payload1 {
		return values.Encode()
	}
	plain := make(url.Values, len(values))
	for name, list := range values {
		for _, v := range list {
			plain.Add(unescapeQuery(name), unescapeQuery(v))
		}
	}
	return plain.Encode()
}

func unescapeQuery(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// sent is the path as the client sent it, stage and base path included, which
// the digest of HTTP authentication covers.
func (e *event) sent(k kind) string {
	switch {
	case k == payload2:
		return e.RawPath
	case k == payload1 && e.Context.Path != "":
		return e.Context.Path
	}
	return e.Path
}

// url is the path as the routes know it: without stage and base path.
func (e *event) url(k kind, base string) *url.URL {
	path := e.Path
	if k == payload2 {
		path = e.RawPath
	}
	u := &url.URL{Path: path}
	if !e.unescaped() {
		if plain, err := url.PathUnescape(path); err == nil {
			u.Path, u.RawPath = plain, path
		}
	}
	cut(u, e.prefix(u.Path))
	cut(u, base)
	if u.Path == "" {
		u.Path = "/"
	}
	return u
}

// unescaped reports whether the service has unescaped the path already, as
// HTTP APIs do.
func (e *event) unescaped() bool {
	return e.Version != "" && !strings.Contains(e.Context.DomainName, ".lambda-url.")
}

// prefix is what comes before the route's own path: the stage, or the base
// path of a custom domain. The route's template tells it, since the service
// gives the values of its variables.
func (e *event) prefix(path string) string {
	template := e.Resource
	if _, p, ok := strings.Cut(e.RouteKey, " "); ok {
		template = p
	}
	for _, unescape := range []func(string) (string, error){nil, url.PathUnescape} {
		route, ok := e.fill(template, unescape)
		if head, found := strings.CutSuffix(path, route); ok && found {
			return head
		}
	}
	if e.Context.Stage == "" || e.Context.Stage == "$default" || e.Version == "" {
		return ""
	}
	return "/" + e.Context.Stage
}

// fill puts the values of its variables into a template such as
// /speke/{proxy+}.
func (e *event) fill(template string, unescape func(string) (string, error)) (string, bool) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return b.String(), b.Len() > 1 // "/" is the end of nothing in particular
		}
		name, after, _ := strings.Cut(rest, "}")
		value, ok := e.PathParameters[strings.TrimSuffix(name, "+")]
		if !ok {
			return "", false
		}
		if unescape != nil {
			if plain, err := unescape(value); err == nil {
				value = plain
			}
		}
		b.WriteString(value)
		template = after
	}
}

// cut takes a prefix away if the path has it, whole segments only.
func cut(u *url.URL, prefix string) {
	prefix = strings.TrimSuffix(prefix, "/")
	rest, ok := strings.CutPrefix(u.Path, prefix)
	if prefix == "" || !ok || rest != "" && rest[0] != '/' {
		return
	}
	u.Path = rest
	if raw, ok := strings.CutPrefix(u.RawPath, prefix); ok {
		u.RawPath = raw
	} else {
		u.RawPath = ""
	}
}

// source is the client's address. A load balancer puts it at the end of
// X-Forwarded-For; what stands before is the client's own word.
func (e *event) source(k kind, h http.Header) string {
	switch k {
	case payload1:
		return e.Context.Identity.SourceIP
	case payload2:
		return e.Context.HTTP.SourceIP
	}
	list := strings.Join(h.Values("X-Forwarded-For"), ",")
	return strings.TrimSpace(list[strings.LastIndexByte(list, ',')+1:])
}

// principal is whom the service found to have signed the request; empty where
// it does not check signatures.
func (e *event) principal(k kind) string {
	switch k {
	case payload1:
		return e.Context.Identity.UserARN
	case payload2:
		var a struct {
			IAM struct {
				UserARN string `json:"userArn"`
			} `json:"iam"`
		}
		if json.Unmarshal(e.Context.Authorizer, &a) != nil {
			return "" // none, or of another kind
		}
		return a.IAM.UserARN
	}
	return ""
}

// tls has the client certificate with which the client proved to API Gateway
// that it has the key.
func (e *event) tls() (*tls.ConnectionState, error) {
	c := e.Context.Identity.ClientCert
	if c == nil {
		c = e.Context.Authentication.ClientCert
	}
	if c == nil || c.PEM == "" {
		return nil, nil
	}
	block, _ := pem.Decode([]byte(c.PEM))
	if block == nil {
		return nil, errors.New("client certificate: not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}, nil
}
