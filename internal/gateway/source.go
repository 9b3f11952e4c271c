package gateway

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"spekeasy/contentkey"
	"spekeasy/encryptor"
	"spekeasy/internal/upstream"
	"spekeasy/speke"
)

// source is one upstream, ready to be asked.
type source struct {
	set       *upstream.Settings
	transport *http.Transport
	creds     *credentials
	red       *redactor
	urls      [2]urlTemplate // for SPEKE 1.0, and for 2.0 and 2.1
	own       *encryptor.Recipient
	ownText   string        // its certificate as it stands in documents
	iv        contentkey.IV // zero for none
	slots     chan struct{}
	breaker   breaker
	stats     stats
	now       func() time.Time
}

func newSource(s *upstream.Settings, tenant string, now func() time.Time) (*source, error) {
	transport, err := newTransport(s)
	if err != nil {
		return nil, err
	}
	src := &source{
		set: s, transport: transport, now: now, slots: make(chan struct{}, s.Concurrency),
		breaker: breaker{limit: s.Breaker.Failures, pause: time.Duration(s.Breaker.Pause)},
	}
	src.creds = newCredentials(s, transport, now)
	src.red = newRedactor(src.creds.secrets(s), src.creds.recent)
	name := s.Tenant
	if name == "" {
		name = tenant
	}
	for i, text := range []string{s.URL, s.URLV2} {
		if src.urls[i], err = newURLTemplate(text, s, name); err != nil {
			return nil, err
		}
	}
	if s.IV != "" {
		if src.iv, err = contentkey.ParseIV(s.IV); err != nil {
			return nil, fmt.Errorf("iv: %w", err)
		}
	}
	if s.CEK == upstream.CEKReEncrypt {
		if err := src.loadRecipient(); err != nil {
			return nil, fmt.Errorf("recipient: %w", err)
		}
	}
	return src, nil
}

func (s *source) loadRecipient() error {
	pair, err := s.set.Recipient.Load()
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*rsa.PrivateKey)
	if !ok {
		return errors.New("not an RSA key")
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return errors.New("not a certificate")
	}
	s.own = &encryptor.Recipient{Certificate: cert, Key: key}
	s.ownText = base64.StdEncoding.EncodeToString(cert.Raw)
	return nil
}

func (s *source) close() { s.transport.CloseIdleConnections() }

// ask sends one request and returns an answer that is, by its HTTP status and
// size, one. It retries where that is safe, asks twice at once where the
// operator wants it, and keeps to the upstream's limits.
func (s *source) ask(ctx context.Context, q *question) (*reply, *Fault) {
	if !s.breaker.enter(s.now()) {
		return nil, &Fault{Kind: Paused, Sentence: "it failed repeatedly and is not asked for a while"}
	}
	outcome := outcomeUnknown
	defer func() { s.breaker.leave(outcome, s.now()) }()
	start := s.now()
	r, f := s.hedged(ctx, q)
	switch {
	case f == nil:
		outcome = outcomeUp
		s.stats.answered(s.now().Sub(start))
	case f.down:
		outcome = outcomeDown
	case f.Kind != Gone && f.Kind != Busy:
		outcome = outcomeUp // it is there, and says no
	}
	return r, f
}

// hedged asks a second time when the first request takes long, and takes
// whichever answer comes first.
func (s *source) hedged(ctx context.Context, q *question) (*reply, *Fault) {
	if s.set.Hedge <= 0 {
		return s.retried(ctx, q)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		r *reply
		f *Fault
	}
	done := make(chan outcome, 2)
	run := func() {
		r, f := s.retried(ctx, q)
		done <- outcome{r, f}
	}
	go run()
	timer := time.NewTimer(time.Duration(s.set.Hedge))
	defer timer.Stop()
	for running := 1; ; {
		select {
		case <-timer.C:
			s.stats.hedged.Add(1)
			running++
			go run()
		case o := <-done:
			if running--; o.f == nil || running == 0 {
				return o.r, o.f
			}
		}
	}
}

const backoff = 20 * time.Millisecond

func (s *source) retried(ctx context.Context, q *question) (*reply, *Fault) {
	refused := ""
	for attempt := 0; ; attempt++ {
		r, token, f := s.limited(ctx, q, refused)
		if f == nil {
			return r, nil
		}
		if f.Status == http.StatusUnauthorized && token != "" && refused == "" {
			refused = token // it may have ended early: once more with another one
			s.stats.retried.Add(1)
			attempt--
			continue
		}
		if !f.again || attempt >= *s.set.Retries {
			return nil, f
		}
		s.stats.retried.Add(1)
		select {
		case <-time.After(backoff << attempt):
		case <-ctx.Done():
			return nil, f
		}
	}
}

// limited waits for one of the upstream's slots.
func (s *source) limited(ctx context.Context, q *question, refused string) (*reply, string, *Fault) {
	select {
	case s.slots <- struct{}{}:
	default:
		wait, cancel := context.WithTimeout(ctx, time.Duration(s.set.Timeout))
		defer cancel()
		select {
		case s.slots <- struct{}{}:
		case <-wait.Done():
			if ctx.Err() != nil {
				return nil, "", gone(ctx)
			}
			return nil, "", &Fault{Kind: Busy, Sentence: "too many requests to it are under way"}
		}
	}
	defer func() { <-s.slots }()
	return s.call(ctx, q, refused)
}

// gone is the fault of a request whose encryptor, or whose server, does not
// wait for it any longer.
func gone(ctx context.Context) *Fault {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Fault{Kind: Timeout, Sentence: "it did not answer in time", cause: ctx.Err()}
	}
	return &Fault{Kind: Gone, Sentence: "the encryptor did not wait", cause: ctx.Err()}
}

// urlOf returns the address for a version.
func (s *source) urlOf(p speke.Profile) *urlTemplate {
	if p == speke.V10 {
		return &s.urls[0]
	}
	return &s.urls[1]
}
