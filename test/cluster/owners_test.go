package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/tegami-im/tegami/test/process"
	"github.com/tegami-im/tegami/test/stack"
	"github.com/tegami-im/tegami/test/workload"
)

// TestTwoOwnersOfEveryShard has two talk nodes that know nothing of each other own
// every shard of the same stores, each with a gateway to which half of the devices
// of every user come. Then one is taken away, and its clients come to the other.
func TestTwoOwnersOfEveryShard(t *testing.T) {
	servers := stack.Start(t, stack.Redis, stack.HBase, stack.Kafka)
	addresses := []string{freeAddress(t), freeAddress(t)}
	side := func(i int) string {
		return fmt.Sprintf(`
data: {shards: 16}
store: {kind: hybrid}
kafka: {brokers: %q, topic: owners, allow_one_broker: true, keep: 0s, truncate: 1s}
hbase: {zookeeper: %q, prefix: owners_, regions: 2}
redis: {addresses: %q, prefix: owners}
cluster: {membership: static, members: "talk-%d=%s"}
`, servers.Addr(stack.Kafka), servers.Addr(stack.HBase), servers.Addr(stack.Redis), i, addresses[i-1]) + generous
	}
	applySchema(t, side(1))
	s := &system{t: t}
	var gateways []*process.Server
	for i := range 2 {
		s.talk = append(s.talk, node(t, "talk", fmt.Sprint("talk-", i+1), addresses[i], side(i+1)))
		gateways = append(gateways, node(t, "gateway", fmt.Sprint("gateway-", i+1), freeAddress(t), side(i+1)))
		s.talk[i].Launch()
		gateways[i].Launch()
	}
	for _, server := range append(s.talk, gateways...) {
		if err := server.AwaitReady(); err != nil {
			t.Fatal(err)
		}
	}
	s.gateway = gateways[0]
	s.users = workload.New(t, s.gateway, workload.Options{
		Users: 12, Devices: 2, Senders: 2, Seed: workload.Seed(t), Also: gateways[1:],
	})
	s.users.StartReceiving()
	s.users.StartSending()
	s.flows("two owners")
	<-time.After(ownersFor)
	shared := s.users.Acked()
	s.talk[1].Stop()
	gateways[1].Stop()
	secrets, address := gateways[1].Data(), gateways[1].Address
	healed := process.New(t, process.Options{
		Binary: process.Build(t), Command: "gateway", Data: secrets, Address: address, Config: side(1),
		Flags: []string{"--set", "cluster.name=gateway-3", "--set", "cluster.listen=" + freeAddress(t)},
	})
	healed.Start()
	took := s.flows("healed")
	t.Logf("progress: %d acknowledged by two owners; healed: %d acknowledged %d ms later", shared, between, took.Milliseconds())
	s.judge(2000)
}
