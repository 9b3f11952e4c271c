package app

import (
	"strings"

	"spekeasy/internal/config"
)

// Reload goes on with a changed configuration as far as that is possible
// without a restart; requests under way and connections stay. After an error
// everything is as before.
func (a *App) Reload(next *config.Config) error {
	merged, kept := a.Customers.Now().Config.Reload(next)
	var h *handshakes
	if a.listener != nil {
		var err error
		if h, err = a.listener.load(&merged.TLS); err != nil {
			return err
		}
	}
	if err := a.Customers.Configure(merged); err != nil {
		return err
	}
	if h != nil {
		a.listener.now.Store(h)
	}
	if len(kept) > 0 {
		a.log.Warn("some settings need a restart to change; until then they stay as they were", "settings", strings.Join(kept, ", "))
	}
	a.log.Info("configuration reloaded", "tenants", len(merged.Tenants))
	return nil
}
