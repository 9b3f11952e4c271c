// Command packages makes .deb and .rpm packages of a Linux binary. The same
// input gives the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

func main() {
	binary := flag.String("binary", "", "the binary")
	arch := flag.String("arch", "", "its architecture, as Go calls it")
	version := flag.String("version", "", "version that is released")
	seconds := flag.String("time", "", "time of all files, in Unix seconds")
	out := flag.String("out", ".", "directory to write to")
	root := flag.String("root", "../..", "root of the source")
	flag.Parse()
	paths, err := packages(*root, *binary, *arch, *version, *seconds, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
	for _, p := range paths {
		fmt.Println(p)
	}
}

// packages writes one package of each kind and returns their paths.
func packages(root, binary, arch, version, seconds, out string) (paths []string, err error) {
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("-time: %w", err)
	}
	info := describe(root, binary, arch, number(version), time.Unix(unix, 0).UTC())
	for _, kind := range []string{"deb", "rpm"} {
		path, err := write(kind, info, out)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind, err)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// later is how git describes a commit after a tag: so many, and its name.
var later = regexp.MustCompile(`-([0-9]+)-(g[0-9a-f]+)`)

// number is a version that both package managers sort: a commit without a
// release comes before all of them, one after a release after it, and a
// candidate before its release.
func number(version string) string {
	v := later.ReplaceAllString(strings.TrimPrefix(version, "v"), "+$1.$2")
	if strings.Count(v, ".") < 2 {
		v = "0.0.0-" + v
	}
	v = strings.Replace(v, "-", "~", 1)
	return strings.ReplaceAll(v, "-", ".")
}

func describe(root, binary, arch, version string, at time.Time) *nfpm.Info {
	file := func(from, to string, mode os.FileMode, kind string) *files.Content {
		if from == "" {
			from = binary
		} else {
			from = filepath.Join(root, from)
		}
		return &files.Content{Source: from, Destination: to, Type: kind, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: at, Owner: "root", Group: "root"}}
	}
	return &nfpm.Info{
		Name: "spekeasy", Arch: arch, Platform: "linux", Version: version, VersionSchema: "none", Section: "video", Priority: "optional",
		Maintainer: "spekeasy maintainers <maintainers@spekeasy.example>", License: "Apache-2.0",
		Description: "DRM key server and key gateway for SPEKE\nAnswers the key requests of AWS Elemental and other encoders.",
		MTime:       at,
		Overridables: nfpm.Overridables{
			Umask:      0o022,
			Recommends: []string{"ca-certificates"},
			Scripts: nfpm.Scripts{
				PostInstall: filepath.Join(root, "deploy/packages/postinstall.sh"),
				PostRemove:  filepath.Join(root, "deploy/packages/postremove.sh"),
			},
			RPM: nfpm.RPM{BuildHost: "spekeasy", Compression: "gzip"},
			Deb: nfpm.Deb{Compression: "gzip"},
			Contents: files.Contents{
				file("", "/usr/bin/spekeasy", 0o755, files.TypeFile),
				file("deploy/systemd/spekeasy.service", "/usr/lib/systemd/system/spekeasy.service", 0o644, files.TypeFile),
				file("deploy/systemd/sysusers.conf", "/usr/lib/sysusers.d/spekeasy.conf", 0o644, files.TypeFile),
				file("deploy/packages/config.yaml", "/etc/spekeasy/config.yaml", 0o640, files.TypeConfigNoReplace),
				file("LICENSE", "/usr/share/doc/spekeasy/copyright", 0o644, files.TypeFile),
				file("README.md", "/usr/share/doc/spekeasy/README.md", 0o644, files.TypeFile),
				file("examples/config.yaml", "/usr/share/doc/spekeasy/config.yaml", 0o644, files.TypeFile),
			},
		},
	}
}

func write(kind string, info *nfpm.Info, out string) (path string, err error) {
	p, err := nfpm.Get(kind)
	if err != nil {
		return "", err
	}
	one := nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(one, kind); err != nil {
		return "", err
	}
	path = filepath.Join(out, p.ConventionalFileName(one))
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return path, p.Package(one, f)
}
