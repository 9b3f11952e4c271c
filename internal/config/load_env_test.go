package config_test

import (
	"strings"
	"testing"

	"spekeasy/internal/config"
)

func TestLoadFromTheEnvironment(t *testing.T) {
	const text = "data: ${DIR}\ntenants:\n- id: acme\n  credentials:\n  - name: c\n    api_key: {key: k}\n"
	env := map[string]string{"CONFIG": text, "DIR": "/data"}
	getenv := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	c, err := config.Load("env:CONFIG", getenv)
	if err != nil || c.Data != "/data" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := config.Load("env:ABSENT", getenv); err == nil || !strings.Contains(err.Error(), "ABSENT is not set") {
		t.Errorf("%v", err)
	}
	env["CONFIG"] = strings.Replace(text, "data", "dta", 1)
	if _, err := config.Load("env:CONFIG", getenv); err == nil || !strings.Contains(err.Error(), "env:CONFIG") || !strings.Contains(err.Error(), "1") {
		t.Errorf("no place: %v", err)
	}
}
