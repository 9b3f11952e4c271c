package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockDirectory makes sure that one process uses the directory. The lock is
// the kernel's, so that it ends with the process however that ends; the file
// only says who holds it.
func lockDirectory(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path) // says who, if it can be read
		err = fmt.Errorf("data directory %s is in use by another process (PID %s)", dir, strings.TrimSpace(string(holder)))
	} else if err != nil {
		err = fmt.Errorf("lock data directory: %w", err)
	} else if err = f.Truncate(0); err == nil {
		_, err = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
