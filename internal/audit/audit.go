// Package audit keeps the record of who was given which content keys, who was
// refused, and what was changed. A record is written before the answer leaves:
// no record, no keys. Records never hold a content key or the secret of a
// credential.
//
// A [Log] numbers the records, chains them by hashes, so that a deletion or a
// change shows, and hands them to a [Sink]: [Files], the segments of a
// directory, a [Database], or a [Stream] such as standard output. [Verify]
// and [VerifyStore] check them, [Query] reads them. docs/audit.md describes the format and what the
// chain proves.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"spekeasy/contentkey"
)

// ErrUnavailable reports that a record could not be written. Whatever it was
// to be written for must not happen.
var ErrUnavailable = errors.New("audit log unavailable")

// Events. Requests for keys, licenses and tokens are recorded whether they were
// answered or refused.
const (
	KeyRequest = "key_request"
	License    = "license" // a player asked; Profile is the route
	TokenIssue = "token"   // a client asked for an access token, which opens keys

	// Of the admin API. They are recorded before the change; one that fails
	// then is recorded again as failed, with the same request ID.
	AdminDenied      = "admin_denied" // nobody it knows, or one who may not
	TenantCreate     = "tenant_create"
	TenantUpdate     = "tenant_update"
	TenantDelete     = "tenant_delete"
	CredentialCreate = "credential_create"
	CredentialRotate = "credential_rotate"
	CredentialUpdate = "credential_update"
	CredentialRevoke = "credential_revoke"
	AdminCreate      = "admin_create"
	AdminRevoke      = "admin_revoke"
	KeyDelete        = "key_delete"
	KeyUndelete      = "key_undelete"
	KeyPurge         = "key_purge"
	KeyExport        = "key_export"

	serverStart = "server_start" // a process goes on with the log
	serverStop  = "server_stop"  // it ended in order
	syncFailed  = "sync_failed"  // records may not have reached the disk
	writeFailed = "write_failed" // records could not be written for a while, and nothing was handed out
	retention   = "retention"    // records before kept_from are about to be deleted
)

// Results of what an event records.
const (
	Delivered = "delivered" // the keys, or the change, were released
	Refused   = "refused"   // status 4xx: the request was at fault
	Failed    = "failed"    // status 5xx: the server was
)

// How content keys were protected in an answer.
const (
	Clear     = "clear"
	Encrypted = "encrypted" // to the certificates of Recipients
)

// Record is one line of the log. Members that do not apply are empty and left
// out. Long texts are cut when they are written, see [Clip].
type Record struct {
	Seq  uint64    `json:"seq,omitzero"`  // set by the log: 1, 2, 3 ...
	Time time.Time `json:"time,omitzero"` // set by the log: when the record was written, UTC

	Event     string `json:"event"`
	Result    string `json:"result,omitzero"`
	Status    int    `json:"status,omitzero"` // HTTP status of a refusal or failure
	RequestID string `json:"request_id,omitzero"`
	Remote    string `json:"remote,omitzero"` // network address of the other end

	Tenant     string `json:"tenant,omitzero"`
	Credential string `json:"credential,omitzero"` // its name
	Brand      string `json:"brand,omitzero"`      // the application below the tenant that the request names
	Admin      string `json:"admin,omitzero"`      // of the admin API: whose credential it was
	Role       string `json:"role,omitzero"`       // and what that may do
	Change     string `json:"change,omitzero"`     // what was changed, in words; never a secret

	Profile    string           `json:"profile,omitzero"` // SPEKE version, or the protocol of a packager
	ContentID  string           `json:"content_id,omitzero"`
	Scheme     string           `json:"scheme,omitzero"`
	KIDs       []contentkey.KID `json:"kids,omitempty"`           // answered; of a refusal, asked for
	Requested  []contentkey.KID `json:"requested_kids,omitempty"` // asked for, where a KID rule put others in their place
	Protection string           `json:"protection,omitzero"`
	Recipients []string         `json:"recipients,omitempty"` // SHA-256 of the certificates' DER, lower-case hexadecimal
	Created    int              `json:"created,omitzero"`     // how many of the content keys are new
	Upstream   string           `json:"upstream,omitzero"`    // whose the keys are, if not ours; or "copy of" and whose

	Error string `json:"error,omitzero"` // why it was refused or failed; what the log found wrong with itself

	Server   string `json:"server,omitzero"`    // server_start: which process
	Previous Hash   `json:"previous,omitzero"`  // server_start: hash of the record before
	Torn     int64  `json:"torn,omitzero"`      // server_start: bytes after the last whole record of the segment before
	KeptFrom uint64 `json:"kept_from,omitzero"` // retention: the first record that is kept

	Hash Hash `json:"hash,omitzero"` // set by the log
}

// Hash is SHA-256 over the hash of the record before, as 64 hexadecimal
// digits, and the line up to the comma before its own "hash". The record
// before the first one counts as having the zero Hash.
type Hash [sha256.Size]byte

// String returns 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether all bytes are zero.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText returns 64 lower-case hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(h)) {
		return fmt.Errorf("hash of %d digits", len(b))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// seqBits is how long a number of a record may be, so that counting on from
// any that was read does not overflow.
const seqBits = 62

// Position names a record by its number and hash. The zero Position is the
// beginning of a log, before the first record.
type Position struct {
	Seq  uint64
	Hash Hash
}

// String returns the form that [ParsePosition] reads, such as 17:9f3a...
func (p Position) String() string { return strconv.FormatUint(p.Seq, 10) + ":" + p.Hash.String() }

// ParsePosition reads a position.
func ParsePosition(s string) (p Position, err error) {
	seq, hash, ok := strings.Cut(s, ":")
	if p.Seq, err = strconv.ParseUint(seq, 10, seqBits); err != nil || !ok {
		return Position{}, fmt.Errorf("%q is not a record's number and hash, such as 17:9f3a...", s)
	}
	if err := p.Hash.UnmarshalText([]byte(hash)); err != nil {
		return Position{}, fmt.Errorf("%q: %w", s, err)
	}
	return p, nil
}

// Off records nothing. It stands for a log that the operator has switched
// off.
type Off struct{}

// Record does nothing.
func (Off) Record(context.Context, *Record) error { return nil }
