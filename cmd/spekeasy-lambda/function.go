package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/awskms"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/secretsmanager"
	"spekeasy/internal/store/dynamodb"
)

const (
	// secretsFor is how long secrets are good without a look at whether they
	// were rotated, and doubtedFor how long after an answer that may be due to
	// an old one.
	secretsFor = 5 * time.Minute
	doubtedFor = 20 * time.Second

	// refreshTime bounds what a look at secrets takes from the request that
	// waits for it.
	refreshTime = 5 * time.Second

	// lookEvery is the least time between looks for tenants that were changed
	// in the table, and flushEvery between writes of last-seen times.
	lookEvery  = 10 * time.Second
	flushEvery = 30 * time.Second

	// endTime is how long the end of the process may take. Lambda gives half
	// a second.
	endTime = 400 * time.Millisecond
)

// function is the key server that answers, and is built again when a secret
// of its configuration was rotated. All that it does it does before the answer
// to a request, since nothing runs between requests.
type function struct {
	lookup func(string) (string, bool)
	stdout io.Writer
	stderr io.Writer
	now    func() time.Time
	client *secretsmanager.Client
	log    *slog.Logger

	mu       sync.RWMutex // held for reading by requests under way
	app      *app.App
	secrets  *secretsmanager.Set
	checked  time.Time // when secrets were looked at last
	looked   time.Time // when tenants were looked for last
	flushed  time.Time
	doubtful bool // a secret may be old
}

func newFunction(lookup func(string) (string, bool), stdout, stderr io.Writer, now func() time.Time) *function {
	endpoint, _ := lookup("AWS_ENDPOINT_URL_SECRETS_MANAGER")
	return &function{
		lookup: lookup, stdout: stdout, stderr: stderr, now: now,
		client: secretsmanager.New(secretsmanager.Options{Endpoint: strings.TrimSuffix(endpoint, "/")}),
		log:    slog.New(slog.NewJSONHandler(stderr, nil)),
	}
}

// backends are the technologies of a function: what AWS has.
func (f *function) backends() app.Backends {
	return app.Backends{
		Stores: map[string]app.OpenStore{
			// The table's items are prepared by whoever comes first, so that
			// a stack needs no second step.
			"dynamodb": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
				return dynamodb.Open(ctx, u.String(), dynamodb.Options{Migrate: true, Log: log})
			},
		},
		KeyManagers: map[string]app.OpenKeyManager{
			"awskms": func(ctx context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return awskms.Open(ctx, u, awskms.Options{})
			},
			"env": func(_ context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return envkey.Open(u, f.lookup)
			},
		},
		Stdout: f.stdout,
		Still:  true,
	}
}

// load reads the configuration and builds the server.
func (f *function) load(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.build(ctx)
}

// build builds the server anew, and takes the one before down once the new
// one is there. f.mu is held.
func (f *function) build(ctx context.Context) error {
	secrets := f.client.NewSet()
	c, err := f.config(ctx, secrets)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if c.Data, err = os.MkdirTemp(c.Data, ""); err != nil { // its lock is one server's
		return fmt.Errorf("data directory: %w", err)
	}
	log := slog.New(slog.NewJSONHandler(f.stderr, &slog.HandlerOptions{Level: c.Log.Level}))
	a, err := app.New(ctx, c, f.backends(), "spekeasy/"+version, log)
	if err != nil {
		return errors.Join(err, os.RemoveAll(c.Data))
	}
	old := f.app
	f.app, f.secrets, f.log = a, secrets, log
	f.checked, f.looked, f.flushed, f.doubtful = f.now(), f.now(), f.now(), false
	if old != nil {
		f.close(ctx, old)
	}
	return nil
}

func (f *function) close(ctx context.Context, a *app.App) {
	if err := errors.Join(a.Close(ctx), os.RemoveAll(a.Config.Data)); err != nil {
		f.log.Warn("not closed in good order", "error", err)
	}
}

// config reads the configuration.
func (f *function) config(ctx context.Context, secrets *secretsmanager.Set) (*config.Config, error) {
	text, err := f.text(ctx, secrets)
	if err != nil {
		return nil, err
	}
	var failed error
	c, err := config.Parse([]byte(text), func(name string) (string, bool) {
		ref, ok := strings.CutPrefix(name, secretsmanager.Scheme)
		if !ok {
			return f.lookup(name)
		}
		value, err := secrets.Resolve(ctx, ref)
		if err != nil {
			failed = err
			return "", false
		}
		return value, true
	})
	switch {
	case failed != nil:
		return nil, fmt.Errorf("configuration: %w", failed)
	case err != nil:
		return nil, fmt.Errorf("configuration: %w", err)
	case c.TLS.On():
		return nil, errors.New("configuration: tls: what is in front of a function speaks TLS for it")
	case c.Telemetry.Endpoint != "":
		return nil, errors.New("configuration: telemetry: a function stands still after its answer and cannot send any")
	case c.Audit.Off == (c.Audit.Stdout == config.StdoutOnly || c.Audit.Database == config.DatabaseOnly):
		return nil, errors.New("configuration: audit: a function keeps no files; set audit.stdout or audit.database to only, or audit.off")
	}
	for i := range c.Tenants {
		if u := c.Tenants[i].Upstream; u != nil && u.Heartbeat.Every > 0 {
			return nil, fmt.Errorf("configuration: tenant %s: upstream: heartbeat: every: a function stands still after its answer", c.Tenants[i].ID)
		}
	}
	return c, nil
}

// text is the configuration as it was given.
func (f *function) text(ctx context.Context, secrets *secretsmanager.Set) (string, error) {
	if path, ok := f.lookup("SPEKEASY_CONFIG_FILE"); ok {
		b, err := os.ReadFile(path)
		return string(b), err
	}
	text, ok := f.lookup("SPEKEASY_CONFIG")
	if !ok {
		return "", errors.New("one of SPEKEASY_CONFIG and SPEKEASY_CONFIG_FILE has to be set")
	}
	if ref, ok := strings.CutPrefix(strings.TrimSpace(text), "${"+secretsmanager.Scheme); ok && !strings.Contains(ref, "\n") {
		return secrets.Resolve(ctx, strings.TrimSuffix(ref, "}"))
	}
	return text, nil
}

// ServeHTTP has a request answered. What is written here stays in memory
// until it returns.
func (f *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.look(r.Context())
	f.refresh(r.Context())
	f.mu.RLock()
	status := statusWriter{ResponseWriter: w}
	f.app.Handler.ServeHTTP(&status, r)
	f.mu.RUnlock()
	f.settle(r.Context(), status.code)
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (s *statusWriter) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
	s.ResponseWriter.WriteHeader(code)
}

// look takes over what others changed about tenants and credentials. Those
// before serve while that cannot be found out.
func (f *function) look(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now().Sub(f.looked) < lookEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	f.looked = f.now()
	if err := f.app.Refresh(ctx); err != nil {
		f.log.Warn("looking for changed tenants", "error", err)
	}
}

// refresh builds the server anew if a secret was rotated. If that cannot be
// found out, or the new secret is of no use, the server stays as it is.
func (f *function) refresh(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	age := f.now().Sub(f.checked)
	if f.secrets.Empty() || age < doubtedFor || age < secretsFor && !f.doubtful {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	f.checked, f.doubtful = f.now(), false
	changed, err := f.secrets.Changed(ctx)
	if err == nil && changed {
		err = f.build(ctx)
	}
	switch {
	case err != nil:
		f.doubtful = true // soon again
		f.log.Error("secrets not read again; the ones before serve", "error", err)
	case changed:
		f.log.Info("secrets have changed")
	}
}

// settle does after a request what a server does at leisure.
func (f *function) settle(ctx context.Context, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusBadGateway:
		f.doubtful = true
	}
	if f.now().Sub(f.flushed) < flushEvery {
		return
	}
	f.flushed = f.now()
	if err := f.app.Keystore.Flush(ctx); err != nil {
		f.log.Warn("bindings not refreshed", "error", err)
	}
}

// end takes the server down when Lambda is done with the process.
func (f *function) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	f.close(ctx, f.app)
}
