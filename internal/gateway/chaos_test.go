package gateway_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/cpix"
	"spekeasy/encryptor"
	"spekeasy/internal/gateway"
	"spekeasy/internal/upstream"
	"spekeasy/internal/vendorsim"
	"spekeasy/speke"
)

// TestChaos: 10,000 requests over a vendor of which every fifth answer goes
// wrong, in every way there is. Each answer to the encryptor is either right
// or an honest error, each answered key ID is recorded, and in the end no
// goroutine, connection or memory is left.
func TestChaos(t *testing.T) {
	const requests, workers, share = 10_000, 32, 0.20
	kinds := []string{
		vendorsim.FaultSlow, vendorsim.FaultHang, vendorsim.FaultReset, vendorsim.FaultHalf, vendorsim.FaultCut, vendorsim.FaultEmpty,
		vendorsim.FaultHTML, vendorsim.FaultJSON, vendorsim.FaultDenied, vendorsim.FaultExpire, vendorsim.FaultWrongKID,
		vendorsim.FaultWrongContent, vendorsim.FaultNoKey, vendorsim.FaultContract, "500", "502", "503", "429",
	}
	var faults []vendorsim.Fault
	for _, k := range kinds {
		p := share / float64(len(kinds))
		if k == vendorsim.FaultHang || k == vendorsim.FaultSlow {
			p /= 8 // they take time
		}
		faults = append(faults, vendorsim.Fault{Kind: k, Probability: p})
	}
	before := runtime.NumGoroutine()
	b := newBench(t)
	var open atomic.Int64
	var struck atomic.Int64
	server, err := vendorsim.New(vendorsim.Insys, vendorsim.Options{
		Faults: faults, Delay: 150 * time.Millisecond, TokenLifetime: time.Hour,
		Observe: func(x vendorsim.Exchange) {
			if x.Fault != "" {
				struck.Add(1)
			}
		},
		Chance: lockedChance(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(server)
	srv.Config.ConnState = countConnections(&open)
	srv.Config.ErrorLog = discardLog()
	srv.Start()
	made, err := server.Upstream(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.ParseWord(made.Word())
	if err != nil {
		t.Fatal(err)
	}
	up.Timeout, up.Concurrency, up.Breaker.Failures = upstream.Duration(time.Second), workers, 1<<30
	retries := 2
	up.Retries = &retries
	tn := b.tenant(up)
	keys, err := vendorsim.Keys(vendorsim.DefaultSeed)
	if err != nil {
		t.Fatal(err)
	}

	var answered, failed, next atomic.Int64
	var mu sync.Mutex
	kids := make(map[contentkey.KID]string) // answered, with their content
	byKind := make(map[gateway.Kind]int)
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	begin := heap.HeapAlloc
	templates := []*encryptor.Request{
		build(t, encryptor.Options{ContentID: "chaos-0000000", Service: encryptor.MediaPackageV2, Version: encryptor.V20, Systems: []string{"widevine", "playready"}, Scheme: "cenc"}),
		build(t, encryptor.Options{ContentID: "chaos-0000000", Service: encryptor.MediaPackageV2, Version: encryptor.V20, Systems: []string{"widevine", "fairplay"}, Scheme: "cbcs"}),
	}
	one := func(n int64) {
		template := templates[n%2]
		id := fmt.Sprintf("chaos-%07d", n%4000) // many are asked for again
		body := strings.ReplaceAll(string(template.Body), template.ContentID, id)
		for i, k := range template.Keys {
			body = strings.ReplaceAll(body, k.KID.String(), chaosKID(n%4000, i).String())
		}
		req, err := speke.ParseRequest(template.Header, []byte(body), &tn.Policy)
		if err != nil {
			t.Error(err)
			return
		}
		a, err := b.gate.Provide(t.Context(), tn, req)
		if err != nil {
			failed.Add(1)
			var refusal *speke.Error
			if !errors.As(err, &refusal) || refusal.Status != http.StatusBadGateway && refusal.Status != http.StatusGatewayTimeout {
				t.Errorf("no honest error: %v", err)
				return
			}
			var fault *gateway.Fault
			if !errors.As(err, &fault) {
				t.Errorf("no fault: %v", err)
				return
			}
			mu.Lock()
			byKind[fault.Kind]++
			mu.Unlock()
			return
		}
		answered.Add(1)
		doc, err := cpix.Parse(a.Body)
		if err != nil || doc.ContentID != id || len(doc.ContentKeys) != 2 || len(doc.UsageRules) != 2 || len(doc.Periods) != 1 {
			t.Errorf("a wrong answer: %v", err)
			return
		}
		for i := range doc.ContentKeys {
			kid := chaosKID(n%4000, i)
			want, _, err := keys.Make("vendorsim", kid)
			got, plainErr := doc.ContentKeys[i].Secret.Plain()
			if err != nil || plainErr != nil || got != want || doc.ContentKeys[i].KID != kid.String() || a.KIDs[i] != kid {
				t.Errorf("a wrong key for key ID %s", kid)
			}
			mu.Lock()
			kids[kid] = id
			mu.Unlock()
		}
	}
	start := time.Now()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for n := next.Add(1); n <= requests; n = next.Add(1) {
				one(n)
			}
		})
	}
	all.Wait()
	took := time.Since(start)
	t.Logf("%d answered, %d honest errors, %d faults struck, in %s: %v", answered.Load(), failed.Load(), struck.Load(), took, byKind)
	if answered.Load()+failed.Load() != requests || struck.Load() < requests/10 || answered.Load() < requests*6/10 {
		t.Errorf("%d answered, %d failed, %d faults", answered.Load(), failed.Load(), struck.Load())
	}

	// Each answered key ID is in the database, whatever is in memory.
	recorded := make(map[contentkey.KID]bool)
	list := make([]contentkey.KID, 0, len(kids))
	for kid := range kids {
		list = append(list, kid)
	}
	for len(list) > 0 {
		n := min(len(list), 200)
		records, err := b.store.Keys(t.Context(), "acme", list[:n])
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			recorded[r.KID] = r.Source == "upstream:insys"
		}
		list = list[n:]
	}
	missing := 0
	for kid := range kids {
		if !recorded[kid] {
			missing++
		}
	}
	for n := range int64(50) { // and what it was answered for
		id := fmt.Sprintf("chaos-%07d", n*71)
		bound := b.bound(id)
		for kid, content := range kids {
			if _, ok := bound[kid]; content == id && !ok {
				missing++
			}
		}
	}
	if missing > 0 || len(kids) < 1000 {
		t.Errorf("%d of %d answered key IDs are not recorded", missing, len(kids))
	}

	// The keystore's own memory is bounded by its settings; beside it there is
	// what the gateway remembers.
	runtime.GC()
	runtime.ReadMemStats(&heap)
	if grown := int64(heap.HeapAlloc) - int64(begin); grown > 48<<20 {
		t.Errorf("the heap grew by %d MB", grown>>20)
	}
	if err := b.gate.Close(t.Context()); err != nil {
		t.Error(err)
	}
	srv.CloseClientConnections()
	srv.Close()
	eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+8 }) // the database's own
}

func chaosKID(n int64, key int) contentkey.KID {
	return contentkey.KID{byte(n), byte(n >> 8), byte(n >> 16), byte(key), 4: 0xc4, 6: 0x40, 8: 0x80, 15: 1}
}

func lockedChance(seed uint64) func() float64 {
	var mu sync.Mutex
	r := mathrand.New(mathrand.NewPCG(seed, seed))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64()
	}
}

func countConnections(open *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("not so: %s (%d goroutines)", what, runtime.NumGoroutine())
			return
		}
	}
}
