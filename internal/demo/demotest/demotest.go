// Package demotest runs a key server with the demo's streams, and a browser,
// for tests. The browser is Debian's chromium, which scripts/testdeps.sh
// installs.
package demotest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"spekeasy/encryptor"
	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/demo"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/playback"
	"spekeasy/internal/store/sqlite"
	"spekeasy/internal/tenant"
)

// Server is a key server that runs.
type Server struct {
	URL     string
	App     *app.App
	Demo    *demo.Demo
	Tenant  *tenant.Tenant // dev, whose the streams are
	Secrets *playback.Secrets
	Mux     *http.ServeMux // takes more handlers
}

// Start starts a server, whose configuration is that of `serve --dev` after
// change, until the end of the test.
func Start(t testing.TB, change func(*config.Config)) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{URL: "http://" + l.Addr().String(), Mux: http.NewServeMux()}
	c := config.Dev(l.Addr().String(), filepath.Join(t.TempDir(), "data"), s.URL)
	if change != nil {
		change(c)
	}
	s.App, err = app.New(t.Context(), c, backends(), "spekeasy/test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Mux.Handle("/", s.App.Handler)
	s.App.Handler = s.Mux
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.App.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := s.App.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if s.Tenant, err = c.Tenants[0].Build(); err != nil {
		t.Fatal(err)
	}
	s.Secrets = playback.NewSecrets(s.App.Keystore)
	s.Demo, err = demo.New(t.Context(), demo.Options{
		URL: s.URL, Version: "test", Tenant: s.Tenant, Secrets: s.Secrets, Now: time.Now,
		Client: &encryptor.Client{URL: s.URL + "/speke/v2.0/copyProtection", Auth: encryptor.Basic("dev", "dev")},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range s.Demo.Patterns() {
		s.Mux.Handle(pattern, s.Demo)
	}
	return s
}

func backends() app.Backends {
	return app.Backends{
		Stdout: io.Discard,
		Stores: map[string]app.OpenStore{"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
			return sqlite.Open(ctx, u.Path, sqlite.Options{Log: log})
		}},
		KeyManagers: map[string]app.OpenKeyManager{"file": func(_ context.Context, u *url.URL, create bool) (keystore.KeyManager, error) {
			if create {
				if err := filekey.Create(u.Path, time.Now()); err != nil {
					return nil, err
				}
			}
			return filekey.Open(u.Path)
		}},
	}
}

// patience is how long a browser may take for one thing on a busy machine.
const patience = time.Minute

// Browser starts a browser with a window of the given size, until the end of
// the test. The context is for package chromedp.
func Browser(t testing.TB, width, height int) context.Context {
	t.Helper()
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		chromedp.ExecPath("chromium"), chromedp.Headless, chromedp.NoSandbox, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.DisableGPU,
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(width, height), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("autoplay-policy", "no-user-gesture-required"), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// Eval returns the value of an expression in the page.
func Eval[T any](t testing.TB, ctx context.Context, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Wait waits until an expression in the page is true. It asks again and again
// from here, since a script that waits in the page may belong to the page
// before.
func Wait(t testing.TB, ctx context.Context, expression string) {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		is, err := chromedp.Run(limited, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if is && err == nil {
			return
		}
		select {
		case <-limited.Done():
			said, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText.slice(0, 2000)`)) // may be gone
			t.Fatalf("%s: not so after %s, %v; the page says\n%s", expression, patience, err, said)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Open opens an address.
func Open(t testing.TB, ctx context.Context, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}
