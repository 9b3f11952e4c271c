package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// spekeasy runs a command as a process and returns its standard output.
func spekeasy(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), "spekeasy", args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("spekeasy %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// killed runs a command and kills it after a while. It reports whether it was
// killed before it ended; if not, it must have succeeded.
func killed(t *testing.T, after time.Duration, args ...string) bool {
	t.Helper()
	var errs bytes.Buffer
	c := exec.CommandContext(t.Context(), "spekeasy", args...)
	c.Stderr = &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	err := c.Wait()
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return true
	}
	if err != nil {
		t.Fatalf("spekeasy %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return false
}

// killOften kills a command again and again, each time a little later, until
// it has survived or has been killed often enough and is let through. After
// each kill it asks whether all was done.
func killOften(t *testing.T, done func() bool, args ...string) {
	t.Helper()
	kills := 0
	for after := 60 * time.Millisecond; kills < 8; after += time.Duration(20+rand.IntN(80)) * time.Millisecond {
		if !killed(t, after, args...) || done() {
			if kills < 1 {
				t.Errorf("spekeasy %s was never killed", args[0])
			}
			return
		}
		kills++
	}
	spekeasy(t, args...)
}

// TestKilledCommands kills imports, rotations and restores half-way. Whatever
// was done is right, and repeating the command completes it.
func TestKilledCommands(t *testing.T) {
	const n = 8_000
	dir := t.TempDir()
	data, list := filepath.Join(dir, "data"), filepath.Join(dir, "keys.csv")
	want := make(map[string]string)
	var csv bytes.Buffer
	csv.WriteString("kid,key,iv,content_id\n")
	for i := range n {
		sum := sha256.Sum256(fmt.Appendf(nil, "key %d", i))
		kid, rest := fmt.Sprintf("%08x-9b5d-4e3f-a10c-5e9d6b8f2a77", i), fmt.Sprintf("%x,%x", sum[:16], sum[16:])
		want[kid] = rest
		fmt.Fprintf(&csv, "%s,%s,movie-%d\n", kid, rest, i/4)
	}
	if err := os.WriteFile(list, csv.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	// holds compares what is stored with what was imported.
	holds := func(data string, all bool) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(spekeasy(t, "keys", "export", "--data", data, "--tenant", "acme", "--format", "csv", "--clear")), "\n")[1:]
		for _, line := range lines {
			f := strings.Split(line, ",")
			if want[f[0]] != f[1]+","+f[2] {
				t.Fatalf("key %s has changed", f[0])
			}
		}
		if all && len(lines) != n {
			t.Fatalf("%d of %d keys", len(lines), n)
		}
	}
	healthy := func(data string) {
		t.Helper()
		if out := spekeasy(t, "doctor", "--quiet", "--data", data); out != "" {
			t.Errorf("doctor: %s", out)
		}
	}

	killOften(t, func() bool { return false }, "keys", "import", "--data", data, "--tenant", "acme", list)
	holds(data, true)
	healthy(data)
	if out := spekeasy(t, "keys", "import", "--data", data, "--tenant", "acme", list); !strings.HasPrefix(out, fmt.Sprintf("0 content keys imported, %d were present", n)) {
		t.Errorf("imported again: %s", out)
	}

	old, err := os.ReadFile(filepath.Join(data, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	both := append([]byte("kek new QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"), old...)
	if err := os.WriteFile(filepath.Join(data, "kek"), both, 0o600); err != nil {
		t.Fatal(err)
	}
	killOften(t, func() bool { return false }, "keys", "rewrap", "--data", data, "--data-keys", "--min-age", "0s")
	spekeasy(t, "keys", "rewrap", "--data", data)
	if err := os.WriteFile(filepath.Join(data, "kek"), both[:len(both)-len(old)], 0o600); err != nil {
		t.Fatal(err)
	}
	holds(data, true)
	healthy(data)

	id, file := filepath.Join(dir, "id"), filepath.Join(dir, "b.age")
	if err := os.WriteFile(id, []byte(testIdentity), 0o600); err != nil {
		t.Fatal(err)
	}
	killOften(t, func() bool {
		_, err := os.Stat(file)
		return err == nil // it gets its name last
	}, "backup", "--data", data, "--out", file, "--recipient", testRecipient)
	fresh := filepath.Join(dir, "fresh")
	if err := os.Mkdir(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(fresh, "kek"), both[:len(both)-len(old)], 0o600); err != nil {
		t.Fatal(err)
	}
	killOften(t, func() bool {
		c := exec.CommandContext(t.Context(), "spekeasy", "keys", "list", "--data", fresh, "--tenant", "acme")
		err := c.Run()
		return err == nil // no command works on it before it is complete
	}, "restore", "--data", fresh, "--identity", id, file)
	holds(fresh, true)
	healthy(fresh)
}

// An age identity that was made for tests.
const (
	testIdentity  = "AGE-SECRET-KEY-1XV28J30UR74Z2FMU00H57EMMSTREA876MEHGU5JHUKZFKMFLWSTQTLE04V"
	testRecipient = "age13397lm78snzje9uf68lqt46ve86pl7mwmzdglrk558e0pp4a3esqugu7vf"
)
