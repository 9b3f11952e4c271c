package app

import (
	"context"
	"errors"
	"sync"

	"spekeasy/internal/binding"
	"spekeasy/internal/gateway"
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
	api := binding.NewAPI(a.Customers, a.Customers, custody, feed, binding.Options{Upstreams: a.Gateway, Log: a.log})
	for pattern, h := range api.Handlers() {
		s.Mount(pattern, h)
	}
	a.onDrain = append(a.onDrain, api.Close)
	if feed != nil {
		a.hooks = binding.NewWebhooks(feed, a.webhooks, binding.WebhookOptions{Log: a.log, Observe: a.watch.metrics.Webhook})
		a.beside = append(a.beside, a.hooks.Run)
	}
	return nil
}

// alarm tells webhooks how an upstream fares.
func (a *App) alarm(x gateway.Alarm) {
	if a.hooks != nil {
		a.hooks.Alarm(x)
	}
}

// webhooks lists those of the tenants that there are now.
func (a *App) webhooks() []binding.Webhook {
	var all []binding.Webhook
	for id, t := range a.Customers.Now().Tenants {
		for i := range t.Webhooks {
			w := &t.Webhooks[i]
			secrets, err := w.Secrets()
			if err != nil {
				continue // it was checked
			}
			all = append(all, binding.Webhook{Tenant: id, Name: w.Name, URL: w.URL, Secrets: secrets})
		}
	}
	return all
}

// runBeside starts what runs while serving, and returns what stops it.
func (a *App) runBeside(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, f := range a.beside {
		running.Go(func() { f(ctx) })
	}
	return func() {
		cancel()
		running.Wait()
	}
}
