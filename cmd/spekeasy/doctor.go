package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/doctor"
	"spekeasy/internal/kms/filekey"
)

func newMigrate(e *env) *cobra.Command {
	var f operatorFlags
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema of the store up to date",
		Long: "Bring the schema of the configured store up to date. A server with an embedded database does so when it\n" +
			"starts. Two processes may do it at once; a schema never goes back to an older version.",
		Example: "  spekeasy migrate --config spekeasy.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.operate(cmd.Context(), e, func(_ *config.Config, o *app.Operator) error {
				from, to, err := o.Migrate(cmd.Context())
				if err != nil {
					return err
				}
				said := fmt.Sprintf("brought from schema %d to %d", from, to)
				if from == to {
					said = fmt.Sprintf("at schema %d already", to)
				}
				_, err = fmt.Fprintf(e.stdout, "%s: %s\n", publicURL(o.StoreURL), said)
				return err
			})
		},
	}
	f.add(cmd)
	return cmd
}

func newDoctor(e *env) *cobra.Command {
	var f operatorFlags
	var quiet bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine store, keys, key manager and files, and explain what is wrong",
		Long: "Open every data key and content key, look for the key of every binding (which content has which key), check\n" +
			"the key manager, the database, files and clock, and explain what is found. Changes nothing and prints no\n" +
			"key. Exits 1 on errors.",
		Example: "  spekeasy doctor --config spekeasy.yaml\n" +
			"  spekeasy doctor --data dev --quiet",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.operate(cmd.Context(), e, func(c *config.Config, o *app.Operator) error {
				x := &doctor.Examination{Now: time.Now()}
				err := examine(cmd.Context(), e, c, o, x)
				if err := printFindings(e, x, quiet); err != nil {
					return err
				}
				if err != nil {
					return err
				}
				if n := x.Count(doctor.Error); n > 0 {
					return fmt.Errorf("%s", count(n, "error was found", "errors were found"))
				}
				return nil
			})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&quiet, "quiet", false, "print only what is wrong")
	return cmd
}

// examine goes from the files to the rows, as far as things can be opened.
func examine(ctx context.Context, e *env, c *config.Config, o *app.Operator, x *doctor.Examination) error {
	paths := doctor.Paths{Data: c.Data}
	if o.StoreURL.Scheme == "sqlite" {
		paths.Database = o.StoreURL.Path
	}
	if path, err := filekey.Path(o.KEKURL); err == nil {
		paths.KEK = path
	}
	x.Files(paths)
	if err := o.OpenStore(ctx, false); err != nil {
		x.Add(doctor.Finding{Severity: doctor.Error, What: fmt.Sprintf("The store cannot be opened: %v.", err),
			Do: "If the database is damaged or gone, restore the newest backup into an empty store."})
		return nil
	}
	x.Add(doctor.Finding{What: "The store opens, and its schema is up to date."})
	x.Database(ctx, o.Store)
	kek, err := o.KeyManager(ctx, false)
	if err != nil {
		x.Add(doctor.Finding{Severity: doctor.Error, What: fmt.Sprintf("The key manager cannot be opened: %v.", err),
			Do: "Put the KEK back, or look at the key manager. Never make a new KEK beside existing keys."})
	} else {
		x.KeyManager(ctx, kek)
	}
	source, ok := o.Store.(doctor.Source)
	if !ok {
		return fmt.Errorf("a store of kind %s cannot be walked", o.StoreURL.Scheme)
	}
	p := newProgress(e.stderr)
	err = x.Rows(ctx, source, kek, func(n int) { p.show(-1, count(n, "row", "rows")+" examined") })
	p.done()
	if err != nil && !errors.Is(err, context.Canceled) {
		x.Add(doctor.Finding{Severity: doctor.Error, What: fmt.Sprintf("The store cannot be read to its end: %v.", err)})
		return nil
	}
	return err
}

func printFindings(e *env, x *doctor.Examination, quiet bool) error {
	for _, f := range x.Findings {
		if quiet && f.Severity < doctor.Warning {
			continue
		}
		if _, err := fmt.Fprintf(e.stdout, "%-8s %s\n", f.Severity, f.What); err != nil {
			return err
		}
		if f.Do == "" {
			continue
		}
		if _, err := fmt.Fprintf(e.stdout, "%-8s -> %s\n", "", f.Do); err != nil {
			return err
		}
	}
	return nil
}
