package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"

	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/config"
)

func newServe(e *env) *cobra.Command {
	var file, listen, data string
	var dev bool
	cmd := &cobra.Command{
		Use:   "serve (--config FILE | --dev --data DIR)",
		Short: "Run the key server",
		Long: "Run the key server until SIGTERM or SIGINT, then finish the requests under way.\n" +
			"Standard output gets one line, \"ready URL\", once it serves; logs go to standard error.\n" +
			"With audit.stdout it also gets the audit log; those lines start with a brace.\n\n" +
			"--dev needs no configuration: one tenant, dev, whose Basic credential dev:dev may do\n" +
			"everything. It listens on loopback addresses only.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dev {
				return e.serveDev(cmd.Context(), file, listen, data)
			}
			return e.serveFile(cmd.Context(), file, listen, data)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration `file`")
	f.BoolVar(&dev, "dev", false, "serve the tenant dev without a configuration file")
	f.StringVar(&listen, "listen", "", "`address` and port to listen on; port 0 picks a free one")
	f.StringVar(&data, "data", "", "`directory` for the database and the key encryption key")
	return cmd
}

// serveDev serves the tenant dev.
func (e *env) serveDev(ctx context.Context, file, listen, data string) error {
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
	return e.serve(ctx, l, config.Dev(listen, data, "http://"+l.Addr().String()))
}

// serveFile serves what a configuration file says; --listen and --data go
// before the file.
func (e *env) serveFile(ctx context.Context, file, listen, data string) error {
	if file == "" {
		return errors.New("one of --config FILE and --dev is required")
	}
	c, err := config.Load(file, e.lookup)
	if err != nil {
		return err
	}
	if listen != "" {
		c.Listen = listen
	}
	if data != "" {
		c.Data = data
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	return e.serve(ctx, l, c)
}

// serve runs the server on a listener, which it closes, until ctx ends.
func (e *env) serve(ctx context.Context, l net.Listener, c *config.Config) (err error) {
	defer l.Close()
	if err := c.Check(); err != nil {
		return err
	}
	log := e.logger(c.Log)
	a, err := app.New(ctx, c, backends(e), userAgent(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	log.Info("serving", "address", l.Addr().String(), "version", fullVersion(), "store", place(a.Store), "key_manager", place(a.KEK))
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

func (e *env) logger(c config.Log) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(e.stderr, o))
	}
	return slog.New(slog.NewTextHandler(e.stderr, o))
}

func newConfig(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Work with configuration files"}
	cmd.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file without starting anything",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := config.Load(args[0], e.lookup)
			if err != nil {
				return err
			}
			if err := app.Check(c); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(e.stdout, "%s: good, %d tenants\n", args[0], len(c.Tenants))
			return err
		},
	})
	return cmd
}
