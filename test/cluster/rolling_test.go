package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
)

// TestTalkNodesAreRestartedInTurn restarts every talk node twice, one after the
// other, behind a gateway with 2,000 held polls, under load. No client notices.
func TestTalkNodesAreRestartedInTurn(t *testing.T) {
	restartInTurn(t, 200, func(round int) bool { return round < 2 })
}

// restartInTurn goes on for as many rounds as it is told to, with so many more
// sends between any two restarts.
func restartInTurn(t *testing.T, between int64, goOn func(round int) bool) {
	const users, senders = 2000, 16
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka, stack.Etcd)
	config := onServers(t, servers)
	var talk []*process.Server
	for _, name := range []string{"talk-1", "talk-2"} {
		one := node(t, "talk", name, freeAddress(t), config)
		one.Start()
		talk = append(talk, one)
	}
	gateway := node(t, "gateway", "gateway-1", freeAddress(t), config)
	gateway.Start()
	awaitMembers(t, config, "gateway-1", "talk-1", "talk-2")
	c := newCrowd(t, gateway, gateway.URL(), users)
	c.poll()
	for began := time.Now(); gateway.Metric("tegami_polls_held") < users; <-time.After(50 * time.Millisecond) {
		if time.Since(began) > hangLimit {
			t.Fatalf("%v polls are held", gateway.Metric("tegami_polls_held"))
		}
	}
	c.send(senders, 100*time.Millisecond)
	c.flows("before", between)
	for round := 0; goOn(round); round++ {
		for _, one := range talk {
			c.slowest.Store(0)
			began := time.Now()
			one.Stop()
			stopped := time.Since(began)
			c.flows("while it is away", between)
			one.Start()
			awaitMembers(t, config, "gateway-1", "talk-1", "talk-2")
			c.flows("after it returned", between)
			t.Logf("progress: round %d: stopped in %d ms; the slowest send took %d ms, %d acknowledged",
				round, stopped.Milliseconds(), time.Duration(c.slowest.Load()).Milliseconds(), c.acked.Load())
		}
	}
	if n := c.closed.Load(); n != 0 {
		t.Errorf("%d connections were closed", n)
	}
	c.judge(senders)
	for _, server := range append(talk, gateway) {
		for _, complaint := range server.Complaints() {
			if !slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(complaint, word) }) {
				t.Errorf("complaint: %s", complaint)
			}
		}
	}
}
