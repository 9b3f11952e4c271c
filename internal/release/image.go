package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// What is in the image, and how it runs. deploy/oci/Dockerfile says the same,
// which a test holds.
const (
	imageUser    = 65532 // nobody's number on common systems, as distroless images have it
	imageHome    = "/var/lib/spekeasy"
	imageConfig  = "/etc/spekeasy/config.yaml"
	imageBinary  = "/spekeasy"
	imageRoots   = "/etc/ssl/certs/ca-certificates.crt"
	imagePort    = "8080/tcp"
	imageAdmin   = "8081/tcp"
	mediaIndex   = "application/vnd.oci.image.index.v1+json"
	mediaImage   = "application/vnd.oci.image.manifest.v1+json"
	mediaConfig  = "application/vnd.oci.image.config.v1+json"
	mediaLayer   = "application/vnd.oci.image.layer.v1.tar+gzip"
	licenseSPDX  = "Apache-2.0"
	imageTitle   = "spekeasy"
	imageSummary = "DRM key server and key gateway for SPEKE"
)

// source is where what is released comes from.
type source struct {
	version string
	commit  string    // "" if unknown
	time    time.Time // of the commit; the time of everything that is made
}

// binary is a static executable for Linux.
type binary struct {
	arch string // amd64, arm64
	text []byte
}

// rootfs returns the files of the image as an uncompressed tar: the binary,
// certificate authorities, names for the user, and a place for data. There is
// no shell, no package manager and nothing that could be written to.
func rootfs(b binary, t time.Time) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	dir := func(path string, mode int64, owner int) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path[1:] + "/", Mode: mode, Uid: owner, Gid: owner, ModTime: t, Format: tar.FormatUSTAR})
	}
	file := func(path string, mode int64, text []byte) error {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path[1:], Mode: mode, Size: int64(len(text)), ModTime: t, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := w.Write(text)
		return err
	}
	for _, step := range []func() error{
		func() error { return dir("/etc", 0o755, 0) },
		func() error {
			return file("/etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nspekeasy:x:%d:\n", imageUser))
		},
		func() error {
			return file("/etc/passwd", 0o644, fmt.Appendf(nil, "root:x:0:0:root:/:/none\nspekeasy:x:%d:%d:spekeasy:%s:/none\n", imageUser, imageUser, imageHome))
		},
		func() error { return dir("/etc/spekeasy", 0o755, 0) },
		func() error { return dir("/etc/ssl", 0o755, 0) },
		func() error { return dir("/etc/ssl/certs", 0o755, 0) },
		func() error { return file(imageRoots, 0o644, roots()) },
		func() error { return file(imageBinary, 0o755, b.text) },
		func() error { return dir("/var", 0o755, 0) },
		func() error { return dir("/var/lib", 0o755, 0) },
		func() error { return dir(imageHome, 0o700, imageUser) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), w.Close()
}

// roots returns the certificate authorities of Mozilla's programme as PEM.
// They come with a module whose version go.mod names, so that an image does
// not depend on the machine it was made on.
func roots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue // those that are trusted in part only need code to say so
		}
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes it
	}
	return out.Bytes()
}

// descriptor points to a blob of the image.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// layout is an OCI image layout (image-spec 1.1) that is being put together.
type layout struct {
	w    *tar.Writer
	time time.Time
	have map[string]bool // blobs by digest
}

// writeImage writes an image of the binaries as the tar of an OCI layout,
// which `docker load`, `podman load`, `skopeo copy oci-archive:` and `crane
// push` take. The same binaries at the same time give the same bytes.
func writeImage(out io.Writer, src source, binaries []binary) (digest string, err error) {
	l := &layout{w: tar.NewWriter(out), time: src.time, have: make(map[string]bool)}
	if err := l.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return "", err
	}
	var images []descriptor
	for _, b := range binaries {
		d, err := l.image(src, b)
		if err != nil {
			return "", fmt.Errorf("image for %s: %w", b.arch, err)
		}
		images = append(images, d)
	}
	index, err := l.json(mediaIndex, map[string]any{
		"schemaVersion": 2, "mediaType": mediaIndex, "manifests": images, "annotations": annotations(src),
	})
	if err != nil {
		return "", err
	}
	index.Annotations = map[string]string{
		"org.opencontainers.image.ref.name": src.version,
		"io.containerd.image.name":          imageTitle + ":" + src.version, // what `docker load` calls it
	}
	top, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaIndex, "manifests": []descriptor{index}})
	if err != nil {
		return "", err
	}
	if err := l.file("index.json", top); err != nil {
		return "", err
	}
	return index.Digest, l.w.Close()
}

// image adds the image for one architecture.
func (l *layout) image(src source, b binary) (descriptor, error) {
	files, err := rootfs(b, src.time)
	if err != nil {
		return descriptor{}, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return descriptor{}, err
	}
	if _, err := z.Write(files); err != nil {
		return descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return descriptor{}, err
	}
	layer, err := l.blob(mediaLayer, packed.Bytes())
	if err != nil {
		return descriptor{}, err
	}
	settings, err := l.json(mediaConfig, map[string]any{
		"architecture": b.arch, "os": "linux", "created": src.time.UTC().Format(time.RFC3339),
		"config": map[string]any{
			"User":         fmt.Sprintf("%d:%d", imageUser, imageUser),
			"Entrypoint":   []string{imageBinary},
			"Cmd":          []string{"serve", "--config", imageConfig},
			"WorkingDir":   imageHome,
			"ExposedPorts": map[string]any{imagePort: struct{}{}, imageAdmin: struct{}{}},
			"Volumes":      map[string]any{imageHome: struct{}{}},
			"StopSignal":   "SIGTERM",
			"Labels":       annotations(src),
		},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{digestOf(files)}},
		"history": []any{map[string]any{"created": src.time.UTC().Format(time.RFC3339), "created_by": "spekeasy release"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	manifest, err := l.json(mediaImage, map[string]any{
		"schemaVersion": 2, "mediaType": mediaImage, "config": settings, "layers": []descriptor{layer}, "annotations": annotations(src),
	})
	manifest.Platform = &platform{Architecture: b.arch, OS: "linux"}
	return manifest, err
}

func annotations(src source) map[string]string {
	a := map[string]string{
		"org.opencontainers.image.title": imageTitle, "org.opencontainers.image.description": imageSummary,
		"org.opencontainers.image.version": src.version, "org.opencontainers.image.licenses": licenseSPDX,
		"org.opencontainers.image.created": src.time.UTC().Format(time.RFC3339),
	}
	if src.commit != "" {
		a["org.opencontainers.image.revision"] = src.commit
	}
	return a
}

func (l *layout) json(media string, v any) (descriptor, error) {
	text, err := json.Marshal(v) // maps in the order of their keys
	if err != nil {
		return descriptor{}, err
	}
	return l.blob(media, text)
}

func (l *layout) blob(media string, text []byte) (descriptor, error) {
	digest := digestOf(text)
	d := descriptor{MediaType: media, Digest: digest, Size: int64(len(text))}
	if l.have[digest] {
		return d, nil
	}
	l.have[digest] = true
	return d, l.file("blobs/sha256/"+digest[len("sha256:"):], text)
}

func (l *layout) file(name string, text []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: l.time, Format: tar.FormatUSTAR}
	if err := l.w.WriteHeader(h); err != nil {
		return err
	}
	_, err := l.w.Write(text)
	return err
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
