package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"spekeasy": main})
}

// TestScripts runs the command line as a user would. Beside testscript's own
// commands, which go before ours of the same name (its stop ends a script),
// there are
//
//	start NAME ARGS...    runs `spekeasy ARGS` in the background until it says
//	                      "ready URL" and sets $NAME to the URL, and
//	                      $NAME_admin to that of the admin listener; of a
//	                      simulator it sets ${NAME}_UPSTREAM to the second
//	                      line
//	end NAME              sends SIGTERM and wants exit status 0; what it said
//	                      on standard output is in the file NAME.stdout
//	crash NAME            sends SIGKILL
//	log NAME TEXT         wants TEXT in its standard error
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[serversKey{}] = map[string]*background{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": cmdStart, "end": cmdEnd, "crash": cmdCrash, "log": cmdLog,
		},
	})
}

type serversKey struct{}

type background struct {
	cmd    *exec.Cmd
	stdout lockedBuffer
	stderr lockedBuffer
	ended  chan struct{} // closed at the end of its standard output
}

// lockedBuffer is written by the process's copier and read by the script.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARGS...")
	}
	path, err := exec.LookPath("spekeasy")
	if err != nil {
		for dir := range strings.SplitSeq(ts.Getenv("PATH"), ":") {
			if _, statErr := os.Stat(dir + "/spekeasy"); statErr == nil {
				path, err = dir+"/spekeasy", nil
				break
			}
		}
	}
	ts.Check(err)
	s := &background{cmd: exec.Command(path, args[1:]...), ended: make(chan struct{})}
	s.cmd.Dir = ts.MkAbs(".")
	s.cmd.Stderr = &s.stderr
	s.cmd.Env = append(os.Environ(), "HOME="+ts.Getenv("HOME"), "SECRET="+ts.Getenv("SECRET"))
	out, err := s.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(s.cmd.Start())
	servers(ts)[args[0]] = s
	ts.Defer(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	ready := make(chan string, 2)
	go func() {
		defer close(s.ended)
		in := bufio.NewReader(io.TeeReader(out, &s.stdout))
		line, err := in.ReadString('\n')
		for err == nil && strings.HasPrefix(line, "{") { // records of the audit log
			line, err = in.ReadString('\n')
		}
		ready <- line
		if args[1] == "simulate" {
			line, _ = in.ReadString('\n')
			ready <- line
		}
		io.Copy(io.Discard, in)
	}()
	select {
	case line := <-ready:
		url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
		if !ok {
			ts.Fatalf("first line %q\n%s", line, s.stderr.String())
		}
		ts.Setenv(args[0], url)
		if args[1] == "simulate" {
			ts.Setenv(args[0]+"_UPSTREAM", strings.TrimSpace(<-ready))
			return
		}
		// What it logged before it was ready may still be on its way here.
		for wait := time.Now().Add(time.Second); !strings.Contains(s.stderr.String(), "serving") && time.Now().Before(wait); {
			time.Sleep(time.Millisecond)
		}
		if at := adminAddress.FindStringSubmatch(s.stderr.String()); at != nil {
			ts.Setenv(args[0]+"_admin", "http://"+at[1])
		}
	case <-time.After(20 * time.Second):
		ts.Fatalf("not ready\n%s", s.stderr.String())
	}
}

// adminAddress finds the admin listener in a log of either format.
var adminAddress = regexp.MustCompile(`admin listener"[, ]+"?address"?[=:]"?([0-9.:]+)`)

func servers(ts *testscript.TestScript) map[string]*background {
	return ts.Value(serversKey{}).(map[string]*background)
}

func cmdEnd(ts *testscript.TestScript, _ bool, args []string) {
	s := servers(ts)[args[0]]
	ts.Check(s.cmd.Process.Signal(syscall.SIGTERM))
	<-s.ended
	if err := s.cmd.Wait(); err != nil {
		ts.Fatalf("%v\n%s", err, s.stderr.String())
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".stdout"), []byte(s.stdout.String()), 0o600))
}

func cmdCrash(ts *testscript.TestScript, _ bool, args []string) {
	s := servers(ts)[args[0]]
	ts.Check(s.cmd.Process.Kill())
	s.cmd.Wait()
}

func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	text := servers(ts)[args[0]].stderr.String()
	if strings.Contains(text, args[1]) == neg {
		ts.Fatalf("%q in the log is %v:\n%s", args[1], !neg, text)
	}
}
