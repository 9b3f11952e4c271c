package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"spekeasy/contentkey"
	"spekeasy/internal/keystore"
)

// load asks for keys without end, from sixteen goroutines, and writes a line
// for each one that it was given. Some key IDs are new, some are asked for by
// several goroutines, some were handed out before the last crash.
func load(path string) error {
	k, db, err := openKeystore(context.Background(), path)
	if err != nil {
		return err
	}
	defer db.Close()
	errs := make(chan error)
	for range 16 {
		go func() {
			for {
				a := ask(numbered(rand.IntN(4000)), numbered(rand.IntN(4000)))
				a.Wants[0].Uses = []keystore.Use{{Track: fmt.Sprint(rand.IntN(3))}}
				keys, err := k.Obtain(context.Background(), a)
				if err != nil {
					errs <- err
					return
				}
				var lines []byte
				for _, key := range keys {
					lines = fmt.Appendf(lines, "%v %x %x\n", key.KID, [16]byte(key.Value), [16]byte(key.IV))
				}
				if _, err := os.Stdout.Write(lines); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

func numbered(n int) contentkey.KID {
	return contentkey.KID{byte(n * 37), byte(n >> 8), 15: byte(n)}
}

// TestCrashes kills a loaded process again and again. Every key that it ever
// handed out is the same afterwards.
func TestCrashes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	handed := make(map[string]string)
	for round := range 7 {
		c := child(t, "load", path)
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		kill := sync.OnceValue(c.Process.Kill)
		answers := 0
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if answers++; answers == 1 {
				time.AfterFunc(time.Duration(50+rand.IntN(250))*time.Millisecond, func() { _ = kill() })
			}
			var kid, key string
			line := lines.Text()
			if len(line) != 36+1+32+1+32 {
				continue // cut by the kill
			}
			kid, key = line[:36], line[37:]
			if had, ok := handed[kid]; ok && had != key {
				t.Fatalf("round %d: key %s has changed", round, kid)
			}
			handed[kid] = key
		}
		_ = kill() // in case it said nothing
		if err := c.Wait(); err == nil || c.ProcessState.Exited() {
			t.Fatalf("round %d: the process ended by itself: %v", round, err)
		}
		if answers == 0 {
			t.Errorf("round %d: no answers", round)
		}
	}

	k, db, err := openKeystore(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for text, want := range handed {
		kid, err := contentkey.ParseKID(text)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := k.Lookup(t.Context(), "acme", []contentkey.KID{kid})
		if err != nil {
			t.Fatalf("key %s was handed out: %v", kid, err)
		}
		if got := fmt.Sprintf("%x %x", [16]byte(keys[0].Value), [16]byte(keys[0].IV)); got != want {
			t.Fatalf("key %s has changed", kid)
		}
		bound, _, err := db.PageBindings(t.Context(), "acme", keystore.BindingFilter{KID: kid}, "", 10)
		if err != nil || len(bound) == 0 {
			t.Fatalf("key %s was handed out and its binding is lost: %v", kid, err)
		}
	}
	t.Logf("%d keys are as they were handed out", len(handed))
	if len(handed) < 100 {
		t.Error("too few to prove anything")
	}
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
	var sound string
	if err := db.readers.QueryRow("PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
		t.Errorf("integrity: %s", errors.Join(err, errors.New(sound)))
	}
}
