package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/internal/vendorsim"
)

func newSimulate(e *env) *cobra.Command {
	var listen, auth string
	var faults []string
	o := vendorsim.Options{}
	cmd := &cobra.Command{
		Use:   "simulate VENDOR [--listen ADDRESS] [--fault KIND[:PROBABILITY]]...",
		Short: "Run a stand-in for a vendor's key service, to test with",
		Long: "Run a server that behaves as the public material of a vendor says, oddities included:\n" +
			strings.Join(vendorsim.Vendors(), ", ") + ". Its content keys follow from a seed; they protect nothing.\n\n" +
			"Standard output gets \"ready URL\" once it serves, and on the second line the upstream that it\n" +
			"stands for as one word, credential included, for `spekeasy serve --dev --upstream`.\n\n" +
			"A fault befalls key requests with its probability (default 1). The kinds are HTTP statuses from\n" +
			"400 to 599 and " + strings.Join(vendorsim.FaultKinds(), ", ") + ".",
		Example: "  spekeasy simulate axinom\n" +
			"  spekeasy simulate insys --auth basic --fault slow:0.1 --fault 503:0.05",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, text := range faults {
				f, err := vendorsim.ParseFault(text)
				if err != nil {
					return err
				}
				o.Faults = append(o.Faults, f)
			}
			o.Auth = vendorsim.Auth(auth)
			return e.simulate(cmd.Context(), args[0], listen, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:8090", "`address` and port to listen on; port 0 picks a free one")
	f.StringVar(&o.Seed, "seed", vendorsim.DefaultSeed, "`text` that content keys and credentials follow from")
	f.StringVar(&auth, "auth", "", "`way` in of insys: oauth2 (default), api-key, basic")
	f.DurationVar(&o.TokenLifetime, "token-lifetime", time.Hour, "how long OAuth tokens live")
	f.DurationVar(&o.Delay, "delay", 2*time.Second, "how long the fault slow takes")
	f.StringArrayVar(&faults, "fault", nil, "what goes wrong: `KIND[:PROBABILITY]` (repeatable)")
	return cmd
}

// simulate runs a simulator until ctx ends.
func (e *env) simulate(ctx context.Context, vendor, listen string, o vendorsim.Options) error {
	sim, err := vendorsim.New(vendor, o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	base := "http://" + l.Addr().String()
	up, err := sim.Upstream(base)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.stdout, "ready %s\n%s\n", base, up.Word()); err != nil {
		return err
	}
	srv := &http.Server{Handler: sim, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- srv.Close() }) // requests that hang must not hold it up
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-stopped
}
