package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/adminapi"
	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/logtest"
	"spekeasy/internal/store/sqlite"
	"spekeasy/internal/tenant"
)

const password = "correct-horse-battery"

// configuration has an admin of each role and a tenant of the file.
func configuration(data string) *config.Config {
	c := config.Default()
	c.Data = data
	for _, role := range config.Roles() {
		c.Admin.Credentials = append(c.Admin.Credentials, config.AdminCredential{
			Credential: tenant.Credential{Name: role, Basic: &tenant.Basic{User: role, Password: password}}, Role: role,
		})
	}
	c.Tenants = []tenant.Settings{{
		ID: "file", Credentials: []tenant.Credential{{Name: "c", Basic: &tenant.Basic{User: "file", Password: "file-password"}}},
	}}
	return c
}

func backends() app.Backends {
	return app.Backends{
		Stores: map[string]app.OpenStore{"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
			return sqlite.Open(ctx, u.Path, sqlite.Options{Log: log})
		}},
		KeyManagers: map[string]app.OpenKeyManager{"file": func(_ context.Context, u *url.URL, create bool) (keystore.KeyManager, error) {
			if create {
				if err := filekey.Create(u.Path, time.Now()); err != nil && !errors.Is(err, fs.ErrExist) {
					return nil, err
				}
			}
			return filekey.Open(u.Path)
		}},
		Stdout: io.Discard,
	}
}

// server is a whole server with its log.
type server struct {
	*app.App
	log *logtest.Buffer
}

func start(t *testing.T, c *config.Config) *server {
	t.Helper()
	s := &server{log: &logtest.Buffer{}}
	var err error
	s.App, err = app.New(t.Context(), c, backends(), "spekeasy/test", slog.New(slog.NewTextHandler(s.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do sends a request as an admin, "" for nobody; header has names and values
// in turns.
func (s *server) do(t *testing.T, admin, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, adminapi.Base+path, strings.NewReader(body))
	if admin != "" {
		r.SetBasicAuth(admin, password)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.AdminAPI.ServeHTTP(w, r)
	return w
}

// ok is do as a security officer, and wants a success.
func (s *server) ok(t *testing.T, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	w := s.do(t, adminapi.RoleSecurityOfficer, method, path, body, header...)
	if w.Code >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return v
}

// records are the lines of the audit log.
func (s *server) records(t *testing.T) []map[string]any {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Config.AuditDir(), "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all []map[string]any
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var r map[string]any
			if json.Unmarshal(line, &r) == nil {
				all = append(all, r)
			}
		}
	}
	return all
}

// asks sends a key request and returns the status.
func (s *server) asks(t *testing.T, user, pass string) int { return s.asksFor(t, "movie", user, pass) }

func (s *server) asksFor(t *testing.T, content, user, pass string) int {
	t.Helper()
	body := `<cpix:CPIX id="` + content + `" xmlns:cpix="urn:dashif:org:cpix" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:speke="urn:aws:amazon:com:speke">` +
		`<cpix:ContentKeyList><cpix:ContentKey kid="6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6"/></cpix:ContentKeyList>` +
		`<cpix:DRMSystemList><cpix:DRMSystem kid="6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6" systemId="edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"><cpix:PSSH/></cpix:DRMSystem></cpix:DRMSystemList></cpix:CPIX>`
	r := httptest.NewRequest("POST", "/speke/v1.0/copyProtection", strings.NewReader(body))
	r.SetBasicAuth(user, pass)
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	return w.Code
}

// TestWalk goes through every operation of the OpenAPI document with every
// role and with no credential: nobody may more than the document says, and
// every denial is on record.
func TestWalk(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	var document struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			OperationID string         `json:"operationId"`
			Description string         `json:"description"`
			Responses   map[string]any `json:"responses"`
		} `json:"paths"`
	}
	text, err := s.AdminAPI.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	if document.OpenAPI != "3.1.0" || len(document.Paths) < 18 {
		t.Fatalf("OpenAPI %s with %d paths", document.OpenAPI, len(document.Paths))
	}
	rank := map[string]int{"": 0, "viewer": 1, "operator": 2, "security-officer": 3}
	want := map[string]string{ // the table of docs/admin-api.md
		"whoami": "viewer", "health": "viewer", "list-tenants": "viewer", "show-tenant": "viewer", "list-credentials": "viewer",
		"show-credential": "viewer", "list-contents": "viewer", "list-keys": "viewer", "show-key": "viewer", "query-audit": "viewer", "list-upstreams": "viewer", "list-exchanges": "operator", "show-exchange": "operator",
		"create-tenant": "operator", "update-tenant": "operator", "create-credential": "operator", "rotate-credential": "operator",
		"update-credential": "operator", "revoke-credential": "operator", "delete-keys": "operator", "undelete-keys": "operator",
		"delete-tenant": "security-officer", "purge-keys": "security-officer", "export-keys": "security-officer",
		"list-admins": "security-officer", "create-admin": "security-officer", "revoke-admin": "security-officer",
	}
	docs, err := os.ReadFile("../../docs/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	denied, operations := 0, 0
	for path, methods := range document.Paths {
		target := strings.NewReplacer("{tenant}", "nobody", "{credential}", "none", "{admin}", "none", "{requestId}", "none",
			"{kid}", "6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6").Replace(strings.TrimPrefix(path, adminapi.Base))
		for method, op := range methods {
			operations++
			least := want[op.OperationID]
			if least == "" || !strings.Contains(op.Description, "Takes the role "+least+".") {
				t.Errorf("%s %s (%s): %q", method, path, op.OperationID, op.Description)
				continue
			}
			if line := "`" + strings.ToUpper(method) + " " + strings.TrimPrefix(path, adminapi.Base) + "` | " + least; !strings.Contains(string(docs), line) {
				t.Errorf("docs/admin-api.md does not say %s", line)
			}
			for role := range rank {
				w := s.do(t, role, strings.ToUpper(method), target, "")
				switch {
				case role == "":
					denied++
					if w.Code != 401 || w.Header().Get("WWW-Authenticate") == "" || !strings.Contains(w.Body.String(), `"detail":"The credential is missing, wrong or expired."`) {
						t.Errorf("%s %s with no credential: %d %s", method, path, w.Code, w.Body)
					}
				case rank[role] < rank[least]:
					denied++
					if w.Code != 403 || !strings.Contains(w.Body.String(), "This takes the role "+least+".") {
						t.Errorf("%s %s as %s: %d %s", method, path, role, w.Code, w.Body)
					}
				case w.Code == 401 || w.Code == 403 || w.Code >= 500:
					t.Errorf("%s %s as %s: %d %s", method, path, role, w.Code, w.Body)
				}
				if ct := w.Header().Get("Content-Type"); w.Code >= 400 && ct != "application/problem+json" {
					t.Errorf("%s %s as %s: %s", method, path, role, ct)
				}
			}
			// The credential of a tenant is none of an admin.
			r := httptest.NewRequest(strings.ToUpper(method), adminapi.Base+target, nil)
			r.SetBasicAuth("file", "file-password")
			w := httptest.NewRecorder()
			s.AdminAPI.ServeHTTP(w, r)
			denied++
			if w.Code != 401 && w.Code != 429 {
				t.Errorf("%s %s as a tenant: %d", method, path, w.Code)
			}
		}
	}
	if operations != len(want) {
		t.Errorf("%d operations, %d in the table", operations, len(want))
	}
	seen := 0
	for _, r := range s.records(t) {
		if r["event"] == "admin_denied" {
			seen++
		}
	}
	if seen != denied {
		t.Errorf("%d denials, %d on record", denied, seen)
	}
}

// TestAdminsAskForNoKeys: an admin's credential is none of a tenant.
func TestAdminsAskForNoKeys(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	if code := s.asks(t, "security-officer", password); code != 401 {
		t.Errorf("an admin: %d", code)
	}
	if code := s.asks(t, "file", "file-password"); code != 200 {
		t.Errorf("a tenant: %d", code)
	}
}

// TestTenantsApart: through each operation on a tenant, nothing of another is
// shown or changed.
func TestTenantsApart(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	for _, id := range []string{"acme", "other"} {
		s.ok(t, "POST", "/tenants", `{"id":"`+id+`"}`)
		s.ok(t, "POST", "/tenants/"+id+"/credentials", `{"name":"`+id+`-c","basic":{"password":"`+id+`-password-1234"}}`)
	}
	if code := s.asks(t, "acme", "acme-password-1234"); code != 200 {
		t.Fatal(code)
	}
	const kid = "6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6"
	for _, path := range []string{"/keys", "/contents", "/contents?content_id=movie", "/contents?kid=" + kid, "/credentials", ""} {
		if w := s.ok(t, "GET", "/tenants/other"+path, ""); strings.Contains(w.Body.String(), kid) || strings.Contains(w.Body.String(), "acme") {
			t.Errorf("%s shows %s", path, w.Body)
		}
	}
	if w := s.ok(t, "GET", "/tenants/acme/keys", ""); !strings.Contains(w.Body.String(), kid) {
		t.Errorf("of its own: %s", w.Body)
	}
	for _, c := range [][3]string{
		{"GET", "/keys/" + kid, ""}, {"POST", "/keys/delete", `{"kids":["` + kid + `"]}`}, {"POST", "/keys/undelete", `{"kids":["` + kid + `"]}`},
		{"POST", "/keys/export", `{"reveal":true,"kids":["` + kid + `"]}`}, {"GET", "/credentials/acme-c", ""},
		{"POST", "/credentials/acme-c/rotate", `{}`},
	} {
		if w := s.do(t, "security-officer", c[0], "/tenants/other"+c[1], c[2]); w.Code != 404 {
			t.Errorf("%s %s: %d %s", c[0], c[1], w.Code, w.Body)
		}
	}
	if w := s.do(t, "security-officer", "DELETE", "/tenants/other/credentials/acme-c", "", "If-Match", "*"); w.Code != 404 {
		t.Errorf("revoke: %d", w.Code)
	}
	if code := s.asks(t, "acme", "acme-password-1234"); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
}

// TestSecretsAtRest: neither database nor log nor audit log has a secret that
// was given or made up, and none is shown again.
func TestSecretsAtRest(t *testing.T) {
	data := t.TempDir()
	s := start(t, configuration(data))
	s.ok(t, "POST", "/tenants", `{"id":"acme","settings":{"key_source":{"kind":"hkdf"}}}`)
	seed := decode[adminapi.Tenant](t, s.ok(t, "POST", "/tenants", `{"id":"seeded","settings":{"key_source":{"kind":"playready-seed"}}}`)).Settings.KeySource.Seed
	secrets := []string{string(seed)}
	for kind, body := range map[string]string{
		"basic": `{}`, "api_key": `{}`, "token": `{}`, "digest": `{}`, "oauth_client": `{}`, "sigv4": `{"regions":["eu-west-1"]}`,
	} {
		w := s.ok(t, "POST", "/tenants/acme/credentials", `{"name":"made-`+kind+`","`+kind+`":`+body+`}`, "Idempotency-Key", kind)
		made := decode[adminapi.CredentialInfo](t, w)
		if len(made.Secret()) < 26 || made.Kind != kind {
			t.Errorf("%s: %s", kind, w.Body)
		}
		secrets = append(secrets, string(made.Secret()))
	}
	admin := decode[adminapi.Admin](t, s.ok(t, "POST", "/admins", `{"name":"carol","role":"viewer"}`))
	secrets = append(secrets, string(admin.Password), password)
	shown := s.ok(t, "GET", "/tenants/acme/credentials", "").Body.String() + s.ok(t, "GET", "/tenants/seeded", "").Body.String() +
		s.ok(t, "GET", "/admins", "").Body.String() + s.ok(t, "GET", "/audit", "").Body.String() + s.log.String()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		shown += string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets {
		if secret == "" || strings.Contains(shown, secret) {
			t.Errorf("%q is shown or stored", secret)
		}
	}
}

// TestPreconditions: a change takes the version that was read.
func TestPreconditions(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	w := s.ok(t, "POST", "/tenants", `{"id":"acme"}`)
	if w.Code != 201 || w.Header().Get("ETag") != `"1"` {
		t.Fatal(w.Code, w.Header())
	}
	put := func(tag string) *httptest.ResponseRecorder {
		var h []string
		if tag != "" {
			h = []string{"If-Match", tag}
		}
		return s.do(t, "operator", "PUT", "/tenants/acme", `{"max_keys":7}`, h...)
	}
	if w := put(""); w.Code != 428 || !strings.Contains(w.Body.String(), "If-Match is required: send the ETag that you have read.") {
		t.Errorf("without: %d %s", w.Code, w.Body)
	}
	if w := put(`"2"`); w.Code != 412 || !strings.Contains(w.Body.String(), "It was changed meanwhile: read it again and decide anew.") {
		t.Errorf("another: %d %s", w.Code, w.Body)
	}
	if w := put(`"1"`); w.Code != 200 || w.Header().Get("ETag") != `"2"` {
		t.Errorf("the right one: %d %s", w.Code, w.Body)
	}
	if w := put(`"1"`); w.Code != 412 {
		t.Errorf("the same again: %d", w.Code)
	}
	if got := decode[adminapi.Tenant](t, s.ok(t, "GET", "/tenants/acme", "")); got.Settings.MaxKeys != 7 || got.Version != 2 {
		t.Errorf("%+v", got)
	}
}

// TestIdempotency: the same request with the same key happens once.
func TestIdempotency(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	s.ok(t, "POST", "/tenants", `{"id":"acme"}`)
	const body = `{"name":"c","basic":{}}`
	first := s.ok(t, "POST", "/tenants/acme/credentials", body, "Idempotency-Key", "k")
	again := s.do(t, "security-officer", "POST", "/tenants/acme/credentials", body, "Idempotency-Key", "k")
	if again.Code != 201 || again.Body.String() != first.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("again: %d %s", again.Code, again.Body)
	}
	if w := s.do(t, "security-officer", "POST", "/tenants/acme/credentials", `{"name":"d","basic":{}}`, "Idempotency-Key", "k"); w.Code != 422 ||
		!strings.Contains(w.Body.String(), "This Idempotency-Key came with another request before.") {
		t.Errorf("another request: %d %s", w.Code, w.Body)
	}
	if w := s.do(t, "operator", "POST", "/tenants/acme/credentials", body, "Idempotency-Key", "k"); w.Code != 409 {
		t.Errorf("another admin: %d %s", w.Code, w.Body)
	}
	// A request that failed may be corrected.
	if w := s.do(t, "operator", "POST", "/tenants/acme/credentials", `{"name":"e"}`, "Idempotency-Key", "f"); w.Code != 422 {
		t.Errorf("a bad request: %d", w.Code)
	}
	if w := s.do(t, "operator", "POST", "/tenants/acme/credentials", `{"name":"e","basic":{"password":"another-password"}}`, "Idempotency-Key", "f"); w.Code != 201 {
		t.Errorf("corrected: %d %s", w.Code, w.Body)
	}
	if err := s.AdminAPI.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRefusals holds what clients are told.
func TestRefusals(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	s.ok(t, "POST", "/tenants", `{"id":"acme"}`)
	s.ok(t, "POST", "/tenants/acme/credentials", `{"name":"c","api_key":{"key":"0123456789abcdef"}}`)
	s.ok(t, "POST", "/tenants", `{"id":"other"}`)
	for _, c := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"POST", "/tenants", `{"id":"file"}`, 409, "Tenant file is in the configuration file."},
		{"POST", "/tenants", `{"id":"acme"}`, 409, "The name is taken, perhaps by something that was deleted."},
		{"POST", "/tenants", `{"id":"Upper"}`, 422, "body.id"},
		{"POST", "/tenants", `{"id":"new","settings":{"kid_rule":"dice"}}`, 422, "settings: kid_rule: "},
		{"POST", "/tenants", `{"id":"new","settings":{"v1_scheme":"cens"}}`, 422, "settings: v1_scheme: "},
		{"POST", "/tenants", `{"id":"new","unknown":1}`, 422, `"location":"body.unknown"`},
		{"POST", "/tenants", `{"id":"new"`, 400, ""},
		{"POST", "/tenants/file/credentials", `{"name":"d","basic":{}}`, 409, "Tenant file comes from the configuration file and is changed there."},
		{"POST", "/tenants/nobody/credentials", `{"name":"d","basic":{}}`, 404, `There is no tenant \"nobody\".`},
		{"POST", "/tenants/acme/credentials", `{"name":"d"}`, 422, "no way in is given"},
		{"POST", "/tenants/acme/credentials", `{"name":"d","basic":{},"digest":{}}`, 422, "a credential is one way in"},
		{"POST", "/tenants/acme/credentials", `{"name":"d","basic":{"password":"short"}}`, 422, "a secret must have 16 to 72 characters"},
		{"POST", "/tenants/acme/credentials", `{"name":"d","basic":{},"expires":"soon"}`, 422, "expires: neither a date"},
		{"POST", "/tenants/other/credentials", `{"name":"d","api_key":{"key":"0123456789abcdef"}}`, 409, "the same secret as credential acme/c"},
		{"GET", "/tenants?limit=0", "", 422, "query.limit"},
		{"GET", "/tenants?limt=3", "", 422, "query.limt"},
		{"GET", "/tenants?cursor=xyz", "", 400, "The cursor is not one that was given by this list."},
		{"GET", "/tenants/acme/keys?cursor=MTp4", "", 400, "The cursor is not one that was given by this list."},
		{"POST", "/tenants/acme/keys/purge", `{"destroy":false}`, 422, "destroy must be true: what is purged never comes back."},
		{"POST", "/tenants/acme/keys/export", `{"reveal":false,"kids":["6f1c2b9e-0d4a-4c7b-8e35-91a2b3c4d5e6"]}`, 422, "reveal must be true: content keys leave in clear."},
		{"POST", "/tenants/acme/keys/delete", `{"kids":["x"]}`, 422, "is not a key ID."},
		{"POST", "/tenants/acme/keys/delete", `{"kids":[]}`, 422, "body.kids"},
		{"DELETE", "/admins/security-officer", "", 409, "You cannot revoke the credential that you use."},
		{"GET", "/nothing", "", 404, "There is no such operation."},
		{"POST", "/tenants", `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "The request body must not have more than 1 MiB."},
	} {
		w := s.do(t, "security-officer", c.method, c.path, c.body)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s %s %.80s: %d %s; want %d %s", c.method, c.path, c.body, w.Code, w.Body, c.status, c.text)
		}
		if strings.Contains(w.Body.String(), "0123456789abcdef") || strings.Contains(w.Body.String(), `"short"`) {
			t.Errorf("%s %s repeats a secret: %s", c.method, c.path, w.Body)
		}
	}
}

// TestOtherProcesses: what one server changes, another on the same store
// takes up by itself.
func TestOtherProcesses(t *testing.T) {
	shared := "sqlite://" + filepath.Join(t.TempDir(), "shared.db")
	kek := t.TempDir()
	open := func() *server {
		c := configuration(t.TempDir())
		c.Store, c.KeyManager = shared, "file://"+filepath.Join(kek, "kek")
		return start(t, c)
	}
	a := open()
	b := open()
	a.ok(t, "POST", "/tenants", `{"id":"acme"}`)
	a.ok(t, "POST", "/tenants/acme/credentials", `{"name":"c","basic":{"password":"acme-password-1234"}}`)
	if code := a.asks(t, "acme", "acme-password-1234"); code != 200 {
		t.Errorf("the server that made it, at once: %d", code)
	}
	until := time.Now().Add(20 * time.Second)
	for b.asks(t, "acme", "acme-password-1234") != 200 {
		if time.Now().After(until) {
			t.Fatal("the other server does not take it up")
		}
		time.Sleep(50 * time.Millisecond)
	}
	a.ok(t, "DELETE", "/tenants/acme/credentials/c", "", "If-Match", "*")
	for b.asks(t, "acme", "acme-password-1234") == 200 {
		if time.Now().After(until) {
			t.Fatal("the other server goes on with it")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestNoRecordNoChange: when the audit log cannot be written, nothing changes
// and nothing is told.
func TestNoRecordNoChange(t *testing.T) {
	c := configuration(t.TempDir())
	s := start(t, c)
	s.ok(t, "POST", "/tenants", `{"id":"acme","settings":{"max_keys":3}}`)
	s.breakAudit(t)
	for _, c := range [][4]string{
		{"POST", "/tenants", `{"id":"other"}`}, {"PUT", "/tenants/acme", `{"max_keys":4}`}, {"DELETE", "/tenants/acme", ""},
		{"POST", "/tenants/acme/credentials", `{"name":"c","basic":{}}`}, {"POST", "/admins", `{"name":"carol","role":"viewer"}`},
	} {
		w := s.do(t, "security-officer", c[0], c[1], c[2], "If-Match", "*")
		if w.Code != 503 || strings.Contains(w.Body.String(), "assword") && !strings.Contains(w.Body.String(), "cannot be used now") {
			t.Errorf("%s %s: %d %s", c[0], c[1], w.Code, w.Body)
		}
	}
	if w := s.do(t, "", "GET", "/whoami", ""); w.Code != 503 {
		t.Errorf("a denial: %d", w.Code)
	}
	page := decode[adminapi.Page[adminapi.Tenant]](t, s.ok(t, "GET", "/tenants", ""))
	if len(page.Items) != 2 || page.Items[0].Settings.MaxKeys != 3 {
		t.Errorf("%+v", page)
	}
}

// TestPages walks lists one item at a time.
func TestPages(t *testing.T) {
	s := start(t, configuration(t.TempDir()))
	var ids []string
	for _, id := range []string{"zeta", "acme", "beta"} {
		s.ok(t, "POST", "/tenants", `{"id":"`+id+`"}`)
	}
	s.ok(t, "DELETE", "/tenants/beta", "", "If-Match", `"1"`)
	srv := httptest.NewServer(s.AdminAPI)
	defer srv.Close()
	client := &adminapi.Client{Server: srv.URL, Name: "viewer", Password: password}
	for p := (adminapi.PageRequest{Limit: 1}); ; {
		page, err := client.Tenants(t.Context(), p)
		if err != nil || len(page.Items) > 1 {
			t.Fatal(page, err)
		}
		for _, item := range page.Items {
			ids = append(ids, item.ID)
		}
		if p.Cursor = page.Next; p.Cursor == "" {
			break
		}
	}
	if got := strings.Join(ids, " "); got != "acme file zeta" {
		t.Errorf("%s", got)
	}
	var refused *adminapi.Error
	if _, err := client.CreateTenant(t.Context(), adminapi.NewTenant{ID: "x"}); !asError(err, &refused) || refused.Status != http.StatusForbidden || refused.RequestID == "" {
		t.Errorf("%v", err)
	}
	client.Name = "operator"
	made, err := client.CreateTenant(t.Context(), adminapi.NewTenant{ID: "x", Settings: adminapi.TenantSettings{
		Brands: map[string]adminapi.Brand{"tv": {Limits: adminapi.Limits{Rate: 5}}},
	}})
	if err != nil || made.Settings.Brands["tv"].Limits.Rate != 5 {
		t.Errorf("%+v, %v", made, err)
	}
}
