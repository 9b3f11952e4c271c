//go:build !man

package main

import "github.com/spf13/cobra"

func forPackagers(*env) []*cobra.Command { return nil }
