package keystore

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// newest stands for the data key that seals new rows; IDs count from 1.
const newest = 0

// Times that let a rotation know when nobody seals under an old data key any
// more, without asking the other processes.
const (
	// newestLifetime is how long a process goes on sealing under a tenant's
	// newest data key without asking the store whether there is a newer one.
	newestLifetime = time.Minute

	// commitWithin is how long after its beginning a request may still store
	// what it sealed.
	commitWithin = 10 * time.Minute

	// removeAfter is how long a data key must have been superseded before it
	// is removed: more than the two together, and clocks that differ.
	removeAfter = time.Hour
)

// dataKey is an opened data key.
type dataKey struct {
	id   uint32
	aead cipher.AEAD
}

func newDataKey(id uint32, raw []byte) (*dataKey, error) {
	if len(raw) != dataKeySize {
		return nil, fmt.Errorf("data key %d: %w: %d bytes", id, ErrCorrupt, len(raw))
	}
	aead, err := newAEAD(raw)
	if err != nil {
		return nil, err
	}
	return &dataKey{id, aead}, nil
}

// dataKeys opens data keys and keeps them. One call opens a key for all who
// wait for it.
type dataKeys struct {
	store   Store
	kek     KeyManager
	clock   func() time.Time
	timeout time.Duration
	observe func(context.Context, Call) // nil for nobody

	calls, failures atomic.Uint64
	nanos           atomic.Int64

	mu      sync.Mutex
	tenants map[string]*tenantKeys
}

type tenantKeys struct {
	byID    map[uint32]*dataKey
	newest  *dataKey  // seals new rows; nil until somebody needed it
	asked   time.Time // when it was the newest in the store
	opening *opening  // under way
}

func (t *tenantKeys) find(id uint32, now time.Time) *dataKey {
	if id != newest {
		return t.byID[id]
	}
	if age := now.Sub(t.asked); age < 0 || age >= newestLifetime {
		return nil
	}
	return t.newest
}

type opening struct {
	id   uint32 // as asked for
	done chan struct{}
	err  error // valid once done is closed
}

// get returns the data key of a tenant, or with id newest the one that seals
// new rows, which it creates when there is none.
func (d *dataKeys) get(ctx context.Context, tenant string, id uint32) (*dataKey, error) {
	for {
		d.mu.Lock()
		t := d.tenants[tenant]
		if t == nil {
			t = &tenantKeys{byID: make(map[uint32]*dataKey)}
			d.tenants[tenant] = t
		}
		if key := t.find(id, d.clock()); key != nil {
			d.mu.Unlock()
			return key, nil
		}
		o := t.opening
		if o == nil {
			o = &opening{id: id, done: make(chan struct{})}
			t.opening = o
			// Others may wait for it, so it outlives the request that began it.
			go d.open(context.WithoutCancel(ctx), tenant, t, o)
		}
		d.mu.Unlock()

		select {
		case <-o.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the key manager: %w", ctx.Err())
		}
		if o.err != nil && o.id == id {
			return nil, o.err
		}
	}
}

func (d *dataKeys) open(ctx context.Context, tenant string, t *tenantKeys, o *opening) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	asked := d.clock()
	key, err := d.load(ctx, tenant, t, o.id)

	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		t.byID[key.id] = key
		if o.id == newest {
			t.newest, t.asked = key, asked
		} else if t.newest != nil && key.id > t.newest.id {
			t.newest = key // another process has rotated it
		}
	}
	o.err = err
	t.opening = nil
	close(o.done)
}

func (d *dataKeys) load(ctx context.Context, tenant string, t *tenantKeys, id uint32) (*dataKey, error) {
	rows, err := d.store.DataKeys(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("data keys of %s: %w", tenant, err)
	}
	if id == newest {
		if len(rows) == 0 {
			return d.create(ctx, tenant, 1)
		}
		id = rows[len(rows)-1].ID
	}
	d.mu.Lock()
	known := t.byID[id]
	d.mu.Unlock()
	if known != nil {
		return known, nil
	}
	for i := range rows {
		if rows[i].ID == id {
			return d.unwrap(ctx, &rows[i])
		}
	}
	return nil, fmt.Errorf("data key %d of %s: %w: %w", id, tenant, ErrCorrupt, ErrNoDataKey)
}

// renew makes the next one who seals ask the store for the newest data key.
func (d *dataKeys) renew(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tenants[tenant]; t != nil {
		t.newest = nil
	}
}

// forget drops every opened data key.
func (d *dataKeys) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tenants)
}

// late makes an outage of a deadline that passed: what was waited for did not
// answer in time.
func late(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
