package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"spekeasy/internal/app"
	"spekeasy/internal/backup"
	"spekeasy/internal/config"
)

func newBackup(e *env) *cobra.Command {
	var f operatorFlags
	var out, passphrase string
	var recipients []string
	cmd := &cobra.Command{
		Use:   "backup --out FILE (--recipient age1... | --passphrase-file FILE)",
		Short: "Write all that a store keeps into one encrypted file",
		Long: "Write data keys, content keys, bindings and what the admin API stored (tenants, credentials, admins) into one\n" +
			"encrypted file, while servers use the store. Keys are in it as they are in the store, wrapped: to use a\n" +
			"backup takes the KEK (key encryption key) as well, which is not in it. Keep both, and keep them apart.\n\n" +
			"The file is encrypted to age recipients (age-encryption.org; `age-keygen` makes one) or with a passphrase.",
		Example: "  spekeasy backup --config spekeasy.yaml --out keys.age --recipient age1...\n" +
			"  spekeasy backup verify --config spekeasy.yaml --identity identity.txt keys.age",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to, err := ageRecipients(recipients, passphrase)
			if err != nil {
				return err
			}
			return f.operate(cmd.Context(), e, func(_ *config.Config, o *app.Operator) error {
				if err := o.OpenStore(cmd.Context(), false); err != nil {
					return err
				}
				return writeBackup(cmd.Context(), e, o, out, to)
			})
		},
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&out, "out", "", "`file` to make")
	fl.StringArrayVar(&recipients, "recipient", nil, "age recipient, `age1...`, who can read it (repeatable)")
	fl.StringVar(&passphrase, "passphrase-file", "", "`file` whose first line is the passphrase")
	cmd.MarkFlagsMutuallyExclusive("recipient", "passphrase-file")
	cmd.MarkFlagsOneRequired("recipient", "passphrase-file")
	_ = cmd.MarkFlagRequired("out") // it exists
	cmd.AddCommand(newBackupVerify(e))
	return cmd
}

func ageRecipients(texts []string, passphraseFile string) (to []age.Recipient, err error) {
	if passphraseFile != "" {
		passphrase, err := readSecretFile(passphraseFile)
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(passphrase)
		if err != nil {
			return nil, fmt.Errorf("%s: not a passphrase", passphraseFile)
		}
		return []age.Recipient{r}, nil
	}
	for _, text := range texts {
		if strings.HasPrefix(text, "AGE-") {
			return nil, errors.New("--recipient: that is a secret identity; want its recipient, age1...")
		}
		r, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, errors.New("--recipient: not an age recipient, age1... or age1pq1...") // it may be a secret
		}
		to = append(to, r...)
	}
	return to, nil
}

func writeBackup(ctx context.Context, e *env, o *app.Operator, path string, to []age.Recipient) error {
	source, ok := o.Store.(backup.Source)
	if !ok {
		return fmt.Errorf("a store of kind %s cannot be backed up by this command", o.StoreURL.Scheme)
	}
	file, err := createFile(path)
	if err != nil {
		return err
	}
	defer file.discard()
	p := newProgress(e.stderr)
	n, err := backup.Write(ctx, source, backup.Header{Created: time.Now(), Program: "spekeasy " + fullVersion()}, file, to, func(c backup.Counts) {
		p.show(-1, rowCounts(c))
	})
	p.done()
	if err != nil {
		return err
	}
	if err := file.commit(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s: %s\nThe KEK is not in it: keep a copy of that as well, elsewhere.\n", path, rowCounts(n))
	return err
}

func rowCounts(c backup.Counts) string {
	return fmt.Sprintf("%s, %s, %s", count(c.Keys, "content key", "content keys"), count(c.Bindings, "binding", "bindings"),
		count(c.DataKeys, "data key", "data keys"))
}

// identityFlags say how a backup is decrypted.
type identityFlags struct {
	file, passphrase string
}

func (f *identityFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.file, "identity", "", "age identity `file`, as age-keygen writes it")
	cmd.Flags().StringVar(&f.passphrase, "passphrase-file", "", "`file` whose first line is the passphrase")
	cmd.MarkFlagsMutuallyExclusive("identity", "passphrase-file")
	cmd.MarkFlagsOneRequired("identity", "passphrase-file")
}

func (f *identityFlags) load() ([]age.Identity, error) {
	if f.passphrase != "" {
		passphrase, err := readSecretFile(f.passphrase)
		if err != nil {
			return nil, err
		}
		id, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return nil, fmt.Errorf("%s: not a passphrase", f.passphrase)
		}
		return []age.Identity{id}, nil
	}
	text, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // the parser's error may quote a secret
		return nil, fmt.Errorf("%s: not a file of age identities, AGE-SECRET-KEY-...", f.file)
	}
	return ids, nil
}

func newBackupVerify(e *env) *cobra.Command {
	var f operatorFlags
	var id identityFlags
	cmd := &cobra.Command{
		Use:   "verify FILE (--identity FILE | --passphrase-file FILE)",
		Short: "Open every row of a backup without printing a key",
		Long: "Read a backup to its end and open every data key and content key in it with the key manager of the\n" +
			"configuration. The store is not touched.",
		Example: "  spekeasy backup verify --config spekeasy.yaml --identity identity.txt keys.age",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := id.load()
			if err != nil {
				return err
			}
			return f.operate(cmd.Context(), e, func(_ *config.Config, o *app.Operator) error {
				kek, err := o.KeyManager(cmd.Context(), false)
				if err != nil {
					return err
				}
				file, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer file.Close()
				p := newProgress(e.stderr)
				r, err := backup.Verify(cmd.Context(), bufio.NewReader(file), ids, kek, func(c backup.Counts) { p.show(-1, rowCounts(c)) })
				p.done()
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return printReport(e.stdout, args[0], "every row opens", &r)
			})
		},
	}
	f.add(cmd)
	id.add(cmd)
	return cmd
}

func printReport(w io.Writer, path, verdict string, r *backup.Report) error {
	_, err := fmt.Fprintf(w, "%s: %s\nmade %s by %s\n%s of %s, wrapped under KEK %s\n", path, verdict,
		shortTime(r.Created), r.Program, rowCounts(r.Counts), count(r.Tenants, "tenant", "tenants"), strings.Join(r.KEKs, ", "))
	return err
}

func newRestore(e *env) *cobra.Command {
	var f operatorFlags
	var id identityFlags
	cmd := &cobra.Command{
		Use:   "restore FILE (--identity FILE | --passphrase-file FILE)",
		Short: "Put a backup into an empty store of any kind",
		Long: "Put a backup into the store of the configuration, which must be empty. It may be of another kind than the\n" +
			"one that the backup was made of. The key manager must have the KEK of the backup.\n\n" +
			"All of the backup is verified before anything is written. No server starts on the store until all of it\n" +
			"is there; a restore that was interrupted is completed by repeating it.",
		Example: "  spekeasy restore --config new.yaml --identity identity.txt keys.age",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ids, err := id.load()
			if err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			return f.operate(cmd.Context(), e, func(_ *config.Config, o *app.Operator) error {
				kek, err := o.KeyManager(cmd.Context(), false) // before a database is made
				if err != nil {
					return err
				}
				if err := o.OpenStore(cmd.Context(), true); err != nil {
					return err
				}
				target, ok := o.Store.(backup.Target)
				if !ok {
					return fmt.Errorf("a store of kind %s cannot be restored into by this command", o.StoreURL.Scheme)
				}
				p := newProgress(e.stderr)
				r, err := backup.Restore(cmd.Context(), file, ids, kek, target, func(c backup.Counts) { p.show(-1, rowCounts(c)) })
				p.done()
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return printReport(e.stdout, args[0], "restored into "+publicURL(o.StoreURL), &r)
			})
		},
	}
	f.add(cmd)
	id.add(cmd)
	return cmd
}
