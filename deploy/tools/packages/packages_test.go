package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packed packages a file that stands for the binary.
func packed(t *testing.T, version string) (deb, rpm []byte) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "spekeasy")
	if err := os.WriteFile(binary, []byte("a binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	paths, err := packages("../../..", binary, "amd64", version, "1700000000", dir)
	if err != nil {
		t.Fatal(err)
	}
	var texts [][]byte
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	if len(texts) != 2 || !strings.HasSuffix(paths[0], ".deb") || !strings.HasSuffix(paths[1], ".rpm") {
		t.Fatalf("%q", paths)
	}
	return texts[0], texts[1]
}

// member returns a member of a .deb, which is an ar archive.
func member(t *testing.T, deb []byte, name string) []byte {
	t.Helper()
	rest, ok := bytes.CutPrefix(deb, []byte("!<arch>\n"))
	for ok && len(rest) >= 60 {
		n := 0
		for _, c := range bytes.TrimSpace(rest[48:58]) {
			n = n*10 + int(c-'0')
		}
		if strings.HasPrefix(string(rest[:16]), name) {
			return rest[60 : 60+n]
		}
		rest = rest[60+n+n%2:]
	}
	t.Fatalf("no %s in the .deb", name)
	return nil
}

func contents(t *testing.T, gzipped []byte) map[string]*tar.Header {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(gzipped))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*tar.Header)
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(h.Name, ".")] = h
	}
}

func TestPackages(t *testing.T) {
	deb, rpm := packed(t, "v1.2.3")
	if deb2, rpm2 := packed(t, "v1.2.3"); !bytes.Equal(deb, deb2) || !bytes.Equal(rpm, rpm2) {
		t.Errorf("the second ones differ: deb %t, rpm %t", !bytes.Equal(deb, deb2), !bytes.Equal(rpm, rpm2))
	}
	content := contents(t, member(t, deb, "data.tar.gz"))
	for name, mode := range map[string]int64{
		"/usr/bin/spekeasy": 0o755, "/usr/lib/systemd/system/spekeasy.service": 0o644, "/usr/lib/sysusers.d/spekeasy.conf": 0o644,
		"/etc/spekeasy/config.yaml": 0o640, "/usr/share/doc/spekeasy/copyright": 0o644,
	} {
		h := content[name]
		if h == nil {
			t.Errorf("no %s", name)
		} else if h.Mode&0o7777 != mode || h.Uname != "root" || h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s: mode %o, owner %s, time %v", name, h.Mode, h.Uname, h.ModTime)
		}
	}
	control := contents(t, member(t, deb, "control.tar.gz"))
	for _, name := range []string{"/control", "/conffiles", "/postinst", "/postrm"} {
		if control[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if !bytes.HasPrefix(rpm, []byte{0xed, 0xab, 0xee, 0xdb}) || !bytes.Contains(rpm, []byte("/usr/bin/")) {
		t.Error("not an RPM of the server")
	}
}

// A commit between releases sorts before them, a candidate before its release.
func TestNumber(t *testing.T) {
	for version, want := range map[string]string{
		"v1.2.3": "1.2.3", "v1.2.3-rc.1": "1.2.3~rc.1", "0123abc": "0.0.0~0123abc", "0123abc-dirty": "0.0.0~0123abc.dirty",
		"v1.2.3-4-g0123abc": "1.2.3+4.g0123abc", "v1.2.3-rc.1-4-g0123abc": "1.2.3~rc.1+4.g0123abc",
	} {
		if got := number(version); got != want {
			t.Errorf("%s becomes %s, want %s", version, got, want)
		}
	}
}
