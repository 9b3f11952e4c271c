package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"spekeasy/adminapi"
	"spekeasy/internal/admin"
	"spekeasy/internal/audit"
	"spekeasy/internal/auth"
	"spekeasy/internal/config"
	"spekeasy/internal/tenant"
)

// directory keeps the server up to date with the tenants and credentials in
// the store, which this process and others change.
type directory struct {
	store     tenant.Store
	customers *Customers
	log       *slog.Logger

	mu     sync.Mutex // one refresh at a time
	loader *tenant.Loader
	config *config.Config // that the gate was built from

	stored atomic.Pointer[tenant.Inventory]
	gate   atomic.Pointer[auth.Authenticator]
}

var (
	_ admin.Directory = (*directory)(nil)
	_ admin.Gate      = (*directory)(nil)
)

// How often a process looks for changes that others made, and how often it
// names credentials that end soon and forgets old answers.
const (
	lookEvery  = 2 * time.Second
	tidyEvery  = time.Hour
	loadWithin = time.Minute
)

// openAdmin loads what is in the store, keeps looking for changes unless the
// process stands still, and makes the admin API.
func (a *App) openAdmin(ctx context.Context, still bool, recorder admin.Recorder, version string) error {
	store, ok := a.store.(tenant.Store)
	if !ok {
		return errors.New("this kind of store keeps no tenants")
	}
	d := &directory{store: store, customers: a.Customers, log: a.log, loader: tenant.NewLoader(store, tenant.NewVault(a.Keystore))}
	if err := d.Refresh(ctx); err != nil {
		return fmt.Errorf("stored tenants: %w", err)
	}
	api, err := admin.New(admin.Options{
		Gate: d, Audit: recorder, Directory: d, Store: store, Keystore: a.Keystore, Upstreams: a.Gateway, Records: a.records(),
		Version: version, Now: time.Now, Log: a.log,
	})
	if err != nil {
		return err
	}
	a.AdminAPI, a.directory = api, d
	if still {
		return nil
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() { d.watch(watching, api) })
	a.onClose(func(context.Context) error {
		stop()
		done.Wait()
		return nil
	})
	return nil
}

// Refresh looks for tenants and credentials that others changed, for a process
// that does nothing in the background. Others do so by themselves.
func (a *App) Refresh(ctx context.Context) error { return a.directory.Refresh(ctx) }

// mountAdmin puts the admin API on a listener.
func (a *App) mountAdmin(mux *http.ServeMux, loopback bool) {
	mux.Handle(adminapi.Base+"/", a.AdminAPI)
	mux.Handle("/openapi.json", a.AdminAPI)
	if !loopback {
		a.log.Warn("the admin listener speaks plain HTTP on an address that others reach: put TLS in front of it, or admins' passwords cross the network in clear")
	}
}

// AdminOnMain has the main listener answer the admin API too.
func (a *App) AdminOnMain() {
	mux := http.NewServeMux()
	mux.Handle("/", a.Handler)
	mux.Handle(adminapi.Base+"/", a.AdminAPI)
	a.Handler = mux
}

// records is where the audit log is read: a database has those of all servers
// that share it.
func (a *App) records() admin.Records {
	if s, ok := a.store.(audit.Store); ok && a.Config.Audit.Database != "" {
		return audit.InStore{Store: s}
	}
	if a.Config.Audit.Files() {
		return audit.Directory(a.Config.AuditDir())
	}
	return nil
}

func (d *directory) watch(ctx context.Context, api *admin.API) {
	look, tidy := time.NewTicker(lookEvery), time.NewTicker(tidyEvery)
	defer look.Stop()
	defer tidy.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			err = d.Refresh(ctx)
		case <-tidy.C:
			d.customers.Now().Auth.Remind()
			d.gate.Load().Remind()
			err = api.Sweep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn("looking for changed tenants", "error", err)
		}
	}
}

// Refresh implements [admin.Directory].
func (d *directory) Refresh(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loadWithin)
	defer cancel()
	before, present := d.stored.Load(), d.customers.Now().Config
	if before != nil && !before.Later {
		revision, err := d.store.Revision(ctx)
		if err != nil {
			return err
		}
		if revision == before.Revision && present == d.config {
			return nil
		}
	}
	inv, err := d.loader.Load(ctx)
	if err != nil {
		return err
	}
	if before == nil || before.Revision != inv.Revision || len(before.Faults) != len(inv.Faults) { // not at every look
		for _, fault := range inv.Faults {
			d.log.Error("a stored tenant or credential cannot be read", "error", fault)
		}
	}
	if before == nil || before.Revision != inv.Revision || before.Later {
		if err := d.customers.SetStored(inv.Tenants); err != nil {
			return err
		}
	}
	gate, err := d.newGate(present, inv.Admins)
	if err != nil {
		return err
	}
	d.gate.Store(gate)
	d.stored.Store(inv)
	d.config = present
	return nil
}

// newGate lets admins in. Each role is a tenant of its own there.
func (d *directory) newGate(c *config.Config, stored []tenant.StoredCredential) (*auth.Authenticator, error) {
	byRole := make(map[string]*tenant.Settings)
	roles := make([]tenant.Settings, len(config.Roles()))
	for i, role := range config.Roles() {
		roles[i].ID = role
		byRole[role] = &roles[i]
	}
	add := func(role string, cred tenant.Credential) {
		if s := byRole[role]; s != nil {
			s.Credentials = append(s.Credentials, cred)
		}
	}
	taken := make(map[string]bool)
	for _, f := range c.Admin.Credentials {
		add(f.Role, f.Credential)
		taken[f.Name] = true
	}
	for _, s := range stored {
		if !taken[s.Name] { // the file goes first
			add(s.Role, s.Credential)
		}
	}
	cas, err := clientCAs(c.TLS.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tls.client_ca_file: %w", err)
	}
	return auth.New(roles, auth.Options{
		Log: d.log, TrustedProxies: c.TrustedProxies, ClientCAs: cas, Former: d.gate.Load(),
		Faulty: func(role, name string, err error) {
			d.log.Error("an admin's credential cannot be used", "admin", name, "role", role, "error", err)
		},
	})
}

// Authenticate implements [admin.Gate].
func (d *directory) Authenticate(r *http.Request, body []byte) (*auth.Principal, error) {
	return d.gate.Load().Authenticate(r, body)
}

// Challenge implements [admin.Gate].
func (d *directory) Challenge(h http.Header, err error) { d.gate.Load().Challenge(h, err) }

// Files implements [admin.Directory].
func (d *directory) Files() ([]tenant.Settings, []tenant.StoredCredential) {
	c := d.customers.Now().Config
	admins := make([]tenant.StoredCredential, len(c.Admin.Credentials))
	for i, f := range c.Admin.Credentials {
		admins[i] = tenant.StoredCredential{Credential: f.Credential, Role: f.Role}
	}
	return c.Tenants, admins
}

// Stored implements [admin.Directory].
func (d *directory) Stored() *tenant.Inventory { return d.stored.Load() }

// Faults implements [admin.Directory].
func (d *directory) Faults() []adminapi.Fault { return toFaults(d.customers.Now().Faults) }

// Check implements [admin.Directory].
func (d *directory) Check(stored []tenant.Settings) ([]adminapi.Fault, error) {
	faults, err := d.customers.CheckStored(stored)
	return toFaults(faults), err
}

func toFaults(faults []Fault) []adminapi.Fault {
	var all []adminapi.Fault
	for _, f := range faults {
		all = append(all, adminapi.Fault{Tenant: f.Tenant, Credential: f.Credential, Error: f.Err.Error()})
	}
	return all
}
