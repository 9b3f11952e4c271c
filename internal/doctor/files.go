package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Paths are the files of a server. Members that are "" do not apply.
type Paths struct {
	Data     string // directory of everything that the server keeps itself
	Database string // file of the embedded store
	KEK      string // file with the KEK
}

const (
	leftoverAge = time.Hour // younger ones may be in use
	leastRoom   = 64 << 20  // bytes of free disk, below which writes will soon fail
	scarceRoom  = 1 << 30
	longLog     = 512 << 20 // bytes of a write-ahead log that is not written back
)

// Files examines modes and owners, leftovers and the room that is left.
func (x *Examination) Files(p Paths) {
	before := x.Count(Warning) + x.Count(Error)
	if p.KEK != "" {
		x.file(p.KEK)
	}
	if p.Database != "" {
		for _, suffix := range []string{"", "-wal", "-shm", "-mark"} {
			x.file(p.Database + suffix)
		}
	}
	if p.Data != "" {
		x.directory(p.Data)
	}
	if p.Database != "" {
		x.database(p)
	}
	if x.Count(Warning)+x.Count(Error) == before {
		x.add(Good, "", "The files belong to this user, and nobody else can read them.")
	}
}

func (x *Examination) file(path string) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		x.add(Error, "", "%s cannot be examined: %v.", path, err)
		return
	case info.Mode()&fs.ModeSymlink != 0:
		if info, err = os.Stat(path); err != nil {
			x.add(Error, "", "%s points nowhere: %v.", path, err)
			return
		}
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		x.add(Error, fmt.Sprintf("chmod 600 %s; if others had access to this machine, rotate the KEK and the data keys.", path),
			"Others than its owner can use %s: its mode is %#o.", path, mode)
	}
	x.owner(path, info)
}

func (x *Examination) owner(path string, info fs.FileInfo) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if uid := os.Geteuid(); ok && int(s.Uid) != uid {
		x.add(Warning, fmt.Sprintf("Run this as the server's user; if that is user %d, chown %s.", uid, path),
			"%s belongs to user %d, and this is user %d.", path, s.Uid, uid)
	}
}

func (x *Examination) directory(dir string) {
	info, err := os.Stat(dir)
	if err != nil {
		x.add(Error, "", "The data directory cannot be examined: %v.", err)
		return
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		x.add(Error, fmt.Sprintf("chmod 700 %s", dir), "Others can put files into the data directory %s: its mode is %#o.", dir, mode)
	} else if mode&0o055 != 0 {
		x.add(Warning, fmt.Sprintf("chmod 700 %s", dir), "Others can see what is in the data directory %s: its mode is %#o.", dir, mode)
	}
	x.owner(dir, info)
	entries, err := os.ReadDir(dir)
	if err != nil {
		x.add(Error, "", "The data directory cannot be read: %v.", err)
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		// Files are made under a name with a dot, and named when they are
		// whole.
		if err == nil && info.Mode().IsRegular() && strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), "-") &&
			x.Now.Sub(info.ModTime()) > leftoverAge {
			path := filepath.Join(dir, e.Name())
			x.add(Warning, "rm "+path, "%s was left behind by a process that was cut off. It may hold a KEK.", path)
		}
	}
}

func (x *Examination) database(p Paths) {
	if info, err := os.Stat(p.Database + "-wal"); err == nil && info.Size() > longLog {
		x.add(Warning, "Look for a process that has had the database open for long, and restart it.",
			"The write-ahead log has %d MiB: something keeps it from being written back.", info.Size()>>20)
	}
	if p.KEK != "" && filepath.Dir(p.KEK) == filepath.Dir(p.Database) {
		x.add(Note, "Keep the KEK in a key manager, or on another disk, and never in the same backup.",
			"The KEK is a file beside the database: whoever copies the directory has every key.")
	}
	room, err := freeDisk(filepath.Dir(p.Database))
	switch {
	case err != nil:
		x.add(Error, "", "The room that is left on disk is unknown: %v.", err)
	case room < leastRoom:
		x.add(Error, "Make room now: without it no new key can be kept, and requests for one fail.", "The disk of the database has %d MiB left.", room>>20)
	case room < scarceRoom:
		x.add(Warning, "Make room.", "The disk of the database has %d MiB left.", room>>20)
	default:
		x.add(Good, "", "The disk of the database has %d GiB left.", room>>30)
	}
}

func freeDisk(dir string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return uint64(s.Bavail) * uint64(s.Bsize), nil //nolint:unconvert // the types differ between systems
}
