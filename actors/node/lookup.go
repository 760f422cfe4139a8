package node

import (
	"context"
	"sync"
)

// maxLookups is how many sends of a shard may wait for a key. Those of a shard
// that nobody owns for a while fill up with it, and others go on.
const maxLookups = 1024

// lookups are sends that wait for a key which is not in memory. They wait on
// goroutines of their own: whoever sends must not, and an owner of keys that does
// not answer must not hold up those who wait for another.
type lookups struct {
	running sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of the goroutines, until close
	cancel  context.CancelFunc

	mu      sync.Mutex // guards the following
	waiting []int      // by shard
	closed  bool
}

func newLookups(shards int) *lookups {
	l := &lookups{waiting: make([]int, shards)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// start runs a function for a shard, with a context that ends with the node and
// after commandDeadline. It returns false when the shard has too many.
func (l *lookups) start(shard uint32, run func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.waiting[shard] >= maxLookups {
		return false
	}
	l.waiting[shard]++
	l.running.Go(func() {
		ctx, cancel := context.WithTimeout(l.ctx, commandDeadline)
		defer cancel()
		run(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.waiting[shard]--
	})
	return true
}

// close ends all of them and waits for their end.
func (l *lookups) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cancel()
	l.running.Wait()
}
