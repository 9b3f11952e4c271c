package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/adminapi"
)

func newUpstream(e *env) *cobra.Command {
	f := &clientFlags{}
	cmd := &cobra.Command{
		Use: "upstream", Short: "See how upstreams fare, the vendors' key services behind tenants",
		Long: "See how the key services behind tenants fare, and what became of key requests that went there. Each\n" +
			"server tells of what it has asked itself." + clientHelp,
	}
	f.add(cmd)
	list := &cobra.Command{
		Use: "list", Short: "List upstreams with their answers, failures and last error", Args: cobra.NoArgs,
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, _ []string) error {
			return printAll(f, e, func(adminapi.PageRequest) (*adminapi.Page[adminapi.UpstreamHealth], error) { return c.Upstreams(ctx) },
				[]string{"TENANT", "UPSTREAM", "ORIGIN", "BREAKER", "ANSWERED", "FAILED", "P95", "LAST ERROR"}, func(u *adminapi.UpstreamHealth) []string {
					var failed uint64
					for _, n := range u.Failed {
						failed += n
					}
					return []string{u.Tenant, u.Upstream, u.Origin, u.State, fmt.Sprint(u.Answered), fmt.Sprint(failed),
						u.LatencyP95.Round(time.Microsecond).String(), u.LastError}
				})
		}),
	}
	exchange := &cobra.Command{
		Use: "exchange TENANT [REQUEST-ID]", Short: "Print what became of key requests that went upstream",
		Long: "List the latest key requests of a tenant that went upstream, as far as the server remembers, or print\n" +
			"one of them with what arrived, what was asked of whom, what was changed and what was wrong.",
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: f.completeTenants(e),
		RunE: f.call(e, func(ctx context.Context, c *adminapi.Client, args []string) error {
			if len(args) == 1 {
				return printAll(f, e, func(adminapi.PageRequest) (*adminapi.Page[adminapi.Exchange], error) {
					return c.Exchanges(ctx, args[0])
				},
					[]string{"REQUEST", "TIME", "CONTENT", "SPEKE", "ANSWERED BY", "TOOK", "ERROR"}, func(x *adminapi.Exchange) []string {
						return []string{x.RequestID, shortTime(x.Time), x.ContentID, x.Profile, x.AnsweredBy,
							x.Took.Round(time.Microsecond).String(), x.Error}
					})
			}
			x, err := c.Exchange(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			return f.print(e, x, func(t *table) { fillExchange(t, x) })
		}),
	}
	cmd.AddCommand(list, exchange)
	return cmd
}

// fillExchange tells an exchange from the request to the answer.
func fillExchange(t *table, x *adminapi.Exchange) {
	row := func(name, value string) {
		if value != "" {
			t.row(name, quoteOdd(value))
		}
	}
	row("time", shortTime(x.Time))
	row("took", x.Took.String())
	row("content", x.ContentID)
	row("speke", x.Profile)
	row("cenc", x.Scheme)
	row("systems", strings.Join(x.Systems, ", "))
	for i := range x.Keys {
		row("key ID", x.Keys[i].Requested)
		row("answered", x.Keys[i].Answered)
	}
	row("request", x.Request)
	for i := range x.Calls {
		c := &x.Calls[i]
		t.heading("asked " + quoteOdd(c.Upstream))
		row("origin", c.Origin)
		row("took", c.Took.String())
		row("speke", c.Profile)
		row("requests", fmt.Sprint(c.Requests))
		row("as it came", fmt.Sprint(c.Verbatim))
		row("sent", c.Sent)
		row("relayed", fmt.Sprint(c.Relayed))
		row("received", c.Received)
		row("changed", strings.Join(c.Fixes, ", "))
		row("fault", c.Fault)
	}
	t.heading("in the end")
	row("answered by", x.AnsweredBy)
	row("copy", x.CopyError)
	row("error", x.Error)
}
