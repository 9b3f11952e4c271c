package gateway

import (
	"context"
	"log/slog"
	"time"
)

// Alarm says that one upstream of a tenant began to fail, or serves again.
// Encryptors such as MediaPackage go on silently with an old key while it
// fails, so people must hear of it from us.
type Alarm struct {
	Tenant      string
	Upstream    string
	Origin      string // scheme and host
	Failing     bool   // false means that it serves again
	At          time.Time
	Since       time.Time // of the first key request that failed
	Failures    int       // key requests that failed since then
	LastSuccess time.Time // before that; zero for never
	Error       string    // the latest one, in a sentence
}

// calm is how long no key request must have failed until a success ends an
// alarm, so that an upstream with ups and downs is one alarm and not hundreds.
const calm = time.Minute

// alarm is whether an upstream fails.
type alarm struct {
	since       time.Time // zero when it does not
	latest      time.Time // failure
	failures    int
	lastSuccess time.Time // when it began
}

// alarming reports whether a fault says something about the upstream, not
// about the request or the one who sent it.
func (f *Fault) alarming() bool {
	switch f.Kind {
	case Gone, Unsupported, Refused, Conflict:
		return false
	}
	return f.passOn == ""
}

// failed counts a key request that the upstream did not serve, and tells if it
// is the first one.
func (g *Gateway) failed(ctx context.Context, tenant string, s *source, f *Fault) {
	now, st := g.now(), &s.stats
	st.failed(f, now)
	if !f.alarming() {
		return
	}
	st.mu.Lock()
	first := st.alarm.since.IsZero()
	if first {
		st.alarm = alarm{since: now, lastSuccess: st.lastSuccess}
	}
	st.alarm.latest = now
	st.alarm.failures++
	a := s.tell(tenant, true, now)
	st.mu.Unlock()
	if first {
		g.tell(ctx, slog.LevelWarn, "an upstream fails", &a)
	}
}

// succeeded notes a key request that the upstream served, and tells if it
// failed before.
func (g *Gateway) succeeded(ctx context.Context, tenant string, s *source) {
	now, st := g.now(), &s.stats
	st.mu.Lock()
	st.lastSuccess = now
	over := !st.alarm.since.IsZero() && now.Sub(st.alarm.latest) >= calm
	var a Alarm
	if over {
		a = s.tell(tenant, false, now)
		st.alarm = alarm{}
	}
	st.mu.Unlock()
	if over {
		g.tell(ctx, slog.LevelInfo, "an upstream serves again", &a)
	}
}

// tell makes the alarm. Its statistics are locked.
func (s *source) tell(tenant string, failing bool, now time.Time) Alarm {
	st := &s.stats
	return Alarm{
		Tenant: tenant, Upstream: s.set.Name, Origin: s.set.Origin(), Failing: failing, At: now, Since: st.alarm.since,
		Failures: st.alarm.failures, LastSuccess: st.alarm.lastSuccess, Error: st.lastError,
	}
}

func (g *Gateway) tell(ctx context.Context, level slog.Level, text string, a *Alarm) {
	g.log.LogAttrs(ctx, level, text, slog.String("tenant", a.Tenant), slog.String("upstream", a.Upstream), slog.String("origin", a.Origin),
		slog.Time("since", a.Since), slog.Int("failures", a.Failures), slog.Time("last_success", a.LastSuccess), slog.String("error", a.Error))
	if g.alarm != nil {
		g.alarm(*a)
	}
}
