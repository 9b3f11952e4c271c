package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var testSource = source{version: "v1.2.3", commit: "0123456789abcdef", time: time.Unix(1700000000, 0)}

// built is this machine's binary, from two builds that must agree.
func built(t *testing.T) []byte {
	t.Helper()
	t.Chdir("../..")
	first, err := build(t.Context(), testSource, "linux", runtime.GOARCH, mainPackage)
	if err != nil {
		t.Fatal(err)
	}
	second, err := build(t.Context(), testSource, "linux", runtime.GOARCH, mainPackage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("two builds differ")
	}
	if n := len(first); n > 40<<20 {
		t.Errorf("%d bytes, more than 40 MB", n)
	}
	return first
}

// unpack returns the files of a tar, in order.
func unpack(t *testing.T, r io.Reader) (headers []*tar.Header, texts map[string][]byte) {
	t.Helper()
	texts = make(map[string][]byte)
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return headers, texts
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		headers, texts[h.Name] = append(headers, h), text
	}
}

// follow reads the blob that a descriptor points to and holds its digest.
func follow(t *testing.T, files map[string][]byte, v any, into any) {
	t.Helper()
	d := v.(map[string]any)
	digest := d["digest"].(string)
	text, ok := files["blobs/sha256/"+strings.TrimPrefix(digest, "sha256:")]
	if !ok || digestOf(text) != digest || float64(len(text)) != d["size"] {
		t.Fatalf("blob %v: there %t", d, ok)
	}
	if b, ok := into.(*[]byte); ok {
		*b = text
		return
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// The image is what the OCI image specification says, the same bytes each
// time, and the server in it runs as nobody with nothing but its own files.
func TestImage(t *testing.T) {
	text := built(t)
	binaries := []binary{{runtime.GOARCH, text}, {"other", []byte("another")}}
	var first, second bytes.Buffer
	digest, err := writeImage(&first, testSource, binaries)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := writeImage(&second, testSource, binaries); err != nil || again != digest || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Errorf("the second image is %s, %v; the first %s", again, err, digest)
	}

	_, files := unpack(t, &first)
	if string(files["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout: %s", files["oci-layout"])
	}
	var top, index, manifest, settings map[string]any
	if err := json.Unmarshal(files["index.json"], &top); err != nil {
		t.Fatal(err)
	}
	named := top["manifests"].([]any)[0].(map[string]any)
	if named["digest"] != digest || named["annotations"].(map[string]any)["org.opencontainers.image.ref.name"] != "v1.2.3" {
		t.Errorf("index.json: %s", files["index.json"])
	}
	follow(t, files, named, &index)
	images := index["manifests"].([]any)
	if len(images) != 2 || images[0].(map[string]any)["platform"].(map[string]any)["architecture"] != runtime.GOARCH {
		t.Fatalf("index: %v", index)
	}
	follow(t, files, images[0], &manifest)
	follow(t, files, manifest["config"], &settings)
	var layer []byte
	follow(t, files, manifest["layers"].([]any)[0], &layer)
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if ids := settings["rootfs"].(map[string]any)["diff_ids"].([]any); len(ids) != 1 || ids[0] != digestOf(plain) {
		t.Errorf("diff_ids %v", ids)
	}
	c := settings["config"].(map[string]any)
	if c["User"] != "65532:65532" || settings["created"] != "2023-11-14T22:13:20Z" || settings["os"] != "linux" {
		t.Errorf("config %v", settings)
	}
	runImage(t, plain)
}

// runImage unpacks a root file system and serves from it.
func runImage(t *testing.T, rootfs []byte) {
	t.Helper()
	root := t.TempDir()
	headers, texts := unpack(t, bytes.NewReader(rootfs))
	var names []string
	for _, h := range headers {
		names = append(names, "/"+strings.TrimSuffix(h.Name, "/"))
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, texts[h.Name], os.FileMode(h.Mode)); err != nil { //nolint:gosec // a mode
			t.Fatal(err)
		}
		if h.Mode&0o022 != 0 || h.Uid != 0 && "/"+h.Name != imageHome+"/" {
			t.Errorf("%s has mode %o and owner %d", h.Name, h.Mode, h.Uid)
		}
	}
	want := []string{"/etc", "/etc/group", "/etc/passwd", "/etc/spekeasy", "/etc/ssl", "/etc/ssl/certs", imageRoots, imageBinary, "/var", "/var/lib", imageHome}
	if !slices.Equal(names, want) {
		t.Errorf("files %q", names)
	}
	roots := x509.NewCertPool()
	n := 0
	for rest := texts[imageRoots[1:]]; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !cert.IsCA {
			t.Fatalf("certificate %d: %v", n, err)
		}
		roots.AddCert(cert)
	}
	if n < 100 {
		t.Errorf("only %d certificate authorities", n)
	}

	cmd := func(args ...string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		t.Cleanup(cancel)
		cmd := exec.CommandContext(ctx, filepath.Join(root, imageBinary), args...)
		cmd.Env, cmd.Dir = []string{}, filepath.Join(root, imageHome)
		if os.Getuid() == 0 { // only root may change the root; anybody else runs the same file from outside
			cmd.Path, cmd.Dir = imageBinary, imageHome
			cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
		}
		return cmd
	}
	if os.Getuid() == 0 {
		if err := os.Chown(filepath.Join(root, imageHome), imageUser, imageUser); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := cmd("version").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "spekeasy v1.2.3") {
		t.Fatalf("version: %s, %v", out, err)
	}
	serve := cmd("serve", "--dev", "--listen", "127.0.0.1:0", "--data", ".")
	out, err := serve.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	serve.Stderr = &log
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("ready http://"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready http://" {
		t.Errorf("serve said %q, %v", line, err)
	}
	if err := serve.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := serve.Wait(); err != nil {
		t.Errorf("serve: %v\n%s", err, &log)
	}
}

// The Dockerfile makes the image that we assemble.
func TestDockerfileSaysTheSame(t *testing.T) {
	text, err := os.ReadFile("../../deploy/oci/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, last, found := strings.Cut(string(text), "\nFROM scratch\n")
	if !found {
		t.Fatal("the last stage is not made from nothing")
	}
	for _, want := range []string{
		fmt.Sprintf("USER %d:%d", imageUser, imageUser), "WORKDIR " + imageHome, "EXPOSE " + imagePort + " " + imageAdmin,
		`VOLUME ["` + imageHome + `"]`, "STOPSIGNAL SIGTERM", `ENTRYPOINT ["` + imageBinary + `"]`, `CMD ["serve", "--config", "` + imageConfig + `"]`,
		"COPY --from=build /rootfs" + imageBinary + " " + imageBinary, "COPY --from=build /rootfs/etc /etc",
		fmt.Sprintf("COPY --from=build --chown=%d:%d /rootfs%s %s", imageUser, imageUser, imageHome, imageHome),
	} {
		if !slices.Contains(strings.Split(last, "\n"), want) {
			t.Errorf("no line %s", want)
		}
	}
}

// The bill of materials has the compiler's library and every module that the
// binary says it has, under its exact version.
func TestSBOM(t *testing.T) {
	t.Chdir("../..")
	text, err := build(t.Context(), testSource, "linux", runtime.GOARCH, mainPackage)
	if err != nil {
		t.Fatal(err)
	}
	out, err := writeSBOM(testSource, "spekeasy", text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := writeSBOM(testSource, "spekeasy", text)
	if err != nil || !bytes.Equal(out, again) {
		t.Errorf("the second one differs, %v", err)
	}
	var b bom
	if err := json.Unmarshal(out, &b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.SpecVersion != "1.6" || b.Metadata.Component.Version != "v1.2.3" ||
		b.Metadata.Component.Hashes[0].Content != strings.TrimPrefix(digestOf(text), "sha256:") {
		t.Errorf("metadata %+v", b.Metadata)
	}
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}{{end}}{{end}}", "./cmd/spekeasy").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"pkg:golang/std@" + strings.TrimPrefix(runtime.Version(), "go"): true}
	for line := range strings.Lines(string(list)) {
		if line = strings.TrimSpace(line); line != "" {
			want["pkg:golang/"+line] = true
		}
	}
	refs := map[string]bool{}
	for _, c := range b.Components {
		if refs[c.Ref] {
			t.Errorf("%s twice", c.Ref)
		}
		refs[c.Ref] = true
		if !want[c.PURL] {
			t.Errorf("%s is not among the modules", c.PURL)
		}
	}
	if len(refs) != len(want) || len(refs) < 20 {
		t.Errorf("%d components, want %d", len(refs), len(want))
	}
	for _, d := range b.Dependencies {
		for _, ref := range d.DependsOn {
			if !refs[ref] {
				t.Errorf("%s depends on %s, which is not there", d.Ref, ref)
			}
		}
	}
}
