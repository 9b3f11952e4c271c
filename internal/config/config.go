// Package config is the server's configuration file: its types, defaults and
// checks. It is data; it opens nothing.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"spekeasy/internal/tenant"
)

// Config is the whole file. Members that are absent have the value that
// [Default] gives them.
type Config struct {
	Listen string `yaml:"listen"` // address and port; port 0 picks a free one
	Data   string `yaml:"data"`   // directory of everything that the server keeps itself

	Store      string `yaml:"store"`       // URL of the database; by default SQLite in the data directory
	KeyManager string `yaml:"key_manager"` // URL of the KEK; by default a file in the data directory

	// FormerKeyManagers are asked for data keys that the present one does not
	// open, until those are rewrapped. They wrap nothing.
	FormerKeyManagers []string `yaml:"former_key_managers"`

	Cache   Cache   `yaml:"cache"`
	Sealing Sealing `yaml:"sealing"`
	Log     Log     `yaml:"log"`

	Tenants []tenant.Settings `yaml:"tenants"`
}

// Cache bounds the opened content keys that are kept in memory.
type Cache struct {
	Off      bool     `yaml:"off"`
	Bytes    int      `yaml:"bytes"`
	Lifetime Duration `yaml:"lifetime"`
}

// Sealing is about content keys that are encrypted to encryptors.
type Sealing struct {
	// Reuse is how long one document key serves the same tenant and the same
	// recipients; 0 makes each document fresh. At most ten minutes.
	Reuse Duration `yaml:"reuse"`
}

// Log says what is written to standard error.
type Log struct {
	Level  slog.Level `yaml:"level"`  // debug, info, warn, error
	Format string     `yaml:"format"` // text, json
}

// Duration is a span of time as Go writes it, such as 90s or 5m.
type Duration time.Duration

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

const maxSealingReuse = 10 * time.Minute

// Default returns the configuration that an empty file means.
func Default() *Config {
	return &Config{
		Listen:  "127.0.0.1:8080",
		Cache:   Cache{Bytes: 16 << 20, Lifetime: Duration(5 * time.Minute)},
		Sealing: Sealing{Reuse: Duration(time.Minute)},
		Log:     Log{Format: "text"},
	}
}

// Dev returns the configuration of `serve --dev`: one tenant, dev, whose
// Basic credential dev:dev may do everything. base is the server's own URL,
// where players find plain keys and Clear Key licenses (S2-CK-03).
func Dev(listen, data, base string) *Config {
	c := Default()
	c.Listen, c.Data = listen, data
	dev := tenant.Settings{
		ID:          DevTenant,
		Credentials: []tenant.Credential{{Name: "dev", Basic: &tenant.Basic{User: "dev", Password: "dev"}}},
	}
	dev.DRM.HLS.URL = base
	dev.DRM.ClearKey.LicenseURL = base + "/license/clearkey"
	c.Tenants = []tenant.Settings{dev}
	return c
}

// DevTenant is the tenant of `serve --dev`.
const DevTenant = "dev"

// CheckLoopback refuses a listening address that others could reach; a
// well-known password must not.
func CheckLoopback(listen string) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not a loopback address", listen)
	}
	return nil
}

// Check judges what the types cannot: required members and values that must
// fit each other. It reports all faults at once.
func (c *Config) Check() error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		add("listen: %w", err)
	}
	if c.Data == "" {
		add("data: a directory is required")
	}
	if c.Cache.Bytes <= 0 {
		add("cache.bytes: must be positive; to switch the cache off set cache.off")
	}
	if c.Cache.Lifetime <= 0 {
		add("cache.lifetime: must be positive")
	}
	if r := time.Duration(c.Sealing.Reuse); r < 0 || r > maxSealingReuse {
		add("sealing.reuse: must be between 0 and %s", maxSealingReuse)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		add("log.format: %q is neither text nor json", c.Log.Format)
	}
	errs = append(errs, c.checkTenants()...)
	return errors.Join(errs...)
}

func (c *Config) checkTenants() (errs []error) {
	if len(c.Tenants) == 0 {
		errs = append(errs, errors.New("tenants: at least one is required"))
	}
	seen := make(map[string]bool)
	for i := range c.Tenants {
		t := &c.Tenants[i]
		name := fmt.Sprintf("tenants[%d] (%s)", i, t.ID)
		if seen[t.ID] {
			errs = append(errs, fmt.Errorf("%s: the ID occurs twice", name))
		}
		seen[t.ID] = true
		if _, err := t.Build(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		for j, cred := range t.Credentials {
			if err := cred.Check(); err != nil {
				errs = append(errs, fmt.Errorf("%s: credentials[%d] (%s): %w", name, j, cred.Name, err))
			}
		}
	}
	return errs
}
