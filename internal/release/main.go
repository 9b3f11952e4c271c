// Command release builds everything that is published, without a network and
// so that the same commit gives the same bytes: static binaries with their
// bills of materials, archives, the Lambda function, the container image, the Helm chart, Debian
// and RPM packages, and checksums of all of it.
//
// `make release` runs it.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	out     = flag.String("out", "dist", "directory to write to; it must not exist")
	version = flag.String("version", "", "version; by default what git describe says")
	lambda  = flag.String("lambda", "", "write the packages of the Lambda function to this directory, and nothing else")
	only    = flag.String("rootfs", "", "write the root file system of the image for this architecture to -out, as a tar, and nothing else")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// targets are what binaries are built for.
var targets = [...]struct{ os, arch string }{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}

func run(ctx context.Context) error {
	src, err := sourceOf(ctx, *version)
	if err != nil {
		return err
	}
	if *lambda != "" {
		return onlyFunctions(ctx, src, *lambda)
	}
	if *only != "" {
		text, err := build(ctx, src, "linux", *only, mainPackage)
		if err != nil {
			return err
		}
		files, err := rootfs(binary{*only, text}, src.time)
		if err != nil {
			return err
		}
		return os.WriteFile(*out, files, 0o644) //nolint:gosec // is published
	}
	if err := os.Mkdir(*out, 0o755); err != nil { //nolint:gosec // is published
		return err
	}
	r := &release{src: src, dir: *out}
	for _, step := range []func(context.Context) error{r.binaries, r.functions, r.image, r.chart, r.packages, r.checksums} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sourceOf asks git what is being released. SOURCE_DATE_EPOCH goes before the
// time of the commit.
func sourceOf(ctx context.Context, version string) (source, error) {
	git := func(args ...string) string {
		text, err := exec.CommandContext(ctx, "git", args...).Output()
		if err != nil {
			return "" // an archive of the source has no git
		}
		return strings.TrimSpace(string(text))
	}
	src := source{version: version, commit: git("rev-parse", "HEAD")}
	if src.version == "" {
		src.version = git("describe", "--tags", "--always", "--dirty")
	}
	if src.version == "" {
		return src, errors.New("without git, -version is needed")
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		epoch = git("log", "-1", "--format=%ct")
	}
	if epoch == "" {
		return src, errors.New("without git, SOURCE_DATE_EPOCH is needed")
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return src, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	src.time = time.Unix(seconds, 0).UTC()
	return src, nil
}

// release is what has been built so far.
type release struct {
	src   source
	dir   string
	linux []binary
}

func (r *release) write(name string, text []byte) error {
	fmt.Printf("%12d %s\n", len(text), name)
	return os.WriteFile(filepath.Join(r.dir, name), text, 0o644) //nolint:gosec // is published
}

// binaries builds the binaries, and for each an archive and a bill of
// materials.
func (r *release) binaries(ctx context.Context) error {
	for _, t := range targets {
		text, err := build(ctx, r.src, t.os, t.arch, mainPackage)
		if err != nil {
			return err
		}
		if t.os == "linux" {
			r.linux = append(r.linux, binary{t.arch, text})
		}
		name := fmt.Sprintf("spekeasy_%s_%s_%s", r.src.version, t.os, t.arch)
		bill, err := writeSBOM(r.src, name, text)
		if err != nil {
			return err
		}
		if err := r.write(name+".cdx.json", bill); err != nil {
			return err
		}
		files := []packed{{"spekeasy", 0o755, text}}
		for _, path := range []string{"LICENSE", "README.md", "CHANGELOG.md", "examples/config.yaml", "deploy/systemd/spekeasy.service"} {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			files = append(files, packed{filepath.Base(path), 0o644, text})
		}
		archive, err := pack(name, files, r.src.time)
		if err != nil {
			return err
		}
		if err := r.write(name+".tar.gz", archive); err != nil {
			return err
		}
	}
	return nil
}

const mainPackage = "./cmd/spekeasy"

// build builds one static binary. What it contains depends on the source, the
// compiler and the version alone.
func build(ctx context.Context, src source, goos, arch, pkg string, flags ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "spekeasy-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "spekeasy")
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w -buildid= -X main.version=" + src.version, "-o", path}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+arch, "GOFLAGS=-mod=readonly", "GOAMD64=v1", "GOARM64=v8.0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("build %s for %s/%s: %w", pkg, goos, arch, err)
	}
	return os.ReadFile(path)
}

// packed is a file of an archive.
type packed struct {
	name string
	mode int64
	text []byte
}

// pack returns a .tar.gz with the files under a directory.
func pack(dir string, files []packed, t time.Time) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + f.name, Mode: f.mode, Size: int64(len(f.text)), ModTime: t, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (r *release) image(context.Context) error {
	var text bytes.Buffer
	digest, err := writeImage(&text, r.src, r.linux)
	if err != nil {
		return err
	}
	fmt.Println("image", digest)
	return r.write(fmt.Sprintf("spekeasy_%s_image.tar", r.src.version), text.Bytes())
}

const chartDir = "deploy/helm/spekeasy"

// chart packs the Helm chart under the version that is released. Chart
// versions are semantic ones without the v.
func (r *release) chart(context.Context) error {
	number := strings.TrimPrefix(r.src.version, "v")
	if strings.Count(strings.SplitN(number, "-", 2)[0], ".") != 2 {
		number = "0.0.0-g" + number // a commit that has no version yet; digits alone must not begin with 0
	}
	var files []packed
	tree := os.DirFS(chartDir)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(tree, name)
		if name == "Chart.yaml" {
			text = bytes.Replace(text, []byte("\nversion: 0.0.0\nappVersion: devel\n"), fmt.Appendf(nil, "\nversion: %s\nappVersion: %q\n", number, r.src.version), 1)
		}
		files = append(files, packed{name, 0o644, text})
		return err
	})
	if err != nil {
		return err
	}
	// Helm wants the chart's own file first.
	slices.SortStableFunc(files, func(a, b packed) int {
		return strings.Compare(strings.TrimPrefix(a.name, "Chart.yaml"), strings.TrimPrefix(b.name, "Chart.yaml"))
	})
	text, err := pack("spekeasy", files, r.src.time)
	if err != nil {
		return err
	}
	return r.write(fmt.Sprintf("spekeasy-chart_%s.tgz", number), text)
}

// packages makes .deb and .rpm files with nfpm, which lives in a module of its
// own with its many dependencies.
func (r *release) packages(ctx context.Context) error {
	for _, b := range r.linux {
		dir, err := os.MkdirTemp("", "spekeasy-release-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		path := filepath.Join(dir, "spekeasy")
		if err := os.WriteFile(path, b.text, 0o755); err != nil { //nolint:gosec // an executable
			return err
		}
		to, err := filepath.Abs(r.dir)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "-C", "deploy/tools", "run", "./packages",
			"-binary", path, "-arch", b.arch, "-version", r.src.version, "-time", strconv.FormatInt(r.src.time.Unix(), 10), "-out", to)
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("packages for %s: %w", b.arch, err)
		}
	}
	return nil
}

// checksums writes SHA256SUMS, as sha256sum -c reads it.
func (r *release) checksums(context.Context) error {
	entries, err := os.ReadDir(r.dir) // sorted
	if err != nil {
		return err
	}
	var sums bytes.Buffer
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(r.dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(text), e.Name())
	}
	return r.write("SHA256SUMS", sums.Bytes())
}
