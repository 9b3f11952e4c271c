package admin_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/adminapi"
	"spekeasy/internal/vendorsim"
)

const (
	webhookSecret = "whsec_c3Bla2Vhc3ktd2ViaG9vay1zZWNyZXQtMQ=="
	wrongPassword = "a-password-that-is-wrong"
)

// vendor starts a key service of somebody else.
func vendor(t *testing.T) *vendorsim.Upstream {
	t.Helper()
	sim, err := vendorsim.New(vendorsim.Generic, vendorsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(sim)
	t.Cleanup(srv.Close)
	up, err := sim.Upstream(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return up
}

// behind are settings of a tenant whose keys are the vendor's.
func behind(up *vendorsim.Upstream, password string) string {
	return `{"upstream":{"vendor":"generic","url":"` + up.V1.String() + `","timeout":"2s","breaker":{"failures":100},"auth":{"basic":{"user":"` + up.User +
		`","password":"` + password + `"}}},"webhooks":[{"name":"w","url":"http://127.0.0.1:9/hook","secret":"` + webhookSecret + `"}]}`
}

// TestStoredUpstream: a tenant that is made through the API has its keys from
// an upstream, at once, through every change of its credential, until it is
// deleted; and no secret is anywhere but sealed.
func TestStoredUpstream(t *testing.T) {
	data := t.TempDir()
	s := start(t, configuration(data))
	up := vendor(t)
	asks := func(want int) {
		t.Helper()
		if code := s.asks(t, "acme", "acme-password-1234"); code != want {
			t.Fatalf("%d, want %d\n%s", code, want, s.log)
		}
	}
	answers := s.ok(t, "POST", "/tenants", `{"id":"acme","settings":`+behind(up, up.Secret)+`}`, "Idempotency-Key", "make").Body.String()
	answers += s.ok(t, "POST", "/tenants/acme/credentials", `{"name":"c","basic":{"password":"acme-password-1234"}}`).Body.String()
	asks(200)
	change := func(body string) {
		t.Helper()
		answers += s.ok(t, "PUT", "/tenants/acme", body, "If-Match", "*").Body.String()
	}
	change(behind(up, wrongPassword))
	asks(502)
	change(behind(up, up.Secret))
	asks(200)

	// What is shown can be sent back, and changes nothing.
	shown := decode[adminapi.Tenant](t, s.ok(t, "GET", "/tenants/acme", ""))
	if u := shown.Settings.Upstream; u == nil || u.Auth.Basic.Password != adminapi.Hidden || u.Timeout != "2s" || shown.Settings.Webhooks[0].Secret != adminapi.Hidden {
		t.Fatalf("%+v", shown)
	}
	change(behind(up, string(adminapi.Hidden)))
	asks(200)
	// But not to somebody else's server.
	elsewhere := strings.Replace(behind(up, string(adminapi.Hidden)), up.V1.Host, "127.0.0.1:9", 1)
	if w := s.do(t, "operator", "PUT", "/tenants/acme", elsewhere, "If-Match", "*"); w.Code != 422 || !strings.Contains(w.Body.String(), "upstream.auth.basic.password: has to be given again") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for body, want := range map[string]string{
		`{"upstream":{"vendor":"nobody","url":"https://a.example"}}`:                                                        "settings: upstream: vendor: ",
		`{"upstream":{"vendor":"generic","url":"https://a.example","hedge":"soon"}}`:                                        "body.upstream.hedge",
		`{"upstream":{"vendor":"generic","url":"https://a.example","auth":{"mtls":{"certificate":"c.pem","key":"k.pem"}}}}`: "not a PEM certificate with its private key",
		`{"upstream":{"vendor":"generic","url":"https://a.example","auth":{"ca":"ca.pem"}}}`:                                "ca: no PEM certificate",
		`{"webhooks":[{"name":"w","url":"https://a.example","secret":"short"}]}`:                                            "settings: webhooks[0] (w): secret: must be whsec_",
	} {
		if w := s.do(t, "operator", "PUT", "/tenants/acme", body, "If-Match", "*"); w.Code != 422 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	asks(200)
	s.ok(t, "POST", "/tenants", `{"id":"other"}`)
	diagnoses(t, s, up)
	answers += s.ok(t, "GET", "/tenants/acme/exchanges", "").Body.String() + s.ok(t, "GET", "/upstreams", "").Body.String()
	// Its own keys from now on, which those of an upstream are not.
	change(`{}`)
	if h := s.Gateway.Health(); len(h) != 0 {
		t.Errorf("%+v", h)
	}
	change(behind(up, up.Secret))
	asks(200)

	answers += s.ok(t, "GET", "/tenants", "").Body.String() + s.ok(t, "GET", "/audit", "").Body.String() + s.ok(t, "GET", "/health", "").Body.String()
	s.ok(t, "DELETE", "/tenants/acme", "", "If-Match", "*")
	asks(401)
	if h := s.Gateway.Health(); len(h) != 0 {
		t.Errorf("a deleted tenant's upstream is known: %+v", h)
	}
	changes := ""
	for _, r := range s.records(t) {
		if r["event"] == "tenant_update" {
			text, _ := r["change"].(string)
			changes += text + "\n"
		}
	}
	if !strings.HasPrefix(changes, "upstream\nupstream\n\n") {
		t.Errorf("changes on record:\n%s", changes)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers += s.log.String()
	files := 0
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		answers += string(text)
		return err
	})
	if err != nil || files < 3 {
		t.Fatal(files, err)
	}
	for _, secret := range []string{up.Secret, wrongPassword, webhookSecret} {
		if strings.Contains(answers, secret) {
			t.Errorf("%q is shown or stored", secret)
		}
	}
}

// diagnoses holds what is told of an upstream that refused a key request and
// answered others.
func diagnoses(t *testing.T, s *server, up *vendorsim.Upstream) {
	t.Helper()
	health := decode[adminapi.Page[adminapi.UpstreamHealth]](t, s.do(t, "viewer", "GET", "/upstreams", ""))
	if len(health.Items) != 1 || health.Items[0].Tenant != "acme" || "http://"+up.V1.Host != health.Items[0].Origin || health.Items[0].Answered == 0 {
		t.Errorf("%+v", health)
	}
	list := decode[adminapi.Page[adminapi.Exchange]](t, s.do(t, "operator", "GET", "/tenants/acme/exchanges", "")).Items
	if len(list) != 5 || list[0].AnsweredBy != "generic" || list[3].Error == "" || list[3].Calls[0].Fault == "" || list[0].Keys[0].Answered == "" {
		t.Fatalf("%+v", list)
	}
	one := decode[adminapi.Exchange](t, s.do(t, "operator", "GET", "/tenants/acme/exchanges/"+list[3].RequestID, ""))
	if one.Error != list[3].Error || one.ContentID != "movie" {
		t.Errorf("%+v", one)
	}
	for path, want := range map[string]int{
		"/tenants/acme/exchanges/none": 404, "/tenants/nobody/exchanges": 404, "/tenants/other/exchanges/" + list[3].RequestID: 404,
	} {
		if w := s.do(t, "operator", "GET", path, ""); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if other := s.ok(t, "GET", "/tenants/other/exchanges", "").Body.String(); other != "{\"items\":[]}\n" {
		t.Errorf("of another tenant: %s", other)
	}
}

// TestFailingUpstream: that an upstream fails, and since when, is told while
// it does.
func TestFailingUpstream(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	down := httptest.NewServer(nil)
	down.Close()
	s.ok(t, "POST", "/tenants", `{"id":"acme","settings":{"upstream":{"vendor":"generic","url":"`+down.URL+`"}}}`)
	s.ok(t, "POST", "/tenants/acme/credentials", `{"name":"c","basic":{"password":"acme-password-1234"}}`)
	if code := s.asks(t, "acme", "acme-password-1234"); code != 502 {
		t.Fatal(code)
	}
	list := decode[adminapi.Page[adminapi.UpstreamHealth]](t, s.ok(t, "GET", "/upstreams", "")).Items
	if len(list) != 1 || list[0].FailingSince.IsZero() || list[0].LastError == "" {
		t.Errorf("%+v", list)
	}
}

// TestOtherProcessesUpstream: another server on the same store asks the new
// upstream with the new credential, without a restart.
func TestOtherProcessesUpstream(t *testing.T) {
	shared, kek := "sqlite://"+filepath.Join(t.TempDir(), "shared.db"), t.TempDir()
	open := func() *server {
		c := configuration(t.TempDir())
		c.Store, c.KeyManager = shared, "file://"+filepath.Join(kek, "kek")
		return start(t, c)
	}
	a, b, up := open(), open(), vendor(t)
	a.ok(t, "POST", "/tenants", `{"id":"acme","settings":`+behind(up, wrongPassword)+`}`)
	a.ok(t, "POST", "/tenants/acme/credentials", `{"name":"c","basic":{"password":"acme-password-1234"}}`)
	wait := func(want int) {
		t.Helper()
		until := time.Now().Add(20 * time.Second)
		for b.asks(t, "acme", "acme-password-1234") != want {
			if time.Now().After(until) {
				t.Fatalf("the other server does not come to %d", want)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	wait(502)
	a.ok(t, "PUT", "/tenants/acme", behind(up, up.Secret), "If-Match", "*")
	wait(200)
}

// TestStoredWebhooks: a webhook that is made through the API is told of what
// comes, signed with the secret that it has now.
func TestStoredWebhooks(t *testing.T) {
	signed := make(chan bool, 1000)
	var secret atomic.Value
	secret.Store("")
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		key, err2 := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret.Load().(string), "whsec_"))
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "." + string(body)))
		signed <- err == nil && err2 == nil && r.Header.Get("webhook-signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}))
	defer receiver.Close()
	s := start(t, configuration(t.TempDir()))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	s.ok(t, "POST", "/tenants", `{"id":"acme"}`)
	s.ok(t, "POST", "/tenants/acme/credentials", `{"name":"c","basic":{"password":"acme-password-1234"}}`)
	n := 0
	// told asks for one content after another until the receiver hears of one,
	// rightly signed.
	told := func() {
		t.Helper()
		for late := time.Now().Add(20 * time.Second); time.Now().Before(late); n++ {
			if code := s.asksFor(t, fmt.Sprint("content-", n), "acme", "acme-password-1234"); code != 200 {
				t.Fatal(code)
			}
			select {
			case ok := <-signed:
				if ok {
					return
				}
			case <-time.After(200 * time.Millisecond):
			}
		}
		t.Fatalf("nobody is told\n%s", s.log)
	}
	for _, next := range []string{webhookSecret, "whsec_c3Bla2Vhc3ktd2ViaG9vay1zZWNyZXQtMg=="} {
		secret.Store(next)
		s.ok(t, "PUT", "/tenants/acme", `{"webhooks":[{"name":"w","url":"`+receiver.URL+`","secret":"`+next+`"}]}`, "If-Match", "*")
		told()
	}
}
