package app

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

	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
)

// ErrNotFounded reports a store in which no keys were ever kept.
var ErrNotFounded = errors.New("no keys were ever kept in this store")

// Operator is what a configuration keeps its keys in, for a server or for an
// operator's command beside running servers: stores may be used by several
// processes, so nothing is locked.
type Operator struct {
	StoreURL *url.URL       // where keys are kept
	KEKURL   *url.URL       // what wraps their data keys
	Store    keystore.Store // once it is open

	config   *config.Config
	backends Backends
	log      *slog.Logger
	kek      keystore.KeyManager // nil until it was asked for
	close    []func(context.Context) error
}

// Locate returns the URLs of the store and the key manager of a
// configuration.
func Locate(c *config.Config) (store, kek *url.URL, err error) {
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return nil, nil, fmt.Errorf("data directory: %w", err)
	}
	if store, err = backendURL(c.Store, "sqlite", filepath.Join(data, "spekeasy.db")); err != nil {
		return nil, nil, fmt.Errorf("store: %w", err)
	}
	if kek, err = backendURL(c.KeyManager, "file", filepath.Join(data, "kek")); err != nil {
		return nil, nil, fmt.Errorf("key_manager: %w", err)
	}
	return store, kek, nil
}

// backendURL reads the URL that chooses a backend; empty means a file under
// the data directory.
func backendURL(text, scheme, path string) (*url.URL, error) {
	if text == "" {
		return &url.URL{Scheme: scheme, Path: path}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL") // the parser quotes the text, which may hold a password
	}
	return u, nil
}

// NewOperator opens nothing yet.
func NewOperator(c *config.Config, b Backends, log *slog.Logger) (*Operator, error) {
	store, kek, err := Locate(c)
	if err != nil {
		return nil, err
	}
	return &Operator{StoreURL: store, KEKURL: kek, config: c, backends: b, log: log}, nil
}

// OpenStore opens the store. A data directory and a database file that do not
// exist are made only when create is given.
func (o *Operator) OpenStore(ctx context.Context, create bool) error {
	open, ok := o.backends.Stores[o.StoreURL.Scheme]
	if !ok {
		return fmt.Errorf("store: %q is not a kind of database that this binary knows", o.StoreURL.Scheme)
	}
	if create {
		if err := os.MkdirAll(o.config.Data, 0o700); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	} else if path := o.StoreURL.Path; o.StoreURL.Scheme == "sqlite" {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: there is no database %s", path)
		}
	}
	store, err := open(ctx, o.StoreURL, o.log)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	o.Store = store
	o.close = append(o.close, func(context.Context) error { return store.Close() })
	return nil
}

// Migrate brings the schema of the store up to date, and returns its version
// before and after. The store need not be open.
func (o *Operator) Migrate(ctx context.Context) (from, to int, err error) {
	migrate, ok := o.backends.Migrations[o.StoreURL.Scheme]
	if !ok {
		return 0, 0, fmt.Errorf("store: %q is not a kind of database that this binary can migrate", o.StoreURL.Scheme)
	}
	if err := os.MkdirAll(o.config.Data, 0o700); err != nil {
		return 0, 0, fmt.Errorf("data directory: %w", err)
	}
	if from, to, err = migrate(ctx, o.StoreURL, o.log); err != nil {
		return 0, 0, fmt.Errorf("store: %w", err)
	}
	return from, to, nil
}

// KeyManager opens the key manager with the former ones. It may make a KEK
// only when create is given and no key was ever kept in the store, which must
// be open then.
func (o *Operator) KeyManager(ctx context.Context, create bool) (keystore.KeyManager, error) {
	if o.kek != nil {
		return o.kek, nil
	}
	if create {
		_, founded, err := keystore.Founded(ctx, o.Store)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		create = !founded
	}
	present, err := o.openKeyManager(ctx, o.KEKURL, create)
	if err != nil {
		return nil, fmt.Errorf("key manager: %w", err)
	}
	var former []keystore.KeyManager
	for i, text := range o.config.FormerKeyManagers {
		u, err := backendURL(text, "", "")
		if err != nil {
			return nil, fmt.Errorf("former_key_managers[%d]: %w", i, err)
		}
		m, err := o.openKeyManager(ctx, u, false)
		if err != nil {
			return nil, fmt.Errorf("former_key_managers[%d]: %w", i, err)
		}
		former = append(former, m)
	}
	o.kek = keystore.WithFormer(present, former...)
	return o.kek, nil
}

func (o *Operator) openKeyManager(ctx context.Context, u *url.URL, create bool) (keystore.KeyManager, error) {
	open, ok := o.backends.KeyManagers[u.Scheme]
	if !ok {
		return nil, fmt.Errorf("%q is not a kind of key manager that this binary knows", u.Scheme)
	}
	m, err := open(ctx, u, create)
	if c, ok := m.(io.Closer); ok && err == nil {
		o.close = append(o.close, func(context.Context) error { return c.Close() })
	}
	return m, err
}

// Keystore opens the keystore over the open store. A store in which no keys were ever kept is
// founded when create is given, and is [ErrNotFounded] otherwise.
func (o *Operator) Keystore(ctx context.Context, create bool, options keystore.Options) (*keystore.Keystore, error) {
	if !create {
		_, founded, err := keystore.Founded(ctx, o.Store)
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		if !founded {
			return nil, ErrNotFounded
		}
	}
	kek, err := o.KeyManager(ctx, create)
	if err != nil {
		return nil, err
	}
	k, err := keystore.Open(ctx, o.Store, kek, options)
	if err != nil {
		return nil, err
	}
	o.close = append(o.close, k.Close)
	return k, nil
}

// Close takes everything down in the reverse order of opening.
func (o *Operator) Close(ctx context.Context) error {
	var errs []error
	for i := len(o.close) - 1; i >= 0; i-- {
		errs = append(errs, o.close[i](ctx))
	}
	o.close = nil
	return errors.Join(errs...)
}
