// Package config is the server's configuration file: its types, defaults and
// checks. It is data; it opens nothing.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
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

	// TrustedProxies are networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`

	TLS     TLS     `yaml:"tls"`
	Auth    Auth    `yaml:"auth"`
	Cache   Cache   `yaml:"cache"`
	Sealing Sealing `yaml:"sealing"`
	Log     Log     `yaml:"log"`
	Audit   Audit   `yaml:"audit"`

	Admin     Admin     `yaml:"admin"`
	Telemetry Telemetry `yaml:"telemetry"`

	Tenants []tenant.Settings `yaml:"tenants"`

	lines map[string]int // of the file, by member
}

// TLS is about the listener. Without files it speaks plain HTTP, for a proxy
// in front.
type TLS struct {
	// CertFile and KeyFile are PEM files; they are read again when they change.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`

	// ClientCAFile is a PEM file with the CAs of client certificates that
	// credentials name by their subject.
	ClientCAFile string `yaml:"client_ca_file"`

	MinVersion string `yaml:"min_version"` // 1.2, 1.3
}

// On reports whether the listener speaks TLS.
func (t *TLS) On() bool { return t.CertFile != "" }

// Auth is about the ways in as such; credentials belong to tenants.
type Auth struct {
	Digest Digest `yaml:"digest"`
	OAuth  OAuth  `yaml:"oauth"`
}

// OAuth is about the tokens that the server itself issues.
type OAuth struct {
	Issuer   string   `yaml:"issuer"` // a name, or the server's URL
	Lifetime Duration `yaml:"lifetime"`

	// SigningKey is a PEM file with an Ed25519 or P-256 key (PKCS #8). Without
	// it each process makes its own key, and tokens end with the process.
	SigningKey string `yaml:"signing_key_file"`
}

// Digest is about HTTP Digest authentication.
type Digest struct {
	Algorithms []string      `yaml:"algorithms"` // in order of preference: SHA-256, MD5
	Integrity  bool          `yaml:"integrity"`  // offers qop=auth-int too
	Lifetime   Duration      `yaml:"lifetime"`   // of a nonce
	Key        tenant.Secret `yaml:"key"`        // signs nonces; of each process by default, shared by servers that clients reach by turns
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

// Audit is about the record of every key release and refusal.
type Audit struct {
	Off          bool     `yaml:"off"`           // nothing is recorded
	Sync         string   `yaml:"sync"`          // SyncInterval or SyncAlways
	Dir          string   `yaml:"dir"`           // by default audit in the data directory
	SegmentBytes int64    `yaml:"segment_bytes"` // size of a file at which the next one begins
	Retain       Duration `yaml:"retain"`        // how long records are kept; 0s means for ever
	Stdout       string   `yaml:"stdout"`        // StdoutAlso, StdoutOnly, or empty for files alone
	Database     string   `yaml:"database"`      // DatabaseAlso, DatabaseOnly, or empty for files alone
}

// Files reports whether records go to files.
func (a *Audit) Files() bool { return !a.Off && a.Stdout != StdoutOnly && a.Database != DatabaseOnly }

// When an audit record reaches the disk, and whether records go to standard
// output or the database.
const (
	SyncInterval = "interval" // within 100 ms; the death of the process does not matter
	SyncAlways   = "always"   // before the answer

	StdoutAlso = "also" // beside the files
	StdoutOnly = "only" // in their place

	DatabaseAlso = "also" // beside the files
	DatabaseOnly = "only" // in their place
)

// AuditDir returns the directory of the audit log.
func (c *Config) AuditDir() string {
	if c.Audit.Dir != "" {
		return c.Audit.Dir
	}
	return filepath.Join(c.Data, "audit")
}

func (a *Audit) check() (errs []error) {
	if a.Sync != SyncInterval && a.Sync != SyncAlways {
		errs = append(errs, fmt.Errorf("audit.sync: %q is neither %s nor %s", a.Sync, SyncInterval, SyncAlways))
	}
	if a.SegmentBytes < minSegmentBytes {
		errs = append(errs, fmt.Errorf("audit.segment_bytes: must be %d or more", minSegmentBytes))
	}
	if a.Retain < 0 {
		errs = append(errs, errors.New("audit.retain: must not be negative"))
	}
	if a.Stdout != "" && a.Stdout != StdoutAlso && a.Stdout != StdoutOnly {
		errs = append(errs, fmt.Errorf("audit.stdout: %q is neither %s nor %s", a.Stdout, StdoutAlso, StdoutOnly))
	}
	if a.Database != "" && a.Database != DatabaseAlso && a.Database != DatabaseOnly {
		errs = append(errs, fmt.Errorf("audit.database: %q is neither %s nor %s", a.Database, DatabaseAlso, DatabaseOnly))
	}
	if a.Stdout == StdoutOnly && a.Database != "" {
		errs = append(errs, fmt.Errorf("audit.database: %s contradicts stdout: %s", a.Database, StdoutOnly))
	}
	return errs
}

// minSegmentBytes keeps segments from becoming so many that they are a burden.
const minSegmentBytes = 64 << 10

// Duration is a span of time as Go writes it, such as 90s or 5m, or a number
// of days of 24 hours, such as 400d.
type Duration time.Duration

// maxDays is how many days fit into a duration.
const maxDays = math.MaxInt64 / int64(24*time.Hour)

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	if days, ok := strings.CutSuffix(string(b), "d"); ok {
		n, err := strconv.ParseInt(days, 10, 64)
		if err != nil || n < 0 || n > maxDays {
			return fmt.Errorf("%q is not a number of days", b)
		}
		*d = Duration(n) * Duration(24*time.Hour)
		return nil
	}
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// MarshalText writes a duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

const (
	maxSealingReuse  = 10 * time.Minute
	maxTokenLifetime = 24 * time.Hour
)

// Default returns the configuration that an empty file means.
func Default() *Config {
	return &Config{
		Listen:  "127.0.0.1:8080",
		Cache:   Cache{Bytes: 16 << 20, Lifetime: Duration(5 * time.Minute)},
		Sealing: Sealing{Reuse: Duration(time.Minute)},
		Log:     Log{Format: "text"},
		TLS:     TLS{MinVersion: "1.2"},
		Auth: Auth{Digest: Digest{Algorithms: []string{"SHA-256", "MD5"}, Lifetime: Duration(5 * time.Minute)},
			OAuth: OAuth{Issuer: "spekeasy", Lifetime: Duration(10 * time.Minute)}},
		Audit: Audit{Sync: SyncInterval, SegmentBytes: 32 << 20, Retain: Duration(400 * 24 * time.Hour)},

		Telemetry: Telemetry{Sample: 1, Logs: true},
	}
}

// Dev returns the configuration of `serve --dev`: one tenant, dev, whose
// Basic credential dev:dev may do everything, as may its signer dev. base is the server's own URL,
// where players find plain keys and Clear Key licenses (S2-CK-03).
func Dev(listen, data, base string) *Config {
	c := Default()
	c.Listen, c.Data = listen, data
	dev := tenant.Settings{
		ID: DevTenant,
		Credentials: []tenant.Credential{
			{Name: "dev", Basic: &tenant.Basic{User: "dev", Password: "dev"}, Roles: []tenant.Role{tenant.RoleEncryptor, tenant.RoleEntitlement}},
			{Name: "packager", WidevineSigner: &tenant.WidevineSigner{Name: DevTenant, AESKey: DevSigningKey, AESIV: DevSigningIV}},
		},
	}
	dev.DRM.HLS.URL = base
	dev.DRM.ClearKey.LicenseURL = base + "/license/clearkey"
	dev.Playback = &tenant.Playback{ClearKey: true, AcceptStudioKeys: true, AcceptCredentials: true}
	c.Tenants = []tenant.Settings{dev}
	c.Admin.Credentials = []AdminCredential{{
		Credential: tenant.Credential{Name: "dev", Basic: &tenant.Basic{User: "dev", Password: "dev"}}, Role: RoleSecurityOfficer,
	}}
	return c
}

// DevTenant is the tenant of `serve --dev`.
const DevTenant = "dev"

// What packagers sign with for the tenant of `serve --dev`, as signer dev.
// Everybody knows it, which a server on loopback can bear.
const (
	DevSigningKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	DevSigningIV  = "0123456789abcdef0123456789abcdef"
)

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
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		add("tls: cert_file and key_file belong together")
	}
	if c.TLS.MinVersion != "1.2" && c.TLS.MinVersion != "1.3" {
		add("tls.min_version: %q is neither 1.2 nor 1.3", c.TLS.MinVersion)
	}
	if c.Auth.Digest.Lifetime <= 0 {
		add("auth.digest.lifetime: must be positive")
	}
	if l := time.Duration(c.Auth.OAuth.Lifetime); l < time.Minute || l > maxTokenLifetime {
		add("auth.oauth.lifetime: must be between 1m and %s", maxTokenLifetime)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		add("log.format: %q is neither text nor json", c.Log.Format)
	}
	errs = append(errs, c.Audit.check()...)
	errs = append(errs, c.checkWatch()...)
	errs = append(errs, c.checkAdmin()...)
	errs = append(errs, c.checkTenants()...)
	return errors.Join(errs...)
}

func (c *Config) checkTenants() (errs []error) {
	if len(c.Tenants) == 0 && len(c.Admin.Credentials) == 0 {
		errs = append(errs, errors.New("tenants: at least one is required, or admin.credentials to make tenants with"))
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
		names := make(map[string]bool)
		for j := range t.Credentials {
			cred := &t.Credentials[j]
			if names[cred.Name] {
				errs = append(errs, fmt.Errorf("%s: credentials[%d] (%s): the name occurs twice", name, j, cred.Name))
			}
			names[cred.Name] = true
			if err := cred.Check(); err != nil {
				errs = append(errs, fmt.Errorf("%s: credentials[%d] (%s): %w", name, j, cred.Name, err))
			}
		}
	}
	return errs
}
