package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// knownKeys are content keys that a test puts in and looks for everywhere.
func knownKeys(n int) (all [][]byte) {
	for i := range n {
		sum := sha256.Sum256(fmt.Appendf(nil, "a key that must not be seen %d", i))
		all = append(all, sum[:16])
	}
	return all
}

// traces are the ways in which part of a key can show: raw, hexadecimal,
// base64 at each of its three alignments, and as lists of numbers.
func traces(key []byte) map[string]string {
	all := map[string]string{
		"raw": string(key[:8]), "raw end": string(key[8:]),
		"hex": hex.EncodeToString(key[:6]), "hex end": hex.EncodeToString(key[10:]),
		"UUID":    fmt.Sprintf("%x-%x-%x", key[:4], key[4:6], key[6:8]),
		"spaced":  fmt.Sprintf("% x", key[:5]),
		"numbers": strings.Trim(fmt.Sprint(key[:5]), "[]"),
		"JSON":    strings.ReplaceAll(strings.Trim(fmt.Sprint(key[:5]), "[]"), " ", ","),
		"Go":      strings.TrimPrefix(fmt.Sprintf("%#v", key[:5]), "[]byte{")[:20],
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(key[shift:][: 12 : len(key)-shift])
		all[fmt.Sprintf("base64 +%d", shift)] = text[:12]
		all[fmt.Sprintf("base64url +%d", shift)] = strings.NewReplacer("+", "-", "/", "_").Replace(text[:12])
	}
	return all
}

// leaks returns how any of the keys shows in the bytes.
func leaks(b []byte, keys [][]byte) string {
	lower := bytes.ToLower(b)
	for i, key := range keys {
		for how, text := range traces(key) {
			in, find := b, []byte(text)
			if strings.HasPrefix(how, "hex") || how == "UUID" || how == "spaced" || how == "Go" {
				in, find = lower, bytes.ToLower(find)
			}
			if at := bytes.Index(in, find); at >= 0 {
				return fmt.Sprintf("key %d as %s in %.120q", i, how, b[max(0, at-60):])
			}
		}
	}
	return ""
}

// TestLeaksAreFound shows that the search finds what it looks for.
func TestLeaksAreFound(t *testing.T) {
	keys := knownKeys(3)
	for _, format := range []string{"%s", "%x", "%X", "% x", "%d", "%v", "%#v"} {
		if leaks(fmt.Appendf(nil, "x"+format+"y", keys[1]), keys) == "" {
			t.Errorf("%s is not found", format)
		}
	}
	for shift := range 3 {
		b := append(make([]byte, shift), keys[2]...)
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			if leaks([]byte(e.EncodeToString(append(b, 1, 2, 3))), keys) == "" {
				t.Errorf("base64 %d bytes into a text is not found", shift)
			}
		}
	}
	if found := leaks([]byte(strings.Repeat("nothing to see here ", 100)), keys); found != "" {
		t.Error(found)
	}
}

// TestNoKeyIsSeen runs every command of an operator, failing ones included,
// and a server that logs all it can, and looks for content keys in everything
// that they print and keep.
func TestNoKeyIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	keys := knownKeys(40)
	var csv, jsonl strings.Builder
	csv.WriteString("kid,key,content_id\n")
	for i, key := range keys {
		fmt.Fprintf(&csv, "%08x-9b5d-4e3f-a10c-5e9d6b8f2a77,%x,movie\n", i, key)
		fmt.Fprintf(&jsonl, "{\"kid\":\"%08x-9b5d-4e3f-a10c-5e9d6b8f2a77\",\"key\":%q}\n", i+1, base64.StdEncoding.EncodeToString(key))
	}
	sources := map[string]string{
		"keys.csv":   csv.String(),
		"moved.json": jsonl.String(), // each key under the next key ID: conflicts
		"bad.csv":    fmt.Sprintf("kid,key,iv\nx,%x,\n%[1]x,%[1]x,\n%x00,y,\n,%x\n\"%x\n", keys[0], keys[1], keys[2], keys[3]),
		"bad.jsonl":  fmt.Sprintf("{\"kid\":\"%x\",\"key\":\"%x\"\n{\"kid\":{\"%x\":1},\"key\":[\"%x\"]}\n\"%x\"\n", keys[4], keys[5], keys[6], keys[7], keys[8]),
		"bad.xml": fmt.Sprintf(`<CPIX xmlns="urn:dashif:org:cpix" xmlns:p="urn:ietf:params:xml:ns:keyprov:pskc"><ContentKeyList><ContentKey kid="%x"><Data><p:Secret><p:PlainValue>%s</p:PlainValue></p:Secret></Data></ContentKey></ContentKeyList></CPIX>`,
			keys[9], base64.StdEncoding.EncodeToString(keys[10][:15])),
		"id": testIdentity,
		"server.yaml": "listen: 127.0.0.1:0\ndata: " + path("data") + "\nlog: {level: debug}\ntenants:\n- id: acme\n" +
			"  credentials: [{name: e, basic: {user: acme, password: pass}}]\n",
	}
	for name, text := range sources {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var seen bytes.Buffer // all that was printed, but what was asked for in clear
	command := func(code int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(t.Context(), args, os.LookupEnv, &out, &errs); got != code {
			t.Fatalf("spekeasy %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
		}
		seen.Write(errs.Bytes())
		return out.String()
	}
	quiet := func(code int, args ...string) { t.Helper(); seen.WriteString(command(code, args...)) }
	data := []string{"--config", path("server.yaml")}
	with := func(args ...string) []string { return append(args, data...) }
	kid := "00000003-9b5d-4e3f-a10c-5e9d6b8f2a77"

	quiet(0, with("keys", "import", "--tenant", "acme", path("keys.csv"))...)
	log, stop := serveInBackground(t, path("server.yaml"))
	for _, args := range [][]string{
		with("keys", "import", "--tenant", "acme", path("moved.json")),
		with("keys", "import", "--tenant", "acme", path("bad.csv")),
		with("keys", "import", "--tenant", "acme", path("bad.jsonl")),
		with("keys", "import", "--tenant", "acme", path("bad.xml")),
		with("keys", "import", "--tenant", "acme", "--key", path("keys.csv"), path("bad.xml")),
		with("keys", "export", "--tenant", "acme", "--recipient", path("keys.csv")),
		with("keys", "show", "--tenant", "acme", "00000099-9b5d-4e3f-a10c-5e9d6b8f2a77"),
		with("backup", "--out", path("x.age"), "--recipient", hex.EncodeToString(keys[0])),
		{"request", "--url", log.url, "--basic", "acme:wrong", "--content", "movie", "--kid", kid},
	} {
		quiet(1, args...)
	}
	request := []string{"request", "--url", log.url, "--basic", "acme:pass", "--content", "movie", "--kid", kid}
	for _, args := range [][]string{
		request, append(request, "--json"), append(request, "--raw"), append(request, "--encrypt", "--raw"),
		with("keys", "list", "--tenant", "acme"), with("keys", "list", "--tenant", "acme", "--content", "movie"),
		with("keys", "show", "--tenant", "acme", kid),
		with("keys", "import", "--tenant", "acme", "--dry-run", path("keys.csv")),
		with("keys", "delete", "--tenant", "acme", "00000004-9b5d-4e3f-a10c-5e9d6b8f2a77", "00000005-9b5d-4e3f-a10c-5e9d6b8f2a77"),
		with("keys", "undelete", "--tenant", "acme", "00000004-9b5d-4e3f-a10c-5e9d6b8f2a77"),
		with("keys", "purge", "--grace", "0s"),
		with("keys", "rewrap", "--data-keys", "--min-age", "0s", "--kek"),
		with("backup", "--out", path("b.age"), "--recipient", testRecipient),
		with("backup", "verify", "--identity", path("id"), path("b.age")),
		with("doctor"), with("migrate"),
	} {
		quiet(0, args...)
	}
	// What is asked for in clear is there, so the search would find it.
	for _, args := range [][]string{
		with("keys", "export", "--tenant", "acme", "--format", "csv", "--clear"),
		with("keys", "export", "--tenant", "acme", "--format", "jsonl", "--clear"),
		with("keys", "export", "--tenant", "acme", "--clear"),
		with("keys", "show", "--tenant", "acme", "--show-keys", kid),
		append(request, "--show-keys"),
	} {
		if out := command(0, args...); leaks([]byte(out), keys) == "" {
			t.Errorf("spekeasy %s: no key is found", args[:3])
		}
	}
	filesOf(t, path("data"), func(name string, b []byte) { // while it is in use
		if found := leaks(b, keys); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	})
	stop()
	filesOf(t, path("data"), func(name string, b []byte) {
		if found := leaks(b, keys); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	})
	for what, b := range map[string][]byte{"output": seen.Bytes(), "log": []byte(log.String()), "backup": openBackup(t, path("b.age"))} {
		if len(b) < 500 {
			t.Errorf("%s: only %d bytes", what, len(b))
		}
		if found := leaks(b, keys); found != "" {
			t.Errorf("%s: %s", what, found)
		}
	}
}

// server is a server in this process.
type server struct {
	lockedBuffer // its log
	url          string
}

func serveInBackground(t *testing.T, file string) (s *server, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s = &server{url: "http://" + address}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	var ready lockedBuffer
	go func() {
		done <- run(ctx, []string{"serve", "--config", file, "--listen", address}, os.LookupEnv, &ready, s)
	}()
	for deadline := time.Now().Add(20 * time.Second); !strings.HasPrefix(ready.String(), "ready "); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", s.String())
		}
	}
	return s, func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("the server ended with %d: %s", code, s.String())
		}
	}
}

// filesOf gives every file of a directory to f.
func filesOf(t *testing.T, dir string, f func(name string, b []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		n++
		f(path, b)
		return err
	})
	if err != nil || n < 3 {
		t.Errorf("%d files in %s, %v", n, dir, err)
	}
}

// openBackup returns what is in a backup file below its encryption.
func openBackup(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := age.ParseX25519Identity(testIdentity)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(f, id)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
