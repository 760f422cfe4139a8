package node

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tegami-im/tegami/persistence"
	"github.com/tegami-im/tegami/persistence/memory"
)

// stuckStore loads nothing, once it is stuck, until it is let go.
type stuckStore struct {
	persistence.Store
	stuck atomic.Bool
	let   chan struct{}
}

func (s *stuckStore) Load(ctx context.Context, shard uint32, name string, maxDedup int) (*persistence.Mailbox, error) {
	if s.stuck.Load() {
		<-s.let
	}
	return s.Store.Load(ctx, shard, name, maxDedup)
}

// narrowCache has the copy of one mailbox only.
type narrowCache struct {
	persistence.Cache
	name string
}

func (c narrowCache) Load(ctx context.Context, shard uint32, name string, maxDedup int, notBelow persistence.Position) (*persistence.Mailbox, error) {
	if name != c.name {
		return nil, persistence.ErrNotFound
	}
	return c.Cache.Load(ctx, shard, name, maxDedup, notBelow)
}

// However many mailboxes wait for a store that is slow, one that the cache has
// is there.
func TestCachedMailboxLoadsWhileOthersWaitForTheStore(t *testing.T) {
	store := &stuckStore{Store: memory.NewStore(), let: make(chan struct{})}
	options := Options{
		Journal: memory.NewJournal(persistence.DurabilityFsync), Store: store, Keys: memory.NewKeys(),
		Cache: narrowCache{memory.NewCache(), "alice"},
	}
	options.setDefaults()
	options.Limits.Idle = 10 * time.Millisecond
	c := start(t, options)
	const others = 100 // more than are loaded at a time, by far
	names := []string{"alice"}
	for i := range others {
		names = append(names, fmt.Sprint("other", i))
	}
	users := c.join(names...)
	if _, err := c.send(users["alice"], "alice", "1", "to myself"); err != nil {
		t.Fatal(err)
	}
	c.until("out of memory", func() bool { return c.Depths().Mailboxes == 0 && c.Depths().Cache.Records == 0 })

	store.stuck.Store(true)
	letGo := sync.OnceFunc(func() { close(store.let) })
	defer letGo()
	var waiting []<-chan pageOr
	for _, name := range names[1:] {
		answers, _ := c.poll(users[name], 0, 0)
		waiting = append(waiting, answers)
	}
	c.until("waiting for the store", func() bool { return c.Depths().Workers["load"] > 0 })
	answers, _ := c.poll(users["alice"], 0, 0)
	if got := c.await(answers); got.refused != nil || len(got.page.Operations) != 1 {
		t.Errorf("got %+v, want the operation", got)
	}
	letGo()
	for _, answers := range waiting {
		c.await(answers)
	}
}
