package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/internal/kidrule"
)

func newKID(e *env) *cobra.Command {
	var rule, scheme, requested, speke string
	var in kidrule.Input
	cmd := &cobra.Command{
		Use:   "kid --rule RULE --content ID [--track TYPE] [--period NAME] [--scheme SCHEME] [--tenant ID]",
		Short: "Print the key ID that a KID rule gives, without asking a server",
		Long: "Print the key ID that a tenant's KID rule will answer for a content, before any job runs.\n\n" +
			"  as-asked       the encryptor's own key ID (--requested)\n" +
			"  uuidv5         version 5 UUID of the netstrings of content ID, period and track in namespace\n" +
			"                 " + kidrule.Namespace.String() + "\n" +
			"  uuidv5-scheme  the same with the scheme as a fourth netstring\n" +
			"  sha256-xor     SHA-256 of tenant, content ID, period (\"0\" for none) and, in SPEKE 1.0, the index of\n" +
			"                 the key, in SPEKE 2.x scheme and track; first half XOR second half\n\n" +
			"The period is the index of the ContentKeyPeriod; without an index, its start; without both, its id.\n" +
			"The track is the intendedTrackType; SPEKE 1.0 has none.",
		Example: "  spekeasy kid --content movie --track VIDEO\n" +
			"  spekeasy kid --rule sha256-xor --tenant acme --content channel-7 --period 6 --scheme cbcs --track HD",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := kidrule.Parse(rule)
			if err != nil {
				return err
			}
			if scheme != "" {
				if in.Scheme, err = contentkey.ParseScheme(scheme); err != nil {
					return fmt.Errorf("--scheme %q: %w", scheme, err)
				}
			}
			if requested != "" {
				if in.Requested, err = contentkey.ParseKID(requested); err != nil {
					return fmt.Errorf("--requested %q: %w", requested, err)
				}
			}
			switch {
			case r.IsAsAsked() && requested == "":
				return fmt.Errorf("rule %s needs --requested", r)
			case !r.IsAsAsked() && in.ContentID == "":
				return fmt.Errorf("rule %s needs --content", r)
			}
			switch speke {
			case "1.0":
				in.V1 = true
			case "2.0", "2.1":
			default:
				return fmt.Errorf("--speke %q is none of 1.0, 2.0, 2.1", speke)
			}
			_, err = fmt.Fprintln(e.stdout, r.KID(&in))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&rule, "rule", "uuidv5", "KID `rule`, one of the above")
	f.StringVar(&in.ContentID, "content", "", "content `ID`")
	f.StringVar(&in.Track, "track", "", "`type` of the track, its intendedTrackType")
	f.StringVar(&in.Period, "period", "", "`name` of the key period")
	f.StringVar(&scheme, "scheme", "", "common encryption `scheme`: cenc, cbcs, cbc1")
	f.StringVar(&in.Tenant, "tenant", "dev", "tenant `ID`, for sha256-xor")
	f.IntVar(&in.Index, "index", 0, "`position` of the key in a SPEKE 1.0 request, for sha256-xor")
	f.StringVar(&requested, "requested", "", "the encryptor's `key ID`, for as-asked")
	f.StringVar(&speke, "speke", "2.0", "SPEKE `version` of the request")
	return cmd
}
