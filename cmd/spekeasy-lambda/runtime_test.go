package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asFunction has the test's own binary be the function.
const asFunction = "SPEKEASY_TEST_FUNCTION"

func TestMain(m *testing.M) {
	if os.Getenv(asFunction) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// lambdaRuntime is the service inside Lambda that hands invocations to a
// function and takes the answers, by the documented protocol.
type lambdaRuntime struct {
	t       *testing.T
	cmd     *exec.Cmd
	stdout  bytes.Buffer // to be read when the process has ended
	stderr  bytes.Buffer
	started time.Time
	ready   chan struct{} // one for each time that the function asks for work
	work    chan string
	answers chan string // path, space, body
	exited  bool
	n       int
}

// startFunction runs the function in a process of its own.
func startFunction(t *testing.T, env ...string) *lambdaRuntime {
	t.Helper()
	l := &lambdaRuntime{t: t, ready: make(chan struct{}, 100), work: make(chan string), answers: make(chan string, 1)}
	s := httptest.NewServer(l)
	t.Cleanup(s.Close)
	l.cmd = exec.Command(os.Args[0])
	l.cmd.Env = append(append(os.Environ(), asFunction+"=1", "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(s.URL, "http://"),
		"AWS_LAMBDA_FUNCTION_NAME=keys", "AWS_LAMBDA_FUNCTION_VERSION=1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256"), env...)
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	l.started = time.Now()
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !l.exited {
			l.stop(syscall.SIGKILL)
		}
	})
	return l
}

func (l *lambdaRuntime) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/2020-01-01/extension/register":
		w.Header().Set("Lambda-Extension-Identifier", "1")
		io.WriteString(w, "{}")
	case path == "/2020-01-01/extension/event/next":
		<-r.Context().Done()
	case path == "/2018-06-01/runtime/invocation/next":
		l.ready <- struct{}{}
		select {
		case event := <-l.work:
			l.n++
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprint("request-", l.n))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(time.Now().Add(25*time.Second).UnixMilli()))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:111122223333:function:keys")
			io.WriteString(w, event)
		case <-r.Context().Done():
		}
	default:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			l.t.Error(err)
		}
		w.WriteHeader(http.StatusAccepted)
		l.answers <- path + " " + string(body)
	}
}

// waitReady waits until the function asks for work.
func (l *lambdaRuntime) waitReady() {
	l.t.Helper()
	select {
	case <-l.ready:
	case <-time.After(30 * time.Second):
		l.stop(syscall.SIGKILL)
		l.t.Fatalf("not ready\n%s", l.stderr.String())
	}
}

// invoke hands over an event and returns the answer.
func (l *lambdaRuntime) invoke(event string) string {
	l.t.Helper()
	l.waitReady()
	l.work <- event
	select {
	case a := <-l.answers:
		path, body, _ := strings.Cut(a, " ")
		if !strings.HasSuffix(path, "/response") {
			l.t.Fatalf("%s: %s", path, body)
		}
		return body
	case <-time.After(30 * time.Second):
		l.stop(syscall.SIGKILL)
		l.t.Fatalf("no answer\n%s", l.stderr.String())
	}
	return ""
}

// stop ends the process and returns its state.
func (l *lambdaRuntime) stop(with syscall.Signal) *os.ProcessState {
	l.t.Helper()
	l.exited = true
	if err := l.cmd.Process.Signal(with); err != nil {
		l.t.Error(err)
	}
	l.cmd.Wait()
	return l.cmd.ProcessState
}
