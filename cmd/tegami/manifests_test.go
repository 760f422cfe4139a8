package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tegami-im/tegami/config"
)

// manifest is an object of Kubernetes, as far as it configures a node.
type manifest struct {
	Kind     string
	Metadata struct{ Name string }
	Data     map[string]string
	Spec     struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Name string
					Args []string
					Env  []struct {
						Name, Value string
						ValueFrom   map[string]any `yaml:"valueFrom"`
					}
				}
			}
		}
	}
}

// The program takes what the manifests give it: no key is unknown, no value is
// refused, and a talk node and a gateway would start.
func TestManifestsAreAConfiguration(t *testing.T) {
	content, err := os.ReadFile("../../deploy/kubernetes/tegami.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "tegami.yaml")
	var manifests []manifest
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		var m manifest
		if err := yaml.Unmarshal([]byte(document), &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == "ConfigMap" {
			if err := os.WriteFile(file, []byte(m.Data["tegami.yaml"]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		manifests = append(manifests, m)
	}
	started := map[string]bool{}
	for _, m := range manifests {
		for _, container := range m.Spec.Template.Spec.Containers {
			// What Kubernetes fills in.
			known := strings.NewReplacer("$(POD_NAME)", "tegami-talk-0", "$(POD_IP)", "10.1.2.3")
			var environment []string
			for _, variable := range container.Env {
				if variable.ValueFrom == nil {
					environment = append(environment, variable.Name+"="+known.Replace(variable.Value))
				}
			}
			loaded, err := config.Load(config.Layers{File: file, Env: environment})
			if err != nil {
				t.Errorf("%s: %v", container.Name, err)
				continue
			}
			if len(loaded.Warnings) > 0 {
				t.Errorf("%s: %v", container.Name, loaded.Warnings)
			}
			if err := checkTalk(&loaded.Config); err != nil {
				t.Errorf("%s: %v", container.Name, err)
			}
			if container.Name == "talk" && adminAddress(&loaded.Config) != "10.1.2.3:7401" {
				t.Errorf("operators are told to look at %s", adminAddress(&loaded.Config))
			}
			started[container.Args[0]] = true
		}
	}
	for _, command := range []string{"gateway", "talk", "worker", "admin"} {
		if !started[command] {
			t.Errorf("nobody runs tegami %s", command)
		}
	}
}

func TestOperatorsAreToldWhereToLook(t *testing.T) {
	for _, test := range []struct{ listen, advertise, clusterListen, clusterAdvertise, want string }{
		{"127.0.0.1:7401", "", "127.0.0.1:7500", "", "127.0.0.1:7401"},
		{"10.0.0.1:7401", "", "10.0.0.2:7500", "", "10.0.0.1:7401"},
		{":7401", "", ":7500", "10.0.0.3:7500", "10.0.0.3:7401"},
		{"0.0.0.0:7401", "", "10.0.0.2:7500", "", "10.0.0.2:7401"},
		{"[::]:7401", "", "[::]:7500", "[fd00::1]:7500", "[fd00::1]:7401"},
		{":7401", "admin.example.org:80", "10.0.0.2:7500", "", "admin.example.org:80"},
		{"127.0.0.1:0", "", "127.0.0.1:7500", "", ""},
	} {
		c := config.Default()
		c.Admin.Listen, c.Admin.Advertise = test.listen, test.advertise
		c.Cluster.Listen, c.Cluster.Advertise = test.clusterListen, test.clusterAdvertise
		if got := adminAddress(&c); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
