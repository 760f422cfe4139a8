package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
	"github.com/tegami-im/tegami/persistence/persisttest"
)

// forgetfulCache is a cache to which everything happens that may: it is
// emptied, its calls fail, also after they have happened.
type forgetfulCache struct {
	*memory.Cache
	sound atomic.Bool // nothing happens any more
	loads atomic.Int64
	pages atomic.Int64

	mu  sync.Mutex // guards the following
	rng *rand.Rand
}

func newForgetfulCache(seed uint64) *forgetfulCache {
	return &forgetfulCache{Cache: memory.NewCache(), rng: rand.New(rand.NewPCG(seed, 0))}
}

var errAway = errors.New("the cache is away")

// happen makes something happen now and then, and says whether the call is to
// fail before or after it was made.
func (c *forgetfulCache) happen() (before, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sound.Load() {
		return false, false
	}
	switch n := c.rng.IntN(500); {
	case n == 0:
		c.Empty()
	case n < 20:
		return true, false
	case n < 30:
		return false, true
	}
	return false, false
}

func (c *forgetfulCache) Write(ctx context.Context, shard uint32, from persistence.CacheMark, watermark persistence.Position, mailboxes []persistence.MailboxWrite) (persistence.CacheMark, error) {
	before, after := c.happen()
	if before {
		return persistence.CacheMark{}, errAway
	}
	mark, err := c.Cache.Write(ctx, shard, from, watermark, mailboxes)
	if after {
		return persistence.CacheMark{}, errAway
	}
	return mark, err
}

func (c *forgetfulCache) Fill(ctx context.Context, shard uint32, from persistence.CacheMark, mailbox string, m *persistence.Mailbox) error {
	before, _ := c.happen()
	if before {
		return errAway
	}
	return c.Cache.Fill(ctx, shard, from, mailbox, m)
}

func (c *forgetfulCache) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int, notBelow persistence.Position) (*persistence.Mailbox, error) {
	if before, _ := c.happen(); before {
		return nil, errAway
	}
	m, err := c.Cache.Load(ctx, shard, mailbox, maxDedup, notBelow)
	if err == nil {
		c.loads.Add(1)
	}
	return m, err
}

func (c *forgetfulCache) Operations(ctx context.Context, shard uint32, mailbox string, generation uint32, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	rows, err := c.Cache.Operations(ctx, shard, mailbox, generation, after, upTo, limit, maxBytes)
	if err == nil {
		c.pages.Add(1)
	}
	return rows, err
}

// Whatever a cache does, and however far it is ahead of the store or behind it,
// nothing is lost, doubled or shown that is not there.
func TestNothingIsLostOverAForgetfulCache(t *testing.T) {
	for _, test := range []struct {
		name string
		// loadFails and writeFails are how often the store does.
		loadFails, writeFails float64
		unstored              int
	}{
		{"before a sound store", 0, 0, 4000},
		{"before a store that fails", 0.2, 0.2, 4000},
		{"before a store that fails, with little room for what waits", 0.2, 0.3, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := persisttest.NewPlan(1, 5*time.Millisecond, map[persisttest.Fault]float64{
				persisttest.AppendHappened: 0.02, persisttest.WriteLost: test.writeFails, persisttest.LoadFailed: test.loadFails,
			})
			cache := newForgetfulCache(1)
			options := Options{
				Journal: persisttest.NewFaultyJournal(memory.NewJournal(persistence.DurabilityFsync), plan),
				Store:   persisttest.NewFaultyStore(memory.NewStore(), plan),
				Cache:   cache,
				Keys:    memory.NewKeys(),
			}
			options.setDefaults()
			options.Limits.TailOperations = 4
			options.Limits.Unstored, options.Limits.WriteRecords = test.unstored, min(512, test.unstored/4)
			var setBack func()
			between := func(round int) {
				switch round % 4 {
				case 1:
					setBack = cache.Snapshot()
				case 3:
					setBack() // and the round that follows loads from what it held two rounds ago
				}
			}
			sendAndReadAll(t, options, between, func() {
				plan.Stop()
				cache.sound.Store(true)
			})
			t.Logf("%d mailboxes loaded and %d pages read from the cache", cache.loads.Load(), cache.pages.Load())
			if cache.loads.Load() == 0 || cache.pages.Load() == 0 {
				t.Error("the cache was of no use, so that nothing is shown")
			}
		})
	}
}

// A mailbox that left memory is stored as far as it goes, while the shard's
// checkpoint may lie below that. What the cache has then counts by the
// checkpoint: what lies above it is brought forward from the journal.
func TestMailboxThatLeftMemoryIsBroughtForward(t *testing.T) {
	held := &heldJournal{Journal: memory.NewJournal(persistence.DurabilityFsync), shard: 1 << 30, hold: make(chan struct{})}
	cache := memory.NewCache()
	options := Options{Journal: held, Store: memory.NewStore(), Keys: memory.NewKeys(), Cache: cache}
	options.setDefaults()
	options.Limits.MailboxesPerShard, options.Limits.Tick = 0, 10*time.Millisecond
	c := start(t, options)
	users, from, other := c.strangers()
	to := neighbour(c, from)
	users[to] = c.join(to)[to]
	left := func(but int64) func() bool { return func() bool { return c.Depths().Mailboxes == but } }
	var before talk.Head
	for range 3 { // the first time the cache knows nothing yet, the second it is given the mailbox
		c.until("out of memory", left(0))
		var err error
		if before, err = c.Head(c.context(), to); err != nil {
			t.Fatal(err)
		}
	}
	c.until("out of memory", left(0))
	setBack := cache.Snapshot()

	held.shard = c.places.Shard(other)
	late := make(chan error, 1)
	// A record whose follow-up is held keeps the checkpoint down.
	c.Send(c.context(), talk.Send{
		From: other, FromDevice: users[other].Device, To: from, ClientMessageID: "held", Body: talk.Body{Text: "hello"},
		Answer: func(_ talk.Sent, err error) { late <- err },
	})
	c.until("in memory", func() bool { return c.Depths().Mailboxes > 0 })
	if _, err := c.send(users[to], to, "1", "to myself"); err != nil {
		t.Fatal(err)
	}
	c.until("out of memory but for the one that waits", left(1))
	setBack()
	after, err := c.Head(c.context(), to)
	if err != nil || after.Revision != before.Revision+1 {
		t.Errorf("head %+v, %v, it was %+v before one more message", after, err, before)
	}
	close(held.hold)
	if err := <-late; err != nil {
		t.Error(err)
	}
}

// downStore is a store that takes no writes while it is down.
type downStore struct {
	persistence.Store
	down atomic.Bool
}

func (s *downStore) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	if s.down.Load() {
		return errAway
	}
	return s.Store.Write(ctx, shard, batch)
}

// What the cache has and the store does not is not taken for stored when the
// journal is replayed: the store would never get it.
func TestTheStoreGetsWhatOnlyTheCacheHas(t *testing.T) {
	store, cache := &downStore{Store: memory.NewStore()}, memory.NewCache()
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys(), Cache: cache}
	options.setDefaults()
	options.Limits.MailboxesPerShard, options.Limits.Tick = 0, 10*time.Millisecond
	c := start(t, options)
	users := c.join("alice")
	for range 3 { // until the cache has the mailbox
		c.until("out of memory", func() bool { return c.Depths().Mailboxes == 0 })
		if _, err := c.Head(c.context(), "alice"); err != nil {
			t.Fatal(err)
		}
	}
	copied := func() persistence.Position {
		m, err := cache.Load(c.context(), c.places.Shard("alice"), "alice", 100, persistence.Position{})
		if err != nil {
			return persistence.Position{}
		}
		return m.Position
	}
	before := copied()
	if before.IsZero() {
		t.Fatal("the cache has no copy")
	}
	store.down.Store(true)
	const sent = 3
	for i := range sent {
		if _, err := c.send(users["alice"], "alice", fmt.Sprint(i), "to myself"); err != nil {
			t.Fatal(err)
		}
	}
	c.until("in the cache", func() bool { return before.Offset+sent == copied().Offset })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	store.down.Store(false)
	again := start(t, options)
	if err := errors.Join(again.Drain(again.context()), again.Close()); err != nil {
		t.Fatal(err)
	}
	cache.Empty()
	last := start(t, options)
	answers, _ := last.poll(users["alice"], 0, 0)
	if got := last.await(answers); got.refused != nil || len(got.page.Operations) != sent {
		t.Errorf("got %+v, want %d operations", got, sent)
	}
}

// deafCache takes no writes while it is deaf.
type deafCache struct {
	*memory.Cache
	deaf atomic.Bool
}

func (c *deafCache) Write(ctx context.Context, shard uint32, from persistence.CacheMark, watermark persistence.Position, mailboxes []persistence.MailboxWrite) (persistence.CacheMark, error) {
	if c.deaf.Load() {
		return persistence.CacheMark{}, errAway
	}
	return c.Cache.Write(ctx, shard, from, watermark, mailboxes)
}

func (c *deafCache) Begin(ctx context.Context, shard uint32, watermark persistence.Position) (persistence.CacheMark, error) {
	if c.deaf.Load() {
		return persistence.CacheMark{}, errAway
	}
	return c.Cache.Begin(ctx, shard, watermark)
}

// What the store has above its checkpoint, and the cache does not, is passed
// over when the journal is replayed: the cache would never get it, and must not
// be taken to have it.
func TestTheCacheIsNotAheadOfWhatOnlyTheStoreHas(t *testing.T) {
	cache := &deafCache{Cache: memory.NewCache()}
	options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(), Cache: cache}
	options.setDefaults()
	first := start(t, options)
	users := first.join("alice")
	alice, shard := users["alice"], first.places.Shard("alice")
	near := neighbour(first, "alice")
	users[near] = first.join(near)[near]
	if err := errors.Join(first.Drain(first.context()), first.Close()); err != nil {
		t.Fatal(err)
	}

	// From here on the store is not synced: its marks stay, as if the process
	// had ended at once.
	options.CheckpointInterval = time.Hour
	options.Limits.MailboxesPerShard, options.Limits.Tick = 0, 10*time.Millisecond
	second := start(t, options)
	if _, err := second.Head(second.context(), "alice"); err != nil {
		t.Fatal(err)
	}
	second.until("copied", func() bool {
		_, err := cache.Load(t.Context(), shard, "alice", 100, persistence.Position{})
		return err == nil
	})
	sendAndStore := func(id string) persistence.Position {
		if _, err := second.send(alice, "alice", id, "to myself"); err != nil {
			t.Fatal(err)
		}
		second.until("stored", func() bool { return second.Depths().Unstored == 0 })
		m, err := options.Store.Load(t.Context(), shard, "alice", 100)
		if err != nil {
			t.Fatal(err)
		}
		return m.Position
	}
	position := sendAndStore("1")
	second.until("in the cache", func() bool {
		m, err := cache.Load(t.Context(), shard, "alice", 100, persistence.Position{})
		return err == nil && m.Position == position
	})
	cache.deaf.Store(true)
	position = sendAndStore("2")
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	cache.deaf.Store(false)
	third := start(t, options)
	third.until("caught up, with nothing to put", func() bool {
		mark, err := cache.Mark(t.Context(), shard)
		return err == nil && !mark.Watermark.Less(position)
	})
	if _, err := third.send(users[near], near, "3", "moves the watermark"); err != nil {
		t.Fatal(err)
	}
	third.until("stored and out of memory", func() bool {
		depths := third.Depths()
		return depths.Unstored == 0 && depths.Mailboxes == 0
	})
	if head, err := third.Head(third.context(), "alice"); err != nil || head.Revision != 2 {
		t.Errorf("head %+v, %v after 2 messages", head, err)
	}
}

// neighbour returns a user who lies in the shard of another.
func neighbour(c cell, of string) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("carol", i); c.places.Shard(name) == c.places.Shard(of) {
			return name
		}
	}
}

// rowsCache counts the pages that were read from it, whose rows do not decode once
// they are damaged.
type rowsCache struct {
	deafCache
	pages   atomic.Int64
	damaged bool
}

func (c *rowsCache) Operations(ctx context.Context, shard uint32, mailbox string, generation uint32, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	rows, err := c.deafCache.Operations(ctx, shard, mailbox, generation, after, upTo, limit, maxBytes)
	if err == nil {
		c.pages.Add(1)
	}
	for i := range rows {
		if c.damaged {
			rows[i].Data = []byte{0xff}
		}
	}
	return rows, err
}

// After the operator started a generation, what the cache has from before may be
// of records that were lost: rows come from the store, though the cache takes no
// writes and so has no filling of the new generation yet. They do so where what it
// has does not decode.
func TestRowsOfAnotherHistoryOrDamagedAreNotServed(t *testing.T) {
	for _, test := range []struct {
		name    string
		started bool // a generation was
		damaged bool // what the cache has of rows is
		fromIt  int64
	}{
		{"the same generation", false, false, 1},
		{"a new generation", true, false, 0},
		{"damaged rows", false, true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := &rowsCache{deafCache: deafCache{Cache: memory.NewCache()}}
			options := Options{Journal: memory.NewJournal(persistence.DurabilityFsync), Store: memory.NewStore(), Keys: memory.NewKeys(), Cache: cache}
			options.setDefaults()
			first := start(t, options)
			alice, shard := first.join("alice")["alice"], first.places.Shard("alice")
			const sent = 3
			for i := range sent {
				if _, err := first.send(alice, "alice", fmt.Sprint(i), "to myself"); err != nil {
					t.Fatal(err)
				}
			}
			first.until("in the cache", func() bool {
				rows, err := cache.Cache.Operations(t.Context(), shard, "alice", 0, 0, sent, sent, 1<<20)
				return err == nil && len(rows) == sent
			})
			if err := errors.Join(first.Drain(first.context()), first.Close()); err != nil {
				t.Fatal(err)
			}
			if test.started {
				if err := options.Journal.StartGeneration(t.Context(), shard); err != nil {
					t.Fatal(err)
				}
			}
			cache.deaf.Store(true)
			cache.damaged = test.damaged
			second := start(t, options)
			answers, _ := second.poll(alice, 0, 0)
			if got := second.await(answers); got.refused != nil || len(got.page.Operations) != sent {
				t.Fatalf("got %+v, want %d operations", got, sent)
			}
			if got := cache.pages.Load(); got != test.fromIt {
				t.Errorf("%d pages came from the cache, want %d", got, test.fromIt)
			}
		})
	}
}
