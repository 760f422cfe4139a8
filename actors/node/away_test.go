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
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/writebehind"
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
	o.until("stored", func() bool { // a copy that is ahead of the store does not count, nor one that is behind
		d := o.Depths()
		return d.Unstored == 0 && d.Cache == (writebehind.Behind{})
	})
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
