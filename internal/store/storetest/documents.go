package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/internal/keystore"
	tenants "spekeasy/internal/tenant"
)

// Documented is what a backend offers that keeps what the admin API manages.
type Documented interface {
	Kept
	tenants.Store
}

// RunDocuments runs the suite of [tenants.Store]. Each call of open returns a
// new empty store, which the suite closes.
func RunDocuments(t *testing.T, open func(*testing.T) Documented) {
	run(t, open, map[string]func(*testing.T, Documented){
		"a document is created once":            createDocument,
		"a document is replaced by version":     replaceDocument,
		"a tombstone keeps its ID":              tombstone,
		"what was done may be repeated":         repeatDocument,
		"racers replace a version once":         documentRacers,
		"pages of documents":                    pagesOfDocuments,
		"kinds are apart":                       kindsApart,
		"the revision grows":                    revisionGrows,
		"a data key that sealed one is kept":    documentHoldsDataKey,
		"documents honour a cancelled context":  documentsCancelled,
		"documents keep every member as it was": documentMembers,
	})
}

func document(id string) tenants.Document {
	return tenants.Document{Kind: tenants.KindTenant, ID: id, Version: 1, Body: []byte(`{"id":"` + id + `"}`), Changed: noon}
}

// next is the version after d.
func next(d tenants.Document, body string) tenants.Document {
	d.Version++
	d.Body, d.Changed = []byte(body), d.Changed.Add(time.Second)
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isStored wants a document to be as given.
func isStored(t *testing.T, s Documented, want tenants.Document) {
	t.Helper()
	got, err := s.Document(t.Context(), want.Kind, want.ID)
	if err != nil || !got.Equal(&want) {
		t.Errorf("%s %s: %+v, %v; want %+v", want.Kind, want.ID, got, err, want)
	}
}

func createDocument(t *testing.T, s Documented) {
	if _, err := s.Document(t.Context(), tenants.KindTenant, "acme"); !errors.Is(err, tenants.ErrAbsent) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("before: %v", err)
	}
	d := document("acme")
	must(t, s.CreateDocument(t.Context(), d))
	other := d
	other.Body = []byte("{}")
	if err := s.CreateDocument(t.Context(), other); !errors.Is(err, tenants.ErrExists) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("again: %v", err)
	}
	isStored(t, s, d)
}

func replaceDocument(t *testing.T, s Documented) {
	d := document("acme")
	if err := s.ReplaceDocument(t.Context(), next(d, "{}")); !errors.Is(err, tenants.ErrAbsent) {
		t.Errorf("of one that is not there: %v", err)
	}
	must(t, s.CreateDocument(t.Context(), d))
	second := next(d, `{"second":1}`)
	must(t, s.ReplaceDocument(t.Context(), second))
	if err := s.ReplaceDocument(t.Context(), next(d, `{"other":1}`)); !errors.Is(err, tenants.ErrChanged) || errors.Is(err, keystore.ErrUnavailable) {
		t.Errorf("of a version that is gone: %v", err)
	}
	if err := s.ReplaceDocument(t.Context(), next(next(second, ""), "")); !errors.Is(err, tenants.ErrChanged) {
		t.Errorf("of a version to come: %v", err)
	}
	isStored(t, s, second)
}

func tombstone(t *testing.T, s Documented) {
	d := document("acme")
	must(t, s.CreateDocument(t.Context(), d))
	gone := next(d, "")
	gone.Body, gone.Deleted = []byte{}, true
	must(t, s.ReplaceDocument(t.Context(), gone))
	isStored(t, s, gone)
	if err := s.CreateDocument(t.Context(), document("acme")); !errors.Is(err, tenants.ErrExists) {
		t.Errorf("creating it again: %v", err)
	}
	page, err := s.PageDocuments(t.Context(), tenants.KindTenant, "", "", 10)
	if err != nil || len(page) != 1 || !page[0].Deleted {
		t.Errorf("page %+v, %v", page, err)
	}
}

func repeatDocument(t *testing.T, s Documented) {
	d := document("acme")
	must(t, s.CreateDocument(t.Context(), d))
	if err := s.CreateDocument(t.Context(), d); err != nil {
		t.Errorf("the same creation again: %v", err)
	}
	second := next(d, "{}")
	must(t, s.ReplaceDocument(t.Context(), second))
	if err := s.ReplaceDocument(t.Context(), second); err != nil {
		t.Errorf("the same change again: %v", err)
	}
	if err := s.CreateDocument(t.Context(), d); !errors.Is(err, tenants.ErrExists) {
		t.Errorf("the creation after the change: %v", err)
	}
}

func documentRacers(t *testing.T, s Documented) {
	d := document("acme")
	must(t, s.CreateDocument(t.Context(), d))
	var won atomic.Int32
	var racers sync.WaitGroup
	for i := range 8 {
		racers.Go(func() {
			err := s.ReplaceDocument(t.Context(), next(d, fmt.Sprint(i)))
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, tenants.ErrChanged):
				t.Error(err)
			}
		})
	}
	racers.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d won", n)
	}
}

func pagesOfDocuments(t *testing.T, s Documented) {
	all := []string{"a-b/x", "a.b/x", "a/x", "a/y", "a0/x", "ab/x", "b/x"} // in the order of their bytes
	for _, id := range []string{"ab/x", "a/y", "b/x", "a-b/x", "a0/x", "a/x", "a.b/x"} {
		must(t, s.CreateDocument(t.Context(), document(id)))
	}
	read := func(prefix, after string, limit int) (ids []string) {
		page, err := s.PageDocuments(t.Context(), tenants.KindTenant, prefix, after, limit)
		must(t, err)
		for i := range page {
			ids = append(ids, page[i].ID)
		}
		return ids
	}
	for size := 1; size <= len(all)+1; size++ {
		var walked []string
		for d, err := range tenants.Documents(t.Context(), s, tenants.KindTenant, "", "", size) {
			must(t, err)
			walked = append(walked, d.ID)
		}
		if !slices.Equal(walked, all) {
			t.Errorf("by %d: %q", size, walked)
		}
	}
	if got := read("a/", "", 10); !slices.Equal(got, []string{"a/x", "a/y"}) {
		t.Errorf("with a prefix: %q", got)
	}
	if got := read("a/", "a/x", 10); !slices.Equal(got, []string{"a/y"}) {
		t.Errorf("the rest: %q", got)
	}
	if got := read("none/", "", 10); len(got) != 0 {
		t.Errorf("of none: %q", got)
	}
}

func kindsApart(t *testing.T, s Documented) {
	d := document("acme")
	must(t, s.CreateDocument(t.Context(), d))
	admin := d
	admin.Kind = tenants.KindAdmin
	if _, err := s.Document(t.Context(), admin.Kind, "acme"); !errors.Is(err, tenants.ErrAbsent) {
		t.Errorf("another kind: %v", err)
	}
	must(t, s.CreateDocument(t.Context(), admin))
	page, err := s.PageDocuments(t.Context(), tenants.KindAdmin, "", "", 10)
	if err != nil || len(page) != 1 || page[0].Kind != tenants.KindAdmin {
		t.Errorf("%+v, %v", page, err)
	}
}

func revisionGrows(t *testing.T, s Documented) {
	last, err := s.Revision(t.Context())
	must(t, err)
	grew := func(what string, want bool) {
		t.Helper()
		now, err := s.Revision(t.Context())
		must(t, err)
		if now > last != want {
			t.Errorf("%s: from %d to %d", what, last, now)
		}
		last = now
	}
	grew("nothing", false)
	d := document("acme")
	must(t, s.CreateDocument(t.Context(), d))
	grew("a creation", true)
	must(t, s.ReplaceDocument(t.Context(), next(d, "{}")))
	grew("a change", true)
	d.Kind = tenants.KindAnswer
	must(t, s.CreateDocument(t.Context(), d))
	must(t, s.ReplaceDocument(t.Context(), next(d, "{}")))
	grew("an answer", false)
}

func documentHoldsDataKey(t *testing.T, s Documented) {
	found(t, s)
	second(t, s)
	d := document("acme/seed")
	d.Kind, d.Owner, d.DataKey, d.Sealed = tenants.KindCredential, tenant, 1, []byte("sealed")
	must(t, s.CreateDocument(t.Context(), d))
	isStored(t, s, d)
	if gone, err := s.RemoveDataKey(t.Context(), tenant, 1); gone || err != nil {
		t.Fatalf("removed %v, %v", gone, err)
	}
	after := next(d, "")
	after.DataKey, after.Sealed = 2, []byte("sealed anew")
	must(t, s.ReplaceDocument(t.Context(), after))
	isStored(t, s, after)
	if gone, err := s.RemoveDataKey(t.Context(), tenant, 1); !gone || err != nil {
		t.Errorf("removed %v, %v", gone, err)
	}
	plain := next(after, "")
	plain.Owner, plain.DataKey, plain.Sealed = "", 0, nil
	must(t, s.ReplaceDocument(t.Context(), plain))
	isStored(t, s, plain)
}

func documentsCancelled(t *testing.T, s Documented) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, readErr := s.Document(ctx, tenants.KindTenant, "acme")
	_, pageErr := s.PageDocuments(ctx, tenants.KindTenant, "", "", 1)
	_, revisionErr := s.Revision(ctx)
	for what, err := range map[string]error{
		"create": s.CreateDocument(ctx, document("acme")), "replace": s.ReplaceDocument(ctx, next(document("acme"), "")),
		"read": readErr, "page": pageErr, "revision": revisionErr,
	} {
		if !errors.Is(err, context.Canceled) || errors.Is(err, keystore.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func documentMembers(t *testing.T, s Documented) {
	found(t, s)
	d := tenants.Document{
		Kind: tenants.KindCredential, ID: "acme/odd._-", Version: 1, Body: []byte("\x00\xff'\"\n"), Changed: noon,
		Sealed: []byte{0, 1, 2, 255}, Owner: tenant, DataKey: 1,
	}
	must(t, s.CreateDocument(t.Context(), d))
	isStored(t, s, d)
	big := next(d, "")
	big.Body = make([]byte, 256<<10)
	must(t, s.ReplaceDocument(t.Context(), big))
	isStored(t, s, big)
}
