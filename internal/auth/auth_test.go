package auth_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a time that tests move.
type clock struct {
	mu   sync.Mutex
	time time.Time
}

func newClock(t time.Time) *clock { return &clock{time: t} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = c.time.Add(d)
}

func at(t time.Time) tenant.Time { return tenant.Time(t.Format(time.RFC3339)) }

// customer is tenant acme with these credentials.
func customer(credentials ...tenant.Credential) []tenant.Settings {
	return []tenant.Settings{{ID: "acme", Credentials: credentials}}
}

func newAuth(t testing.TB, customers []tenant.Settings, o auth.Options) *auth.Authenticator {
	t.Helper()
	a, err := auth.New(customers, o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// request is a key request with headers, each "Name: value".
func request(target string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// opens wants the request let in as a credential of acme.
func opens(t *testing.T, a *auth.Authenticator, r *http.Request, credential string) {
	t.Helper()
	who, err := a.Authenticate(r, nil)
	if err != nil {
		t.Errorf("refused: %v", err)
	} else if who.Tenant != "acme" || who.Credential != credential {
		t.Errorf("let in as %+v, want acme's %s", who, credential)
	}
}

// refuses wants the request kept out.
func refuses(t *testing.T, a *auth.Authenticator, r *http.Request) {
	t.Helper()
	who, err := a.Authenticate(r, nil)
	if who != nil || !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("got %+v, %v, want refused as unauthenticated", who, err)
	}
}

func basicAuth(user, password string) *http.Request {
	r := request("/speke/v2.0/copyProtection")
	r.SetBasicAuth(user, password)
	return r
}

func TestNobodyWithoutCredentials(t *testing.T) {
	a := newAuth(t, nil, auth.Options{})
	refuses(t, a, request("/"))
	refuses(t, a, basicAuth("acme", "secret"))
}

// TestValidity: a credential outside its time looks like a wrong one, two of
// them overlap while a secret is changed (SX-AUTH-08).
func TestValidity(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(
		tenant.Credential{Name: "old", Expires: at(noon.Add(time.Hour)), Basic: &tenant.Basic{User: "acme", Password: "one"}},
		tenant.Credential{Name: "new", NotBefore: at(noon.Add(time.Minute)), Basic: &tenant.Basic{User: "acme", Password: "two"}},
	), auth.Options{Now: c.now})

	opens(t, a, basicAuth("acme", "one"), "old")
	refuses(t, a, basicAuth("acme", "two"))
	c.advance(time.Minute)
	opens(t, a, basicAuth("acme", "one"), "old")
	opens(t, a, basicAuth("acme", "two"), "new")
	c.advance(59 * time.Minute)
	refuses(t, a, basicAuth("acme", "one"))
	opens(t, a, basicAuth("acme", "two"), "new")
}

// TestReminder: the log warns of a credential in its last 14 days, at the
// start and once a day as long as it is used.
func TestReminder(t *testing.T) {
	var log bytes.Buffer
	c := newClock(noon)
	customers := customer(
		tenant.Credential{Name: "soon", Expires: at(noon.AddDate(0, 0, 10)), Basic: &tenant.Basic{User: "acme", Password: "one"}},
		tenant.Credential{Name: "later", Expires: at(noon.AddDate(0, 0, 15)), Basic: &tenant.Basic{User: "acme", Password: "two"}},
		tenant.Credential{Name: "over", Expires: at(noon.AddDate(0, 0, -1)), Basic: &tenant.Basic{User: "acme", Password: "three"}},
	)
	a := newAuth(t, customers, auth.Options{Now: c.now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	expect := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(log.String()), "\n")
		if log.Len() == 0 {
			got = nil
		}
		if len(got) != len(want) {
			t.Fatalf("log:\n%swant %d lines", log.String(), len(want))
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("line %q, want %q", got[i], want[i])
			}
		}
		log.Reset()
	}
	expect("expires soon\" tenant=acme credential=soon", "has expired\" tenant=acme credential=over")
	for range 3 {
		opens(t, a, basicAuth("acme", "one"), "soon")
		opens(t, a, basicAuth("acme", "two"), "later")
	}
	expect()
	c.advance(26 * time.Hour)
	for range 3 {
		opens(t, a, basicAuth("acme", "one"), "soon")
		opens(t, a, basicAuth("acme", "two"), "later")
	}
	expect("credential=soon", "credential=later")
}

// TestOneGoodCredential: an encryptor behind a proxy may carry the proxy's
// key too.
func TestOneGoodCredential(t *testing.T) {
	a := newAuth(t, customer(
		tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "secret"}},
		tenant.Credential{Name: "key", APIKey: &tenant.APIKey{Key: "key"}},
	), auth.Options{})
	r := basicAuth("acme", "secret")
	r.Header.Set("X-Api-Key", "of the proxy")
	opens(t, a, r, "user")
	r = basicAuth("acme", "wrong")
	r.Header.Set("X-Api-Key", "key")
	opens(t, a, r, "key")
	r.Header.Set("X-Api-Key", "of the proxy")
	refuses(t, a, r)
}

func TestBasic(t *testing.T) {
	a := newAuth(t, customer(
		// Axinom: the tenant's ID with its management key.
		tenant.Credential{Name: "management", Basic: &tenant.Basic{User: "4e5b7c2f-0d41-4a6b-9c3e-1f2a3b4c5d6e", Password: "a4c5:with:colons"}},
		tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "encoder", Password: "päss wörd"}},
	), auth.Options{})
	opens(t, a, basicAuth("4e5b7c2f-0d41-4a6b-9c3e-1f2a3b4c5d6e", "a4c5:with:colons"), "management")
	opens(t, a, basicAuth("encoder", "päss wörd"), "user")
	for name, r := range map[string]*http.Request{
		"no credential":           request("/"),
		"wrong password":          basicAuth("encoder", "pass word"),
		"no password":             basicAuth("encoder", ""),
		"another user's password": basicAuth("encoder", "a4c5:with:colons"),
		"unknown user":            basicAuth("nobody", "päss wörd"),
		"no user":                 basicAuth("", ""),
		"user in another case":    basicAuth("Encoder", "päss wörd"),
		"not base64":              request("/", "Authorization: Basic ?"),
		"no colon":                request("/", "Authorization: Basic ZW5jb2Rlcg=="),
		"nothing":                 request("/", "Authorization: Basic"),
		"another scheme":          request("/", "Authorization: Bearer ZW5jb2Rlcg=="),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, a, r) })
	}
	h := make(http.Header)
	a.Challenge(h, auth.ErrUnauthenticated)
	if got := h.Values("WWW-Authenticate"); len(got) != 1 || got[0] != `Basic realm="spekeasy", charset="UTF-8"` {
		t.Errorf("challenge %q", got)
	}
}

func sha256Hex(s string) tenant.Fingerprint {
	d := sha256.Sum256([]byte(s))
	return tenant.Fingerprint(hex.EncodeToString(d[:]))
}

// TestAPIKey: the header is the vendor's; the key may be given as its digest.
func TestAPIKey(t *testing.T) {
	a := newAuth(t, customer(
		tenant.Credential{Name: "default", APIKey: &tenant.APIKey{Key: "k-default"}},
		tenant.Credential{Name: "hashed", APIKey: &tenant.APIKey{SHA256: sha256Hex("k-hashed")}},
		tenant.Credential{Name: "keyos", APIKey: &tenant.APIKey{Header: "keyos-userkey", Key: "k-keyos"}},
		tenant.Credential{Name: "vudrm", APIKey: &tenant.APIKey{Header: "API-KEY", Key: "k-vudrm"}},
		tenant.Credential{Name: "static", APIKey: &tenant.APIKey{Header: "authorization", Key: "Static k-static"}}, // SX-AUTH-04
		tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "secret"}},
	), auth.Options{})
	opens(t, a, request("/", "x-api-key: k-default"), "default")
	opens(t, a, request("/", "X-API-KEY: k-hashed"), "hashed")
	opens(t, a, request("/", "keyos-userkey: k-keyos"), "keyos")
	opens(t, a, request("/", "API-KEY: k-vudrm"), "vudrm")
	opens(t, a, request("/", "Authorization: Static k-static"), "static")
	opens(t, a, basicAuth("acme", "secret"), "user") // the same header, another way in
	for name, r := range map[string]*http.Request{
		"wrong key":            request("/", "x-api-key: k-defaulT"),
		"empty key":            request("/", "x-api-key: "),
		"the digest as a key":  request("/", "x-api-key: "+string(sha256Hex("k-hashed"))),
		"a key in another one": request("/", "x-api-key: k-keyos"),
		"only the second one":  request("/", "x-api-key: no", "x-api-key: k-default"),
		"in the query":         request("/?x-api-key=k-default"),
		"wrong static":         request("/", "Authorization: Static k"),
	} {
		t.Run(name, func(t *testing.T) { refuses(t, a, r) })
	}
}

// TestToken: PallyCon's token in query or path, which people paste into URLs
// without escaping it.
func TestToken(t *testing.T) {
	a := newAuth(t, customer(
		tenant.Credential{Name: "query", Token: &tenant.Token{Token: "eyJ+a/b=="}},
		tenant.Credential{Name: "hashed", Token: &tenant.Token{SHA256: sha256Hex("t-hashed")}},
		tenant.Credential{Name: "other", Token: &tenant.Token{Parameter: "kms-token", Token: "t-other"}},
	), auth.Options{})
	opens(t, a, request("/cpix/getKey?enc-token=eyJ%2Ba%2Fb%3D%3D"), "query")
	opens(t, a, request("/cpix/getKey?enc-token=eyJ+a/b=="), "query")
	opens(t, a, request("/cpix/getKey?key-rotation=true&enc-token=t-hashed"), "hashed")
	opens(t, a, request("/cpix/getKey?kms-token=t-other"), "other")
	r := request("/v2/cpix/brand/getKey/eyJ+a/b==")
	r.SetPathValue("token", "eyJ+a/b==")
	opens(t, a, r, "query")
	for name, target := range map[string]string{
		"wrong":             "/cpix/getKey?enc-token=t-hashe",
		"empty":             "/cpix/getKey?enc-token=",
		"another parameter": "/cpix/getKey?token=t-hashed",
		"broken escape":     "/cpix/getKey?enc-token=%zz",
		"in the fragment":   "/cpix/getKey#enc-token=t-hashed",
	} {
		t.Run(name, func(t *testing.T) { refuses(t, a, request(target)) })
	}
}

// TestShared: one secret is one credential; what would open two tenants opens
// neither. The fault shows at the start and does not show the secret.
func TestShared(t *testing.T) {
	for name, c := range map[string]tenant.Credential{
		"user":        {Name: "c", Basic: &tenant.Basic{User: "encoder", Password: "hunter2"}},
		"key":         {Name: "c", APIKey: &tenant.APIKey{Key: "hunter2"}},
		"token":       {Name: "c", Token: &tenant.Token{Token: "hunter2"}},
		"digest":      {Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "hunter2"}},
		"client":      {Name: "c", OAuthClient: &tenant.OAuthClient{ID: "app", Secret: "hunter2"}},
		"certificate": {Name: "c", MTLS: &tenant.MTLS{SHA256: sha256Hex("c")}},
		"delivery":    {Name: "c", DeliveryCertificate: &tenant.DeliveryCertificate{SHA256: sha256Hex("c")}},
		"access key":  {Name: "c", SigV4: &tenant.SigV4{AccessKeyID: "SPKACME", SecretAccessKey: "hunter2hunter2hunter2", Regions: []string{"eu-west-1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			for what, customers := range map[string][]tenant.Settings{
				"two tenants": {{ID: "acme", Credentials: []tenant.Credential{c}}, {ID: "other", Credentials: []tenant.Credential{c}}},
				"one tenant":  customer(c, c),
			} {
				if _, err := auth.New(customers, auth.Options{}); err == nil || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s: got %v", what, err)
				}
			}
		})
	}
}

// TestThrottle: failures are bounded by source and by credential, and nobody
// is locked out by them.
func TestThrottle(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(
		tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "secret"}},
		tenant.Credential{Name: "key", APIKey: &tenant.APIKey{Key: "key"}},
	), auth.Options{
		Now: c.now, Throttle: auth.Throttle{Burst: 3, Every: 10 * time.Second},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	try := func(remote string, r *http.Request) error {
		r.RemoteAddr = remote
		_, err := a.Authenticate(r, nil)
		return err
	}
	wrongKey := func() *http.Request { return request("/", "x-api-key: wrong") }
	throttled := func(err error) time.Duration {
		t.Helper()
		var e *auth.ThrottledError
		if !errors.As(err, &e) {
			t.Fatalf("got %v, want throttled", err)
		}
		return e.After
	}
	plain := func(err error) {
		t.Helper()
		if e := (*auth.ThrottledError)(nil); !errors.Is(err, auth.ErrUnauthenticated) || errors.As(err, &e) {
			t.Fatalf("got %v, want unauthenticated", err)
		}
	}

	for range 3 {
		plain(try("192.0.2.1:1", wrongKey()))
	}
	if after := throttled(try("192.0.2.1:2", wrongKey())); after != 10*time.Second {
		t.Errorf("wait %s", after)
	}
	if err := try("192.0.2.1:3", request("/", "x-api-key: key")); err != nil {
		t.Errorf("a good key from a throttled address: %v", err)
	}
	plain(try("192.0.2.1:4", request("/"))) // shows nothing, guesses nothing
	plain(try("192.0.2.2:1", wrongKey()))
	c.advance(10 * time.Second)
	plain(try("192.0.2.1:5", wrongKey()))
	throttled(try("192.0.2.1:6", wrongKey()))

	// Many addresses that guess one user's password share what that user has.
	for i := range 3 {
		plain(try(fmt.Sprintf("198.51.100.%d:1", i), basicAuth("acme", "guess")))
	}
	throttled(try("198.51.100.9:1", basicAuth("acme", "guess")))
	if err := try("198.51.100.10:1", basicAuth("acme", "secret")); err != nil {
		t.Errorf("the user's password while others guess it: %v", err)
	}

	// Addresses of one IPv6 network count together.
	for i := range 3 {
		plain(try(fmt.Sprintf("[2001:db8::%d]:1", i+1), wrongKey()))
	}
	throttled(try("[2001:db8::ff]:1", wrongKey()))
	plain(try("[2001:db8:0:1::1]:1", wrongKey()))

	// Behind a trusted proxy it is the client that counts, whatever it wrote
	// itself into the header.
	via := func(remote, forwarded string) error {
		r := wrongKey()
		r.Header.Set("X-Forwarded-For", forwarded)
		return try(remote, r)
	}
	for i := range 3 {
		plain(via("10.1.1.1:1", fmt.Sprintf("192.0.2.%d, 203.0.113.1, 10.2.2.2", 100+i)))
	}
	throttled(via("10.1.1.1:1", "192.0.2.200, 203.0.113.1, 10.2.2.2"))
	plain(via("10.1.1.1:1", "192.0.2.200, 203.0.113.2"))
	for i := range 3 { // nobody's proxy
		plain(via("203.0.113.77:1", fmt.Sprintf("192.0.2.%d", 150+i)))
	}
	throttled(via("203.0.113.77:1", "192.0.2.170"))
}

// TestThrottleMemory: however many sources fail, what is kept is bounded, and
// those that fail most are not forgotten for each other at once.
func TestThrottleMemory(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(tenant.Credential{Name: "key", APIKey: &tenant.APIKey{Key: "key"}}),
		auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1, Every: time.Second, Size: 100}})
	for i := range 1000 {
		r := request("/", "x-api-key: wrong")
		r.RemoteAddr = fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)
		a.Authenticate(r, nil)
		if n := a.Throttled(); n > 100 {
			t.Fatalf("%d sources are kept", n)
		}
	}
	if n := a.Throttled(); n < 50 {
		t.Errorf("only %d sources are kept", n)
	}
}

// TestErrors: what was sent never shows in an error.
func TestErrors(t *testing.T) {
	a := newAuth(t, customer(
		tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "secret"}},
		tenant.Credential{Name: "key", APIKey: &tenant.APIKey{Key: "key"}},
		tenant.Credential{Name: "token", Token: &tenant.Token{Token: "token"}},
	), auth.Options{Throttle: auth.Throttle{Burst: 1}})
	for range 3 {
		for _, r := range []*http.Request{
			basicAuth("hunter2", ""), basicAuth("acme", "hunter2"), request("/", "x-api-key: hunter2"), request("/?enc-token=hunter2"),
			request("/", "Authorization: Basic hunter2"),
		} {
			_, err := a.Authenticate(r, nil)
			if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "hunter2") {
				t.Errorf("%v: %v", r.Header, err)
			}
		}
	}
}

func FuzzBasic(f *testing.F) {
	a := newAuth(f, customer(tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "secret"}}), auth.Options{})
	for _, s := range []string{"Basic YWNtZTpzZWNyZXQ=", "basic YWNtZTpzZWNyZXQ", "Basic ", "Basic Og==", "Digest x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := request("/")
		r.Header["Authorization"] = []string{header}
		who, err := a.Authenticate(r, nil)
		user, password, _ := r.BasicAuth()
		if good := user == "acme" && password == "secret"; good != (err == nil) || good != (who != nil) {
			t.Errorf("%q: %v, %v", header, who, err)
		}
	})
}

func BenchmarkBasic(b *testing.B) {
	a := newAuth(b, customer(tenant.Credential{Name: "user", Basic: &tenant.Basic{User: "acme", Password: "a-password-of-some-length"}}), auth.Options{})
	benchmark(b, a, basicAuth("acme", "a-password-of-some-length"))
}

func BenchmarkAPIKey(b *testing.B) {
	list := make([]tenant.Credential, 10000)
	for i := range list {
		list[i] = tenant.Credential{Name: fmt.Sprint(i), APIKey: &tenant.APIKey{Key: tenant.Secret(fmt.Sprintf("key-%032d", i))}}
	}
	benchmark(b, newAuth(b, customer(list...), auth.Options{}), request("/", "x-api-key: key-00000000000000000000000000005000"))
}

func benchmark(b *testing.B, a *auth.Authenticator, r *http.Request) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(r, nil); err != nil {
			b.Fatal(err)
		}
	}
}
