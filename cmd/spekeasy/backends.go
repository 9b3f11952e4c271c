package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"time"

	// The go command builds packages in the order of imports. SQLite takes by
	// far the longest: as the last one, behind internal/store, it would have
	// other cores wait for it.
	_ "modernc.org/sqlite/lib"

	"spekeasy/internal/app"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/awskms"
	"spekeasy/internal/kms/azurekeyvault"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/kms/gcpkms"
	"spekeasy/internal/kms/hashivault"
	"spekeasy/internal/store/dynamodb"
	"spekeasy/internal/store/postgres"
	"spekeasy/internal/store/sqlite"
)

// backends are the technologies of this binary. What needs cgo is added by a
// build tag.
func backends(e *env) app.Backends {
	b := app.Backends{
		Stdout: e.stdout,
		Stores: map[string]app.OpenStore{
			"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
				return sqlite.Open(ctx, u.Path, sqlite.Options{Log: log})
			},
			"postgres":   openPostgres,
			"postgresql": openPostgres,
			"dynamodb": func(ctx context.Context, u *url.URL, _ *slog.Logger) (keystore.Store, error) {
				return dynamodb.Open(ctx, u.String(), dynamodb.Options{})
			},
		},
		Migrations: map[string]app.MigrateStore{
			"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (from, to int, err error) {
				return sqlite.Migrate(ctx, u.Path, sqlite.Options{Log: log})
			},
			"postgres":   migratePostgres,
			"postgresql": migratePostgres,
			"dynamodb": func(ctx context.Context, u *url.URL, log *slog.Logger) (from, to int, err error) {
				return dynamodb.Migrate(ctx, u.String(), dynamodb.Options{Log: log})
			},
		},
		KeyManagers: map[string]app.OpenKeyManager{
			"file": openFileKey,
			"env": func(_ context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return envkey.Open(u, e.lookup)
			},
			"awskms": func(ctx context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return awskms.Open(ctx, u, awskms.Options{})
			},
			"gcpkms": func(ctx context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return gcpkms.Open(ctx, u, gcpkms.Options{Getenv: e.getenv})
			},
			"azurekeyvault": func(ctx context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return azurekeyvault.Open(ctx, u, azurekeyvault.Options{Getenv: e.getenv})
			},
			"hashivault": func(ctx context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return hashivault.Open(ctx, u, hashivault.Options{Getenv: e.getenv})
			},
		},
	}
	if openPKCS11 != nil {
		b.KeyManagers["pkcs11"] = openPKCS11(e)
	}
	return b
}

func openPostgres(ctx context.Context, u *url.URL, _ *slog.Logger) (keystore.Store, error) {
	return postgres.Open(ctx, u.String(), postgres.Options{})
}

func migratePostgres(ctx context.Context, u *url.URL, _ *slog.Logger) (from, to int, err error) {
	return postgres.Migrate(ctx, u.String())
}

// openFileKey opens the KEK file, and makes it first where that is allowed.
func openFileKey(_ context.Context, u *url.URL, create bool) (keystore.KeyManager, error) {
	path, err := filekey.Path(u)
	if err != nil {
		return nil, err
	}
	if create {
		// A file without a founded database is left over from a start that
		// was cut off; it will do.
		if err := filekey.Create(path, time.Now()); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return filekey.Open(path)
}

// getenv is the environment for those who do not tell empty from absent.
func (e *env) getenv(name string) string {
	v, _ := e.lookup(name)
	return v
}
