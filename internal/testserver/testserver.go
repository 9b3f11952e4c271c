//go:build linux

// Package testserver starts the database servers that stores are tested with:
// real ones, as processes, each on a free port of the loopback interface and
// with its data in a temporary folder. scripts/testdeps.sh installs them.
package testserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a server may take to start or to stop.
const patience = time.Minute

// Server is a database server that runs, or was killed and can be started
// again on the same port with the same data.
type Server struct {
	Addr string // host:port

	dir     string             // removed by Stop
	command func() *exec.Cmd   // runs it in the foreground
	ready   func(pid int) bool // whether it takes connections
	signal  os.Signal          // ends it in good order
	log     string             // file for its output
	process *os.Process        // nil when it does not run
	exited  chan struct{}      // closed when process has ended
}

// newServer picks a port and makes a folder.
func newServer(name string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	dir, err := os.MkdirTemp("", name+"-*")
	if err != nil {
		return nil, err
	}
	return &Server{Addr: l.Addr().String(), dir: dir, log: filepath.Join(dir, "log")}, nil
}

func (s *Server) port() string {
	_, port, _ := net.SplitHostPort(s.Addr) // which newServer has from a listener
	return port
}

// Start starts a server that was killed and returns when it takes
// connections. It tries again for a while, since what was killed may still
// hold a lock.
func (s *Server) Start() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := s.start(deadline)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (s *Server) start(deadline time.Time) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // not secret
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command()
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true              // an interrupt at the terminal is for us
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // it does not outlive us
	if err := cmd.Start(); err != nil {
		return err
	}
	s.process, s.exited = cmd.Process, make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(s.exited)
	}()
	for !s.ready(s.process.Pid) {
		select {
		case <-s.exited:
			s.process = nil
			return fmt.Errorf("%s ended:\n%s", cmd.Path, s.tail())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%s is not ready:\n%s", cmd.Path, s.tail()), s.Kill())
		}
	}
	return nil
}

// tail returns the end of the server's log.
func (s *Server) tail() []byte {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return []byte(err.Error())
	}
	return b[max(0, len(b)-2000):]
}

// Kill ends the server and its children at once, as a power cut would.
func (s *Server) Kill() error {
	if s.process == nil {
		return errors.New("the server does not run")
	}
	pids := children(s.process.Pid)
	err := s.process.Kill()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
	}
	<-s.exited
	s.process = nil
	return err
}

// children returns the processes whose parent is pid.
func children(pid int) []int {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		for _, text := range strings.Fields(string(b)) {
			if pid, err := strconv.Atoi(text); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Stop ends the server, if it runs, and removes its data.
func (s *Server) Stop() error {
	var err error
	if s.process != nil {
		err = s.process.Signal(s.signal)
		select {
		case <-s.exited:
		case <-time.After(patience):
			err = errors.Join(err, errors.New("the server did not stop"), s.Kill())
		}
		s.process = nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// npmFolder returns the folder of a package that scripts/testdeps.sh installs
// under the root of the module.
func npmFolder(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("go.mod is not in any folder above")
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "bin", "npm", "node_modules", filepath.FromSlash(name)), nil
}

// find returns an error that says what to do when a program is not there.
func find(program string) error {
	_, err := os.Stat(program)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; run scripts/testdeps.sh to install it", err)
	}
	return err
}
