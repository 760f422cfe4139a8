// Package cluster runs gateways and talk nodes as processes, kills, pauses,
// stops and restarts them under load from real clients, and has the checker
// look for what was lost.
package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

func TestMain(m *testing.M) { process.Main(m) }

const (
	// hangLimit is against hanging.
	hangLimit = 2 * time.Minute
	// between is how many sends show that traffic flows.
	between = 300
	lease   = 2 * time.Second
)

// complaints are what the nodes say of what is done to them here.
// One that slept finds its connections to the stores gone, and the log that it
// was reading cut off by the node that has its shards by then.
var complaints = []string{
	"another node is silent", "etcd", "evicted", "returning to the cluster", "cannot return to the cluster", "not everything was drained",
	"the others are not told", "store=hbase", "was truncated while it was read",
}

// members of a cluster, as processes.
type system struct {
	t       *testing.T
	talk    []*process.Server
	gateway *process.Server
	users   *workload.Workload
}

// node prepares a node with a place of its own.
func node(t *testing.T, command, name, address, config string, flags ...string) *process.Server {
	t.Helper()
	return process.New(t, process.Options{
		Binary: process.Build(t), Command: command, Config: config,
		Flags: append([]string{"--set", "cluster.name=" + name, "--set", "cluster.listen=" + address}, flags...),
	})
}

// tegami runs the program to its end.
func tegami(t *testing.T, arguments ...string) (output []byte) {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), process.Build(t), arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", arguments, err, output)
	}
	return output
}

// awaitMembers waits until operators see these members, and an owner for every
// shard.
func awaitMembers(t *testing.T, config string, want ...string) {
	t.Helper()
	file := t.TempDir() + "/tegami.yaml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var names []string
	for deadline := time.Now().Add(hangLimit); time.Now().Before(deadline); <-time.After(100 * time.Millisecond) {
		var status struct {
			Unowned int
			Members []struct{ Name string }
		}
		if err := json.Unmarshal(tegami(t, "cluster", "status", "--output", "json", "--config", file), &status); err != nil {
			t.Fatal(err)
		}
		names = names[:0]
		for _, m := range status.Members {
			names = append(names, m.Name)
		}
		if slices.Equal(names, want) && status.Unowned == 0 {
			return
		}
	}
	t.Fatalf("the members are %v, want %v", names, want)
}

// certified makes the certificate of a node, and returns the flags that name it.
func certified(t *testing.T, dir, role, name string) []string {
	t.Helper()
	tegami(t, "admin", "cert", "node", name, "--dir", dir, "--role", role, "--address", "127.0.0.1")
	return []string{
		"--set", "cluster.cert=" + dir + "/" + name + ".pem", "--set", "cluster.key=" + dir + "/" + name + ".key",
		"--set", "cluster.ca=" + dir + "/ca.pem",
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

const generous = `
auth: {access_token: 24h, refresh_token: 48h}
limits: {send_rate: 100000, send_burst: 100000, poll_rate: 10000, poll_burst: 10000, find_rate: 10000, find_burst: 10000}
mailbox: {chat_copies: 4}
`

// TestGatewayHoldsItsConnectionsWhileTheTalkNodeRestarts has one talk node, on a
// store of its own, behind a gateway, with TLS between them.
func TestGatewayHoldsItsConnectionsWhileTheTalkNodeRestarts(t *testing.T) {
	address, certs := freeAddress(t), t.TempDir()
	tegami(t, "admin", "cert", "authority", "--dir", certs)
	config := generous + "data: {shards: 16}\ncluster: {membership: static, members: \"talk-1=" + address + "\"}\n"
	s := &system{t: t, talk: []*process.Server{node(t, "talk", "talk-1", address, config, certified(t, certs, "talk", "talk-1")...)}}
	s.gateway = node(t, "gateway", "gateway-1", freeAddress(t), config, certified(t, certs, "gateway", "gateway-1")...)
	s.start(8)
	for what, end := range map[string]func(*process.Server){"killed": (*process.Server).Kill, "stopped": (*process.Server).Stop} {
		s.flows("before")
		began := time.Now()
		end(s.talk[0])
		ended := time.Since(began)
		s.talk[0].Start()
		took := s.flows(what)
		t.Logf("progress: %s in %d ms and started: %d acknowledged %d ms later", what, ended.Milliseconds(), between, took.Milliseconds())
	}
	s.judge(1000)
}

// TestTalkNodesComeAndGo has two talk nodes on the servers of a hybrid store.
func TestTalkNodesComeAndGo(t *testing.T) {
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka, stack.Etcd)
	config := onServers(t, servers)
	s := &system{t: t}
	for _, name := range []string{"talk-1", "talk-2"} {
		s.talk = append(s.talk, node(t, "talk", name, freeAddress(t), config))
	}
	s.gateway = node(t, "gateway", "gateway-1", freeAddress(t), config)
	s.start(16)
	awaitMembers(t, config, "gateway-1", "talk-1", "talk-2")
	one, two := s.talk[0], s.talk[1]
	for _, event := range []struct {
		name string
		make func()
	}{
		{"a talk node is killed", two.Kill},
		{"it returns", two.Start},
		{"a talk node is stopped", one.Stop},
		{"it returns", one.Start},
		{"a talk node sleeps for three times its lease", func() {
			two.Signal(syscall.SIGSTOP)
			<-time.After(3 * lease)
			s.flows("while it sleeps")
			two.Signal(syscall.SIGCONT)
			for deadline := time.Now().Add(hangLimit); s.evictions() != 1; <-time.After(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("it does not learn that it was evicted")
				}
			}
			awaitMembers(t, config, "gateway-1", "talk-1", "talk-2")
		}},
		{"etcd is killed for four times the lease", func() {
			servers.Kill(t, stack.Etcd)
			<-time.After(4 * lease)
			s.flows("without etcd")
			servers.Up(t, stack.Etcd)
			<-time.After(2 * lease)
			if n := s.evictions(); n != 1 {
				t.Errorf("%d talk nodes were evicted by an outage of etcd", n-1)
			}
		}},
		{"all nodes are killed", func() {
			for _, server := range []*process.Server{one, two, s.gateway} {
				server.Kill()
			}
			for _, server := range []*process.Server{one, two, s.gateway} {
				server.Start()
			}
		}},
	} {
		s.flows("before")
		event.make()
		took := s.flows(event.name)
		t.Logf("progress: %s: %d acknowledged %d ms later", event.name, between, took.Milliseconds())
	}
	awaitMembers(t, config, "gateway-1", "talk-1", "talk-2")
	s.judge(5000)
}

// onServers returns the configuration of a cluster on the servers of a hybrid
// store, whose topics and tables it makes.
func onServers(t *testing.T, servers *stack.Stack) string {
	t.Helper()
	config := fmt.Sprintf(`
data: {shards: 32}
store: {kind: hybrid}
kafka: {brokers: %q, topic: cluster, allow_one_broker: true, keep: 0s, truncate: 1s}
hbase: {zookeeper: %q, prefix: cluster_, regions: 2}
redis: {addresses: %q, prefix: cluster}
cluster: {etcd: %q, lease: %v}
`, servers.Addr(stack.Kafka), servers.Addr(stack.HBase), servers.Addr(stack.Redis), servers.Addr(stack.Etcd), lease) + generous
	applySchema(t, config)
	return config
}

// start starts all nodes and has users send and poll.
func (s *system) start(users int) {
	s.t.Helper()
	for _, server := range s.talk {
		server.Start()
	}
	s.gateway.Start()
	s.users = workload.New(s.t, s.gateway, workload.Options{Users: users, Devices: 2, Senders: 2, Mix: 250 * time.Millisecond, Seed: workload.Seed(s.t)})
	s.users.StartReceiving()
	s.users.StartSending()
}

// evictions counts how often talk nodes learned that they are no members.
func (s *system) evictions() (n int) {
	for _, server := range s.talk {
		n += strings.Count(server.Log(), "evicted from the cluster")
	}
	return n
}

// flows waits until more was acknowledged, and returns how long that took.
func (s *system) flows(when string) time.Duration {
	s.t.Helper()
	began, from := time.Now(), s.users.Acked()
	if !s.users.AwaitAcked(from+between, hangLimit) {
		s.t.Fatalf("%s: %d of %d acknowledged within %v", when, s.users.Acked()-from, between, hangLimit)
	}
	return time.Since(began)
}

// judge ends the run.
func (s *system) judge(wantAcked int) {
	s.t.Helper()
	report := s.users.Judge(complaints...)
	for _, server := range s.talk {
		for _, complaint := range server.Complaints() {
			if !slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(complaint, word) }) {
				s.t.Errorf("a talk node complained: %s", complaint)
			}
		}
	}
	if report.Acked < wantAcked {
		s.t.Errorf("%d acknowledged, which proves too little: want %d", report.Acked, wantAcked)
	}
}

func applySchema(t *testing.T, config string) {
	t.Helper()
	file := t.TempDir() + "/tegami.yaml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	tegami(t, "admin", "schema", "apply", "--config", file)
}
