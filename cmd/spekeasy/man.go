//go:build man

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// forPackagers are commands for those who package the program. What writes
// manual pages takes a while to compile, and nobody else needs it.
func forPackagers(e *env) []*cobra.Command { return []*cobra.Command{newMan(e)} }

// newMan writes manual pages.
func newMan(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write a manual page for each command",
		Long: "Write a manual page in section 1 for each command into a directory, which is made if need be.\n" +
			"SOURCE_DATE_EPOCH gives their date.",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // manual pages are for everybody
				return err
			}
			header := &doc.GenManHeader{Section: "1", Source: "spekeasy " + version, Manual: "spekeasy"}
			if err := doc.GenManTree(cmd.Root(), header, args[0]); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			pages, err := os.ReadDir(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "%d manual pages in %s\n", len(pages), args[0])
			return err
		},
	}
}
