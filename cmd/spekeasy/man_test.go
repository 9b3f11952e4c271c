//go:build man

package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMan(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/man", RequireExplicitExec: true, RequireUniqueNames: true})
}
