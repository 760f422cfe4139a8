package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// promtool runs Prometheus' own checker (Debian's package prometheus).
func promtool(t *testing.T, arguments ...string) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "promtool", arguments...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, output)
	}
}

const prometheusFolder = "../../deploy/prometheus/"

func TestPrometheusTakesItsRulesAndConfiguration(t *testing.T) {
	promtool(t, "check", "rules", prometheusFolder+"tegami.rules.yaml")
	promtool(t, "check", "config", prometheusFolder+"prometheus.yaml")
	// Debian's promtool knows no Kubernetes: all but the way to find pods is checked.
	content, err := os.ReadFile(prometheusFolder + "kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const pods = "kubernetes_sd_configs: [{role: pod}]"
	if !strings.Contains(string(content), pods) {
		t.Errorf("it does not find pods by %s", pods)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(content), pods, "static_configs: []")), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "config", "--syntax-only", file)
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, "test", "rules", prometheusFolder+"tegami.rules_test.yaml")
}

// What dashboards ask is valid: each query becomes a rule that promtool reads.
func TestDashboardsAskWhatPrometheusUnderstands(t *testing.T) {
	files, err := filepath.Glob("../../deploy/grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards, %v", err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		if err := json.Unmarshal(content, &dashboard); err != nil {
			t.Fatal(err)
		}
		type rule struct {
			Record string `json:"record"`
			Expr   string `json:"expr"`
		}
		var rules []rule
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				rules = append(rules, rule{"panel:query", variables.Replace(target.Expr)})
			}
		}
		if len(rules) < 10 {
			t.Fatalf("%s asks only %d times", file, len(rules))
		}
		text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
		if err != nil {
			t.Fatal(err)
		}
		written := filepath.Join(t.TempDir(), "rules.yaml")
		if err := os.WriteFile(written, text, 0o600); err != nil {
			t.Fatal(err)
		}
		promtool(t, "check", "rules", "--lint=none", written)
	}
}
