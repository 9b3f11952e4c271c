package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"time"

	"spekeasy/internal/app"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kms/envkey"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/store/sqlite"
)

// backends are the technologies of this binary.
func backends(e *env) app.Backends {
	return app.Backends{
		Stores: map[string]app.OpenStore{
			"sqlite": func(ctx context.Context, u *url.URL, log *slog.Logger) (keystore.Store, error) {
				return sqlite.Open(ctx, u.Path, sqlite.Options{Log: log})
			},
		},
		KeyManagers: map[string]app.OpenKeyManager{
			"file": func(_ context.Context, u *url.URL, create bool) (keystore.KeyManager, error) {
				path, err := filekey.Path(u)
				if err != nil {
					return nil, err
				}
				if create {
					// A file without a founded database is left over from a
					// start that was cut off; it will do.
					if err := filekey.Create(path, time.Now()); err != nil && !errors.Is(err, fs.ErrExist) {
						return nil, err
					}
				}
				return filekey.Open(path)
			},
			"env": func(_ context.Context, u *url.URL, _ bool) (keystore.KeyManager, error) {
				return envkey.Open(u, e.lookup)
			},
		},
	}
}
