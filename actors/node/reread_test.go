package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// keptJournal lets go of nothing, so that what the store holds in the end can be
// held against all that was ever decided.
type keptJournal struct{ persistence.Journal }

func (keptJournal) Truncate(context.Context, uint32, int64) error { return nil }

// awayStore is a store that is away at times, wholly or for writes alone.
type awayStore struct {
	persistence.Store
	readsFail atomic.Bool
	// writes is how many are still let through; negative for all.
	writes atomic.Int64
}

func newAwayStore() *awayStore {
	s := &awayStore{Store: memory.NewStore()}
	s.heal()
	return s
}

func (s *awayStore) heal() {
	s.writes.Store(-1)
	s.readsFail.Store(false)
}

func (s *awayStore) away() {
	s.writes.Store(0)
	s.readsFail.Store(true)
}

func (s *awayStore) Write(ctx context.Context, shard uint32, batch persistence.Batch) error {
	for {
		left := s.writes.Load()
		if left == 0 {
			return errAway
		}
		if left < 0 || s.writes.CompareAndSwap(left, left-1) {
			return s.Store.Write(ctx, shard, batch)
		}
	}
}

func (s *awayStore) Load(ctx context.Context, shard uint32, mailbox string, maxDedup int) (*persistence.Mailbox, error) {
	if s.readsFail.Load() {
		return nil, errAway
	}
	return s.Store.Load(ctx, shard, mailbox, maxDedup)
}

func (s *awayStore) Dedup(ctx context.Context, shard uint32, mailbox string, key [persistence.DedupKeySize]byte, notBefore int64) (persistence.DedupEntry, bool, error) {
	if s.readsFail.Load() {
		return persistence.DedupEntry{}, false, errAway
	}
	return s.Store.Dedup(ctx, shard, mailbox, key, notBefore)
}

func (s *awayStore) Operations(ctx context.Context, shard uint32, mailbox string, after, upTo int64, limit, maxBytes int) ([]persistence.Row, error) {
	if s.readsFail.Load() {
		return nil, errAway
	}
	return s.Store.Operations(ctx, shard, mailbox, after, upTo, limit, maxBytes)
}

func (s *awayStore) Conversation(ctx context.Context, shard uint32, mailbox, peer string, before int64, limit, maxBytes int) ([]persistence.Row, error) {
	if s.readsFail.Load() {
		return nil, errAway
	}
	return s.Store.Conversation(ctx, shard, mailbox, peer, before, limit, maxBytes)
}

// outage is a node whose store goes away, with traffic that goes on.
type outage struct {
	cell
	options Options
	store   *awayStore
	cache   *memory.Cache // nil: there is none
	users   map[string]talk.Session
	names   []string
	records atomic.Int64 // at least so many were decided
	round   int

	mu      sync.Mutex // guards the following
	answers map[string]answered
}

// answered is a message and its first answer.
type answered struct {
	from, to, id string
	sent         talk.Sent
}

func newOutage(t *testing.T, cache *memory.Cache, users, unstored int) *outage {
	t.Helper()
	o := &outage{store: newAwayStore(), cache: cache, answers: map[string]answered{}}
	o.options = Options{
		Journal: keptJournal{memory.NewJournal(persistence.DurabilityFsync)}, Store: o.store, Keys: memory.NewKeys(),
		CheckpointInterval: 10 * time.Millisecond,
	}
	if cache != nil {
		o.options.Cache = cache
	}
	o.options.setDefaults()
	o.cell = start(t, o.options)
	o.names = []string{"alice", "bob"}
	for i := range users - len(o.names) {
		o.names = append(o.names, fmt.Sprint("carol", i))
	}
	o.users = o.join(o.names...)
	o.options.Limits.Unstored, o.options.Limits.WriteAge, o.options.Limits.Tick = unstored, time.Millisecond, 10*time.Millisecond
	o.options.Limits.WriteRecords, o.options.Limits.TailOperations = unstored/4, 4
	o.crash()
	return o
}

// leaveMemory has mailboxes leave memory whenever they are idle, and the cache
// copy them.
func (o *outage) leaveMemory() {
	o.t.Helper()
	o.options.Limits.MailboxesPerShard = 0
	o.crash()
	for _, name := range o.names {
		o.until("copied", func() bool {
			if _, err := o.Head(o.context(), name); err != nil {
				return false
			}
			_, err := o.cache.Load(o.t.Context(), o.places.Shard(name), name, mailbox.MaxDedupInMemory, persistence.Position{})
			return err == nil
		})
	}
}

// traffic has every user send, each message until it is answered, and repeat
// one that was answered before: the answer must be the same.
func (o *outage) traffic(each int) {
	o.t.Helper()
	o.round++
	var wait sync.WaitGroup
	for i, from := range o.names {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(uint64(o.round), uint64(i)))
			var mine []answered
			for k := range each {
				m := answered{from: from, to: o.names[random.IntN(len(o.names))], id: fmt.Sprint(o.round, ".", k)}
				m.sent = o.deliver(m)
				mine = append(mine, m)
				if o.records.Add(2); k%10 != 0 {
					continue
				}
				old := mine[random.IntN(len(mine))]
				if again := o.deliver(old); again != old.sent {
					o.t.Errorf("a retry was answered %v, the first was %v", again, old.sent)
				}
				o.records.Add(1)
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			for _, m := range mine {
				o.answers[m.from+m.id] = m
			}
		})
	}
	wait.Wait()
}

func (o *outage) deliver(m answered) (sent talk.Sent) {
	o.t.Helper()
	o.until("sent", func() (answered bool) {
		var err error
		sent, err = o.send(o.users[m.from], m.to, m.id, m.from+m.id)
		return err == nil
	})
	return sent
}

// retryAll sends everything once more.
func (o *outage) retryAll() {
	o.t.Helper()
	for _, m := range o.answers {
		if again := o.deliver(m); again != m.sent {
			o.t.Errorf("a retry was answered %v, the first was %v", again, m.sent)
		}
	}
}

// bounded checks what is in memory.
func (o *outage) bounded() {
	o.t.Helper()
	underWay := 2 * len(o.names) // a message and a copy for each
	if unstored := o.Depths().Unstored; unstored > int64(4*o.options.Limits.Unstored+underWay) {
		o.t.Errorf("%d records wait in memory, for 4 shards with %d each", unstored, o.options.Limits.Unstored)
	}
}

func (o *outage) caughtUp() {
	o.t.Helper()
	o.until("caught up", func() bool {
		depths := o.Depths()
		return depths.Unstored == 0 && depths.Dropped == 0
	})
}

// crash starts a new node over what the one before left.
func (o *outage) crash() {
	o.t.Helper()
	if err := o.Close(); err != nil {
		o.t.Error(err)
	}
	o.cell = start(o.t, o.options)
}

// judge stores everything and compares the store with the journal.
func (o *outage) judge() {
	o.t.Helper()
	if err := o.Drain(o.context()); err != nil {
		o.t.Fatal(err)
	}
	for id := range uint32(4) {
		want, marks := decided(o.t, o.options.Journal, id)
		got := map[string]kept{}
		for name := range want {
			got[name] = loadKept(o.t, o.store, id, name)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			o.t.Errorf("shard %d: what was decided, and what is stored:\n%s", id, diff)
		}
		stored, err := o.store.Marks(o.context(), id)
		if err != nil || stored.Checkpoint != marks {
			o.t.Errorf("shard %d: the checkpoint is %v, %v; the newest record is at %v", id, stored.Checkpoint, err, marks)
		}
	}
}

// kept is all that a store keeps of a mailbox.
type kept struct {
	Position persistence.Position
	State    string
	Rows     []persistence.Row
	Dedup    []persistence.DedupEntry
	Sources  map[string]persistence.Position
	Parts    map[string]string
}

// decided applies a shard's journal from its start, in the simplest way, and
// returns what the store must hold of it.
func decided(t *testing.T, journal persistence.Journal, id uint32) (map[string]kept, persistence.Position) {
	t.Helper()
	states, mailboxes := map[string]*mailbox.State{}, map[string]kept{}
	var newest persistence.Position
	for offset := int64(0); ; {
		entries, err := journal.Read(t.Context(), id, offset, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return mailboxes, newest
		}
		for _, e := range entries {
			newest, offset = e.Position, e.Position.Offset+1
			r, err := mailbox.DecodeRecord(e.Data)
			if err != nil {
				t.Fatal(err)
			}
			name := r.GetMailbox()
			if states[name] == nil {
				states[name] = mailbox.New(name)
			}
			var known *persistence.DedupEntry
			if _, needed := states[name].LookUp(r, e.Time); needed {
				for i := range mailboxes[name].Dedup {
					if entry := &mailboxes[name].Dedup[i]; string(entry.Key[:]) == string(r.GetDedupKey()) {
						known = entry
						break
					}
				}
			}
			write := states[name].Apply(mailbox.Input{Position: e.Position, Time: e.Time, Record: r, Dedup: known}).Write
			if write.State == nil {
				continue
			}
			m := mailboxes[name]
			m.Position, m.State = write.Position, string(write.State)
			m.Rows, m.Dedup = append(m.Rows, write.Rows...), append(m.Dedup, write.Dedup...)
			m.Sources = maps.Clone(m.Sources)
			for _, source := range write.Sources {
				if m.Sources == nil {
					m.Sources = map[string]persistence.Position{}
				}
				m.Sources[source.Mailbox] = source.Position
			}
			m.Parts = maps.Clone(m.Parts)
			for _, part := range write.Parts {
				if m.Parts == nil {
					m.Parts = map[string]string{}
				}
				if m.Parts[part.Key] = string(part.Data); len(part.Data) == 0 {
					delete(m.Parts, part.Key)
				}
			}
			mailboxes[name] = m
		}
	}
}

func loadKept(t *testing.T, store persistence.Store, id uint32, name string) kept {
	t.Helper()
	m, err := store.Load(t.Context(), id, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	k := kept{Position: m.Position, State: string(m.State), Dedup: m.Dedup}
	slices.SortFunc(k.Dedup, func(a, b persistence.DedupEntry) int { return cmp.Compare(a.Position.Offset, b.Position.Offset) })
	for _, source := range m.Sources {
		if k.Sources == nil {
			k.Sources = map[string]persistence.Position{}
		}
		k.Sources[source.Mailbox] = source.Position
	}
	for _, part := range m.Parts {
		if k.Parts == nil {
			k.Parts = map[string]string{}
		}
		k.Parts[part.Key] = string(part.Data)
	}
	if k.Rows, err = store.Operations(t.Context(), id, name, 0, persistence.MaxRevision, 1<<20, 1<<30); err != nil {
		t.Fatal(err)
	}
	return k
}

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
	if _, err := o.send(o.users["bob"], "bob", "1", "another mailbox"); err != nil {
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
			o.traffic(1) // all others are in memory
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
