package hcltest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// parameter is one of the template's.
type parameter struct {
	Type          string `yaml:"Type"`
	Description   string `yaml:"Description"`
	Default       any    `yaml:"Default"`
	NoEcho        bool   `yaml:"NoEcho"`
	AllowedValues []any  `yaml:"AllowedValues"`
}

// template returns the parameters and outputs of the CloudFormation template.
func template(t *testing.T) (map[string]parameter, map[string]bool) {
	t.Helper()
	text, err := os.ReadFile("../../aws/template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	section := func(from, to string) []byte {
		_, rest, ok := bytes.Cut(text, []byte("\n"+from+":\n"))
		if !ok {
			t.Fatalf("the template has no %s", from)
		}
		if to != "" {
			rest, _, ok = bytes.Cut(rest, []byte("\n"+to+":\n"))
		}
		if !ok {
			t.Fatalf("the template has no %s after %s", to, from)
		}
		return rest
	}
	var parameters map[string]parameter
	if err := yaml.Unmarshal(section("Parameters", "Mappings"), &parameters); err != nil || len(parameters) < 20 {
		t.Fatal(parameters, err)
	}
	outputs := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^  (\w+):$`).FindAllSubmatch(section("Outputs", ""), -1) {
		outputs[string(m[1])] = true
	}
	return parameters, outputs
}

// module returns the blocks of the module, by type and labels.
func module(t *testing.T) map[string]*hclsyntax.Block {
	t.Helper()
	files, err := filepath.Glob("../*.tf")
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	blocks := make(map[string]*hclsyntax.Block)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if formatted := hclwrite.Format(text); !bytes.Equal(text, formatted) {
			t.Errorf("%s is not formatted:\n%s", file, formatted)
		}
		f, diags := hclparse.NewParser().ParseHCL(text, file)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		for _, b := range f.Body.(*hclsyntax.Body).Blocks {
			blocks[strings.Join(append([]string{b.Type}, b.Labels...), ".")] = b
		}
	}
	return blocks
}

var hump = regexp.MustCompile(`([a-z0-9])([A-Z])`)

func snake(s string) string { return strings.ToLower(hump.ReplaceAllString(s, "${1}_${2}")) }

// references returns what an expression is made from, such as var.name.
func references(e hclsyntax.Expression) string {
	var all []string
	for _, traversal := range e.Variables() {
		var parts []string
		for _, step := range traversal {
			switch s := step.(type) {
			case hcl.TraverseRoot:
				parts = append(parts, s.Name)
			case hcl.TraverseAttr:
				parts = append(parts, s.Name)
			case hcl.TraverseIndex:
				parts = append(parts, s.Key.AsString())
			}
		}
		all = append(all, strings.Join(parts, "."))
	}
	return strings.Join(all, " ")
}

func constant(t *testing.T, b *hclsyntax.Block, name string) cty.Value {
	t.Helper()
	a, ok := b.Body.Attributes[name]
	if !ok {
		return cty.NilVal
	}
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return v
}

func TestModule(t *testing.T) {
	parameters, outputs := template(t)
	blocks := module(t)
	stack := blocks["resource.aws_cloudformation_stack.spekeasy"]
	if stack == nil {
		t.Fatal("there is no stack")
	}
	given := make(map[string]hclsyntax.Expression)
	for _, item := range stack.Body.Attributes["parameters"].Expr.(*hclsyntax.ObjectConsExpr).Items {
		key, diags := item.KeyExpr.Value(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		given[key.AsString()] = item.ValueExpr
	}
	for name, p := range parameters {
		e, ok := given[name]
		if !ok {
			t.Errorf("parameter %s is not given", name)
			continue
		}
		delete(given, name)
		switch name {
		case "CodeBucket", "CodeKey":
			if !strings.HasPrefix(references(e), "aws_s3_object.package.") {
				t.Errorf("%s is %s", name, references(e))
			}
			continue
		}
		v := blocks["variable."+snake(name)]
		if v == nil || references(e) != "var."+snake(name) {
			t.Errorf("%s: variable %v, reference %q", name, v != nil, references(e))
			continue
		}
		if sensitive := constant(t, v, "sensitive"); p.NoEcho != (sensitive == cty.True) {
			t.Errorf("%s: sensitive %v, NoEcho %v", name, sensitive, p.NoEcho)
		}
		if got := constant(t, v, "default"); !sameDefault(p, got) {
			t.Errorf("%s: default %#v, want %v", name, got, p.Default)
		}
		if constant(t, v, "description").AsString() != p.Description {
			t.Errorf("%s: another description", name)
		}
		if p.Type == "String" && (len(p.AllowedValues) > 0) != (len(v.Body.Blocks) > 0) {
			t.Errorf("%s: validation", name)
		}
	}
	for name := range given {
		t.Errorf("the template has no parameter %s", name)
	}
	for name := range outputs {
		b := blocks["output."+snake(name)]
		if b == nil || references(b.Body.Attributes["value"].Expr) != "aws_cloudformation_stack.spekeasy.outputs."+name {
			t.Errorf("output %s", name)
		}
	}
	for key := range blocks {
		kind, name, _ := strings.Cut(key, ".")
		known := kind == "terraform" || kind == "resource" || name == "name" || name == "code_bucket" || name == "package"
		for p := range parameters {
			known = known || kind == "variable" && name == snake(p)
		}
		for o := range outputs {
			known = known || kind == "output" && name == snake(o)
		}
		if !known {
			t.Errorf("%s has nothing to do with the template", key)
		}
	}
}

// sameDefault compares a default of the template with one of the module.
func sameDefault(p parameter, v cty.Value) bool {
	switch {
	case p.Default == nil || v == cty.NilVal:
		return p.Default == nil && v == cty.NilVal
	case p.Type == "CommaDelimitedList":
		return p.Default == "" && v.LengthInt() == 0
	case p.Type == "Number":
		n, _ := v.AsBigFloat().Uint64()
		return p.Default == n
	}
	return v.AsString() == p.Default
}

// Every reference is to something that there is.
func TestReferences(t *testing.T) {
	blocks := module(t)
	for key, b := range blocks {
		for name, a := range b.Body.Attributes {
			for _, ref := range strings.Fields(references(a.Expr)) {
				parts := strings.Split(ref, ".")
				if len(parts) == 1 {
					continue // a type
				}
				target := "resource." + parts[0] + "." + parts[1]
				switch parts[0] {
				case "var":
					target = "variable." + parts[1]
				case "path":
					continue
				}
				if blocks[target] == nil {
					t.Errorf("%s.%s refers to %s", key, name, ref)
				}
			}
		}
	}
}
