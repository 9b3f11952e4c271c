package keystore_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/store/sqlite"
)

// fixture is a keystore over a real database file, with its store and key
// manager watched and its clock set by hand.
type fixture struct {
	t    testing.TB
	path string
	db   *sqlite.DB
	spy  *spy
	kek  *manager
	now  atomic.Int64 // microseconds
	opt  keystore.Options
	*keystore.Keystore
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

func start(t testing.TB, opt keystore.Options) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "keys.db"), opt: opt}
	f.now.Store(noon.UnixMicro())
	f.kek = &manager{KeyManager: ring(t, 1)}
	f.open()
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	db, err := sqlite.Open(f.t.Context(), f.path, sqlite.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { db.Close() })
	f.db, f.spy = db, &spy{Store: db}
	f.openKeystore()
}

// openKeystore opens one more keystore over the same store.
func (f *fixture) openKeystore() {
	f.t.Helper()
	opt := f.opt
	if opt.Clock == nil {
		opt.Clock = func() time.Time { return time.UnixMicro(f.now.Load()) }
	}
	k, err := keystore.Open(f.t.Context(), f.spy, f.kek, opt)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { k.Close(context.Background()) })
	f.Keystore = k
}

// restart ends the process, as far as the keystore can tell.
func (f *fixture) restart() {
	f.t.Helper()
	if err := f.Close(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	if err := f.db.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

func (f *fixture) advance(d time.Duration) { f.now.Add(d.Microseconds()) }

func (f *fixture) obtain(ask *keystore.Ask) []keystore.Key {
	f.t.Helper()
	keys, err := f.Obtain(f.t.Context(), ask)
	if err != nil {
		f.t.Fatalf("Obtain: %v", err)
	}
	if len(keys) != len(ask.Wants) {
		f.t.Fatalf("%d keys for %d wants", len(keys), len(ask.Wants))
	}
	return keys
}

// bindings returns all bindings of the tenant acme, by key IDs, content and
// track.
func (f *fixture) bindings() []keystore.Binding {
	f.t.Helper()
	all, _, err := f.db.PageBindings(f.t.Context(), "acme", keystore.BindingFilter{}, "", 1000)
	if err != nil {
		f.t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b keystore.Binding) int {
		return cmp.Or(bytes.Compare(a.KID[:], b.KID[:]), bytes.Compare(a.Requested[:], b.Requested[:]),
			cmp.Compare(a.ContentID, b.ContentID), cmp.Compare(a.Track, b.Track))
	})
	return all
}

// stored returns the record of a key of the tenant acme, or nil.
func (f *fixture) stored(kid contentkey.KID) *keystore.Record {
	f.t.Helper()
	all, err := f.db.Keys(f.t.Context(), "acme", []contentkey.KID{kid})
	if err != nil {
		f.t.Fatal(err)
	}
	if len(all) == 0 {
		return nil
	}
	return &all[0]
}

// kid returns a key ID for a number.
func kid(n int) contentkey.KID {
	return contentkey.KID{0: 0xab, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
}

// ask returns a request of the tenant acme for one track and key ID each.
func ask(contentID string, kids ...contentkey.KID) *keystore.Ask {
	a := &keystore.Ask{Tenant: "acme", ContentID: contentID, Profile: "2.0", Scheme: contentkey.Cbcs}
	for i, k := range kids {
		a.Wants = append(a.Wants, keystore.Want{
			Requested: k, KID: k,
			Uses:    []keystore.Use{{Track: []string{"VIDEO", "AUDIO"}[i%2]}},
			Systems: []string{"edef8ba9-79d6-4ace-a3c8-27dcd51d21ed", "94ce86fb-07ff-4f43-adb8-93d2fa968ca2"},
		})
	}
	return a
}

// bytesAsString returns a string that shares the memory of b, as a parser of
// pooled buffers may return.
func bytesAsString(b []byte) string { return unsafe.String(&b[0], len(b)) }

// ring returns a key manager with one KEK made of the given byte.
func ring(t testing.TB, b byte) keystore.KeyManager {
	t.Helper()
	uri := &url.URL{Scheme: "env", Opaque: "KEK"}
	r, err := envkey.Open(uri, func(string) (string, bool) {
		return fmt.Sprintf("kek-%d:%s", b, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))), true
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// manager counts calls, and fails or waits when told to.
type manager struct {
	keystore.KeyManager
	wraps, unwraps atomic.Int64
	fail           atomic.Pointer[error]
	wait           chan struct{} // holds calls until it is closed; nil holds none
}

func (m *manager) Wrap(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	m.wraps.Add(1)
	if err := m.held(ctx); err != nil {
		return nil, err
	}
	return m.KeyManager.Wrap(ctx, plaintext, aad)
}

func (m *manager) Unwrap(ctx context.Context, keyID string, ciphertext, aad []byte) ([]byte, error) {
	m.unwraps.Add(1)
	if err := m.held(ctx); err != nil {
		return nil, err
	}
	return m.KeyManager.Unwrap(ctx, keyID, ciphertext, aad)
}

func (m *manager) held(ctx context.Context) error {
	if m.wait != nil {
		select {
		case <-m.wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := m.fail.Load(); err != nil {
		return *err
	}
	return nil
}

// spy counts the calls of a store, and changes or fails them when told to.
type spy struct {
	keystore.Store
	mu      sync.Mutex
	calls   []string
	fail    func(method string) error
	records func([]keystore.Record) // edits what is read
}

func (s *spy) called(method string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, method)
	if s.fail != nil {
		return s.fail(method)
	}
	return nil
}

// taken returns the methods that were called since it was last asked.
func (s *spy) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *spy) Keys(ctx context.Context, tenant string, kids []contentkey.KID) ([]keystore.Record, error) {
	if err := s.called("Keys"); err != nil {
		return nil, err
	}
	all, err := s.Store.Keys(ctx, tenant, kids)
	if s.records != nil {
		s.records(all)
	}
	return all, err
}

func (s *spy) Commit(ctx context.Context, keys []keystore.Record, bindings []keystore.Binding) ([]keystore.Record, error) {
	if err := s.called("Commit"); err != nil {
		return nil, err
	}
	return s.Store.Commit(ctx, keys, bindings)
}

func (s *spy) DataKeys(ctx context.Context, tenant string) ([]keystore.DataKey, error) {
	if err := s.called("DataKeys"); err != nil {
		return nil, err
	}
	return s.Store.DataKeys(ctx, tenant)
}

func (s *spy) CreateDataKey(ctx context.Context, k keystore.DataKey) (keystore.DataKey, error) {
	if err := s.called("CreateDataKey"); err != nil {
		return keystore.DataKey{}, err
	}
	return s.Store.CreateDataKey(ctx, k)
}
