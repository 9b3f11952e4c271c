package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of an exporter. What finds a full queue is dropped and counted:
// nothing waits for a collector, and no outage of one fills the memory.
const (
	maxQueue    = 4096 // spans, and as many log records
	maxBatch    = 512
	flushEvery  = 2 * time.Second
	sendTimeout = 10 * time.Second
	attempts    = 3
	firstPause  = 500 * time.Millisecond
	maxAnswer   = 64 << 10 // bytes of a collector's answer that are read
)

// Options are the settings of an [Exporter].
type Options struct {
	// Endpoint is the collector's base URL; /v1/traces and /v1/logs are
	// appended.
	Endpoint string

	Headers  map[string]string // sent along, such as an API key
	Resource []Attribute       // says who we are

	Client *http.Client // nil means one with a time limit
	Log    *slog.Logger // told when sending begins to fail; must not lead back here. nil discards
}

// Exporter sends spans and log records to a collector, in the background. It
// is safe for concurrent use.
type Exporter struct {
	o        Options
	resource resource

	mu      sync.Mutex
	spans   []spanJSON
	logs    []logJSON
	wake    chan struct{}
	failing atomic.Bool

	droppedSpans, droppedLogs atomic.Uint64

	quit   chan struct{}
	done   chan struct{}
	cancel context.CancelFunc // of what is being sent
}

// NewExporter returns an exporter that runs until it is closed.
func NewExporter(o Options) *Exporter {
	if o.Client == nil {
		o.Client = &http.Client{Timeout: sendTimeout}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Endpoint = strings.TrimRight(o.Endpoint, "/")
	ctx, cancel := context.WithCancel(context.Background())
	x := &Exporter{
		o: o, resource: resource{encode(o.Resource)},
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), cancel: cancel,
	}
	go x.run(ctx)
	return x
}

// Dropped returns how many spans and log records were not sent.
func (x *Exporter) Dropped() (spans, logs uint64) {
	return x.droppedSpans.Load(), x.droppedLogs.Load()
}

// Close sends what is queued, until ctx ends at the latest. It is called once.
func (x *Exporter) Close(ctx context.Context) error {
	close(x.quit)
	select {
	case <-x.done:
	case <-ctx.Done():
	}
	x.cancel()
	<-x.done
	return x.flush(ctx)
}

func (x *Exporter) addSpan(s *Span, end time.Time) {
	s.mu.Lock()
	j := spanJSON{
		TraceID: s.Trace.String(), SpanID: s.ID.String(), Name: s.name, Kind: s.kind,
		Start: nanos(s.start), End: nanos(end), Attributes: encode(s.attributes),
	}
	if s.Parent != (SpanID{}) {
		j.ParentSpanID = s.Parent.String()
	}
	if s.failure != "" {
		j.Status = &status{Code: statusError, Message: s.failure}
	}
	s.mu.Unlock()

	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.spans) >= maxQueue {
		x.droppedSpans.Add(1)
		return
	}
	x.spans = append(x.spans, j)
	x.rouse(len(x.spans))
}

func (x *Exporter) addLog(r *slog.Record, s *Span, attributes []Attribute) {
	j := logJSON{
		Time: nanos(r.Time), Severity: severity(r.Level), SeverityText: r.Level.String(),
		Body: value{String: &r.Message}, Attributes: encode(attributes),
	}
	if s != nil {
		j.TraceID, j.SpanID = s.Trace.String(), s.ID.String()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.logs) >= maxQueue {
		x.droppedLogs.Add(1)
		return
	}
	x.logs = append(x.logs, j)
	x.rouse(len(x.logs))
}

// rouse has a full batch sent at once.
func (x *Exporter) rouse(queued int) {
	if queued < maxBatch {
		return
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *Exporter) run(ctx context.Context) {
	defer close(x.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-x.quit:
			return
		case <-tick.C:
		case <-x.wake:
		}
		err := x.flush(ctx)
		if failing := err != nil; x.failing.Swap(failing) != failing {
			if failing {
				x.o.Log.Warn("telemetry not sent", "error", err)
			} else {
				x.o.Log.Info("telemetry is sent again")
			}
		}
	}
}

// flush sends all that is queued, batch by batch.
func (x *Exporter) flush(ctx context.Context) error {
	var errs []error
	for {
		x.mu.Lock()
		spans, logs := x.spans[:min(maxBatch, len(x.spans))], x.logs[:min(maxBatch, len(x.logs))]
		x.spans, x.logs = x.spans[len(spans):], x.logs[len(logs):]
		x.mu.Unlock()
		if len(spans)+len(logs) == 0 {
			return errors.Join(errs...)
		}
		if len(spans) > 0 {
			if err := x.send(ctx, "/v1/traces", tracesJSON{[]resourceSpans{{x.resource, []scopeSpans{{scope{Name: scopeName}, spans}}}}}); err != nil {
				x.droppedSpans.Add(uint64(len(spans)))
				errs = append(errs, err)
			}
		}
		if len(logs) > 0 {
			if err := x.send(ctx, "/v1/logs", logsJSON{[]resourceLogs{{x.resource, []scopeLogs{{scope{Name: scopeName}, logs}}}}}); err != nil {
				x.droppedLogs.Add(uint64(len(logs)))
				errs = append(errs, err)
			}
		}
	}
}

// send posts one batch, and repeats what may be repeated (OTLP 1.3, "Failures").
func (x *Exporter) send(ctx context.Context, path string, batch any) error {
	body, err := json.Marshal(batch)
	if err != nil {
		return err
	}
	pause := firstPause
	for try := 1; ; try++ {
		again, err := x.post(ctx, path, body)
		if err == nil || !again || try == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
			pause *= 2
		}
	}
}

func (x *Exporter) post(ctx context.Context, path string, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, x.o.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	for name, v := range x.o.Headers {
		req.Header.Set(name, v)
	}
	res, err := x.o.Client.Do(req)
	if err != nil {
		return true, err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)); err != nil {
		return true, err
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
	}
	return again, fmt.Errorf("%s%s answers %s", x.o.Endpoint, path, res.Status)
}
