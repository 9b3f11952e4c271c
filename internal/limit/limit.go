// Package limit bounds what one tenant, and one credential of it, may take of
// a server that all tenants share.
package limit

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Settings are the bounds of a tenant or a credential. A zero member is no
// bound.
type Settings struct {
	Rate        float64 `yaml:"rate,omitempty" json:"rate,omitzero"`               // requests per second
	Burst       int     `yaml:"burst,omitempty" json:"burst,omitzero"`             // requests at once; by default those of one second
	Concurrency int     `yaml:"concurrency,omitempty" json:"concurrency,omitzero"` // requests under way
}

// Check judges the settings.
func (s *Settings) Check() error {
	switch {
	case s.Rate < 0 || math.IsInf(s.Rate, 0) || math.IsNaN(s.Rate) || s.Burst < 0 || s.Concurrency < 0:
		return errors.New("must not be negative")
	case s.Burst > 0 && s.Rate == 0:
		return errors.New("burst: needs a rate")
	}
	return nil
}

// Error reports a request beyond a bound. Text is for whoever sent it.
type Error struct {
	Text  string
	After time.Duration // when to try again
}

func (e *Error) Error() string { return e.Text }

// Texts of an [Error].
const (
	TextRequests = "too many requests"
	TextNewKeys  = "too many new content keys"
)

// busy is when to try again where that depends on requests under way.
const busy = time.Second

// Gate is where the requests of one tenant pass. A nil Gate lets all pass. It
// is safe for concurrent use.
type Gate struct {
	now        func() time.Time
	tenant     *bounds
	credential Settings

	mu          sync.Mutex
	credentials map[string]*bounds
}

// NewGate returns a gate with bounds for the tenant as a whole and for each
// credential, or nil if there are none.
func NewGate(tenant, credential Settings, now func() time.Time) *Gate {
	if tenant == (Settings{}) && credential == (Settings{}) {
		return nil
	}
	return &Gate{now: now, tenant: newBounds(tenant), credential: credential, credentials: make(map[string]*bounds)}
}

// Pass is a request under way.
type Pass struct{ tenant, credential *bounds }

// Leave ends the request.
func (p Pass) Leave() {
	p.tenant.leave()
	p.credential.leave()
}

// Enter lets a request of a credential pass, until it leaves; the error is an
// [*Error]. What a credential may not do costs its tenant nothing.
func (g *Gate) Enter(credential string) (Pass, error) {
	if g == nil {
		return Pass{}, nil
	}
	now := g.now()
	p := Pass{tenant: g.tenant, credential: g.of(credential)}
	if err := p.credential.enter(now); err != nil {
		return Pass{}, err
	}
	if err := p.tenant.enter(now); err != nil {
		p.credential.leave()
		return Pass{}, err
	}
	return p, nil
}

// of returns the bounds of a credential; nil for none.
func (g *Gate) of(credential string) *bounds {
	if g.credential == (Settings{}) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.credentials[credential]
	if b == nil {
		b = newBounds(g.credential)
		g.credentials[credential] = b
	}
	return b
}

// bounds holds [Settings]; nil holds nothing.
type bounds struct {
	rate        *rate.Limiter // nil for no bound
	concurrency int32         // 0 for no bound
	underWay    atomic.Int32
}

func newBounds(s Settings) *bounds {
	if s == (Settings{}) {
		return nil
	}
	b := &bounds{concurrency: int32(min(s.Concurrency, math.MaxInt32))}
	if s.Rate > 0 {
		burst := s.Burst
		if burst == 0 {
			burst = max(1, int(math.Ceil(s.Rate)))
		}
		b.rate = rate.NewLimiter(rate.Limit(s.Rate), burst)
	}
	return b
}

func (b *bounds) enter(now time.Time) error {
	if b == nil {
		return nil
	}
	if n := b.underWay.Add(1); b.concurrency > 0 && n > b.concurrency {
		b.underWay.Add(-1)
		return &Error{Text: TextRequests, After: busy}
	}
	if wait := take(b.rate, now, 1); wait > 0 {
		b.underWay.Add(-1)
		return &Error{Text: TextRequests, After: wait}
	}
	return nil
}

func (b *bounds) leave() {
	if b != nil {
		b.underWay.Add(-1)
	}
}

// take takes n from a bucket, or nothing and returns when n will be there.
func take(l *rate.Limiter, now time.Time, n int) time.Duration {
	if l == nil {
		return 0
	}
	r := l.ReserveN(now, n)
	if !r.OK() { // more than the bucket ever holds
		return day
	}
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

const day = 24 * time.Hour

// NewKeys returns a function that counts new content keys and refuses, with an
// [*Error], those beyond a number per day. The allowance grows evenly over the
// day, and at most a day's worth is saved up.
func NewKeys(perDay int, now func() time.Time) func(n int) error {
	l := rate.NewLimiter(rate.Limit(float64(perDay)/day.Seconds()), perDay)
	return func(n int) error {
		if wait := take(l, now(), n); wait > 0 {
			return &Error{Text: TextNewKeys, After: wait}
		}
		return nil
	}
}
