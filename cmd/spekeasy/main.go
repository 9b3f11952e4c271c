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
	cobra.EnableCommandSorting = false // help lists commands in the order of their use
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
			"on-premises encoders (SPEKE 1.0, 2.0, 2.1) with content keys and DRM signaling. The content\n" +
			"keys are its own or, where it is the gateway, those of an upstream: a vendor's key service.",
		Example: "  spekeasy demo                                      # see it work; it leaves nothing behind\n" +
			"  spekeasy serve --dev --data dev                    # a server to try things with\n" +
			"  spekeasy init keyserver                            # a configuration of your own\n" +
			"  spekeasy serve --config keyserver/spekeasy.yaml",
		SilenceUsage:      true,
		SilenceErrors:     true,
		DisableAutoGenTag: true,
	}
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	addGroup(root, "Run a server:", newDemo(e), newInit(e), newConfig(e), newServe(e))
	addGroup(root, "Test without encryptors and vendors:", newRequest(e), newSimulate(e), newKID(e))
	addGroup(root, "Ask a running server, over its admin API:",
		newTenant(e), newCredential(e), newContent(e), newKey(e), newUpstream(e), newAdmin(e))
	addGroup(root, "Work on the store itself, whether servers run or not:",
		newKeys(e), newToken(e), newWebhooks(e), newBackup(e), newRestore(e), newMigrate(e))
	addGroup(root, "Find out what happened, and what is wrong:", newAudit(e), newDoctor(e), newSupportBundle(e))
	const about = "About this program:"
	addGroup(root, about, append(forPackagers(e), newVersion(e))...)
	root.SetHelpCommandGroupID(about)
	root.SetCompletionCommandGroupID(about)
	return root
}

// addGroup adds commands under a title of their own.
func addGroup(root *cobra.Command, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range cmds {
		c.GroupID = title
	}
	root.AddCommand(cmds...)
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
