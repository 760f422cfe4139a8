package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

// proof is three talk nodes and two gateways. Between the third talk node and
// Kafka, etcd, and those who talk to it, there are relays.
type proof struct {
	system

	servers           *stack.Stack
	second            *process.Server // gateway
	config            string          // of an operator, a file
	kafka, etcd, link *stack.Relay
	fourth            *process.Server
}

// settings returns the configuration of a node that reaches Kafka and etcd at
// these addresses.
func settings(servers *stack.Stack, kafka, etcd string) string {
	return fmt.Sprintf(`
data: {shards: 32}
store: {kind: hybrid}
kafka: {brokers: %q, topic: proof, allow_one_broker: true, keep: 0s, truncate: 1s}
hbase: {zookeeper: %q, prefix: proof_, regions: 2}
redis: {addresses: %q, prefix: proof}
cluster: {etcd: %q, lease: %v}
`, kafka, servers.Addr(stack.HBase), servers.Addr(stack.Redis), etcd, lease) + generous
}

func newProof(t *testing.T) *proof {
	servers, err := stack.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	servers.StopAfter(t)
	p := &proof{system: system{t: t}, servers: servers}
	// Kafka tells those who come by the second listener that it is at the relay.
	behind, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p.kafka = stack.NewRelay(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(behind)))
	p.etcd = stack.NewRelay(t, servers.Addr(stack.Etcd))
	servers.Set("KAFKA_PROPERTIES", strings.Join([]string{
		fmt.Sprintf("listeners=PLAINTEXT://%s,RELAYED://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", servers.Addr(stack.Kafka), behind, servers.Port("KAFKA_CONTROLLER_PORT")),
		fmt.Sprintf("advertised.listeners=PLAINTEXT://%s,RELAYED://%s", servers.Addr(stack.Kafka), p.kafka.Addr()),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,RELAYED:PLAINTEXT,CONTROLLER:PLAINTEXT",
	}, "\n"))
	servers.Up(t, stack.Redis, stack.HBase, stack.Kafka, stack.Etcd)
	direct := settings(servers, servers.Addr(stack.Kafka), servers.Addr(stack.Etcd))
	applySchema(t, direct)
	p.config = t.TempDir() + "/tegami.yaml"
	if err := os.WriteFile(p.config, []byte(direct), 0o600); err != nil {
		t.Fatal(err)
	}
	p.talk = []*process.Server{
		node(t, "talk", "talk-1", freeAddress(t), direct),
		node(t, "talk", "talk-2", freeAddress(t), direct),
	}
	third := freeAddress(t)
	p.link = stack.NewRelay(t, third)
	p.talk = append(p.talk, node(t, "talk", "talk-3", third, settings(servers, p.kafka.Addr(), p.etcd.Addr()), "--set", "cluster.advertise="+p.link.Addr()))
	p.fourth = node(t, "talk", "talk-4", freeAddress(t), direct)
	p.gateway = node(t, "gateway", "gateway-1", freeAddress(t), direct)
	p.second = node(t, "gateway", "gateway-2", freeAddress(t), direct)
	p.second.Launch()
	for _, server := range p.talk {
		server.Launch()
	}
	p.gateway.Launch()
	for _, server := range append(p.talk, p.gateway, p.second) {
		if err := server.AwaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	p.users = workload.New(t, p.gateway, workload.Options{
		Users: 16, Devices: 2, Senders: 2, Seed: workload.Seed(t), Also: []*process.Server{p.second},
	})
	p.users.StartReceiving()
	p.users.StartSending()
	return p
}

// member is what operators see of one.
type seenMember struct {
	Name, State, Unfit string
	Shards, Serves     int
}

// await waits until operators see what they should of a member.
func (p *proof) await(name, what string, seen func(seenMember) bool) {
	p.t.Helper()
	var last seenMember
	for deadline := time.Now().Add(hangLimit); time.Now().Before(deadline); <-time.After(50 * time.Millisecond) {
		var status struct{ Members []seenMember }
		if err := json.Unmarshal(tegami(p.t, "cluster", "status", "--output", "json", "--config", p.config), &status); err != nil {
			p.t.Fatal(err)
		}
		for _, m := range status.Members {
			if m.Name == name {
				if last = m; seen(m) {
					return
				}
			}
		}
	}
	p.t.Fatalf("%s is not %s: it is %+v", name, what, last)
}

// fit waits until a talk node is fit and serves what is placed on it.
func (p *proof) fit(name string) {
	p.t.Helper()
	p.await(name, "fit", func(m seenMember) bool {
		return m.Unfit == "" && m.State == "active" && m.Shards > 0 && m.Serves == m.Shards
	})
}

// givesUp waits until a talk node is unfit and others have its shards.
func (p *proof) givesUp(name, reason string) {
	p.t.Helper()
	p.await(name, "unfit", func(m seenMember) bool { return m.Unfit == reason && m.Shards == 0 })
	p.flows("given up")
}

// evicted waits until talk nodes have learned so often that they are no members.
func (p *proof) evicted(times int) {
	p.t.Helper()
	for deadline := time.Now().Add(hangLimit); p.evictions() < times; <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("it does not learn that it was evicted")
		}
	}
}

// operator runs a command of tegami cluster.
func (p *proof) operator(arguments ...string) {
	p.t.Helper()
	tegami(p.t, append(append([]string{"cluster"}, arguments...), "--config", p.config)...)
}

// TestNothingIsLostWhateverHappensToANode does to nodes what may happen to them,
// one after the other, under load. What operators do is noticed by no client.
func TestNothingIsLostWhateverHappensToANode(t *testing.T) {
	p := newProof(t)
	one, two, three := p.talk[0], p.talk[1], p.talk[2]
	for round := range rounds {
		for _, event := range []struct {
			name string
			make func()
			calm bool // no client notices
		}{
			{"nothing", func() {}, true},
			{"a talk node is killed", two.Kill, false},
			{"it returns", func() { two.Start(); p.fit("talk-2") }, true},
			{"a talk node sleeps for three times its lease", func() {
				before := p.evictions()
				two.Signal(syscall.SIGSTOP)
				<-time.After(3 * lease)
				p.flows("while it sleeps")
				two.Signal(syscall.SIGCONT)
				p.evicted(before + 1)
				p.fit("talk-2")
			}, false},
			{"a talk node is cut off from Kafka", func() {
				p.kafka.SwallowReplies(true)
				p.givesUp("talk-3", "journal")
			}, false},
			{"it is back", func() { p.kafka.SwallowReplies(false); p.fit("talk-3") }, false},
			{"a talk node is cut off from etcd", func() {
				before := p.evictions()
				p.etcd.Refuse()
				p.evicted(before + 1)
			}, false},
			{"it is back", func() { p.etcd.Accept(t); p.fit("talk-3") }, false},
			{"a talk node does not hear the others", func() {
				p.link.Refuse()
				p.givesUp("talk-3", "network")
			}, false},
			{"it is back", func() { p.link.Accept(t); p.fit("talk-3") }, false},
			{"a talk node joins", func() { p.fourth.Start(); p.fit("talk-4") }, true},
			{"a talk node is drained", func() { p.operator("drain", "talk-1") }, true},
			{"it is undrained", func() { p.operator("undrain", "talk-1") }, true},
			{"a shard is moved, and back", func() {
				p.operator("move", "7", "talk-2")
				p.operator("move", "7", "talk-3")
				p.operator("rebalance")
			}, true},
			{"each is restarted in turn", func() {
				for i, server := range p.talk {
					server.Stop()
					server.Start()
					p.fit(fmt.Sprint("talk-", i+1))
				}
			}, true},
			{"a talk node leaves", p.fourth.Stop, true},
			{"a gateway is killed", func() { p.second.Kill(); p.second.Start() }, false},
			{"etcd is killed for long", func() {
				before := p.evictions()
				p.servers.Kill(t, stack.Etcd)
				<-time.After(etcdAway)
				p.flows("without etcd")
				p.servers.Up(t, stack.Etcd)
				<-time.After(2 * lease)
				if n := p.evictions(); n != before {
					t.Errorf("%d talk nodes were evicted by an outage of etcd", n-before)
				}
			}, true},
			{"all are killed", func() {
				all := []*process.Server{one, two, three, p.gateway, p.second}
				for _, server := range all {
					server.Kill()
				}
				for _, server := range all {
					server.Start()
				}
			}, false},
		} {
			p.happens(event.name, event.make, event.calm)
		}
		t.Logf("progress: round %d of %d: %d acknowledged", round+1, rounds, p.users.Acked())
	}
	if !p.users.AwaitAcked(wantAcked, 10*hangLimit) {
		t.Errorf("%d acknowledged, want %d", p.users.Acked(), wantAcked)
	}
	p.judge(wantAcked)
}

// happens has something happen, waits until traffic flows, and says what clients
// met with.
func (p *proof) happens(name string, event func(), calm bool) {
	p.t.Helper()
	p.flows("before")
	p.users.TakeLatencies()
	before, began := p.users.Tally(), time.Now()
	event()
	took := time.Since(began)
	p.flows(name)
	met := p.users.Tally().Since(before)
	sends := p.users.TakeLatencies()
	p.t.Logf("progress: %s (%d ms): %d acknowledged, p50 %d ms, p99 %d ms, slowest %d ms; %d turned away, %d unknown, %d polls failed",
		name, took.Milliseconds(), met.Acked, at(sends, 50), at(sends, 99), at(sends, 100), met.TurnedAway, met.Unknown, met.Failed)
	if calm && met.TurnedAway+met.Unknown+met.Failed > 0 {
		p.t.Errorf("%s: clients noticed: %+v", name, met)
	}
}

// at returns a percentile in milliseconds.
func at(sorted []time.Duration, percent int) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)-1)*percent/100].Milliseconds()
}
