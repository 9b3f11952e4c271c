// Package app builds a server from its configuration and from the backends
// that main gives it, runs it, and takes it down again in order.
package app

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"spekeasy/internal/admin"
	"spekeasy/internal/audit"
	"spekeasy/internal/binding"
	"spekeasy/internal/config"
	"spekeasy/internal/gateway"
	"spekeasy/internal/h1"
	"spekeasy/internal/keyprovider"
	"spekeasy/internal/keystore"
	"spekeasy/internal/ops"
	"spekeasy/internal/packager"
	"spekeasy/internal/server"
)

// Backends are the technologies that a binary was built with, by the scheme
// of the URL that chooses them. A smaller binary is a smaller map.
type Backends struct {
	Stores      map[string]OpenStore
	Migrations  map[string]MigrateStore
	KeyManagers map[string]OpenKeyManager
	Stdout      io.Writer // takes the audit log when it is to go to standard output

	// Still means that the process stands still between requests, so that
	// nothing may be done in the background: no probes, and whoever runs it
	// has to call [App.Refresh], and Flush of the keystore.
	Still bool
}

// OpenStore opens a database.
type OpenStore func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error)

// MigrateStore brings the schema of a database up to date, and returns its
// version before and after. Opening a database does so only where it is
// embedded.
type MigrateStore func(ctx context.Context, u *url.URL, log *slog.Logger) (from, to int, err error)

// OpenKeyManager opens a key manager. create allows it to make its first KEK;
// it is given only when no key was ever kept.
type OpenKeyManager func(ctx context.Context, u *url.URL, create bool) (keystore.KeyManager, error)

// App is a built server.
type App struct {
	Config    *config.Config
	Store     *url.URL // where keys are kept
	KEK       *url.URL // what wraps their data keys
	Keystore  *keystore.Keystore
	Gateway   *gateway.Gateway // to the upstreams of tenants that have one
	Customers *Customers
	Handler   http.Handler
	TLS       *tls.Config // of the listener; nil for plain HTTP

	Health *ops.Health
	Admin  *http.ServeMux // of the admin listener, for more to be mounted on; nil without one

	AdminAPI *admin.API

	log       *slog.Logger
	audit     *audit.Log // nil when it is off
	store     keystore.Store
	watch     watch
	directory *directory
	listener  *listenerTLS // nil for plain HTTP
	admin     net.Listener
	close     []func(context.Context) error // in the order of opening
	onDrain   []func()                      // when no new requests come
	beside    []func(context.Context)       // run while serving
	hooks     *binding.Webhooks             // nil over a store without a feed
}

// New builds everything that the configuration asks for. The data directory
// is locked until [App.Close].
func New(ctx context.Context, c *config.Config, b Backends, userAgent string, log *slog.Logger) (app *App, err error) {
	a := &App{Config: c, log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := a.lockData(); err != nil {
		return nil, err
	}
	a.watching(userAgent)
	log = a.log
	o, err := a.openStore(ctx, b)
	if err != nil {
		return nil, err
	}
	audited, err := a.openAudit(b, o.Store, userAgent)
	if err != nil {
		return nil, err
	}
	if err := a.openKeystore(ctx, o, b.Still); err != nil {
		return nil, err
	}
	if a.Customers, err = NewCustomers(c, log); err != nil {
		return nil, err
	}
	seal := time.Duration(c.Sealing.Reuse)
	a.Gateway = gateway.New(a.Keystore, rand.Reader, time.Now, gateway.Options{SealFor: seal, Log: log, Alarm: a.alarm})
	a.onClose(a.Gateway.Close)
	if err := a.Customers.Tell(a.Gateway.Follow); err != nil {
		return nil, err
	}
	recorder := a.watch.recorded(audited)
	if err := a.openAdmin(ctx, b.Still, recorder, userAgent); err != nil {
		return nil, err
	}
	provider := &providers{keyprovider.New(a.Keystore, rand.Reader, time.Now, keyprovider.Options{SealFor: seal}), a.Gateway}
	s := server.New(a.Customers, a.Customers, provider, recorder, userAgent, log)
	s.Observe(a.watch.metrics, a.watch.tracer)
	if err := a.mountPlayback(s, recorder); err != nil {
		return nil, err
	}
	s.WithPackagers(packager.New(a.Keystore))
	if err := a.mountBindings(s); err != nil {
		return nil, err
	}
	a.Handler = s
	if a.listener, err = newListenerTLS(&c.TLS, a.Customers, log); err != nil {
		return nil, err
	}
	if a.listener != nil {
		a.TLS = a.listener.config()
		a.Handler = strictTransport(a.Handler)
	}
	a.watch.metrics.Keystore(a.Keystore.Stats)
	a.watch.metrics.Expiries(a.expiries)
	a.watch.metrics.Upstreams(a.upstreams)
	if !b.Still {
		a.openHealth(ctx)
		s.Health(http.HandlerFunc(ops.Live), http.HandlerFunc(a.Health.Ready))
	}
	return a, nil
}

// never is longer than any process lives.
const never = 100 * 365 * 24 * time.Hour

func (a *App) onClose(f func(context.Context) error) { a.close = append(a.close, f) }

func (a *App) lockData() error {
	if err := os.MkdirAll(a.Config.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	unlock, err := lockDirectory(a.Config.Data)
	if err != nil {
		return err
	}
	a.onClose(func(context.Context) error { return unlock() })
	return nil
}

// openStore opens the database, which may keep the audit log, too.
func (a *App) openStore(ctx context.Context, b Backends) (*Operator, error) {
	o, err := NewOperator(a.Config, b, a.log)
	if err != nil {
		return nil, err
	}
	a.onClose(o.Close)
	a.Store, a.KEK = o.StoreURL, o.KEKURL
	if err := o.OpenStore(ctx, true); err != nil {
		return nil, err
	}
	a.store = o.Store
	return o, nil
}

// openKeystore opens the key manager, then the keystore: whether a KEK may be
// made depends on whether the database was ever used.
func (a *App) openKeystore(ctx context.Context, o *Operator, still bool) (err error) {
	options := keystore.Options{CacheBytes: a.Config.Cache.Bytes, CacheLifetime: time.Duration(a.Config.Cache.Lifetime), Log: a.log, Observe: a.watch.call}
	if still {
		options.FlushEvery = never
	}
	if a.Config.Cache.Off {
		options.CacheBytes = -1
	}
	a.Keystore, err = o.Keystore(ctx, true, options)
	return err
}

// Close takes everything down in the reverse order of opening.
func (a *App) Close(ctx context.Context) error {
	var errs []error
	for i := len(a.close) - 1; i >= 0; i-- {
		errs = append(errs, a.close[i](ctx))
	}
	a.close = nil
	return errors.Join(errs...)
}

// drainTime is how long requests under way may take after the end was asked
// for.
const drainTime = 25 * time.Second

// httpServer bounds what a client may take: a slow one its own connection, for
// so long, and nobody else's.
func (a *App) httpServer() *http.Server {
	return &http.Server{
		Handler:           a.Handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
}

// Serve answers requests on the listener until ctx ends, then drains: no new
// connections, requests under way are finished.
func (a *App) Serve(ctx context.Context, l net.Listener) (err error) {
	srv := a.httpServer()
	defer a.runBeside(ctx)()
	for _, f := range a.onDrain {
		srv.RegisterOnShutdown(f)
	}
	defer runtime.KeepAlive(gcHeadroom())
	defer addProcs()()
	stopAdmin := a.serveAdmin()
	defer func() { err = errors.Join(err, stopAdmin()) }()
	served := make(chan error, 1)
	drained := func(context.Context) error { return nil }
	if a.TLS != nil {
		srv.TLSConfig = a.TLS
		go func() { served <- srv.ServeTLS(l, "", "") }()
	} else {
		short := h1.Listen(l, srv, server.MaxBody)
		drained = short.Drain
		go func() { served <- srv.Serve(short) }()
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	a.Health.Drain()
	a.log.Info("draining")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := srv.Shutdown(drain); err != nil {
		return errors.Join(fmt.Errorf("drain: %w", err), srv.Close())
	}
	return drained(drain)
}
