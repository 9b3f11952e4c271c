package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/playback"
	"spekeasy/internal/tenant"
)

func newToken(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Issue, inspect and revoke playback tokens",
		Long: "Work on playback tokens, which players show when they ask for licenses and HLS keys. They are signed\n" +
			"with the tenant's secret: that of the configuration, or one that is kept with the content keys.",
	}
	cmd.AddCommand(newTokenIssue(e), newTokenInspect(e), newTokenRevoke(e))
	return cmd
}

// tokens runs a command on a tenant's playback tokens.
func (f *operatorFlags) tokens(ctx context.Context, e *env, tenantID string, run func(playback.Tenants, *tenant.Tenant, *playback.Secrets) error) error {
	c, err := f.load(e)
	if err != nil {
		return err
	}
	t, err := playbackTenant(c, tenantID)
	if err != nil {
		return err
	}
	return f.keystore(ctx, e, tenantID, false, func(k *keystore.Keystore, _ *keystore.Custody) error {
		return run(tenant.Static{t.ID: t}, t, playback.NewSecrets(k))
	})
}

// playbackTenant is a tenant that lets players in. One that is not in the
// configuration but in the store, or that of `spekeasy serve --dev`, signs with
// the secret in the store.
func playbackTenant(c *config.Config, id string) (*tenant.Tenant, error) {
	for i := range c.Tenants {
		if c.Tenants[i].ID != id {
			continue
		}
		t, err := c.Tenants[i].Build()
		if err == nil && t.Playback == nil {
			err = fmt.Errorf("tenant %q has no playback in the configuration", id)
		}
		return t, err
	}
	return &tenant.Tenant{ID: id, Playback: new(tenant.Playback)}, keystore.CheckTenant(id)
}

// tokenOptions are the flags of a new token.
type tokenOptions struct {
	tenant            string
	contents, origins []string
	kids              []string
	lasts             time.Duration
	notBefore         string
	keyURLs           string
}

func newTokenIssue(e *env) *cobra.Command {
	var f operatorFlags
	var o tokenOptions
	cmd := &cobra.Command{
		Use:   "issue --tenant ID (--content ID | --kid KEY-ID)...",
		Short: "Issue a playback token",
		Long: "Print a playback token for some content of a tenant. The content ID is the one that encryptors asked\n" +
			"for keys with. With --key-urls the token stands in the URLs of HLS keys, for playlists of one viewer.",
		Example: "  spekeasy token issue --config spekeasy.yaml --tenant acme --content movie --for 4h\n" +
			"  spekeasy token issue --data dev --tenant dev --content movie --origin https://tv.example.com",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			claims, err := o.claims(time.Now())
			if err != nil {
				return err
			}
			return f.tokens(cmd.Context(), e, o.tenant, func(_ playback.Tenants, t *tenant.Tenant, secrets *playback.Secrets) error {
				text, c, err := playback.Issue(cmd.Context(), secrets, t, *claims, time.Now())
				if err != nil {
					return fmt.Errorf("playback token: %w", err)
				}
				if o.keyURLs == "" {
					_, err = fmt.Fprintln(e.stdout, text)
					return err
				}
				for _, kid := range c.KIDs {
					for _, content := range c.Contents {
						u := strings.TrimSuffix(o.keyURLs, "/") + "/client/" + url.PathEscape(content) + "/" + kid.String()
						if _, err := fmt.Fprintln(e.stdout, u+"?"+url.Values{playback.TokenParameter: {text}}.Encode()); err != nil {
							return err
						}
					}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	addTenant(cmd, &o.tenant)
	fl := cmd.Flags()
	fl.StringArrayVar(&o.contents, "content", nil, "content `ID` that may be played (repeatable)")
	fl.StringArrayVar(&o.kids, "kid", nil, "`key ID` that may be used (repeatable)")
	fl.StringArrayVar(&o.origins, "origin", nil, "web `origin` that may use it, such as https://tv.example.com; by default any (repeatable)")
	fl.DurationVar(&o.lasts, "for", time.Hour, "how long it is valid")
	fl.StringVar(&o.notBefore, "not-before", "", "`time` from which it is valid, such as 2026-12-31T20:00:00Z; by default now")
	fl.StringVar(&o.keyURLs, "key-urls", "", "print the URLs of HLS keys at the server with this `URL` instead, for each --content and --kid")
	return cmd
}

// claims are what the flags say.
func (o *tokenOptions) claims(now time.Time) (*playback.Claims, error) {
	kids, err := parseKIDs(o.kids)
	if err != nil {
		return nil, err
	}
	if o.keyURLs != "" && (len(kids) == 0 || len(o.contents) == 0) {
		return nil, errors.New("--key-urls needs --content and --kid")
	}
	begin, err := tenant.Time(o.notBefore).Time()
	if err != nil {
		return nil, fmt.Errorf("--not-before: %w", err)
	}
	if begin.IsZero() {
		begin = now
	}
	c := &playback.Claims{Contents: o.contents, KIDs: kids, Origins: o.origins}
	c.NotBefore, c.Expiry = jwt.NewNumericDate(begin), jwt.NewNumericDate(begin.Add(o.lasts))
	return c, nil
}

func newTokenInspect(e *env) *cobra.Command {
	var f operatorFlags
	cmd := &cobra.Command{
		Use:   "inspect TOKEN",
		Short: "Print what a playback token says and whether it is good",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			claims, err := playback.Read(args[0])
			if err != nil {
				return fmt.Errorf("playback token: %w", err)
			}
			return f.tokens(cmd.Context(), e, claims.Tenant, func(tenants playback.Tenants, _ *tenant.Tenant, secrets *playback.Secrets) error {
				if err := printClaims(e, claims); err != nil {
					return err
				}
				if _, _, err := playback.Verify(cmd.Context(), tenants, secrets, args[0], time.Now()); err != nil {
					return err
				}
				_, err := fmt.Fprintln(e.stdout, "\nThe token is good.")
				return err
			})
		},
	}
	f.add(cmd)
	return cmd
}

func printClaims(e *env, c *playback.Claims) error {
	var t table
	t.row("ID", quoteOdd(c.ID))
	t.row("tenant", quoteOdd(c.Tenant))
	t.row("contents", joinOdd(c.Contents))
	t.row("key IDs", joinKIDs(c.KIDs))
	t.row("web origins", joinOdd(c.Origins))
	for _, at := range []struct {
		name string
		date *jwt.NumericDate
	}{{"valid from", c.NotBefore}, {"expires", c.Expiry}} {
		if at.date != nil {
			t.row(at.name, shortTime(at.date.Time()))
		}
	}
	return t.write(e.stdout)
}

func joinOdd(list []string) string {
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = quoteOdd(list[i])
	}
	return orDash(strings.Join(texts, ", "))
}

func joinKIDs(kids []contentkey.KID) string {
	texts := make([]string, len(kids))
	for i, kid := range kids {
		texts[i] = kid.String()
	}
	return orDash(strings.Join(texts, ", "))
}

func newTokenRevoke(e *env) *cobra.Command {
	var f operatorFlags
	var tenantID string
	cmd := &cobra.Command{
		Use:   "revoke --tenant ID (TOKEN | TOKEN-ID)",
		Short: "Revoke a playback token",
		Long:  "Revoke a playback token for good. All servers on the database refuse it from now on.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id := args[0]
			if c, err := playback.Read(id); err == nil {
				if c.Tenant != tenantID {
					return errors.New("the token is another tenant's")
				}
				id = c.ID
			}
			return f.tokens(cmd.Context(), e, tenantID, func(_ playback.Tenants, t *tenant.Tenant, secrets *playback.Secrets) error {
				if err := secrets.Revoke(cmd.Context(), t.ID, id); err != nil {
					return err
				}
				_, err := fmt.Fprintf(e.stdout, "playback token %s of %s is revoked\n", quoteOdd(id), t.ID)
				return err
			})
		},
	}
	f.add(cmd)
	addTenant(cmd, &tenantID)
	return cmd
}
