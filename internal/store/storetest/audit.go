package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/audit"
	"spekeasy/internal/keystore"
)

// Audited is what a backend offers that keeps the audit log.
type Audited interface {
	audit.Store
	Close() error
}

// RunAudit runs the suite of [audit.Store]. Each call of open returns a new
// empty store, which the suite closes.
func RunAudit(t *testing.T, open func(*testing.T) Audited) {
	run(t, open, map[string]func(*testing.T, Audited){
		"pages follow one another":        auditPages,
		"only after the head":             auditHead,
		"what was done may be repeated":   auditRepeated,
		"racers write a page once":        auditRacers,
		"a part is deleted with its rows": auditDeleted,
		"a log of several servers":        auditLogs,
		"audit honours a cancelled call":  auditCancelled,
	})
}

// position is a record by its number.
func position(n uint64) audit.Position {
	if n == 0 {
		return audit.Position{}
	}
	return audit.Position{Seq: n, Hash: audit.Hash{0: byte(n), 31: 255}}
}

// page has the records after from up to to.
func page(part string, from, to uint64) *audit.Page {
	return &audit.Page{
		Part: part, Before: position(from), Last: position(to),
		Time: noon.Add(time.Duration(to) * time.Second), Lines: fmt.Appendf(nil, "%d to %d\n\x00\xff", from+1, to),
	}
}

func auditPages(t *testing.T, s Audited) {
	var want []audit.Page
	for n := range uint64(5) {
		p := page("a/000001", 10+2*n, 12+2*n)
		must(t, s.AppendAudit(t.Context(), p, n == 0))
		want = append(want, *p)
	}
	must(t, s.AppendAudit(t.Context(), page("a/000002", 0, 1), true))
	must(t, s.AppendAudit(t.Context(), page("b/000001", 20, 21), true))

	var got []audit.Page
	for after := uint64(0); ; {
		pages, err := s.AuditPages(t.Context(), "a/000001", after, 2)
		must(t, err)
		got = append(got, pages...)
		if len(pages) < 2 {
			break
		}
		after = pages[1].Before.Seq + 1
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("pages %+v, want %+v", got, want)
	}
	parts, err := s.AuditParts(t.Context(), "", 2)
	must(t, err)
	more, err := s.AuditParts(t.Context(), parts[len(parts)-1].ID, 2)
	must(t, err)
	parts = append(parts, more...)
	if want := []audit.Part{
		{ID: "a/000001", Before: position(10), Head: position(20), Written: noon.Add(20 * time.Second)},
		{ID: "a/000002", Head: position(1), Written: noon.Add(time.Second)},
		{ID: "b/000001", Before: position(20), Head: position(21), Written: noon.Add(21 * time.Second)},
	}; !reflect.DeepEqual(parts, want) {
		t.Errorf("parts %+v, want %+v", parts, want)
	}
}

func auditHead(t *testing.T, s Audited) {
	must(t, s.AppendAudit(t.Context(), page("a/000001", 0, 3), true))
	forged := page("a/000001", 3, 4)
	forged.Before.Hash[5] = 1
	for name, err := range map[string]error{
		"no such part":    s.AppendAudit(t.Context(), page("b/000001", 3, 4), false),
		"there already":   s.AppendAudit(t.Context(), page("a/000001", 0, 2), true),
		"a gap":           s.AppendAudit(t.Context(), page("a/000001", 4, 5), false),
		"again":           s.AppendAudit(t.Context(), page("a/000001", 2, 4), false),
		"another before":  s.AppendAudit(t.Context(), forged, false),
		"from the middle": s.AppendAudit(t.Context(), page("a/000001", 1, 2), false),
	} {
		if !errors.Is(err, audit.ErrMoved) || errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	pages, err := s.AuditPages(t.Context(), "a/000001", 0, 10)
	if err != nil || len(pages) != 1 || pages[0].Last != position(3) {
		t.Errorf("%+v, %v", pages, err)
	}
	if pages, err := s.AuditPages(t.Context(), "b/000001", 0, 10); err != nil || len(pages) != 0 {
		t.Errorf("of a part that was refused: %+v, %v", pages, err)
	}
}

func auditRepeated(t *testing.T, s Audited) {
	for range 2 {
		must(t, s.AppendAudit(t.Context(), page("a/000001", 0, 3), true))
	}
	for range 2 {
		must(t, s.AppendAudit(t.Context(), page("a/000001", 3, 5), false))
	}
	if pages, err := s.AuditPages(t.Context(), "a/000001", 0, 10); err != nil || len(pages) != 2 {
		t.Errorf("%d pages, %v", len(pages), err)
	}
}

func auditRacers(t *testing.T, s Audited) {
	must(t, s.AppendAudit(t.Context(), page("a/000001", 0, 1), true))
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { errs[i] = s.AppendAudit(t.Context(), page("a/000001", 1, uint64(i)+2), false) })
	}
	wg.Wait()
	done := 0
	for _, err := range errs {
		switch {
		case err == nil:
			done++
		case !errors.Is(err, audit.ErrMoved):
			t.Error(err)
		}
	}
	pages, err := s.AuditPages(t.Context(), "a/000001", 0, 10)
	if err != nil || done != 1 || len(pages) != 2 {
		t.Errorf("%d racers wrote %d pages, %v", done, len(pages), err)
	}
}

func auditDeleted(t *testing.T, s Audited) {
	must(t, s.AppendAudit(t.Context(), page("b/000001", 0, 1), true))
	for n := range uint64(30) {
		must(t, s.AppendAudit(t.Context(), page("a/000001", n, n+1), n == 0))
	}
	for range 2 {
		must(t, s.DeleteAudit(t.Context(), "a/000001"))
	}
	parts, err := s.AuditParts(t.Context(), "", 10)
	if err != nil || len(parts) != 1 || parts[0].ID != "b/000001" {
		t.Errorf("parts %+v, %v", parts, err)
	}
	if pages, err := s.AuditPages(t.Context(), "a/000001", 0, 10); err != nil || len(pages) != 0 {
		t.Errorf("%d pages, %v", len(pages), err)
	}
	if err := s.AppendAudit(t.Context(), page("a/000001", 30, 31), false); !errors.Is(err, audit.ErrMoved) {
		t.Errorf("going on with it: %v", err)
	}
}

// auditLogs lets two servers write at once, one of them after a restart.
func auditLogs(t *testing.T, s Audited) {
	const each = 40
	var logs []*audit.Log
	for range 2 {
		l, err := audit.Open(audit.Options{}, audit.NewDatabase(s, noon))
		must(t, err)
		logs = append(logs, l)
	}
	var wg sync.WaitGroup
	for i, l := range logs {
		for worker := range 4 {
			wg.Go(func() {
				for n := range each / 4 {
					id := fmt.Sprintf("%d-%d-%d", i, worker, n)
					if err := l.Record(t.Context(), &audit.Record{Event: audit.KeyRequest, Result: audit.Delivered, RequestID: id}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	for _, l := range logs {
		must(t, l.Close(t.Context()))
	}
	again, err := audit.Open(audit.Options{}, audit.NewDatabase(s, noon.Add(time.Second)))
	must(t, err)
	must(t, again.Close(t.Context()))

	seen := make(map[string]int)
	must(t, audit.InStore{Store: s}.Read(t.Context(), &audit.Query{}, "", func(_ string, _ []byte, r *audit.Record) error {
		seen[r.RequestID]++
		return nil
	}))
	if len(seen) != 2*each+1 || seen[""] != 6 {
		t.Errorf("%d requests on record, %d other records", len(seen)-1, seen[""])
	}
	r, err := audit.VerifyStore(t.Context(), s)
	if err != nil || !r.Sound() || len(r.Notes) > 0 || r.Segments != 3 || r.Records != 2*each+6 || len(r.Heads) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func auditCancelled(t *testing.T, s Audited) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, parts := s.AuditParts(ctx, "", 1)
	_, pages := s.AuditPages(ctx, "a/000001", 0, 1)
	for name, err := range map[string]error{
		"append": s.AppendAudit(ctx, page("a/000001", 0, 1), true), "parts": parts, "pages": pages, "delete": s.DeleteAudit(ctx, "a/000001"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
