package binding

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"spekeasy/internal/keystore"
	"spekeasy/internal/tenant"
)

// latest is the cursor of who wants what comes from now on.
const latest = "latest"

const (
	maxWait   = 50 * time.Second // of a request for the next events
	maxStream = 10 * time.Minute // then the client comes again, and its credential is looked at again
	keepAlive = 15 * time.Second // between signs of life in a stream
	writeTime = 30 * time.Second // for a client to take what is sent
)

// events answers the events after a cursor: at once or, when there are none
// yet, as soon as there are, in one answer or in a stream of them.
func (a *API) events(ctx context.Context, w http.ResponseWriter, r *http.Request, t *tenant.Tenant) error {
	v, err := values(r.URL.RawQuery, "after", "wait", "limit")
	if err != nil {
		return err
	}
	text := v.Get("after")
	stream := strings.Contains(r.Header.Get("Accept"), typeStream)
	if id := r.Header.Get("Last-Event-Id"); stream && id != "" {
		text = id
	}
	limit, err := readLimit(v.Get("limit"))
	if err != nil {
		return err
	}
	after, err := a.position(ctx, t.ID, text)
	if err != nil {
		return err
	}
	if stream {
		return a.stream(ctx, w, t.ID, after)
	}
	var wait time.Duration
	if text := v.Get("wait"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || time.Duration(n)*time.Second > maxWait {
			return badRequest("wait is a number of seconds from 0 to %d", maxWait/time.Second)
		}
		wait = time.Duration(n) * time.Second
	}
	page, err := a.wait(ctx, t.ID, after, limit, wait)
	if err != nil {
		return err
	}
	batch := struct {
		Events []*Event `json:"events"`
		Next   string   `json:"next"` // the cursor behind them
	}{[]*Event{}, cursor(after)}
	for i := range page {
		batch.Events = append(batch.Events, newEvent(&page[i].Binding))
		batch.Next = cursor(page[i].Position)
	}
	a.giveTime(w)
	writeJSON(w, http.StatusOK, "application/json", batch)
	return nil
}

// position reads a cursor; without one, the feed begins at its beginning.
func (a *API) position(ctx context.Context, tenantID, text string) (string, error) {
	if text == latest {
		return a.feed.FeedEnd(ctx, tenantID)
	}
	return readCursor(text)
}

// giveTime moves the end of the time for writing, which a server counts from
// the request on.
func (a *API) giveTime(w http.ResponseWriter) {
	// A writer without deadlines has none to move.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
}

// wait reads what comes after a position; when that is nothing, again and
// again for a while.
func (a *API) wait(ctx context.Context, tenantID, after string, limit int, wait time.Duration) ([]keystore.Followed, error) {
	page, err := a.feed.FollowBindings(ctx, tenantID, after, limit)
	if err != nil || len(page) > 0 || wait == 0 {
		return page, err
	}
	leave, err := a.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	end := time.NewTimer(wait)
	defer end.Stop()
	tick := time.NewTicker(a.o.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-a.closed:
			return nil, nil
		case <-end.C:
			return nil, nil
		case <-tick.C:
			if page, err = a.feed.FollowBindings(ctx, tenantID, after, limit); err != nil || len(page) > 0 {
				return page, err
			}
		}
	}
}

// enter takes a place among the clients that wait.
func (a *API) enter() (leave func(), err error) {
	select {
	case a.streams <- struct{}{}:
		return func() { <-a.streams }, nil
	default:
		return nil, &problem{Status: http.StatusServiceUnavailable, Detail: "too many clients wait for events"}
	}
}

// stream sends events as they come, as server-sent events. The ID of each is
// the cursor behind it, with which a client that was cut off goes on.
func (a *API) stream(ctx context.Context, w http.ResponseWriter, tenantID, after string) error {
	page, err := a.feed.FollowBindings(ctx, tenantID, after, usualLimit)
	if err != nil {
		return err // before anything was sent
	}
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	h := w.Header()
	h.Set("Content-Type", typeStream)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // says nginx
	w.WriteHeader(http.StatusOK)
	end := time.NewTimer(maxStream)
	defer end.Stop()
	tick := time.NewTicker(a.o.Poll)
	defer tick.Stop()
	var b bytes.Buffer
	b.WriteString(": welcome\n\n")
	sent := time.Now()
	for {
		for i := range page {
			data, err := json.Marshal(newEvent(&page[i].Binding))
			if err != nil {
				return nil // cannot be: texts and times only
			}
			after = page[i].Position
			fmt.Fprintf(&b, "id: %s\nevent: %s\ndata: %s\n\n", cursor(after), EventType, data)
		}
		if b.Len() == 0 && time.Since(sent) > keepAlive {
			b.WriteString(": still here\n\n")
		}
		if b.Len() > 0 {
			a.giveTime(w)
			if _, err := b.WriteTo(w); err != nil {
				return nil // the client is gone
			}
			if http.NewResponseController(w).Flush() != nil {
				return nil
			}
			sent = time.Now()
		}
		if len(page) < usualLimit {
			select {
			case <-ctx.Done():
				return nil
			case <-a.closed:
				return nil
			case <-end.C:
				return nil
			case <-tick.C:
			}
		}
		if page, err = a.feed.FollowBindings(ctx, tenantID, after, usualLimit); err != nil {
			a.log.WarnContext(ctx, "a stream of events breaks off", "tenant", tenantID, "error", err)
			return nil // the client comes again and is told why
		}
	}
}
