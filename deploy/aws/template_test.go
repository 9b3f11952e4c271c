package aws_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"spekeasy/internal/config"
	"spekeasy/internal/server"
)

const (
	plainText = "the-plain-secret"
	gateway   = "https://t.api.drm.cloud/kms/speke?tenantId=1"
)

// choices are stacks that a template is looked at as.
var choices = map[string]map[string]any{
	"key server": {"CodeBucket": "code"},
	"everything on": {
		"CodeBucket": "code", "SpekeUrl": gateway, "SpekeUrlV2": gateway + "&v=2", "AuthenticationMethod": "OAUTH", "ClientId": "app",
		"ClientSecret": plainText, "TokenScope": "a b", "EnableGatewayLogging": "true", "LambdaLoggingLevel": "DEBUG", "AlarmEmail": "a@example.com",
		"CallerArns":              "arn:aws:iam::111122223333:role/Own,arn:aws:iam::111122223333:user/operator",
		"MediaConvertInputBucket": "in", "MediaConvertOutputBucket": "out", "MediaPackageVodBucket": "assets",
	},
	"API key":         {"CodeBucket": "code", "SpekeUrl": gateway, "AuthenticationMethod": "X-API-KEY", "ApiKey": plainText},
	"Basic":           {"CodeBucket": "code", "SpekeUrl": gateway, "UpstreamVendor": "axinom", "AuthenticationMethod": "BASIC", "ClientId": "t", "ClientSecret": plainText},
	"no credential":   {"CodeBucket": "code", "SpekeUrl": gateway, "UpstreamVendor": "generic", "AuthenticationMethod": "NONE"},
	"private":         {"CodeBucket": "code", "GatewayType": "Private", "VpcEndpointIds": "vpce-1,vpce-2", "LambdaLoggingLevel": "DISABLED"},
	"edge, no guards": {"CodeBucket": "code", "GatewayType": "Edge", "ConfusedDeputyConditions": "false"},
}

func each(t *testing.T, f func(t *testing.T, s *stack)) {
	m := read(t, "template.yaml")
	for name, values := range choices {
		t.Run(name, func(t *testing.T) { f(t, m.with(t, values)) })
	}
}

// AWS's own validator, offline. It has to find the fault of a third template
// and no other.
func TestValidator(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	text := strings.Replace(readText(t, "template.yaml"), "BillingMode:", "BillingMod:", 1)
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("node", append([]string{"../../scripts/cfn.mjs", bad}, files...)...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "BillingMod") {
		t.Errorf("a misspelt property passes: %v %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, bad) {
			t.Error(strings.TrimSpace(line))
		}
	}
}

func readText(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The function's configuration is one that the program takes.
func TestConfiguration(t *testing.T) {
	each(t, func(t *testing.T, s *stack) {
		text := at(s.resources()["Function"], "Properties", "Environment", "Variables", "SPEKEASY_CONFIG").(string)
		if len(text) > 3500 {
			t.Errorf("%d bytes; Lambda takes 4096 for the whole environment", len(text))
		}
		if strings.Contains(text, plainText) {
			t.Error("the secret is in the environment")
		}
		references := 0
		c, err := config.Parse([]byte(text), func(name string) (string, bool) {
			references++
			if name != "secretsmanager:arn:aws:secretsmanager:eu-west-1:111122223333:secret:drm-UpstreamSecret-AbCdEf" {
				t.Errorf("reference %s", name)
			}
			return "resolved", true
		})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if c.Audit.Stdout != config.StdoutOnly || c.Log.Format != "json" || c.Store != "dynamodb://drm-Table-1ABC?region=eu-west-1" ||
			c.KeyManager != "awskms:///arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab" {
			t.Errorf("%+v", c)
		}
		if len(c.Tenants) != 1 || len(c.Tenants[0].Credentials) != 1 {
			t.Fatalf("tenants %+v", c.Tenants)
		}
		arns := c.Tenants[0].Credentials[0].IAM.ARNs
		if want := 4 + len(slices.DeleteFunc(slices.Clone(s.values["CallerArns"].([]any)), func(v any) bool { return v == "" })); len(arns) != want {
			t.Errorf("ARNs %v", arns)
		}
		wantReferences := 0
		if s.condition("HasSecret") {
			wantReferences = 1
		}
		if references != wantReferences {
			t.Errorf("%d references to secrets, want %d", references, wantReferences)
		}
		if _, err := json.Marshal(c.Tenants[0]); err != nil {
			t.Error(err)
		}
	})
}

// statements returns all statements of a stack's policies, with where they
// are.
func statements(s *stack) map[string]map[string]any {
	all := make(map[string]map[string]any)
	var collect func(path string, v any)
	collect = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["Effect"] != nil {
				all[path] = v
				return
			}
			for name, e := range v {
				collect(path+"."+name, e)
			}
		case []any:
			for i, e := range v {
				collect(fmt.Sprintf("%s[%d]", path, i), e)
			}
		}
	}
	for name, r := range s.resources() {
		collect(name, r["Properties"])
	}
	return all
}

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, e := range v {
			list = append(list, e.(string))
		}
		return list
	}
	return nil
}

func TestPolicies(t *testing.T) {
	each(t, func(t *testing.T, s *stack) {
		invokes := 0
		for where, st := range statements(s) {
			if st["Effect"] != "Allow" || st["NotAction"] != nil || st["NotResource"] != nil || st["NotPrincipal"] != nil {
				t.Errorf("%s: %v", where, st)
			}
			for _, action := range texts(st["Action"]) {
				if strings.Contains(action, "*") {
					t.Errorf("%s: action %s", where, action)
				}
				if action == "execute-api:Invoke" {
					invokes++
				}
			}
			trust := st["Principal"] != nil && slices.Equal(texts(st["Action"]), []string{"sts:AssumeRole"})
			resources := texts(st["Resource"])
			if !trust && len(resources) == 0 {
				t.Errorf("%s: no resource", where)
			}
			for _, r := range resources {
				if r == "*" || strings.HasPrefix(r, "*") || strings.Contains(r, ":*:") {
					t.Errorf("%s: resource %s", where, r)
				}
				if strings.Contains(r, "execute-api") && !strings.Contains(r, "/LATEST/POST/") {
					t.Errorf("%s: %s is not about POST", where, r)
				}
			}
			if p, ok := st["Principal"].(map[string]any); st["Principal"] != nil && (!ok || p["AWS"] == "*") {
				t.Errorf("%s: principal %v", where, st["Principal"])
			}
		}
		if want := map[bool]int{true: 2, false: 1}[s.condition("IsPrivate")]; invokes != want {
			t.Errorf("%d statements allow execute-api:Invoke, want %d", invokes, want)
		}
	})
}

// Each media service has its role, which it can use for this account only,
// and which can send key requests.
func TestMediaRoles(t *testing.T) {
	each(t, func(t *testing.T, s *stack) {
		for role, service := range map[string]string{
			"MediaConvertRole": "mediaconvert.amazonaws.com", "MediaPackageRole": "mediapackage.amazonaws.com",
			"MediaPackageV2Role": "mediapackagev2.amazonaws.com", "MediaPackageVodRole": "mediapackage.amazonaws.com",
		} {
			p := s.resources()[role]["Properties"]
			if got := at(p, "AssumeRolePolicyDocument", "Statement", 0, "Principal", "Service"); got != service {
				t.Errorf("%s trusts %v", role, got)
			}
			account := at(p, "AssumeRolePolicyDocument", "Statement", 0, "Condition", "StringEquals", "aws:SourceAccount")
			if s.condition("HasConditions") != (account == "111122223333") {
				t.Errorf("%s: account %v", role, account)
			}
			if at(p, "ManagedPolicyArns", 0) != s.ref("InvokePolicy") {
				t.Errorf("%s: may not invoke", role)
			}
		}
	})
}

// What is kept outlives the stack, and nothing sensitive is in it.
func TestKeeping(t *testing.T) {
	each(t, func(t *testing.T, s *stack) {
		all := s.resources()
		for _, name := range []string{"Table", "Key", "FunctionLog"} {
			if all[name]["DeletionPolicy"] != "Retain" || all[name]["UpdateReplacePolicy"] != "Retain" {
				t.Errorf("%s goes with the stack", name)
			}
		}
		for what, ok := range map[string]bool{
			"deletion protection":    at(all["Table"], "Properties", "DeletionProtectionEnabled") == true,
			"point-in-time recovery": at(all["Table"], "Properties", "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled") == true,
			"key rotation":           at(all["Key"], "Properties", "EnableKeyRotation") == true,
			"retention of the log":   at(all["FunctionLog"], "Properties", "RetentionInDays") != nil,
			"no bodies in logs":      at(all["Stage"], "Properties", "MethodSettings", 0, "DataTraceEnabled") == false,
			"IAM at the gateway":     at(all["PostMethod"], "Properties", "AuthorizationType") == "AWS_IAM",
		} {
			if !ok {
				t.Errorf("no %s", what)
			}
		}
		for name, r := range all {
			walk(r["Properties"], name, func(path string, v any) {
				if text := fmt.Sprint(v); strings.Contains(text, plainText) && path != "UpstreamSecret.SecretString" {
					t.Errorf("%s holds a secret", path)
				}
				if text := fmt.Sprint(v); strings.Contains(text, "$context.") && regexp.MustCompile(`(?i)body|authorization|requestOverride`).MatchString(text) {
					t.Errorf("%s logs %s", path, text)
				}
			})
		}
	})
	for name, p := range read(t, "template.yaml").Parameters {
		secret := regexp.MustCompile(`(?i)secret|key$|password`).MatchString(name) && name != "CodeKey"
		if noEcho := at(p, "NoEcho") == true; noEcho != secret {
			t.Errorf("parameter %s: NoEcho is %v", name, noEcho)
		}
	}
}

func TestDashboardAndAlarms(t *testing.T) {
	each(t, func(t *testing.T, s *stack) {
		all := s.resources()
		var board struct{ Widgets []map[string]any }
		if err := json.Unmarshal([]byte(at(all["Dashboard"], "Properties", "DashboardBody").(string)), &board); err != nil || len(board.Widgets) < 5 {
			t.Errorf("dashboard: %v", err)
		}
		made := map[string]bool{}
		for _, r := range all {
			if r["Type"] == "AWS::Logs::MetricFilter" {
				made[at(r, "Properties", "MetricTransformations", 0, "MetricName").(string)] = true
			}
		}
		for name, r := range all {
			if r["Type"] != "AWS::CloudWatch::Alarm" {
				continue
			}
			if !slices.Contains(texts(at(r, "Properties", "AlarmActions")), s.ref("Alarms").(string)) {
				t.Errorf("%s tells nobody", name)
			}
			if at(r, "Properties", "Namespace") == "spekeasy" && !made[at(r, "Properties", "MetricName").(string)] {
				t.Errorf("%s watches a metric that nobody makes", name)
			}
			if d := texts(at(r, "Properties", "Dimensions", 0, "Value")); at(r, "Properties", "Namespace") == "AWS/ApiGateway" && !slices.Equal(d, texts(at(all["Api"], "Properties", "Name"))) {
				t.Errorf("%s watches %v", name, d)
			}
		}
	})
}

// A deployment is a copy of the methods. When they change it needs a new
// name, or the stage goes on with the old ones.
func TestDeploymentIsOfTheseMethods(t *testing.T) {
	m := read(t, "template.yaml")
	b, err := json.Marshal([]any{m.Resources["Api"], m.Resources["AnyPath"], m.Resources["PostMethod"]})
	if err != nil {
		t.Fatal(err)
	}
	const want = "c9c4355c42c4ad47"
	if got := fmt.Sprintf("%x", sha256.Sum256(b))[:16]; got != want {
		t.Errorf("the API has changed: give DeploymentPublic1 and DeploymentPrivate1 the next number, then write %s here", got)
	}
	for _, name := range []string{"DeploymentPublic1", "DeploymentPrivate1"} {
		if m.Resources[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
}

// Whoever comes from Insys' SpekeGateway finds its parameters and outputs.
func TestMigration(t *testing.T) {
	m := read(t, "template.yaml")
	for name, values := range map[string][]string{
		"AuthenticationMethod": {"OAUTH", "X-API-KEY"}, "ClientId": nil, "ClientSecret": nil, "TokenUrl": nil, "ApiKey": nil, "SpekeUrl": nil,
		"GatewayType": {"Private", "Regional", "Edge"}, "EnableGatewayLogging": {"true", "false"}, "LambdaLoggingLevel": {"DISABLED", "INFO", "DEBUG"},
	} {
		allowed := texts(at(m.Parameters[name], "AllowedValues"))
		for _, v := range values {
			if !slices.Contains(allowed, v) {
				t.Errorf("%s does not take %s", name, v)
			}
		}
		if m.Parameters[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for output, suffix := range map[string]string{"LiveSpekeInvokeUrl": "/LATEST/live", "VodSpekeInvokeUrl": "/LATEST/vod"} {
		s := m.with(t, choices["key server"])
		if url, _ := s.eval(at(m.Outputs[output], "Value")).(string); url != "https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com"+suffix {
			t.Errorf("%s is %s", output, url)
		}
	}
}

var named = regexp.MustCompile("`(?:output |parameter )?([A-Z][A-Za-z0-9]+)`")

// The URLs that the stack promises are answered, and the examples use them.
func TestURLs(t *testing.T) {
	s := read(t, "template.yaml").with(t, choices["key server"])
	promised := map[string]bool{}
	for name, o := range s.Outputs {
		url, ok := s.eval(at(o, "Value")).(string)
		if !ok || !strings.HasPrefix(url, "https://") {
			continue
		}
		promised[url] = true
		_, path, _ := strings.Cut(url, "/LATEST")
		if !slices.ContainsFunc(server.Routes(), func(r server.Route) bool { return r.Path == path && r.Method == "POST" }) {
			t.Errorf("output %s: nobody answers %s", name, path)
		}
	}
	if len(promised) != 4 {
		t.Errorf("URLs %v", promised)
	}
	examples, err := filepath.Glob("../../examples/aws/*.json")
	if err != nil || len(examples) < 15 {
		t.Fatal(examples, err)
	}
	for _, file := range examples {
		for _, url := range regexp.MustCompile(`https://[^"]+`).FindAllString(readText(t, file), -1) {
			if !promised[url] {
				t.Errorf("%s: %s is no output of the stack", file, url)
			}
		}
	}
}

// What the guides link to is there.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../../docs/aws/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		for _, m := range regexp.MustCompile(`\]\(([^)#]*)(#[^)]*)?\)`).FindAllStringSubmatch(readText(t, page), -1) {
			target := filepath.Join(filepath.Dir(page), m[1])
			if m[1] == "" {
				target = page
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if m[2] == "" || info.IsDir() {
				continue
			}
			anchor := false
			for line := range strings.Lines(readText(t, target)) {
				title, ok := strings.CutPrefix(strings.TrimLeft(strings.TrimSpace(line), "#"), " ")
				slug := strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(title), ""), " ", "-")
				anchor = anchor || ok && strings.HasPrefix(line, "#") && "#"+slug == m[2]
			}
			if !anchor {
				t.Errorf("%s: there is no %s in %s", page, m[2], target)
			}
		}
	}
}

// Guides and examples name no output that there is not.
func TestGuidesNameWhatThereIs(t *testing.T) {
	m, f := read(t, "template.yaml"), read(t, "fargate.yaml")
	pages, err := filepath.Glob("../../docs/aws/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	used := map[string]bool{}
	for _, page := range pages {
		for line := range strings.Lines(readText(t, page)) {
			for _, match := range regexp.MustCompile(`\boutput(?:s)? ((?:`+"`[A-Za-z0-9]+`"+`(?:, | and |)?)+)`).FindAllStringSubmatch(line, -1) {
				for _, n := range named.FindAllStringSubmatch(match[1], -1) {
					used[n[1]] = true
					if m.Outputs[n[1]] == nil && f.Outputs[n[1]] == nil {
						t.Errorf("%s names the output %s", page, n[1])
					}
				}
			}
			for _, match := range regexp.MustCompile(`\bparameter(?:s)? ((?:`+"`[A-Za-z0-9]+`"+`(?:, | and |)?)+)`).FindAllStringSubmatch(line, -1) {
				for _, n := range named.FindAllStringSubmatch(match[1], -1) {
					if m.Parameters[n[1]] == nil && f.Parameters[n[1]] == nil {
						t.Errorf("%s names the parameter %s", page, n[1])
					}
				}
			}
		}
	}
	for _, output := range slices.Sorted(maps.Keys(m.Outputs)) {
		if !used[output] {
			t.Errorf("no guide says what the output %s is for", output)
		}
	}
}
