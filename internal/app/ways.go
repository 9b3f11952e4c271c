package app

import (
	"log/slog"
	"time"

	"spekeasy/internal/auth"
	"spekeasy/internal/config"
)

// Check builds what a configuration asks for as far as nothing outside of it
// has to be opened but the files that it names, to find faults before the
// start.
func Check(c *config.Config) error {
	_, _, err := customers(c, slog.New(slog.DiscardHandler))
	return err
}

// authOptions are the settings of the ways in.
func authOptions(c *config.Config, log *slog.Logger) (auth.Options, error) {
	d := c.Auth.Digest
	return auth.Options{
		Log:            log,
		TrustedProxies: c.TrustedProxies,
		Digest: auth.Digest{
			Algorithms: d.Algorithms, Integrity: d.Integrity, Lifetime: time.Duration(d.Lifetime), Key: []byte(d.Key),
		},
	}, nil
}
