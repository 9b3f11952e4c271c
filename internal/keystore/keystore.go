// Package keystore is the only way to a content key: it returns the key of a
// key ID or creates it, records who asked for it, and keeps all keys wrapped
// at rest.
//
// A content key is identified by tenant and key ID and never changes. Which
// content, track, scheme and period asked for it is a [Binding], recorded
// beside it before the key is handed out. Keys, IVs and bindings live in a
// [Store]; racing requests, restarts and several processes on one database
// agree because the store creates a key only if it is absent, and everybody
// hands out what is stored.
//
// Content keys are sealed with AES-256-GCM under a data key of their tenant,
// bound to tenant, key ID and purpose. Data keys are wrapped by a KEK that
// stays with a [KeyManager], which is asked once per data key and process.
package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"spekeasy/contentkey"
)

// Ask is one request for content keys.
type Ask struct {
	Tenant    string            // whose keys; see [CheckTenant]
	ContentID string            // the encryptor's name for the content
	Profile   string            // SPEKE version of the request, "1.0", "2.0" or "2.1", or what else was spoken
	Scheme    contentkey.Scheme // zero for none
	Source    Source            // makes the keys that do not exist yet; nil means Random
	Reuse     ReusePolicy
	Wants     []Want

	// Admit is asked before new keys are made, with their number; its error
	// refuses the request. nil admits all.
	Admit func(n int) error
}

// Want is one content key of an [Ask].
type Want struct {
	Requested contentkey.KID // as in the request
	KID       contentkey.KID // as answered; differs under a KID override
	IV        contentkey.IV  // the request's explicitIV
	HasIV     bool           // whether there was one
	Uses      []Use          // without any, the binding has no track and period
	Systems   []string       // system IDs asked for, lower case
}

// Use is a track and key period that a content key is asked for.
type Use struct {
	Track  string // intendedTrackType, "" in SPEKE v1
	Period contentkey.Period
}

// ReusePolicy says what happens when a key ID that has a key is asked for
// again under other circumstances. The zero value allows and reports it.
type ReusePolicy struct {
	RefuseKID    bool // under another content ID
	RefuseScheme bool // under another common encryption scheme
}

// Key is a content key with what its request should know about it.
type Key struct {
	KID     contentkey.KID
	Value   contentkey.Value
	IV      contentkey.IV // the IV stored with the key: the first one seen or made
	Created bool          // this call created the key

	OtherIV      bool // the request's explicitIV is not the stored IV
	OtherContent bool // the key was first asked for under another content ID
	OtherScheme  bool // the key was first asked for under another scheme
}

// Format hides the key. Its type does so too, but fmt does not ask the type of
// a member when it is given a verb that does not fit a pointer around it.
func (k Key) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "(content key %s, created %t, other IV %t, content %t, scheme %t)",
		k.KID, k.Created, k.OtherIV, k.OtherContent, k.OtherScheme)
}

// ErrNotFound reports a key ID that has no key.
var ErrNotFound = errors.New("no such content key")

// ErrClosed reports a call after [Keystore.Close].
var ErrClosed = fmt.Errorf("the keystore is closed: %w", ErrUnavailable)

// ReuseError reports a key ID that its tenant's [ReusePolicy] refuses. No key
// of the request was handed out.
type ReuseError struct {
	KID    contentkey.KID
	Scheme bool // another scheme, not another content ID
}

func (e *ReuseError) Error() string {
	if e.Scheme {
		return fmt.Sprintf("key ID %s is in use under another common encryption scheme", e.KID)
	}
	return fmt.Sprintf("key ID %s is in use under another content ID", e.KID)
}

// Options are the settings of a [Keystore]; each has a usable zero value.
type Options struct {
	// CacheBytes bounds the memory for opened content keys and for the
	// bindings that are known to be recorded. Zero means 16 MiB, enough for
	// some 20,000 keys. A negative value keeps no opened content keys: each
	// request then reads and unwraps its keys; bindings are still known.
	CacheBytes int

	// CacheLifetime is how long an opened key is used without reading it
	// again, and so how long another process may take to notice a deletion.
	// Zero means 5 minutes.
	CacheLifetime time.Duration

	// FlushEvery is how often the last-seen times of known bindings are
	// written. Zero means 5 seconds.
	FlushEvery time.Duration

	// KeyManagerTimeout bounds the opening of a data key, the database's part
	// included. Zero means 10 seconds.
	KeyManagerTimeout time.Duration

	// Observe is told of every call of the database and the key manager, in
	// the goroutine and with the context of the call. nil for nobody.
	Observe func(context.Context, Call)

	Clock func() time.Time // nil means time.Now
	Log   *slog.Logger     // nil discards
}

// Keystore hands out content keys. It may be used concurrently.
type Keystore struct {
	store    Store
	clock    func() time.Time
	log      *slog.Logger
	dataKeys *dataKeys
	cache    *cache
	counts   counts
	mostNew  atomic.Bool // the latest keys that were read did not exist

	closed  atomic.Bool
	stop    func()         // ends the background flush
	flusher sync.WaitGroup // the background flush
	flushMu sync.Mutex     // one flush at a time
}

// Open returns a keystore over a store and a key manager. It asks the key
// manager to open the store's custody record, or founds the store with one,
// and returns [ErrWrongKEK] when that does not open; see [Founded].
func Open(ctx context.Context, store Store, kek KeyManager, o Options) (*Keystore, error) {
	if o.CacheLifetime == 0 {
		o.CacheLifetime = 5 * time.Minute
	}
	if o.FlushEvery == 0 {
		o.FlushEvery = 5 * time.Second
	}
	if o.KeyManagerTimeout == 0 {
		o.KeyManagerTimeout = 10 * time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observe != nil {
		store = &observed{store, o.Clock, o.Observe}
	}
	k := &Keystore{
		store: store,
		clock: o.Clock,
		log:   o.Log,
		dataKeys: &dataKeys{
			store: store, kek: kek, clock: o.Clock, timeout: o.KeyManagerTimeout, observe: o.Observe,
			tenants: make(map[string]*tenantKeys),
		},
		cache: newCache(o.CacheBytes, o.CacheLifetime),
	}
	if err := k.dataKeys.verify(ctx); err != nil {
		return nil, err
	}
	flushing, stop := context.WithCancel(context.WithoutCancel(ctx))
	k.stop = stop
	k.flusher.Go(func() { k.flushEvery(flushing, o.FlushEvery) })
	return k, nil
}

// Close writes the last-seen times that are due, wipes every content key from
// memory and drops the data keys. The store stays open.
func (k *Keystore) Close(ctx context.Context) error {
	if k.closed.Swap(true) {
		return nil
	}
	k.stop()
	k.flusher.Wait()
	err := k.Flush(ctx)
	k.cache.wipe()
	k.dataKeys.forget()
	return err
}

// Format hides what the keystore holds.
func (*Keystore) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(keystore)") }
