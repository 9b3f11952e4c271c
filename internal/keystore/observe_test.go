package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"spekeasy/internal/keystore"
)

// Whoever observes a keystore is told of each call, with how it ended.
func TestCallsAreObserved(t *testing.T) {
	var mu sync.Mutex
	var calls []string
	observe := func(_ context.Context, c keystore.Call) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, fmt.Sprintf("%s %t", c.Op, c.Err == nil))
	}
	taken := func() string {
		mu.Lock()
		defer mu.Unlock()
		defer func() { calls = nil }()
		return strings.Join(calls, ", ")
	}
	f := start(t, keystore.Options{Observe: observe})
	if got := taken(); got != "data_keys true, wrap true, create_data_key true" {
		t.Errorf("founding: %s", got)
	}
	f.obtain(ask("movie", kid(1)))
	if got := taken(); got != "keys true, data_keys true, wrap true, create_data_key true, commit true" {
		t.Errorf("the first key: %s", got)
	}
	f.obtain(ask("movie", kid(1)))
	if got := taken(); got != "" {
		t.Errorf("a known key: %s", got)
	}
	outage := errors.New("no route to host")
	f.kek.fail.Store(&outage)
	a := ask("movie", kid(2))
	a.Tenant = "other"
	if _, err := f.Obtain(t.Context(), a); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("Obtain: %v", err)
	}
	if got := taken(); !strings.HasSuffix(got, "wrap false") {
		t.Errorf("with the key manager down: %s", got)
	}
}

// What readiness asks for goes all the way, and never makes anything.
func TestChecks(t *testing.T) {
	f := start(t, keystore.Options{Observe: func(context.Context, keystore.Call) {}})
	if founded, err := f.CheckStore(t.Context()); err != nil || !founded.Equal(noon) {
		t.Errorf("CheckStore: %v, %v", founded, err)
	}
	if err := f.CheckKeyManager(t.Context()); err != nil {
		t.Errorf("CheckKeyManager: %v", err)
	}
	outage := errors.New("no route to host")
	f.kek.fail.Store(&outage)
	if err := f.CheckKeyManager(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("CheckKeyManager with it down: %v", err)
	}
	f.spy.mu.Lock()
	f.spy.fail = func(string) error { return keystore.ErrUnavailable }
	f.spy.mu.Unlock()
	if _, err := f.CheckStore(t.Context()); !errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("CheckStore with it down: %v", err)
	}
	if got := strings.Join(f.spy.taken(), " "); strings.Count(got, "Create") != 1 { // when it was founded
		t.Errorf("a check stored something: %s", got)
	}
}
