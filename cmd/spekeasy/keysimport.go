package main

import (
	"bufio"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"spekeasy/internal/keylist"
	"spekeasy/internal/keystore"
)

// importFlags are the flags of `spekeasy keys import`.
type importFlags struct {
	operatorFlags
	tenant, format string
	key, cert      string
	dryRun         bool
}

func newKeysImport(e *env) *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import --tenant ID FILE",
		Short: "Take over content keys from another key provider",
		Long: "Take over content keys from a CPIX document, JSON lines or CSV. What is stored is never overwritten:\n" +
			"a key ID that has another key is reported, and the command exits 1 after all others are imported.\n" +
			"An import that was interrupted is completed by another one.\n\n" +
			"CSV has a line with the names of the columns, JSON one object a line. The columns are kid and key, and\n" +
			"optionally iv, content_id, track, scheme, period_index and others that `keys export` writes; usual other\n" +
			"names such as KeyId are understood. Key IDs are UUIDs; keys and IVs are hexadecimal or base64.\n\n" +
			"  kid,key,iv\n" +
			"  0d6b4013-9b5d-4e3f-a10c-5e9d6b8f2a77,000102030405060708090a0b0c0d0e0f,101112131415161718191a1b1c1d1e1f\n\n" +
			`  {"kid":"0d6b4013-9b5d-4e3f-a10c-5e9d6b8f2a77","key":"AAECAwQFBgcICQoLDA0ODw==","content_id":"movie"}`,
		Example: "  spekeasy keys import --config spekeasy.yaml --tenant acme keys.csv --dry-run\n" +
			"  spekeasy keys import --config spekeasy.yaml --tenant acme keys.xml --key mine.pem",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), e, args[0]) },
	}
	f.add(cmd)
	fl := cmd.Flags()
	addTenant(cmd, &f.tenant)
	fl.StringVar(&f.format, "format", "", "`format` of the file: cpix, jsonl or csv; by default told from the file")
	fl.StringVar(&f.key, "key", "", "PEM `file` with the RSA private key that a CPIX document is encrypted to")
	fl.StringVar(&f.cert, "cert", "", "PEM `file` with the certificate of --key, where the document does not tell by the key")
	fl.BoolVar(&f.dryRun, "dry-run", false, "only tell what an import would do")
	return cmd
}

func (f *importFlags) run(ctx context.Context, e *env, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	in := &counted{Reader: file}
	rows, err := f.reader(in, path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.keystore(ctx, e, f.tenant, !f.dryRun, func(_ *keystore.Keystore, custody *keystore.Custody) error {
		im, err := custody.NewImport(f.tenant, f.dryRun)
		if err != nil {
			return err
		}
		r := importing{e: e, rows: rows, im: im, in: in, progress: newProgress(e.stderr)}
		if info, err := file.Stat(); err == nil {
			r.size = info.Size()
		}
		err = r.all(ctx)
		r.progress.done()
		return r.conclude(path, f.dryRun, err)
	})
}

func (f *importFlags) reader(r io.Reader, path string) (keylist.Reader, error) {
	in := bufio.NewReader(r)
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var format keylist.Format
	if f.format == "" {
		format, err = keylist.Detect(path, head)
	} else {
		format, err = keylist.ParseFormat(f.format)
	}
	if err != nil {
		return nil, err
	}
	switch format {
	case keylist.CPIX:
		to, err := f.recipient()
		if err != nil {
			return nil, err
		}
		return keylist.NewCPIXReader(in, to)
	case keylist.JSONL:
		return keylist.NewJSONReader(in), nil
	default:
		return keylist.NewCSVReader(in)
	}
}

// recipient reads what opens an encrypted document; nil when there is
// nothing.
func (f *importFlags) recipient() (*keylist.Recipient, error) {
	if f.key == "" {
		if f.cert != "" {
			return nil, errors.New("--cert goes with --key")
		}
		return nil, nil //nolint:nilnil // no recipient is no error
	}
	var to keylist.Recipient
	block, err := readPEM(f.key)
	if err != nil {
		return nil, err
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	private, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: not an RSA private key without passphrase", f.key)
	}
	to.Key = private
	if f.cert != "" {
		if to.Cert, err = readCertificate(f.cert); err != nil {
			return nil, err
		}
	}
	return &to, nil
}

// readPEM returns the first block of a PEM file.
func readPEM(path string) (*pem.Block, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, err
	}
	defer clear(text)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: not a PEM file", path)
	}
	return block, nil
}

// importing is an import under way.
type importing struct {
	e        *env
	rows     keylist.Reader
	im       *keystore.Import
	in       *counted
	size     int64
	progress *progress

	outcomes   map[keystore.ImportOutcome]int
	unreadable int
	told       int
}

const (
	importBatch = 1000
	mostTold    = 1000 // conflicts and unreadable rows that are listed
)

// all reads to the end of the file, a batch at a time.
func (r *importing) all(ctx context.Context) error {
	r.outcomes = make(map[keystore.ImportOutcome]int)
	batch := make([]keystore.ImportedKey, 0, importBatch)
	for {
		key, err := r.rows.Read()
		row, bad := errors.AsType[*keylist.RowError](err)
		switch {
		case bad:
			r.unreadable++
			r.tell("not read: %v", row)
			continue
		case err == nil:
			batch = append(batch, key)
		case !errors.Is(err, io.EOF):
			return errors.Join(r.add(ctx, batch), err) // what came before is whole
		}
		if len(batch) == importBatch || err != nil {
			if addErr := r.add(ctx, batch); addErr != nil || err != nil {
				return addErr
			}
			batch = batch[:0]
		}
	}
}

func (r *importing) add(ctx context.Context, batch []keystore.ImportedKey) error {
	if len(batch) == 0 {
		return nil
	}
	outcomes, err := r.im.Add(ctx, batch)
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		r.outcomes[o]++
		if o.Refused() {
			r.tell("not imported: %s: %v", batch[i].KID, o)
		}
		clear(batch[i].Value[:])
	}
	share := -1.0
	if r.size > 0 {
		share = min(1, float64(r.in.n)/float64(r.size))
	}
	r.progress.show(share, fmt.Sprintf("%d content keys", r.outcomes[keystore.ImportCreated]+r.outcomes[keystore.ImportPresent]))
	return nil
}

// tell reports one row that was not imported.
func (r *importing) tell(format string, args ...any) {
	if r.told++; r.told > mostTold {
		return
	}
	r.progress.done()
	fmt.Fprintf(r.e.stderr, format+"\n", args...)
}

// conclude sums up, and fails when anything was not imported.
func (r *importing) conclude(path string, dryRun bool, err error) error {
	if more := r.told - mostTold; more > 0 {
		fmt.Fprintf(r.e.stderr, "and %d more\n", more)
	}
	created := "imported"
	if dryRun {
		created = "would be imported"
	}
	n := r.outcomes
	_, printErr := fmt.Fprintf(r.e.stdout, "%s %s, %d were present, %d have another key or IV, %d were deleted, %s not read\n",
		count(n[keystore.ImportCreated], "content key", "content keys"), created, n[keystore.ImportPresent],
		n[keystore.ImportConflict]+n[keystore.ImportOtherIV], n[keystore.ImportDeleted], count(r.unreadable, "row was", "rows were"))
	if err != nil || printErr != nil {
		return fmt.Errorf("%s: %w", path, errors.Join(err, printErr))
	}
	if r.told > 0 {
		return fmt.Errorf("%s: not all of it was imported", path)
	}
	return nil
}
