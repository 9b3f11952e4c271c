package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/audit"
	"spekeasy/internal/config"
)

// auditFlags say which audit log a command reads.
type auditFlags struct {
	config, store string
}

func (f *auditFlags) add(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&f.config, "config", "", "configuration `file` that says where the log is")
	cmd.PersistentFlags().StringVar(&f.store, "store", "", "`URL` of a database that keeps logs, as in a configuration")
}

// auditSource is a log to read: that of a directory or file, or those of a
// database.
type auditSource struct {
	name  string
	store audit.Store // nil for a path, which is the name then
}

// read runs a command on the log that arguments and flags name.
func (f *auditFlags) read(ctx context.Context, e *env, args []string, run func(*auditSource) error) (err error) {
	c := config.Default()
	switch given := len(args) + min(len(f.config), 1) + min(len(f.store), 1); {
	case given != 1:
		return errors.New("either the directory of the audit log or one of --config FILE and --store URL is required")
	case len(args) == 1:
		return run(&auditSource{name: args[0]})
	case f.store != "":
		c.Store = f.store
	default:
		if c, err = e.loadConfig(f.config); err != nil {
			return err
		}
		if c.Audit.Database != config.DatabaseOnly {
			return run(&auditSource{name: c.AuditDir()})
		}
	}
	c.Log.Level = max(c.Log.Level, slog.LevelWarn)
	o, err := app.NewOperator(c, backends(e), e.logger(c.Log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close(context.WithoutCancel(ctx))) }()
	if err := o.OpenStore(ctx, false); err != nil {
		return err
	}
	s, ok := o.Store.(audit.Store)
	if !ok {
		return fmt.Errorf("a %s database does not keep the audit log", o.StoreURL.Scheme)
	}
	return run(&auditSource{o.StoreURL.Redacted(), s})
}

func (s *auditSource) query(ctx context.Context, q *audit.Query, yield func([]byte, *audit.Record) error) error {
	if s.store != nil {
		return audit.InStore{Store: s.store}.Read(ctx, q, "", func(_ string, text []byte, r *audit.Record) error { return yield(text, r) })
	}
	return q.Run(s.name, yield)
}

// verify checks the log; a file, or "-" for standard input, is one of lines.
func (s *auditSource) verify(ctx context.Context, stdin io.Reader, checkpoints []audit.Position) (*audit.Report, error) {
	switch {
	case s.store != nil:
		return audit.VerifyStore(ctx, s.store, checkpoints...)
	case s.name == "-":
		return audit.VerifyStream(stdin, checkpoints...)
	}
	f, err := os.Open(s.name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return audit.Verify(s.name, checkpoints...)
	}
	return audit.VerifyStream(f, checkpoints...)
}
