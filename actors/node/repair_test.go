package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// hold holds bob, and returns what its repair was told, and how to end it.
func (c cell) hold() (through <-chan persistence.Position, release func(), held <-chan error) {
	begun, end, done := make(chan persistence.Position, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- c.Hold(c.context(), c.places.Shard("bob"), "bob", func(_ context.Context, through persistence.Position) error {
			begun <- through
			<-end
			return nil
		})
	}()
	return begun, func() { close(end) }, done
}

func TestHeldMailboxIsStoredAndItsClientsWait(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	for i := range 5 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), "before"); err != nil {
			t.Fatal(err)
		}
	}
	answers, _ := c.poll(users["bob"], 5, time.Minute)
	begun, release, held := c.hold()
	through := <-begun
	stored, err := c.options.Store.Load(c.context(), c.places.Shard("bob"), "bob", 100)
	if err != nil || through.Less(stored.Position) || len(stored.Dedup) != 7 {
		t.Errorf("held at %v, with %+v, %v", through, stored, err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.send(users["alice"], "bob", "meanwhile", "meanwhile")
		sent <- err
	}()
	head := make(chan error, 1)
	go func() {
		_, err := c.Head(c.context(), "bob")
		head <- err
	}()
	if err := c.Hold(c.context(), c.places.Shard("bob"), "bob", nil); err == nil {
		t.Error("held twice")
	}
	select {
	case err := <-sent:
		t.Fatalf("answered while the mailbox was held: %v", err)
	case err := <-head:
		t.Fatalf("read while the mailbox was held: %v", err)
	default:
	}
	release()
	for _, wait := range []<-chan error{held, sent, head} {
		if err := <-wait; err != nil {
			t.Error(err)
		}
	}
	if got := c.await(answers); got.refused != nil || fmt.Sprint(c.texts("bob", got.page)) != "[meanwhile]" {
		t.Errorf("the poll got %+v", got)
	}
}

func TestMailboxThatIsNotInMemoryIsHeld(t *testing.T) {
	journal, store, keys := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore(), memory.NewKeys()
	first := start(t, Options{Journal: journal, Store: store, Keys: keys})
	first.join("alice", "bob")
	if err := first.Drain(first.context()); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Journal: journal, Store: store, Keys: keys})
	begun, release, held := c.hold()
	<-begun
	release()
	if err := <-held; err != nil {
		t.Error(err)
	}
	if _, err := c.Head(c.context(), "bob"); err != nil {
		t.Error(err)
	}
}

// What is to be mended is mostly why a mailbox does not load.
func TestMailboxThatDoesNotLoadIsHeldAndLoadsAgain(t *testing.T) {
	journal, store, keys := memory.NewJournal(persistence.DurabilityFsync), memory.NewStore(), memory.NewKeys()
	first := start(t, Options{Journal: journal, Store: store, Keys: keys})
	users := first.join("alice", "bob")
	if err := first.Drain(first.context()); err != nil {
		t.Fatal(err)
	}
	shard := first.places.Shard("bob")
	whole, err := store.Load(t.Context(), shard, "bob", 100)
	if err != nil {
		t.Fatal(err)
	}
	put := func(state []byte) error {
		return store.Repair(t.Context(), shard, persistence.Repair{Mailbox: "bob", State: state, Position: whole.Position})
	}
	if err := put([]byte{0xff}); err != nil {
		t.Fatal(err)
	}
	c := start(t, Options{Journal: journal, Store: store, Keys: keys})
	if _, err := c.send(users["alice"], "bob", "1", "early"); err == nil {
		t.Fatal("a mailbox that does not load took a message")
	}
	err = c.Hold(c.context(), shard, "bob", func(context.Context, persistence.Position) error { return put(whole.State) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.send(users["alice"], "bob", "2", "late"); err != nil {
		t.Error(err)
	}
}

// Copies of what bob sends go on coming while his mailbox is to come to rest.
func TestMailboxThatNeverRestsIsHeld(t *testing.T) {
	c := start(t, Options{})
	users := c.join("alice", "bob")
	stop, ended := make(chan struct{}), make(chan int64, 1)
	go func() {
		for sent := int64(0); ; {
			select {
			case <-stop:
				ended <- sent
				return
			default:
			}
			switch _, err := c.send(users["bob"], "alice", fmt.Sprint(sent), "on and on"); {
			case err == nil:
				sent++
			case reasonIs(err, refusal.Busy): // much waits for the mailbox
				<-time.After(time.Millisecond)
			default:
				t.Error(err)
			}
		}
	}()
	shard := c.places.Shard("bob")
	for range 5 {
		err := c.Hold(c.context(), shard, "bob", func(ctx context.Context, through persistence.Position) error {
			stored, err := c.options.Store.Load(ctx, shard, "bob", 1<<20)
			if err == nil && through.Less(stored.Position) {
				err = fmt.Errorf("held at %v, and stored is %v", through, stored.Position)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	close(stop)
	sent := <-ended
	if head, err := c.Head(c.context(), "bob"); err != nil || head.Revision != sent || sent == 0 {
		t.Errorf("head is %v, %v; want %d", head, err, sent)
	}
}

// newRepairs starts a node over a store that may be away; bob is its shard's
// number.
func newRepairs(t *testing.T) (c cell, store *awayStore, bob uint32) {
	t.Helper()
	store = newAwayStore()
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys()}
	options.setDefaults()
	options.Limits.WriteAge, options.Limits.Tick = time.Millisecond, 10*time.Millisecond
	c = start(t, options)
	return c, store, c.places.Shard("bob")
}

// breakMailbox has bob's actor fail.
func (c cell) breakMailbox() {
	shardPID := c.shards[c.places.Shard("bob")]
	c.system.Root.Send(c.system.NewLocalPID(shardPID.GetId()+"/bob"), &shard.Inspect{
		Mailbox: "bob", Answer: func(talk.View, *refusal.Refusal) { panic("planted") },
	})
}

// A mailbox that fails while it comes to rest for a repair is not repaired, and
// is there again.
func TestMailboxThatFailsBeforeItsRepairIsLeftAlone(t *testing.T) {
	for name, fail := range map[string]func(*awayStore){
		"and loads":         func(s *awayStore) { s.writes.Store(0) },
		"and does not load": func(s *awayStore) { s.away() },
	} {
		t.Run(name, func(t *testing.T) {
			c, store, bob := newRepairs(t)
			far := "alice"
			for i := 0; c.places.Shard(far) == bob; i++ {
				far = fmt.Sprint("alice", i)
			}
			users := c.join(far, "bob")
			c.until("stored", func() bool { return c.Depths().Unstored == 0 })
			fail(store)
			if _, err := c.send(users[far], "bob", "1", "unstored"); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			c.system.Root.Send(c.shards[bob], &shard.Repair{
				Mailbox: "bob", Deadline: time.Now().Add(patience / 2),
				Do: func(ctx context.Context, through persistence.Position) error {
					stored, err := store.Store.Load(ctx, bob, "bob", 1)
					if err == nil && through.Less(stored.Position) {
						t.Errorf("held at %v, and stored is %v", through, stored.Position)
					}
					return err
				},
				Done: func(err error) { done <- err },
			})
			c.breakMailbox()
			copies := make(chan error, 1)
			go func() { // a copy for bob, which comes while he is held
				_, err := c.send(users["bob"], far, "1", "copied")
				copies <- err
			}()
			var err error
			select {
			case err = <-done:
			case <-time.After(patience / 5): // it goes on, and what was let in since is stored
				store.heal()
				err = <-done
			}
			if err == nil {
				t.Error("a mailbox that failed was repaired")
			}
			store.heal()
			if err := <-copies; err != nil {
				t.Error(err)
			}
			c.until("there again", func() bool {
				head, err := c.Head(c.context(), "bob")
				return err == nil && head.Revision == 2
			})
			if _, err := c.send(users[far], "bob", "2", "afterwards"); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a mailbox that does not load had put before it failed is not written
// beside its repair.
func TestMailboxThatDoesNotLoadIsHeldOnceItsWritesAreStored(t *testing.T) {
	c, store, bob := newRepairs(t)
	users := c.join("alice", "bob")
	c.until("stored", func() bool { return c.Depths().Unstored == 0 })
	store.away()
	if _, err := c.send(users["alice"], "bob", "1", "unstored"); err != nil {
		t.Fatal(err)
	}
	c.breakMailbox()
	c.until("unavailable", func() bool {
		_, err := c.Head(c.context(), "bob")
		return err != nil && refusal.From(err).Reason == refusal.StoreUnavailable
	})
	begun, release, held := c.hold()
	select {
	case through := <-begun:
		t.Errorf("held at %v with a write under way", through)
	case <-time.After(patience / 100):
		store.writes.Store(-1)
		through := <-begun
		stored, err := store.Store.Load(t.Context(), bob, "bob", 1)
		if err != nil || through.Less(stored.Position) {
			t.Errorf("held at %v, and stored is %+v, %v", through, stored, err)
		}
	}
	store.heal()
	release()
	if err := <-held; err != nil {
		t.Error(err)
	}
	if _, err := c.send(users["alice"], "bob", "3", "afterwards"); err != nil {
		t.Error(err)
	}
	if head, err := c.Head(c.context(), "bob"); err != nil || head.Revision != 2 {
		t.Errorf("head is %v, %v", head, err)
	}
}

// A repair does not go on beside the shard that is opened anew.
func TestRepairEndsWithItsShard(t *testing.T) {
	c, _, bob := newRepairs(t)
	c.join("alice", "bob")
	c.until("stored", func() bool { return c.Depths().Unstored == 0 })
	begun, held := make(chan struct{}), make(chan error, 1)
	go func() {
		held <- c.Hold(c.context(), bob, "bob", func(ctx context.Context, _ persistence.Position) error {
			close(begun)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(patience / 2):
				return nil
			}
		})
	}()
	<-begun
	var once sync.Once
	c.system.Root.Send(c.shards[bob], &shard.Drain{Done: func() { once.Do(func() { panic("planted") }) }})
	if err := <-held; err == nil {
		t.Error("the repair went on when its shard had failed")
	}
	c.until("open again", func() bool {
		_, err := c.Head(c.context(), "bob")
		return err == nil
	})
}

// What asks a shard that stops before it hears of it is not answered.
func TestHoldEndsWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system := actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
		defer system.Shutdown()
		routes := []*actor.PID{system.NewLocalPID("nobody")}
		n := &Node{system: system, shards: routes}
		n.routes.Store(&routes)
		began := time.Now()
		if err := n.Hold(t.Context(), 0, "bob", nil); err == nil {
			t.Error("held by nobody")
		}
		if took := time.Since(began); took > 2*repairPatience {
			t.Errorf("it took %v", took)
		}
	})
}
