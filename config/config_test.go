package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tegami-im/tegami/config"
)

var rewrite = flag.Bool("rewrite", false, "rewrite docs/configuration.md")

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tegami.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDefaultsAreValid(t *testing.T) {
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, section := range config.Sections() {
		for _, key := range section.Keys {
			if err := new(config.Config).Set(key.Name, key.Default); err != nil {
				t.Error(err)
			}
		}
	}
	if c.Server.Listen != "127.0.0.1:7400" || c.Data.Shards != 256 || c.Auth.RefreshToken != 720*time.Hour {
		t.Errorf("unexpected defaults: %+v", c)
	}
}

func TestLaterLayersWin(t *testing.T) {
	file := writeFile(t, "limits:\n  send_rate: 1\n  send_burst: 2\n  poll_rate: 3\n")
	loaded, err := config.Load(config.Layers{
		File:  file,
		Env:   []string{"TEGAMI_LIMITS_SEND_BURST=20", "TEGAMI_LIMITS_POLL_RATE=30", "TEGAMI_LIMITS_SEND_RATE="},
		Flags: []config.Flag{{Key: "limits.poll_rate", Value: "300", Source: "--set"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ key, value, source string }{
		{"limits.send_rate", "1", file + ":2"},
		{"limits.send_burst", "20", "TEGAMI_LIMITS_SEND_BURST"},
		{"limits.poll_rate", "300", "flag --set"},
		{"limits.address_rate", "10", "default"},
	} {
		if got := loaded.Get(want.key); got != want.value {
			t.Errorf("%s = %s, want %s", want.key, got, want.value)
		}
		if got := loaded.Source(want.key); got != want.source {
			t.Errorf("%s comes from %q, want %q", want.key, got, want.source)
		}
	}
}

func TestMistakesInFileNameKeyAndLine(t *testing.T) {
	for _, test := range []struct{ name, yaml, want string }{
		{"unknown key", "server:\n  listn: a\n", `FILE:2: server.listn: no such key; did you mean server.listen?`},
		{"unknown section", "servers:\n  listen: a\n", `FILE:1: servers: no such section; tegami config --example lists them all`},
		{"wrong type", "data:\n\n  shards: many\n", `FILE:3: data.shards: "many" is not a whole number`},
		{"not a duration", "auth:\n  access_token: 15\n", `FILE:2: auth.access_token: "15" is not a duration such as 90s, 15m or 720h`},
		{"not a size", "limits:\n  request_size: 1 MB\n", `FILE:2: limits.request_size: "1 MB" is not a size such as 192KiB`},
		{"not one of", "journal:\n  durability: none\n", `FILE:2: journal.durability: "none" is not one of fsync, os`},
		{"list", "server:\n  listen: [a, b]\n", `FILE:2: server.listen: expected one value`},
		{"no value", "server:\n  listen:\n", `FILE:2: server.listen: expected one value`},
		{"twice", "server:\n  listen: a:1\n  listen: b:2\n", `FILE:3: server.listen: already set on line 2`},
		{"no sections", "- server\n", `FILE:1: expected sections, such as server:`},
		{"no keys", "server: 7400\n", `FILE:1: server: expected keys below this section`},
		{"two documents", "server:\n---\nadmin:\n", `FILE: more than one document`},
		{"not YAML", "server: {\n", `FILE: yaml: line 1: did not find expected node content`},
		{"out of range", "data:\n  shards: 5000\n", `FILE:2: data.shards: must be 1 to 4096`},
		{
			"all at once", "server:\n  a: 1\nlog:\n  level: loud\n",
			"FILE:2: server.a: no such key; tegami config --example lists them all\n" +
				`FILE:4: log.level: "loud" is not one of debug, info, warn, error`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := writeFile(t, test.yaml)
			_, err := config.Load(config.Layers{File: file})
			if err == nil {
				t.Fatal("accepted")
			}
			if diff := cmp.Diff(test.want, strings.ReplaceAll(err.Error(), file, "FILE")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMistakesInEnvironmentAndFlagsNameTheirSource(t *testing.T) {
	_, err := config.Load(config.Layers{
		Env:   []string{"TEGAMI_DATA_SHARDS=x"},
		Flags: []config.Flag{{Key: "data.dirr", Value: "x", Source: "--set"}},
	})
	want := "TEGAMI_DATA_SHARDS: data.shards: \"x\" is not a whole number\n" +
		"flag --set: data.dirr: no such key; did you mean data.dir?"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// A misspelt variable must be noticed, yet a container platform's
// TEGAMI_ADMIN_PORT must not stop the server.
func TestVariablesThatLookLikeKeysAreWarnedOf(t *testing.T) {
	loaded, err := config.Load(config.Layers{Env: []string{
		"TEGAMI_ADMIN_PORT=tcp://10.0.0.1:7401", "TEGAMI_PASSWORD=x", "TEGAMI_ADMIN_TOKEN=x", "TEGAMI_DATA_DIR=/data", "PATH=/bin",
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"TEGAMI_ADMIN_PORT is set, but no key has that name"}
	if diff := cmp.Diff(want, loaded.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestEmptyFilesAreFine(t *testing.T) {
	for _, content := range []string{"", "# nothing\n", "---\n", "server:\nadmin:\n", config.Example()} {
		if _, err := config.Load(config.Layers{File: writeFile(t, content)}); err != nil {
			t.Errorf("%.20q: %v", content, err)
		}
	}
}

func TestMissingFile(t *testing.T) {
	_, err := config.Load(config.Layers{File: "no/such.yaml"})
	if err == nil || err.Error() != "configuration file no/such.yaml does not exist" {
		t.Error(err)
	}
}

// The example with every comment mark before a key removed sets each key to
// its default, so that the file and the defaults cannot drift apart.
func TestExampleIsComplete(t *testing.T) {
	var uncommented strings.Builder
	for line := range strings.Lines(config.Example()) {
		key, isKey := strings.CutPrefix(line, "  # ")
		name, _, _ := strings.Cut(key, ":")
		if isKey && !strings.ContainsAny(name, " .()") && name == strings.ToLower(name) && name != "fsync" {
			line = "  " + key
		}
		uncommented.WriteString(line)
	}
	file := writeFile(t, uncommented.String())
	loaded, err := config.Load(config.Layers{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(config.Default(), loaded.Config); diff != "" {
		t.Error(diff)
	}
	for _, section := range config.Sections() {
		for _, key := range section.Keys {
			if !strings.HasPrefix(loaded.Source(key.Name), file) {
				t.Errorf("%s is not in the example", key.Name)
			}
		}
	}
}

func TestEveryKeyIsDocumented(t *testing.T) {
	for _, section := range config.Sections() {
		if section.Name == "" || !strings.HasSuffix(section.Doc, ".") {
			t.Errorf("section %q: documentation %q is no sentence", section.Name, section.Doc)
		}
		for _, key := range section.Keys {
			if !strings.HasSuffix(key.Doc, ".") {
				t.Errorf("%s: documentation %q is no sentence", key.Name, key.Doc)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name string
		set  map[string]string
		want string
	}{
		{"all interfaces", map[string]string{"server.listen": ":7400"}, "server.listen: :7400 is reachable from other machines without TLS: set tls.cert and tls.key, or server.allow_plaintext: true behind a proxy that ends TLS"},
		{"all interfaces, allowed", map[string]string{"server.listen": "0.0.0.0:7400", "server.allow_plaintext": "true"}, ""},
		{"all interfaces with TLS", map[string]string{"server.listen": ":7400", "tls.cert": "c", "tls.key": "k"}, ""},
		{"a name is not looked up", map[string]string{"server.listen": "example.org:7400"}, "server.listen: example.org:7400 is reachable from other machines without TLS: set tls.cert and tls.key, or server.allow_plaintext: true behind a proxy that ends TLS"},
		{"TLS does not cover the admin listener", map[string]string{"admin.listen": ":7401", "tls.cert": "c", "tls.key": "k"}, "admin.listen: :7401 is reachable from other machines without TLS: set admin.allow_plaintext: true if the network is private"},
		{"the cluster on every interface", map[string]string{"cluster.listen": "[::]:7500", "cluster.cert": "c", "cluster.key": "k", "cluster.ca": "a"}, "cluster.advertise: must say where other nodes reach this one, since cluster.listen is every address of the machine"},
		{"the cluster beyond this machine", map[string]string{"cluster.listen": "10.0.0.1:7500"}, "cluster.listen: 10.0.0.1:7500 is reachable from other machines without TLS: set cluster.cert, cluster.key and cluster.ca"},
		{"the cluster with TLS", map[string]string{"cluster.listen": ":7500", "cluster.advertise": "talk-1:7500", "cluster.cert": "c", "cluster.key": "k", "cluster.ca": "a"}, ""},
		{"half of the cluster's TLS", map[string]string{"cluster.cert": "c"}, "cluster.cert: cluster.cert, cluster.key and cluster.ca are set together or not at all"},
		{"a lease between seconds", map[string]string{"cluster.lease": "2500ms"}, "cluster.lease: must be whole seconds"},
		{"a name that is no label", map[string]string{"cluster.membership": "kubernetes", "cluster.kubernetes_cluster": "-x"}, "cluster.kubernetes_cluster: \"-x\" is no value of a label: 1 to 63 letters, digits, dots, underscores and hyphens, the first and the last a letter or digit"},
		{"members", map[string]string{"cluster.members": "a=10.0.0.1:7500, b=10.0.0.2:7500"}, ""},
		{"a member without address", map[string]string{"cluster.members": "a=10.0.0.1:7500,b"}, `cluster.members: "b" is not a member such as talk-1=10.0.0.1:7500`},
		{"etcd's password in the clear", map[string]string{"cluster.etcd_user": "u", "cluster.etcd_password_file": "f"}, "cluster.etcd_user: its password is sent as it is: set cluster.etcd_tls"},
		{"admin allowed", map[string]string{"admin.listen": ":7401", "admin.allow_plaintext": "true"}, ""},
		{"proxies", map[string]string{"server.proxies": "10.0.0.0/8, 127.0.0.1,::1"}, ""},
		{"a proxy's name", map[string]string{"server.proxies": "10.0.0.0/8,lb-1"}, `server.proxies: "lb-1" is no address or network such as 10.0.0.0/8`},
		{"IPv6 loopback", map[string]string{"server.listen": "[::1]:7400", "admin.listen": "localhost:0"}, ""},
		{"no port", map[string]string{"server.listen": "127.0.0.1"}, "server.listen: \"127.0.0.1\" is not an address such as 127.0.0.1:7400\n" +
			"server.listen: 127.0.0.1 is reachable from other machines without TLS: set tls.cert and tls.key, or server.allow_plaintext: true behind a proxy that ends TLS"},
		{"certificate without key", map[string]string{"tls.cert": "c"}, "tls.key: tls.cert and tls.key are set together or not at all"},
		{"refresh before access", map[string]string{"auth.refresh_token": "15m"}, "auth.refresh_token: must be longer than auth.access_token"},
		{"a provider", map[string]string{"auth.oidc_issuer": "https://login.example.com/realms/one", "auth.oidc_audience": "app", "auth.oidc_prefix": "u-"}, ""},
		{"a provider on this machine", map[string]string{"auth.oidc_issuer": "http://[::1]:8080", "auth.oidc_audience": "app"}, ""},
		{"a provider in the clear", map[string]string{"auth.oidc_issuer": "http://login.example.com", "auth.oidc_audience": "app"}, "auth.oidc_issuer: must be a URL such as https://login.example.com/realms/one: https, unless it is on this machine"},
		{"a provider that is no URL", map[string]string{"auth.oidc_issuer": "login.example.com"}, "auth.oidc_issuer: must be a URL such as https://login.example.com/realms/one: https, unless it is on this machine\n" +
			"auth.oidc_audience: must be the client id that the provider issues tokens for"},
		{"a provider with a query", map[string]string{"auth.oidc_issuer": "https://login.example.com/?a=b", "auth.oidc_audience": "app"}, "auth.oidc_issuer: must be a URL such as https://login.example.com/realms/one: https, unless it is on this machine"},
		{"a prefix that no user id has", map[string]string{"auth.oidc_issuer": "https://login.example.com", "auth.oidc_audience": "app", "auth.oidc_prefix": "1-", "auth.oidc_claim": ""}, "auth.oidc_claim: must name a claim\nauth.oidc_prefix: must be 1 to 32 of a-z0-9._- starting with a letter"},
		{"a provider, and names for whoever comes first", map[string]string{"auth.oidc_issuer": "https://login.example.com", "auth.oidc_audience": "app", "auth.registration": "open"}, "auth.registration: must not be open with auth.oidc_issuer: whoever registered a name first would keep a password for the account of its owner"},
		{"no provider", map[string]string{"auth.oidc_audience": "app", "auth.oidc_register": "true"}, "auth.oidc_audience: is of no use without auth.oidc_issuer\nauth.oidc_register: is of no use without auth.oidc_issuer"},
		{"negative retention", map[string]string{"retention.age": "-1s", "retention.operations": "-1"}, "retention.age: must not be negative\nretention.operations: must not be negative"},
		{"sizes", map[string]string{"limits.request_size": "1KiB"}, "limits.request_size: must be 128KiB to 16MiB"},
		{"rates", map[string]string{"limits.send_rate": "0"}, "limits.send_rate: must be 1 to 1000000"},
		{"a slow drain", map[string]string{"worker.drain_timeout": "10s"}, "worker.drain_timeout: must be less than worker.session_timeout"},
		{"worker exposed", map[string]string{"worker.listen": ":7411"}, "worker.listen: :7411 is reachable from other machines without TLS: set worker.allow_plaintext: true if the network is private"},
		{"hooks without secrets", map[string]string{"webhook.urls": "https://example.org", "push.url": "https://example.org"}, "webhook.secret_file: must name a file: requests are signed\npush.secret_file: must name a file: requests are signed"},
		{"no topics", map[string]string{"store.kind": "hybrid", "events.topic": "a b"}, "events.topic: \"a b\" is no name of a topic: 1 to 249 letters, digits, dots, underscores and hyphens, the first no dot or hyphen"},
		{"one topic for two", map[string]string{"store.kind": "hybrid", "analytics.topic": "tegami.tasks.dead"}, "analytics.topic: \"tegami.tasks.dead\" is a topic of worker.tasks"},
		{"a hook slower than an attempt", map[string]string{"webhook.urls": "https://example.org", "webhook.secret_file": "s", "webhook.timeout": "11s"}, "webhook.timeout: must be 10ms to worker.timeout"},
		{"poll timeout", map[string]string{"limits.poll_timeout": "121s"}, "limits.poll_timeout: must be 1s to 2m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := config.Default()
			for key, value := range test.set {
				if err := c.Set(key, value); err != nil {
					t.Fatal(err)
				}
			}
			got := ""
			if err := c.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What Get prints, Set reads back as the same value.
func TestValuesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := config.Default()
		c.Retention.Age = time.Duration(rapid.Int64().Draw(t, "age"))
		c.Retention.Operations = rapid.Int64().Draw(t, "operations")
		c.Limits.RequestSize = config.Bytes(rapid.Int64().Draw(t, "size"))
		c.Data.Dir = rapid.String().Draw(t, "dir")
		c.Server.AllowPlaintext = rapid.Bool().Draw(t, "plaintext")
		var back config.Config
		for _, section := range config.Sections() {
			for _, key := range section.Keys {
				if err := back.Set(key.Name, c.Get(key.Name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if diff := cmp.Diff(c, back); diff != "" {
			t.Error(diff)
		}
	})
}

const docsHead = `# Configuration

<!-- Generated by: go test ./config -rewrite -->

A key's value comes from the last of these that sets it: the default, the YAML
file (` + "`tegami serve --config FILE`" + `), the environment, a flag. Unknown keys in the
file are refused with their line. ` + "`tegami config`" + ` prints the effective values and
where each came from; ` + "`tegami config --example`" + ` prints a commented file to start
from. Any key can be set by a flag: ` + "`--set limits.send_rate=500`" + `. Durations are
written ` + "`90s`, `15m`, `720h`" + `; sizes ` + "`192KiB`, `4MiB`" + `.
`

func TestDocsAreUpToDate(t *testing.T) {
	const file = "../docs/configuration.md"
	want := docsHead + config.Markdown()
	if *rewrite {
		if err := os.MkdirAll("../docs", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run go test ./config -rewrite:\n%s", diff)
	}
}

func FuzzYAML(f *testing.F) {
	f.Add(config.Example())
	f.Add("server: {listen: *a}")
	f.Add("server: &a {listen: x}\nadmin: *a")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content string) {
		file := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, err := config.Load(config.Layers{File: file})
		if err != nil {
			return
		}
		if err := loaded.Validate(); err != nil {
			t.Errorf("accepted, yet %v", err)
		}
	})
}
