package app

import (
	"fmt"
	"os"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/config"
	"spekeasy/internal/keystore"
	"spekeasy/internal/server"
)

// openAudit opens the audit log. It is closed last but for the database and
// the data directory's lock, since whatever else ends may still have to be
// recorded.
func (a *App) openAudit(b Backends, store keystore.Store, userAgent string) (server.Recorder, error) {
	c := &a.Config.Audit
	if c.Off {
		a.log.Warn("the audit log is off: nobody will know who was given which keys")
		return audit.Off{}, nil
	}
	sinks, err := a.auditSinks(b, store)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it is only told
	}
	log, err := audit.Open(audit.Options{
		SyncFirst: c.Sync == config.SyncAlways, Retain: time.Duration(c.Retain), Log: a.log,
		Server: fmt.Sprintf("%s on %s, PID %d", userAgent, host, os.Getpid()),
	}, sinks[0], sinks[1:]...)
	if err != nil {
		return nil, err
	}
	a.onClose(log.Close)
	a.audit = log
	return log, nil
}

// auditSinks are where records go; the first one holds the chain.
func (a *App) auditSinks(b Backends, store keystore.Store) (sinks []audit.Sink, err error) {
	c := &a.Config.Audit
	database, ok := store.(audit.Store)
	if c.Database != "" && !ok {
		return nil, fmt.Errorf("audit.database: a %s database does not keep the audit log", a.Store.Scheme)
	}
	if c.Files() {
		files, err := audit.OpenFiles(a.Config.AuditDir(), audit.FileOptions{SegmentBytes: c.SegmentBytes, Log: a.log})
		if err != nil {
			return nil, err
		}
		sinks = append(sinks, files)
	}
	if c.Database != "" {
		sinks = append(sinks, audit.NewDatabase(database, time.Now()))
	}
	if c.Stdout != "" {
		sinks = append(sinks, audit.NewStream(b.Stdout))
	}
	return sinks, nil
}
