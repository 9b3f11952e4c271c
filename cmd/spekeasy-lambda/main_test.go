package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"spekeasy/adminapi"
	"spekeasy/internal/lambdahttp"
)

func document(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../../examples/request-v2.xml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// result is what a function answers to API Gateway.
type result struct {
	StatusCode        int
	MultiValueHeaders map[string][]string
	Body              string
	IsBase64Encoded   bool
}

func parse(t *testing.T, text string) (r result) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return r
}

var plainValue = regexp.MustCompile(`PlainValue>([^<]+)<`)

// keysOf returns the content keys of an answer as they stand there and as
// they would stand in a log.
func keysOf(t *testing.T, r result) (keys []string) {
	t.Helper()
	for _, m := range plainValue.FindAllStringSubmatch(r.Body, -1) {
		b, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil || len(b) != 16 {
			t.Fatalf("%q: %v", m[1], err)
		}
		keys = append(keys, m[1])
	}
	return keys
}

// The function by Lambda's own protocol, in a process, with an account that
// CloudFormation has just made.
func TestFunction(t *testing.T) {
	a := newAccount(t)
	l := startFunction(t, a.list()...)
	first := parse(t, l.invoke(event(t, document(t), "")))
	took := time.Since(l.started)
	keys := keysOf(t, first)
	if first.StatusCode != 200 || first.IsBase64Encoded || len(keys) != 1 || first.MultiValueHeaders["X-Speke-Version"] == nil {
		t.Fatalf("%+v", first)
	}
	if again := parse(t, l.invoke(event(t, document(t), "swordfish-1"))); again.Body != first.Body {
		t.Errorf("by another credential: %+v", again)
	}
	for _, name := range []string{"rest-iam", "http-iam", "function-url-iam"} {
		if r := parse(t, l.invoke(recordedEvent(t, name, document(t)))); r.Body != first.Body {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := parse(t, l.invoke(strings.ReplaceAll(event(t, document(t), ""), "speke/v2.0/copyProtection", "vod"))); r.Body != first.Body {
		t.Errorf("under the path of Insys' gateway: %+v", r)
	}
	for _, name := range []string{"alb", "alb-multi-value", "rest-custom-domain"} { // who it is they do not say
		if r := parse(t, l.invoke(recordedEvent(t, name, document(t)))); r.StatusCode != 401 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := parse(t, l.invoke(event(t, document(t), "swordfish-9"))); r.StatusCode != 401 {
		t.Errorf("wrong password: %d", r.StatusCode)
	}
	if r := parse(t, l.invoke(event(t, []byte("<CPIX"), ""))); r.StatusCode/100 != 4 {
		t.Errorf("half a document: %d", r.StatusCode)
	}
	l.waitReady()
	l.stop(syscall.SIGKILL) // nothing may be left to do after an answer

	l2 := startFunction(t, a.list()...)
	if r := parse(t, l2.invoke(event(t, document(t), ""))); r.Body != first.Body {
		t.Errorf("another process: %+v", r)
	}
	l2.waitReady()
	state := l2.stop(syscall.SIGTERM)
	if !state.Success() {
		t.Errorf("SIGTERM: %v\n%s", state, l2.stderr.String())
	}
	if records := l2.stdout.String(); !strings.Contains(records, `"event":"server_stop"`) {
		t.Errorf("the end is not recorded: %s", records)
	}
	own := state.UserTime() + state.SystemTime()
	t.Logf("first answer of a new account after %v; CPU time of a process with one answer %v", took, own)
	if own > 150*time.Millisecond {
		t.Errorf("start, one answer and end took %v of CPU time", own)
	}
	for _, key := range append(keys, "swordfish-1", "swordfish-9") {
		for name, text := range map[string]string{"log": l.stderr.String(), "records": l.stdout.String(), "log of the second": l2.stderr.String()} {
			if strings.Contains(text, key) {
				t.Errorf("%s: holds a secret", name)
			}
		}
	}
	if !strings.Contains(l.stdout.String(), `"media-services"`) {
		t.Errorf("records do not say who asked: %s", l.stdout.String())
	}
}

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// A secret is read once, and again when it may have been rotated.
func TestRotation(t *testing.T) {
	a := newAccount(t)
	c := &clock{at: time.Now()}
	var stdout, stderr bytes.Buffer
	f := newFunction(a.lookup, &stdout, &stderr, c.now)
	if err := f.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer f.end()
	h := lambdahttp.New(f, lambdahttp.Options{})
	status := func(password string) int {
		t.Helper()
		out, err := h.Invoke(t.Context(), []byte(event(t, document(t), password)))
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, string(out)).StatusCode
	}
	want := func(what, password string, code, calls int) {
		t.Helper()
		if got := status(password); got != code {
			t.Errorf("%s: status %d, want %d\n%s", what, got, code, stderr.String())
		}
		if got := a.secrets.calls(); got != calls {
			t.Errorf("%s: the secret was asked for %d times, want %d", what, got, calls)
		}
	}
	want("at first", "swordfish-1", 200, 1) // two fields, one call
	c.pass(secretsFor - time.Second)
	want("soon", "swordfish-1", 200, 1)
	c.pass(time.Second)
	want("later", "swordfish-1", 200, 2)

	a.secrets.set(`{"user":"acme","password":"swordfish-2"}`)
	want("rotated, not noticed yet", "swordfish-2", 401, 2)
	want("at once again", "swordfish-2", 401, 2)
	c.pass(doubtedFor)
	want("rotated", "swordfish-2", 200, 4) // one to notice, one to read
	want("the old one", "swordfish-1", 401, 4)

	a.secrets.set(`{"user":"acme"}`)
	c.pass(secretsFor)
	want("a secret of no use", "swordfish-2", 200, 6)
	a.secrets.setAway(true)
	c.pass(secretsFor)
	want("no Secrets Manager", "swordfish-2", 200, 6+3)
	a.secrets.setAway(false)
	a.secrets.set(`{"user":"acme","password":"swordfish-3"}`)
	c.pass(secretsFor)
	want("back again", "swordfish-3", 200, 6+3+2)
	if text := stderr.String() + stdout.String(); strings.Contains(text, "swordfish") {
		t.Error("a secret is in the log")
	}
}

func TestConfigurationFaults(t *testing.T) {
	a := newAccount(t)
	good := a.env["SPEKEASY_CONFIG"]
	for name, c := range map[string]struct{ config, want string }{
		"none":               {"", "one of SPEKEASY_CONFIG and SPEKEASY_CONFIG_FILE has to be set"},
		"no such secret":     {strings.ReplaceAll(good, "encoder-AbCdEf", "other-AbCdEf"), "secret:keys/other-AbCdEf: ResourceNotFoundException"},
		"not an ARN":         {strings.ReplaceAll(good, secretARN, "keys/encoder"), "secret keys/encoder: not the ARN of a secret"},
		"no such field":      {strings.ReplaceAll(good, "#password", "#passwort"), `it has no field "passwort"`},
		"whole, not a field": {"${" + "secretsmanager:" + secretARN + "}", "configuration: line 1"},
		"files of records":   {strings.ReplaceAll(good, "audit: {stdout: only}", ""), "a function keeps no files"},
		"TLS":                {good + "tls: {cert_file: a, key_file: b}\n", "speaks TLS for it"},
		"telemetry":          {good + "telemetry: {endpoint: \"http://127.0.0.1:4318\"}\n", "cannot send any"},
		"heartbeats":         {good + "- id: other\n  upstream: {vendor: generic, url: \"https://keys.example.com/\", heartbeat: {url: \"https://keys.example.com/\", every: 1m}}\n", "every: a function stands still"},
		"SQLite":             {strings.ReplaceAll(good, "store: dynamodb:", "store: sqlite:"), "not a kind of database that this binary knows"},
		"unknown member":     {good + "stroe: x\n", "stroe"},
	} {
		t.Run(name, func(t *testing.T) {
			if a.env["SPEKEASY_CONFIG"] = c.config; c.config == "" {
				delete(a.env, "SPEKEASY_CONFIG")
			}
			var stdout, stderr bytes.Buffer
			err := newFunction(a.lookup, &stdout, &stderr, time.Now).load(t.Context())
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "swordfish-1") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// A configuration that is too long for the environment is a secret or a file.
func TestConfigurationElsewhere(t *testing.T) {
	a := newAccount(t)
	text := strings.NewReplacer("${secretsmanager:"+secretARN+"#user}", "acme", "${secretsmanager:"+secretARN+"#password}", "from elsewhere").Replace(a.env["SPEKEASY_CONFIG"])
	file := t.TempDir() + "/spekeasy.yaml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.secrets.set(text)
	for name, env := range map[string]map[string]string{
		"secret": {"SPEKEASY_CONFIG": "${secretsmanager:" + secretARN + "}"},
		"file":   {"SPEKEASY_CONFIG_FILE": file},
	} {
		t.Run(name, func(t *testing.T) {
			delete(a.env, "SPEKEASY_CONFIG")
			for k, v := range env {
				a.env[k] = v
			}
			f := newFunction(a.lookup, new(bytes.Buffer), new(bytes.Buffer), time.Now)
			if err := f.load(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer f.end()
			out, err := lambdahttp.New(f, lambdahttp.Options{}).Invoke(t.Context(), []byte(event(t, document(t), "from elsewhere")))
			if err != nil || parse(t, string(out)).StatusCode != 200 {
				t.Errorf("%s, %v", out, err)
			}
			delete(a.env, "SPEKEASY_CONFIG_FILE")
		})
	}
}

// What an admin changes in the table, the function takes over soon.
func TestChangedTenants(t *testing.T) {
	a := newAccount(t)
	a.env["SPEKEASY_CONFIG"] += "admin: {credentials: [{name: root, role: security-officer, basic: {user: root, password: swordfish-7}}]}\n"
	c := &clock{at: time.Now()}
	var functions [2]*function
	for i := range functions {
		functions[i] = newFunction(a.lookup, new(bytes.Buffer), new(bytes.Buffer), c.now)
		if err := functions[i].load(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer functions[i].end()
	}
	srv := httptest.NewServer(functions[0].app.AdminAPI)
	defer srv.Close()
	admin := adminapi.Client{Server: srv.URL, Name: "root", Password: "swordfish-7"}
	if _, err := admin.CreateTenant(t.Context(), adminapi.NewTenant{ID: "other"}); err != nil {
		t.Fatal(err)
	}
	way := adminapi.Credential{Name: "encoder", IAM: &adminapi.IAM{ARNs: []string{"arn:aws:sts::111122223333:assumed-role/Other/*"}}}
	if _, err := admin.CreateCredential(t.Context(), "other", way); err != nil {
		t.Fatal(err)
	}
	h := lambdahttp.New(functions[1], lambdahttp.Options{})
	status := func() int {
		t.Helper()
		out, err := h.Invoke(t.Context(), []byte(strings.Replace(event(t, document(t), ""), "assumed-role/drm-MediaPackageV2Role-1ABC", "assumed-role/Other", 1)))
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, string(out)).StatusCode
	}
	if got := status(); got != 401 {
		t.Errorf("at once: %d", got)
	}
	c.pass(lookEvery)
	if got := status(); got != 200 {
		t.Errorf("after %v: %d", lookEvery, got)
	}
	if err := admin.RevokeCredential(t.Context(), "other", "encoder", 0); err != nil {
		t.Fatal(err)
	}
	c.pass(lookEvery)
	if got := status(); got != 401 {
		t.Errorf("revoked: %d", got)
	}
}
