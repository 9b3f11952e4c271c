package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"testing"

	"spekeasy/contentkey"
)

// How many racers run in each process.
var racersOf = []int{17, 17, 16}

// RaceProcesses lets fifty racers in three processes ask for the same new
// keys of the same new tenant. A process is what the command starts, which
// must run [Race] with n.
func RaceProcesses(t *testing.T, command func(n int) *exec.Cmd) {
	var inputs []io.Closer
	var outputs []*bufio.Reader
	var processes []*exec.Cmd
	for _, n := range racersOf {
		c := command(n)
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		inputs, outputs, processes = append(inputs, in), append(outputs, bufio.NewReader(out)), append(processes, c)
	}
	for i, out := range outputs {
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Errorf("process %d says %q: %v", i, line, err)
		}
	}
	for _, in := range inputs {
		in.Close() // the starting gun
	}
	seen := make(map[string]int)
	for i, out := range outputs {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			seen[lines.Text()]++
		}
		if err := errors.Join(lines.Err(), processes[i].Wait()); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
	if len(seen) != 1 {
		t.Errorf("the racers got %d different answers", len(seen))
	}
	for _, n := range seen {
		if n != 50 {
			t.Errorf("%d racers got an answer", n)
		}
	}
}

// Race asks the store for keys from n racers at once, each with a keystore of
// its own, once in has ended. It writes a line to out for each answer.
func Race(ctx context.Context, s Store, n int, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	var racers sync.WaitGroup
	errs := make([]error, n)
	lines := make([]string, n)
	for i := range n {
		racers.Go(func() { lines[i], errs[i] = race(ctx, s) })
	}
	racers.Wait()
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

func race(ctx context.Context, s Store) (string, error) {
	k, err := openKeystore(ctx, s)
	if err != nil {
		return "", err
	}
	var kids []contentkey.KID
	for i := range 5 {
		kids = append(kids, kid(i))
	}
	keys, err := k.Obtain(ctx, ask(kids...))
	if err != nil {
		return "", err
	}
	line := ""
	for _, key := range keys {
		line += fmt.Sprintf("%v %x %x ", key.KID, [16]byte(key.Value), key.IV)
	}
	return line, k.Close(ctx)
}
