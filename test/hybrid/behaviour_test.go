package hybrid

import (
	"fmt"
	"testing"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

// TestKillBehaviours kills the server while users talk to behaviours that run in
// it, on Kafka, HBase and Redis.
func TestKillBehaviours(t *testing.T) {
	servers, err := stack.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	servers.StopAfter(t)
	servers.Up(t, stack.Redis, stack.HBase, stack.Kafka)
	config := fmt.Sprintf(configuration, servers.Addr(stack.Kafka), servers.Addr(stack.HBase), servers.Addr(stack.Redis)) + workload.BehavioursConfig
	binary := process.Build(t)
	applySchema(t, binary, config)
	server := process.Start(t, process.Options{Binary: binary, Config: config})
	workload.KillBehaviours(t, server, 4, func() {
		server.Kill()
		server.Start()
	})
	for _, complaint := range server.Complaints() {
		t.Errorf("the server complained: %s", complaint)
	}
}
