package app

import (
	"errors"

	"spekeasy/internal/binding"
	"spekeasy/internal/keystore"
	"spekeasy/internal/server"
)

// mountBindings lets entitlement services read what content keys are for.
func (a *App) mountBindings(s *server.Server) error {
	custody, err := a.Keystore.Custody()
	if errors.Is(err, keystore.ErrNoCustody) {
		return nil // such a store cannot list
	}
	if err != nil {
		return err
	}
	feed, err := a.Keystore.Feed()
	if err != nil && !errors.Is(err, keystore.ErrNoFeed) {
		return err
	}
	api := binding.NewAPI(a.Customers, a.Customers, custody, feed, binding.Options{Log: a.log})
	for pattern, h := range api.Handlers() {
		s.Mount(pattern, h)
	}
	a.onDrain = append(a.onDrain, api.Close)
	return nil
}
