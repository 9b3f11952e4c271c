// Package filekey keeps key-encryption keys (KEKs) in a file of this machine.
// It is chosen by the URI file:///path or file:path.
//
// The file is text. Each line is empty, a comment after "#", or
//
//	kek ID BASE64
//
// with the base64 of 32 bytes. The first KEK wraps; those below it open what
// they wrapped before a new one was put in front.
package filekey

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/keyring"
)

// maxSize is more than a file with KEKs ever has.
const maxSize = 64 << 10

// Path returns the path of a file URI.
func Path(uri *url.URL) (string, error) {
	if _, err := kms.Query(uri); err != nil {
		return "", err
	}
	path := uri.Path
	if uri.Opaque != "" {
		var err error
		if path, err = url.PathUnescape(uri.Opaque); err != nil {
			return "", errors.New("key manager URI: malformed path")
		}
	}
	if uri.Scheme != "file" || uri.Host != "" || path == "" {
		return "", errors.New("key manager URI: want file:///path or file:path")
	}
	return path, nil
}

// Open returns the KEKs of the file. It refuses a file that others than its
// owner may read or write, one that is malformed, and with
// [kms.ErrKeyUnusable] one that does not exist.
func Open(path string) (*keyring.Ring, error) {
	ring, err := open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: KEK file %s does not exist", kms.ErrKeyUnusable, path)
	}
	if err != nil {
		return nil, fmt.Errorf("KEK file %s: %w", path, err)
	}
	return ring, nil
}

func open(path string) (*keyring.Ring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("%w: it is not a regular file", kms.ErrKeyUnusable)
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("%w: its mode %#o lets others read or change it; want 0600", kms.ErrKeyUnusable, mode.Perm())
	case info.Size() > maxSize:
		return nil, fmt.Errorf("%w: it has %d bytes", keyring.ErrKey, info.Size())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSize))
	if err != nil {
		return nil, err
	}
	return parse(text)
}

func parse(text []byte) (*keyring.Ring, error) {
	ring := new(keyring.Ring)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != "kek" {
			return nil, fmt.Errorf("%w: line %d: want: kek ID BASE64", keyring.ErrKey, n)
		}
		key, err := keyring.Parse(words[2])
		if err == nil {
			err = ring.Add(words[1], key)
			clear(key)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(ring.IDs()) == 0 {
		return nil, fmt.Errorf("%w: the file has none", keyring.ErrKey)
	}
	return ring, nil
}

// Create makes the file with a new random KEK, readable by its owner only, as
// a whole and durable or not at all. It never replaces a file: when there is
// one, the error is [fs.ErrExist].
func Create(path string, now time.Time) error {
	if err := create(path, now); err != nil {
		return fmt.Errorf("creating KEK file %s: %w", path, err)
	}
	return nil
}

func create(path string, now time.Time) error {
	key := make([]byte, keyring.KeySize)
	defer clear(key)
	_, _ = rand.Read(key) // never fails
	text := fmt.Appendf(nil, `# Key-encryption keys of spekeasy, the one in use first; made %s.
# Whoever has this file and the database has every content key. Without it no
# content key in the database can ever be opened: keep a copy, elsewhere.
kek %s %s
`, now.UTC().Format(time.RFC3339), keyring.ID(key), base64.StdEncoding.EncodeToString(key))

	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it is gone already
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename, never replaces
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
