// Package upstream describes other people's key providers: where they are,
// what lets one in, which SPEKE they speak and what must be made of it. It is
// data and opens nothing; package gateway does the asking.
//
// A vendor's name chooses a preset, see [Vendors]. Presets hold what public
// documents say, and everything in them can be set otherwise: hosts, paths and
// habits of vendors change without notice.
package upstream

import (
	"fmt"
	"log/slog"
)

// Settings are one upstream as an operator writes it.
type Settings struct {
	// Name stands for the upstream in records, logs and metrics. It is the
	// vendor's by default. Content keys belong to the name that answered them
	// first, so that it must not be changed or given to another key provider.
	Name string `yaml:"name,omitempty" json:"name,omitzero"`

	Vendor string `yaml:"vendor" json:"vendor"` // a preset, see Vendors

	// URL is where key requests go, URLV2 where those of SPEKE 2.0 and 2.1 go
	// if that is another place. Both are templates: {contentId}, {kid},
	// {tenant} and {token} stand for the content ID, the key ID, the tenant
	// and the token of Auth, percent-encoded. A URL with {kid} is asked once
	// for each content key.
	URL   string `yaml:"url" json:"url"`
	URLV2 string `yaml:"url_v2,omitempty" json:"url_v2,omitzero"`

	Method      string            `yaml:"method,omitempty" json:"method,omitzero"`             // POST, GET
	ContentType string            `yaml:"content_type,omitempty" json:"content_type,omitzero"` // of requests
	Headers     map[string]Secret `yaml:"headers,omitempty" json:"headers,omitempty"`          // further headers
	Query       map[string]Secret `yaml:"query,omitempty" json:"query,omitempty"`              // further parameters
	Tenant      string            `yaml:"tenant,omitempty" json:"tenant,omitzero"`             // what {tenant} stands for; our tenant's ID by default
	Auth        Auth              `yaml:"auth,omitempty" json:"auth,omitzero"`

	SPEKE       string            `yaml:"speke,omitempty" json:"speke,omitzero"`               // 1.0, 2.0, 2.1, up-to-2.0, 2.0-if-sealed, as-received
	FanOut      *bool             `yaml:"fan_out,omitempty" json:"fan_out,omitzero"`           // one request for each content key
	KIDPolicy   KIDPolicy         `yaml:"kid_policy,omitempty" json:"kid_policy,omitzero"`     // keep, any, override
	KIDOverride string            `yaml:"kid_override,omitempty" json:"kid_override,omitzero"` // how the vendor is asked: true for Axinom, uuidv5 or keyos-uuidv5 for KeyOS
	CEK         CEK               `yaml:"cek,omitempty" json:"cek,omitzero"`                   // pass, terminate, re-encrypt, refuse
	Recipient   KeyPair           `yaml:"recipient,omitempty" json:"recipient,omitzero"`       // ours at the vendor, for re-encrypt
	Periods     PeriodPolicy      `yaml:"periods,omitempty" json:"periods,omitzero"`           // pass, pin, refuse
	Tracks      map[string]string `yaml:"tracks,omitempty" json:"tracks,omitempty"`            // the vendor's track type for each of the encryptor's
	Fixups      *bool             `yaml:"fixups,omitempty" json:"fixups,omitzero"`             // repair answers; else whatever has to be repaired is a failure
	IV          string            `yaml:"iv,omitempty" json:"iv,omitzero"`                     // FairPlay's, base64, where the vendor has one for all and does not tell it

	Timeout     Duration  `yaml:"timeout,omitempty" json:"timeout,omitzero"`         // of one request
	Retries     *int      `yaml:"retries,omitempty" json:"retries,omitzero"`         // after a failed connection, 502, 503 and 504
	Concurrency int       `yaml:"concurrency,omitempty" json:"concurrency,omitzero"` // requests at a time
	Hedge       Duration  `yaml:"hedge,omitempty" json:"hedge,omitzero"`             // ask again beside a request that took so long; 0 never
	Breaker     Breaker   `yaml:"breaker,omitempty" json:"breaker,omitzero"`
	Heartbeat   Heartbeat `yaml:"heartbeat,omitempty" json:"heartbeat,omitzero"`

	// Copy keeps each answered content key with its signaling, encrypted in
	// the keystore, and answers from it while the upstream is down.
	Copy bool `yaml:"resilience_copy,omitempty" json:"resilience_copy,omitzero"`

	// Fallback are asked in turn when the upstream fails. One with SameKeys is
	// the same key service at another place, such as another region; any other
	// one answers for key IDs only that nobody else has answered.
	Fallback []Settings `yaml:"fallback,omitempty" json:"fallback,omitempty"`
	SameKeys bool       `yaml:"same_keys,omitempty" json:"same_keys,omitzero"`
}

// KIDPolicy says which key IDs an upstream may answer.
type KIDPolicy string

// The policies.
const (
	KIDKeep     KIDPolicy = "keep"     // those that it was asked for
	KIDAny      KIDPolicy = "any"      // its own
	KIDOverride KIDPolicy = "override" // its own, which the request asks for
)

// CEK says what is done when an encryptor wants its content keys encrypted.
type CEK string

// The ways.
const (
	CEKPass      CEK = "pass"       // the vendor encrypts them to the encryptor's certificates
	CEKTerminate CEK = "terminate"  // the vendor is asked in clear, and we encrypt
	CEKReEncrypt CEK = "re-encrypt" // the vendor encrypts to our certificate, always, and we to the encryptor's if it wants that
	CEKRefuse    CEK = "refuse"
)

// PeriodPolicy says what is done with key periods.
type PeriodPolicy string

// The policies.
const (
	PeriodsPass   PeriodPolicy = "pass"
	PeriodsPin    PeriodPolicy = "pin" // the vendor does not hear of them, so that keys do not rotate; the encryptor gets them back
	PeriodsRefuse PeriodPolicy = "refuse"
)

// Breaker stops asking an upstream that does not answer.
type Breaker struct {
	Failures int      `yaml:"failures,omitempty" json:"failures,omitzero"` // in a row
	Pause    Duration `yaml:"pause,omitempty" json:"pause,omitzero"`       // until it is tried again
}

// Heartbeat asks now and then whether an upstream is there.
type Heartbeat struct {
	URL   string   `yaml:"url,omitempty" json:"url,omitzero"`     // of a GET; none without
	Body  string   `yaml:"body,omitempty" json:"body,omitzero"`   // what the answer holds; anything if empty
	Every Duration `yaml:"every,omitempty" json:"every,omitzero"` // 0 only when asked
}

// KeyPair is a certificate and its private key, both PEM.
type KeyPair struct {
	Certificate string `yaml:"certificate,omitempty" json:"certificate,omitzero"`
	Key         Secret `yaml:"key,omitempty" json:"key,omitzero"`
}

// Secret is a text that opens something. It does not print.
type Secret string

const hidden = "(secret)"

// Format implements [fmt.Formatter] for every verb.
func (Secret) Format(f fmt.State, _ rune) { f.Write([]byte(hidden)) } //nolint:errcheck // fmt keeps the error

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText keeps a secret out of whatever is written.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// String shows vendor and host. Paths can hold tokens.
func (s Settings) String() string { return s.Vendor + " at " + s.Origin() }

// Origin is scheme and host of the URL.
func (s Settings) Origin() string { return origin(s.URL) }

// Format shows String under every verb.
func (s Settings) Format(f fmt.State, _ rune) { f.Write([]byte(s.String())) } //nolint:errcheck // fmt keeps the error

// LogValue shows String.
func (s Settings) LogValue() slog.Value { return slog.StringValue(s.String()) }
