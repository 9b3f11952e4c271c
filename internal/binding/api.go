package binding

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/auth"
	"spekeasy/internal/keystore"
	"spekeasy/internal/kidrule"
	"spekeasy/internal/tenant"
)

// Authenticator finds out who asks; it is [auth.Authenticator] behind
// whatever changes its credentials meanwhile.
type Authenticator interface {
	Authenticate(r *http.Request, body []byte) (*auth.Principal, error)
	Challenge(h http.Header, err error)
}

// Tenants finds a tenant by its ID; the error is [tenant.ErrNotFound].
type Tenants interface {
	Tenant(ctx context.Context, id string) (*tenant.Tenant, error)
}

// Options are the settings of an [API]; the zero value works.
type Options struct {
	// Poll is how often the feed is looked at for a client that waits. Zero
	// means half a second.
	Poll time.Duration

	// Upstreams tells of tenants' upstreams; nil for a server without any.
	Upstreams Upstreams

	// Streams is how many clients may wait at once. Zero means 256.
	Streams int

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil discards
}

// API answers what content keys are for. Each of its handlers wants a
// credential with the role [tenant.RoleEntitlement] and reads what belongs to
// that credential's tenant. It may be used concurrently.
type API struct {
	auth    Authenticator
	tenants Tenants
	store   Store
	feed    keystore.Feed
	o       Options
	log     *slog.Logger
	streams chan struct{} // has an element for each client that waits
	closed  chan struct{}
	close   sync.Once
}

// NewAPI returns an API. feed is nil for a store that has none.
func NewAPI(a Authenticator, tenants Tenants, store Store, feed keystore.Feed, o Options) *API {
	if o.Poll == 0 {
		o.Poll = 500 * time.Millisecond
	}
	if o.Streams == 0 {
		o.Streams = 256
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &API{
		auth: a, tenants: tenants, store: store, feed: feed, o: o, log: o.Log,
		streams: make(chan struct{}, o.Streams), closed: make(chan struct{}),
	}
}

// Close ends the waiting of clients, so that a server can be taken down.
func (a *API) Close() { a.close.Do(func() { close(a.closed) }) }

// Handlers returns the API's handlers by the patterns of their paths.
func (a *API) Handlers() map[string]http.Handler {
	handlers := map[string]http.Handler{
		"/v1/contents/{content}/keys": a.handler(a.contentKeys),
		"/v1/contents/{content}/live": a.handler(a.liveKeys),
		"/v1/keys/{kid}":              a.handler(a.key),
		"/v1/kid":                     a.handler(a.ruleKID),
	}
	if a.feed != nil {
		handlers["/v1/events"] = a.handler(a.events)
	}
	if a.o.Upstreams != nil {
		handlers["/v1/upstreams"] = a.handler(a.upstreams)
		handlers["/v1/exchanges"] = a.handler(a.exchanges)
		handlers["/v1/exchanges/{request}"] = a.handler(a.exchange)
	}
	return handlers
}

// timeout bounds the reading of an answer.
const timeout = 20 * time.Second

type handle func(ctx context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error

func (a *API) handler(f handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := a.admit(w, r)
		if err == nil {
			err = f(r.Context(), w, r, t)
		}
		if err != nil {
			a.fail(w, r, err)
		}
	})
}

// admit lets a request in that may read.
func (a *API) admit(w http.ResponseWriter, r *http.Request) (*tenant.Tenant, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return nil, &problem{Status: http.StatusMethodNotAllowed}
	}
	who, err := a.auth.Authenticate(r, nil)
	if err != nil {
		return nil, err
	}
	if !who.Entitlement {
		return nil, auth.ErrForbidden
	}
	t, err := a.tenants.Tenant(r.Context(), who.Tenant)
	if err != nil {
		return nil, err
	}
	pass, err := t.Gate.Enter(who.Credential)
	if err != nil {
		return nil, err
	}
	pass.Leave() // reading holds up no encryptor; only the rate counts
	return t, nil
}

// list is a page of bindings.
type list struct {
	Bindings []Binding `json:"bindings"`
	Next     string    `json:"next,omitempty"` // where the next page begins
}

// contentKeys lists the content keys of a content.
func (a *API) contentKeys(ctx context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error {
	q, err := readQuery(r.URL.RawQuery, "kid")
	if err != nil {
		return err
	}
	page, err := a.page(ctx, t.ID, keystore.BindingFilter{ContentID: r.PathValue("content"), KID: q.filter.KID}, q)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", page)
	return nil
}

// keyInfo is a content key with a page of its bindings.
type keyInfo struct {
	KID     contentkey.KID `json:"kid"`
	Source  string         `json:"source,omitempty"`
	Created *time.Time     `json:"created,omitempty"`
	Deleted *time.Time     `json:"deleted,omitempty"`
	list
}

// key says what a content key is for. A key ID that was asked for and
// answered under another one is found too; then it has no key of its own.
func (a *API) key(ctx context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error {
	q, err := readQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	info := keyInfo{}
	if info.KID, err = contentkey.ParseKID(r.PathValue("kid")); err != nil {
		return badRequest("the key ID is %v", err)
	}
	page, err := a.page(ctx, t.ID, keystore.BindingFilter{KID: info.KID}, q)
	if err != nil {
		return err
	}
	info.list = *page
	records, err := a.store.Records(ctx, t.ID, []contentkey.KID{info.KID})
	switch {
	case errors.Is(err, keystore.ErrNotFound):
		if q.isPlain() && len(info.Bindings) == 0 {
			return notFound("nobody asked for this key ID")
		}
	case err != nil:
		return err
	default:
		info.Source, info.Created = records[0].Source, &records[0].Created
		if !records[0].Deleted.IsZero() {
			info.Deleted = &records[0].Deleted
		}
	}
	writeJSON(w, http.StatusOK, "application/json", info)
	return nil
}

// page reads a page and leaves out what the filter does not select, so that it
// may be short, or empty, before the end.
func (a *API) page(ctx context.Context, tenantID string, f keystore.BindingFilter, q *query) (*list, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, next, err := a.store.PageBindings(ctx, tenantID, f, q.after, q.limit)
	if errors.Is(err, keystore.ErrPosition) {
		return nil, badRequest("after is not the cursor of such a page")
	}
	if err != nil {
		return nil, err
	}
	out := &list{Bindings: []Binding{}, Next: cursor(next)}
	for i := range found {
		if q.filter.matches(&found[i]) {
			out.Bindings = append(out.Bindings, newBinding(&found[i]))
		}
	}
	return out, nil
}

// liveKeys answers which content key each track of a content has at a time.
func (a *API) liveKeys(ctx context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	content := r.PathValue("content")
	at := a.o.Now().UTC()
	values, err := values(r.URL.RawQuery, "at")
	if err != nil {
		return err
	}
	if text := values.Get("at"); text != "" {
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			return badRequest("at is a time such as 2026-12-31T12:00:00Z")
		}
	}
	m := newMoment(at)
	for page, err := range a.store.BindingPages(ctx, t.ID, keystore.BindingFilter{ContentID: content}) {
		if err != nil {
			return err
		}
		for i := range page {
			m.add(&page[i])
		}
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		ContentID string    `json:"content_id"`
		At        time.Time `json:"at"`
		Keys      []Live    `json:"keys"`
	}{content, at.UTC(), m.keys()})
	return nil
}

// ruleKID answers which key ID the tenant's rule, or a named one, will give,
// before any job runs (SX-KID-01).
func (a *API) ruleKID(_ context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error {
	v, err := values(r.URL.RawQuery, "rule", "content", "track", "period", "scheme", "speke", "index", "requested")
	if err != nil {
		return err
	}
	rule := t.KIDRule
	if name := v.Get("rule"); name != "" {
		if rule, err = kidrule.Parse(name); err != nil {
			return badRequest("%v", err)
		}
	} else if rule.IsAsAsked() {
		rule = kidrule.AsAsked // its zero value has no name
	}
	in := &kidrule.Input{Tenant: t.ID, ContentID: v.Get("content"), Track: v.Get("track"), Period: v.Get("period")}
	if text := v.Get("scheme"); text != "" {
		if in.Scheme, err = contentkey.ParseScheme(text); err != nil {
			return badRequest("scheme: %v", err)
		}
	}
	if text := v.Get("requested"); text != "" {
		if in.Requested, err = contentkey.ParseKID(text); err != nil {
			return badRequest("requested: %v", err)
		}
	}
	if text := v.Get("index"); text != "" {
		if in.Index, err = strconv.Atoi(text); err != nil || in.Index < 0 {
			return badRequest("index is the position of the key in the request, from 0")
		}
	}
	switch v.Get("speke") {
	case "1.0":
		in.V1 = true
	case "", "2.0", "2.1":
	default:
		return badRequest("speke is 1.0, 2.0 or 2.1")
	}
	switch {
	case rule.IsAsAsked() && in.Requested == contentkey.KID{}:
		return badRequest("rule %s needs requested, the encryptor's own key ID", rule)
	case !rule.IsAsAsked() && in.ContentID == "":
		return badRequest("rule %s needs content", rule)
	}
	writeJSON(w, http.StatusOK, "application/json", struct {
		KID  contentkey.KID `json:"kid"`
		Rule string         `json:"rule"`
	}{rule.KID(in), rule.String()})
	return nil
}

// query is what a request for bindings asks for.
type query struct {
	filter Filter
	after  string
	limit  int
}

// isPlain reports whether the query selects everything, from the beginning.
func (q *query) isPlain() bool { return q.after == "" && q.filter == Filter{} }

// How many bindings or events a page has.
const (
	usualLimit = 100
	maxLimit   = 1000
)

func readQuery(raw string, more ...string) (*query, error) {
	v, err := values(raw, append(more, "track", "scheme", "period", "since", "until", "after", "limit")...)
	if err != nil {
		return nil, err
	}
	q := &query{filter: Filter{Track: v.Get("track"), Period: v.Get("period")}}
	if text := v.Get("scheme"); text != "" {
		if q.filter.Scheme, err = contentkey.ParseScheme(text); err != nil {
			return nil, badRequest("scheme: %v", err)
		}
	}
	if text := v.Get("kid"); text != "" {
		if q.filter.KID, err = contentkey.ParseKID(text); err != nil {
			return nil, badRequest("kid: %v", err)
		}
	}
	for name, to := range map[string]*time.Time{"since": &q.filter.Since, "until": &q.filter.Until} {
		if text := v.Get(name); text != "" {
			if *to, err = time.Parse(time.RFC3339, text); err != nil {
				return nil, badRequest("%s is a time such as 2026-12-31T12:00:00Z", name)
			}
		}
	}
	if q.after, err = readCursor(v.Get("after")); err != nil {
		return nil, err
	}
	q.limit, err = readLimit(v.Get("limit"))
	return q, err
}

// values reads a query whose parameters have these names; a misspelled filter
// must not select everything.
func values(raw string, names ...string) (url.Values, error) {
	v, err := url.ParseQuery(raw)
	if err != nil {
		return nil, badRequest("the query cannot be read")
	}
	for name := range v {
		if !slices.Contains(names, name) {
			return nil, badRequest("unknown parameter %.40q", name)
		}
	}
	return v, nil
}

func readLimit(text string) (int, error) {
	if text == "" {
		return usualLimit, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, badRequest("limit is a number from 1 to %d", maxLimit)
	}
	return n, nil
}

// cursor makes a position fit for a URL.
func cursor(position string) string { return base64.RawURLEncoding.EncodeToString([]byte(position)) }

func readCursor(text string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return "", badRequest("after is no cursor of ours")
	}
	return string(b), nil
}
