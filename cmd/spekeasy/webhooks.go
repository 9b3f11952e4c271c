package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/binding"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

func newWebhooks(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhooks",
		Short: "See how webhooks fare, and deliver events again",
		Long: "Work on the webhooks of a server, which tell others of each new use of a content key. The commands\n" +
			"open the store themselves; the servers that use it do what they say.",
	}
	cmd.AddCommand(newWebhooksList(e), newWebhooksReplay(e))
	return cmd
}

// feed runs a command on the feed of a store.
func (f *operatorFlags) feed(ctx context.Context, e *env, tenantID string, run func(keystore.Feed) error) error {
	return f.keystore(ctx, e, tenantID, false, func(k *keystore.Keystore, _ *keystore.Custody) error {
		feed, err := k.Feed()
		if err != nil {
			return err
		}
		return run(feed)
	})
}

// withWebhooks returns the tenants of the configuration and of the store, and
// the feed that their webhooks tell of.
func withWebhooks(ctx context.Context, c *config.Config, o *app.Operator) ([]tenant.Settings, keystore.Feed, error) {
	if err := o.OpenStore(ctx, false); err != nil {
		return nil, nil, err
	}
	k, err := o.Keystore(ctx, false, keystore.Options{CacheBytes: -1})
	if err != nil {
		return nil, nil, err
	}
	feed, err := k.Feed()
	if err != nil {
		return nil, nil, err
	}
	documents, ok := o.Store.(tenant.Store)
	if !ok {
		return c.Tenants, feed, nil
	}
	stored, err := tenant.NewLoader(documents, tenant.NewVault(k)).Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	return slices.Concat(c.Tenants, stored.Tenants), feed, nil
}

func newWebhooksList(e *env) *cobra.Command {
	var f operatorFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the webhooks of all tenants with their last error and dead letters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.operate(cmd.Context(), e, func(c *config.Config, o *app.Operator) error {
				tenants, feed, err := withWebhooks(cmd.Context(), c, o)
				if err != nil {
					return err
				}
				t := &table{}
				t.row("TENANT", "WEBHOOK", "DELIVERED", "DEAD", "FAILING SINCE", "LAST ERROR")
				for i := range tenants {
					for _, w := range tenants[i].Webhooks {
						d, _, err := binding.LoadDelivery(cmd.Context(), feed, tenants[i].ID, w.Name)
						if err != nil {
							return err
						}
						since := "-"
						if !d.FailingSince.IsZero() {
							since = shortTime(d.FailingSince)
						}
						t.row(tenants[i].ID, w.Name, strconv.FormatInt(d.Delivered, 10), strconv.Itoa(len(d.Dead)), since, dash(d.LastError))
						for _, dead := range d.Dead {
							t.row("", "", shortTime(dead.At), dead.KID.String(), dead.Error, dead.ContentID)
						}
					}
				}
				return t.write(e.stdout)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newWebhooksReplay(e *env) *cobra.Command {
	var f operatorFlags
	var tenantID, name string
	var r binding.Replay
	cmd := &cobra.Command{
		Use:     "replay --tenant ID --webhook NAME (--dead | --all | --now)",
		Short:   "Deliver dead letters again, or everything, or try at once what failed",
		Example: "  spekeasy webhooks replay --config spekeasy.yaml --tenant acme --webhook NAME --dead",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.feed(cmd.Context(), e, tenantID, func(feed keystore.Feed) error {
				for attempt := 0; ; attempt++ {
					dead, err := r.Replay(cmd.Context(), feed, tenantID, name)
					switch {
					case errors.Is(err, binding.ErrChanged) && attempt < 10:
						continue // by the server, which was faster
					case err != nil:
						return err
					case r.Dead:
						_, err = fmt.Fprintf(e.stdout, "%d dead letters will be delivered again\n", dead)
					case r.All:
						_, err = fmt.Fprintln(e.stdout, "everything will be delivered again")
					default:
						_, err = fmt.Fprintln(e.stdout, "what failed will be tried now")
					}
					return err
				}
			})
		},
	}
	f.add(cmd)
	addTenant(cmd, &tenantID)
	cmd.Flags().StringVar(&name, "webhook", "", "`name` of the webhook")
	_ = cmd.MarkFlagRequired("webhook") // it exists
	cmd.Flags().BoolVar(&r.Dead, "dead", false, "the dead letters")
	cmd.Flags().BoolVar(&r.All, "all", false, "all events since the first")
	cmd.Flags().BoolVar(&r.Now, "now", false, "nothing that was delivered, but do not wait for the next try")
	cmd.MarkFlagsOneRequired("dead", "all", "now")
	cmd.MarkFlagsMutuallyExclusive("dead", "all", "now")
	return cmd
}
