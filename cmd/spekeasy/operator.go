package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"spekeasy/contentkey"
	"spekeasy/internal/app"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// operatorFlags say which server's store a command works on.
type operatorFlags struct {
	config, data string
}

func (f *operatorFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.config, "config", "", "the server's configuration `file`; this or --data is required")
	cmd.Flags().StringVar(&f.data, "data", "", "the server's data `directory`; enough for a server without a configuration file")
}

// load returns the configuration that the flags name.
func (f *operatorFlags) load(e *env) (*config.Config, error) {
	c := config.Default()
	switch {
	case f.config != "":
		var err error
		if c, err = e.loadConfig(f.config); err != nil {
			return nil, err
		}
	case f.data == "":
		return nil, errors.New("one of --config FILE and --data DIR is required")
	}
	if f.data != "" {
		c.Data = f.data
	}
	return c, nil
}

// operate runs a command on the store. It opens nothing but what the command
// asks for, and works beside servers that use the store.
func (f *operatorFlags) operate(ctx context.Context, e *env, run func(*config.Config, *app.Operator) error) (err error) {
	c, err := f.load(e)
	if err != nil {
		return err
	}
	c.Log.Level = max(c.Log.Level, slog.LevelWarn)
	o, err := app.NewOperator(c, backends(e), e.logger(c.Log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close(context.WithoutCancel(ctx))) }()
	return run(c, o)
}

// keystore runs a command on the content keys of a store that has some; with
// create it may be the first to put any there. A tenant other than "" is
// checked before anything is opened.
func (f *operatorFlags) keystore(ctx context.Context, e *env, tenantID string, create bool, run func(*keystore.Keystore, *keystore.Custody) error) error {
	return f.operate(ctx, e, func(c *config.Config, o *app.Operator) error {
		unknown := checkTenant(c, tenantID)
		if errors.Is(unknown, keystore.ErrTenant) {
			return unknown
		}
		if err := o.OpenStore(ctx, create && unknown == nil); err != nil {
			return errors.Join(unknown, err)
		}
		if unknown != nil {
			documents, ok := o.Store.(tenant.Store)
			if !ok {
				return unknown
			}
			if _, err := documents.Document(ctx, tenant.KindTenant, tenantID); errors.Is(err, tenant.ErrAbsent) {
				return unknown
			} else if err != nil {
				return err
			}
		}
		k, err := o.Keystore(ctx, create, keystore.Options{CacheBytes: -1})
		if err != nil {
			return err
		}
		custody, err := k.Custody()
		if err != nil {
			return err
		}
		return run(k, custody)
	})
}

// checkTenant refuses a tenant that the configuration does not have, so that
// a slip does not make one. Without a configuration file every name will do.
func checkTenant(c *config.Config, id string) error {
	known := func(t tenant.Settings) bool { return t.ID == id }
	if id == "" { // all of them
		return nil
	}
	if err := keystore.CheckTenant(id); err != nil {
		return err
	}
	if len(c.Tenants) > 0 && !slices.ContainsFunc(c.Tenants, known) {
		return fmt.Errorf("tenant %q is not in the configuration", id)
	}
	return nil
}

// addTenant adds the flag of commands that work on one tenant.
func addTenant(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "tenant", "", "tenant `ID`")
	_ = cmd.MarkFlagRequired("tenant") // it exists
}

func parseKIDs(args []string) ([]contentkey.KID, error) {
	var kids []contentkey.KID
	for _, text := range args {
		kid, err := contentkey.ParseKID(text)
		if err != nil {
			return nil, fmt.Errorf("key ID %q: %w", text, err)
		}
		kids = append(kids, kid)
	}
	return kids, nil
}

// publicURL is a URL without what may be a secret.
func publicURL(u *url.URL) string {
	public := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, Opaque: u.Opaque}
	return public.String()
}

// isTerminal reports whether people read what is written there.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
}

// newFile is a file that gets its name when it is complete. Only its owner
// can read it.
type newFile struct {
	*os.File
	path string
}

// createFile begins a file that does not exist yet.
func createFile(path string) (*newFile, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrExist)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return nil, err
	}
	return &newFile{f, path}, nil
}

// commit makes the file durable under its name, unless somebody else has
// taken that meanwhile.
func (f *newFile) commit() error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	err := os.Link(f.Name(), f.path) // unlike a rename, never replaces
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// Some file systems have no links.
		if _, statErr := os.Lstat(f.path); errors.Is(statErr, fs.ErrNotExist) {
			err = os.Rename(f.Name(), f.path)
		}
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// discard removes what is not under its name.
func (f *newFile) discard() {
	_ = f.Close() // it may be closed already
	_ = os.Remove(f.Name())
}

// readSecretFile returns the first line of a small file.
func readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: the first line is empty", path)
	}
	return line, nil
}
