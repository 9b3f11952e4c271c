package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
	"spekeasy/internal/packager"
	"spekeasy/internal/tenant"
)

func newKeys(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Manage, import, export and rewrap content keys in the store itself, without a server",
		Long: "Work on the content keys of a server's store. The commands open the store themselves, and may run while\n" +
			"servers use it; `spekeasy key` asks a running server instead, over its admin API. A server notices a\n" +
			"deletion within the lifetime of its cache (5 minutes by default), and everything else at once.",
	}
	cmd.AddCommand(newKeysList(e), newKeysShow(e), newKeysImport(e), newKeysExport(e),
		newKeysDelete(e), newKeysUndelete(e), newKeysPurge(e), newKeysRewrap(e))
	return cmd
}

// state is what can be done with a key.
func state(r *keystore.Record) string {
	switch {
	case r.Deleted.IsZero():
		return "live"
	case r.Purged():
		return "purged"
	default:
		return "deleted"
	}
}

func shortTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

func newKeysList(e *env) *cobra.Command {
	var f operatorFlags
	var tenantID, content string
	cmd := &cobra.Command{
		Use:   "list --tenant ID [--content ID]",
		Short: "List the content keys of a tenant, or those that a content was given",
		Example: "  spekeasy keys list --config spekeasy.yaml --tenant acme\n" +
			"  spekeasy keys list --config spekeasy.yaml --tenant acme --content movie",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.keystore(cmd.Context(), e, tenantID, false, func(_ *keystore.Keystore, custody *keystore.Custody) error {
				if content != "" {
					return listContent(cmd.Context(), e.stdout, custody, tenantID, content)
				}
				return listKeys(cmd.Context(), e.stdout, custody, tenantID)
			})
		},
	}
	f.add(cmd)
	addTenant(cmd, &tenantID)
	cmd.Flags().StringVar(&content, "content", "", "only what was asked for under this content `ID`")
	return cmd
}

// listKeys prints as it reads: there may be millions.
func listKeys(ctx context.Context, w io.Writer, custody *keystore.Custody, tenantID string) error {
	const row = "%-36s  %-7s  %-14s  %-20s  %-4s  %s\n"
	fmt.Fprintf(w, row, "KEY ID", "STATE", "SOURCE", "CREATED", "CENC", "FIRST CONTENT")
	for page, err := range custody.RecordPages(ctx, tenantID) {
		if err != nil {
			return err
		}
		for i := range page {
			r := &page[i]
			_, err := fmt.Fprintf(w, row, r.KID, state(r), r.Source, shortTime(r.Created), orDash(r.Scheme.String()), quoteOdd(r.ContentID))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func listContent(ctx context.Context, w io.Writer, custody *keystore.Custody, tenantID, content string) error {
	const row = "%-36s  %-8s  %-4s  %-12s  %-20s  %s\n"
	fmt.Fprintf(w, row, "KEY ID", "TRACK", "CENC", "PERIOD", "LAST SEEN", "REQUESTED AS")
	for page, err := range custody.BindingPages(ctx, tenantID, keystore.BindingFilter{ContentID: content}) {
		if err != nil {
			return err
		}
		for i := range page {
			b := &page[i]
			requested := "-"
			if b.Requested != b.KID {
				requested = b.Requested.String()
			}
			_, err := fmt.Fprintf(w, row, b.KID, quoteOdd(b.Track), orDash(b.Scheme.String()), quoteOdd(b.Period.Name()), shortTime(b.LastSeen), requested)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// quoteOdd keeps a text of a request from moving the cursor.
func quoteOdd(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || 0x80 <= c && c < 0xa0 || c == '\ufffd' }) {
		return fmt.Sprintf("%q", s)
	}
	return orDash(s)
}

func newKeysShow(e *env) *cobra.Command {
	var f operatorFlags
	var tenantID string
	var showKeys bool
	var tool toolFlags
	cmd := &cobra.Command{
		Use:   "show --tenant ID (KEY-ID... | CONTENT --for TOOL)",
		Short: "Print what is known of content keys, or a content's keys as a packaging tool takes them",
		Long: "Print what is known of content keys. With --for, print the keys of a content as the arguments of a\n" +
			"packaging tool, or as the file that it reads: shaka (Shaka Packager), bento4 (mp4encrypt, with video as\n" +
			"track 1 and audio as track 2), ffmpeg, gpac (the file of MP4Box -crypt, tracks as before) and mp4ff\n" +
			"(mp4ff-encrypt). No key is made.",
		Example: "  spekeasy keys show --config spekeasy.yaml --tenant acme 8d0f4cdb-2b04-4b77-bdb1-0b2a5a2ac9c1\n" +
			"  spekeasy keys show --config spekeasy.yaml --tenant acme movie --for shaka --show-keys",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tool.tool != "" {
				return tool.showFor(cmd.Context(), e, &f, tenantID, args, showKeys)
			}
			kids, err := parseKIDs(args)
			if err != nil {
				return err
			}
			return f.keystore(cmd.Context(), e, tenantID, false, func(k *keystore.Keystore, custody *keystore.Custody) error {
				records, err := custody.Records(cmd.Context(), tenantID, kids)
				if err != nil {
					return err
				}
				for i := range records {
					if i > 0 {
						fmt.Fprintln(e.stdout)
					}
					if err := showKey(cmd.Context(), e.stdout, k, custody, &records[i], showKeys); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	addTenant(cmd, &tenantID)
	fl := cmd.Flags()
	fl.BoolVar(&showKeys, "show-keys", false, "print content keys in clear; --for needs it")
	fl.StringVar(&tool.tool, "for", "", "`tool` to print a content's keys for: "+strings.Join(packager.Tools(), ", "))
	fl.StringVar(&tool.scheme, "scheme", "", "with --for: common encryption `scheme`, cenc or cbcs; by default what the content was asked for under")
	fl.StringVar(&tool.track, "track", "", "with --for: `type` of the track, where a tool takes one key and there are several: SD, HD, UHD1, UHD2, AUDIO")
	fl.StringVar(&tool.period, "period", "", "with --for: `index` of the key period")
	return cmd
}

func showKey(ctx context.Context, w io.Writer, k *keystore.Keystore, custody *keystore.Custody, r *keystore.Record, showKeys bool) error {
	var t table
	t.row("key ID", r.KID.String())
	t.row("tenant", r.Tenant)
	t.row("state", state(r))
	if r.Deleted.IsZero() {
		keys, err := k.Lookup(ctx, r.Tenant, []contentkey.KID{r.KID})
		if err != nil {
			return err
		}
		text := masked
		if showKeys {
			text = hex.EncodeToString(keys[0].Value[:])
		}
		t.row("key", text)
		t.row("IV", keys[0].IV.String())
	} else {
		t.row("deleted", shortTime(r.Deleted))
	}
	t.row("made by", r.Source)
	t.row("created", shortTime(r.Created))
	t.row("first content", quoteOdd(r.ContentID))
	t.row("first scheme", orDash(r.Scheme.String()))
	t.row("sealed under", fmt.Sprintf("data key %d", r.DataKey))
	if err := t.write(w); err != nil {
		return err
	}
	const most = 100
	t = table{}
	t.row("CONTENT", "TRACK", "CENC", "PERIOD", "SPEKE", "FIRST SEEN", "LAST SEEN", "REQUESTED AS")
	n := 0
	for page, err := range custody.BindingPages(ctx, r.Tenant, keystore.BindingFilter{KID: r.KID}) {
		if err != nil {
			return err
		}
		for i := range page {
			if n++; n > most {
				continue
			}
			b := &page[i]
			t.row(quoteOdd(b.ContentID), quoteOdd(b.Track), orDash(b.Scheme.String()), quoteOdd(b.Period.Name()), orDash(b.Profile),
				shortTime(b.FirstSeen), shortTime(b.LastSeen), b.Requested.String())
		}
	}
	if n == 0 {
		_, err := fmt.Fprintln(w, "\nno bindings")
		return err
	}
	fmt.Fprintln(w)
	if err := t.write(w); err != nil || n <= most {
		return err
	}
	_, err := fmt.Fprintf(w, "and %d more\n", n-most)
	return err
}

func newKeysDelete(e *env) *cobra.Command {
	return changeKeys(e, "delete", "Mark content keys as deleted",
		"Mark content keys as deleted: requests for them are refused from now on, by running servers once\n"+
			"their caches have expired. `spekeasy keys undelete` brings them back until they are purged.",
		func(ctx context.Context, custody *keystore.Custody, tenantID string, kids []contentkey.KID) (string, error) {
			n, err := custody.Delete(ctx, tenantID, kids)
			return count(n, "content key", "content keys") + " deleted", err
		})
}

func newKeysUndelete(e *env) *cobra.Command {
	return changeKeys(e, "undelete", "Bring deleted content keys back",
		"Bring deleted content keys back, with the values that they had.",
		func(ctx context.Context, custody *keystore.Custody, tenantID string, kids []contentkey.KID) (string, error) {
			n, err := custody.Undelete(ctx, tenantID, kids)
			return count(n, "content key", "content keys") + " undeleted", err
		})
}

func changeKeys(e *env, use, short, long string,
	change func(context.Context, *keystore.Custody, string, []contentkey.KID) (string, error),
) *cobra.Command {
	var f operatorFlags
	var tenantID string
	cmd := &cobra.Command{
		Use: use + " --tenant ID KEY-ID...", Short: short, Long: long,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			kids, err := parseKIDs(args)
			if err != nil {
				return err
			}
			return f.keystore(cmd.Context(), e, tenantID, false, func(_ *keystore.Keystore, custody *keystore.Custody) error {
				said, err := change(cmd.Context(), custody, tenantID, kids)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(e.stdout, said)
				return err
			})
		},
	}
	f.add(cmd)
	addTenant(cmd, &tenantID)
	return cmd
}

// purgeHelp says what a purge destroys and what it costs.
const purgeHelp = "Destroy the values of content keys that were deleted and whose time of grace is over. What was encrypted\n" +
	"with them can never be played again, and their key IDs stay refused for ever. Backups that were made before\n" +
	"still hold them.\n\n" +
	"An SQLite database that has purged keys is then rewritten, so that no copy of a value stays in its files. That\n" +
	"takes time and free disk as large as the database: once beside it, once where temporary files are. Key requests\n" +
	"that have something to store wait meanwhile, and are refused with 503 after 5 seconds. On PostgreSQL, run\n" +
	"VACUUM FULL content_keys yourself."

func newKeysPurge(e *env) *cobra.Command {
	var f operatorFlags
	var o keystore.PurgeOptions
	cmd := &cobra.Command{
		Use:   "purge [--tenant ID] [--grace DURATION]",
		Short: "Destroy the values of content keys that were deleted long ago",
		Long:  purgeHelp,
		Example: "  spekeasy keys purge --config spekeasy.yaml --dry-run\n" +
			"  spekeasy keys purge --config spekeasy.yaml --tenant acme --grace 72h",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.keystore(cmd.Context(), e, o.Tenant, false, func(_ *keystore.Keystore, custody *keystore.Custody) error {
				if o.Grace < 0 {
					return errors.New("--grace: must not be negative")
				}
				p := newProgress(e.stderr)
				o.Progress = func(r keystore.PurgeReport) {
					p.show(-1, fmt.Sprintf("%d content keys looked at, %d purged", r.Looked, r.Purged))
				}
				r, err := custody.Purge(cmd.Context(), o)
				p.done()
				if err != nil {
					return err
				}
				done := "purged"
				if o.DryRun {
					done = "would be purged"
				}
				_, err = fmt.Fprintf(e.stdout, "%s %s, %d deleted ones are within their time of grace\n", count(r.Purged, "content key", "content keys"), done, r.Waiting)
				return err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.Tenant, "tenant", "", "tenant `ID`; by default all tenants")
	cmd.Flags().DurationVar(&o.Grace, "grace", keystore.DefaultGrace, "spare keys that were deleted less than this `duration` ago")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only count what would be purged")
	return cmd
}

func newKeysRewrap(e *env) *cobra.Command {
	var f operatorFlags
	var o keystore.RewrapOptions
	cmd := &cobra.Command{
		Use:   "rewrap [--data-keys] [--kek]",
		Short: "Rotate data keys and the key encryption key",
		Long: "Put every content key under its tenant's newest data key and every data key under the key manager's\n" +
			"present KEK, and remove data keys that have been out of use for an hour. No content key changes.\n" +
			"The command may be interrupted and repeated, and run while servers use the store. When it has rewrapped\n" +
			"or removed a data key, an SQLite database is rewritten, as `spekeasy keys purge` does.\n\n" +
			"With --data-keys it makes new data keys first. With --kek it also rewraps data keys under a KEK that\n" +
			"the key manager rotated without changing its name.",
		Example: "  spekeasy keys rewrap --config spekeasy.yaml --data-keys\n" +
			"  spekeasy keys rewrap --config spekeasy.yaml --dry-run",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.keystore(cmd.Context(), e, "", false, func(k *keystore.Keystore, custody *keystore.Custody) error {
				if documents, ok := custody.Store().(tenant.Store); ok {
					o.Secrets = tenant.NewResealer(documents, tenant.NewVault(k), time.Now)
				}
				p := newProgress(e.stderr)
				o.Progress = func(r keystore.RewrapReport) {
					p.show(-1, fmt.Sprintf("%d content keys looked at, %d sealed anew", r.Looked, r.Resealed))
				}
				r, err := custody.Rewrap(cmd.Context(), o)
				p.done()
				if printErr := printRewrap(e.stdout, &r, o.DryRun); printErr != nil || err != nil {
					return errors.Join(err, printErr)
				}
				if r.Damaged > 0 {
					return fmt.Errorf("%s not open, the first is %w; run `spekeasy doctor`", count(r.Damaged, "content key does", "content keys do"), r.FirstDamage)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&o.NewDataKeys, "data-keys", false, "make a new data key for each tenant")
	fl.DurationVar(&o.MinAge, "min-age", 24*time.Hour, "with --data-keys: but not for a tenant whose newest is younger, so that an interrupted run can be repeated")
	fl.BoolVar(&o.SameKEK, "kek", false, "rewrap all data keys, also those under the present KEK")
	fl.BoolVar(&o.DryRun, "dry-run", false, "only count what there is to do")
	return cmd
}

func printRewrap(w io.Writer, r *keystore.RewrapReport, dryRun bool) error {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	if dryRun {
		line("to do: %s to make, %s to seal anew, %s to remove", count(r.NewDataKeys, "data key", "data keys"),
			count(r.Left, "content key", "content keys"), count(r.Removed, "data key", "data keys"))
	} else {
		line("done: %s made, %s of %d sealed anew, %s rewrapped, %d removed", count(r.NewDataKeys, "data key", "data keys"),
			count(r.Resealed, "content key", "content keys"), r.Looked, count(r.Rewrapped, "data key", "data keys"), r.Removed)
		if r.Secrets > 0 {
			line("and %s of tenants sealed anew", count(r.Secrets, "secret", "secrets"))
		}
		if r.Left > 0 {
			line("left: %s under an older data key; run this again", count(r.Left, "content key", "content keys"))
		}
	}
	for _, kek := range slices.Sorted(maps.Keys(r.OldKEKs)) {
		line("left: %s under KEK %s, which is still needed", count(r.OldKEKs[kek], "data key", "data keys"), kek)
	}
	if r.Unused > 0 {
		line("left: %s that nothing is sealed under; run this again after %s to remove what is old enough by then",
			count(r.Unused, "data key", "data keys"), shortTime(r.Removable))
	}
	if r.Rewrapped > 0 && len(r.OldKEKs) == 0 {
		line("former KEKs are not needed any more, except for backups that were made until now")
	}
	_, err := io.WriteString(w, out.String())
	return err
}
