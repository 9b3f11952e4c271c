package app

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/internal/config"
	"spekeasy/internal/limit"
	"spekeasy/internal/tenant"
)

// flooded is a server with a tenant that asks now and then and one that
// floods it, over the whole pipeline: TCP, database, audit log.
type flooded struct {
	url     string
	body    []byte
	kid     []byte
	made    atomic.Int64 // key IDs
	clients *http.Client
}

func newFlooded(t *testing.T, noisy tenant.Limits) *flooded {
	t.Helper()
	c := config.Default()
	c.Listen, c.Data = "127.0.0.1:0", filepath.Join(t.TempDir(), "data")
	quiet, loud := withPassword("quiet", "1"), withPassword("noisy", "1")
	loud.Limits = noisy
	c.Tenants = []tenant.Settings{quiet, loud}
	body, err := os.ReadFile("../../examples/request-v2.xml")
	if err != nil {
		t.Fatal(err)
	}
	return &flooded{
		url: "http://" + runApp(t, c) + "/speke/v2.0/copyProtection", body: body, kid: []byte("5c9d7e3a-8b1f-3a2c-9d4e-6f7081920a3b"),
		clients: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
}

// ask asks for a new content key and returns the status.
func (f *flooded) ask(name string) (int, error) {
	kid := fmt.Sprintf("%08x-8b1f-3a2c-9d4e-6f7081920a3b", f.made.Add(1))
	r, err := http.NewRequest(http.MethodPost, f.url, bytes.NewReader(bytes.ReplaceAll(f.body, f.kid, []byte(kid))))
	if err != nil {
		return 0, err
	}
	r.SetBasicAuth(name, "1")
	r.Header.Set("X-Speke-Version", "2.0")
	res, err := f.clients.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// flood has connections of the noisy tenant send requests until the end is
// called, which returns how many were answered and how many were too many.
func (f *flooded) flood(t *testing.T, connections int) (end func() (answered, refused int64)) {
	t.Helper()
	stop := make(chan struct{})
	var answered, refused atomic.Int64
	var flood sync.WaitGroup
	for range connections {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, err := f.ask("noisy")
				if err != nil {
					t.Error(err)
					return
				}
				switch status {
				case http.StatusOK:
					answered.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
					time.Sleep(200 * time.Millisecond) // a fifth of what Retry-After says
				}
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	return func() (int64, int64) {
		close(stop)
		flood.Wait()
		return answered.Load(), refused.Load()
	}
}

// latencies are the p99 of the quiet tenants of several servers, which are
// asked by turns, so that whatever else the machine does hits them all.
func latencies(t *testing.T, servers ...*flooded) (p99 []time.Duration) {
	t.Helper()
	all := make([][]time.Duration, len(servers))
	for range 100 {
		for i, f := range servers {
			start := time.Now()
			status, err := f.ask("quiet")
			all[i] = append(all[i], time.Since(start))
			if err != nil || status != http.StatusOK {
				t.Errorf("the quiet tenant: %d, %v", status, err)
			}
		}
	}
	for _, l := range all {
		slices.Sort(l)
		p99 = append(p99, l[98])
	}
	return p99
}

// TestFlood: one tenant's flood of new keys leaves another's p99 where it was.
// Where it was is what another server of the same kind, which nobody floods,
// has at the same time. A machine that is busy elsewhere can disturb a round,
// so there may be several. What a flood does without limits is told by the
// test of package server, whose time is its own.
func TestFlood(t *testing.T) {
	const connections, rounds, rate = 48, 6, 20
	free := newFlooded(t, tenant.Limits{})
	held := newFlooded(t, tenant.Limits{Settings: limit.Settings{Rate: rate, Concurrency: 2}})
	latencies(t, free, held) // connections and caches
	for round := 1; ; round++ {
		start := time.Now()
		end := held.flood(t, connections)
		p99 := latencies(t, free, held)
		answered, refused := end()
		t.Logf("p99 %s, beside a flood %s; of the flood %d were answered, %d refused", p99[0], p99[1], answered, refused)
		if most := rate * (time.Since(start).Seconds() + 1); float64(answered) > most || refused < connections {
			t.Errorf("of the flood %d were answered, which may be %.0f, and %d refused", answered, most, refused)
		}
		if p99[1] <= 2*p99[0] {
			return
		}
		if round == rounds {
			t.Fatal("another tenant has to wait for the flood")
		}
	}
}
