package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWebhookAfterKill kills the server while a receiver is down. What an
// encryptor was answered before that is told all the same.
func TestWebhookAfterKill(t *testing.T) {
	var mu sync.Mutex
	var down bool
	tried, got := 0, []string{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		tried++
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		var e struct {
			Data struct {
				Content string `json:"content_id"`
				Track   string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		got = append(got, e.Data.Content+" "+e.Data.Track)
	}))
	defer receiver.Close()
	// until waits for what the receiver sees.
	until := func(what string, good func() bool) {
		t.Helper()
		for late := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			ok := good()
			mu.Unlock()
			if ok {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("%s: %d tries, taken %q", what, tried, got)
			}
		}
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "spekeasy.yaml")
	err := os.WriteFile(file, fmt.Appendf(nil, `
listen: 127.0.0.1:0
data: %s
tenants:
  - id: acme
    credentials:
      - name: encoder
        basic: {user: encoder, password: secret}
    webhooks:
      - {name: cms, url: %s, secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3}
`, filepath.Join(dir, "data"), receiver.URL), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	serve := func() (url string, kill func()) {
		c := exec.CommandContext(t.Context(), "spekeasy", "serve", "--config", file)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill = sync.OnceFunc(func() {
			_ = c.Process.Kill()
			_ = c.Wait() // says that it was killed
		})
		t.Cleanup(kill)
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(strings.TrimPrefix(line, "ready ")), kill
	}
	ask := func(url, content string) {
		t.Helper()
		spekeasy(t, "request", "--url", url, "--basic", "encoder:secret", "--content", content, "--speke", "2.0")
	}

	url, kill := serve()
	// A webhook hears of what comes once it has begun.
	for n := range 50 {
		ask(url, fmt.Sprint("first-", n))
		time.Sleep(100 * time.Millisecond)
		mu.Lock()
		begun := len(got) > 0
		mu.Unlock()
		if begun {
			break
		}
	}
	mu.Lock()
	down, tried = true, 0
	mu.Unlock()
	ask(url, "last")
	until("while it is down", func() bool { return tried > 0 })
	kill()
	mu.Lock()
	down = false
	mu.Unlock()
	// The killed server's lease lasts a minute; the operator need not wait.
	release(t, file)
	serve()
	until("after the restart", func() bool { return slices.Contains(got, "last VIDEO") && slices.Contains(got, "last AUDIO") })
}

// release has the webhook tried at once, by whichever server.
func release(t *testing.T, file string) {
	t.Helper()
	out := spekeasy(t, "webhooks", "replay", "--config", file, "--tenant", "acme", "--webhook", "cms", "--now")
	if !strings.Contains(out, "tried now") {
		t.Error(out)
	}
}
