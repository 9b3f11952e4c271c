package gateway_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
)

// TestCredentials: each kind arrives where it belongs.
func TestCredentials(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		auth upstream.Auth
		set  func(*upstream.Settings)
		want func(*http.Request) bool
	}{
		"basic":  {auth: upstream.Auth{Basic: &upstream.Basic{User: "u", Password: "p4ss"}}, want: func(r *http.Request) bool { u, p, _ := r.BasicAuth(); return u == "u" && p == "p4ss" }},
		"bearer": {auth: upstream.Auth{Bearer: &upstream.Bearer{Token: "t0ken"}}, want: func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer t0ken" }},
		"header": {auth: upstream.Auth{Header: &upstream.Value{Name: "X-API-KEY", Value: "k3y"}}, want: func(r *http.Request) bool { return r.Header.Get("X-Api-Key") == "k3y" }},
		"query": {path: "/keys?a=b", auth: upstream.Auth{Query: &upstream.Value{Name: "token", Value: "a/b c"}}, want: func(r *http.Request) bool {
			return r.URL.Query().Get("token") == "a/b c" && r.URL.Query().Get("a") == "b"
		}},
		"token in the path": {path: "/{tenant}/{token}/{contentId}", auth: upstream.Auth{Token: "a/b"}, want: func(r *http.Request) bool { return r.URL.EscapedPath() == "/acme/a%2Fb/movie-1" }},
		"headers and query": {set: func(u *upstream.Settings) {
			u.Headers = map[string]upstream.Secret{"X-Brand": "b"}
			u.Query = map[string]upstream.Secret{"BrandGuid": "1&2", "id": "{contentId}"}
			u.ContentType = "text/xml"
		}, want: func(r *http.Request) bool {
			return r.Header.Get("X-Brand") == "b" && r.URL.Query().Get("BrandGuid") == "1&2" && r.URL.Query().Get("id") == "movie-1" && r.Header.Get("Content-Type") == "text/xml"
		}},
		"SigV4": {auth: upstream.Auth{SigV4: &upstream.SigV4{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: "s3cret", SessionToken: "sess", Region: "eu-west-1"}}, want: func(r *http.Request) bool {
			a := r.Header.Get("Authorization")
			return strings.HasPrefix(a, "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261122/eu-west-1/execute-api/aws4_request, SignedHeaders=") &&
				r.Header.Get("X-Amz-Date") == "20261122T120000Z" && r.Header.Get("X-Amz-Security-Token") == "sess"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBenchAt(t, newClock().now)
			good := false
			s := stub(t, func(w http.ResponseWriter, r *http.Request) {
				good = c.want(r)
				w.WriteHeader(500)
			})
			u := &upstream.Settings{Vendor: "generic", URL: s.URL + c.path, Auth: c.auth}
			if c.set != nil {
				c.set(u)
			}
			if _, err := b.ask(b.tenant(u), build(t, twoKeys)); err == nil || !good {
				t.Errorf("not there: %v", err)
			}
		})
	}
}

// issuer is a token endpoint.
type issuer struct {
	*httptest.Server
	issued  atomic.Int64
	expires atomic.Value // of expires_in
	asked   atomic.Pointer[http.Request]
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{}
	i.expires.Store("3600")
	i.Server = stub(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		i.asked.Store(r)
		time.Sleep(20 * time.Millisecond)
		json.NewEncoder(w).Encode(map[string]any{ //nolint:errcheck // a test's own client
			"access_token": fmt.Sprintf("token-%d", i.issued.Add(1)), "token_type": "Bearer", "expires_in": json.Number(i.expires.Load().(string)),
		})
	})
	return i
}

// TestOAuth: one token serves many requests, is renewed before it ends, and
// replaced once when it is refused; parameters stand where the issuer wants
// them.
func TestOAuth(t *testing.T) {
	for _, params := range []string{"query", "body"} {
		clock := newClock()
		b := newBenchAt(t, clock.now)
		i := newIssuer(t)
		var last, good atomic.Value
		last.Store("")
		good.Store("")
		s := stub(t, func(w http.ResponseWriter, r *http.Request) {
			token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			last.Store(token)
			if want := good.Load().(string); want != "" && token != want {
				w.WriteHeader(401)
				return
			}
			http.Error(w, "Malformed encryption contract", 422)
		})
		tn := b.tenant(&upstream.Settings{Vendor: "generic", URL: s.URL, Auth: upstream.Auth{OAuth: &upstream.OAuth{
			TokenURL: i.URL + "/oauth/token?x=y", ID: "client", Secret: "s3cret", Scope: "keys", Params: params,
		}}})
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if _, err := b.ask(tn, build(t, twoKeys)); err == nil || !strings.Contains(err.Error(), "Malformed") {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := i.issued.Load(); n != 1 || last.Load() != "token-1" {
			t.Errorf("%d tokens for the first requests", n)
		}
		asked := i.asked.Load()
		user, password, _ := asked.BasicAuth()
		if asked.Form.Get("grant_type") != "client_credentials" || asked.Form.Get("scope") != "keys" || asked.Form.Get("x") != "y" ||
			user != "client" || password != "s3cret" || (asked.ContentLength == 0) != (params == "query") || asked.URL.Query().Has("scope") != (params == "query") {
			t.Errorf("%s: %v %v", params, asked.URL, asked.Form)
		}
		clock.add(3600*time.Second - 59*time.Second)
		b.ask(tn, build(t, twoKeys)) //nolint:errcheck // it is refused by the stub
		if last.Load() != "token-2" {
			t.Errorf("not renewed in time: %v", last.Load())
		}
		good.Store("token-3")        // the second one ends early
		b.ask(tn, build(t, twoKeys)) //nolint:errcheck // it is refused by the stub
		if last.Load() != "token-3" || i.issued.Load() != 3 {
			t.Errorf("%v after %d tokens", last.Load(), i.issued.Load())
		}
		good.Store("never")
		_, err := b.ask(tn, build(t, twoKeys))
		if n := i.issued.Load(); n != 4 || err == nil {
			t.Errorf("%d tokens, %v", n, err)
		}
		contains(t, err.Error(), "does not accept our credential")
		for _, secret := range []string{"s3cret", "token-"} {
			if strings.Contains(err.Error()+b.log.String(), secret) {
				t.Errorf("%q in %v or %s", secret, err, b.log)
			}
		}
	}
}

// TestTokenEndpointFails: that is not the encryptor's fault, and tells no
// secret.
func TestTokenEndpointFails(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"status": func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("Authorization"), 400) },
		"html":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"empty":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"access_token":""}`) },
	} {
		b := newBench(t)
		i := stub(t, answer)
		_, err := b.ask(b.tenant(&upstream.Settings{Vendor: "insys", URL: "http://127.0.0.1:1/kms/speke", Auth: upstream.Auth{OAuth: &upstream.OAuth{
			TokenURL: i.URL, ID: "client", Secret: "s3cret",
		}}}), build(t, twoKeys))
		if err == nil {
			t.Fatal(name)
		}
		contains(t, err.Error(), "no access token")
		if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), base64Of([]byte("client:s3cret"))) {
			t.Error(err)
		}
	}
}

// TestMutualTLS: the client certificate is shown, and the server's is checked
// against the operator's CA.
func TestMutualTLS(t *testing.T) {
	client := recipient(t)
	shown := false
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = len(r.TLS.PeerCertificates) == 1 && r.TLS.PeerCertificates[0].Equal(client.Certificate)
		w.WriteHeader(500)
	}))
	cert, ca := selfSigned(t)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	b := newBench(t)
	u := &upstream.Settings{Vendor: "generic", URL: s.URL, Auth: upstream.Auth{MTLS: pemOf(t, client), CA: ca}}
	_, err := b.ask(b.tenant(u), build(t, twoKeys))
	if !shown {
		t.Errorf("not shown: %v", err)
	}
	stranger := *u
	stranger.Auth.CA = ""
	_, err = b.ask(b.tenant(&stranger), build(t, twoKeys))
	if err == nil {
		t.Fatal("a server that nobody knows was trusted")
	}
	contains(t, err.Error(), "certificate signed by unknown authority")
}

func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IPAddresses: loopback, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestDenied: a token that ends early, over a vendor that says so now and
// then, is no fault that an encryptor notices.
func TestDenied(t *testing.T) {
	b := newBench(t)
	s := startSim(t, vendorsim.Insys, vendorsim.Options{Faults: []vendorsim.Fault{{Kind: vendorsim.FaultExpire, Probability: 0.5}}})
	tn := b.tenant(s.upstream(t))
	for range 20 {
		a, err := b.ask(tn, build(t, twoKeys))
		if err == nil {
			if len(a.KIDs) != 2 {
				t.Error(a.KIDs)
			}
			continue
		}
		if f := b.last().Calls[0].Fault; !strings.Contains(f, string(gateway.Credentials)) {
			t.Error(f)
		}
	}
}

// TestGET: a vendor that is asked key by key, by GET, with the credential in
// the query, and answers bare keys.
func TestGET(t *testing.T) {
	b := newBench(t)
	s := stub(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Method != "GET" || q.Get("u") != "user" || q.Get("p") != "p4ss" || q.Get("c") != "movie-1" || r.ContentLength > 0 {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		kid := q.Get("k")
		key := base64Of([]byte(strings.ReplaceAll(kid, "-", "")[:16]))
		fmt.Fprintf(w, `<CPIX xmlns="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" id="movie-1"><ContentKeyList><ContentKey kid="%s"><Data><pskc:Secret><pskc:PlainValue>%s</pskc:PlainValue></pskc:Secret></Data></ContentKey></ContentKeyList></CPIX>`, strings.ToUpper(kid), key)
	})
	up, err := upstream.ParseWord("ezdrm+" + strings.Replace(s.URL, "http://", "http://user:p4ss@", 1) + "/KeyGenerator/cpix.aspx")
	if err != nil {
		t.Fatal(err)
	}
	a := b.must(b.tenant(up), build(t, encryptor.Options{Service: encryptor.MediaPackageV2, Version: encryptor.V20, Systems: []string{"widevine", "playready"}, Scheme: "cbcs"}))
	if n := b.last().Calls[0].Requests; n != 2 || len(b.bound("movie-1")) != 2 {
		t.Errorf("%d requests", n)
	}
	if strings.ReplaceAll(a.KIDs[0].String(), "-", "")[:16] != string(a.read.Keys[0].Value[:]) {
		t.Error("another key")
	}
}
