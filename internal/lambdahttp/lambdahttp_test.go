package lambdahttp_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"spekeasy/internal/auth"
	"spekeasy/internal/lambdahttp"
	"spekeasy/internal/tenant"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seen is what a handler sees of a request.
type seen struct {
	Method, Path, EscapedPath, Query, URI, Host, Remote, Body string
	Length                                                    int64
	Header                                                    map[string]string // those looked at
}

func TestRequests(t *testing.T) {
	const document, account = "<cpix:CPIX/>", "arn:aws:sts::111122223333:assumed-role/"
	for name, c := range map[string]struct {
		want      seen
		principal string
	}{
		"rest-iam": {seen{
			Path: "/speke/v2.0/copyProtection", URI: "/LATEST/speke/v2.0/copyProtection",
			Host: "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", Remote: "198.51.100.7:0", Body: document,
			Header: map[string]string{"X-Speke-Version": "2.0", "Content-Type": "application/xml", "X-Request-Id": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"},
		}, account + "drm-MediaPackageV2Role-1ABC/MediaPackageV2"},
		"rest-custom-domain": {seen{
			Path: "/v2/cpix/site/getKey/abc+def", EscapedPath: "/v2/cpix/site/getKey/abc%2Bdef",
			Query: "enc-token=a%2Bb%2Fc%3D&kid=1&kid=2", URI: "/drm/v2/cpix/site/getKey/abc%2Bdef?enc-token=a%2Bb%2Fc%3D&kid=1&kid=2",
			Host: "keys.example.com", Remote: "[2001:db8::17]:0", Body: document,
			Header: map[string]string{"X-Api-Key": "first|second", "Host": ""},
		}, ""},
		"rest-console-test": {seen{
			Path: "/speke/v1.0/copyProtection", URI: "/{proxy+}", Host: "testPrefix.testDomainName", Remote: "test-invoke-source-ip:0", Body: "<CPIX/>",
		}, "arn:aws:iam::111122223333:user/operator"},
		"http-iam": {seen{
			Path: "/speke/v2.1/copyProtection", Query: "overrideKeyIds=true&a=%2B", URI: "/LATEST/speke/v2.1/copyProtection?overrideKeyIds=true&a=%2B",
			Host: "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", Remote: "198.51.100.7:0", Body: document,
			Header: map[string]string{"X-Speke-Version": "2.1", "Cookie": "one=1; two=2"},
		}, account + "MediaConvert/s"},
		"http-default-route": {seen{
			Path: "/v2/cpix/site/getKey/a b%", EscapedPath: "/v2/cpix/site/getKey/a%20b%25", URI: "/v2/cpix/site/getKey/a b%",
			Host: "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", Remote: "198.51.100.7:0",
			Header: map[string]string{"Authorization": "Basic YTpi"},
		}, ""},
		"http-payload-1": {seen{
			Path: "/copyProtection", URI: "/LATEST/copyProtection",
			Host: "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", Remote: "198.51.100.7:0",
			Header: map[string]string{"Keyos-Userkey": "k"},
		}, ""},
		"function-url-iam": {seen{
			Path: "/speke/v1.0/copyProtection", URI: "/speke/v1.0/copyProtection",
			Host: "abcdefghijklmnop.lambda-url.eu-west-1.on.aws", Remote: "198.51.100.7:0", Body: document,
			Header: map[string]string{"X-Request-Id": "mine"},
		}, "arn:aws:iam::111122223333:user/encoder"},
		"alb": {seen{
			Path: "/cpix/getKey", Query: "enc-token=a%2Bb%2Fc%3D", URI: "/cpix/getKey?enc-token=a%2Bb%2Fc%3D",
			Host: "keys.example.com", Remote: "198.51.100.7:0", Body: document,
		}, ""},
		"alb-multi-value": {seen{
			Path: "/speke/copyProtection", Query: "enc-token=one&enc-token=two", URI: "/speke/copyProtection?enc-token=one&enc-token=two",
			Host: "keys.example.com", Remote: "198.51.100.7:0", Body: document,
			Header: map[string]string{"X-Api-Key": "a|b"},
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.want
			want.Method, want.Length = http.MethodPost, int64(len(want.Body))
			if want.EscapedPath == "" {
				want.EscapedPath = want.Path
			}
			var got seen
			h := lambdahttp.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				got = seen{
					Method: r.Method, Path: r.URL.Path, EscapedPath: r.URL.EscapedPath(), Query: r.URL.RawQuery, URI: r.RequestURI,
					Host: r.Host, Remote: r.RemoteAddr, Body: string(body), Length: r.ContentLength,
				}
				for name := range want.Header {
					if got.Header == nil {
						got.Header = make(map[string]string)
					}
					got.Header[name] = strings.Join(r.Header.Values(name), "|")
				}
				if p := principal(t, r); p != c.principal {
					t.Errorf("principal %q, want %q", p, c.principal)
				}
			}), lambdahttp.Options{})
			if _, err := h.Invoke(t.Context(), recorded(t, name)); err != nil {
				t.Fatal(err)
			}
			g, w := got.Header, want.Header
			got.Header, want.Header = nil, nil
			if !maps.Equal(g, w) {
				t.Errorf("header %v, want %v", g, w)
			}
			if gotText, wantText := asJSON(t, got), asJSON(t, want); gotText != wantText {
				t.Errorf("got  %s\nwant %s", gotText, wantText)
			}
		})
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// principal finds out, as package auth does, which of the test's principals
// the request comes from.
func principal(t *testing.T, r *http.Request) string {
	t.Helper()
	for _, arn := range []string{
		"arn:aws:sts::111122223333:assumed-role/drm-MediaPackageV2Role-1ABC/MediaPackageV2", "arn:aws:sts::111122223333:assumed-role/MediaConvert/s",
		"arn:aws:iam::111122223333:user/operator", "arn:aws:iam::111122223333:user/encoder",
		"arn:aws:iam::111122223333:user/forged", "arn:aws:iam::111122223333:user/nobody",
	} {
		a, err := auth.New([]tenant.Settings{{ID: "t", Credentials: []tenant.Credential{{Name: "c", IAM: &tenant.IAM{ARNs: []string{arn}}}}}}, auth.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Authenticate(r, nil); err == nil {
			return arn
		}
	}
	return ""
}

// What the client sends must not pass for what API Gateway found out.
func TestHeadersProveNothing(t *testing.T) {
	payload := strings.Replace(string(recorded(t, "alb")), `"headers": {`,
		`"headers": {"x-amzn-iam-user-arn": "arn:aws:iam::111122223333:user/forged", "requestcontext": "{\"identity\":{\"userArn\":\"arn:aws:iam::111122223333:user/forged\"}}",`, 1)
	h := lambdahttp.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if p := principal(t, r); p != "" {
			t.Errorf("taken for %s", p)
		}
	}), lambdahttp.Options{})
	if _, err := h.Invoke(t.Context(), []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestBasePath(t *testing.T) {
	for event, base := range map[string]string{"alb-multi-value": "/speke", "function-url-iam": "/speke/v1.0/", "rest-iam": "/speke/v2.0"} {
		var path string
		h := lambdahttp.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { path = r.URL.Path }), lambdahttp.Options{BasePath: base})
		if _, err := h.Invoke(t.Context(), recorded(t, event)); err != nil {
			t.Fatal(err)
		}
		if path != "/copyProtection" {
			t.Errorf("%s without %s: %s", event, base, path)
		}
	}
}

func TestClientCertificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := asJSON(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	for event, at := range map[string]string{"rest-iam": `"identity": {`, "http-iam": `"requestContext": {`} {
		with := at + `"clientCert": {"clientCertPem": ` + text + `},`
		if event == "http-iam" {
			with = at + `"authentication": {"clientCert": {"clientCertPem": ` + text + `}},`
		}
		called := false
		h := lambdahttp.New(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			called = r.TLS != nil && len(r.TLS.PeerCertificates) == 1 && slices.Equal(r.TLS.PeerCertificates[0].Raw, der)
		}), lambdahttp.Options{})
		if _, err := h.Invoke(t.Context(), []byte(strings.Replace(string(recorded(t, event)), at, with, 1))); err != nil || !called {
			t.Errorf("%s: no certificate, %v", event, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		event  string
		theirs any
		answer http.HandlerFunc
		want   string
	}{
		"XML to a REST API": {"rest-iam", new(events.APIGatewayProxyResponse), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml")
			w.Header().Set("Content-Length", "7")
			w.Header().Add("WWW-Authenticate", "A")
			w.Header().Add("WWW-Authenticate", "B")
			w.WriteHeader(http.StatusUnauthorized)
			w.Header().Set("Too-Late", "x")
			io.WriteString(w, "<a>ü</a>")
		}, `{"statusCode":401,"multiValueHeaders":{"Content-Type":["application/xml"],"Www-Authenticate":["A","B"]},"body":"<a>ü</a>","isBase64Encoded":false}`},
		"XML to an HTTP API": {"http-iam", new(events.APIGatewayV2HTTPResponse), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/xml; charset=utf-8")
			w.Header().Add("WWW-Authenticate", "A")
			w.Header().Add("WWW-Authenticate", "B")
			w.Header().Add("Set-Cookie", "c=1")
			io.WriteString(w, "<a/>")
		}, `{"statusCode":200,"headers":{"Content-Type":"application/xml; charset=utf-8","Www-Authenticate":"A, B"},"cookies":["c=1"],"body":"<a/>","isBase64Encoded":false}`},
		"a key": {"function-url-iam", new(events.LambdaFunctionURLResponse), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Write([]byte("0123456789abcdef"))
		}, `{"statusCode":200,"headers":{"Content-Type":"application/octet-stream"},"body":"MDEyMzQ1Njc4OWFiY2RlZg==","isBase64Encoded":true}`},
		"text that is none": {"rest-iam", new(events.APIGatewayProxyResponse), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Write([]byte{0xff})
		}, `{"statusCode":200,"multiValueHeaders":{"Content-Type":["text/plain"]},"body":"/w==","isBase64Encoded":true}`},
		"to a load balancer": {"alb", new(events.ALBTargetGroupResponse), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusUnprocessableEntity)
			io.WriteString(w, "Missing CPIX@version")
		}, `{"statusCode":422,"statusDescription":"422 Unprocessable Entity","headers":{"Content-Type":"text/plain"},"body":"Missing CPIX@version","isBase64Encoded":false}`},
		"to a load balancer with multiple values": {"alb-multi-value", new(events.ALBTargetGroupResponse), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		}, `{"statusCode":200,"statusDescription":"200 OK","multiValueHeaders":{"Content-Type":["application/json"]},"body":"{}","isBase64Encoded":false}`},
		"nothing": {"rest-iam", new(events.APIGatewayProxyResponse), func(http.ResponseWriter, *http.Request) {}, `{"statusCode":200,"body":"","isBase64Encoded":false}`},
		"a fault": {"http-iam", new(events.APIGatewayV2HTTPResponse), func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half an ans")
			panic("a secret")
		}, `{"statusCode":500,"headers":{"Content-Type":"text/plain; charset=utf-8","X-Content-Type-Options":"nosniff"},"body":"internal error\n","isBase64Encoded":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			h := lambdahttp.New(c.answer, lambdahttp.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			got, err := h.Invoke(t.Context(), recorded(t, c.event))
			if err != nil {
				t.Fatal(err)
			}
			d := json.NewDecoder(bytes.NewReader(got)) // as Amazon's own library has it
			d.DisallowUnknownFields()
			if err := d.Decode(c.theirs); err != nil {
				t.Error(err)
			}
			if text := strings.TrimSpace(string(got)); text != c.want {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
			if strings.Contains(log.String(), "secret") || strings.Contains(c.want, "500") != strings.Contains(log.String(), "panic") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

func TestOtherEvents(t *testing.T) {
	h := lambdahttp.New(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("answered") }), lambdahttp.Options{})
	for name, payload := range map[string]string{
		"of nothing":        `{}`,
		"of a queue":        `{"Records": [{"messageId": "1", "body": "a secret"}]}`,
		"not JSON":          `a secret`,
		"of another type":   `{"httpMethod": ["a secret"]}`,
		"with a bad body":   `{"httpMethod": "POST", "path": "/", "body": "a secret!", "isBase64Encoded": true}`,
		"with no proof":     `{"httpMethod": "POST", "path": "/", "requestContext": {"identity": {"clientCert": {"clientCertPem": "a secret"}}}}`,
		"with a false one":  `{"httpMethod": "POST", "path": "/", "requestContext": {"identity": {"clientCert": {"clientCertPem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}}}`,
		"of an old console": `{"key1": "value1"}`,
	} {
		_, err := h.Invoke(t.Context(), []byte(payload))
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("an event %s: %v", name, err)
		}
	}
}

// A request ends before Lambda ends the function, so that there is an answer.
func TestDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	h := lambdahttp.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		if !errors.Is(r.Context().Err(), context.DeadlineExceeded) {
			t.Error(r.Context().Err())
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}), lambdahttp.Options{})
	got, err := h.Invoke(ctx, recorded(t, "rest-iam"))
	if err != nil || ctx.Err() != nil || !strings.Contains(string(got), `"statusCode":503`) {
		t.Errorf("%s, %v, %v", got, err, ctx.Err())
	}
}

func FuzzInvoke(f *testing.F) {
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) < 8 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		f.Add(recorded(f, strings.TrimSuffix(filepath.Base(name), ".json")), "/speke")
	}
	f.Fuzz(func(t *testing.T, payload []byte, base string) {
		h := lambdahttp.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "" || r.Method == "" || r.URL.RawPath != "" && r.URL.EscapedPath() == "" {
				t.Errorf("%q %q", r.Method, r.URL)
			}
			if _, err := io.Copy(w, r.Body); err != nil {
				t.Error(err)
			}
		}), lambdahttp.Options{BasePath: base})
		out, err := h.Invoke(t.Context(), payload)
		if err == nil && !json.Valid(out) {
			t.Errorf("%q", out)
		}
	})
}

func BenchmarkInvoke(b *testing.B) {
	answer := []byte("<cpix:CPIX>" + strings.Repeat("<cpix:ContentKey/>", 1000) + "</cpix:CPIX>") // 18 kB
	h := lambdahttp.New(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.Write(answer)
	}), lambdahttp.Options{})
	payload := recorded(b, "rest-iam")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Invoke(b.Context(), payload); err != nil {
			b.Fatal(err)
		}
	}
}
