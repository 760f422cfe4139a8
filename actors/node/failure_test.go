package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// slowWrites leaves what is applied unstored, so that a failure has something
// to lose.
func slowWrites() Options {
	var options Options
	options.setDefaults()
	options.Limits.WriteAge = time.Hour
	return options
}

func TestMailboxThatFailsLosesNothing(t *testing.T) {
	c := start(t, slowWrites())
	users := c.join("alice", "bob")
	for i := range 5 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), "before"); err != nil {
			t.Fatal(err)
		}
	}
	answers, _ := c.poll(users["bob"], 5, time.Minute)
	c.system.Root.Send(c.shards[c.places.Shard("bob")], &shard.Inspect{
		Mailbox: "bob",
		Answer:  func(talk.View, *refusal.Refusal) { panic("planted") },
	})
	if _, err := c.send(users["alice"], "bob", "after", "after"); err != nil {
		t.Fatal(err)
	}
	got := c.await(answers)
	if got.refused != nil || fmt.Sprint(c.texts("bob", got.page)) != "[after]" || got.page.Revision != 6 {
		t.Errorf("the poll that was held over the failure got %+v", got)
	}
	if _, err := c.send(users["alice"], "bob", "3", "before"); err != nil {
		t.Errorf("retry: %v", err)
	}
	if head, err := c.Head(c.context(), "bob"); err != nil || head.Revision != 6 {
		t.Errorf("head is %v, %v; want 6", head, err)
	}
}

func TestShardThatFailsOpensAgainAndLosesNothing(t *testing.T) {
	c := start(t, slowWrites())
	users := c.join("alice", "bob")
	first, err := c.send(users["alice"], "bob", "1", "before")
	if err != nil {
		t.Fatal(err)
	}
	answers, _ := c.poll(users["bob"], 1, time.Minute)
	var once sync.Once
	c.system.Root.Send(c.shards[c.places.Shard("bob")], &shard.Drain{Done: func() { once.Do(func() { panic("planted") }) }})

	// Until the shard is open again a send may be refused; a retry tells.
	var again talk.Sent
	c.until("open again", func() bool {
		again, err = c.send(users["alice"], "bob", "1", "before")
		return err == nil
	})
	if again != first {
		t.Errorf("the retry got %v, the first answer was %v", again, first)
	}
	if _, err := c.send(users["alice"], "bob", "2", "after"); err != nil {
		t.Fatal(err)
	}
	got := c.await(answers)
	if got.refused != nil || fmt.Sprint(c.texts("bob", got.page)) != "[after]" {
		t.Errorf("the poll that was held over the failure got %+v", got)
	}
}

// TestNothingIsLostOverFaultyStores sends over a journal whose outcomes are
// often unknown and a store that often fails, each send retried until it is
// answered, and then reads every mailbox.
func TestNothingIsLostOverFaultyStores(t *testing.T) {
	for _, test := range []struct {
		name       string
		writeFails float64
		unstored   int
	}{
		{"with room for all that waits", 0.1, 4000},
		{"with little room", 0.2, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := persisttest.NewPlan(1, 5*time.Millisecond, map[persisttest.Fault]float64{
				persisttest.AppendHappened: 0.03, persisttest.AppendLost: 0.03, persisttest.AppendLate: 0.03,
				persisttest.AppendFull: 0.02, persisttest.AppendBusy: 0.02, persisttest.AppendSlow: 0.05,
				persisttest.ReadFailed: 0.1, persisttest.WriteLost: test.writeFails, persisttest.WriteDone: test.writeFails / 2,
				persisttest.LoadFailed: 0.1, persisttest.SyncFailed: 0.1,
			})
			options := Options{
				Journal: persisttest.NewFaultyJournal(memory.NewJournal(persistence.DurabilityFsync), plan),
				Store:   persisttest.NewFaultyStore(memory.NewStore(), plan),
				Keys:    memory.NewKeys(),
			}
			options.setDefaults()
			options.Limits.Unstored, options.Limits.WriteRecords = test.unstored, min(512, test.unstored/4)
			sendAndReadAll(t, options, func(int) {}, plan.Stop)
			t.Log(plan)
		})
	}
}

// sendAndReadAll sends in rounds, each send retried until it is answered, then
// has the faults stop and reads every mailbox. Between rounds all mailboxes have
// left memory.
func sendAndReadAll(t *testing.T, options Options, between func(round int), stopFaults func()) {
	t.Helper()
	options.setDefaults()
	options.Limits.MailboxesPerShard, options.Limits.Tick = 0, 20*time.Millisecond
	n, err := Start(withShards(options))
	if err != nil {
		t.Fatal(err)
	}
	c := cell{n, t}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	names := []string{"alice", "bob", "carol", "dave", "erin", "frank"}
	users := map[string]talk.Session{}
	for _, name := range names {
		c.until("signed in", func() bool {
			if _, err := c.CreateAccounts(c.context(), []talk.NewAccount{{User: name}}); err != nil {
				return false
			}
			session, err := c.SignIn(c.context(), name, "phone", [32]byte{1})
			users[name] = session
			return err == nil
		})
	}

	const rounds, each = 12, 6
	var mu sync.Mutex
	want := map[string]int{} // message ids by how often they must be found
	for round := range rounds {
		var wg sync.WaitGroup
		for i, from := range names {
			wg.Go(func() {
				for k := range each {
					to := names[(i+k)%len(names)]
					id := fmt.Sprint(round, ".", k)
					c.until("sent", func() bool {
						sent, err := c.send(users[from], to, id, from+id)
						if err != nil {
							return false
						}
						mu.Lock()
						defer mu.Unlock()
						want[string(sent.MessageID[:])] = 2
						if from == to {
							want[string(sent.MessageID[:])] = 1
						}
						return true
					})
				}
			})
		}
		wg.Wait()
		c.until("all have left memory", func() bool { return c.Depths().Mailboxes == 0 })
		between(round)
	}
	stopFaults()

	for _, name := range names {
		var after int64
		for more := true; more; {
			var got pageOr
			c.until("fetched", func() bool {
				answers, _ := c.poll(users[name], after, 0)
				got = c.await(answers)
				return got.refused == nil
			})
			for _, operation := range c.decoded(got.page) {
				if after++; operation.GetRevision() != after {
					t.Fatalf("%s: revision %d where %d is due", name, operation.GetRevision(), after)
				}
				message := operation.GetReceiveMessage()
				if message == nil {
					message = operation.GetSendMessage()
				}
				want[string(message.GetMessageId())]--
			}
			more = len(got.page.Operations) > 0
		}
	}
	for id, missing := range want {
		if missing != 0 {
			t.Errorf("message %x: found %d times too few", id, missing)
		}
	}
	if len(want) != rounds*each*len(names) {
		t.Errorf("%d messages, want %d", len(want), rounds*each*len(names))
	}
}

func withShards(options Options) Options {
	options.Shards = 4
	return options
}

// swappedJournal is another journal after a while.
type swappedJournal struct {
	persistence.Journal
	other atomic.Pointer[memory.Journal]
}

func (j *swappedJournal) Append(shard uint32, records [][]byte, done func(persistence.Appended, error)) {
	if other := j.other.Load(); other != nil {
		other.Append(shard, records, done)
		return
	}
	j.Journal.Append(shard, records, done)
}

// A journal that loses its newest records while it is in use stops the shard,
// and whoever waits is answered.
func TestAJournalThatGoesBackStopsItsShard(t *testing.T) {
	journal := memory.NewJournal(persistence.DurabilityOS)
	swapped := &swappedJournal{Journal: journal}
	options := slowWrites()
	options.Journal, options.Store, options.Keys = swapped, memory.NewStore(), memory.NewKeys()
	c := start(t, options)
	users := c.join("alice")
	if _, err := c.send(users["alice"], "alice", "1", "before"); err != nil {
		t.Fatal(err)
	}
	swapped.other.Store(journal.Crash())
	_, err := c.send(users["alice"], "alice", "2", "after")
	if refused, ok := errors.AsType[*refusal.Refusal](err); !ok || refused.Reason != refusal.OutcomeUnknown {
		t.Errorf("a send into the journal that went back: %v", err)
	}
	c.until("stopped", func() bool { return c.Halted()[int(c.places.Shard("alice"))] != "" })
	if _, err := c.send(users["alice"], "alice", "3", "after"); err == nil {
		t.Error("a shard that was stopped takes a message")
	}
}

// unloadingStore loads nothing while it is away.
type unloadingStore struct {
	persistence.Store
	away   atomic.Bool
	failed atomic.Int64 // loads
}

func (s *unloadingStore) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	if s.away.Load() {
		s.failed.Add(1)
		return nil, errAway
	}
	return s.Store.Load(ctx, shard, mailbox, maxDedup)
}

// unmarkedStore keeps what is written, and no checkpoint: it was killed between
// the two.
type unmarkedStore struct{ persistence.Store }

func (s unmarkedStore) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	batch.Checkpoint = persistence.Position{}
	return s.Store.Write(ctx, shard, batch)
}

// The store has more than its checkpoint says, and is away while the journal is
// read again from there: what was dispatched meanwhile to mailboxes that do not
// load is found stored when they do.
func TestRecordsThatTheStoreHasAlreadyAndCannotSay(t *testing.T) {
	store := &unloadingStore{Store: unmarkedStore{memory.NewStore()}}
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys()}
	c := start(t, options)
	users := c.join("alice", "bob")
	for i := range 5 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), "hello"); err != nil {
			t.Fatal(err)
		}
	}
	stored := func() bool { return c.Depths().Unstored == 0 }
	c.until("stored", stored)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	store.away.Store(true)
	c = start(t, options)
	c.until("the loads have failed", func() bool { return store.failed.Load() >= 3 })
	store.away.Store(false)
	c.until("nothing is left to be stored", stored)
	if head, err := c.Head(c.context(), "bob"); err != nil || head.Revision != 5 {
		t.Errorf("head is %v, %v; want 5", head, err)
	}
}

// The same, and a write of the owner before, which has the checkpoint, comes to pass
// meanwhile: whoever sees that truncates the journal, which is all that says what
// became of what was dispatched. The shards begin again behind the checkpoint.
func TestRecordsThatTheStoreHasAndTheJournalLetGo(t *testing.T) {
	inner := memory.NewStore()
	store := &unloadingStore{Store: unmarkedStore{inner}}
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys()}
	c := start(t, options)
	users := c.join("alice", "bob")
	for i := range 5 {
		if _, err := c.send(users["alice"], "bob", fmt.Sprint(i), "hello"); err != nil {
			t.Fatal(err)
		}
	}
	c.until("stored", func() bool { return c.Depths().Unstored == 0 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	store.away.Store(true)
	c = start(t, options)
	c.until("the loads have failed", func() bool { return store.failed.Load() >= 3 })
	for shard := range uint32(len(c.shards)) {
		bounds, err := options.Journal.Bounds(t.Context(), shard)
		if err != nil {
			t.Fatal(err)
		}
		end := persistence.Position{Generation: bounds.Generation, Offset: bounds.Next - 1}
		if bounds.Next == bounds.First {
			continue
		}
		if err := errors.Join(
			inner.Write(t.Context(), shard, persistence.Batch{Highest: end, Checkpoint: end}),
			inner.Sync(t.Context()),
			options.Journal.Truncate(t.Context(), shard, bounds.Next),
		); err != nil {
			t.Fatal(err)
		}
	}
	store.away.Store(false)
	c.until("nothing is left to be stored", func() bool { return c.Depths().Unstored == 0 })
	c.until("bob's head is known", func() bool {
		head, err := c.Head(c.context(), "bob")
		return err == nil && head.Revision == 5
	})
	if _, err := c.send(users["alice"], "bob", "after", "hello"); err != nil {
		t.Error(err)
	}
}

// While mailboxes do not load, whoever asks for one is told so at once, and they
// take up no memory.
func TestMailboxesThatDoNotLoadAreUnavailable(t *testing.T) {
	store := &unloadingStore{Store: memory.NewStore()}
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys()}
	options.setDefaults()
	options.Limits.MailboxesPerShard, options.Limits.Tick = 0, 10*time.Millisecond
	c := start(t, options)
	users := c.join("alice")
	outOfMemory := func() bool { return c.Depths().Mailboxes == 0 }
	c.until("out of memory", outOfMemory)
	store.away.Store(true)
	const patient = 20
	began := time.Now()
	for i := range patient {
		answers, _ := c.poll(users["alice"], 0, time.Minute)
		if got := c.await(answers); got.refused == nil || got.refused.Reason != refusal.StoreUnavailable {
			t.Fatalf("a poll got %+v", got)
		}
		_, err := c.send(users["alice"], "alice", fmt.Sprint(i), "to myself")
		if refused, ok := errors.AsType[*refusal.Refusal](err); !ok || refused.Reason != refusal.StoreUnavailable {
			t.Fatalf("a send got %v", err)
		}
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("%d polls and sends were refused in %v", patient, took)
	}
	c.until("out of memory", outOfMemory)
	store.away.Store(false)
	if _, err := c.send(users["alice"], "alice", "after", "to myself"); err != nil {
		t.Error(err)
	}
}
