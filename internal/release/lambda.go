package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// maxFunction is what a package of the Lambda function may have, in bytes: a
// larger one takes too long to load.
const maxFunction = 15 << 20

// functions writes the packages of the Lambda function for both processors,
// under the names that AWS has for them.
func (r *release) functions(ctx context.Context) error {
	return writeFunctions(ctx, r.src, func(arch string, text []byte) error {
		return r.write(fmt.Sprintf("spekeasy-lambda_%s_%s.zip", r.src.version, arch), text)
	})
}

func writeFunctions(ctx context.Context, src source, write func(arch string, text []byte) error) error {
	for _, a := range []struct{ arch, name string }{{"arm64", "arm64"}, {"amd64", "x86_64"}} {
		text, err := build(ctx, src, "linux", a.arch, "./cmd/spekeasy-lambda", "-tags", "lambda.norpc")
		if err == nil {
			text, err = packFunction(text, src.time)
		}
		if err == nil {
			err = write(a.name, text)
		}
		if err != nil {
			return fmt.Errorf("function for %s: %w", a.name, err)
		}
	}
	return nil
}

// packFunction packs a binary as Lambda takes it.
func packFunction(binary []byte, t time.Time) ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: t}
	h.SetMode(0o755)
	w, err := z.CreateHeader(h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(binary); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if out.Len() > maxFunction {
		return nil, fmt.Errorf("the package has %d bytes, more than %d", out.Len(), maxFunction)
	}
	return out.Bytes(), nil
}

// onlyFunctions writes the packages to a directory and nothing else, for who
// deploys what is being worked on.
func onlyFunctions(ctx context.Context, src source, dir string) error {
	return writeFunctions(ctx, src, func(arch string, text []byte) error {
		path := filepath.Join(dir, "spekeasy-lambda-"+arch+".zip")
		fmt.Printf("%12d %s\n", len(text), path)
		return os.WriteFile(path, text, 0o644) //nolint:gosec // is published
	})
}
