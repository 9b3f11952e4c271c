package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"spekeasy/adminapi"
)

func newContent(e *env) *cobra.Command {
	f := &clientFlags{}
	var contentID, kid string
	cmd := &cobra.Command{
		Use: "content", Short: "See what was asked for: content IDs and their key IDs",
		Long: "See which contents a running server was asked for content keys for, and which key IDs those have." + clientHelp,
	}
	f.add(cmd)
	list := &cobra.Command{
		Use: "list TENANT", Short: "List content IDs with their key IDs, tracks and key periods", Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			return printAll(f, e, func(p adminapi.PageRequest) (*adminapi.Page[adminapi.Use], error) {
				return c.Contents(ctx, args[0], contentID, kid, p)
			}, []string{"CONTENT", "KEY ID", "TRACK", "CENC", "PERIOD", "SPEKE", "LAST SEEN"}, func(u *adminapi.Use) []string {
				return []string{u.ContentID, u.KID, u.Track, u.Scheme, u.Period, u.Profile, shortTime(u.LastSeen)}
			})
		}),
	}
	list.Flags().StringVar(&contentID, "content", "", "only this content `ID`")
	list.Flags().StringVar(&kid, "kid", "", "only this `key ID`")
	cmd.AddCommand(list)
	return cmd
}

func newKey(e *env) *cobra.Command {
	f := &clientFlags{}
	cmd := &cobra.Command{
		Use: "key", Short: "Manage content keys by asking a running server (keys needs none)",
		Long: "Manage content keys by asking a running server. `spekeasy keys` opens the store itself: it needs no server,\n" +
			"and can also import, export for other key providers and rewrap." + clientHelp,
	}
	f.add(cmd)
	head := []string{"KEY ID", "STATE", "SOURCE", "CREATED", "CENC", "FIRST CONTENT"}
	row := func(k *adminapi.Key) []string {
		return []string{k.KID, k.State, k.Source, shortTime(k.Created), k.Scheme, k.ContentID}
	}
	list := &cobra.Command{
		Use: "list TENANT", Short: "List content keys, without values", Args: cobra.ExactArgs(1), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			return printAll(f, e, func(p adminapi.PageRequest) (*adminapi.Page[adminapi.Key], error) { return c.Keys(ctx, args[0], p) }, head, row)
		}),
	}
	show := &cobra.Command{
		Use: "show TENANT KEY-ID", Short: "Print what is known of a content key", Args: cobra.ExactArgs(2), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			k, err := c.Key(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return f.print(e, k, func(t *table) {
				for i, cell := range row(k) {
					t.row(head[i], quoteOdd(cell))
				}
			})
		}),
	}
	change := func(use, short, done string, call func(*adminapi.Client, context.Context, string, []string) (*adminapi.Changed, error)) *cobra.Command {
		return &cobra.Command{
			Use: use + " TENANT KEY-ID...", Short: short, Args: cobra.MinimumNArgs(2), ValidArgsFunction: f.completeTenants(e),
			RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
				n, err := call(c, ctx, args[0], args[1:])
				if err != nil {
					return err
				}
				return f.print(e, n, func(t *table) { t.row(count(n.Changed, "content key", "content keys"), done) })
			}),
		}
	}
	cmd.AddCommand(list, show,
		change("delete", "Refuse content keys from now on", "deleted", (*adminapi.Client).DeleteKeys),
		change("undelete", "Bring deleted content keys back", "undeleted", (*adminapi.Client).UndeleteKeys),
		newKeyPurge(e, f), newKeyExport(e, f))
	return cmd
}

func newKeyPurge(e *env, f *clientFlags) *cobra.Command {
	var p adminapi.Purge
	cmd := &cobra.Command{
		Use: "purge TENANT --destroy", Short: "Destroy the values of content keys that were deleted long ago", Args: cobra.ExactArgs(1),
		Long:              purgeHelp,
		ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			if !p.Destroy {
				return errors.New("--destroy is required: what is purged never comes back")
			}
			done, err := c.PurgeKeys(ctx, args[0], p)
			if err != nil {
				return err
			}
			return f.print(e, done, func(t *table) {
				t.row(count(done.Purged, "content key", "content keys"), fmt.Sprintf("purged, %d deleted ones are within their time of grace", done.Waiting))
			})
		}),
	}
	cmd.Flags().BoolVar(&p.Destroy, "destroy", false, "required: what is purged never comes back")
	cmd.Flags().StringVar(&p.Grace, "grace", "", "spare keys that were deleted less than this `duration` ago, such as 72h or 14d (default 30d)")
	return cmd
}

func newKeyExport(e *env, f *clientFlags) *cobra.Command {
	var x adminapi.Export
	cmd := &cobra.Command{
		Use: "export TENANT KEY-ID... --show-keys", Short: "Print content keys in clear", Args: cobra.MinimumNArgs(2),
		ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			if !x.Reveal {
				return errors.New("--show-keys is required: the keys are printed in clear")
			}
			x.KIDs = args[1:]
			keys, err := c.ExportKeys(ctx, args[0], x)
			if err != nil {
				return err
			}
			return f.print(e, keys, func(t *table) {
				t.row("KEY ID", "KEY", "IV")
				for _, k := range keys.Keys {
					t.row(k.KID, string(k.Key), k.IV)
				}
			})
		}),
	}
	cmd.Flags().BoolVar(&x.Reveal, "show-keys", false, "required: content keys are printed in clear")
	return cmd
}

func newAdmin(e *env) *cobra.Command {
	f := &clientFlags{}
	cmd := &cobra.Command{
		Use: "admin", Short: "Manage who may use the admin API",
		Long: "Manage the credentials of a server's admin API, each of which has a role. A viewer only reads; an operator\n" +
			"also changes tenants and credentials, and deletes and undeletes content keys; a security-officer also purges\n" +
			"and exports content keys, deletes tenants, and manages admins." + clientHelp,
	}
	f.add(cmd)
	whoami := &cobra.Command{
		Use: "whoami", Short: "Print who you are", Args: cobra.NoArgs,
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, _ []string) error {
			who, err := c.Whoami(ctx)
			if err != nil {
				return err
			}
			return f.print(e, who, func(t *table) { t.row(who.Name, who.Role) })
		}),
	}
	list := &cobra.Command{
		Use: "list", Short: "List the credentials of the admin API", Args: cobra.NoArgs,
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, _ []string) error {
			return printAll(f, e, func(p adminapi.PageRequest) (*adminapi.Page[adminapi.Admin], error) { return c.Admins(ctx, p) },
				[]string{"ADMIN", "ROLE", "KIND", "ORIGIN", "STATE", "EXPIRES", "DAYS LEFT"}, func(a *adminapi.Admin) []string {
					return []string{a.Name, a.Role, a.Kind, a.Origin, a.State, orDash(a.Expires), days(a.DaysLeft)}
				})
		}),
	}
	var n adminapi.NewAdmin
	create := &cobra.Command{
		Use: "create NAME [--role ROLE]", Short: "Make a credential of the admin API; its password is shown this once", Args: cobra.ExactArgs(1),
		Example: "  spekeasy admin create alice --role operator --expires 2027-01-31",
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			n.Name = args[0]
			a, err := c.CreateAdmin(ctx, n)
			if err != nil {
				return err
			}
			return f.print(e, a, func(t *table) {
				t.row("admin", a.Name)
				t.row("role", a.Role)
				t.row("password", string(a.Password))
				t.row("", "shown this once; keep it now")
			})
		}),
	}
	create.Flags().StringVar(&n.Role, "role", adminapi.RoleViewer, "`role` of the admin: viewer, operator or security-officer")
	create.Flags().StringVar(&n.Expires, "expires", "", "`time` at which it ends: a date or RFC 3339; by default never")
	revoke := &cobra.Command{
		Use: "revoke NAME", Short: "Revoke a credential of the admin API", Args: cobra.ExactArgs(1),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			if err := c.RevokeAdmin(ctx, args[0], 0); err != nil {
				return err
			}
			_, err := fmt.Fprintln(e.stdout, "admin", args[0], "revoked")
			return err
		}),
	}
	cmd.AddCommand(whoami, list, create, revoke)
	return cmd
}
