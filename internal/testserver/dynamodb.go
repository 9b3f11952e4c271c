//go:build linux

package testserver

import (
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// NewDynamoDB starts dynoxide, a server that speaks DynamoDB's protocol. Its
// data is in a file and survives Kill.
func NewDynamoDB() (*Server, error) {
	dir, err := npmFolder("@dynoxide/linux-x64")
	if err != nil {
		return nil, err
	}
	program := filepath.Join(dir, "dynoxide")
	if err := find(program); err != nil {
		return nil, err
	}
	s, err := newServer("dynamodb")
	if err != nil {
		return nil, err
	}
	s.signal = syscall.SIGTERM
	s.command = func() *exec.Cmd {
		return exec.Command(program, "--host", "127.0.0.1", "--port", s.port(), "--db-path", filepath.Join(s.dir, "db"))
	}
	s.ready = func(int) bool {
		c, err := net.Dial("tcp", s.Addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	if err := s.start(time.Now().Add(patience)); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}
