package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/cluster/authority"
	"github.com/tegami-im/tegami/cluster/remote"
	"github.com/tegami-im/tegami/config"
	"github.com/tegami-im/tegami/internal/fleet"
)

// healthyCluster returns two talk nodes and a gateway that nothing is wrong with.
func healthyCluster() *Cluster {
	c := config.Default()
	c.Data.Shards = 16
	k := &Cluster{Config: &c}
	for i, m := range []cluster.Member{
		{Name: "talk-1", Role: cluster.RoleTalk}, {Name: "talk-2", Role: cluster.RoleTalk}, {Name: "gateway-1", Role: cluster.RoleGateway},
	} {
		m.ID, m.Address, m.State, m.Weight, m.Version = m.Name+".1", "127.0.0.1:1", cluster.StateActive, 100, "v1"
		n := fleet.Node{Member: m, Within: time.Millisecond, Info: &fleet.Info{Name: m.Name, Settings: fleet.Settings(&c, m.Role)}}
		n.Metrics = fleet.Metrics{
			`tegami_cluster_members{role="talk",state="active"}`: 2, `tegami_cluster_members{role="gateway",state="active"}`: 1,
			`tegami_shards{state="open"}`: []float64{9, 7, 0}[i],
		}
		if m.Role == cluster.RoleGateway {
			n.Info.SigningKey = "k1"
		}
		k.Members.Members = append(k.Members.Members, m)
		k.Nodes = append(k.Nodes, n)
	}
	return k
}

func TestAHealthyClusterHasNothingToMend(t *testing.T) {
	findings := ExamineCluster(t.Context(), healthyCluster())
	if len(findings) != 10 {
		t.Errorf("%d findings", len(findings))
	}
	for _, f := range findings {
		if f.State != OK || f.Remedy != "" || f.Check == "" || f.Text == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestWhatIsWrongInACluster(t *testing.T) {
	for _, test := range []struct {
		name         string
		break_       func(*Cluster)
		check        string
		state        State
		text, remedy string
	}{
		{"no talk node", func(c *Cluster) {
			for i := range c.Members.Members {
				c.Members.Members[i].State = cluster.StateDraining
			}
		}, "members", Problem, "no talk node", "tegami talk"},
		{"one drains", func(c *Cluster) { c.Members.Members[1].State = cluster.StateDraining }, "members", Warning, "talk-2 drains", "undrain"},
		{"one whose clock is wrong", func(c *Cluster) { c.Members.Members[0].Unfit = "clock" }, "fitness", Problem, "talk-1 (clock)", "set-ntp"},
		{"one that is unfit for a reason of a later version", func(c *Cluster) { c.Members.Members[0].Unfit = "moon" }, "fitness", Problem, "talk-1 (moon)", "log"},
		{"one does not answer", func(c *Cluster) {
			c.Nodes[1].Err, c.Nodes[1].Info, c.Nodes[1].Metrics = errors.New("refused"), nil, nil
		}, "answers", Warning, "talk-2 (refused)", "admin.advertise"},
		{"one knows fewer members", func(c *Cluster) {
			c.Nodes[2].Metrics[`tegami_cluster_members{role="talk",state="active"}`] = 1
		}, "views", Warning, "gateway-1 knows 1 of role talk, not 2", "etcd"},
		{"a shard is halted", func(c *Cluster) { c.Nodes[0].Metrics[`tegami_shards{state="halted"}`] = 2 }, "shards", Problem, "2 of talk-1", "runbooks"},
		{"a shard opens", func(c *Cluster) { c.Nodes[0].Metrics[`tegami_shards{state="opening"}`] = 1 }, "shards", Warning, "1 of talk-1", "again"},
		{"shards that nobody has", func(c *Cluster) { c.Nodes[0].Metrics[`tegami_shards{state="open"}`] = 1 }, "shards", Problem, "8 of 16", "status"},
		{"a clock that is a little off", func(c *Cluster) { c.Nodes[0].Ahead = -2 * time.Second }, "clocks", Warning, "talk-1 is 1.999s", "set-ntp"},
		{"a clock that is far off", func(c *Cluster) { c.Nodes[2].Ahead = time.Minute }, "clocks", Problem, "gateway-1", "chronyc"},
		{"an answer that took long says little of a clock", func(c *Cluster) { c.Nodes[0].Ahead, c.Nodes[0].Within = time.Second, time.Second }, "clocks", OK, "none", ""},
		{"half an upgrade", func(c *Cluster) { c.Members.Members[1].Version = "v2" }, "versions", Warning, "v1: talk-1, gateway-1; v2: talk-2", "upgrade"},
		{"another number of shards", func(c *Cluster) { c.Nodes[1].Info.Settings["data.shards"] = "32" }, "settings", Problem, `data.shards is "16" on talk-1, gateway-1 and "32" on talk-2`, "tegami config"},
		{"other brokers", func(c *Cluster) { c.Nodes[1].Info.Settings["kafka.brokers"] = "b:9092" }, "settings", Warning, "kafka.brokers", "several addresses"},
		{"another signing key", func(c *Cluster) {
			c.Nodes[1].Info.SigningKey = "k2"
		}, "signing key", OK, "own", ""},
		{"another signing key, and nobody to learn it from", func(c *Cluster) {
			c.Nodes[1].Info.SigningKey, c.Config.Cluster.Membership = "k2", config.MembershipStatic
		}, "signing key", Problem, "gateway-1 | talk-2", "signing.key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := healthyCluster()
			test.break_(c)
			for _, f := range ExamineCluster(t.Context(), c) {
				if f.Check != test.check {
					continue
				}
				if f.State != test.state || !strings.Contains(f.Text, test.text) || !strings.Contains(f.Remedy, test.remedy) {
					t.Errorf("%+v, want %s with %q and a remedy with %q", f, test.state, test.text, test.remedy)
				}
				if (f.State == OK) != (f.Remedy == "") {
					t.Errorf("state %s has the remedy %q", f.State, f.Remedy)
				}
			}
		})
	}
}

// showing serves a certificate at a loopback address, as a node does.
func showing(t *testing.T, dir, name string, role cluster.Role, valid time.Duration) string {
	t.Helper()
	if err := authority.Issue(dir, remote.Identity{Role: role, Name: name}, []string{"127.0.0.1"}, valid); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if secure, ok := conn.(*tls.Conn); ok {
				_ = secure.HandshakeContext(t.Context())
			}
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func TestCertificatesOfNodes(t *testing.T) {
	dir := t.TempDir()
	if err := authority.Create(dir); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for _, test := range []struct {
		name  string
		shows string
		valid time.Duration
		state State
		text  string
	}{
		{"good for long", "talk-1", 90 * 24 * time.Hour, OK, "good until"},
		{"good for days", "talk-1", 72 * time.Hour, Warning, "ends in 2 days"},
		{"ended", "talk-1", -time.Hour, Problem, "expired"},
		{"that of another", "talk-9", 90 * 24 * time.Hour, Problem, "tegami://talk/talk-9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := healthyCluster()
			c.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
			c.Members.Members = c.Members.Members[:1]
			c.Members.Members[0].Address = showing(t, dir, test.shows, cluster.RoleTalk, test.valid)
			if f := clusterCertificates(t.Context(), c); f.State != test.state || !strings.Contains(f.Text, test.text) {
				t.Errorf("%+v, want %s with %q", f, test.state, test.text)
			}
		})
	}
}
