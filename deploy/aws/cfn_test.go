package aws_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// template is a CloudFormation template, its short functions written out.
type template struct {
	Parameters, Mappings, Conditions, Resources, Outputs map[string]any
}

func read(t *testing.T, file string) *template {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		t.Fatal(err)
	}
	root := plain(t, doc.Docs[0].Body).(map[string]any)
	section := func(name string) map[string]any { m, _ := root[name].(map[string]any); return m }
	return &template{section("Parameters"), section("Mappings"), section("Conditions"), section("Resources"), section("Outputs")}
}

// plain turns a node into maps, lists and scalars.
func plain(t *testing.T, n ast.Node) any {
	t.Helper()
	switch n := n.(type) {
	case *ast.MappingNode:
		m := make(map[string]any)
		for _, v := range n.Values {
			m[key(v)] = plain(t, v.Value)
		}
		return m
	case *ast.MappingValueNode:
		return map[string]any{key(n): plain(t, n.Value)}
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, v := range n.Values {
			list[i] = plain(t, v)
		}
		return list
	case *ast.TagNode:
		name := strings.TrimPrefix(n.Start.Value, "!")
		v := plain(t, n.Value)
		if name == "GetAtt" {
			resource, attribute, _ := strings.Cut(v.(string), ".")
			v = []any{resource, attribute}
		}
		if name != "Ref" && name != "Condition" {
			name = "Fn::" + name
		}
		return map[string]any{name: v}
	}
	var v any
	if err := yaml.NodeToValue(n, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func key(v *ast.MappingValueNode) string {
	if s, ok := v.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return v.Key.String()
}

// stack is a template with values for its parameters, so far as it can be
// worked out without AWS: what a resource would return is ARN-like text.
type stack struct {
	*template
	t      *testing.T
	values map[string]any
}

func (m *template) with(t *testing.T, values map[string]any) *stack {
	t.Helper()
	s := &stack{m, t, map[string]any{
		"AWS::Region": "eu-west-1", "AWS::AccountId": "111122223333", "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com",
		"AWS::StackName": "drm", "AWS::NoValue": nil,
	}}
	for name, p := range m.Parameters {
		p := p.(map[string]any)
		v, ok := values[name]
		if !ok {
			v, ok = p["Default"]
		}
		if !ok {
			t.Fatalf("parameter %s has no value", name)
		}
		if pattern, ok := p["AllowedPattern"].(string); ok && !regexp.MustCompile("^(?:"+pattern+")$").MatchString(fmt.Sprint(v)) {
			t.Fatalf("parameter %s: %q is not allowed", name, v)
		}
		if p["Type"] == "CommaDelimitedList" || strings.HasPrefix(p["Type"].(string), "List<") {
			var list []any
			for part := range strings.SplitSeq(v.(string), ",") {
				list = append(list, part)
			}
			v = list
		}
		s.values[name] = v
	}
	for name := range values {
		if m.Parameters[name] == nil {
			t.Fatalf("there is no parameter %s", name)
		}
	}
	return s
}

// attributes are what resources return, by type and attribute.
var attributes = map[string]string{
	"AWS::KMS::Key.Arn":             "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
	"AWS::IAM::Role.Arn":            "arn:aws:iam::111122223333:role/drm-%s-1ABC",
	"AWS::DynamoDB::Table":          "drm-Table-1ABC",
	"AWS::SecretsManager::Secret":   "arn:aws:secretsmanager:eu-west-1:111122223333:secret:drm-%s-AbCdEf",
	"AWS::ApiGateway::RestApi":      "a1b2c3d4e5",
	"AWS::RDS::DBCluster.Endpoint":  "drm.cluster-c.eu-west-1.rds.amazonaws.com",
	"AWS::RDS::DBCluster.SecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!cluster-AbCdEf",
}

func (s *stack) attribute(resource, attribute string) string {
	s.t.Helper()
	r, ok := s.Resources[resource].(map[string]any)
	if !ok {
		s.t.Fatalf("there is no resource %s", resource)
	}
	if c, ok := r["Condition"].(string); ok && !s.condition(c) {
		s.t.Fatalf("%s is used where %s does not hold", resource, c)
	}
	name := strings.TrimSuffix(r["Type"].(string)+"."+attribute, ".")
	if name == "AWS::RDS::DBCluster.Endpoint.Address" {
		name = "AWS::RDS::DBCluster.Endpoint"
	}
	if text, ok := attributes[name]; ok {
		return strings.ReplaceAll(text, "%s", resource)
	}
	return "arn:aws:" + resource + ":" + attribute
}

func (s *stack) condition(name string) bool {
	s.t.Helper()
	c, ok := s.Conditions[name]
	if !ok {
		s.t.Fatalf("there is no condition %s", name)
	}
	return s.eval(c).(bool)
}

// eval works a value out.
func (s *stack) eval(v any) any {
	s.t.Helper()
	switch v := v.(type) {
	case []any:
		var list []any
		for _, e := range v {
			if e := s.eval(e); e != nil {
				list = append(list, e)
			}
		}
		return list
	case map[string]any:
		if len(v) == 1 {
			for name, arg := range v {
				if strings.HasPrefix(name, "Fn::") || name == "Ref" {
					return s.call(name, arg)
				}
				if text, ok := arg.(string); name == "Condition" && ok {
					return s.condition(text)
				}
			}
		}
		m := make(map[string]any)
		for name, e := range v {
			if e := s.eval(e); e != nil {
				m[name] = e
			}
		}
		return m
	}
	return v
}

func (s *stack) ref(name string) any {
	s.t.Helper()
	if v, ok := s.values[name]; ok {
		return v
	}
	return s.attribute(name, "")
}

var variable = regexp.MustCompile(`\$\{(!?)([^}]+)\}`)

func (s *stack) call(name string, arg any) any {
	s.t.Helper()
	list, _ := arg.([]any)
	switch name {
	case "Ref":
		return s.ref(arg.(string))
	case "Fn::GetAtt":
		return s.attribute(list[0].(string), list[1].(string))
	case "Fn::If":
		if s.condition(list[0].(string)) {
			return s.eval(list[1])
		}
		return s.eval(list[2])
	case "Fn::Equals":
		return reflect.DeepEqual(s.eval(list[0]), s.eval(list[1]))
	case "Fn::Not":
		return !s.eval(list[0]).(bool)
	case "Fn::And":
		for _, c := range list {
			if !s.eval(c).(bool) {
				return false
			}
		}
		return true
	case "Fn::Or":
		for _, c := range list {
			if s.eval(c).(bool) {
				return true
			}
		}
		return false
	case "Fn::Join":
		var parts []string
		for _, p := range s.eval(list[1]).([]any) {
			parts = append(parts, fmt.Sprint(p))
		}
		return strings.Join(parts, list[0].(string))
	case "Fn::FindInMap":
		return s.Mappings[list[0].(string)].(map[string]any)[s.eval(list[1]).(string)].(map[string]any)[list[2].(string)]
	case "Fn::Select":
		return s.eval(list[1]).([]any)[list[0].(uint64)]
	case "Fn::Sub":
		text, ok := arg.(string)
		own := map[string]any{}
		if !ok {
			text, own = list[0].(string), list[1].(map[string]any)
		}
		return variable.ReplaceAllStringFunc(text, func(m string) string {
			parts := variable.FindStringSubmatch(m)
			if parts[1] != "" {
				return "${" + parts[2] + "}"
			}
			if v, ok := own[parts[2]]; ok {
				return fmt.Sprint(s.eval(v))
			}
			if resource, attribute, ok := strings.Cut(parts[2], "."); ok {
				return s.attribute(resource, attribute)
			}
			return fmt.Sprint(s.ref(parts[2]))
		})
	}
	s.t.Fatalf("%s is not known here", name)
	return nil
}

// resources returns the resources that there are, worked out.
func (s *stack) resources() map[string]map[string]any {
	s.t.Helper()
	all := make(map[string]map[string]any)
	for name, r := range s.Resources {
		r := r.(map[string]any)
		if c, ok := r["Condition"].(string); ok && !s.condition(c) {
			continue
		}
		properties, _ := s.eval(r["Properties"]).(map[string]any)
		all[name] = map[string]any{"Type": r["Type"], "Properties": properties, "DeletionPolicy": r["DeletionPolicy"], "UpdateReplacePolicy": r["UpdateReplacePolicy"]}
	}
	return all
}

// at follows a path of members and indexes.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			list, _ := v.([]any)
			if p >= len(list) {
				return nil
			}
			v = list[p]
		}
	}
	return v
}

// walk calls f for every scalar with the path to it.
func walk(v any, path string, f func(path string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			walk(e, path+"."+name, f)
		}
	case []any:
		for i, e := range v {
			walk(e, fmt.Sprintf("%s[%d]", path, i), f)
		}
	default:
		f(path, v)
	}
}
