//go:build linux

package packagers_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDocument runs the commands of docs/packagers.md as they stand, but for
// the port, with the server of the first one behind the others.
func TestDocument(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs/packagers.md"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()

	dir := t.TempDir()
	run(t, "go", "build", "-o", filepath.Join(dir, "bin/spekeasy"), "spekeasy/cmd/spekeasy")
	for link, to := range map[string]string{
		"examples":     filepath.Join(root, "examples"),
		"bin/packager": newBench(t).shaka,
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	blocks := 0
	for i, block := range strings.Split(strings.ReplaceAll(string(text), "127.0.0.1:8080", address), "\n```sh\n")[1:] {
		script, _, ok := strings.Cut(block, "\n```\n")
		if !ok {
			t.Fatalf("block %d has no end", i+1)
		}
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-ec", script) // the server ends by itself
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
		if strings.HasPrefix(script, "bin/spekeasy serve") {
			serve(t, cmd)
			continue
		}
		// The command line's own default is the port of the page.
		cmd.Args[2] = strings.ReplaceAll(script, "spekeasy request ", "spekeasy request --url http://"+address+" ")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v:\n%s\n%s", err, script, out)
		}
		blocks++
	}
	if blocks != 9 {
		t.Errorf("%d blocks of commands", blocks)
	}
}

// serve starts the server and ends it with the test.
func serve(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Args[2] = "exec " + cmd.Args[2]
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		t.Fatalf("the server says %q, %v", line, err)
	}
}
