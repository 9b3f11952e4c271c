package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/internal/keylist"
	"spekeasy/internal/keystore"
)

// exportFlags are the flags of `spekeasy keys export`.
type exportFlags struct {
	operatorFlags
	tenant, content string
	format          string
	recipient, out  string
	clear, force    bool
}

func newKeysExport(e *env) *cobra.Command {
	var f exportFlags
	cmd := &cobra.Command{
		Use:   "export --tenant ID [--format FORMAT] (--recipient CERT.pem | --clear)",
		Short: "Write content keys for another key provider",
		Long: "Write the content keys of a tenant, or of one content, as CPIX document, JSON lines or CSV. Only CPIX can\n" +
			"be encrypted to a recipient's certificate; the others need --clear, and so does CPIX without --recipient.\n" +
			"Deleted keys are left out. For a copy of everything for spekeasy itself see `spekeasy backup`.",
		Example: "  spekeasy keys export --config spekeasy.yaml --tenant acme --recipient partner.pem --out keys.xml\n" +
			"  spekeasy keys export --config spekeasy.yaml --tenant acme --content movie --format csv --clear --out keys.csv",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context(), e) },
	}
	f.add(cmd)
	fl := cmd.Flags()
	addTenant(cmd, &f.tenant)
	fl.StringVar(&f.content, "content", "", "only the keys of this content `ID`")
	fl.StringVar(&f.format, "format", "cpix", "`format` to write: cpix, jsonl or csv")
	fl.StringVar(&f.recipient, "recipient", "", "PEM `file` with the RSA certificate to encrypt the keys of a CPIX document to")
	fl.StringVar(&f.out, "out", "", "`file` to make, readable by its owner only; by default standard output")
	fl.BoolVar(&f.clear, "clear", false, "write the keys in clear")
	fl.BoolVar(&f.force, "force", false, "with --clear: even to a terminal")
	cmd.MarkFlagsMutuallyExclusive("recipient", "clear")
	cmd.MarkFlagsOneRequired("recipient", "clear")
	return cmd
}

// readCertificate reads a certificate that content keys can be encrypted to.
func readCertificate(path string) (*x509.Certificate, error) {
	block, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	cert, err := cpix.ParseCertificate(base64.StdEncoding.EncodeToString(block.Bytes))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

func (f *exportFlags) run(ctx context.Context, e *env) error {
	format, err := keylist.ParseFormat(f.format)
	if err != nil {
		return err
	}
	var to *x509.Certificate
	if f.recipient != "" {
		if format != keylist.CPIX {
			return fmt.Errorf("--recipient: only CPIX can be encrypted; %s needs --clear", format)
		}
		if to, err = readCertificate(f.recipient); err != nil {
			return err
		}
	}
	if f.clear && f.out == "" && isTerminal(e.stdout) && !f.force {
		return errors.New("content keys in clear do not go to a terminal without --force")
	}
	return f.keystore(ctx, e, f.tenant, false, func(k *keystore.Keystore, custody *keystore.Custody) error {
		if f.out == "" {
			_, err := f.write(ctx, e, e.stdout, format, to, k, custody)
			return err
		}
		file, err := createFile(f.out)
		if err != nil {
			return err
		}
		defer file.discard()
		n, err := f.write(ctx, e, file, format, to, k, custody)
		if err != nil {
			return err
		}
		if err := file.commit(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(e.stdout, "%s written to %s\n", count(n, "content key", "content keys"), f.out)
		return err
	})
}

func (f *exportFlags) write(ctx context.Context, e *env, out io.Writer, format keylist.Format, to *x509.Certificate,
	k *keystore.Keystore, custody *keystore.Custody,
) (n int, err error) {
	if f.clear {
		fmt.Fprintln(e.stderr, "warning: the content keys are written in clear; whoever reads them can decrypt the content for ever")
	}
	var w keylist.Writer
	switch format {
	case keylist.CPIX:
		w, err = keylist.NewCPIXWriter(out, rand.Reader, f.content, to)
	case keylist.JSONL:
		w = keylist.NewJSONWriter(out)
	default:
		w, err = keylist.NewCSVWriter(out)
	}
	if err != nil {
		return 0, err
	}
	p := newProgress(e.stderr)
	defer p.done()
	keys := custody.Keys(ctx, f.tenant)
	if f.content != "" {
		keys = keysOfContent(ctx, k, custody, f.tenant, f.content)
	}
	for key, err := range keys {
		if err != nil {
			return n, err
		}
		row, err := exportRow(ctx, custody, &key, f.content, format)
		if err != nil {
			return n, err
		}
		if err := w.Write(row); err != nil {
			return n, err
		}
		n++
		p.show(-1, count(n, "content key", "content keys"))
	}
	return n, w.Close()
}

// keysOfContent walks the living keys that a content was given.
func keysOfContent(ctx context.Context, k *keystore.Keystore, custody *keystore.Custody, tenantID, content string) iter.Seq2[keystore.StoredKey, error] {
	return func(yield func(keystore.StoredKey, error) bool) {
		met := make(map[contentkey.KID]bool)
		for page, err := range custody.BindingPages(ctx, tenantID, keystore.BindingFilter{ContentID: content}) {
			if err != nil {
				yield(keystore.StoredKey{}, err)
				return
			}
			for i := range page {
				kid := page[i].KID
				if met[kid] {
					continue
				}
				met[kid] = true
				key, err := storedKey(ctx, k, custody, tenantID, kid)
				if errors.Is(err, keystore.ErrDeleted) {
					continue
				}
				if !yield(key, err) || err != nil {
					return
				}
			}
		}
	}
}

func storedKey(ctx context.Context, k *keystore.Keystore, custody *keystore.Custody, tenantID string, kid contentkey.KID) (keystore.StoredKey, error) {
	one := []contentkey.KID{kid}
	records, err := custody.Records(ctx, tenantID, one)
	if err != nil {
		return keystore.StoredKey{}, err
	}
	keys, err := k.Lookup(ctx, tenantID, one)
	if err != nil {
		return keystore.StoredKey{}, err
	}
	return keystore.StoredKey{Record: records[0], Value: keys[0].Value, IV: keys[0].IV}, nil
}

// exportRow adds to a key what its first binding says, of the given content
// if there is one.
func exportRow(ctx context.Context, custody *keystore.Custody, key *keystore.StoredKey, content string, format keylist.Format) (*keylist.Row, error) {
	row := &keylist.Row{
		ImportedKey: keystore.ImportedKey{
			KID: key.KID, Value: key.Value, IV: key.IV, HasIV: true, ContentID: key.ContentID, Scheme: key.Scheme,
		},
		Source: key.Source, Created: key.Created,
	}
	for page, err := range custody.BindingPages(ctx, key.Tenant, keystore.BindingFilter{ContentID: content, KID: key.KID}) {
		if err != nil {
			return nil, err
		}
		b := &page[0]
		row.ContentID, row.Track, row.Period = b.ContentID, b.Track, b.Period
		if row.Scheme == 0 {
			row.Scheme = b.Scheme
		}
		break
	}
	// An IV beside a key for counter mode invites packagers to use it for
	// every track (D-30).
	if format == keylist.CPIX && (row.Scheme == contentkey.Cenc || row.Scheme == contentkey.Cens) {
		row.HasIV = false
	}
	return row, nil
}
