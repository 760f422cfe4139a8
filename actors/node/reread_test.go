package node

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence/memory"
)

// While the store is away, sends go on, however long it takes, with as much in
// memory as ever; and in the end the store has what it would have without.
func TestSendsGoOnWithoutTheStore(t *testing.T) {
	o := newOutage(t, nil, 6, 32)
	o.traffic(20)
	o.store.away()
	for o.records.Load() < 10_000 {
		o.traffic(100)
		o.bounded()
	}
	if o.Depths().Dropped < 5000 {
		t.Errorf("only %d records were dropped", o.Depths().Dropped)
	}
	o.store.heal()
	o.traffic(100) // while it catches up
	o.bounded()
	o.retryAll()
	o.caughtUp()
	o.judge()
}

// Mailboxes whose records were dropped may leave memory: they come back from the
// cache, or, where that was lost and the store can be read, from there and from
// the journal.
func TestMailboxesLeaveMemoryWithoutTheStore(t *testing.T) {
	cache := memory.NewCache()
	o := newOutage(t, cache, 40, 8)
	o.leaveMemory()
	o.traffic(2)
	// Those stay whose records are not dropped.
	outOfMemory := func() bool { return o.Depths().Mailboxes <= int64(4*o.options.Limits.Unstored) }
	o.store.away()
	for range 5 {
		o.traffic(10)
		o.until("out of memory", outOfMemory)
	}
	o.bounded()
	o.store.readsFail.Store(false)
	for range 5 {
		cache.Empty()
		o.traffic(2)
		o.until("out of memory", outOfMemory)
	}
	dropped := o.Depths().Dropped
	o.store.heal()
	o.retryAll()
	o.caughtUp()
	o.judge()
	if dropped < 1000 {
		t.Errorf("only %d records were dropped", dropped)
	}
}

// A crash in the middle of a catch-up, and others behind it, cost time only.
func TestACrashWhileTheStoreCatchesUp(t *testing.T) {
	for name, cache := range map[string]*memory.Cache{"without a cache": nil, "with a cache that is ahead": memory.NewCache()} {
		t.Run(name, func(t *testing.T) {
			o := newOutage(t, cache, 6, 32)
			o.traffic(20)
			for range 3 {
				o.store.away()
				o.traffic(200)
				o.store.readsFail.Store(false)
				o.store.writes.Store(3) // and then it is away again
				o.until("on the way", func() bool { return o.store.writes.Load() == 0 })
				o.traffic(20)
				o.store.heal()
				o.crash()
				o.traffic(20)
			}
			o.retryAll()
			o.caughtUp()
			o.judge()
		})
	}
}

// The store is away again and again, in the middle of catching up, without a
// crash.
func TestTheStoreIsAwayAgainAndAgain(t *testing.T) {
	o := newOutage(t, memory.NewCache(), 6, 32)
	o.traffic(5) // all are in memory
	for round := range 20 {
		o.store.away()
		o.traffic(30)
		o.store.readsFail.Store(false)
		o.store.writes.Store(int64(round % 5))
		o.traffic(10)
		o.bounded()
		if round%4 == 3 {
			o.store.heal()
			o.traffic(10)
		}
	}
	o.store.heal()
	o.retryAll()
	o.caughtUp()
	o.judge()
}

// What neither memory nor the cache has, and the store not yet, is unavailable:
// no page of a fetch or of a conversation leaves it out.
func TestNothingIsLeftOutWhileTheStoreIsBehind(t *testing.T) {
	o := newOutage(t, nil, 6, 32)
	o.traffic(5)
	o.caughtUp()
	o.store.writes.Store(0) // it can be read
	const sent = 200
	for i := range sent {
		o.deliver(answered{from: "alice", to: "alice", id: fmt.Sprint("more", i)})
	}
	o.until("dropped", func() bool { return o.Depths().Dropped > 0 })
	head, err := o.Head(o.context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	answers, _ := o.poll(o.users["alice"], head.Revision-sent/2, 0)
	if got := o.await(answers); got.refused == nil || got.refused.Reason != refusal.StoreUnavailable {
		t.Errorf("a fetch from the middle got %+v", got)
	}
	if history, err := o.Messages(o.context(), "alice", "alice", 0, 100); refusal.From(err) == nil {
		t.Errorf("the conversation has %d messages, %v", len(history.Operations), err)
	}
	if history, err := o.Messages(o.context(), "alice", "bob", 0, 100); refusal.From(err) == nil {
		t.Errorf("another conversation has %d messages, %v", len(history.Operations), err)
	}
	o.store.heal()
	o.caughtUp()
	if history, err := o.Messages(o.context(), "alice", "alice", 0, 100); err != nil || len(history.Operations) != 100 || !history.HasMore {
		t.Errorf("afterwards the conversation has %d messages, %v", len(history.Operations), err)
	}
	o.judge()
}

// A mailbox that has as many commands dropped as it remembers takes no more
// until they are stored: a retry would find neither.
func TestDroppedCommandsOfAMailboxAreBounded(t *testing.T) {
	o := newOutage(t, memory.NewCache(), 6, 32)
	o.leaveMemory()
	o.store.away()
	first, err := o.send(o.users["alice"], "alice", "first", "to myself")
	if err != nil {
		t.Fatal(err)
	}
	sent := 1
	for refused := 0; refused < 100; {
		if _, err := o.send(o.users["alice"], "alice", fmt.Sprint(sent), "to myself"); err == nil {
			sent, refused = sent+1, 0
			continue
		}
		refused++
		<-time.After(time.Millisecond)
	}
	if sent < mailbox.MaxDedupInMemory-200 || sent >= mailbox.MaxDedupInMemory {
		t.Errorf("%d commands were taken, and %d are remembered", sent, mailbox.MaxDedupInMemory)
	}
	_, err = o.send(o.users["bob"], "bob", "1", "another mailbox")
	if err != nil && refusal.From(err).Reason != refusal.StoreUnavailable { // his copy may have left the cache
		t.Errorf("another mailbox: %v", err)
	}
	o.store.heal()
	o.caughtUp()
	if again, err := o.send(o.users["alice"], "alice", "first", "to myself"); err != nil || again != first {
		t.Errorf("the retry was answered %v, %v; the first was %v", again, err, first)
	}
	o.judge()
}

// A mailbox that cannot be loaded holds up neither its shard nor its own
// follow-ups: they wait without it, and are there when it loads.
func TestAMailboxThatDoesNotLoadHoldsUpNobody(t *testing.T) {
	for name, end := range map[string]func(*outage){
		"the store heals": func(o *outage) { o.store.heal() },
		"a crash, and the store heals": func(o *outage) {
			o.store.heal()
			o.crash()
		},
		"it loads first": func(o *outage) {
			o.store.readsFail.Store(false)
			o.until("loaded", func() bool {
				_, err := o.Head(o.context(), "alice")
				return err == nil
			})
			o.traffic(20)
			o.store.heal()
		},
		"the store was away for writes alone": func(o *outage) {
			o.store.writes.Store(-1)
			o.traffic(20)
			o.store.heal()
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutage(t, nil, 6, 32)
			o.traffic(5)
			if err := o.Drain(o.context()); err != nil { // else she is loaded for the replay
				t.Fatal(err)
			}
			o.crash()
			near, far := neighbour(o.cell, "alice"), "bob"
			for i := 0; o.places.Shard(far) == o.places.Shard("alice"); i++ {
				far = fmt.Sprint("far", i)
			}
			others := o.join(near, far)
			o.users[near], o.users[far] = others[near], others[far]
			o.names = append(slices.DeleteFunc(o.names, func(name string) bool { return name == "alice" || name == near || name == far }), near, far)
			o.traffic(1)
			for _, name := range o.names { // all others are in memory
				o.until(name+" is loaded", func() bool {
					_, err := o.Head(o.context(), name)
					return err == nil
				})
			}
			alice := o.users["alice"]
			o.store.away()
			const sent = 100
			for i := range sent {
				m := answered{from: "alice", to: far, id: fmt.Sprint("parked", i)}
				m.sent = o.deliver(m)
				o.answers[m.from+m.id] = m
			}
			o.traffic(200)
			o.until("unavailable", func() bool { // the shard may be busy with a drop
				_, err := o.send(alice, "alice", "refused", "to myself")
				if err != nil && refusal.From(err).Reason == refusal.Busy {
					return false
				}
				if err == nil || refusal.From(err).Reason != refusal.StoreUnavailable {
					t.Errorf("a send to the mailbox that does not load: %v", err)
				}
				return true
			})
			if o.Depths().Dropped < 500 {
				t.Errorf("only %d records were dropped", o.Depths().Dropped)
			}
			end(o)
			o.caughtUp()
			o.retryAll()
			history, err := o.Messages(o.context(), "alice", far, 0, sent)
			if err != nil || len(history.Operations) != sent {
				t.Errorf("she has %d copies of what she sent, %v; want %d", len(history.Operations), err, sent)
			}
			o.judge()
		})
	}
}
