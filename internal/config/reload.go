package config

import (
	"reflect"
	"slices"
	"strings"
)

// live are the members that a running server takes over from a changed file,
// each with all that is below it. The others need a restart.
var live = []string{
	"admin.credentials", "auth", "log.level", "tenants", "trusted_proxies",
	"tls.cert_file", "tls.key_file", "tls.client_ca_file", "tls.min_version",
}

// Reload returns what a server that runs with c goes on with when its file has
// become next: the members that may change while it runs are those of next,
// the others those of c. kept names the others that differ, such as
// cache.bytes.
func (c *Config) Reload(next *Config) (merged *Config, kept []string) {
	m := *next
	if c.TLS.On() != next.TLS.On() { // the listener speaks the one or the other
		m.TLS = c.TLS
		kept = append(kept, "tls")
	}
	keep(reflect.ValueOf(c).Elem(), reflect.ValueOf(&m).Elem(), "", &kept)
	slices.Sort(kept)
	return &m, kept
}

// keep puts the members of old that must not change into next.
func keep(old, next reflect.Value, path string, kept *[]string) {
	for i := range old.NumField() {
		if !old.Type().Field(i).IsExported() {
			continue
		}
		name, _, _ := strings.Cut(old.Type().Field(i).Tag.Get("yaml"), ",")
		name = path + name
		a, b := old.Field(i), next.Field(i)
		switch {
		case slices.Contains(live, name) || reflect.DeepEqual(a.Interface(), b.Interface()):
		case a.Kind() == reflect.Struct:
			keep(a, b, name+".", kept)
		default:
			b.Set(a)
			*kept = append(*kept, name)
		}
	}
}
