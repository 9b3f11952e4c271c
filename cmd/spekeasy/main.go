// Command spekeasy is a DRM key server and key gateway for SPEKE: the server,
// the tools of its operator, and an encryptor to try them with.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the release build; a build from source has the revision.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// env is what commands take from the world around them.
type env struct {
	lookup func(string) (string, bool)
	stdout io.Writer
	stderr io.Writer
}

// run is main without the process: tests call it.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	root := newRoot(&env{lookup: lookup, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(stderr, "spekeasy:", err)
		}
		return 1
	}
	return 0
}

// errReported ends a command that has already said what went wrong.
var errReported = errors.New("failed")

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "spekeasy",
		Short: "DRM key server and key gateway for SPEKE",
		Long: "spekeasy answers the key requests of AWS Elemental MediaConvert, MediaPackage and\n" +
			"on-premises encoders (SPEKE 1.0, 2.0, 2.1) with content keys and DRM signaling.\n\n" +
			"Try it:  spekeasy demo",
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
	}
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	root.AddCommand(newInit(e), newServe(e), newDemo(e), newRequest(e), newKID(e), newSimulate(e), newAudit(e), newKeys(e),
		newTenant(e), newCredential(e), newContent(e), newKey(e), newUpstream(e), newAdmin(e), newWebhooks(e), newBackup(e), newRestore(e), newMigrate(e), newDoctor(e),
		newSupportBundle(e), newConfig(e), newToken(e), newMan(e), newVersion(e))
	return root
}

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(e.stdout, "spekeasy", fullVersion())
			return err
		},
	}
}

// fullVersion is the version with the revision that it was built from, when
// the build recorded one.
func fullVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return version + " (" + s.Value[:12] + ")"
		}
	}
	return version
}

// userAgent names this key provider in answers (S2-HTTP-11).
func userAgent() string { return "spekeasy/" + version }
