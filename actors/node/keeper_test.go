package node

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// unsyncedStore does not sync while it is failing.
type unsyncedStore struct {
	persistence.Store
	failing atomic.Bool
	failed  atomic.Int64
}

func (s *unsyncedStore) Sync(ctx context.Context) error {
	if s.failing.Load() {
		s.failed.Add(1)
		return errAway
	}
	return s.Store.Sync(ctx)
}

// A sync that failed is made again, also where nothing is written any more.
func TestTheStoreIsSyncedAfterAFailure(t *testing.T) {
	store := &unsyncedStore{Store: memory.NewStore()}
	store.failing.Store(true)
	c := start(t, Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys(),
		CheckpointInterval: time.Millisecond,
	})
	c.join("alice")
	shard := c.places.Shard("alice")
	bounds, err := c.options.Journal.Bounds(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	written := func() bool { return c.status(int(shard)).Checkpoint().Offset == bounds.Next-1 }
	c.until("written", written)
	before := store.failed.Load()
	c.until("failed again", func() bool { return store.failed.Load() > before+1 })
	store.failing.Store(false)
	c.until("synced", func() bool {
		marks, err := store.Marks(t.Context(), shard)
		return err == nil && marks.Checkpoint.Offset == bounds.Next-1
	})
}

// aheadStore has a checkpoint that another owner wrote, when it is ahead.
type aheadStore struct {
	persistence.Store
	ahead atomic.Bool
}

func (s *aheadStore) Marks(ctx context.Context, shard uint32) (persistence.Marks, error) {
	marks, err := s.Store.Marks(ctx, shard)
	if s.ahead.Load() && !marks.Checkpoint.IsZero() {
		marks.Checkpoint.Offset += 1000
	}
	return marks, err
}

// truncations counts how often a journal is truncated, and how often beyond its end.
type truncations struct {
	persistence.Journal
	all, beyond atomic.Int64
}

func (j *truncations) Truncate(ctx context.Context, shard uint32, before int64) error {
	bounds, err := j.Bounds(ctx, shard)
	if err != nil {
		return err
	}
	j.all.Add(1)
	if before > bounds.Next {
		j.beyond.Add(1)
		before = bounds.Next
	}
	return j.Journal.Truncate(ctx, shard, before)
}

// A node does not let go of records for a checkpoint that it does not know of: it
// may need them.
func TestTheJournalIsTruncatedBelowTheOwnersCheckpoint(t *testing.T) {
	store := &aheadStore{Store: memory.NewStore()}
	journal := &truncations{Journal: memory.NewJournal(persistence.DurabilityFsync)}
	c := start(t, Options{Journal: journal, Store: store, Keys: memory.NewKeys(), Shards: 1, CheckpointInterval: time.Millisecond})
	store.ahead.Store(true)
	c.join("alice")
	c.until("truncated", func() bool { return journal.all.Load() > 0 })
	if n := journal.beyond.Load(); n > 0 {
		t.Errorf("truncated beyond what there is, %d times", n)
	}
}
