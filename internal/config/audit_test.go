package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"spekeasy/internal/config"
)

const tenants = "tenants:\n- id: acme\n  credentials: [{name: e, basic: {user: u, password: p}}]\n"

func parseAudit(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	return config.Parse([]byte("data: d\n"+text+tenants), func(string) (string, bool) { return "", false })
}

func TestAudit(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       config.Audit
	}{
		{"by default", "", config.Audit{Sync: "interval", SegmentBytes: 32 << 20, Retain: config.Duration(400 * 24 * time.Hour)}},
		{"everything", "audit: {off: true, sync: always, dir: /x, segment_bytes: 65536, retain: 90m, stdout: only}\n",
			config.Audit{Off: true, Sync: "always", Dir: "/x", SegmentBytes: 65536, Retain: config.Duration(90 * time.Minute), Stdout: "only"}},
		{"a database", "audit: {database: only, stdout: also}\n", config.Audit{Sync: "interval", SegmentBytes: 32 << 20,
			Retain: config.Duration(400 * 24 * time.Hour), Stdout: "also", Database: "only"}},
		{"for ever", "audit: {retain: 0s}\n", config.Audit{Sync: "interval", SegmentBytes: 32 << 20}},
		{"days", "audit: {retain: 30d, stdout: also}\n",
			config.Audit{Sync: "interval", SegmentBytes: 32 << 20, Retain: config.Duration(30 * 24 * time.Hour), Stdout: "also"}},
	} {
		got, err := parseAudit(t, c.text)
		if err != nil || got.Audit != c.want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
			continue
		}
		if dir, want := got.AuditDir(), filepath.Join("d", "audit"); c.want.Dir == "" && dir != want || c.want.Dir != "" && dir != c.want.Dir {
			t.Errorf("%s: directory %s", c.name, dir)
		}
	}
}

func TestAuditFaults(t *testing.T) {
	for text, want := range map[string]string{
		"sync: sometimes":              `audit.sync: "sometimes" is neither interval nor always`,
		"segment_bytes: 65535":         "audit.segment_bytes: must be 65536 or more",
		"stdout: true":                 `audit.stdout: "true" is neither also nor only`,
		"stdout: only, database: also": "audit.database: also contradicts stdout: only",
		"database: true":               `audit.database: "true" is neither also nor only`,
		"retain: -1h":                  "audit.retain: must not be negative",
		"retain: 1.5d":                 `"1.5d" is not a number of days`,
		"retain: -1d":                  `"-1d" is not a number of days`,
		"retain: 106752d":              `"106752d" is not a number of days`,
		"retain: d":                    `"d" is not a number of days`,
		"retain: 10":                   "missing unit",
		"sinks: [files]":               "unknown field",
	} {
		if got, err := parseAudit(t, "audit: {"+text+"}\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}
