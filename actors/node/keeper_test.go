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
