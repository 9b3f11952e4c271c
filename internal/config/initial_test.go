package config_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"spekeasy/internal/config"
	"spekeasy/internal/tenant"
)

const aHash = "$2y$10$0SUzpDrr0LI2VwCJNoPD8OxfbTNBGFXzzFjS6OvoWYMKCfmJO83Ui"

func initialFile(t *testing.T) string {
	t.Helper()
	text := string(config.Initial{Data: `/srv/"keys"`, Tenant: "acme", PasswordHash: aHash, AdminHash: aHash}.File())
	if mark := regexp.MustCompile("@[A-Z_]+@").FindString(text); mark != "" {
		t.Fatalf("%s is not filled in", mark)
	}
	return text
}

// TestInitial: the file that a server begins with is good as it stands.
func TestInitial(t *testing.T) {
	c, err := config.Parse([]byte(initialFile(t)), env())
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Data = `/srv/"keys"`
	want.Tenants = []tenant.Settings{{ID: "acme", Credentials: []tenant.Credential{{Name: "first", Basic: &tenant.Basic{User: "acme", PasswordHash: aHash}}}}}
	want.Admin.Credentials = []config.AdminCredential{{
		Credential: tenant.Credential{Name: "root", Basic: &tenant.Basic{User: "root", PasswordHash: aHash}}, Role: config.RoleSecurityOfficer,
	}}
	same(t, c, want)
}

// settingLine is a line of the file that is a setting with its default.
var settingLine = regexp.MustCompile(`(?m)^( *)#(\w|  )`)

// TestInitialTellsDefaults: every setting with its default in the file is what
// an empty file means.
func TestInitialTellsDefaults(t *testing.T) {
	text := initialFile(t)
	plain, err := config.Parse([]byte(text), env())
	if err != nil {
		t.Fatal(err)
	}
	all, err := config.Parse([]byte(settingLine.ReplaceAllString(text, "$1$2")), env())
	if err != nil {
		t.Fatal(err)
	}
	same(t, all, plain)
}

// same compares configurations, tenants as they are built. An empty list is
// none.
func same(t *testing.T, got, want *config.Config) {
	t.Helper()
	written := func(c *config.Config) string {
		rest := *c
		rest.Tenants = nil
		text, err := yaml.Marshal(&rest)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if g, w := written(got), written(want); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
	if len(got.Tenants) != 1 || !reflect.DeepEqual(got.Tenants[0].Credentials, want.Tenants[0].Credentials) {
		t.Fatalf("tenants %+v", got.Tenants)
	}
	built := func(s *tenant.Settings) string {
		b, err := s.Build()
		if err != nil {
			t.Fatal(err)
		}
		return address.ReplaceAllString(fmt.Sprintf("%+v", *b), "")
	}
	if g, w := built(&got.Tenants[0]), built(&want.Tenants[0]); g != w {
		t.Errorf("tenant\n%s\nwant\n%s", g, w)
	}
}

// address is of what a tenant has prepared from its settings.
var address = regexp.MustCompile(`0x[0-9a-f]+`)

// TestInitialIsComplete: no setting is left out, but for credentials, which
// have a document of their own.
func TestInitialIsComplete(t *testing.T) {
	var file map[string]any
	if err := yaml.Unmarshal([]byte(settingLine.ReplaceAllString(initialFile(t), "$1$2")), &file); err != nil {
		t.Fatal(err)
	}
	members := 0
	var walk func(typ reflect.Type, in map[string]any, path string)
	walk = func(typ reflect.Type, in map[string]any, path string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case !f.IsExported() || name == "credentials":
				continue
			case options == "inline":
				walk(f.Type, in, path)
				continue
			}
			members++
			value, there := in[name]
			if !there {
				t.Errorf("%s%s is not in initial.yaml", path, name)
				continue
			}
			if below, ok := value.(map[string]any); ok && f.Type.Kind() == reflect.Struct {
				walk(f.Type, below, path+name+".")
			}
		}
	}
	walk(reflect.TypeFor[config.Config](), file, "")
	first := file["tenants"].([]any)[0].(map[string]any)
	walk(reflect.TypeFor[tenant.Settings](), first, "tenants[].")
	if members < 80 {
		t.Errorf("only %d settings", members)
	}
}
