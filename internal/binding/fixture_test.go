package binding_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/auth"
	"spekeasy/internal/binding"
	"spekeasy/internal/keystore"
	"spekeasy/internal/keystore/keystoretest"
	"spekeasy/internal/tenant"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// fixture is an API on a real connection, over a real keystore whose clock is
// set by hand.
type fixture struct {
	t    *testing.T
	keys *keystore.Keystore
	feed keystore.Feed
	api  *binding.API
	url  string
	now  atomic.Int64 // microseconds
}

var customers = []tenant.Settings{
	{ID: "acme", KIDRule: "uuidv5", Credentials: []tenant.Credential{
		{Name: "encoder", Basic: &tenant.Basic{User: "encoder", Password: "secret"}},
		{Name: "cms", Basic: &tenant.Basic{User: "cms", Password: "secret"}, Roles: []tenant.Role{tenant.RoleEntitlement}},
	}},
	{ID: "other", Credentials: []tenant.Credential{
		{Name: "cms", Basic: &tenant.Basic{User: "other", Password: "secret"}, Roles: []tenant.Role{tenant.RoleEntitlement}},
	}},
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t}
	f.now.Store(noon.UnixMicro())
	f.keys, _ = keystoretest.Open(t, keystore.Options{Clock: f.clock})
	custody, err := f.keys.Custody()
	if err != nil {
		t.Fatal(err)
	}
	if f.feed, err = f.keys.Feed(); err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(customers, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tenants := make(tenant.Static)
	for i := range customers {
		built, err := customers[i].Build()
		if err != nil {
			t.Fatal(err)
		}
		tenants[built.ID] = built
	}
	f.api = binding.NewAPI(a, tenants, custody, f.feed, binding.Options{Poll: 10 * time.Millisecond, Streams: 2, Now: f.clock})
	mux := http.NewServeMux()
	for pattern, h := range f.api.Handlers() {
		mux.Handle(pattern, h)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		f.api.Close()
		srv.Close()
	})
	f.url = srv.URL
	return f
}

func (f *fixture) clock() time.Time { return time.UnixMicro(f.now.Load()) }

// kid returns a key ID for a number.
func kid(n int) contentkey.KID { return contentkey.KID{15: byte(n), 14: byte(n >> 8), 0: 0x4b} }

// use is what a key is asked for.
type use struct {
	content, track string
	kid, requested int // requested is kid if it is 0
	period         contentkey.Period
}

// ask has an encryptor ask for keys, minutes after noon.
func (f *fixture) ask(minutes int, uses ...use) {
	f.t.Helper()
	f.now.Store(noon.Add(time.Duration(minutes) * time.Minute).UnixMicro())
	for _, u := range uses {
		w := keystore.Want{
			Requested: kid(u.kid), KID: kid(u.kid), Uses: []keystore.Use{{Track: u.track, Period: u.period}},
			Systems: []string{"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed"},
		}
		if u.requested != 0 {
			w.Requested = kid(u.requested)
		}
		_, err := f.keys.Obtain(f.t.Context(), &keystore.Ask{
			Tenant: "acme", ContentID: u.content, Profile: "2.0", Scheme: contentkey.Cbcs, Wants: []keystore.Want{w},
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// as sends a GET request as a user, whose password is "secret".
func (f *fixture) as(user, path string, headers ...string) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, "secret")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { res.Body.Close() })
	return res
}

// get reads an answer to the entitlement service.
func (f *fixture) get(path string, into any) {
	f.t.Helper()
	res := f.as("cms", path)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/json" {
		f.t.Fatalf("%s: %s %s %s", path, res.Status, res.Header.Get("Content-Type"), b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		f.t.Fatalf("%s: %v: %s", path, err, b)
	}
}

// list is an answer with bindings.
type list struct {
	Bindings []binding.Binding
	Next     string
	Source   string
	Created  time.Time
	Deleted  time.Time
}

func (l *list) kids() (all []string) {
	for _, b := range l.Bindings {
		all = append(all, fmt.Sprint(b.KID[15]))
	}
	return all
}
