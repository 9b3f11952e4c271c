package auth_test

import (
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/tenant"
)

// serve runs a server that lets in whom a does and answers the name of the
// credential.
func serve(t *testing.T, a *auth.Authenticator) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(guarded(a))
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func guarded(a *auth.Authenticator) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "body", http.StatusBadRequest)
			return
		}
		who, err := a.Authenticate(r, body)
		if err != nil {
			a.Challenge(w.Header(), err)
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, "%s %s %d bytes\n", who.Tenant, who.Credential, len(body))
	})
}

// curl runs the program and returns its standard output.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--max-time", "20"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl: %v\n%s", err, stderr.String())
	}
	return string(out)
}

// TestCurl asks with the client that everybody has.
func TestCurl(t *testing.T) {
	credentials := customer(
		tenant.Credential{Name: "digest", Digest: &tenant.Digest{User: "encoder", Password: `pass "wörd"\,=`}},
		tenant.Credential{Name: "basic", Basic: &tenant.Basic{User: "encoder", Password: "other"}},
		tenant.Credential{Name: "key", APIKey: &tenant.APIKey{Header: "keyos-userkey", Key: "key"}},
		tenant.Credential{Name: "token", Token: &tenant.Token{Token: "a+b="}},
	)
	for name, o := range map[string]auth.Digest{
		"SHA-256 and MD5": {}, "MD5": {Algorithms: []string{"MD5"}}, "SHA-256": {Algorithms: []string{"SHA-256"}},
		"MD5 first": {Algorithms: []string{"MD5", "SHA-256"}}, "integrity": {Integrity: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, newAuth(t, credentials, auth.Options{Digest: o}))
			url := s.URL + "/speke/v2.0/copyProtection?a=b,c"
			post := []string{"-H", "Content-Type: application/xml", "--data-binary", "<CPIX/>", url}
			if got := curl(t, append([]string{"--digest", "-u", `encoder:pass "wörd"\,=`}, post...)...); got != "acme digest 7 bytes\n" {
				t.Errorf("got %q", got)
			}
			if got := curl(t, append([]string{"--digest", "-u", "encoder:wrong"}, post...)...); got != "unauthorized\n" {
				t.Errorf("wrong password: got %q", got)
			}
			if got := curl(t, append([]string{"--anyauth", "-u", `encoder:pass "wörd"\,=`}, post...)...); got != "acme digest 7 bytes\n" {
				t.Errorf("any scheme: got %q", got)
			}
			if got := curl(t, append([]string{"-u", "encoder:other"}, post...)...); got != "acme basic 7 bytes\n" {
				t.Errorf("basic: got %q", got)
			}
		})
	}
	s := serve(t, newAuth(t, credentials, auth.Options{}))
	if got := curl(t, "-H", "keyos-userkey: key", s.URL); got != "acme key 0 bytes\n" {
		t.Errorf("API key: got %q", got)
	}
	if got := curl(t, s.URL+"/cpix/getKey?enc-token=a+b="); got != "acme token 0 bytes\n" {
		t.Errorf("token: got %q", got)
	}
}

// digestClient answers challenges as RFC 7616 says, from its text and not
// from our code.
type digestClient struct {
	user, password string
	algorithm      string // MD5 or SHA-256
	qop            string // "" as RFC 2069
	nonce          string
	count          int
	uri            string // of the request by default
	more           string // parameters in front
}

func (c *digestClient) hash(s string) string {
	if c.algorithm == "SHA-256" {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(s)))
	}
	return fmt.Sprintf("%x", md5.Sum([]byte(s)))
}

func (c *digestClient) authorize(r *http.Request, body string) *http.Request {
	uri := c.uri
	if uri == "" {
		uri = r.RequestURI
	}
	ha1 := c.hash(c.user + ":spekeasy:" + c.password)
	ha2 := c.hash(r.Method + ":" + uri)
	if c.qop == "auth-int" {
		ha2 = c.hash(r.Method + ":" + uri + ":" + c.hash(body))
	}
	h := fmt.Sprintf(`Digest %susername="%s", realm="spekeasy", nonce="%s", uri="%s", algorithm=%s`, c.more, c.user, c.nonce, uri, c.algorithm)
	if c.qop == "" {
		h += fmt.Sprintf(`, response="%s"`, c.hash(ha1+":"+c.nonce+":"+ha2))
	} else {
		nc := fmt.Sprintf("%08x", c.count)
		h += fmt.Sprintf(`, qop=%s, nc=%s, cnonce="0a4f113b", response="%s"`, c.qop, nc, c.hash(strings.Join([]string{ha1, c.nonce, nc, "0a4f113b", c.qop, ha2}, ":")))
	}
	r.Header.Set("Authorization", h)
	return r
}

// nonceOf takes the nonce of the challenge for an algorithm.
func nonceOf(t *testing.T, a *auth.Authenticator, algorithm string, err error) (nonce string, stale bool) {
	t.Helper()
	h := make(http.Header)
	a.Challenge(h, err)
	for _, c := range h.Values("WWW-Authenticate") {
		if strings.Contains(c, "algorithm="+algorithm+",") {
			return regexp.MustCompile(`nonce="([^"]+)"`).FindStringSubmatch(c)[1], strings.Contains(c, "stale=true")
		}
	}
	t.Fatalf("no challenge for %s in %q", algorithm, h)
	return "", false
}

func TestDigest(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(
		tenant.Credential{Name: "one", Digest: &tenant.Digest{User: "encoder", Password: "first"}},
		tenant.Credential{Name: "two", Digest: &tenant.Digest{User: "encoder", Password: "second"}}, // rotation
		tenant.Credential{Name: "old", Digest: &tenant.Digest{User: "veteran", Password: "secret", RFC2069: true}},
	), auth.Options{Now: c.now, Throttle: auth.Throttle{Burst: 1000}})
	for _, algorithm := range []string{"MD5", "SHA-256"} {
		for _, qop := range []string{"auth", "auth-int"} {
			t.Run(algorithm+" "+qop, func(t *testing.T) {
				nonce, stale := nonceOf(t, a, algorithm, auth.ErrUnauthenticated)
				if stale {
					t.Error("a first challenge is stale")
				}
				client := &digestClient{user: "encoder", password: "first", algorithm: algorithm, qop: qop, nonce: nonce, count: 1}
				ask := func(edit func(*digestClient)) (*auth.Principal, error) {
					one := *client
					edit(&one)
					r := one.authorize(request("/speke/copyProtection?x=y"), "body")
					return a.Authenticate(r, []byte("body"))
				}
				good := func(what, name string, edit func(*digestClient)) {
					t.Helper()
					if who, err := ask(edit); err != nil || who.Credential != name {
						t.Errorf("%s: %v, %v", what, who, err)
					}
				}
				bad := func(what string, wantStale bool, edit func(*digestClient)) {
					t.Helper()
					who, err := ask(edit)
					if who != nil || !errors.Is(err, auth.ErrUnauthenticated) {
						t.Errorf("%s: %v, %v", what, who, err)
					}
					if _, stale := nonceOf(t, a, algorithm, err); stale != wantStale {
						t.Errorf("%s: stale is %v", what, stale)
					}
				}
				same := func(*digestClient) {}
				good("first", "one", same)
				bad("replay", true, same)
				good("next", "one", func(c *digestClient) { c.count = 2 })
				good("the other password", "two", func(c *digestClient) { c.password, c.count = "second", 3 })
				good("out of order", "one", func(c *digestClient) { c.count = 70 })
				good("behind", "one", func(c *digestClient) { c.count = 69 })
				bad("behind again", true, func(c *digestClient) { c.count = 69 })
				bad("too far behind", true, func(c *digestClient) { c.count = 6 })
				bad("count zero", true, func(c *digestClient) { c.count = 0 })
				bad("wrong password", false, func(c *digestClient) { c.password, c.count = "third", 80 })
				bad("unknown user", false, func(c *digestClient) { c.user, c.count = "nobody", 80 })
				bad("no user", false, func(c *digestClient) { c.user, c.password, c.count = "", "", 80 })
				bad("another uri", false, func(c *digestClient) { c.uri, c.count = "/speke/copyProtection", 80 })
				bad("another nonce", true, func(c *digestClient) { c.nonce, c.count = "AAAA"+c.nonce[4:], 80 })
				bad("no nonce of ours", true, func(c *digestClient) { c.nonce, c.count = "x", 80 })
				bad("a parameter twice", false, func(c *digestClient) { c.more, c.count = `username="encoder", `, 80 })
				bad("a session algorithm", false, func(c *digestClient) { c.algorithm, c.count = algorithm+"-sess", 80 })
				bad("no qop", false, func(c *digestClient) { c.qop = "" })
				good("without qop, by option", "old", func(c *digestClient) { c.user, c.password, c.qop = "veteran", "secret", "" })
				c.advance(5*time.Minute + time.Second)
				bad("an old nonce", true, func(c *digestClient) { c.count = 90 })
				bad("an old nonce and a wrong password", false, func(c *digestClient) { c.password, c.count = "x", 91 })
			})
		}
	}
	// auth-int covers the body.
	nonce, _ := nonceOf(t, a, "MD5", auth.ErrUnauthenticated)
	client := &digestClient{user: "encoder", password: "first", algorithm: "MD5", qop: "auth-int", nonce: nonce, count: 1}
	if _, err := a.Authenticate(client.authorize(request("/"), "body"), []byte("another")); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("another body: %v", err)
	}
}

// TestDigestCluster: servers that share a key know each other's nonces.
func TestDigestCluster(t *testing.T) {
	credentials := customer(tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "secret"}})
	o := auth.Options{Digest: auth.Digest{Key: []byte("0123456789abcdef")}}
	one, two, alien := newAuth(t, credentials, o), newAuth(t, credentials, o), newAuth(t, credentials, auth.Options{})
	nonce, _ := nonceOf(t, one, "MD5", auth.ErrUnauthenticated)
	client := &digestClient{user: "encoder", password: "secret", algorithm: "MD5", qop: "auth", nonce: nonce, count: 1}
	opens(t, two, client.authorize(request("/"), ""), "c")
	_, err := alien.Authenticate(client.authorize(request("/"), ""), nil)
	if _, stale := nonceOf(t, alien, "MD5", err); !stale {
		t.Errorf("another server's nonce: %v", err)
	}
	if _, err := auth.New(credentials, auth.Options{Digest: auth.Digest{Key: []byte("short")}}); err == nil {
		t.Error("a short key is taken")
	}
	if _, err := auth.New(credentials, auth.Options{Digest: auth.Digest{Algorithms: []string{"SHA-1"}}}); err == nil {
		t.Error("SHA-1 is taken")
	}
}

// TestDigestMemory: more nonces than are remembered make old ones stale and
// never good again.
func TestDigestMemory(t *testing.T) {
	c := newClock(noon)
	a := newAuth(t, customer(tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "secret"}}),
		auth.Options{Now: c.now, Digest: auth.Digest{Size: 8}})
	ask := func(nonce string, count int) error {
		client := &digestClient{user: "encoder", password: "secret", algorithm: "MD5", qop: "auth", nonce: nonce, count: count}
		_, err := a.Authenticate(client.authorize(request("/"), ""), nil)
		return err
	}
	var nonces []string
	for range 20 {
		c.advance(time.Millisecond)
		n, _ := nonceOf(t, a, "MD5", auth.ErrUnauthenticated)
		nonces = append(nonces, n)
		if err := ask(n, 1); err != nil {
			t.Fatal(err)
		}
		if a.Nonces() > 8 {
			t.Fatalf("%d nonces are kept", a.Nonces())
		}
	}
	for i, n := range nonces {
		if err := ask(n, 1); err == nil {
			t.Errorf("nonce %d can be replayed", i)
		}
	}
	if err := ask(nonces[19], 2); err != nil {
		t.Errorf("the newest nonce: %v", err)
	}
	if err := ask(nonces[0], 2); err == nil {
		t.Error("a forgotten nonce is good again")
	}
}

func FuzzDigest(f *testing.F) {
	a := newAuth(f, customer(tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "secret", RFC2069: true}}), auth.Options{})
	client := &digestClient{user: "encoder", password: "secret", algorithm: "MD5", qop: "auth", nonce: "x", count: 1}
	f.Add(client.authorize(request("/"), "").Header.Get("Authorization"))
	for _, s := range []string{`Digest a="b\"c", d=e`, `Digest ,,, `, `Digest a="`, `Digest a="\`, `digest username=encoder`, `Digest response=,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := request("/")
		r.Header["Authorization"] = []string{header}
		if who, err := a.Authenticate(r, nil); err == nil {
			t.Errorf("%q opens %v", header, who) // no nonce of ours is among the seeds
		}
	})
}

func BenchmarkDigest(b *testing.B) {
	a := newAuth(b, customer(tenant.Credential{Name: "c", Digest: &tenant.Digest{User: "encoder", Password: "secret"}}), auth.Options{})
	h := make(http.Header)
	a.Challenge(h, nil)
	client := &digestClient{user: "encoder", password: "secret", algorithm: "SHA-256", qop: "auth"}
	client.nonce = regexp.MustCompile(`nonce="([^"]+)"`).FindStringSubmatch(h.Get("WWW-Authenticate"))[1]
	requests := make([]*http.Request, 1<<14)
	for i := range requests {
		client.count = i + 1
		requests[i] = client.authorize(request("/"), "")
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(requests) {
			b.StopTimer()
			a.ForgetNonces()
			i = 0
			b.StartTimer()
		}
		if _, err := a.Authenticate(requests[i], nil); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
