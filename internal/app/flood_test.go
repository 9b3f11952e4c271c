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

// p99 is how long the quiet tenant waits while so many connections of the
// noisy one send requests.
func (f *flooded) p99(t *testing.T, connections int) (p99 time.Duration, refused int64) {
	t.Helper()
	stop := make(chan struct{})
	var turned atomic.Int64
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
				if status == http.StatusTooManyRequests {
					turned.Add(1)
					time.Sleep(100 * time.Millisecond) // a tenth of what Retry-After says
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	var all []time.Duration
	for range 100 {
		start := time.Now()
		status, err := f.ask("quiet")
		all = append(all, time.Since(start))
		if err != nil || status != http.StatusOK {
			t.Errorf("the quiet tenant: %d, %v", status, err)
		}
		time.Sleep(time.Millisecond)
	}
	close(stop)
	flood.Wait()
	slices.Sort(all)
	return all[98], turned.Load()
}

// TestFlood: one tenant's flood of new keys leaves another's p99 where it was,
// if the one has limits, and does not if it has none. The machine has others
// to serve, which can only make times longer, so that the shortest of each
// kind are compared.
func TestFlood(t *testing.T) {
	const connections = 64
	bare := newFlooded(t, tenant.Limits{})
	held := newFlooded(t, tenant.Limits{Settings: limit.Settings{Rate: 50, Concurrency: 2}})
	alone, beside, unlimited := time.Hour, time.Hour, time.Hour
	var refused int64
	for round := 0; round < 3 || round < 8 && beside > 2*alone; round++ {
		p99, _ := held.p99(t, 0)
		alone = min(alone, p99)
		p99, n := held.p99(t, connections)
		beside, refused = min(beside, p99), refused+n
	}
	for range 2 {
		p99, _ := bare.p99(t, connections)
		unlimited = min(unlimited, p99)
	}
	t.Logf("p99 alone %s, beside a flood with limits %s (%d refused), beside one without %s", alone, beside, refused, unlimited)
	if beside > 2*alone+5*time.Millisecond {
		t.Errorf("p99 is %s alone and %s beside a flood with limits", alone, beside)
	}
	if unlimited < 3*beside {
		t.Errorf("p99 is %s beside a flood without limits: this test would show nothing", unlimited)
	}
	if refused < 100 {
		t.Errorf("only %d requests were one too many: that is no flood", refused)
	}
}
