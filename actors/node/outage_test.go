package node

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/persistence"
)

// haltingPublisher publishes nothing while it is halted, and all of it later.
type haltingPublisher struct {
	mu     sync.Mutex // guards the following
	halted bool
	held   []func(error)
}

func (p *haltingPublisher) Publish(_ []persistence.Event, done func(error)) {
	p.mu.Lock()
	halted := p.halted
	if halted {
		p.held = append(p.held, done)
	}
	p.mu.Unlock()
	if !halted {
		done(nil)
	}
}

func (p *haltingPublisher) halt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.halted = true
}

func (p *haltingPublisher) goOn() {
	p.mu.Lock()
	held := p.held
	p.halted, p.held = false, nil
	p.mu.Unlock()
	for _, done := range held {
		done(nil)
	}
}

// A drop that the write-behind actor takes when its shard has failed is not one
// of the shard that is opened in its place, which goes on dropping.
func TestAShardThatFailsDuringADropDropsAgain(t *testing.T) {
	o := newOutage(t, nil, 2, 64)
	publisher := &haltingPublisher{}
	o.options.Publisher = publisher
	o.crash()
	o.store.writes.Store(0)
	o.traffic(100)
	o.until("dropped", func() bool { return o.Depths().Dropped > 0 })
	publisher.halt()
	for i := 0; ; i++ { // until a drop waits for the events before it
		_, err := o.send(o.users["alice"], "alice", fmt.Sprint("halted.", i), "hello")
		if refused := refusal.From(err); err != nil && refused.Reason == refusal.Busy {
			break
		}
		if i == 10*o.options.Limits.Unstored {
			t.Fatalf("%d messages were taken: %+v", i, o.Depths())
		}
	}
	failed := make(chan struct{})
	var once sync.Once
	o.system.Root.Send(o.shards[o.places.Shard("alice")], &shard.Command{
		Record: &record.Record{Mailbox: "alice"},
		Answer: func(mailbox.Answer, *refusal.Refusal) {
			once.Do(func() {
				close(failed)
				panic("planted")
			})
		},
	})
	<-failed
	publisher.goOn() // before the shard is restarted, which takes a while
	o.store.heal()
	o.caughtUp()
	o.until("open", o.Ready)

	o.store.writes.Store(0)
	o.traffic(20 * o.options.Limits.Unstored / 8)
	o.until("dropped", func() bool { return o.Depths().Dropped > 0 })
	for i := range 4 * o.options.Limits.Unstored {
		m := answered{from: "alice", to: "alice", id: fmt.Sprint("after.", i)}
		m.sent = o.deliver(m)
	}
	o.store.heal()
	o.caughtUp()
	o.judge()
}

// A mailbox that got nothing but copies of what its user sent is not taken for
// stored when those were dropped: a conversation would be shown without them.
func TestDroppedCopiesAreNotTakenForStored(t *testing.T) {
	o := newOutage(t, nil, 6, 8)
	o.options.Limits.MailboxesPerShard = 0
	o.crash()
	far := "bob"
	for i := 0; o.places.Shard(far) == o.places.Shard("alice"); i++ {
		far = fmt.Sprint("far", i)
	}
	near := neighbour(o.cell, "alice")
	for _, name := range []string{far, near} {
		if _, known := o.users[name]; !known {
			o.users[name] = o.join(name)[name]
		}
	}
	o.caughtUp()
	o.store.writes.Store(0) // it can be read
	const sent = 50
	for i := range sent {
		m := answered{from: "alice", to: far, id: fmt.Sprint(i)}
		m.sent = o.deliver(m)
	}
	for i := range 20 { // until hers are dropped, and she has left memory
		for k := range 4 {
			o.deliver(answered{from: near, to: near, id: fmt.Sprint(i, ".", k)})
		}
		history, err := o.Messages(o.context(), "alice", far, 0, sent)
		if err == nil && len(history.Operations) != sent {
			t.Fatalf("the conversation has %d messages, want %d or that it is unavailable", len(history.Operations), sent)
		}
		<-time.After(2 * o.options.Limits.Tick)
	}
	o.store.heal()
	o.caughtUp()
	history, err := o.Messages(o.context(), "alice", far, 0, sent)
	if err != nil || len(history.Operations) != sent {
		t.Errorf("afterwards the conversation has %d messages, %v", len(history.Operations), err)
	}
	o.judge()
}
