package tools

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	commonmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"spekeasy/internal/keystore"
	"spekeasy/internal/metrics"
)

const (
	rulesFile = "../prometheus/spekeasy.rules.yaml"
	dashboard = "../grafana/spekeasy.json"
	sloPage   = "../../docs/slo.md"
)

// served returns the labels of every metric of a server, by the names that
// queries use.
func served(t *testing.T) map[string][]string {
	t.Helper()
	m := metrics.New(metrics.Build{Version: "v1.2.3"})
	m.Upstreams(func() []metrics.Upstream {
		return []metrics.Upstream{{Name: "one", Failed: map[string]uint64{"timeout": 1}, Fixed: map[string]uint64{"namespace": 1}}}
	})
	m.Keystore(func() keystore.Stats { return keystore.Stats{} })
	m.Expiries(func() []metrics.Expiry {
		return []metrics.Expiry{{Name: "listener", At: time.Unix(1, 0)}, {Tenant: "acme", Name: "a", At: time.Unix(1, 0)}}
	})
	m.Telemetry(func() (spans, logs uint64) { return 0, 0 })
	m.Ready("store", true)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	p := expfmt.NewTextParser(commonmodel.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for name, f := range families {
		names := []string{"job", "instance"} // which a scrape adds
		for _, l := range f.Metric[0].Label {
			names = append(names, l.GetName())
		}
		all[name] = names
		if f.Metric[0].Histogram != nil {
			all[name+"_count"], all[name+"_sum"] = names, names
			all[name+"_bucket"] = append(slices.Clone(names), "le")
		}
	}
	if len(all) < 40 {
		t.Fatalf("only %d metrics", len(all))
	}
	return all
}

// check holds the names in a query against the metrics that there are.
func check(t *testing.T, known map[string][]string, where, query string) (used []string) {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return nil
	}
	parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		used = append(used, v.Name)
		names, ok := known[v.Name]
		if !ok {
			t.Errorf("%s: there is no metric %s", where, v.Name)
			return nil
		}
		for _, m := range v.LabelMatchers {
			if m.Name != labels.MetricName && !slices.Contains(names, m.Name) {
				t.Errorf("%s: %s has no label %s", where, v.Name, m.Name)
			}
		}
		return nil
	})
	return used
}

// Prometheus takes the rules, they name only what there is, and the page says
// what to do about each alert.
func TestRules(t *testing.T) {
	groups, errs := rulefmt.ParseFile(rulesFile, false, commonmodel.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	page, err := os.ReadFile(sloPage)
	if err != nil {
		t.Fatal(err)
	}
	known := served(t)
	alerts := 0
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				known[r.Record] = []string{"job"}
			}
		}
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			check(t, known, r.Record+r.Alert, r.Expr)
			if r.Alert == "" {
				continue
			}
			alerts++
			if s := r.Labels["severity"]; s != "page" && s != "ticket" && s != "info" || r.Annotations["summary"] == "" {
				t.Errorf("%s: severity %q, summary %q", r.Alert, s, r.Annotations["summary"])
			}
			if !strings.Contains(string(page), "`"+r.Alert+"`") {
				t.Errorf("%s is not in %s", r.Alert, sloPage)
			}
		}
	}
	if alerts < 15 {
		t.Errorf("only %d alerts", alerts)
	}
	for _, name := range regexp.MustCompile("`(Spekeasy[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1) {
		if !slices.ContainsFunc(groups.Groups, func(g rulefmt.RuleGroup) bool {
			return slices.ContainsFunc(g.Rules, func(r rulefmt.Rule) bool { return r.Alert == name[1] })
		}) {
			t.Errorf("%s names %s, which is no alert", sloPage, name[1])
		}
	}
}

// Every panel asks for what there is, and every metric of ours has a panel.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	known := served(t)
	shown := make(map[string]bool)
	ids := make(map[int]bool)
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "a")
	for i, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("two panels %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			for _, name := range check(t, known, p.Title, variables.Replace(q.Expr)) {
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					name = strings.TrimSuffix(name, suffix)
				}
				shown[name] = true
			}
		}
		for _, o := range d.Panels[:i] {
			a, b := p.GridPos, o.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s lies over %s", p.Title, o.Title)
			}
		}
	}
	for name := range known {
		base := name
		for _, suffix := range []string{"_bucket", "_count", "_sum"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if strings.HasPrefix(name, "spekeasy_") && !shown[base] {
			t.Errorf("no panel shows %s", base)
		}
	}
}
