package binding_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/binding"
)

// receiver takes webhooks. It checks their signatures, and answers as answer
// says; events that it took are in got, by the last byte of their key ID.
type receiver struct {
	t      *testing.T
	secret []byte
	srv    *httptest.Server

	mu     sync.Mutex
	got    []int
	tries  int
	answer func(kid, try int) int // status
}

func newReceiver(t *testing.T, answer func(kid, try int) int) *receiver {
	r := &receiver{t: t, secret: []byte("0123456789abcdef01234567"), answer: answer}
	r.srv = httptest.NewServer(http.HandlerFunc(r.take))
	t.Cleanup(r.srv.Close)
	return r
}

func (r *receiver) take(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Error(err)
	}
	id, at := req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, r.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); !slices.Contains(strings.Fields(req.Header.Get("webhook-signature")), want) {
		r.t.Errorf("signature %q, want %q", req.Header.Get("webhook-signature"), want)
	}
	var e binding.Event
	if err := json.Unmarshal(body, &e); err != nil || e.ID != id || req.Header.Get("Content-Type") != "application/cloudevents+json" || at == "" {
		r.t.Errorf("%v: %s with ID %s, %s", err, req.Header.Get("Content-Type"), id, body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	n := int(e.Data.KID[15])
	status := r.answer(n, r.tries)
	if status/100 == 2 {
		r.got = append(r.got, n)
	}
	w.WriteHeader(status)
}

func (r *receiver) taken() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// wants waits until these events were taken, and no others.
func (r *receiver) wants(want ...int) {
	r.t.Helper()
	late := time.Now().Add(10 * time.Second)
	for !slices.Equal(r.taken(), want) {
		if time.Now().After(late) {
			r.t.Fatalf("taken are %v, want %v", r.taken(), want)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// deliver starts a process that delivers, and returns what stops it.
func (f *fixture) deliver(r *receiver, o binding.WebhookOptions) (stop func()) {
	o.Poll = 5 * time.Millisecond
	if o.Backoff == nil {
		o.Backoff = func(int) time.Duration { return 10 * time.Millisecond }
	}
	hooks := binding.NewWebhooks(f.feed, func() []binding.Webhook {
		return []binding.Webhook{{Tenant: "acme", Name: "cms", URL: r.srv.URL + "/hook?token=x", Secrets: [][]byte{[]byte("a new one"), r.secret}}}
	}, o)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { hooks.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	f.t.Cleanup(stop)
	return stop
}

// begun waits until a webhook has begun to follow the feed.
func (f *fixture) begun() {
	f.t.Helper()
	late := time.Now().Add(10 * time.Second)
	for f.state() == nil {
		if time.Now().After(late) {
			f.t.Fatal("the webhook does not begin")
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fixture) state() *binding.Delivery {
	f.t.Helper()
	d, version, err := binding.LoadDelivery(f.t.Context(), f.feed, "acme", "cms")
	if err != nil {
		f.t.Fatal(err)
	}
	if version == 0 {
		return nil
	}
	return d
}

func (f *fixture) askFor(kids ...int) {
	f.t.Helper()
	for _, n := range kids {
		f.ask(n, use{"movie", "VIDEO", n, 0, contentkey.Period{}})
	}
}

func takeAll(int, int) int { return 204 }

// TestWebhook: a new webhook hears of what comes from now on, in its order,
// once, and goes on where it was after a restart.
func TestWebhook(t *testing.T) {
	f := start(t)
	r := newReceiver(t, takeAll)
	f.askFor(1, 2)
	stop := f.deliver(r, binding.WebhookOptions{})
	f.begun()
	f.askFor(3, 4, 3)
	r.wants(3, 4)
	stop()
	f.askFor(5)
	f.deliver(r, binding.WebhookOptions{})
	f.askFor(6)
	r.wants(3, 4, 5, 6)
	stop()
}

// TestWebhookRetries keeps the order while the receiver is down.
func TestWebhookRetries(t *testing.T) {
	f := start(t)
	r := newReceiver(t, func(_, try int) int {
		if try <= 12 { // more than an event is tried that is refused
			return []int{500, 503, 429, 302}[try%4]
		}
		return 200
	})
	f.deliver(r, binding.WebhookOptions{})
	f.begun()
	f.askFor(1, 2, 3)
	r.wants(1, 2, 3)
	if d := f.state(); len(d.Dead) != 0 {
		t.Errorf("%+v", d)
	}
}

// TestDeadLetters: an event that the receiver refuses does not stop those
// after it, and is delivered when the operator says so.
func TestDeadLetters(t *testing.T) {
	f := start(t)
	var fixed bool
	r := newReceiver(t, nil)
	r.answer = func(kid, _ int) int {
		if kid == 2 && !fixed {
			return 422
		}
		return 200
	}
	f.deliver(r, binding.WebhookOptions{})
	f.begun()
	f.askFor(1, 2, 3)
	r.wants(1, 3)
	if d := f.wait(func(d *binding.Delivery) bool { return len(d.Dead) == 1 && d.Delivered == 2 }); d.Dead[0].KID != kid(2) || d.Dead[0].Error != "status 422" {
		t.Fatalf("%+v", d)
	}
	r.mu.Lock()
	fixed = true
	r.mu.Unlock()
	f.replay(binding.Replay{Dead: true})
	f.askFor(4)
	f.wait(func(d *binding.Delivery) bool { return len(d.Dead) == 0 && len(d.Again) == 0 && d.Delivered >= 4 })
	if got := r.taken(); !slices.Contains(got, 2) || !slices.Contains(got, 4) {
		t.Errorf("taken are %v", got)
	}
	f.replay(binding.Replay{All: true})
	f.wait(func(d *binding.Delivery) bool { return d.Delivered >= 8 })
	if got := r.taken(); !slices.Equal(got[len(got)-4:], []int{1, 2, 3, 4}) {
		t.Errorf("from the beginning: %v", got)
	}
}

// TestGiveUp: even an outage stops one event only for so long.
func TestGiveUp(t *testing.T) {
	f := start(t)
	r := newReceiver(t, func(kid, _ int) int {
		if kid == 1 {
			return 500
		}
		return 200
	})
	f.deliver(r, binding.WebhookOptions{GiveUp: 50 * time.Millisecond})
	f.begun()
	f.askFor(1, 2)
	r.wants(2)
	if d := f.wait(func(d *binding.Delivery) bool { return len(d.Dead) == 1 }); d.Dead[0].KID != kid(1) {
		t.Errorf("%+v", d)
	}
}

// TestOneProcessDelivers runs three on one database, and takes the one away
// that delivers.
func TestOneProcessDelivers(t *testing.T) {
	f := start(t)
	r := newReceiver(t, takeAll)
	stops := make(map[int]func())
	for i := range 3 {
		stops[i] = f.deliver(r, binding.WebhookOptions{})
	}
	f.begun()
	var want []int
	for n := range 10 {
		f.askFor(n + 1)
		want = append(want, n+1)
	}
	r.wants(want...)
	for i := range 2 {
		stops[i]() // whichever had it releases it
	}
	f.askFor(11)
	r.wants(append(want, 11)...)
}

// wait waits for a state of the webhook.
func (f *fixture) wait(good func(*binding.Delivery) bool) *binding.Delivery {
	f.t.Helper()
	late := time.Now().Add(10 * time.Second)
	for {
		d := f.state()
		if d != nil && good(d) {
			return d
		}
		if time.Now().After(late) {
			f.t.Fatalf("the webhook is at %+v", d)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (f *fixture) replay(r binding.Replay) {
	f.t.Helper()
	for range 100 {
		_, err := r.Replay(f.t.Context(), f.feed, "acme", "cms")
		if err == nil {
			return
		}
		f.t.Log(err) // the process that delivers was faster
		time.Sleep(5 * time.Millisecond)
	}
	f.t.Fatal("no replay")
}

// TestSign holds the signing string and the form of Standard Webhooks; the value was
// computed with another program:
//
//	printf '%s' 'msg_1.1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret -binary | base64
func TestSign(t *testing.T) {
	h := http.Header{}
	binding.Sign(h, [][]byte{[]byte("secret"), []byte("former")}, "msg_1", time.Unix(1700000000, 0), []byte(`{"a":1}`))
	got := strings.Fields(h.Get("webhook-signature"))
	if len(got) != 2 || got[0] != "v1,Q5nZ7DiOGwijBBqvBVAK6c0zDr2JLkXI7TaV4f+Q2vY=" || h.Get("webhook-timestamp") != "1700000000" || h.Get("webhook-id") != "msg_1" {
		t.Errorf("%v", h)
	}
}
