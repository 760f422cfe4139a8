package node

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
)

// A shard that was given away and has stored everything takes nothing any more:
// what it took would be cut off when it ends.
func TestADrainedShardTakesNoCommands(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice")
	drained := make(chan struct{})
	to := c.shards[c.places.Shard("alice")]
	c.system.Root.Send(to, &shard.Drain{Done: sync.OnceFunc(func() { close(drained) })})
	<-drained
	if _, err := c.send(users["alice"], "alice", "1", "late"); err == nil || refusal.From(err).Reason != refusal.Stopping {
		t.Errorf("a command after the drain: %v", err)
	}
}

// The actor that has the shards knows where they belong when it is restarted.
func TestShardsReturnWhenTheirParentFails(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	failed := sync.OnceFunc(func() { panic("planted") })
	c.system.Root.Send(c.talk, &place{places: c.newest.Load().places, placed: failed})
	c.until("sent", func() bool {
		answered := make(chan error, 1)
		c.Send(c.context(), talk.Send{
			From: users["alice"].User, FromDevice: users["alice"].Device, To: "bob", ClientMessageID: "1", Body: talk.Body{Text: "hello"},
			Answer: func(_ talk.Sent, err error) { answered <- err },
		})
		select {
		case err := <-answered:
			return err == nil
		case <-time.After(time.Second): // it was on its way when they failed
			return false
		}
	})
}

// While etcd is away the others cannot be told. The shards are stored all the same.
func TestANodeStoresItsShardsThoughNobodyHearsThatItDrains(t *testing.T) {
	f := newFleet(t)
	one := f.start("talk-1", cluster.RoleTalk)
	f.ready()
	users := one.join(names...)
	var sending sync.WaitGroup
	var sent atomic.Int64
	for i, from := range names { // so that what one shard has to give another is under way
		sending.Go(func() {
			for n := 0; ; n++ {
				if _, err := one.send(users[from], names[(i+1)%len(names)], fmt.Sprint(n), "hello"); err != nil {
					return
				}
				sent.Add(1)
			}
		})
	}
	one.until("under way", func() bool { return sent.Load() > 100 })
	began := time.Now()
	if err := one.Drain(one.context()); err != nil {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	sending.Wait()
	if left := one.unstored.Load(); left > 0 {
		t.Errorf("%d records are not stored", left)
	}
}
