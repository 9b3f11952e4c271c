package app

import (
	"spekeasy/internal/playback"
	"spekeasy/internal/server"
)

// mountPlayback lets players in. Which tenants have any is for their settings
// to say, which may change while the server runs.
func (a *App) mountPlayback(s *server.Server, recorder server.Recorder) error {
	custody, err := a.Keystore.Custody()
	if err != nil {
		return err
	}
	service := playback.New(playback.Options{
		Tenants: a.Customers, Keys: a.Keystore, Bindings: custody, Secrets: playback.NewSecrets(a.Keystore),
		Credentials: a.Customers, Audit: recorder, Log: a.log,
	})
	for pattern, h := range service.Handlers() {
		s.Mount(pattern, h)
	}
	return nil
}
