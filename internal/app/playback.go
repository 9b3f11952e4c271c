package app

import (
	"errors"

	"spekeasy/internal/keystore"
	"spekeasy/internal/playback"
	"spekeasy/internal/server"
	"spekeasy/internal/tenant"
)

// mountPlayback lets players in, if a tenant has any.
func (a *App) mountPlayback(s *server.Server, tenants tenant.Static, credentials playback.Credentials, recorder server.Recorder) error {
	wanted := false
	for _, t := range tenants {
		wanted = wanted || t.Playback != nil
	}
	if !wanted {
		return nil
	}
	custody, err := a.Keystore.Custody()
	if errors.Is(err, keystore.ErrNoCustody) {
		return errors.New("playback: this kind of store cannot say what content keys are for")
	}
	if err != nil {
		return err
	}
	service := playback.New(playback.Options{
		Tenants: tenants, Keys: a.Keystore, Bindings: custody, Secrets: playback.NewSecrets(a.Keystore),
		Credentials: credentials, Audit: recorder, Log: a.log,
	})
	for pattern, h := range service.Handlers() {
		s.Mount(pattern, h)
	}
	return nil
}
