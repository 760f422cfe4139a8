package doctor

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/config"
)

// healthy returns a configuration that nothing is wrong with.
func healthy(t *testing.T) *config.Config {
	c := config.Default()
	c.Data.Dir = filepath.Join(t.TempDir(), "data")
	c.Server.Listen, c.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0"
	return &c
}

func makeFile(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("x"), mode); err != nil {
		t.Fatal(err)
	}
}

func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name   string
		check  func(*testing.T, *config.Config) Finding
		state  State
		remedy string
	}{
		{"missing data folder", func(t *testing.T, c *config.Config) Finding {
			return dataFolder(t.Context(), c)
		}, OK, ""},
		{"data folder below one that is missing", func(t *testing.T, c *config.Config) Finding {
			c.Data.Dir = filepath.Join(c.Data.Dir, "deeper")
			return dataFolder(t.Context(), c)
		}, OK, ""},
		{"closed data folder", func(t *testing.T, c *config.Config) Finding {
			makeFile(t, filepath.Join(c.Data.Dir, "FORMAT"), 0o600)
			return dataFolder(t.Context(), c)
		}, OK, ""},
		{"data folder is a file", func(t *testing.T, c *config.Config) Finding {
			makeFile(t, c.Data.Dir, 0o600)
			return dataFolder(t.Context(), c)
		}, Problem, "--data"},
		{"data folder open to others", func(t *testing.T, c *config.Config) Finding {
			makeFile(t, filepath.Join(c.Data.Dir, "FORMAT"), 0o600)
			if err := os.Chmod(c.Data.Dir, 0o755); err != nil {
				t.Fatal(err)
			}
			return dataFolder(t.Context(), c)
		}, Warning, "chmod 700 "},
		{"secrets not made yet", func(t *testing.T, c *config.Config) Finding {
			return secrets(t.Context(), c)
		}, OK, ""},
		{"admin token open to others", func(t *testing.T, c *config.Config) Finding {
			makeFile(t, filepath.Join(c.Data.Dir, "admin.token"), 0o644)
			return secrets(t.Context(), c)
		}, Problem, "chmod 600 "},
		{"no certificate", func(t *testing.T, c *config.Config) Finding {
			return certificate(t.Context(), c)
		}, OK, ""},
		{"certificate missing", func(t *testing.T, c *config.Config) Finding {
			c.TLS.Cert, c.TLS.Key = "no.pem", "no.key"
			return certificate(t.Context(), c)
		}, Problem, "tls.cert"},
		{"free port", func(t *testing.T, c *config.Config) Finding {
			return port(t.Context(), c, "127.0.0.1:0")
		}, OK, ""},
		{"port of a stranger", func(t *testing.T, c *config.Config) Finding {
			var listen net.ListenConfig
			stranger, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stranger.Close() })
			return port(t.Context(), c, stranger.Addr().String())
		}, Problem, "ss -ltnp"},
		{"port of the running server", func(t *testing.T, c *config.Config) Finding {
			running := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			t.Cleanup(running.Close)
			c.Admin.Listen = running.Listener.Addr().String()
			return port(t.Context(), c, c.Admin.Listen)
		}, OK, ""},
		{"disk with less than is kept free", func(t *testing.T, c *config.Config) Finding {
			c.Data.Reserve = 1 << 60
			return diskSpace(t.Context(), c)
		}, Problem, "df -h "},
		{"clock behind the data", func(t *testing.T, c *config.Config) Finding {
			file := filepath.Join(c.Data.Dir, "FORMAT")
			makeFile(t, file, 0o600)
			later := time.Now().Add(time.Hour)
			if err := os.Chtimes(file, later, later); err != nil {
				t.Fatal(err)
			}
			return clock(t.Context(), c)
		}, Problem, "timedatectl"},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := test.check(t, healthy(t))
			if found.State != test.state || !strings.Contains(found.Remedy, test.remedy) {
				t.Errorf("got %+v, want state %s and a remedy with %q", found, test.state, test.remedy)
			}
			if (found.State == OK) != (found.Remedy == "") {
				t.Errorf("state %s has the remedy %q", found.State, found.Remedy)
			}
		})
	}
}

func TestFsyncIsMeasuredAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	took, err := measureFsync(t.Context(), dir)
	if err != nil || len(took) == 0 || took[0] <= 0 {
		t.Errorf("measured %v, %v", took, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestExamineNamesEachCheck(t *testing.T) {
	seen := make(map[string]bool)
	for _, finding := range Examine(t.Context(), healthy(t)) {
		if finding.Check == "" || finding.Text == "" || seen[finding.Check] {
			t.Errorf("%+v", finding)
		}
		seen[finding.Check] = true
	}
	if len(seen) != len(checks()) {
		t.Errorf("%d findings for %d checks", len(seen), len(checks()))
	}
}

func TestServersOfAHybridStore(t *testing.T) {
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	gone, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	c := config.Default()
	c.Store.Kind = config.StoreHybrid
	c.Kafka.Brokers = listener.Addr().String()
	c.HBase.ZooKeeper = gone.Addr().String()
	c.Redis.Addresses = gone.Addr().String() + ", " + listener.Addr().String()
	want := map[string]State{"kafka": OK, "hbase": Problem, "redis": Warning}
	for _, check := range stores(&c) {
		if finding := check.run(t.Context(), &c); finding.State != want[check.name] {
			t.Errorf("%s: %+v, want %s", check.name, finding, want[check.name])
		}
		delete(want, check.name)
	}
	if len(want) > 0 {
		t.Errorf("not looked at: %v", want)
	}
}
