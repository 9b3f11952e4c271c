package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// maxFaults is how many faults of a file are told at once.
const maxFaults = 20

// decode reads a file's tree and checks it, and returns all faults.
func decode(root ast.Node) (*Config, error) {
	lines := make(map[string]int)
	index(root, "", lines)
	var faults []error
	var without []string // members that are at fault
	for {
		c := Default()
		c.lines = lines
		err := yaml.NodeToValue(root, c, yaml.Strict())
		if err == nil {
			return c, inOrder(append(faults, c.checkBeside(without)...))
		}
		at, fault := reword(err, root)
		faults = append(faults, fault)
		name, ok := cut(root, "", at)
		if !ok || strings.HasSuffix(name, "]") || len(faults) == maxFaults { // without an item, others have another number
			return c, inOrder(faults)
		}
		without = append(without, name)
	}
}

// checkBeside returns the faults that [Config.Check] finds, but for those that
// follow from the absence of members.
func (c *Config) checkBeside(without []string) (faults []error) {
	for _, fault := range faultsOf(c.Check()) {
		name, _ := c.find(fault.Error())
		follows := func(absent string) bool { return strings.HasPrefix(absent, name) }
		if !slices.ContainsFunc(without, follows) {
			faults = append(faults, fault)
		}
	}
	return faultsOf(c.Locate(errors.Join(faults...)))
}

// inOrder joins faults in the order of their lines.
func inOrder(faults []error) error {
	line := func(fault error) (n int) {
		_, _ = fmt.Sscanf(fault.Error(), "line %d:", &n) // 0 without one
		return n
	}
	slices.SortStableFunc(faults, func(a, b error) int { return line(a) - line(b) })
	return errors.Join(faults...)
}

// cut takes the member or item at a place out of the tree, so that the faults
// behind it come to light, and returns its name.
func cut(n ast.Node, path string, at place) (name string, ok bool) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for i, v := range n.Values {
			name := below(path, v.Key.GetToken().Value)
			if inner, ok := cut(v.Value, name, at); ok {
				return inner, true
			}
			if at.is(v.Key) || at.is(v.Value) {
				n.Values = append(n.Values[:i:i], n.Values[i+1:]...)
				return name, true
			}
		}
	case *ast.SequenceNode:
		for i, v := range n.Values {
			name := fmt.Sprintf("%s[%d]", path, i)
			if inner, ok := cut(v, name, at); ok {
				return inner, true
			}
			if at.is(v) {
				n.Values = append(n.Values[:i:i], n.Values[i+1:]...)
				return name, true
			}
		}
	}
	return "", false
}

// below is the full name of a member.
func below(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// place is where a node begins in the file.
type place struct{ line, column int }

func placeOf(n ast.Node) place {
	p := n.GetToken().Position
	return place{p.Line, p.Column}
}

func (p place) is(n ast.Node) bool { return placeOf(n) == p }

// index notes the line of every member and item, by names such as
// tenants[0].credentials[1].name.
func index(n ast.Node, path string, lines map[string]int) {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			name := below(path, v.Key.GetToken().Value)
			lines[name] = placeOf(v.Key).line
			index(v.Value, name, lines)
		}
	case *ast.SequenceNode:
		for i, v := range n.Values {
			name := fmt.Sprintf("%s[%d]", path, i)
			lines[name] = placeOf(v).line
			index(v, name, lines)
		}
	}
}

// Locate adds the line of the file to each error that begins with the name of
// a member, as those of [Config.Check] do, or with that of a tenant.
func (c *Config) Locate(err error) error {
	faults := faultsOf(err)
	for i, fault := range faults {
		if _, line := c.find(fault.Error()); line > 0 {
			faults[i] = fmt.Errorf("line %d: %w", line, fault)
		}
	}
	return errors.Join(faults...)
}

// faultsOf returns the errors that err joins, or err alone.
func faultsOf(err error) []error {
	if err == nil {
		return nil
	}
	if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // only if it is one itself
		return all.Unwrap()
	}
	return []error{err}
}

// find returns the innermost member that a text begins with, and its line; 0
// if the file does not have it.
func (c *Config) find(text string) (path string, line int) {
	for {
		part, rest, ok := strings.Cut(text, ": ")
		if !ok {
			return path, line
		}
		part, _, _ = strings.Cut(part, " (") // the name of what was counted
		if kind, name, ok := strings.Cut(part, " "); ok {
			part = c.counted(path, kind, name)
		}
		for name := range strings.SplitSeq(part, ".") {
			name = below(path, name)
			if c.lines[name] == 0 {
				return path, line
			}
			path, line = name, c.lines[name]
		}
		text = rest
	}
}

// counted turns "tenant acme" and, below it, "credential c" into the names of
// their members.
func (c *Config) counted(path, kind, name string) string {
	if quoted, err := strconv.Unquote(name); err == nil {
		name = quoted
	}
	for i := range c.Tenants {
		t := &c.Tenants[i]
		here := fmt.Sprintf("tenants[%d]", i)
		if kind == "tenant" && t.ID == name {
			return here
		}
		for j := range t.Credentials {
			if kind == "credential" && path == here && t.Credentials[j].Name == name {
				return fmt.Sprintf("credentials[%d]", j)
			}
		}
	}
	return kind
}
