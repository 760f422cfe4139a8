//go:build stores

package hbase_test

import (
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence/hbase"
	"github.com/tegami-im/tegami/test/stack"
)

// TestOpenWhileSlow opens the store when every request is late by a quarter of
// the time that a request may take: the first one of a client needs more.
func TestOpenWhileSlow(t *testing.T) {
	servers, err := stack.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	relay := servers.Relay(t, stack.HBase)
	servers.StopAfter(t)
	servers.Up(t, stack.HBase)
	o := hbase.Options{
		ZooKeeper: servers.Addr(stack.HBase), Shards: 4, Regions: 2,
		RequestTimeout: 2 * time.Second, Logger: logTo(t.Output()),
	}
	if err := hbase.ApplySchema(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	relay.Delay(o.RequestTimeout/4, 0)
	s, err := hbase.OpenStore(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
