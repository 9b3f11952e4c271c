package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/secretref"
	"spekeasy/internal/upstream"
)

func newServe(e *env) *cobra.Command {
	var file, listen, data, word string
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve (--config FILE | --dev --data DIR)",
		Short: "Run the key server or gateway",
		Long: "Run the server until SIGTERM or SIGINT, then finish the requests under way. SIGHUP has it load a changed\n" +
			"configuration. Standard output gets one line, \"ready URL\", once it serves; logs go to standard error.\n" +
			"With audit.stdout it also gets the audit log; those lines start with a brace.\n\n" +
			"It makes content keys and keeps them. A tenant with an upstream gets those of a vendor's key service\n" +
			"instead, and the server is the gateway to it: upstream in the configuration, or --upstream with --dev.\n\n" +
			"--dev needs no configuration: one tenant, dev, whose Basic credential dev:dev may do everything,\n" +
			"over the admin API too, and whose signer dev Shaka Packager can use (docs/packagers.md). It listens on\n" +
			"loopback addresses only.",
		Example: "  spekeasy serve --config keyserver/spekeasy.yaml\n" +
			"  spekeasy serve --dev --data dev\n" +
			"  spekeasy serve --dev --data dev --upstream axinom+https://TENANT:KEY@HOST/api/Speke",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dev {
				return e.serveDev(cmd.Context(), file, listen, data, word)
			}
			if word != "" {
				return errors.New("--upstream needs --dev; a configuration file has upstream under its tenant")
			}
			return e.serveFile(cmd.Context(), file, listen, data)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration `file`, or env:NAME for what an environment variable holds")
	f.BoolVar(&dev, "dev", false, "serve the tenant dev without a configuration file")
	f.StringVar(&listen, "listen", "", "`address` and port to listen on, by default as configured or "+config.Default().Listen+"; port 0 picks a free one")
	f.StringVar(&word, "upstream", "", "with --dev: answer with the keys of this key service, one `word` such as\naxinom+https://TENANT:KEY@HOST/api/Speke")
	f.StringVar(&data, "data", "", "`directory` for the database and the key encryption key; by default as configured")
	return cmd
}

// serveDev serves the tenant dev.
func (e *env) serveDev(ctx context.Context, file, listen, data, word string) error {
	if file != "" {
		return errors.New("--dev and --config exclude each other")
	}
	if data == "" {
		return errors.New("--dev needs --data DIR, a directory that it may create")
	}
	if listen == "" {
		listen = config.Default().Listen
	}
	if err := config.CheckLoopback(listen); err != nil {
		return fmt.Errorf("--dev listens on loopback only: %w", err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	c := config.Dev(listen, data, "http://"+l.Addr().String())
	if word != "" {
		if c.Tenants[0].Upstream, err = upstream.ParseWord(word); err != nil {
			return errors.Join(fmt.Errorf("--upstream: %w", err), l.Close())
		}
	}
	return e.serve(ctx, l, c, nil)
}

// serveFile serves what a configuration file says; --listen and --data go
// before the file.
func (e *env) serveFile(ctx context.Context, file, listen, data string) error {
	if file == "" {
		return errors.New("one of --config FILE and --dev is required")
	}
	load := func() (*config.Config, error) {
		c, err := e.loadConfig(file)
		if err != nil {
			return nil, err
		}
		if listen != "" {
			c.Listen = listen
		}
		if data != "" {
			c.Data = data
		}
		return c, c.Check()
	}
	c, err := load()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	return e.serve(ctx, l, c, load)
}

// loadConfig loads a configuration with the secrets that others keep for it.
func (e *env) loadConfig(file string) (*config.Config, error) {
	secrets := secretref.New(context.Background(), e.lookup)
	c, err := config.Load(file, secrets.Lookup)
	if missing := secrets.Err(); missing != nil {
		return nil, errors.Join(err, missing)
	}
	return c, err
}

// serve runs the server on a listener, which it closes, until ctx ends. SIGHUP
// has it load its configuration again, where there is one to load.
func (e *env) serve(ctx context.Context, l net.Listener, c *config.Config, load func() (*config.Config, error)) (err error) {
	defer l.Close()
	if err := c.Check(); err != nil {
		return err
	}
	level := new(slog.LevelVar)
	level.Set(c.Log.Level)
	log := e.loggerAt(level, c.Log.Format)
	a, err := app.New(ctx, c, backends(e), userAgent(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	if err := a.ListenAdmin(ctx, l.Addr()); err != nil {
		return err
	}
	log.Info("serving", "address", l.Addr().String(), "version", fullVersion(), "store", place(a.Store), "key_manager", place(a.KEK))
	if load == nil { // --dev
		a.AdminOnMain()
	}
	if load != nil {
		defer reloadOn(syscall.SIGHUP, func() { reload(a, load, level, log) })()
	}
	scheme := "http"
	if a.TLS != nil {
		scheme = "https"
	}
	if _, err := fmt.Fprintf(e.stdout, "ready %s://%s\n", scheme, l.Addr()); err != nil {
		return err
	}
	return a.Serve(ctx, l)
}

// place says where a backend is, without user, password and parameters.
func place(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, Opaque: u.Opaque}).String()
}

func (e *env) logger(c config.Log) *slog.Logger { return e.loggerAt(c.Level, c.Format) }

func (e *env) loggerAt(level slog.Leveler, format string) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(e.stderr, o))
	}
	return slog.New(slog.NewTextHandler(e.stderr, o))
}

// reload has a running server go on with its changed configuration file. What
// cannot be used changes nothing.
func reload(a *app.App, load func() (*config.Config, error), level *slog.LevelVar, log *slog.Logger) {
	next, err := load()
	if err == nil {
		err = next.Locate(a.Reload(next))
	}
	if err != nil {
		log.Error("configuration not reloaded; the former one stays", "error", err)
		return
	}
	level.Set(next.Log.Level)
}

// reloadOn calls f after each signal, one at a time, until stop is called.
func reloadOn(signals os.Signal, f func()) (stop func()) {
	came, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(came, signals)
	go func() {
		defer close(done)
		for range came {
			f()
		}
	}()
	return func() {
		signal.Stop(came)
		close(came)
		<-done
	}
}

func newConfig(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work with configuration files"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file without starting anything",
		Long: "Check a configuration file and the files that it names, without starting anything. Every fault is\n" +
			"told at once, each with its line.",
		Example: "  spekeasy config check keyserver/spekeasy.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := e.loadConfig(args[0])
			if err != nil {
				return err
			}
			if err := app.Check(c); err != nil {
				return fmt.Errorf("%s: %w", args[0], c.Locate(err))
			}
			_, err = fmt.Fprintf(e.stdout, "%s: good, %d tenants\n", args[0], len(c.Tenants))
			return err
		},
	})
	return cmd
}
