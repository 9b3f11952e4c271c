package limit_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"spekeasy/internal/limit"
)

// refused wants an error with these words and this time to wait.
func refused(t *testing.T, err error, text string, after time.Duration) {
	t.Helper()
	var e *limit.Error
	if !errors.As(err, &e) || e.Text != text || e.After.Round(time.Millisecond) != after {
		t.Errorf("got %v (%+v), want %s after %s", err, e, text, after)
	}
}

func enter(t *testing.T, g *limit.Gate, credential string) limit.Pass {
	t.Helper()
	p, err := g.Enter(credential)
	if err != nil {
		t.Errorf("%s: %v", credential, err)
	}
	return p
}

func TestNoBounds(t *testing.T) {
	g := limit.NewGate(limit.Settings{}, limit.Settings{}, time.Now)
	if g != nil {
		t.Error("a gate without bounds")
	}
	for range 1000 {
		enter(t, g, "c") // and nobody leaves
	}
	enter(t, g, "c").Leave()
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := limit.NewGate(limit.Settings{Rate: 10, Burst: 3}, limit.Settings{Rate: 1.5}, time.Now)
		enter(t, g, "a").Leave()
		enter(t, g, "a").Leave() // 1.5 a second: two at once
		_, err := g.Enter("a")
		refused(t, err, limit.TextRequests, 667*time.Millisecond)
		enter(t, g, "b").Leave()
		_, err = g.Enter("b")
		refused(t, err, limit.TextRequests, 100*time.Millisecond) // the tenant's
		time.Sleep(100 * time.Millisecond)
		enter(t, g, "c").Leave()
		time.Sleep(time.Second)
		enter(t, g, "a").Leave()
	})
}

func TestConcurrency(t *testing.T) {
	g := limit.NewGate(limit.Settings{Concurrency: 3}, limit.Settings{Concurrency: 2}, time.Now)
	one, two := enter(t, g, "a"), enter(t, g, "a")
	for range 5 { // refusals take no place
		_, err := g.Enter("a")
		refused(t, err, limit.TextRequests, time.Second)
	}
	three := enter(t, g, "b")
	for range 5 {
		_, err := g.Enter("b")
		refused(t, err, limit.TextRequests, time.Second)
	}
	one.Leave()
	four := enter(t, g, "b")
	for _, p := range []limit.Pass{two, three, four} {
		p.Leave()
	}
	for range 2 {
		enter(t, g, "a")
	}
	enter(t, g, "b")
}

func TestNewKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := limit.NewKeys(24, time.Now)
		for range 4 {
			if err := count(5); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, count(5), limit.TextNewKeys, time.Hour)
		if err := count(4); err != nil { // what is refused takes nothing
			t.Error(err)
		}
		refused(t, count(1), limit.TextNewKeys, time.Hour)
		time.Sleep(time.Hour)
		if err := count(1); err != nil {
			t.Error(err)
		}
		time.Sleep(30 * 24 * time.Hour)
		refused(t, count(25), limit.TextNewKeys, 24*time.Hour)
		if err := count(24); err != nil {
			t.Error(err)
		}
	})
}

func TestSettingsCheck(t *testing.T) {
	for name, s := range map[string]limit.Settings{
		"rate": {Rate: -1}, "burst": {Rate: 1, Burst: -1}, "concurrency": {Concurrency: -1}, "burst alone": {Burst: 1},
	} {
		if s.Check() == nil {
			t.Errorf("%s: nothing found", name)
		}
	}
	if err := (&limit.Settings{Rate: 0.5, Burst: 2, Concurrency: 1}).Check(); err != nil {
		t.Error(err)
	}
}

func BenchmarkEnter(b *testing.B) {
	g := limit.NewGate(limit.Settings{Rate: 1e9, Concurrency: 100}, limit.Settings{Rate: 1e9, Concurrency: 100}, time.Now)
	b.ReportAllocs()
	for b.Loop() {
		p, err := g.Enter("credential")
		if err != nil {
			b.Fatal(err)
		}
		p.Leave()
	}
}
