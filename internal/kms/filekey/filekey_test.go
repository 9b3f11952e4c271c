package filekey_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"spekeasy/internal/kms"
	"spekeasy/internal/kms/filekey"
	"spekeasy/internal/kms/kmstest"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func created(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := filekey.Create(path, now); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKeyManager(t *testing.T) {
	path := created(t)
	open := func(path string) kms.Manager {
		ring, err := filekey.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	kmstest.Run(t, kmstest.Backend{
		Open:      func(*testing.T) kms.Manager { return open(path) },
		OpenOther: func(t *testing.T) kms.Manager { return open(created(t)) },
	})
}

func TestCreate(t *testing.T) {
	path := created(t)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(before), "2026-11-22T12:00:00Z") {
		t.Errorf("the file does not say when it was made:\n%s", before)
	}
	if err := filekey.Create(path, now); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create over a file: %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("Create changed a file that was there: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := filekey.Create(filepath.Join(t.TempDir(), "no", "dir"), now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a missing directory: %v", err)
	}
}

func TestCreateRacers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	ids := make([]string, 20)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			if err := filekey.Create(path, now); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
			ring, err := filekey.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = ring.KeyID()
		})
	}
	wg.Wait()
	if len(slices.Compact(ids)) != 1 {
		t.Errorf("racers hold different KEKs: %v", ids)
	}
}

func TestOpenRefuses(t *testing.T) {
	good, err := os.ReadFile(created(t))
	if err != nil {
		t.Fatal(err)
	}
	line := string(good[bytes.Index(good, []byte("kek ")):])
	secret := strings.Fields(line)[2]
	for name, c := range map[string]struct {
		text string
		mode fs.FileMode
		want string
	}{
		"readable by the group":   {string(good), 0o640, "lets others read"},
		"readable by all":         {string(good), 0o604, "lets others read"},
		"writable by the group":   {string(good), 0o620, "lets others read"},
		"empty":                   {"", 0o600, "has none"},
		"comments only":           {"# nothing\n\n", 0o600, "has none"},
		"cut short":               {string(good[:len(good)-10]), 0o600, "line 4"},
		"a letter lost":           {strings.Replace(line, secret, secret[1:], 1), 0o600, "line 1"},
		"a letter that is not 64": {strings.Replace(line, secret, "*"+secret[1:], 1), 0o600, "line 1"},
		"the key alone":           {secret + "\n", 0o600, "line 1"},
		"no ID":                   {"kek " + secret + "\n", 0o600, "line 1"},
		"ID and key swapped":      {"kek " + secret + " old\n", 0o600, "line 1"},
		"one more word":           {strings.TrimSpace(line) + " 2026\n", 0o600, "line 1"},
		"the same ID twice":       {line + line, 0o600, "line 2"},
		"another kind of file":    {"\x7fELF\x00\x01", 0o600, "line 1"},
		"a very large file":       {strings.Repeat("#\n", 40000), 0o600, "bytes"},
	} {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		ring, err := filekey.Open(path)
		if err == nil || ring != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q and the path", name, err, c.want)
		}
		if strings.Contains(fmt.Sprintf("%v %#v", err, err), secret[2:30]) {
			t.Errorf("%s: the error shows the key: %v", name, err)
		}
	}
	if _, err := filekey.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, kms.ErrKeyUnusable) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := filekey.Open(t.TempDir()); err == nil {
		t.Error("a directory is accepted")
	}
}

func TestOldKEKsBehindTheNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kek")
	text := func(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }
	write := func(lines ...string) {
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("kek old " + text(1))
	ring, err := filekey.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := ring.Wrap(t.Context(), []byte("data key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	write("# rotated", "kek new "+text(2), "", "  kek old "+text(1)+"  ")
	ring, err = filekey.Open(path)
	if err != nil || !slices.Equal(ring.IDs(), []string{"new", "old"}) {
		t.Fatalf("two KEKs: %v", err)
	}
	if got, err := ring.Unwrap(t.Context(), "old", wrapped, nil); err != nil || string(got) != "data key" {
		t.Errorf("under the old KEK: %v", err)
	}
}

func TestPath(t *testing.T) {
	for raw, want := range map[string]string{
		"file:///var/lib/kek":     "/var/lib/kek",
		"file:/var/lib/kek":       "/var/lib/kek",
		"file:data/kek":           "data/kek",
		"file:///with%20space":    "/with space",
		"file:with%20space/k":     "with space/k",
		"file://host/kek":         "",
		"file:":                   "",
		"file://":                 "",
		"env:KEK":                 "",
		"file:///kek?create=true": "",
		"file:///kek#x":           "",
		"file://user:pw@/kek":     "",
	} {
		uri, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := filekey.Path(uri)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", raw, got, err)
		}
	}
}
