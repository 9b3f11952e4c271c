package ops_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"spekeasy/internal/ops"
)

func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

// fallible is a check that fails as long as it is told to.
type fallible struct {
	mu  sync.Mutex
	err error
	n   int
}

func (f *fallible) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fallible) run(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	return f.err
}

// Readiness follows what a server cannot do without; the rest is only told.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store, kek fallible
		told := map[string]bool{}
		var mu sync.Mutex
		h := ops.NewHealth([]ops.Check{
			{Name: "store", Every: 5 * time.Second, Run: store.run},
			{Name: "key_manager", Every: 30 * time.Second, Degrades: true, Run: kek.run},
		}, ops.Options{Tell: func(name string, ok bool) {
			mu.Lock()
			defer mu.Unlock()
			told[name] = ok
		}})
		mux := ops.NewMux(h, http.NotFoundHandler(), false)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.Run(ctx) })
		want := func(status int, text string) {
			t.Helper()
			synctest.Wait()
			if code, body := get(t, mux, "GET", "/readyz"); code != status || body != text {
				t.Errorf("%d %q, want %d %q", code, body, status, text)
			}
		}
		want(200, "ready\nstore ok\nkey_manager ok\n")

		secret := errors.New("postgres://user:hunter2@db refused")
		store.set(secret)
		kek.set(secret)
		time.Sleep(5 * time.Second)
		want(503, "not ready\nstore failing\nkey_manager ok\n")
		if code, body := get(t, mux, "GET", "/livez"); code != 200 || body != "alive\n" {
			t.Errorf("livez: %d %s", code, body)
		}
		store.set(nil)
		time.Sleep(25 * time.Second)
		want(200, "ready\nstore ok\nkey_manager failing\n")
		mu.Lock()
		if !told["store"] || told["key_manager"] {
			t.Errorf("told %v", told)
		}
		mu.Unlock()
		h.Drain()
		want(503, "draining\nstore ok\nkey_manager failing\n")

		for range 100 {
			get(t, mux, "GET", "/readyz")
		}
		if kek.n != 2 {
			t.Errorf("the key manager was asked %d times in 30 s", kek.n)
		}
		stop()
		running.Wait()
	})
}

func TestMethods(t *testing.T) {
	mux := ops.NewMux(ops.NewHealth(nil, ops.Options{}), http.NotFoundHandler(), true)
	for _, path := range []string{"/livez", "/readyz"} {
		for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "DELETE": 405} {
			if code, _ := get(t, mux, method, path); code != want {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
}

// hold has a key as an argument on its stack while somebody looks.
//
//go:noinline
func hold(key [16]byte, ready chan<- struct{}, end <-chan struct{}) byte {
	close(ready)
	<-end
	return key[len(ready)%16]
}

// Profiles are there when asked for, and none shows the values of arguments.
func TestProfiles(t *testing.T) {
	h := ops.NewHealth(nil, ops.Options{})
	if code, _ := get(t, ops.NewMux(h, http.NotFoundHandler(), false), "GET", "/debug/pprof/"); code != 404 {
		t.Errorf("profiles that were not asked for: %d", code)
	}
	mux := ops.NewMux(h, http.NotFoundHandler(), true)
	srv := httptest.NewServer(mux)
	defer srv.Close()
	ready, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	go hold([16]byte{0xa1, 0xb2, 0xc3, 0xd4, 0xe5}, ready, end)
	<-ready
	for path, want := range map[string]int{
		"/debug/pprof/": 200, "/debug/pprof/goroutine?debug=1": 200, "/debug/pprof/heap": 200, "/debug/pprof/goroutine?debug=2": 403,
		"/debug/pprof/goroutine?debug=3": 403, "/debug/pprof/profile?seconds=1": 200, "/debug/pprof/cmdline": 404,
	} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != want {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
		if strings.Contains(string(body), "0xa1") {
			t.Errorf("%s shows arguments", path)
		}
	}
}
