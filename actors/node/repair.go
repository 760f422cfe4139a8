package node

import (
	"cmp"
	"context"
	"sync/atomic"
	"time"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/persistence"
)

const (
	// repairPatience is how long a mailbox may take to come to rest.
	repairPatience = 10 * time.Second
	// answerPatience is how long its shard may take to say so beyond that: one that
	// was stopped before it heard of the repair never does.
	answerPatience = 5 * time.Second
)

// Hold runs repair while a mailbox is held by its shard, and the mailbox's
// clients wait: see shard.Repair. When ctx ends, so does what repair was given,
// or it is not begun. A shard of another node is refused as NotReady.
func (n *Node) Hold(ctx context.Context, shardID uint32, mailbox string, repair func(ctx context.Context, through persistence.Position) error) error {
	const begun, abandoned = 1, 2
	var state atomic.Int32
	done := make(chan error, 1)
	owner := n.local(shardID)
	if owner == nil {
		return refusal.Of(refusal.NotReady)
	}
	n.system.Root.Send(owner, &shard.Repair{
		Mailbox:  mailbox,
		Deadline: time.Now().Add(repairPatience),
		Do: func(worker context.Context, through persistence.Position) error {
			if !state.CompareAndSwap(0, begun) {
				return context.Canceled
			}
			worker, cancel := context.WithCancel(worker)
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			return repair(worker, through)
		},
		Done: func(err error) { done <- err },
	})
	late := time.NewTimer(repairPatience + answerPatience)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
	case <-ctx.Done():
	}
	if state.CompareAndSwap(0, abandoned) {
		return cmp.Or(ctx.Err(), error(refusal.Of(refusal.NotReady)))
	}
	return <-done
}
