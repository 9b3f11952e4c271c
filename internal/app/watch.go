package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/metrics"
	"spekeasy/internal/ops"
	"spekeasy/internal/server"
	"spekeasy/internal/telemetry"
)

// watch is what operators see of a server.
type watch struct {
	metrics *metrics.Metrics
	tracer  *telemetry.Tracer // nil without a collector
	founded atomic.Int64      // when the store was, in Unix microseconds
}

// lastTelemetry is how long the end waits for the collector.
const lastTelemetry = 3 * time.Second

// watching sets up metrics and, if there is a collector, traces and logs to
// it. The server's log has the names of traces from here on.
func (a *App) watching(userAgent string) {
	build := metrics.Build{Version: strings.TrimPrefix(userAgent, "spekeasy/")}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				build.Commit = s.Value
			}
		}
	}
	a.watch.metrics = metrics.New(build)
	for i := range a.Config.Tenants {
		if t, err := a.Config.Tenants[i].Build(); err == nil { // what is wrong with one is told later
			a.watch.metrics.Class(t.Class)
		}
	}
	c := &a.Config.Telemetry
	if c.Endpoint == "" {
		a.log = slog.New(telemetry.LogHandler(a.log.Handler(), nil))
		return
	}
	headers := make(map[string]string, len(c.Headers))
	for name, value := range c.Headers {
		headers[name] = string(value)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it is only told
	}
	x := telemetry.NewExporter(telemetry.Options{
		Endpoint: c.Endpoint, Headers: headers, Log: a.log,
		Resource: []telemetry.Attribute{
			{Key: "service.name", Value: "spekeasy"}, {Key: "service.version", Value: build.Version},
			{Key: "service.instance.id", Value: host + "/" + strconv.Itoa(os.Getpid())},
		},
	})
	plain := a.log // which does not lead back to the collector
	a.onClose(func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, lastTelemetry)
		defer cancel()
		if err := x.Close(ctx); err != nil {
			plain.Warn("telemetry not sent", "error", err) // no reason to end badly
		}
		return nil
	})
	a.watch.metrics.Telemetry(x.Dropped)
	a.watch.tracer = telemetry.NewTracer(x, c.Sample)
	if c.Logs {
		a.log = slog.New(telemetry.LogHandler(a.log.Handler(), x))
	} else {
		a.log = slog.New(telemetry.LogHandler(a.log.Handler(), nil))
	}
}

// call counts a call of the database or the key manager, and times it in the
// trace of the request that waited for it.
func (w *watch) call(ctx context.Context, c keystore.Call) {
	w.metrics.Call(c)
	span := telemetry.FromContext(ctx)
	if span == nil || !span.Sampled {
		return
	}
	peer := "store "
	if c.KeyManager {
		peer = "key manager "
	}
	step := span.Child(peer+c.Op, telemetry.Client, c.Start)
	if c.Err != nil {
		step.Fail("failed") // the log says why
	}
	step.End(c.Start.Add(c.Took))
}

// recorder has the audit log's records counted and timed.
type recorder struct {
	next    server.Recorder
	metrics *metrics.Metrics
}

// recorded has the audit log counted, if there is one.
func (w *watch) recorded(next server.Recorder) server.Recorder {
	if next == server.Recorder(audit.Off{}) {
		return next
	}
	return recorder{next, w.metrics}
}

func (r recorder) Record(ctx context.Context, rec *audit.Record) error {
	start := time.Now()
	err := r.next.Record(ctx, rec)
	r.metrics.AuditRecord(time.Since(start), err)
	return err
}

// expiries are the ends of what an operator must renew.
func (a *App) expiries() (all []metrics.Expiry) {
	if a.listener != nil {
		if cert, err := a.listener.now.Load().files.get(nil); err == nil && cert.Leaf != nil {
			all = append(all, metrics.Expiry{Name: "listener", At: cert.Leaf.NotAfter})
		}
	}
	tenants := a.Customers.Now().Settings
	for i := range tenants {
		t := &tenants[i]
		for j := range t.Credentials {
			if at, err := t.Credentials[j].Expires.Time(); err == nil && !at.IsZero() {
				all = append(all, metrics.Expiry{Tenant: t.ID, Name: t.Credentials[j].Name, At: at})
			}
		}
	}
	return all
}

// upstreams is what metrics tell of the key services behind tenants. Two
// tenants' upstreams of one name are counted together.
func (a *App) upstreams() []metrics.Upstream {
	var all []metrics.Upstream
	at := make(map[string]int)
	for _, h := range a.Gateway.Health() {
		i, ok := at[h.Upstream]
		if !ok {
			i = len(all)
			at[h.Upstream] = i
			all = append(all, metrics.Upstream{Name: h.Upstream, Failed: make(map[string]uint64), Fixed: make(map[string]uint64)})
		}
		u := &all[i]
		u.Answered += h.Answered
		u.Retried += h.Retried
		u.Hedged += h.Hedged
		u.Copies += h.Copies
		for kind, n := range h.Failed {
			u.Failed[string(kind)] += n
		}
		for fix, n := range h.Fixes {
			u.Fixed[fix] += n
		}
		u.Open = u.Open || h.State == "open"
		u.Median, u.P95 = max(u.Median, h.LatencyMedian), max(u.P95, h.LatencyP95)
		if u.FailingSince.IsZero() || !h.FailingSince.IsZero() && h.FailingSince.Before(u.FailingSince) {
			u.FailingSince = h.FailingSince
		}
		if h.LastSuccess.After(u.LastSuccess) {
			u.LastSuccess = h.LastSuccess
		}
	}
	return all
}

// openHealth has the server's needs checked until it is closed.
func (a *App) openHealth(ctx context.Context) {
	checks := []ops.Check{
		{Name: "store", Every: 5 * time.Second, Run: a.checkStore},
		// Data keys that are open serve on without it, and a check costs money
		// where a cloud has it.
		{Name: "key_manager", Every: 30 * time.Second, Degrades: true, Run: a.Keystore.CheckKeyManager},
		{Name: "clock", Every: 5 * time.Second, Run: a.checkClock},
	}
	if a.audit != nil {
		checks = append(checks, ops.Check{Name: "audit", Every: 5 * time.Second, Run: a.audit.Check}) // no record, no keys
	}
	a.Health = ops.NewHealth(checks, ops.Options{Log: a.log, Tell: a.watch.metrics.Ready})
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Health.Run(ctx)
	}()
	a.onClose(func(context.Context) error {
		stop()
		<-done
		return nil
	})
}

func (a *App) checkStore(ctx context.Context) error {
	founded, err := a.Keystore.CheckStore(ctx)
	if err == nil {
		a.watch.founded.Store(founded.UnixMicro())
	}
	return err
}

// clockSlack is how far the clocks of servers may differ.
const clockSlack = 5 * time.Minute

// checkClock finds a clock that is set to before the store was founded, as it
// is on a machine without a battery or a virtual one that slept. Signatures,
// expiry dates and the audit log's times rest on it.
func (a *App) checkClock(context.Context) error {
	founded := time.UnixMicro(a.watch.founded.Load())
	if now := time.Now(); now.Add(clockSlack).Before(founded) {
		return fmt.Errorf("it is %s here, but the store was founded at %s", now.Format(time.RFC3339), founded.Format(time.RFC3339))
	}
	return nil
}

// ListenAdmin opens the admin listener, if there is to be one; Serve serves
// it. main is the address of the main listener.
func (a *App) ListenAdmin(ctx context.Context, main net.Addr) error {
	address, given := a.Config.AdminAddress(main)
	if address == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) && !given {
		// Nobody chose that address, so nobody counts on it.
		a.log.Warn("the default address of the admin listener is in use; set admin.listen", "address", address)
		l, err = lc.Listen(ctx, "tcp", config.AnyLoopback)
	}
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	loopback := config.CheckLoopback(l.Addr().String()) == nil
	a.Admin = ops.NewMux(a.Health, a.watch.metrics.Handler(), loopback || a.Config.Admin.Pprof)
	a.mountAdmin(a.Admin, loopback)
	a.admin = l
	a.onClose(func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	a.log.Info("admin listener", "address", l.Addr().String())
	return nil
}

// serveAdmin serves the admin listener until the server ends, to the last
// request of the main one.
func (a *App) serveAdmin() (stop func() error) {
	if a.admin == nil {
		return func() error { return nil }
	}
	srv := &http.Server{
		Handler: a.Admin, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 5 * time.Minute, // a profile takes as long as it is asked to
		IdleTimeout:  2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(a.admin) }()
	return func() error {
		err := srv.Close()
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, fmt.Errorf("admin: %w", e))
		}
		return err
	}
}
