package node

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/cluster"
	"github.com/tegami-im/tegami/persistence"
)

// gated is a store of which no shard opens before the gate is open.
type gated struct {
	persistence.Store
	gate chan struct{}

	mu            sync.Mutex // guards the following
	waiting, most int
}

func (g *gated) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	g.count(1)
	defer g.count(-1)
	select {
	case <-g.gate:
		return g.Store.Marks(ctx, shard)
	case <-ctx.Done():
		return persistence.Marks{}, ctx.Err()
	}
}

func (g *gated) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting += n
	g.most = max(g.most, g.waiting)
}

func (g *gated) counts() (waiting, most int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting, g.most
}

// Whoever has a shard serves it until its next owner has opened it, however long
// that takes, and few are opened at a time.
func TestShardsAreServedUntilTheirNextOwnerHasOpenedThem(t *testing.T) {
	f := newFleet(t)
	one := f.start("talk-1", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	var others []string
	for _, name := range names {
		others = append(others, name+"-too")
	}
	gateway.join(others...)
	store := &gated{Store: f.options.Store, gate: make(chan struct{})}
	slow := f.options
	slow.Store = store
	f.startWith("talk-2", cluster.RoleTalk, slow)
	gateway.until("waiting", func() bool { waiting, _ := store.counts(); return waiting == movesAtOnce })
	for _, other := range others {
		if _, err := gateway.send(talk.Session{User: other}, other, "waiting", "hello"); err != nil {
			t.Fatal(err)
		}
	}
	if got := one.Depths().Shards["open"]; got != fleetShards {
		t.Errorf("the one before serves %d shards", got)
	}
	tr := gateway.traffic(users)
	close(store.gate)
	gateway.until("handed over", func() bool {
		owned := len(f.places().Owned("talk-2.1"))
		return owned > 0 && f.serves("talk-2") == owned && f.serves("talk-1") == fleetShards-owned
	})
	gateway.until("going on", func() bool { return tr.count() > 500 })
	if _, most := store.counts(); most > movesAtOnce {
		t.Errorf("%d shards were opened at once", most)
	}
	t.Logf("the slowest send took %v", tr.slowest())
	tr.check(gateway, users)
}

// An operator drains a node, which stays, and moves a shard.
func TestADrainedNodeStaysAndTakesItsShardsBack(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	two := f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	tr := gateway.traffic(users)
	had := len(f.places().Owned("talk-2.1"))
	f.change("talk-2", func(m *cluster.Member) { m.State = cluster.StateDraining })
	gateway.until("drained", func() bool { return f.serves("talk-1") == fleetShards && f.serves("talk-2") == 0 })
	if !two.Ready() {
		t.Error("it is not ready")
	}
	f.change("talk-2", func(m *cluster.Member) { m.State = cluster.StateActive })
	gateway.until("back", func() bool { return f.serves("talk-2") == had && f.serves("talk-1") == fleetShards-had })

	moved := f.places().Owned("talk-1.1")[0]
	f.mu.Lock()
	f.moves = map[uint32]string{moved: "talk-2.1"}
	f.publish()
	f.mu.Unlock()
	gateway.until("moved", func() bool {
		server, _ := f.places().Server(moved)
		return server.Name == "talk-2" && f.serves("talk-1")+f.serves("talk-2") == fleetShards
	})
	t.Logf("the slowest send took %v", tr.slowest())
	tr.check(gateway, users)
}

// cuttable is a journal that can be cut off, and whose clock can be wrong.
type cuttable struct {
	persistence.Journal
	cut   atomic.Bool
	ahead atomic.Int64 // milliseconds
}

var errCut = errors.New("cut off")

func (c *cuttable) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	if c.cut.Load() {
		go done(persistence.Appended{}, persistence.ErrUnknownOutcome)
		return
	}
	c.Journal.Append(shard, records, func(landed persistence.Appended, err error) {
		landed.Time += c.ahead.Load()
		done(landed, err)
	})
}

func (c *cuttable) Bounds(ctx context.Context, shard uint32) (persistence.Bounds, error) {
	if c.cut.Load() {
		return persistence.Bounds{}, errCut
	}
	return c.Journal.Bounds(ctx, shard)
}

func (c *cuttable) Read(ctx context.Context, shard uint32, offset int64, maxBytes int) ([]persistence.Entry, error) {
	if c.cut.Load() {
		return nil, errCut
	}
	return c.Journal.Read(ctx, shard, offset, maxBytes)
}

// A node that cannot reach the journal gives its shards to one that can. When no
// node can, all keep theirs, and what is there is read.
func TestANodeWithoutTheJournalGivesItsShardsUp(t *testing.T) {
	f := newFleet(t)
	journals := map[string]*cuttable{"talk-1": {Journal: f.options.Journal}, "talk-2": {Journal: f.options.Journal}}
	for _, name := range []string{"talk-1", "talk-2"} {
		options := f.options
		options.Journal = journals[name]
		f.startWith(name, cluster.RoleTalk, options)
	}
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	for _, user := range names {
		if _, err := gateway.send(users[user], user, "1", "hello"); err != nil {
			t.Fatal(err)
		}
	}
	had := len(f.places().Owned("talk-2.1"))

	journals["talk-2"].cut.Store(true)
	gateway.until("given up", func() bool { return f.serves("talk-1") == fleetShards && f.serves("talk-2") == 0 })
	for _, user := range names {
		if _, err := gateway.send(users[user], user, "2", "hello"); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	journals["talk-2"].cut.Store(false)
	gateway.until("back", func() bool { return f.serves("talk-2") == had && f.serves("talk-1") == fleetShards-had })
	for _, user := range names { // a mailbox that is in memory needs no journal
		gateway.until(user+" is loaded", func() bool {
			_, err := gateway.Head(gateway.context(), user)
			return err == nil
		})
	}

	for _, journal := range journals {
		journal.cut.Store(true)
	}
	gateway.until("unfit", func() bool {
		return f.nodes["talk-1"].Unfit() == unfitJournal && f.nodes["talk-2"].Unfit() == unfitJournal
	})
	if one, two := f.serves("talk-1"), f.serves("talk-2"); one != fleetShards-had || two != had {
		t.Errorf("%d and %d shards are served, want %d and %d", one, two, fleetShards-had, had)
	}
	for _, user := range names {
		gateway.until(user+" reads both messages", func() bool {
			answers, _ := gateway.poll(users[user], 0, 0)
			got := gateway.await(answers)
			return got.refused == nil && len(got.page.Operations) == 2
		})
	}
	for _, journal := range journals {
		journal.cut.Store(false)
	}
	gateway.until("fit", func() bool { return f.nodes["talk-1"].Unfit() == "" && f.nodes["talk-2"].Unfit() == "" })
	gateway.until("back", func() bool { return f.serves("talk-2") == had && f.serves("talk-1") == fleetShards-had })
}

// A node whose clock is not the journal's appends nothing and says so, until it
// is right again.
func TestANodeWithAWrongClockAppendsNothing(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"behind": clockOff + time.Second, "ahead": -clockOff - time.Second} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			journal := &cuttable{Journal: f.options.Journal}
			f.options.Journal = journal
			one := f.start("talk-1", cluster.RoleTalk)
			f.ready()
			users := one.join("alice")
			journal.ahead.Store(ahead.Milliseconds())
			one.until("refused", func() bool {
				_, err := one.send(users["alice"], "alice", "1", "hello")
				return err != nil && refusal.From(err).Reason == refusal.WrongClock
			})
			one.until("said", func() bool {
				m, _ := f.feed.Snapshot().Member("talk-1.1")
				return m.Unfit == unfitClock
			})
			answers, _ := one.poll(users["alice"], 0, 0)
			if got := one.await(answers); got.refused != nil {
				t.Errorf("a poll: %v", got.refused)
			}
			journal.ahead.Store(0)
			one.until("right again", func() bool {
				_, err := one.send(users["alice"], "alice", "2", "hello")
				return err == nil
			})
		})
	}
}

// A node that no gateway reaches, or that reaches none, gives its shards to those
// that gateways reach.
func TestANodeWithoutGatewaysGivesItsShardsUp(t *testing.T) {
	f := newFleet(t)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.mu.Lock()
	self := gateway.options.Cluster.Self
	self.ID = "gateway-1.as-a-member" // it has another there
	f.members = append(f.members, self)
	f.publish()
	f.mu.Unlock()
	f.ready()
	users := gateway.join(names...)
	had := len(f.places().Owned("talk-2.1"))
	for _, cut := range []struct {
		name  string
		loses func(from, to string) bool
	}{
		{"it hears nobody", func(_, to string) bool { return to == "talk-2" }},
		{"nobody hears it", func(from, _ string) bool { return from == "talk-2" }},
	} {
		f.network.Lose(cut.loses)
		gateway.until("given up", func() bool { return f.serves("talk-1") == fleetShards && f.serves("talk-2") == 0 })
		if got := f.nodes["talk-2"].Unfit(); got != unfitNetwork {
			t.Errorf("%s: it is unfit: %q", cut.name, got)
		}
		for _, user := range names {
			if _, err := gateway.send(users[user], user, cut.name, "hello"); err != nil {
				t.Errorf("%s: %s: %v", cut.name, user, err)
			}
		}
		f.network.Lose(nil)
		gateway.until("back", func() bool { return f.serves("talk-2") == had && f.serves("talk-1") == fleetShards-had })
		if got := f.nodes["talk-1"].Unfit() + f.nodes["talk-2"].Unfit(); got != "" {
			t.Errorf("healed: one is unfit: %s", got)
		}
	}
}

// A node that is cut off from the membership alone goes on as a second owner of
// its shards, until it finds that the others know more than it does.
func TestANodeThatWasReplacedDoubtsThatItIsAMember(t *testing.T) {
	f := newFleet(t)
	f.views["talk-2"] = new(cluster.Feed)
	cut := f.feed.Subscribe(f.views["talk-2"].Publish)
	f.start("talk-1", cluster.RoleTalk)
	f.start("talk-2", cluster.RoleTalk)
	gateway := f.start("gateway-1", cluster.RoleGateway)
	f.ready()
	users := gateway.join(names...)
	gateway.until("divided", func() bool { return f.serves("talk-2") == len(f.places().Owned("talk-2.1")) })
	tr := gateway.traffic(users)
	gateway.until("going on", func() bool { return tr.count() > 100 })
	cut()
	f.leave("talk-2")
	doubts := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.doubts["talk-2"]
	}
	for deadline := time.Now().Add(3 * patience); doubts() == 0 && time.Now().Before(deadline); {
		<-time.After(10 * time.Millisecond)
	}
	if doubts() == 0 {
		t.Error("it has no doubts")
	}
	f.mu.Lock()
	if f.doubts["talk-1"] > 0 {
		t.Error("the other has doubts")
	}
	f.mu.Unlock()
	tr.check(gateway, users)
}
