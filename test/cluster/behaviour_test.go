package cluster

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

// TestBehavioursOutliveTheirNodes has the talk nodes that run behaviours die for
// longer than their lease, sleep for that long, so that two nodes run the same
// behaviour when they wake, and die for a moment.
func TestBehavioursOutliveTheirNodes(t *testing.T) {
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka, stack.Etcd)
	config := onServers(t, servers) + workload.BehavioursConfig
	one, two := node(t, "talk", "talk-1", freeAddress(t), config), node(t, "talk", "talk-2", freeAddress(t), config)
	gateway := node(t, "gateway", "gateway-1", freeAddress(t), config)
	for _, server := range []*process.Server{one, two, gateway} {
		server.Start()
	}
	awaitMembers(t, config, "gateway-1", "talk-1", "talk-2")
	turn := 0
	workload.KillBehaviours(t, gateway, 5, func() {
		victim := []*process.Server{one, two}[turn/3]
		switch turn % 3 {
		case 0:
			victim.Kill()
			<-time.After(2 * lease)
			victim.Start()
		case 1:
			victim.Signal(syscall.SIGSTOP)
			<-time.After(3 * lease)
			victim.Signal(syscall.SIGCONT)
		case 2:
			victim.Kill()
			victim.Start()
		}
		turn++
	})
	for _, server := range []*process.Server{one, two} {
		for _, complaint := range server.Complaints() {
			if !slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(complaint, word) }) {
				t.Errorf("a talk node complained: %s", complaint)
			}
		}
	}
}
