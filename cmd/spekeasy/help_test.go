package main

import (
	"io"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"spekeasy/internal/config"
)

// helpRoot is the root as Execute completes it, with help and completion.
func helpRoot() *cobra.Command {
	root := newRoot(&env{lookup: func(string) (string, bool) { return "", false }, stdout: io.Discard, stderr: io.Discard})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// each visits all commands that we wrote.
func each(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			each(sub, visit)
		}
	}
}

// namelessValue finds a flag whose value has its type's name instead of one
// that says what it is.
var namelessValue = regexp.MustCompile(`(?m)^ +--\S+ (string|strings|stringArray|int|uint)\b.*`)

func TestHelp(t *testing.T) {
	root := helpRoot()
	for _, cmd := range root.Commands() {
		if cmd.GroupID == "" {
			t.Errorf("%s is in no group", cmd.Name())
		}
	}
	commands := 0
	each(root, func(cmd *cobra.Command) {
		commands++
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: short help %q", cmd.CommandPath(), cmd.Short)
		}
		for _, flag := range namelessValue.FindAllString(cmd.LocalFlags().FlagUsages(), -1) {
			t.Errorf("%s: the value has no name:%s", cmd.CommandPath(), flag)
		}
	})
	if commands < 50 {
		t.Errorf("only %d commands", commands)
	}
}

// TestExamples: the examples of the help are commands with arguments and flags
// that there are.
func TestExamples(t *testing.T) {
	examples := 0
	each(helpRoot(), func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			examples++
			line, _, _ = strings.Cut(strings.TrimRight(line, "\n"), "  #")
			line, _, _ = strings.Cut(line, " > ")
			args, ok := strings.CutPrefix(line, "  spekeasy ")
			if !ok {
				t.Errorf("%s: example %q", cmd.CommandPath(), line)
				continue
			}
			args = strings.ReplaceAll(args, `"X-Key: secret"`, "X-Key:secret") // one argument to a shell
			if err := parses(helpRoot(), strings.Fields(args)); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
	})
	if examples < 40 {
		t.Errorf("only %d examples", examples)
	}
}

// parses does what Execute does before it runs a command.
func parses(root *cobra.Command, args []string) error {
	cmd, args, err := root.Find(args)
	if err != nil {
		return err
	}
	for _, check := range []func() error{
		func() error { return cmd.ParseFlags(args) },
		func() error { return cmd.ValidateArgs(cmd.Flags().Args()) },
		cmd.ValidateRequiredFlags,
		cmd.ValidateFlagGroups,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// TestDefaultAddresses: a simulator starts beside a server, each as it comes.
func TestDefaultAddresses(t *testing.T) {
	simulate, _, err := helpRoot().Find([]string{"simulate"})
	if err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	main, err := net.ResolveTCPAddr("tcp", c.Listen)
	if err != nil {
		t.Fatal(err)
	}
	admin, _ := c.AdminAddress(main)
	if listen := simulate.Flag("listen").DefValue; listen == c.Listen || listen == admin {
		t.Errorf("simulate and serve both listen on %s", listen)
	}
}
