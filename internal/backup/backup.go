// Package backup writes all that a store keeps into one encrypted file,
// verifies such a file, and restores it into an empty store of any kind.
//
// Content keys and data keys are in the file as they are in the store:
// wrapped. To open them takes the KEK as well, which is never in a backup.
//
// The file is an age file (age-encryption.org/v1) that holds a gzip stream of
// JSON lines:
//
//	{"spekeasy_backup":1,"created":...,"program":...}
//	{"data_key":{...}}            of a tenant, then
//	{"binding":{...}}             its bindings, then
//	{"key":{...}}                 its records, data keys that are new by now between them
//	{"document":{...}}            tenants, credentials and admins, after all of those
//	{"end":{"data_keys":n,"bindings":n,"keys":n,"documents":n,"sha256":...}}
//
// where the digest is over all lines before the last one. A backup is made
// while the store is in use. It holds everything that was there when it
// began, and of what came later whole parts: each binding has its record,
// each record its data key.
package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Version is the format that this program writes, and the newest that it
// reads.
const Version = 2

// Source is a store that can be backed up.
type Source interface {
	keystore.Store
	keystore.Pager
}

// Header is how a backup begins.
type Header struct {
	Version int       `json:"spekeasy_backup"`
	Created time.Time `json:"created"`
	Program string    `json:"program"` // that wrote it, with its version
}

// Counts are the numbers of rows of a backup.
type Counts struct {
	DataKeys int `json:"data_keys"`
	Bindings int `json:"bindings"`
	Keys     int `json:"keys"`

	Documents int `json:"documents,omitempty"` // tenants, credentials and admins, deleted ones included
}

// ErrNotFounded reports a store in which no keys were ever kept.
var ErrNotFounded = errors.New("no keys were ever kept in this store")

// line is one line of a backup; one member is set.
type line struct {
	*Header
	DataKey *dataKey `json:"data_key,omitempty"`
	Binding *binding `json:"binding,omitempty"`
	Key     *record  `json:"key,omitempty"`
	End     *end     `json:"end,omitempty"`

	Document *document `json:"document,omitempty"`
}

type dataKey struct {
	Tenant  string    `json:"tenant"`
	ID      uint32    `json:"id"`
	KEK     string    `json:"kek"`
	Wrapped []byte    `json:"wrapped"`
	Created time.Time `json:"created"`
}

type record struct {
	Tenant    string            `json:"tenant"`
	KID       contentkey.KID    `json:"kid"`
	Wrapped   []byte            `json:"wrapped"`
	DataKey   uint32            `json:"data_key"`
	Source    string            `json:"source"`
	ContentID string            `json:"content_id,omitempty"`
	Scheme    contentkey.Scheme `json:"scheme,omitempty"`
	Created   time.Time         `json:"created"`
	Deleted   time.Time         `json:"deleted,omitzero"`
}

type binding struct {
	Tenant    string            `json:"tenant"`
	ContentID string            `json:"content_id"`
	Requested contentkey.KID    `json:"requested"`
	KID       contentkey.KID    `json:"kid"`
	Track     string            `json:"track,omitempty"`
	Scheme    contentkey.Scheme `json:"scheme,omitempty"`
	Period    period            `json:"period,omitzero"`
	Profile   string            `json:"profile,omitempty"`
	Systems   []string          `json:"systems,omitempty"`
	IV        string            `json:"iv,omitempty"`
	FirstSeen time.Time         `json:"first_seen"`
	LastSeen  time.Time         `json:"last_seen,omitzero"`
}

type period struct {
	ID    string `json:"id,omitempty"`
	Index string `json:"index,omitempty"`
	Start string `json:"start,omitempty"`
	End   string `json:"end,omitempty"`
}

type end struct {
	Counts
	SHA256 string `json:"sha256"`
}

// Write writes a backup of the store, encrypted to the recipients, and
// returns what is in it. It needs no KEK. progress, which may be nil, is
// called now and then.
func Write(ctx context.Context, store Source, h Header, w io.Writer, to []age.Recipient, progress func(Counts)) (Counts, error) {
	custody, err := store.DataKeys(ctx, keystore.CustodyTenant)
	if err != nil {
		return Counts{}, fmt.Errorf("custody record: %w", err)
	}
	if len(custody) == 0 {
		return Counts{}, ErrNotFounded
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return Counts{}, fmt.Errorf("encrypting: %w", err)
	}
	zipped, err := gzip.NewWriterLevel(sealed, gzip.BestSpeed)
	if err != nil {
		return Counts{}, err
	}
	out := &writer{store: store, w: bufio.NewWriterSize(zipped, 64<<10), hash: sha256.New(), progress: progress, known: make(map[string]map[uint32]bool)}
	h.Version, h.Created = Version, h.Created.UTC()
	if err := out.all(ctx, &h); err != nil {
		return Counts{}, err
	}
	return out.counts, errors.Join(out.w.Flush(), zipped.Close(), sealed.Close())
}

// writer is a backup under way.
type writer struct {
	store    Source
	w        *bufio.Writer
	hash     hash.Hash
	counts   Counts
	progress func(Counts)
	known    map[string]map[uint32]bool // data keys that are written, by tenant
}

func (o *writer) all(ctx context.Context, h *Header) error {
	if err := o.line(&line{Header: h}); err != nil {
		return err
	}
	for tenant, err := range keystore.Tenants(ctx, o.store) {
		if err == nil {
			err = o.tenant(ctx, tenant)
		}
		if err != nil {
			return err
		}
	}
	if err := o.documents(ctx); err != nil {
		return err
	}
	return o.line(&line{End: &end{o.counts, hex.EncodeToString(o.hash.Sum(nil))}})
}

// tenant writes the rows of one tenant: bindings before records, so that none
// is written whose record is not; data keys before the records under them.
func (o *writer) tenant(ctx context.Context, tenant string) error {
	known := make(map[uint32]bool)
	o.known[tenant] = known
	if err := o.dataKeys(ctx, tenant, known); err != nil {
		return err
	}
	for page, err := range keystore.BindingPages(ctx, o.store, tenant, keystore.BindingFilter{}) {
		if err != nil {
			return err
		}
		for i := range page {
			if err := o.line(&line{Binding: fromBinding(&page[i])}); err != nil {
				return fmt.Errorf("binding of content key %s: %w", page[i].KID, err)
			}
		}
		o.counts.Bindings += len(page)
		o.tell()
	}
	for page, err := range keystore.RecordPages(ctx, o.store, tenant) {
		if err != nil {
			return err
		}
		for i := range page {
			if !known[page[i].DataKey] { // a rotation has begun since
				if err := o.dataKeys(ctx, tenant, known); err != nil {
					return err
				}
			}
			if !known[page[i].DataKey] {
				return fmt.Errorf("content key %s: data key %d: %w", page[i].KID, page[i].DataKey, keystore.ErrNoDataKey)
			}
			if err := o.line(&line{Key: fromRecord(&page[i])}); err != nil {
				return fmt.Errorf("content key %s: %w", page[i].KID, err)
			}
		}
		o.counts.Keys += len(page)
		o.tell()
	}
	return nil
}

// dataKeys writes the data keys of a tenant that were not written yet.
func (o *writer) dataKeys(ctx context.Context, tenant string, known map[uint32]bool) error {
	rows, err := o.store.DataKeys(ctx, tenant)
	if err != nil {
		return fmt.Errorf("data keys of %s: %w", tenant, err)
	}
	for _, row := range rows {
		if known[row.ID] {
			continue
		}
		known[row.ID] = true
		d := dataKey(row)
		if err := o.line(&line{DataKey: &d}); err != nil {
			return fmt.Errorf("data key %d of %s: %w", row.ID, tenant, err)
		}
		o.counts.DataKeys++
	}
	return nil
}

func (o *writer) tell() {
	if o.progress != nil {
		o.progress(o.counts)
	}
}

func (o *writer) line(l *line) error {
	b, err := encode(l)
	if err != nil {
		return err
	}
	o.hash.Write(b)
	_, err = o.w.Write(b)
	return err
}

// errText reports a text that JSON cannot hold as it is.
var errText = errors.New("it has a text that is not UTF-8")

func encode(l *line) ([]byte, error) {
	for _, s := range l.texts() {
		if !utf8.ValidString(s) {
			return nil, errText
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(l)
	return b.Bytes(), err
}

func (l *line) texts() []string {
	switch {
	case l.Key != nil:
		return []string{l.Key.ContentID, l.Key.Source}
	case l.Binding != nil:
		b := l.Binding
		return append([]string{b.ContentID, b.Track, b.Period.ID, b.Period.Index, b.Period.Start, b.Period.End, b.Profile, b.IV}, b.Systems...)
	default:
		return nil
	}
}

func fromRecord(r *keystore.Record) *record {
	c := record(*r)
	return &c
}

func fromBinding(b *keystore.Binding) *binding {
	return &binding{
		Tenant: b.Tenant, ContentID: b.ContentID, Requested: b.Requested, KID: b.KID, Track: b.Track, Scheme: b.Scheme,
		Period: period(b.Period), Profile: b.Profile, Systems: b.Systems, IV: b.IV, FirstSeen: b.FirstSeen, LastSeen: b.LastSeen,
	}
}

func (b *binding) binding() keystore.Binding {
	return keystore.Binding{
		Tenant: b.Tenant, ContentID: b.ContentID, Requested: b.Requested, KID: b.KID, Track: b.Track, Scheme: b.Scheme,
		Period: contentkey.Period(b.Period), Profile: b.Profile, Systems: b.Systems, IV: b.IV, FirstSeen: b.FirstSeen, LastSeen: b.LastSeen,
	}
}
