package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"spekeasy/adminapi"
	"spekeasy/contentkey"
	"spekeasy/internal/audit"
	"spekeasy/internal/config"
)

func newAudit(e *env) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Read and check the audit log",
		Long: "Read and check the audit log: who was given which content keys, and who was refused.\n" +
			"One of three names the log: DIR, its directory, which is audit in the server's data directory unless\n" +
			"configured otherwise; --config FILE, the one of a configuration, or the database if that alone keeps\n" +
			"the log (audit.database: only); --store URL, a database, with the logs of all servers that share it.\n" +
			"Servers may be running meanwhile.",
	}
	f.add(cmd)
	cmd.AddCommand(newAuditVerify(e, &f), newAuditQuery(e, &f), newAuditExport(e, &f))
	return cmd
}

func newAuditVerify(e *env, from *auditFlags) *cobra.Command {
	var checkpoints []string
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Check that no record was changed or taken away",
		Long: "Check every record of the log against the chain of hashes, and print where it breaks. DIR may be a\n" +
			"file of records too, as `spekeasy audit export` or audit.stdout write them; - is standard input.\n\n" +
			"Whoever may write all files can write the whole chain anew. A checkpoint that is kept elsewhere\n" +
			"finds that: the server's log has one at least every hour that brought a record, and this command\n" +
			"prints the newest. Exits 1 when anything is not as it was written.",
		Example: "  spekeasy audit verify data/audit\n" +
			"  spekeasy audit verify --config spekeasy.yaml --checkpoint SEQ:HASH",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var positions []audit.Position
			for _, text := range checkpoints {
				p, err := audit.ParsePosition(text)
				if err != nil {
					return fmt.Errorf("--checkpoint %w", err)
				}
				positions = append(positions, p)
			}
			return from.read(cmd.Context(), e, args, func(s *auditSource) error {
				report, err := s.verify(cmd.Context(), cmd.InOrStdin(), positions)
				if err != nil {
					return err
				}
				return printAuditReport(e, s, report)
			})
		},
	}
	cmd.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "`SEQ:HASH` that the log must have (repeatable)")
	return cmd
}

func printAuditReport(e *env, s *auditSource, r *audit.Report) error {
	out := bufio.NewWriter(e.stdout)
	fmt.Fprintf(out, "%s: %d records", s.name, r.Records)
	switch {
	case s.store != nil:
		fmt.Fprintf(out, " in %d parts of the logs of %d processes\n", r.Segments, len(r.Heads))
	case r.Segments > 0:
		fmt.Fprintf(out, " in %d segments", r.Segments)
	}
	if r.Records > 0 && s.store == nil {
		fmt.Fprintf(out, ", %d to %d, from %s to %s", r.First.Seq, r.Last.Seq, r.Begin.Format(time.RFC3339), r.End.Format(time.RFC3339))
	}
	if s.store == nil {
		fmt.Fprintln(out)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(out, "note:", n)
	}
	for _, b := range r.Breaks {
		fmt.Fprintln(out, "BREAK:", b)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "and %d more breaks\n", r.More)
	}
	switch {
	case !r.Sound():
	case s.store != nil:
		fmt.Fprintln(out, "Every record is as it was written. Checkpoints:")
		for _, p := range r.Heads {
			fmt.Fprintln(out, p)
		}
	default:
		fmt.Fprintf(out, "Every record is as it was written. Checkpoint: %s\n", r.Last)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if !r.Sound() {
		return fmt.Errorf("%d breaks in the audit log", len(r.Breaks)+r.More)
	}
	return nil
}

// auditFilter are the flags that choose records.
type auditFilter struct {
	q                 audit.Query
	kid, since, until string
}

func (f *auditFilter) addTimes(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.since, "since", "", "not before this `time`: RFC 3339, a date (UTC), or how long ago, such as 90m or 7d")
	cmd.Flags().StringVar(&f.until, "until", "", "before this `time`, as --since")
}

func (f *auditFilter) query(now time.Time) (*audit.Query, error) {
	var err error
	if f.kid != "" {
		if f.q.KID, err = contentkey.ParseKID(f.kid); err != nil {
			return nil, fmt.Errorf("--kid %q: %w", f.kid, err)
		}
	}
	if f.q.Since, err = parseTime(f.since, now); err != nil {
		return nil, fmt.Errorf("--since %w", err)
	}
	if f.q.Until, err = parseTime(f.until, now); err != nil {
		return nil, fmt.Errorf("--until %w", err)
	}
	return &f.q, nil
}

// parseTime reads a time, a date or a duration before now; "" is the zero
// time.
func parseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	var ago config.Duration
	if err := ago.UnmarshalText([]byte(s)); err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("%q is neither a time (2026-01-31T08:00:00Z), nor a date, nor a duration", s)
	}
	return now.Add(-time.Duration(ago)), nil
}

func newAuditQuery(e *env, from *auditFlags) *cobra.Command {
	var f auditFilter
	var asJSON bool
	var remote clientFlags
	cmd := &cobra.Command{
		Use:   "query [DIR]",
		Short: "Find records by content, key ID, tenant, credential, time",
		Long: "Print the records that match all of the flags, oldest first. The table has the first key ID of each\n" +
			"record; --json prints the records as they were written, one per line. With --server it asks a running\n" +
			"server's admin API, as the credential in SPEKEASY_ADMIN or --credential-file.",
		Example: "  spekeasy audit query data/audit --content movie-7 --since 30d\n" +
			"  spekeasy audit query --config spekeasy.yaml --kid 8d0f4cdb-2b04-4b77-bdb1-0b2a5a2ac9c1 --json\n" +
			"  spekeasy audit query data/audit --denied --since 24h",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			if remote.server != "" {
				return remote.call(e, func(ctx context.Context, c *adminapi.Client, _ []string) error {
					return printRemote(ctx, e, c, q, f.kid, asJSON)
				})(cmd, args)
			}
			return from.read(cmd.Context(), e, args, func(s *auditSource) error { return printRecords(cmd.Context(), e, q, s, asJSON) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&remote.server, "server", "", "`URL` of a running server's admin listener, to ask that")
	fl.StringVar(&remote.credentialFile, "credential-file", "", "`file` with NAME:PASSWORD of an admin credential")
	fl.StringVar(&f.q.Admin, "admin", "", "`name` of the admin credential")
	fl.StringVar(&f.q.ContentID, "content", "", "content `ID`")
	fl.StringVar(&f.kid, "kid", "", "`key ID`, answered or asked for")
	fl.StringVar(&f.q.Credential, "credential", "", "`name` of the credential")
	fl.StringVar(&f.q.Tenant, "tenant", "", "tenant `ID`")
	fl.StringVar(&f.q.RequestID, "request", "", "request `ID`")
	fl.BoolVar(&f.q.Denied, "denied", false, "only what was refused or failed")
	fl.BoolVar(&asJSON, "json", false, "print the records as they were written")
	f.addTimes(cmd)
	return cmd
}

func newAuditExport(e *env, from *auditFlags) *cobra.Command {
	var f auditFilter
	cmd := &cobra.Command{
		Use:   "export [DIR]",
		Short: "Print all records as JSON lines",
		Long: "Print all records, those of the server itself included, as they were written, one JSON object per\n" +
			"line. What comes out can be checked by `spekeasy audit verify -`; a database is rather checked itself.",
		Example: "  spekeasy audit export data/audit --since 30d > records.jsonl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := f.query(time.Now())
			if err != nil {
				return err
			}
			return from.read(cmd.Context(), e, args, func(s *auditSource) error { return printRecords(cmd.Context(), e, q, s, true) })
		},
	}
	f.addTimes(cmd)
	return cmd
}

// printRemote is printRecords for a server's log.
func printRemote(ctx context.Context, e *env, c *adminapi.Client, q *audit.Query, kid string, asJSON bool) error {
	out := bufio.NewWriterSize(e.stdout, 64<<10)
	if !asJSON {
		writeHead(out)
	}
	list := func(p adminapi.PageRequest) (*adminapi.Page[adminapi.AuditRecord], error) {
		return c.Audit(ctx, adminapi.AuditQuery{
			ContentID: q.ContentID, KID: kid, Tenant: q.Tenant, Credential: q.Credential, Admin: q.Admin, RequestID: q.RequestID,
			Since: q.Since, Until: q.Until, Denied: q.Denied,
		}, p)
	}
	for text, err := range adminapi.All(list) {
		if err != nil {
			return errors.Join(out.Flush(), err)
		}
		if asJSON {
			out.Write(text)     //nolint:errcheck // Flush reports it
			out.WriteByte('\n') //nolint:errcheck // Flush reports it
			continue
		}
		var r audit.Record
		if err := json.Unmarshal(text, &r); err != nil {
			return errors.Join(out.Flush(), fmt.Errorf("a record: %w", err))
		}
		printRecord(out, &r) //nolint:errcheck // Flush reports it
	}
	return out.Flush()
}

func writeHead(out *bufio.Writer) {
	writeRow(out, "TIME", "RESULT", "TENANT", "CREDENTIAL", "CONTENT", "KEY ID", "PROTECTION", "FROM", "REQUEST", "") //nolint:errcheck // Flush reports it
}

// printRecords prints what a query finds, as it is found: there may be much.
func printRecords(ctx context.Context, e *env, q *audit.Query, s *auditSource, asJSON bool) error {
	out := bufio.NewWriterSize(e.stdout, 64<<10)
	if !asJSON {
		writeHead(out)
	}
	err := s.query(ctx, q, func(text []byte, r *audit.Record) (err error) {
		if asJSON {
			out.Write(text) //nolint:errcheck // the next one reports it
			err = out.WriteByte('\n')
		} else {
			err = printRecord(out, r)
		}
		return err
	})
	return errors.Join(err, out.Flush())
}

// writeRow writes a row of columns that fit what they usually hold: nobody
// knows how much will come.
func writeRow(out *bufio.Writer, cells ...any) error {
	row := fmt.Sprintf("%-20s %-13s %-10s %-12s %-20s %-39s %-10s %-21s %-16s %s", cells...)
	_, err := out.WriteString(strings.TrimRight(row, " ") + "\n")
	return err
}

func printRecord(out *bufio.Writer, r *audit.Record) error {
	result := r.Event
	if r.Event == audit.KeyRequest {
		result = r.Result
		if r.Status != 0 {
			result += " " + strconv.Itoa(r.Status)
		}
	}
	kids := "-"
	if n := len(r.KIDs); n > 0 {
		kids = r.KIDs[0].String()
		if n > 1 {
			kids += fmt.Sprintf(" +%d", n-1)
		}
	}
	rest := plain(r.Error)
	if r.Admin != "" {
		rest = strings.TrimSpace("by " + plain(r.Admin) + " " + plain(r.Change) + " " + rest)
		if r.Status != 0 {
			result += " " + strconv.Itoa(r.Status)
		}
	}
	return writeRow(out, r.Time.Format("2006-01-02T15:04:05Z"), result, cell(r.Tenant), cell(r.Credential),
		cell(r.ContentID), kids, cell(r.Protection), cell(r.Remote), cell(r.RequestID), rest)
}

// cell is a text of a table, "-" for none.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return plain(s)
}

// plain is a text without what could confuse a terminal: some of it came over
// the network.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
