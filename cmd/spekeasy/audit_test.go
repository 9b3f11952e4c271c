package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/audit"
)

// process is a server in a process of its own.
type process struct {
	cmd    *exec.Cmd
	url    string
	stderr lockedBuffer
}

// startProcess runs a command line of the shell and waits for "ready".
func startProcess(t *testing.T, script string) *process {
	t.Helper()
	s := &process{cmd: exec.CommandContext(t.Context(), "sh", "-c", script)}
	s.cmd.Stderr = &s.stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("%q, %v\n%s", line, err, s.stderr.String())
	}
	s.url = url
	return s
}

// kill ends it at once.
func (s *process) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// ask sends a key request over HTTP.
func ask(client *http.Client, url, requestID string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequest(http.MethodPost, url+"/speke/v2.0/copyProtection", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.SetBasicAuth("dev", "dev")
	r.Header.Set("X-Speke-Version", "2.0")
	r.Header.Set("X-Request-Id", requestID)
	w, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer w.Body.Close()
	answer, err = io.ReadAll(w.Body)
	return w.StatusCode, answer, err
}

var (
	kidPattern   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	plainPattern = regexp.MustCompile(`PlainValue>([^<]+)<`)
)

// TestAnswersOutliveTheServer kills a server under load again and again. Every
// answer that any encryptor got is on record, and no record has a key.
func TestAnswersOutliveTheServer(t *testing.T) {
	body, err := os.ReadFile("../../examples/request-v2.xml")
	if err != nil {
		t.Fatal(err)
	}
	known := string(kidPattern.Find(body))
	data := filepath.Join(t.TempDir(), "d")
	var mu sync.Mutex
	answered := make(map[string]string) // key ID by request ID
	secrets := make(map[string]bool)
	for round := range 5 {
		s := startProcess(t, "exec spekeasy serve --dev --listen 127.0.0.1:0 --data "+data)
		enough := make(chan struct{}) // answers of this round
		answers := 0
		go func() {
			<-enough
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			s.cmd.Process.Kill()
		}()
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for i := 0; ; i++ {
					id := fmt.Sprintf("r%d-%d-%d", round, worker, i)
					kid := fmt.Sprintf("%08x-0000-4000-8000-%012x", worker, i%50)
					status, answer, err := ask(client, s.url, id, bytes.ReplaceAll(body, []byte(known), []byte(kid)))
					if err != nil {
						return // killed
					}
					if status != http.StatusOK {
						t.Errorf("status %d: %s", status, answer)
						return
					}
					mu.Lock()
					answered[id] = kid
					if answers++; answers == 150 {
						close(enough)
					}
					for _, m := range plainPattern.FindAllSubmatch(answer, -1) {
						secrets[string(m[1])] = true
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		s.kill()
	}

	dir := filepath.Join(data, "audit")
	recorded := make(map[string]bool)
	err = (&audit.Query{}).Run(dir, func(_ []byte, r *audit.Record) error {
		if r.Result == audit.Delivered && r.Tenant == "dev" && r.Credential == "dev" && len(r.KIDs) > 0 {
			recorded[r.RequestID+r.KIDs[0].String()] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, kid := range answered {
		if !recorded[id+kid] {
			t.Errorf("request %s for %s was answered and is not on record", id, kid)
		}
	}
	report, err := audit.Verify(dir)
	if err != nil || !report.Sound() {
		t.Fatal(report, err)
	}
	t.Logf("%d answers, %d keys, %d records", len(answered), len(secrets), len(recorded))
	if len(answered) < 100 || len(secrets) < 20 {
		t.Error("too few to prove anything")
	}
	noKeys(t, dir, secrets)
}

// noKeys looks for content keys, given in base64, in all files of the audit
// log.
func noKeys(t *testing.T, dir string, secrets map[string]bool) {
	t.Helper()
	var keys [][]byte
	for secret := range secrets {
		key, err := base64.StdEncoding.DecodeString(secret)
		if err != nil || len(key) != 16 {
			t.Fatal(secret, err)
		}
		if keys = append(keys, key); len(keys) == 20 {
			break // each is looked for in many forms
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 2 {
		t.Fatal(entries, err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if found := leaks(text, keys); found != "" {
			t.Errorf("%s has %s", e.Name(), found)
		}
	}
}

// TestNoRoomForRecords is a disk that gets full, as the limit on the size of a
// file makes it: no record, no keys. Afterwards all is as it was.
func TestNoRoomForRecords(t *testing.T) {
	body, err := os.ReadFile("../../examples/request-v2.xml")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "d")
	serve := "exec spekeasy serve --dev --listen 127.0.0.1:0 --data " + data
	s := startProcess(t, "ulimit -f 512; "+serve)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	answers, refusals := 0, 0
	for i := 0; refusals < 20; i++ {
		status, answer, err := ask(client, s.url, fmt.Sprint("full-", i), body)
		if err != nil || i > 100_000 {
			t.Fatal(err, i, s.stderr.String())
		}
		switch status {
		case http.StatusOK:
			answers++
			if refusals > 0 {
				t.Fatal("keys were given while there is no room for a record")
			}
		case http.StatusServiceUnavailable:
			refusals++
			if string(answer) != "temporarily unavailable" {
				t.Fatalf("refused with %s", answer)
			}
		default:
			t.Fatalf("status %d: %s", status, answer)
		}
	}
	s.kill()
	if text := s.stderr.String(); !strings.Contains(text, "audit log unavailable") || !strings.Contains(text, "file too large") {
		t.Errorf("the log does not say why:\n%s", text)
	}

	s = startProcess(t, serve)
	if status, answer, err := ask(client, s.url, "after", body); status != http.StatusOK {
		t.Errorf("afterwards: status %d %s, %v", status, answer, err)
	}
	s.kill()
	dir, records := filepath.Join(data, "audit"), 0
	err = (&audit.Query{}).Run(dir, func(_ []byte, r *audit.Record) error {
		if r.Result == audit.Delivered {
			records++
		}
		return nil
	})
	report, verifyErr := audit.Verify(dir)
	if err != nil || verifyErr != nil || records != answers+1 || !report.Sound() {
		t.Errorf("%d answers, %d records of them, %+v, %v, %v", answers, records, report, err, verifyErr)
	}
	if answers < 20 {
		t.Errorf("%d answers: too few to prove anything", answers)
	}
}
