package tools

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	commonmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// expression returns the query of an alert, with recorded series put in by
// what records them.
func expression(t *testing.T, alert string) string {
	t.Helper()
	groups, errs := rulefmt.ParseFile(rulesFile, false, commonmodel.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	found := ""
	var recorded []string
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				recorded = append(recorded, r.Record, "("+r.Expr+")")
			} else if r.Alert == alert {
				found = r.Expr
			}
		}
	}
	if found == "" {
		t.Fatalf("there is no alert %s", alert)
	}
	return strings.Join(strings.Fields(strings.NewReplacer(recorded...).Replace(found)), " ")
}

// Alerts are raised when they should be and at no other time. Series are
// written as Prometheus' own tests have them, a value each minute.
func TestAlerts(t *testing.T) {
	const requests = `spekeasy_key_requests_total{job="keys",profile="2.0",class="live",result="%s"} %s` + "\n"
	ask := func(result, values string) string { return fmt.Sprintf(requests, result, values) }
	for _, c := range []struct {
		name, alert, series, at string
		raised                  int
	}{
		{"all is well", "SpekeasyBudgetBurnsFast", ask("delivered", "0+60x120") + ask("error", "0+0x120"), "120m", 0},
		{"2 % fail", "SpekeasyBudgetBurnsFast", ask("delivered", "0+98x120") + ask("unavailable", "0+2x120"), "120m", 1},
		{"2 % failed an hour ago", "SpekeasyBudgetBurnsFast", ask("delivered", "0+98x120") + ask("unavailable", "0+2x60 120+0x60"), "120m", 0},
		{"half of them are the encryptor's fault", "SpekeasyBudgetBurnsFast", ask("delivered", "0+50x120") + ask("invalid", "0+50x120"), "120m", 0},
		{"1 % fail for hours", "SpekeasyBudgetBurns", ask("delivered", "0+99x400") + ask("upstream", "0+1x400"), "400m", 1},
		{"nobody ever asked", "SpekeasyBudgetBurns", ask("delivered", "0+0x400") + ask("error", "0+0x400"), "400m", 0},

		{"as yesterday", "SpekeasyNobodyAsks", ask("delivered", "0+1x1600"), "1600m", 0},
		{"less than yesterday", "SpekeasyNobodyAsks", ask("delivered", "0+9x1500 13500+1x100"), "1600m", 0},
		{"silence", "SpekeasyNobodyAsks", ask("delivered", "0+1x1500 1500+0x100"), "1600m", 1},
		{"silent yesterday as well", "SpekeasyNobodyAsks", ask("delivered", "0+0x1600"), "1600m", 0},

		{"an upstream that answers", "SpekeasyUpstreamFails", `spekeasy_upstream_answers_total{job="keys",upstream="a"} 0+60x30
			spekeasy_upstream_failures_total{job="keys",upstream="a",kind="refused"} 0+9x30`, "30m", 0},
		{"an upstream that does not", "SpekeasyUpstreamFails", `spekeasy_upstream_answers_total{job="keys",upstream="a"} 0+60x30
			spekeasy_upstream_answers_total{job="keys",upstream="b"} 0+60x30
			spekeasy_upstream_failures_total{job="keys",upstream="a",kind="timeout"} 0+6x30`, "30m", 1},

		{"an upstream that fails and serves", "SpekeasyUpstreamStale", `spekeasy_upstream_failing_since_timestamp_seconds{job="keys",upstream="a"} 60x30
			spekeasy_upstream_last_success_timestamp_seconds{job="keys",upstream="a"} 0+60x30`, "30m", 0},
		{"an upstream that nobody asks", "SpekeasyUpstreamStale", `spekeasy_upstream_failing_since_timestamp_seconds{job="keys",upstream="a"} 0x30
			spekeasy_upstream_last_success_timestamp_seconds{job="keys",upstream="a"} 60x30`, "30m", 0},
		{"an upstream that fails and does not serve", "SpekeasyUpstreamStale", `spekeasy_upstream_failing_since_timestamp_seconds{job="keys",upstream="a"} 120x30
			spekeasy_upstream_last_success_timestamp_seconds{job="keys",upstream="a"} 60x30`, "30m", 1},

		{"a certificate for a month", "SpekeasyCertificateExpires", `spekeasy_certificate_expiry_timestamp_seconds{job="keys",certificate="listener"} 2592000x10`, "10m", 0},
		{"a certificate for a week", "SpekeasyCertificateExpires", `spekeasy_certificate_expiry_timestamp_seconds{job="keys",certificate="listener"} 604800x10`, "10m", 1},
		{"a credential that ended long ago", "SpekeasyCredentialExpires", `spekeasy_credential_expiry_timestamp_seconds{job="keys",tenant="a",credential="b"} 60x2000`, "2000m", 0},
		{"a credential for a day", "SpekeasyCredentialExpires", `spekeasy_credential_expiry_timestamp_seconds{job="keys",tenant="a",credential="b"} 86400x10`, "10m", 1},

		{"the key manager fails, and the server is ready", "SpekeasyNotReady", `spekeasy_ready{job="keys",instance="a",check="key_manager"} 0x10
			spekeasy_ready{job="keys",instance="a",check="store"} 1x10`, "10m", 0},
		{"the database fails", "SpekeasyNotReady", `spekeasy_ready{job="keys",instance="a",check="store"} 0x10`, "10m", 1},
		{"slow", "SpekeasySlow", `spekeasy_key_request_duration_seconds_bucket{job="keys",profile="2.0",result="delivered",le="1"} 0+95x30
			spekeasy_key_request_duration_seconds_count{job="keys",profile="2.0",result="delivered"} 0+100x30`, "30m", 1},
		{"fast", "SpekeasySlow", `spekeasy_key_request_duration_seconds_bucket{job="keys",profile="2.0",result="delivered",le="1"} 0+100x30
			spekeasy_key_request_duration_seconds_count{job="keys",profile="2.0",result="delivered"} 0+100x30`, "30m", 0},
		{"no server", "SpekeasyDown", `up{job="other"} 1x10`, "10m", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var script strings.Builder
			script.WriteString("load 1m\n")
			for line := range strings.Lines(c.series) {
				script.WriteString("  " + strings.TrimSpace(line) + "\n")
			}
			fmt.Fprintf(&script, "\neval instant at %s count(%s) or vector(0)\n  {} %d\n", c.at, expression(t, c.alert), c.raised)
			promqltest.RunTest(t, script.String(), promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery))
		})
	}
}
