package config

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load reads a file, puts in what ${NAME}, ${file:PATH} and whatever else
// getenv knows stand for, and
// checks the result as a whole. Unknown members are refused. The error is all
// faults, a line for each, with file and line; it never quotes a secret. A path
// env:NAME is no file but the text in an environment variable, for containers
// that are given no files.
func Load(path string, getenv func(string) (string, bool)) (*Config, error) {
	text, err := read(path, getenv)
	if err != nil {
		return nil, err
	}
	c, err := Parse(text, getenv)
	if err != nil {
		faults := faultsOf(err)
		for i, fault := range faults {
			faults[i] = fmt.Errorf("%s: %w", path, fault)
		}
		return nil, errors.Join(faults...)
	}
	return c, nil
}

func read(path string, getenv func(string) (string, bool)) ([]byte, error) {
	name, ok := strings.CutPrefix(path, "env:")
	if !ok {
		return os.ReadFile(path)
	}
	text, ok := getenv(name)
	if !ok {
		return nil, fmt.Errorf("environment variable %s is not set", name)
	}
	return []byte(text), nil
}

// Parse is [Load] for text at hand.
func Parse(text []byte, getenv func(string) (string, bool)) (*Config, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		_, fault := reword(err, nil)
		return nil, fault
	}
	c := Default()
	if len(file.Docs) > 1 {
		return nil, errors.New("more than one YAML document")
	}
	if len(file.Docs) == 1 && file.Docs[0].Body != nil {
		x := expander{getenv: getenv}
		ast.Walk(&x, file.Docs[0].Body)
		if x.faults != nil {
			return nil, errors.Join(x.faults...)
		}
		return decode(file.Docs[0].Body)
	}
	return c, c.Check()
}

// reword rewords an error of the YAML library so that it has the line and
// no part of the file, which may hold secrets. What a type says of its own text,
// such as of a duration, comes without a line, which is found in root.
func reword(err error, root ast.Node) (place, error) {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		p := at.GetToken().Position
		return place{p.Line, p.Column}, fmt.Errorf("line %d: %s", p.Line, plainWords(at.GetMessage()))
	}
	text := yaml.FormatError(err, false, false)
	if root == nil {
		return place{}, errors.New(text)
	}
	fails := func() bool {
		err := yaml.NodeToValue(root, Default(), yaml.Strict())
		return err != nil && yaml.FormatError(err, false, false) == text
	}
	n := narrow(root, fails)
	return placeOf(n), fmt.Errorf("line %d: %s", placeOf(n).line, text)
}

// plainWords says what is wanted in place of what Go makes of it.
func plainWords(message string) string {
	what, wanted, ok := strings.Cut(message, " of type ")
	given, unmarshal := strings.CutPrefix(what, "cannot unmarshal ")
	if !ok || !unmarshal {
		return message
	}
	given, _, _ = strings.Cut(given, " ")
	return inYAML(wanted) + " is wanted here, not " + inYAML(given)
}

// inYAML is what a Go type is in a file. Our own types are texts.
func inYAML(name string) string {
	switch {
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case strings.HasPrefix(name, "map"):
		return "a mapping"
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"), strings.HasPrefix(name, "float"):
		return "a number"
	case name == "bool":
		return "true or false"
	}
	return "a text"
}

// narrow finds the innermost node that fails alone, by taking its neighbours
// away.
func narrow(n ast.Node, fails func() bool) ast.Node {
	switch n := n.(type) {
	case *ast.MappingNode:
		all := n.Values
		defer func() { n.Values = all }()
		for _, v := range all {
			if n.Values = []*ast.MappingValueNode{v}; fails() {
				return narrow(v.Value, fails)
			}
		}
	case *ast.SequenceNode:
		all := n.Values
		defer func() { n.Values = all }()
		for _, v := range all {
			if n.Values = []ast.Node{v}; fails() {
				return narrow(v, fails)
			}
		}
	}
	return n
}

// expander replaces references in string values.
type expander struct {
	getenv func(string) (string, bool)
	faults []error
}

// Visit implements [ast.Visitor].
func (x *expander) Visit(n ast.Node) ast.Visitor {
	s, ok := n.(*ast.StringNode)
	if !ok || !strings.Contains(s.Value, "$") {
		return x
	}
	value, err := x.expand(s.Value)
	if err != nil {
		x.faults = append(x.faults, fmt.Errorf("line %d: %w", placeOf(s).line, err))
		return x
	}
	s.Value = value
	return x
}

// expand replaces ${NAME} by the environment variable, ${file:PATH} by the
// file's content without the last line end, and $${ by ${.
func (x *expander) expand(s string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "${")
		if !found {
			out.WriteString(s)
			return out.String(), nil
		}
		if strings.HasSuffix(before, "$") {
			out.WriteString(before[:len(before)-1] + "${")
			s = rest
			continue
		}
		out.WriteString(before)
		name, after, found := strings.Cut(rest, "}")
		if !found {
			return "", errors.New("${ without }")
		}
		value, err := x.lookup(name)
		if err != nil {
			return "", err
		}
		out.WriteString(value)
		s = after
	}
}

func (x *expander) lookup(name string) (string, error) {
	if path, ok := strings.CutPrefix(name, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
	}
	value, ok := x.getenv(name)
	switch {
	case ok:
		return value, nil
	case strings.Contains(name, ":"):
		return "", fmt.Errorf("secret %s is not to be had", name)
	}
	return "", fmt.Errorf("environment variable %s is not set", name)
}
