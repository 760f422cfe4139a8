package telemetry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// alert is one of Prometheus' rules, as far as it is looked at here.
type alert struct {
	Alert, Expr string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	content, err := os.ReadFile("../deploy/prometheus/tegami.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alert } }
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("only %d alerts are found", len(all))
	}
	return all
}

// queries returns what alerts and dashboards ask Prometheus, by where they do.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, a := range alerts(t) {
		all[a.Alert] = a.Expr
	}
	dashboards, err := filepath.Glob("../deploy/grafana/*.json")
	if err != nil || len(dashboards) == 0 {
		t.Fatalf("no dashboards, %v", err)
	}
	for _, file := range dashboards {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(content, &dashboard); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				name := filepath.Base(file) + ": " + panel.Title
				all[name] += target.Expr + "\n"
			}
		}
	}
	return all
}

// Every metric that an alert or a dashboard names is exported by some process,
// and every metric but those in passing is looked at by one.
func TestAlertsAndDashboardsNameMetricsThatExist(t *testing.T) {
	declared := regexp.MustCompile(`"(tegami_[a-z_]+)", (?:Help: )?"`)
	exported := names(t, declared, "../telemetry/*.go", "../cmd/tegami/*.go")
	for line := range strings.Lines(strings.Join(scrape(t, New(), ""), "\n")) { // Go's own
		if name, found := strings.CutPrefix(line, "# TYPE "); found {
			exported = append(exported, strings.Fields(name)[0])
		}
	}
	exported = append(exported, "up")
	used := map[string]bool{}
	metric := regexp.MustCompile(`\b(tegami|process|go)_[a-z_]+|\bup\b`)
	for where, query := range queries(t) {
		for _, name := range metric.FindAllString(query, -1) {
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				name = strings.TrimSuffix(name, suffix)
			}
			if used[name] = true; !slices.Contains(exported, name) {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	// What goes without: told elsewhere, or for a closer look.
	without := []string{
		"tegami_edge_stage_seconds", "tegami_request_seconds", "tegami_fsyncs_total", "tegami_journal_queued_appends",
		"tegami_analytics_messages_total", "tegami_audit_rounds_total", "tegami_audit_operations_total",
	}
	for _, name := range exported {
		if strings.HasPrefix(name, "tegami_") && !used[name] && !slices.Contains(without, name) {
			t.Errorf("no alert and no dashboard shows %s", name)
		}
	}
}

// A value that a label never has would keep an alert silent for ever.
func TestAlertsAndDashboardsNameLabelValuesThatExist(t *testing.T) {
	sources := ""
	for _, glob := range []string{
		"*.go", "../actors/node/*.go", "../actors/behaviour/*.go", "../api/server/*.go", "../api/gen/tegami/v1/tegamiv1connect/*.go",
		"../cluster/*.go", "../worker/*.go", "../cmd/tegami/nodeinfo.go", "../deploy/prometheus/prometheus.yaml",
	} {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files, %v", glob, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources += string(content)
		}
	}
	// Codes are Connect's.
	codes := []string{"ok", "unavailable", "internal", "unknown", "deadline_exceeded", "resource_exhausted"}
	selector := regexp.MustCompile(`\b([a-z]+)(?:=~?|!=)"([^"]*)"`)
	for where, query := range queries(t) {
		for _, match := range selector.FindAllStringSubmatch(query, -1) {
			label, values := match[1], match[2]
			for value := range strings.SplitSeq(values, "|") {
				switch {
				case label == "instance", label == "le", value == "tegami-.*":
				case label == "code":
					if !slices.Contains(codes, value) {
						t.Errorf("%s: there is no code %q", where, value)
					}
				case !strings.Contains(sources, `"`+value+`"`):
					t.Errorf("%s: nothing gives the label %s the value %q", where, label, value)
				}
			}
		}
	}
}

// Each alert has its paragraph for whoever is woken by it, and leads there.
func TestEveryAlertHasARunbook(t *testing.T) {
	content, err := os.ReadFile("../docs/runbooks.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(string(content), "\n### ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		text, _, _ = strings.Cut(text, "\n## ")
		sections[title] = text
	}
	var named, written []string
	for _, a := range alerts(t) {
		named = append(named, a.Alert)
		if want := "docs/runbooks.md#" + strings.ToLower(a.Alert); !strings.HasSuffix(a.Annotations["runbook_url"], want) {
			t.Errorf("%s leads to %s, want %s", a.Alert, a.Annotations["runbook_url"], want)
		}
	}
	for title, text := range sections {
		written = append(written, title)
		if words := len(strings.Fields(text)); words < 20 {
			t.Errorf("%s: %d words help nobody", title, words)
		}
	}
	slices.Sort(named)
	slices.Sort(written)
	if diff := cmp.Diff(named, written); diff != "" {
		t.Errorf("docs/runbooks.md (-alerts +paragraphs):\n%s", diff)
	}
}
