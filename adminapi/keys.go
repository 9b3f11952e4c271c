package adminapi

import (
	"encoding/json"
	"time"
)

// States of a content key.
const (
	KeyLive    = "live"
	KeyDeleted = "deleted" // refused, until it is brought back or purged
	KeyPurged  = "purged"  // its value is gone, its ID refused for ever
)

// Key is what is known of a content key, without its value.
type Key struct {
	KID       string    `json:"kid" format:"uuid"`
	State     string    `json:"state" enum:"live,deleted,purged"`
	Source    string    `json:"source" doc:"What made it: random, hkdf, playready-seed, import."`
	ContentID string    `json:"content_id,omitzero" doc:"The content that first asked for it."`
	Scheme    string    `json:"scheme,omitzero" doc:"The common encryption scheme it was first asked under."`
	Created   time.Time `json:"created"`
	Deleted   time.Time `json:"deleted,omitzero"`
	DataKey   uint32    `json:"data_key" doc:"The tenant's data key that seals it."`
}

// Use is a record that a content key was asked for: under which content ID,
// for which track and period.
type Use struct {
	ContentID string    `json:"content_id"`
	KID       string    `json:"kid" format:"uuid"`
	Requested string    `json:"requested_kid" format:"uuid" doc:"As in the request; another one under a KID rule."`
	Track     string    `json:"track,omitzero"`
	Scheme    string    `json:"scheme,omitzero"`
	Period    string    `json:"period,omitzero"`
	Profile   string    `json:"profile,omitzero" doc:"SPEKE version of the latest request."`
	Systems   []string  `json:"systems,omitempty"`
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

// KeyIDs names content keys of a tenant.
type KeyIDs struct {
	KIDs []string `json:"kids" minItems:"1" maxItems:"500" nullable:"false"`
}

// Changed is how many content keys an operation has changed.
type Changed struct {
	Changed int `json:"changed"`
}

// Purge asks to destroy the values of deleted keys.
type Purge struct {
	Destroy bool   `json:"destroy" doc:"Must be true: what is purged never comes back."`
	Grace   string `json:"grace,omitzero" doc:"Only keys deleted this long ago, such as 30d; 30d by default."`
}

// Purged is what a purge did.
type Purged struct {
	Looked  int `json:"looked"`
	Purged  int `json:"purged"`
	Waiting int `json:"waiting" doc:"Deleted keys within their time of grace."`
}

// Export asks for the values of content keys.
type Export struct {
	Reveal bool     `json:"reveal" doc:"Must be true: content keys leave in clear."`
	KIDs   []string `json:"kids" minItems:"1" maxItems:"500" nullable:"false"`
}

// Exported is content keys in clear.
type Exported struct {
	Keys []KeyValue `json:"keys" nullable:"false"`
}

// KeyValue is a content key in clear.
type KeyValue struct {
	KID string `json:"kid" format:"uuid"`
	Key Secret `json:"key" doc:"Hexadecimal."`
	IV  string `json:"iv" doc:"Base64."`
}

// AuditQuery chooses records of the audit log. Members that are empty match
// all.
type AuditQuery struct {
	ContentID, KID, Tenant, Credential, Admin, RequestID string
	Since, Until                                         time.Time
	Denied                                               bool
}

// AuditRecord is a record as it was written.
type AuditRecord = json.RawMessage
