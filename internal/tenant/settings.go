package tenant

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/drm"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/limit"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// Settings is a tenant as an operator writes it. Every member but ID has a
// usable zero value.
type Settings struct {
	ID          string       `yaml:"id" json:"id"`
	Credentials []Credential `yaml:"credentials,omitempty" json:"-"`

	// Aliases are other names of the tenant on routes that name it, such as
	// the ID that a vendor gave to it.
	Aliases []string `yaml:"aliases,omitempty" json:"aliases,omitempty"`

	// Class groups tenants in metrics, which name no tenant: such as live, vod
	// or trial. By default it is "default".
	Class string `yaml:"class,omitempty" json:"class,omitempty"`

	KeySource   KeySource `yaml:"key_source,omitempty" json:"key_source,omitzero"`
	KIDRule     string    `yaml:"kid_rule,omitempty" json:"kid_rule,omitzero"`                   // as-asked, uuidv5, uuidv5-scheme, sha256-xor
	Override    string    `yaml:"override_kid_rule,omitempty" json:"override_kid_rule,omitzero"` // where a request asks for it; by default sha256-xor
	KIDReuse    Reuse     `yaml:"kid_reuse,omitempty" json:"kid_reuse,omitzero"`                 // one key ID under another content ID
	SchemeReuse Reuse     `yaml:"scheme_reuse,omitempty" json:"scheme_reuse,omitzero"`           // one key ID under another scheme

	DRM          drm.Settings        `yaml:"drm,omitempty" json:"drm,omitzero"`
	V1Scheme     contentkey.Scheme   `yaml:"v1_scheme,omitempty" json:"v1_scheme,omitzero"` // what SPEKE v1 is signaled with; empty derives it
	MaxKeys      int                 `yaml:"max_keys,omitempty" json:"max_keys,omitzero"`   // content keys in one request; 0 means no bound
	Contract     Contract            `yaml:"contract,omitempty" json:"contract,omitzero"`
	Certificates CertificateSettings `yaml:"certificates,omitempty" json:"certificates,omitzero"`
	Output       Output              `yaml:"output,omitempty" json:"output,omitzero"`
	Packager     Packager            `yaml:"packager,omitempty" json:"packager,omitzero"`
	Limits       Limits              `yaml:"limits,omitempty" json:"limits,omitzero"`
	Playback     *Playback           `yaml:"playback,omitempty" json:"playback,omitzero"`  // for players; nothing by default
	Webhooks     []Webhook           `yaml:"webhooks,omitempty" json:"webhooks,omitempty"` // are told of each new use of a content key

	// ClearKeys refuses requests without a certificate to encrypt content keys
	// to.
	ClearKeys Reuse `yaml:"clear_keys,omitempty" json:"clear_keys,omitzero"`

	// Brands are applications below the tenant with bounds of their own, by
	// the name that requests give them. Others count for the tenant only.
	Brands map[string]Brand `yaml:"brands,omitempty" json:"brands,omitzero"`

	// Upstream is whose keys are answered instead of our own.
	Upstream *upstream.Settings `yaml:"upstream,omitempty" json:"upstream,omitempty"`
}

// Brand is an application below a tenant.
type Brand struct {
	Limits limit.Settings `yaml:"limits,omitempty" json:"limits,omitzero"`
}

// DefaultClass is the class of tenants that name none.
const DefaultClass = "default"

var classes = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// Limits bound what the tenant may take, as a whole and with each credential.
// There are none by default.
type Limits struct {
	limit.Settings `yaml:",inline"`

	Credential    limit.Settings `yaml:"credential,omitempty" json:"credential,omitzero"`
	NewKeysPerDay int            `yaml:"new_keys_per_day,omitempty" json:"new_keys_per_day,omitzero"`
}

// KeySource says what makes content keys.
type KeySource struct {
	Kind string `yaml:"kind" json:"kind"`                    // random (default), hkdf, playready-seed
	Seed string `yaml:"seed,omitempty" json:"-"`             // base64: 32 bytes or more for hkdf, 30 or more for playready-seed
	Test bool   `yaml:"test,omitempty" json:"test,omitzero"` // allows Microsoft's public test seed (D-233)
}

// Reuse is "allow" (default) or "refuse".
type Reuse string

func (r Reuse) refuse() (bool, error) {
	switch r {
	case "", "allow":
		return false, nil
	case "refuse":
		return true, nil
	}
	return false, fmt.Errorf("%q is neither allow nor refuse", string(r))
}

// Contract says which encryption contracts the tenant accepts.
type Contract struct {
	SeparateAudio    bool     `yaml:"separate_audio,omitempty" json:"separate_audio,omitzero"`         // no content key for audio and video together
	RefuseTrackTypes []string `yaml:"refuse_track_types,omitempty" json:"refuse_track_types,omitzero"` // values of intendedTrackType
	Strict           bool     `yaml:"strict,omitempty" json:"strict,omitzero"`                         // labels and filters must correspond, periods must exist
}

// CertificateSettings says to which certificates content keys are encrypted.
type CertificateSettings struct {
	RefuseExpired bool     `yaml:"refuse_expired,omitempty" json:"refuse_expired,omitzero"`
	Pins          []string `yaml:"pins,omitempty" json:"pins,omitzero"` // SHA-256 fingerprints, hexadecimal, colons allowed
}

// Output is what SPEKE 2.1 answers announce beyond 2.0.
type Output struct {
	HDCP       map[string]string `yaml:"hdcp,omitempty" json:"hdcp,omitzero"`               // HDCP-LEVEL by intendedTrackType
	Robustness map[string]string `yaml:"robustness,omitempty" json:"robustness,omitzero"`   // by system name or ID
	AllowedCPC map[string]string `yaml:"allowed_cpc,omitempty" json:"allowed_cpc,omitzero"` // by system name or ID
}

// Build checks the settings and makes the tenant. The error names the member
// that is wrong, never a secret.
func (s *Settings) Build() (*Tenant, error) {
	t := &Tenant{ID: s.ID, Aliases: s.Aliases}
	if err := keystore.CheckTenant(s.ID); err != nil {
		return nil, fmt.Errorf("id: %w", err)
	}
	if s.ID == PlaybackSecrets {
		return nil, fmt.Errorf("id: %q is not for tenants", s.ID)
	}
	if err := s.Playback.check(); err != nil {
		return nil, fmt.Errorf("playback: %w", err)
	}
	t.Playback = s.Playback
	var err error
	if t.Source, err = s.KeySource.build(); err != nil {
		return nil, fmt.Errorf("key_source: %w", err)
	}
	if t.KIDRule, err = kidrule.Parse(s.KIDRule); err != nil {
		return nil, fmt.Errorf("kid_rule: %w", err)
	}
	if t.OverrideRule = kidrule.SHA256XOR; s.Override != "" {
		if t.OverrideRule, err = kidrule.Parse(s.Override); err != nil {
			return nil, fmt.Errorf("override_kid_rule: %w", err)
		}
	}
	if t.Class = s.Class; t.Class == "" {
		t.Class = DefaultClass
	}
	if !classes.MatchString(t.Class) {
		return nil, errors.New("class: must be 1 to 32 of a-z, 0-9, _ and -")
	}
	if slices.Contains(s.Aliases, "") {
		return nil, errors.New("aliases: must not be empty")
	}
	if t.Reuse.RefuseKID, err = s.KIDReuse.refuse(); err != nil {
		return nil, fmt.Errorf("kid_reuse: %w", err)
	}
	if t.Reuse.RefuseScheme, err = s.SchemeReuse.refuse(); err != nil {
		return nil, fmt.Errorf("scheme_reuse: %w", err)
	}
	if s.MaxKeys < 0 {
		return nil, errors.New("max_keys: must not be negative")
	}
	if s.V1Scheme != 0 && s.V1Scheme != contentkey.Cenc && s.V1Scheme != contentkey.Cbcs {
		return nil, fmt.Errorf("v1_scheme: %q is neither cenc nor cbcs", s.V1Scheme)
	}
	t.Policy = speke.Policy{
		V1Scheme: s.V1Scheme, MaxKeys: s.MaxKeys,
		Contract: speke.ContractPolicy{
			RefuseTracks: s.Contract.RefuseTrackTypes, SeparateAudio: s.Contract.SeparateAudio, Strict: s.Contract.Strict,
		},
	}
	if t.RefuseClear, err = s.ClearKeys.refuse(); err != nil {
		return nil, fmt.Errorf("clear_keys: %w", err)
	}
	if err := checkWebhooks(s.Webhooks); err != nil {
		return nil, err
	}
	t.Webhooks = s.Webhooks
	if err := s.Limits.build(t); err != nil {
		return nil, fmt.Errorf("limits: %w", err)
	}
	if t.Brands, err = brandGates(s.Brands); err != nil {
		return nil, fmt.Errorf("brands: %w", err)
	}
	if t.Policy.V1, err = drm.V1(s.DRM); err != nil {
		return nil, fmt.Errorf("drm: %w", err)
	}
	if t.Policy.V2, err = drm.V2(s.DRM); err != nil {
		return nil, fmt.Errorf("drm: %w", err)
	}
	if t.Policy.Output, err = s.Output.build(t.Policy.V2); err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	if t.Certificates, err = s.Certificates.build(); err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if s.Upstream != nil {
		if t.Upstream, err = s.Upstream.Ready(); err != nil {
			return nil, fmt.Errorf("upstream: %w", err)
		}
		t.DRM = s.DRM
		t.Policy.V1, t.Policy.V2 = drm.AllElsewhere(t.Policy.V1), drm.AllElsewhere(t.Policy.V2)
	}
	if err := s.Packager.build(t); err != nil {
		return nil, fmt.Errorf("packager: %w", err)
	}
	return t, nil
}

func (l *Limits) build(t *Tenant) error {
	if err := l.Check(); err != nil {
		return err
	}
	if err := l.Credential.Check(); err != nil {
		return fmt.Errorf("credential: %w", err)
	}
	if l.NewKeysPerDay < 0 {
		return errors.New("new_keys_per_day: must not be negative")
	}
	t.Gate = limit.NewGate(l.Settings, l.Credential, time.Now)
	if l.NewKeysPerDay > 0 {
		t.NewKeys = limit.NewKeys(l.NewKeysPerDay, time.Now)
	}
	return nil
}

func brandGates(brands map[string]Brand) (map[string]*limit.Gate, error) {
	gates := make(map[string]*limit.Gate, len(brands))
	for name, b := range brands {
		if err := CheckBrand(name); err != nil {
			return nil, err
		}
		if err := b.Limits.Check(); err != nil {
			return nil, fmt.Errorf("%s: limits: %w", name, err)
		}
		gates[name] = limit.NewGate(b.Limits, limit.Settings{}, time.Now)
	}
	return gates, nil
}

// A brand is a label in records, so that it has to be short and plain.
const (
	maxBrand        = 64
	brandCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
)

// CheckBrand reports whether a text can name a brand.
func CheckBrand(name string) error {
	if name == "" || len(name) > maxBrand || strings.Trim(name, brandCharacters) != "" {
		return fmt.Errorf("%.64q is not the name of a brand: want 1 to 64 letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

func (s *KeySource) build() (keystore.Source, error) {
	if s.Kind == "" || s.Kind == "random" {
		if s.Seed != "" {
			return nil, errors.New("seed: a random source has none")
		}
		return keystore.Random{Reader: rand.Reader}, nil
	}
	seed, err := base64.StdEncoding.DecodeString(s.Seed)
	if err != nil {
		return nil, errors.New("seed: not base64")
	}
	switch s.Kind {
	case "hkdf":
		return keystore.NewHKDF(seed)
	case "playready-seed":
		if drm.IsPlayReadyTestSeed(seed) && !s.Test {
			return nil, errors.New("seed: this is Microsoft's public test seed; set test: true for a test tenant")
		}
		if _, err := drm.PlayReadySeedKey(seed, contentkey.KID{}); err != nil {
			return nil, fmt.Errorf("seed: %w", err)
		}
		return &keystore.Derived{Label: "playready-seed", Key: func(kid contentkey.KID) (contentkey.Value, error) {
			return drm.PlayReadySeedKey(seed, kid)
		}}, nil
	}
	return nil, fmt.Errorf("kind: %q is none of random, hkdf, playready-seed", s.Kind)
}

func (s *CertificateSettings) build() (CertificatePolicy, error) {
	p := CertificatePolicy{RefuseExpired: s.RefuseExpired}
	for i, text := range s.Pins {
		b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(b) != sha256.Size {
			return p, fmt.Errorf("pins: entry %d is not a SHA-256 fingerprint", i+1)
		}
		p.Pins = append(p.Pins, [sha256.Size]byte(b))
	}
	return p, nil
}

// hdcpLevels are the values of HDCP-LEVEL (S21-PAY-72).
var hdcpLevels = []string{"NONE", "TYPE-0", "TYPE-1"}

func (s *Output) build(systems []drm.System) (speke.Output, error) {
	var out speke.Output
	for track, level := range s.HDCP {
		if !contains(hdcpLevels, level) {
			return out, fmt.Errorf("hdcp: %s: %q is none of %s", track, level, strings.Join(hdcpLevels, ", "))
		}
		if out.HDCP == nil {
			out.HDCP = make(map[string]cpix.HDCP)
		}
		out.HDCP[track] = cpix.HDCP{Level: level}
	}
	var err error
	if out.Robustness, err = bySystem(s.Robustness, systems); err != nil {
		return out, fmt.Errorf("robustness: %w", err)
	}
	if out.AllowedCPC, err = bySystem(s.AllowedCPC, systems); err != nil {
		return out, fmt.Errorf("allowed_cpc: %w", err)
	}
	return out, nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// bySystem reads a map whose keys are names of systems on offer or their IDs.
func bySystem(in map[string]string, systems []drm.System) (map[drm.SystemID]string, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make(map[drm.SystemID]string, len(in))
next:
	for name, value := range in {
		for _, s := range systems {
			if strings.EqualFold(s.Name(), name) || strings.EqualFold(s.ID().String(), name) {
				out[s.ID()] = value
				continue next
			}
		}
		return nil, fmt.Errorf("%q is no DRM system on offer", name)
	}
	return out, nil
}
