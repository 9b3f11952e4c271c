package main

import (
	"archive/zip"
	"bytes"
	"io"
	"runtime"
	"testing"
)

// The package is what Lambda's own runtimes start: one executable, bootstrap.
func TestFunctionPackage(t *testing.T) {
	binary := bytes.Repeat([]byte("program"), 1000)
	first, err := packFunction(binary, testSource.time)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := packFunction(binary, testSource.time); err != nil || !bytes.Equal(first, second) {
		t.Errorf("two packages differ, %v", err)
	}
	z, err := zip.NewReader(bytes.NewReader(first), int64(len(first)))
	if err != nil || len(z.File) != 1 {
		t.Fatalf("%v, %v", z, err)
	}
	f := z.File[0]
	if f.Name != "bootstrap" || f.Mode() != 0o755 {
		t.Errorf("%s %v", f.Name, f.Mode())
	}
	r, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || !bytes.Equal(text, binary) {
		t.Errorf("another content, %v", err)
	}
}

func TestFunctionIsSmall(t *testing.T) {
	t.Chdir("../..")
	text, err := build(t.Context(), testSource, "linux", runtime.GOARCH, "./cmd/spekeasy-lambda", "-tags", "lambda.norpc")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("v1.2.3")) {
		t.Error("it does not know its version")
	}
	packed, err := packFunction(text, testSource.time)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, packed %d", len(text), len(packed))
}
