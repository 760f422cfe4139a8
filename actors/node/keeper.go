package node

import (
	"context"
	"errors"
	"time"

	"github.com/tegami-im/tegami/persistence"
)

// keeper syncs the store and truncates the journal below the checkpoints that
// it then reads back: never below one that is only in memory. Nor below one that
// its shard does not know of: a write that an earlier owner left behind may have
// come to pass since, and the shard still needs the records.
type keeper struct {
	node      *Node
	cancel    context.CancelFunc
	done      chan struct{}
	truncated []persistence.Position // by shard: checkpoint when it was truncated
	synced    []persistence.Position // by shard: checkpoint when the store was synced
}

func startKeeper(n *Node) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{
		node:      n,
		cancel:    cancel,
		done:      make(chan struct{}),
		truncated: make([]persistence.Position, len(n.shards)),
		synced:    make([]persistence.Position, len(n.shards)),
	}
	go func() {
		defer close(k.done)
		ticker := time.NewTicker(n.options.CheckpointInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := k.keep(ctx); err != nil && ctx.Err() == nil {
				n.options.Logger.Warn("checkpoint failed; it is tried again", "error", err)
			}
		}
	}()
	return k
}

func (k *keeper) close() {
	k.cancel()
	<-k.done
}

// keep runs on the keeper's goroutine, and once more when it is drained.
func (k *keeper) keep(ctx context.Context) error {
	n := k.node
	moved := false
	for i := range n.statuses {
		if status := n.status(i); status != nil && k.synced[i].Less(status.Checkpoint()) {
			k.synced[i] = status.Checkpoint()
		}
		if k.truncated[i].Less(k.synced[i]) { // also what failed before
			moved = true
		}
	}
	if !moved {
		return nil
	}
	if err := n.options.Store.Sync(ctx); err != nil {
		return err
	}
	var failed error
	for i := range n.statuses {
		if !k.truncated[i].Less(k.synced[i]) {
			continue
		}
		id := uint32(i)
		marks, err := n.options.Store.Marks(ctx, id)
		through := marks.Checkpoint
		if k.synced[i].Less(through) {
			through = k.synced[i]
		}
		if err == nil && !through.IsZero() {
			err = n.options.Journal.Truncate(ctx, id, through.Offset+1)
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		k.truncated[i] = k.synced[i]
	}
	return failed
}
