package adminapi

import (
	"spekeasy/contentkey"
	"spekeasy/drm"
)

// TenantSettings are a tenant's settings, with the names and meanings of the
// configuration file. The zero value is a tenant with all defaults.
type TenantSettings struct {
	Aliases     []string  `json:"aliases,omitempty" doc:"Other names of the tenant on routes that name it."`
	Class       string    `json:"class,omitempty" doc:"Groups tenants in metrics."`
	KeySource   KeySource `json:"key_source,omitzero"`
	KIDRule     string    `json:"kid_rule,omitzero" doc:"as-asked, uuidv5, uuidv5-scheme or sha256-xor."`
	Override    string    `json:"override_kid_rule,omitzero" doc:"The rule where a request asks for one; sha256-xor by default."`
	KIDReuse    string    `json:"kid_reuse,omitzero" enum:"allow,refuse" doc:"One key ID under another content ID."`
	SchemeReuse string    `json:"scheme_reuse,omitzero" enum:"allow,refuse" doc:"One key ID under another scheme."`
	ClearKeys   string    `json:"clear_keys,omitzero" enum:"allow,refuse" doc:"Whether content keys may leave unencrypted."`

	DRM          drm.Settings      `json:"drm,omitzero"`
	V1Scheme     contentkey.Scheme `json:"v1_scheme,omitzero" doc:"What SPEKE v1 is signaled with: cenc or cbcs."`
	MaxKeys      int               `json:"max_keys,omitzero" minimum:"0" doc:"Content keys in one request; 0 means no bound."`
	Contract     Contract          `json:"contract,omitzero"`
	Certificates Certificates      `json:"certificates,omitzero"`
	Output       Output            `json:"output,omitzero"`
	Packager     Packager          `json:"packager,omitzero"`
	Limits       TenantLimits      `json:"limits,omitzero"`
	Brands       map[string]Brand  `json:"brands,omitempty" doc:"Applications below the tenant with limits of their own."`
	Webhooks     []Webhook         `json:"webhooks,omitempty" doc:"Told of each new use of a content key."`
	Upstream     *Upstream         `json:"upstream,omitempty" doc:"Whose keys are answered instead of the server's own."`
	Playback     *Playback         `json:"playback,omitempty" doc:"What players get; nothing if absent."`
}

// Playback is what players of the tenant's content get, by playback tokens.
// License services of the tenant's own are for the configuration file.
type Playback struct {
	ClearKey          bool     `json:"clear_key,omitzero" doc:"Clear Key licenses and HLS keys: content keys in clear."`
	AcceptStudioKeys  bool     `json:"accept_studio_keys,omitzero" doc:"Also of content that a studio's DRM protects."`
	AcceptCredentials bool     `json:"accept_credentials,omitzero" doc:"Credentials of encryptors open as playback tokens do."`
	Origins           []string `json:"origins,omitempty" doc:"Web origins whose players may ask; all if there are none."`
}

// KeySource says what makes content keys.
type KeySource struct {
	Kind string `json:"kind" enum:"random,hkdf,playready-seed"`
	Seed Secret `json:"seed,omitzero" doc:"Base64. Made up for a new tenant if absent, and shown once; kept by a change without it."`
	Test bool   `json:"test,omitzero" doc:"Allows Microsoft's public test seed."`
}

// Contract says which encryption contracts the tenant accepts.
type Contract struct {
	SeparateAudio    bool     `json:"separate_audio,omitzero"`
	RefuseTrackTypes []string `json:"refuse_track_types,omitempty"`
	Strict           bool     `json:"strict,omitzero"`
}

// Certificates says to which certificates content keys may be encrypted.
type Certificates struct {
	RefuseExpired bool     `json:"refuse_expired,omitzero"`
	Pins          []string `json:"pins,omitempty" doc:"SHA-256 fingerprints, hexadecimal."`
}

// Output is what SPEKE 2.1 answers announce.
type Output struct {
	HDCP       map[string]string `json:"hdcp,omitempty" doc:"HDCP-LEVEL by intendedTrackType."`
	Robustness map[string]string `json:"robustness,omitempty" doc:"By DRM system."`
	AllowedCPC map[string]string `json:"allowed_cpc,omitempty" doc:"By DRM system."`
}

// Limits are bounds; a zero member is none.
type Limits struct {
	Rate        float64 `json:"rate,omitzero" minimum:"0" doc:"Requests per second."`
	Burst       int     `json:"burst,omitzero" minimum:"0" doc:"Requests at once."`
	Concurrency int     `json:"concurrency,omitzero" minimum:"0" doc:"Requests under way."`
}

// TenantLimits bound what a tenant may take, as a whole and with each
// credential.
type TenantLimits struct {
	Limits
	Credential    Limits `json:"credential,omitzero"`
	NewKeysPerDay int    `json:"new_keys_per_day,omitzero" minimum:"0"`
}

// Brand is an application below a tenant.
type Brand struct {
	Limits Limits `json:"limits,omitzero"`
}

// Packager is about packagers, which ask for the keys of a content by the type
// of a track.
type Packager struct {
	Tracks     map[string][]string `json:"tracks,omitempty" doc:"Values of intendedTrackType by the packager's track type."`
	CPIXLabels string              `json:"cpix_labels,omitzero"`
}
