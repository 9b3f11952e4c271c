package binding

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"spekeasy/internal/gateway"
	"spekeasy/internal/keystore"
)

// Webhook is an address that a tenant's events are delivered to.
type Webhook struct {
	Tenant  string
	Name    string
	URL     string
	Secrets [][]byte // sign, each; the first is the present one
}

func (h *Webhook) id() string { return h.Tenant + "/" + h.Name }

// same reports whether nothing has changed that a delivery depends on.
func (h *Webhook) same(other *Webhook) bool {
	if h.id() != other.id() || h.URL != other.URL || len(h.Secrets) != len(other.Secrets) {
		return false
	}
	for i := range h.Secrets {
		if !hmac.Equal(h.Secrets[i], other.Secrets[i]) {
			return false
		}
	}
	return true
}

// Format shows no secret.
func (h Webhook) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "(webhook %s)", h.id()) }

// WebhookOptions are the settings of [Webhooks]; the zero value works.
type WebhookOptions struct {
	Poll   time.Duration // between looks at feed and webhooks; 0 is a second
	GiveUp time.Duration // how long one event is tried; 0 is a day

	// Backoff is how long to wait after so many failures in a row; nil doubles
	// from one second to five minutes.
	Backoff func(failures int) time.Duration

	// Observe is told what became of each attempt: ResultDelivered,
	// ResultFailed or ResultDead. Nil tells nobody.
	Observe func(result string)

	Client *http.Client     // nil follows no redirects and waits 15 seconds
	Now    func() time.Time // nil means time.Now
	Log    *slog.Logger     // nil discards
}

// What becomes of an attempt to deliver an event.
const (
	ResultDelivered = "delivered"
	ResultFailed    = "failed" // and will be tried again
	ResultDead      = "dead"   // set aside as a dead letter
)

// Webhooks delivers events, each at least once, in their order for each
// webhook. Of all processes on one database, one at a time delivers to a
// webhook.
type Webhooks struct {
	feed   keystore.Feed
	list   func() []Webhook
	holder string
	alarms chan gateway.Alarm
	o      WebhookOptions
	log    *slog.Logger
}

const (
	lease          = time.Minute // of the process that delivers, renewed at each note
	webhookTimeout = 15 * time.Second
	webhookPage    = 20

	// refusals is how often an event is tried that the receiver refuses, until
	// it is a dead letter.
	refusals = 5
)

// NewWebhooks returns the deliverer of a feed to what list returns, which it
// asks again and again.
func NewWebhooks(feed keystore.Feed, list func() []Webhook, o WebhookOptions) *Webhooks {
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.GiveUp == 0 {
		o.GiveUp = 24 * time.Hour
	}
	if o.Backoff == nil {
		o.Backoff = func(failures int) time.Duration {
			return time.Duration(math.Min(math.Pow(2, float64(failures-1)), 300)) * time.Second
		}
	}
	if o.Client == nil {
		o.Client = &http.Client{
			Timeout:       webhookTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if o.Observe == nil {
		o.Observe = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Webhooks{feed: feed, list: list, holder: rand.Text(), alarms: make(chan gateway.Alarm, maxAlarms), o: o, log: o.Log}
}

// Run delivers until ctx ends.
func (w *Webhooks) Run(ctx context.Context) {
	type running struct {
		Webhook
		stop context.CancelFunc
	}
	now := make(map[string]*running)
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(w.o.Poll)
	defer tick.Stop()
	for {
		wanted := make(map[string]*Webhook)
		list := w.list()
		for i := range list {
			wanted[list[i].id()] = &list[i]
		}
		for id, r := range now {
			if h := wanted[id]; h == nil || !h.same(&r.Webhook) {
				r.stop()
				delete(now, id)
			}
		}
		for id, h := range wanted {
			if now[id] == nil {
				one, stop := context.WithCancel(ctx)
				now[id] = &running{*h, stop}
				all.Go(func() { w.deliver(one, h) })
			}
		}
		select {
		case <-ctx.Done():
			for _, r := range now {
				r.stop()
			}
			return
		case a := <-w.alarms:
			for i := range list {
				if h := &list[i]; h.Tenant == a.Tenant {
					all.Go(func() { w.alarm(ctx, h, &a) })
				}
			}
		case <-tick.C:
		}
	}
}

// deliver delivers to one webhook until ctx ends.
func (w *Webhooks) deliver(ctx context.Context, h *Webhook) {
	defer w.release(context.WithoutCancel(ctx), h)
	for ctx.Err() == nil {
		wait, err := w.step(ctx, h)
		if err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "webhook", "webhook", h.id(), "error", err)
			wait = 10 * w.o.Poll // of the database, which has other worries
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// release lets another process go on at once.
func (w *Webhooks) release(ctx context.Context, h *Webhook) {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	s, version, err := LoadDelivery(ctx, w.feed, h.Tenant, h.Name)
	if err == nil && version > 0 && s.Holder == w.holder {
		s.Holder, s.Lease = "", time.Time{}
		_, err = s.save(ctx, w.feed, h.Tenant, h.Name, version)
	}
	if err != nil {
		w.log.WarnContext(ctx, "webhook", "webhook", h.id(), "error", err)
	}
}

// step delivers what is there, and says how long to wait before the next.
func (w *Webhooks) step(ctx context.Context, h *Webhook) (time.Duration, error) {
	s, version, err := LoadDelivery(ctx, w.feed, h.Tenant, h.Name)
	if err != nil {
		return 0, err
	}
	now := w.o.Now()
	if s.Holder != w.holder && now.Before(s.Lease) {
		return w.o.Poll, nil // another process is at it
	}
	if version == 0 { // a new webhook hears of what comes from now on
		if s.Position, err = w.feed.FeedEnd(ctx, h.Tenant); err != nil {
			return 0, err
		}
	}
	if now.Before(s.NextTry) {
		return min(s.NextTry.Sub(now), w.o.Poll), nil // it can be told to go on before
	}
	d := delivery{Webhooks: w, hook: h, state: s, version: version}
	if version == 0 || s.Holder != w.holder || now.Add(lease/2).After(s.Lease) {
		if ok, err := d.save(ctx); !ok || err != nil {
			return w.o.Poll, err
		}
	}
	more, err := d.run(ctx)
	if more && err == nil {
		return 0, nil
	}
	return w.o.Poll, err
}

// delivery is one turn at a webhook.
type delivery struct {
	*Webhooks
	hook    *Webhook
	state   *Delivery
	version int64
}

// save keeps the state and the lease. It reports false when somebody else has
// changed the state.
func (d *delivery) save(ctx context.Context) (bool, error) {
	d.state.Holder, d.state.Lease = d.holder, d.o.Now().Add(lease).UTC()
	ok, err := d.state.save(ctx, d.feed, d.hook.Tenant, d.hook.Name, d.version)
	if ok {
		d.version++
	}
	return ok, err
}

// run delivers what was asked for again, then a page of the feed, and reports
// whether there may be more.
func (d *delivery) run(ctx context.Context) (more bool, err error) {
	for len(d.state.Again) > 0 && ctx.Err() == nil {
		page, err := d.feed.FollowBindings(ctx, d.hook.Tenant, d.state.Again[0].After, 1)
		if err != nil {
			return false, err
		}
		again := d.state.Again[0]
		if len(page) > 0 && !d.event(ctx, &page[0], again.After) {
			return false, d.keep(ctx)
		}
		d.state.Again = d.state.Again[1:]
		if err := d.keep(ctx); err != nil {
			return false, err
		}
	}
	page, err := d.feed.FollowBindings(ctx, d.hook.Tenant, d.state.Position, webhookPage)
	if err != nil {
		if errors.Is(err, keystore.ErrPosition) {
			d.log.ErrorContext(ctx, "the database is an older one; events are delivered again from the beginning", "webhook", d.hook.id())
			d.state.Position = ""
			return true, d.keep(ctx)
		}
		return false, err
	}
	if len(page) == 0 {
		return false, nil
	}
	for i := range page {
		if ctx.Err() != nil || !d.event(ctx, &page[i], d.state.Position) {
			return false, d.keep(ctx)
		}
		d.state.Position = page[i].Position
		if d.o.Now().Add(lease / 2).After(d.state.Lease) {
			if err := d.keep(ctx); err != nil {
				return false, err
			}
		}
	}
	return len(page) == webhookPage, d.keep(ctx)
}

// keep saves the state, also when ctx has ended: what was delivered was.
func (d *delivery) keep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), webhookTimeout)
	defer cancel()
	ok, err := d.save(ctx)
	if err == nil && !ok {
		err = errors.New("somebody else has changed its state")
	}
	return err
}

// event delivers one event, and reports whether to go on with the next: it
// was taken, or is a dead letter now.
func (d *delivery) event(ctx context.Context, b *keystore.Followed, after string) bool {
	// A request under way is waited for when the server ends, so that it need
	// not be sent again.
	refused, err := d.post(context.WithoutCancel(ctx), &b.Binding)
	s, now := d.state, d.o.Now().UTC()
	if err == nil {
		d.o.Observe(ResultDelivered)
		s.Delivered++
		s.Failures, s.FailingSince, s.NextTry, s.LastError = 0, time.Time{}, time.Time{}, ""
		return true
	}
	if s.Failures++; s.Failures == 1 {
		s.FailingSince = now
	}
	d.o.Observe(ResultFailed)
	s.LastError = err.Error()
	s.NextTry = now.Add(d.o.Backoff(s.Failures))
	if (!refused || s.Failures < refusals) && now.Sub(s.FailingSince) < d.o.GiveUp {
		d.log.WarnContext(ctx, "an event was not delivered", "webhook", d.hook.id(), "kid", b.KID, "failures", s.Failures, "error", err)
		return false
	}
	if len(s.Dead) >= maxDead {
		d.log.ErrorContext(ctx, "delivery waits, since there is no room for more dead letters", "webhook", d.hook.id(), "dead", len(s.Dead))
		return false
	}
	d.o.Observe(ResultDead)
	e := newEvent(&b.Binding)
	s.Dead = append(s.Dead, DeadLetter{After: after, Event: e.ID, KID: b.KID, ContentID: shorten(b.ContentID), Error: s.LastError, At: now})
	s.Failures, s.FailingSince, s.NextTry = 0, time.Time{}, time.Time{}
	d.log.ErrorContext(ctx, "an event is a dead letter", "webhook", d.hook.id(), "kid", b.KID, "error", err)
	return true
}

// post sends one event. refused means that the receiver has understood the
// request and does not want it.
func (d *delivery) post(ctx context.Context, b *keystore.Binding) (refused bool, err error) {
	e := newEvent(b)
	body, err := json.Marshal(e)
	if err != nil {
		return true, err
	}
	return d.send(ctx, d.hook, e.ID, body)
}

// send posts an event of that ID, signed.
func (w *Webhooks) send(ctx context.Context, h *Webhook, id string, body []byte) (refused bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return true, errors.New("the URL cannot be used")
	}
	r.Header.Set("Content-Type", typeEvent)
	Sign(r.Header, h.Secrets, id, w.o.Now(), body)
	res, err := w.o.Client.Do(r)
	if err != nil {
		return false, withoutURL(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10)) // so that the connection can be used again
	switch s := res.StatusCode; {
	case s >= 200 && s < 300:
		return false, nil
	case s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooEarly && s != http.StatusTooManyRequests:
		return true, fmt.Errorf("status %d", s)
	default:
		return false, fmt.Errorf("status %d", s)
	}
}

// Sign adds the headers of Standard Webhooks: the ID of the message, the time,
// and for each secret the base64 of HMAC-SHA256 over ID, time in seconds and
// body with dots between.
func Sign(h http.Header, secrets [][]byte, id string, at time.Time, body []byte) {
	seconds := strconv.FormatInt(at.Unix(), 10)
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", seconds)
	signatures := ""
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%s.", id, seconds)
		mac.Write(body)
		if signatures != "" {
			signatures += " "
		}
		signatures += "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	h.Set("webhook-signature", signatures)
}
