package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/logtest"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
	"spekeasy/speke"
)

// realServer is the whole handler for one tenant, over a database and with
// chance as it comes.
func realServer(t testing.TB, s tenant.Settings) http.Handler {
	t.Helper()
	return newServer(t, s, nil, serverOptions{random: rand.Reader, now: time.Now, provider: keyprovider.Options{SealFor: time.Minute}})
}

// serverFor is the whole handler for some tenants, over any key provider.
func serverFor(t testing.TB, p server.Provider, log *slog.Logger, all ...tenant.Settings) http.Handler {
	t.Helper()
	tenants := make(tenant.Static)
	for i := range all {
		built, err := all[i].Build()
		if err != nil {
			t.Fatal(err)
		}
		tenants[all[i].ID] = built
	}
	a, err := auth.New(all, auth.Options{Log: log, Throttle: auth.Throttle{Burst: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	return server.New(a, tenants, p, audit.Off{}, "spekeasy/test", log)
}

// tells answers whose keys it would have handed out.
type tells struct{}

func (tells) Provide(_ context.Context, t *tenant.Tenant, r *speke.Request) (*speke.Answer, error) {
	if r.ContentID == "panic" {
		panic("key provider")
	}
	return &speke.Answer{Body: []byte("keys of " + t.ID), Created: 1}, nil
}

// ways gives a tenant a credential of each kind that a plain request can
// show; what opens it has the tenant's name.
func ways(id string) tenant.Settings {
	s := exampleTenant()
	secret := tenant.Secret(id + "-hunter2")
	s.ID = id
	s.Credentials = []tenant.Credential{
		{Name: "basic", Basic: &tenant.Basic{User: id, Password: secret}},
		{Name: "key", APIKey: &tenant.APIKey{Key: secret}},
		{Name: "keyos", APIKey: &tenant.APIKey{Header: "keyos-userkey", Key: secret}},
		{Name: "vudrm", APIKey: &tenant.APIKey{Header: "API-KEY", Key: secret}},
		{Name: "token", Token: &tenant.Token{Token: secret}},
		{Name: "digest", Digest: &tenant.Digest{User: id, Password: secret}},
		{Name: "app", OAuthClient: &tenant.OAuthClient{ID: id, Secret: secret}},
	}
	return s
}

// show puts a secret into a request in one of the ways.
var show = map[string]func(r *http.Request, id, secret string){
	"nothing": func(*http.Request, string, string) {},
	"basic":   func(r *http.Request, id, secret string) { r.SetBasicAuth(id, secret) },
	"key":     func(r *http.Request, _, secret string) { r.Header.Set("X-Api-Key", secret) },
	"keyos":   func(r *http.Request, _, secret string) { r.Header.Set("Keyos-Userkey", secret) },
	"vudrm":   func(r *http.Request, _, secret string) { r.Header.Set("Api-Key", secret) },
	"bearer":  func(r *http.Request, _, secret string) { r.Header.Set("Authorization", "Bearer "+secret) },
	"digest": func(r *http.Request, id, secret string) {
		r.Header.Set("Authorization", fmt.Sprintf(`Digest username="%s", realm="spekeasy", nonce="%s", uri="%s", response="%s"`, id, secret, r.URL.RequestURI(), secret))
	},
	"token": func(r *http.Request, _, secret string) { r.URL.RawQuery += "&enc-token=" + secret },
	"path": func(r *http.Request, _, secret string) {
		r.URL.Path = strings.Replace(r.URL.Path, "path-token", secret, 1)
	},
}

// keyRoutes are the paths under which keys are answered, with every wildcard
// filled in. named is the tenant that they name, where they name one.
func keyRoutes(t *testing.T, named string) (targets []string) {
	t.Helper()
	for _, route := range server.Routes() {
		if route.Method != http.MethodPost || route.Path == "/oauth/token" {
			continue
		}
		targets = append(targets, strings.NewReplacer("{client}", named, "{brand}", "brand", "{token...}", "path-token").Replace(route.Path)+
			"?tenantId="+named+"&brandGuid=brand")
	}
	if len(targets) < 15 {
		t.Fatalf("only %d routes", len(targets))
	}
	return targets
}

// TestWalk goes through every route with every kind of credential: nobody
// gets the keys of another tenant, whatever the request says, and what is not
// let in learns nothing.
func TestWalk(t *testing.T) {
	h := serverFor(t, tells{}, slog.New(slog.DiscardHandler), ways("acme"), ways("other"))
	body, err := os.ReadFile(keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(target, way, id, secret string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, target, bytes.NewReader(body))
		r.Header.Set("X-Speke-Version", "2.0")
		show[way](r, id, secret)
		r.RequestURI = r.URL.RequestURI()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if (w.Code == http.StatusUnauthorized) != (len(w.Header().Values("WWW-Authenticate")) > 0) {
			t.Errorf("%s %s: %d with challenges %q", target, way, w.Code, w.Header().Values("WWW-Authenticate"))
		}
		return w.Code, w.Body.String()
	}
	names := 0
	for _, target := range keyRoutes(t, "acme") {
		if strings.HasPrefix(target, "/kms/") || strings.Contains(target, "/acme") {
			names++
		}
		for way := range show {
			opens := way != "nothing" && way != "digest" && way != "bearer" && (way != "path" || strings.Contains(target, "path-token"))
			if code, text := ask(target, way, "acme", "acme-hunter2"); opens && (code != http.StatusOK || text != "keys of acme") || !opens && code != http.StatusUnauthorized {
				t.Errorf("%s %s: %d %s", target, way, code, text)
			}
			for _, secret := range []string{"acme-hunter", "ACME-HUNTER2", "acme-hunter22"} {
				if code, text := ask(target, way, "acme", secret); code != http.StatusUnauthorized || text != "unauthorized" {
					t.Errorf("%s %s with a wrong secret: %d %s", target, way, code, text)
				}
			}
			// The other tenant's credential, on a route that may name acme.
			code, text := ask(target, way, "other", "other-hunter2")
			switch {
			case strings.Contains(text, "acme"):
				t.Errorf("%s %s gives the other tenant %s", target, way, text)
			case code == http.StatusOK && (text != "keys of other" || !opens):
				t.Errorf("%s %s: %d %s", target, way, code, text)
			case code != http.StatusOK && code != http.StatusUnauthorized && (code != http.StatusForbidden || text != "forbidden"):
				t.Errorf("%s %s: %d %s", target, way, code, text)
			}
			if strings.HasPrefix(target, "/kms/") || strings.Contains(target, "/acme") {
				if code == http.StatusOK {
					t.Errorf("%s %s lets in a tenant that it does not name", target, way)
				}
			}
		}
	}
	if names < 4 {
		t.Errorf("only %d routes name a tenant", names)
	}
}

// TestNoSecretInLogs sends good, wrong and mangled secrets in every way over
// every route of a server whose log takes everything, net/http's own words
// included, and looks for them in the log and in the answers.
func TestNoSecretInLogs(t *testing.T) {
	var out logtest.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv := httptest.NewUnstartedServer(serverFor(t, tells{}, log, ways("acme")))
	srv.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	srv.Start()
	defer srv.Close()
	body, err := os.ReadFile(keyRequest)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send := func(method, target, way, secret string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+target, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Speke-Version", "2.0")
		show[way](r, "acme", secret)
		res, err := client.Do(r)
		if err != nil {
			return // of the panic below
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if all := fmt.Sprint(res.Header, string(text)); strings.Contains(all, "hunter2") {
			t.Errorf("%s %s %s answers %s", method, target, way, all)
		}
	}
	panics := bytes.Replace(body, []byte(`contentId="cmaf-channel-9"`), []byte(`contentId="panic"`), 1)
	if bytes.Equal(panics, body) {
		t.Fatal("the request has another content ID")
	}
	targets := append(keyRoutes(t, "acme"), "/oauth/token?grant_type=client_credentials", "/elsewhere?a=b", "/v1/cpix/brand/getKey/path-token?a;b=hunter2")
	for _, target := range targets {
		for way := range show {
			for _, secret := range []string{"acme-hunter2", "wrong-hunter2"} {
				send(http.MethodPost, target, way, secret, body)
				send(http.MethodPost, target, way, secret, []byte("<no"))
				send(http.MethodGet, target, way, secret, nil)
				send(http.MethodPost, target, way, secret, panics)
			}
		}
	}
	send(http.MethodPost, "/oauth/token?grant_type=client_credentials&client_id=acme&client_secret=hunter2", "nothing", "", nil)
	send(http.MethodPost, "/kms/speke?tenantId=hunter2", "basic", "acme-hunter2", body)
	send(http.MethodPost, "/kms/speke?brandGuid=hunter2%0A", "basic", "acme-hunter2", body)
	for _, raw := range []string{
		"POST /cpix/getKey?enc-token=hunter2 HTTP/9.9\r\n\r\n",
		"POST /cpix/getKey?enc-token=hunter2 HTTP/1.1\r\n\r\n",
		"POST /cpix/getKey?enc-token=hunter2\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /cpix/getKey HTTP/1.1\r\nHost: a\r\nAuthorization : Basic hunter2\r\n\r\n",
		"POST /cpix/getKey HTTP/1.1\r\nHost: a\r\nX-Api-Key: hunter2\x00\r\n\r\n",
		"POST /cpix/getKey?enc-token=hunter2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: hunter2\r\n\r\n",
		"POST /cpix/getKey?enc-token=hunter2 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhunter2",
		"POST //v1/cpix/b/getKey/hunter2 HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, raw)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	srv.Close()
	text := out.String()
	for _, want := range []string{"request refused", "keys delivered", "panic serving", "brand=brand", "route=/cpix/getKey", "route=/v1/cpix/{brand}/getKey/{token...}"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the log, so that the test shows less than it says", want)
		}
	}
	for line := range strings.Lines(text) {
		if strings.Contains(line, "hunter") {
			t.Errorf("in the log: %s", line)
		}
	}
}
