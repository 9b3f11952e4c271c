package auth_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

const (
	accessKeyID = "SPKIOSFODNN7EXAMPLE"
	secretKey   = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
)

// awsRequest is a key request that AWS's own signer signed.
type awsRequest struct {
	url, body, id, secret, token, region, service string
	header                                        http.Header
	at                                            time.Time
	presign                                       bool
}

func (a awsRequest) sign(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.url, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/xml")
	for name, values := range a.header {
		r.Header[name] = values
	}
	d := sha256.Sum256([]byte(a.body))
	c := aws.Credentials{AccessKeyID: a.id, SecretAccessKey: a.secret, SessionToken: a.token}
	if a.presign {
		url, _, err := v4.NewSigner().PresignHTTP(t.Context(), c, r, hex.EncodeToString(d[:]), a.service, a.region, a.at)
		if err != nil {
			t.Fatal(err)
		}
		out, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if err := v4.NewSigner().SignHTTP(t.Context(), c, r, hex.EncodeToString(d[:]), a.service, a.region, a.at); err != nil {
		t.Fatal(err)
	}
	return r
}

func sigv4Customer() []tenant.Settings {
	return customer(
		tenant.Credential{Name: "aws", SigV4: &tenant.SigV4{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, Regions: []string{"eu-west-1", "us-east-1"}}},
		tenant.Credential{Name: "next", SigV4: &tenant.SigV4{AccessKeyID: "SPKNEXT", SecretAccessKey: "another-secret-key", Regions: []string{"eu-west-1"}}},
	)
}

// TestSigV4 sends what AWS's SDK signs over HTTP, so that what we check is
// what arrives.
func TestSigV4(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, sigv4Customer(), auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1000}})
	s := serve(t, a)
	good := awsRequest{
		url: s.URL + "/speke/v2.0/copyProtection", body: "<CPIX/>", id: accessKeyID, secret: secretKey,
		region: "eu-west-1", service: "execute-api", at: noon, header: http.Header{"X-Speke-Version": {"2.0"}},
	}
	send := func(t *testing.T, r *http.Request) string {
		t.Helper()
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, edit := range map[string]func(*awsRequest){
		"as MediaPackage":   func(*awsRequest) {},
		"another region":    func(r *awsRequest) { r.region = "us-east-1" },
		"a query":           func(r *awsRequest) { r.url += "?b=2&a=1&a=0&empty=&blank=a%20b&plus=a%2Bb&tilde=~&slash=a%2Fb" },
		"an escaped path":   func(r *awsRequest) { r.url = s.URL + "/a%20b/c+d/%C3%A4/copyProtection" },
		"no path":           func(r *awsRequest) { r.url = s.URL },
		"blanks in headers": func(r *awsRequest) { r.header = http.Header{"X-Note": {"  a   b  ", "c"}} },
		"a session token":   func(r *awsRequest) { r.token = "token" },
		"the digest told": func(r *awsRequest) {
			d := sha256.Sum256([]byte(r.body))
			r.header = http.Header{"X-Amz-Content-Sha256": {hex.EncodeToString(d[:])}}
		},
		"5 minutes slow": func(r *awsRequest) { r.at = noon.Add(-5 * time.Minute) },
		"5 minutes fast": func(r *awsRequest) { r.at = noon.Add(5 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			edit(&r)
			if got := send(t, r.sign(t)); got != "acme aws 7 bytes\n" {
				t.Errorf("got %q", got)
			}
		})
	}
	next := good
	next.id, next.secret = "SPKNEXT", "another-secret-key"
	if got := send(t, next.sign(t)); got != "acme next 7 bytes\n" {
		t.Errorf("the next key: %q", got)
	}

	for name, edit := range map[string]func(*awsRequest){
		"wrong secret":       func(r *awsRequest) { r.secret += "x" },
		"unknown key":        func(r *awsRequest) { r.id = "SPKNOBODY" },
		"unknown key, empty": func(r *awsRequest) { r.id, r.secret = "SPKNOBODY", "" },
		"region not allowed": func(r *awsRequest) { r.region = "ap-south-1" },
		"another key's":      func(r *awsRequest) { r.id = "SPKNEXT" },
		"another service":    func(r *awsRequest) { r.service = "s3" },
		"too slow":           func(r *awsRequest) { r.at = noon.Add(-5*time.Minute - time.Second) },
		"too fast":           func(r *awsRequest) { r.at = noon.Add(5*time.Minute + time.Second) },
		"in the URL":         func(r *awsRequest) { r.presign = true },
		"body not signed":    func(r *awsRequest) { r.header = http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}} },
		"body in chunks": func(r *awsRequest) {
			r.header = http.Header{"X-Amz-Content-Sha256": {"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}}
		},
		"another body's hash": func(r *awsRequest) { r.header = http.Header{"X-Amz-Content-Sha256": {strings.Repeat("0", 64)}} },
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			edit(&r)
			if got := send(t, r.sign(t)); got != "unauthorized\n" {
				t.Errorf("got %q", got)
			}
		})
	}

	replace := func(header, old, new string) func(*http.Request) {
		return func(r *http.Request) {
			v := r.Header.Get(header)
			if !strings.Contains(v, old) {
				t.Fatalf("no %q in %q", old, v)
			}
			r.Header.Set(header, strings.Replace(v, old, new, 1))
		}
	}
	body := func(text string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader([]byte(text))), int64(len(text))
		}
	}
	for name, change := range map[string]func(*http.Request){
		"another body":          body("<CPIY/>"),
		"no body":               body(""),
		"another path":          func(r *http.Request) { r.URL.Path = "/speke/v1.0/copyProtection" },
		"a query more":          func(r *http.Request) { r.URL.RawQuery = "a=b" },
		"a malformed query":     func(r *http.Request) { r.URL.RawQuery = "a;b" },
		"another host":          func(r *http.Request) { r.Host = "example.com" },
		"another version":       func(r *http.Request) { r.Header.Set("X-Speke-Version", "2.1") },
		"a signed header gone":  func(r *http.Request) { r.Header.Del("X-Speke-Version") },
		"an x-amz header more":  func(r *http.Request) { r.Header.Set("X-Amz-Meta", "x") },
		"date gone":             func(r *http.Request) { r.Header.Del("X-Amz-Date") },
		"date changed":          replace("X-Amz-Date", "120000Z", "120001Z"),
		"scope's date changed":  replace("Authorization", "/20260301/", "/20260302/"),
		"scope's end changed":   replace("Authorization", "aws4_request", "aws4_reques"),
		"host not signed":       replace("Authorization", ";host;", ";"),
		"headers out of order":  replace("Authorization", "content-length;content-type", "content-type;content-length"),
		"header twice":          replace("Authorization", "content-length;", "content-length;content-length;"),
		"header in upper case":  replace("Authorization", ";host;", ";Host;"),
		"signature in capitals": func(r *http.Request) { replace("Authorization", "Signature=", "Signature=0x")(r) },
		"signature cut":         func(r *http.Request) { v := r.Header.Get("Authorization"); r.Header.Set("Authorization", v[:len(v)-2]) },
		"a parameter twice":     replace("Authorization", "Credential=", "Credential=x, Credential="),
		"a parameter more":      replace("Authorization", "Credential=", "X=y, Credential="),
		"another algorithm":     replace("Authorization", "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
	} {
		t.Run(name, func(t *testing.T) {
			r := good.sign(t)
			change(r)
			if got := send(t, r); got != "unauthorized\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestSigV4Vector holds a signature that another program made step by step, so
// that signer and check do not only agree with each other.
func TestSigV4Vector(t *testing.T) {
	a := newAuth(t, customer(tenant.Credential{Name: "aws", SigV4: &tenant.SigV4{
		AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", Regions: []string{"us-east-1"}}}),
		auth.Options{Now: newClock(time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)).now})
	r := httptest.NewRequest(http.MethodPost, "http://example.amazonaws.com/speke?Param2=value2&Param1=value1", nil)
	r.Header.Set("X-Amz-Date", "20150830T123600Z")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/execute-api/aws4_request,SignedHeaders=host;x-amz-date,Signature=e00ae158e80d31087f86fd3b149a12698ff63e4c92ca7d6a31f6039bb21debc0")
	opens(t, a, r, "aws")
}

func FuzzSigV4(f *testing.F) {
	a := newAuth(f, sigv4Customer(), auth.Options{Now: newClock(noon).now})
	r := awsRequest{url: "http://example.com/a?b=c", id: accessKeyID, secret: "wrong", region: "eu-west-1", service: "execute-api", at: noon}.sign(f)
	f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), "b=c")
	f.Add("AWS4-HMAC-SHA256 Credential=////,SignedHeaders=;,Signature=", "", "%")
	f.Add("AWS4-HMAC-SHA256 =,=", "2", ";")
	f.Fuzz(func(t *testing.T, header, date, query string) {
		r := request("/a")
		r.URL.RawQuery = query
		r.Header["Authorization"] = []string{header}
		r.Header["X-Amz-Date"] = []string{date}
		if who, err := a.Authenticate(r, nil); err == nil {
			t.Errorf("%q opens %v", header, who)
		}
	})
}

func BenchmarkSigV4(b *testing.B) {
	a := newAuth(b, sigv4Customer(), auth.Options{Now: newClock(noon).now})
	r := awsRequest{url: "http://example.com/speke/v2.0/copyProtection", id: accessKeyID, secret: secretKey, region: "eu-west-1", service: "execute-api", at: noon}.sign(b)
	r.Host = "example.com"
	benchmark(b, a, r)
}
