package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"spekeasy/adminapi"
)

func newTenant(e *env) *cobra.Command {
	f := &clientFlags{}
	cmd := &cobra.Command{Use: "tenant", Short: "Manage the tenants of a running server", Long: "Manage the tenants of a running server." + clientHelp}
	f.add(cmd)
	list := &cobra.Command{
		Use: "list", Short: "List tenants", Args: cobra.NoArgs,
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, _ []string) error {
			return printAll(f, e, func(p adminapi.PageRequest) (*adminapi.Page[adminapi.Tenant], error) { return c.Tenants(ctx, p) },
				[]string{"TENANT", "ORIGIN", "VERSION", "CHANGED", "KEY SOURCE"}, func(t *adminapi.Tenant) []string {
					source := t.Settings.KeySource.Kind
					switch {
					case t.Fault != "":
						source = "damaged"
					case t.Settings.Upstream != nil:
						source = "upstream " + t.Settings.Upstream.Vendor
					case source == "":
						source = "random"
					}
					changed := "-"
					if !t.Changed.IsZero() {
						changed = shortTime(t.Changed)
					}
					return []string{t.ID, t.Origin, fmt.Sprint(t.Version), changed, source}
				})
		}),
	}
	show := &cobra.Command{
		Use: "show TENANT", Short: "Print a tenant with its settings", Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			t, err := c.Tenant(ctx, args[0])
			if err != nil {
				return err
			}
			return printTenant(f, e, t)
		}),
	}
	cmd.AddCommand(list, show, newTenantCreate(e, f), newTenantUpdate(e, f), newTenantDelete(e, f))
	return cmd
}

// printTenant prints settings as they can be changed and sent back.
func printTenant(f *clientFlags, e *env, t *adminapi.Tenant) error {
	if f.asJSON {
		return f.print(e, t, nil)
	}
	b, err := json.Marshal(t.Settings)
	if err == nil {
		b, err = yaml.JSONToYAML(b)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "# tenant %s, from the %s, version %d\n%s", t.ID, t.Origin, t.Version, b)
	return err
}

func newTenantCreate(e *env, f *clientFlags) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "create TENANT [--settings FILE]", Short: "Make a tenant", Args: cobra.ExactArgs(1),
		Long: "Make a tenant. FILE has its settings, as an entry of the configuration's tenants has them, in YAML or\n" +
			"JSON, without credentials; - is standard input. The seed of a key source that the server makes up is\n" +
			"shown this once.",
		Example: "  spekeasy tenant create acme --settings acme.yaml",
	}
	cmd.Flags().StringVar(&file, "settings", "", "`file` with settings; - is standard input")
	cmd.RunE = f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
		s, err := readSettings(cmd.InOrStdin(), file)
		if err != nil {
			return err
		}
		t, err := c.CreateTenant(ctx, adminapi.NewTenant{ID: args[0], Settings: *s})
		if err != nil {
			return err
		}
		return printTenant(f, e, t)
	})
	return cmd
}

func newTenantUpdate(e *env, f *clientFlags) *cobra.Command {
	var file string
	var version uint64
	cmd := &cobra.Command{
		Use: "update TENANT --settings FILE", Short: "Replace a tenant's settings", Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeTenants(e),
		Long: "Replace the settings of a tenant by those of FILE, as `spekeasy tenant show` prints them. With\n" +
			"--version it is refused when the tenant was changed since that version.",
		Example: "  spekeasy tenant show acme > acme.yaml\n" +
			"  spekeasy tenant update acme --settings acme.yaml",
	}
	cmd.Flags().StringVar(&file, "settings", "", "`file` with settings; - is standard input")
	cmd.Flags().Uint64Var(&version, "version", 0, "refuse if this `version`, which was read, is not the present one")
	_ = cmd.MarkFlagRequired("settings") // it exists
	cmd.RunE = f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
		s, err := readSettings(cmd.InOrStdin(), file)
		if err != nil {
			return err
		}
		t, err := c.UpdateTenant(ctx, args[0], version, *s)
		if err != nil {
			return err
		}
		return printTenant(f, e, t)
	})
	return cmd
}

func newTenantDelete(e *env, f *clientFlags) *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use: "delete TENANT", Short: "Delete a tenant; its content keys stay", Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeTenants(e),
		Long: "Delete a tenant with its credentials: nobody gets in for it any more. Its content keys stay in the\n" +
			"store, and its ID is never given again.",
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "refuse if this `version`, which was read, is not the present one")
	cmd.RunE = f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
		if err := c.DeleteTenant(ctx, args[0], version); err != nil {
			return err
		}
		_, err := fmt.Fprintln(e.stdout, "tenant", args[0], "deleted")
		return err
	})
	return cmd
}

func readSettings(stdin io.Reader, path string) (*adminapi.TenantSettings, error) {
	s := &adminapi.TenantSettings{}
	if path == "" {
		return s, nil
	}
	text, err := readFileOr(stdin, path)
	if err == nil {
		text, err = yaml.YAMLToJSON(text)
	}
	if err != nil {
		return nil, fmt.Errorf("--settings %s: %w", path, err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("--settings %s: %w", path, err)
	}
	return s, nil
}

// maxSettings bounds what is read of a file.
const maxSettings = 1 << 20

func readLimited(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, maxSettings)) }
