// Package doctor examines what a server keeps its keys in, and explains what
// it finds to an operator. It changes nothing and shows no key.
package doctor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// Severity is how bad a finding is.
type Severity uint8

// The severities.
const (
	Good    Severity = iota // examined, and as it should be
	Note                    // nothing is wrong; somebody may want to know
	Warning                 // will become an error, or weakens protection
	Error                   // keys are lost, unreadable or exposed, or will be
)

var severityNames = [...]string{"ok", "note", "warning", "error"}

func (s Severity) String() string { return severityNames[s] }

// Finding is one thing that was found.
type Finding struct {
	Severity Severity
	What     string // a sentence
	Do       string // what to do about it; "" for nothing
}

// Examination collects findings. Now is the time.
type Examination struct {
	Now      time.Time
	Findings []Finding
}

func (x *Examination) add(s Severity, do, format string, args ...any) {
	x.Findings = append(x.Findings, Finding{s, fmt.Sprintf(format, args...), do})
}

// Add adds what somebody else found.
func (x *Examination) Add(f Finding) { x.Findings = append(x.Findings, f) }

// Count returns the number of findings of a severity.
func (x *Examination) Count(s Severity) (n int) {
	for _, f := range x.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Source is a store that can be examined.
type Source interface {
	keystore.Store
	keystore.Pager
}

const (
	doRestore  = "Restore the newest backup into an empty store, and compare."
	doKEK      = "Put the KEK back: into the KEK file, or as one of former_key_managers. Never make a new one under the same name."
	doRewrap   = "Run `spekeasy keys rewrap`."
	doNetwork  = "Look at the key manager: network, credentials, its status. Running servers go on meanwhile."
	shownPlace = 5 // of a kind of damage
)

// KeyManager finds out whether the key manager wraps and unwraps.
func (x *Examination) KeyManager(ctx context.Context, kek keystore.KeyManager) {
	probe := make([]byte, 32)
	_, _ = rand.Read(probe) // never fails
	aad := []byte("spekeasy doctor")
	wrapped, err := kek.Wrap(ctx, probe, aad)
	var again []byte
	if err == nil {
		again, err = kek.Unwrap(ctx, kek.KeyID(), wrapped, aad)
	}
	switch {
	case err != nil:
		x.add(Error, doNetwork, "The key manager does not wrap and unwrap with KEK %s: %v.", kek.KeyID(), err)
	case !bytes.Equal(probe, again):
		x.add(Error, doNetwork, "The key manager unwraps something else than it wrapped with KEK %s.", kek.KeyID())
	default:
		x.add(Good, "", "The key manager wraps and unwraps with KEK %s.", kek.KeyID())
	}
}

// Database lets the database examine itself, where it can.
func (x *Examination) Database(ctx context.Context, store keystore.Store) {
	c, ok := store.(keystore.Checker)
	if !ok {
		return
	}
	faults, err := c.Check(ctx)
	if err != nil {
		x.add(Error, doRestore, "The database cannot be read to its end: %v.", err)
	}
	for _, f := range faults {
		x.add(Error, doRestore, "The database is damaged: %s.", f)
	}
	if err == nil && len(faults) == 0 {
		x.add(Good, "", "The database is sound.")
	}
}

// Rows examines everything that the store holds: it opens every data key and
// content key, and looks for the key of every binding. kek may be nil; then
// nothing is opened. progress, which may be nil, is called with the number of
// rows that were examined.
func (x *Examination) Rows(ctx context.Context, store Source, kek keystore.KeyManager, progress func(int)) error {
	r := &rows{Examination: x, store: store, kek: kek, progress: progress, places: make(map[string]*places), keks: make(map[string]int)}
	if kek != nil {
		r.opener = keystore.NewOpener(kek)
	}
	for tenant, err := range keystore.Tenants(ctx, store) {
		if err == nil {
			err = r.tenant(ctx, tenant)
		}
		if err != nil {
			return err
		}
	}
	r.conclude()
	return nil
}

// rows is one examination of a store's rows.
type rows struct {
	*Examination
	store    Source
	kek      keystore.KeyManager
	opener   *keystore.Opener // nil when nothing can be opened
	progress func(int)

	custody, tenants          int
	keys, bindings, seen      int
	deleted, purged, oldSeals int
	keks                      map[string]int
	newest                    time.Time
	places                    map[string]*places // by the kind of damage
}

// places are where a kind of damage was found.
type places struct {
	n     int
	first []string
}

func (r *rows) damaged(kind, where string) {
	p := r.places[kind]
	if p == nil {
		p = &places{}
		r.places[kind] = p
	}
	if p.n++; len(p.first) < shownPlace {
		p.first = append(p.first, where)
	}
}

// Kinds of damage, with what to do about each.
const (
	noDataKey  = "content keys name a data key that is not there"
	notOpened  = "content keys do not open under their data key: they were changed, or moved from another row"
	noKey      = "bindings are of a content key that is not there"
	noData     = "tenants have no data key"
	wrongKEK   = "data keys do not open under the KEK that they name"
	unknownKEK = "data keys could not be opened, because the key manager did not answer"
)

var remedies = map[string]string{
	noDataKey: doRestore, notOpened: doRestore, noKey: doRestore, noData: doRestore, wrongKEK: doKEK, unknownKEK: doNetwork,
}

func (r *rows) tenant(ctx context.Context, tenant string) error {
	dataKeys, err := r.store.DataKeys(ctx, tenant)
	if err != nil {
		return fmt.Errorf("data keys of %s: %w", tenant, err)
	}
	if len(dataKeys) == 0 {
		r.damaged(noData, tenant)
		return nil
	}
	known := make(map[uint32]bool) // whether it opened
	for _, k := range dataKeys {
		r.keks[k.KEK]++
		if known[k.ID], err = r.open(ctx, k); err != nil {
			return err
		}
	}
	if tenant == keystore.CustodyTenant {
		r.custody = len(dataKeys)
		return nil
	}
	r.tenants++
	last := dataKeys[len(dataKeys)-1].ID
	for page, err := range keystore.RecordPages(ctx, r.store, tenant) {
		if err != nil {
			return err
		}
		for i := range page {
			r.record(&page[i], known, last)
		}
		r.tell(len(page))
	}
	for page, err := range keystore.BindingPages(ctx, r.store, tenant, keystore.BindingFilter{}) {
		if err != nil {
			return err
		}
		if err := r.bound(ctx, tenant, page); err != nil {
			return err
		}
		r.tell(len(page))
	}
	return nil
}

func (r *rows) tell(n int) {
	r.seen += n
	if r.progress != nil {
		r.progress(r.seen)
	}
}

// open opens a data key. Once the key manager did not answer it is not asked
// again.
func (r *rows) open(ctx context.Context, k keystore.DataKey) (bool, error) {
	where := fmt.Sprintf("%s %d (KEK %s)", k.Tenant, k.ID, k.KEK)
	if r.opener == nil {
		if r.kek != nil {
			r.damaged(unknownKEK, where)
		}
		return false, nil
	}
	err := r.opener.Add(ctx, k)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, keystore.ErrUnavailable):
		r.damaged(unknownKEK, where)
		r.opener = nil
	default:
		r.damaged(wrongKEK, where)
	}
	return false, nil
}

func (r *rows) record(rec *keystore.Record, known map[uint32]bool, last uint32) {
	r.keys++
	if rec.Created.After(r.newest) {
		r.newest = rec.Created
	}
	if rec.DataKey != last {
		r.oldSeals++
	}
	if rec.Purged() {
		r.purged++
		return
	}
	if !rec.Deleted.IsZero() {
		r.deleted++
	}
	opens, there := known[rec.DataKey]
	where := fmt.Sprintf("%s of %s", rec.KID, rec.Tenant)
	switch {
	case !there:
		r.damaged(noDataKey, where)
	case opens && r.opener != nil && r.opener.Check(rec) != nil:
		r.damaged(notOpened, where)
	}
}

// bound looks for the keys of bindings.
func (r *rows) bound(ctx context.Context, tenant string, page []keystore.Binding) error {
	r.bindings += len(page)
	var kids []contentkey.KID
	for i := range page {
		kids = append(kids, page[i].KID)
		if page[i].LastSeen.After(r.newest) {
			r.newest = page[i].LastSeen
		}
	}
	slices.SortFunc(kids, func(a, b contentkey.KID) int { return bytes.Compare(a[:], b[:]) })
	kids = slices.Compact(kids)
	records, err := r.store.Keys(ctx, tenant, kids)
	if err != nil {
		return fmt.Errorf("content keys of tenant %s: %w", tenant, err)
	}
	there := make(map[contentkey.KID]bool, len(records))
	for i := range records {
		there[records[i].KID] = true
	}
	for i := range page {
		if !there[page[i].KID] {
			r.damaged(noKey, fmt.Sprintf("%s of %s, content %q", page[i].KID, tenant, page[i].ContentID))
		}
	}
	return nil
}

// clockSlack is how far clocks of servers may be apart.
const clockSlack = 5 * time.Minute

// conclude turns what was counted into findings.
func (r *rows) conclude() {
	if r.custody == 0 {
		if r.tenants == 0 {
			r.add(Note, "", "No keys were ever kept in this store.")
			return
		}
		r.add(Error, "Repeat the restore; if there was none, restore the newest backup into an empty store.",
			"The custody record is missing, so no server starts on this store. That is how an interrupted restore leaves it.")
	}
	for _, kind := range []string{wrongKEK, unknownKEK, noData, noDataKey, notOpened, noKey} {
		p := r.places[kind]
		if p == nil {
			continue
		}
		more := ""
		if p.n > len(p.first) {
			more = fmt.Sprintf(" and %d more", p.n-len(p.first))
		}
		r.add(Error, remedies[kind], "%d %s: %s%s.", p.n, kind, strings.Join(p.first, ", "), more)
	}
	switch {
	case r.kek == nil:
		r.add(Error, doNetwork, "%d content keys were not opened, because there is no key manager to open their data keys.", r.keys-r.purged)
	case len(r.places) == 0:
		r.add(Good, "", "Every content key opens, and every binding has its key: %d keys and %d bindings of %d tenant(s).", r.keys-r.purged, r.bindings, r.tenants)
	}
	if r.kek != nil {
		for kek, n := range r.keks {
			if kek != r.kek.KeyID() {
				r.add(Note, doRewrap, "%d data keys are wrapped under KEK %s, not under the present one, %s. The old one is still needed.", n, kek, r.kek.KeyID())
			}
		}
	}
	if r.oldSeals > 0 {
		r.add(Note, doRewrap, "%d content keys are sealed under a data key that is not their tenant's newest.", r.oldSeals)
	}
	if r.deleted > 0 {
		r.add(Note, "`spekeasy keys purge` destroys those whose time of grace is over, `spekeasy keys undelete` brings them back.",
			"%d content keys are deleted and not purged.", r.deleted)
	}
	if ahead := r.newest.Sub(r.Now); ahead > clockSlack {
		r.add(Warning, "Set the clocks of all servers; with clocks that differ, rotation and grace times are wrong.",
			"The newest row was written %s in the future, on %s: this clock or that of another server is wrong.",
			ahead.Round(time.Second), r.newest.UTC().Format(time.RFC3339))
	} else {
		r.add(Good, "", "No row is from the future.")
	}
}
