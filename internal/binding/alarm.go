package binding

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"spekeasy/internal/gateway"
)

// The types of the events that tell how an upstream fares.
const (
	EventFailing   = "spekeasy.upstream.failing"
	EventRecovered = "spekeasy.upstream.recovered"
)

// UpstreamEvent says that an upstream of a tenant began to fail or serves
// again, as one server sees it. Webhooks get it beside the feed and at once;
// it is tried a few times and not kept.
type UpstreamEvent struct {
	SpecVersion string    `json:"specversion"` // "1.0"
	ID          string    `json:"id"`
	Source      string    `json:"source"`  // /tenants/ID
	Type        string    `json:"type"`    // EventFailing or EventRecovered
	Subject     string    `json:"subject"` // the upstream's name
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        Failing   `json:"data"`
}

// Failing is how an upstream fails, or failed.
type Failing struct {
	Upstream    string    `json:"upstream"`
	Origin      string    `json:"origin"` // scheme and host
	Since       time.Time `json:"since"`  // the first key request that failed
	Failures    int       `json:"failures"`
	LastSuccess time.Time `json:"last_success,omitzero"` // before that; absent for never
	LastError   string    `json:"last_error"`
}

// maxAlarms bounds what waits to be told.
const maxAlarms = 100

// Alarm has the webhooks of a tenant told how an upstream fares. It returns
// at once.
func (w *Webhooks) Alarm(a gateway.Alarm) {
	select {
	case w.alarms <- a:
	default:
		w.log.Warn("too many alarms wait, one is not told to webhooks", "tenant", a.Tenant, "upstream", a.Upstream)
	}
}

func newUpstreamEvent(a *gateway.Alarm, id string) *UpstreamEvent {
	e := &UpstreamEvent{
		SpecVersion: "1.0", ID: id, Source: "/tenants/" + url.PathEscape(a.Tenant), Type: EventRecovered,
		Subject: a.Upstream, Time: a.At.UTC(), ContentType: "application/json",
		Data: Failing{
			Upstream: a.Upstream, Origin: a.Origin, Since: a.Since.UTC(), Failures: a.Failures, LastSuccess: a.LastSuccess, LastError: a.Error,
		},
	}
	if a.Failing {
		e.Type = EventFailing
	}
	if !a.LastSuccess.IsZero() {
		e.Data.LastSuccess = a.LastSuccess.UTC()
	}
	return e
}

// alarm delivers one alarm to one webhook, or gives it up.
func (w *Webhooks) alarm(ctx context.Context, h *Webhook, a *gateway.Alarm) {
	kind := "failing"
	if !a.Failing {
		kind = "recovered"
	}
	e := newUpstreamEvent(a, fmt.Sprintf("%s-%s-%s-%d", w.holder, a.Upstream, kind, a.At.UnixMicro()))
	body, err := json.Marshal(e)
	for failures := 0; err == nil; {
		var refused bool
		if refused, err = w.send(ctx, h, e.ID, body); err == nil {
			w.o.Observe(ResultDelivered)
			return
		}
		w.o.Observe(ResultFailed)
		if failures++; refused || failures == refusals {
			break
		}
		err = nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.o.Backoff(failures)):
		}
	}
	w.log.WarnContext(ctx, "an alarm was not delivered", "webhook", h.id(), "upstream", a.Upstream, "type", e.Type, "error", err)
}
