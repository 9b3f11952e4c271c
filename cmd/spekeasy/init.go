package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"

	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
)

func newInit(e *env) *cobra.Command {
	var tenantID string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a configuration with a first tenant and the first admin",
		Long: "Write DIR/spekeasy.yaml, with every setting, its default and its meaning, for a server that keeps its\n" +
			"keys in DIR/data. It has one tenant and an admin, whose passwords are shown once and kept only as\n" +
			"hashes. A file that exists is left alone. What is printed says what to do next.",
		Example: "  spekeasy init keyserver --tenant acme",
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return e.initialize(args[0], tenantID) },
	}
	cmd.Flags().StringVar(&tenantID, "tenant", "main", "`ID` of the first tenant")
	return cmd
}

// initialize writes the configuration and says what comes next.
func (e *env) initialize(dir, tenantID string) error {
	if err := keystore.CheckTenant(tenantID); err != nil {
		return fmt.Errorf("tenant %q: %w", tenantID, err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file := filepath.Join(dir, "spekeasy.yaml")
	initial, secrets, err := firstCredentials(config.Initial{Data: filepath.Join(dir, "data"), Tenant: tenantID})
	if err != nil {
		return err
	}
	text := initial.File()
	if _, err := config.Parse(text, e.lookup); err != nil {
		return fmt.Errorf("the configuration would not be good: %w", err)
	}
	f, err := createFile(file)
	if err != nil {
		return err
	}
	defer f.discard()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.commit(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, `Wrote %[1]s, every setting with its default and its meaning.

Shown this once, kept only as hashes:

%[2]s
Next:

1. Start the server:
     spekeasy serve --config %[3]s

2. Ask it for keys as an encryptor would:
     spekeasy request --basic %[4]s:PASSWORD --content my-movie --show-keys

3. Give encryptors http://127.0.0.1:8080/speke/v1.0/copyProtection, or v2.0, with user and password. For other
   machines set listen and tls. After a change:
     spekeasy config check %[3]s
     kill -HUP "$(cat %[5]s)"

4. Manage tenants, credentials and keys while it runs:
     SPEKEASY_ADMIN=root:PASSWORD spekeasy tenant list

5. Keep a copy of %[6]s
   away from this machine and its backups, once the server has made it: without it no key can be read again.
`, file, secrets, shellWord(file), tenantID, shellWord(filepath.Join(initial.Data, "lock")), filepath.Join(initial.Data, "kek"))
	return err
}

// firstCredentials makes the credentials of a new configuration. secrets is
// what to show, a line each.
func firstCredentials(i config.Initial) (initial config.Initial, secrets string, err error) {
	var passwords, hashes [2]string
	for n := range passwords {
		passwords[n] = rand.Text()
		hash, err := bcrypt.GenerateFromPassword([]byte(passwords[n]), bcrypt.DefaultCost)
		if err != nil {
			return i, "", errors.New("the password could not be hashed")
		}
		hashes[n] = string(hash)
	}
	i.PasswordHash, i.AdminHash = hashes[0], hashes[1]
	return i, fmt.Sprintf("  tenant %s, HTTP Basic: user %s, password %s\n  admin API, HTTP Basic: user root, password %s\n",
		i.Tenant, i.Tenant, passwords[0], passwords[1]), nil
}

// shellWord quotes a path for a shell where it needs that.
func shellWord(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r)
	}
	if path != "" && strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
