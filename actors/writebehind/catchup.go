package writebehind

import (
	"context"
	"fmt"

	"github.com/tegami-im/tegami/actors/reapply"
	"github.com/tegami-im/tegami/persistence"
)

const (
	// rereadBytes is how much of the journal one step reads, rereadMailboxes how
	// many mailboxes it writes at the most.
	rereadBytes     = 1 << 20
	rereadMailboxes = 256
)

// catchUp brings to the store what was dropped from memory: it reads the
// journal again and applies it to what the store has, never to what a cache
// has, which may be ahead. It runs on workers, one step at a time. A step that
// failed is made again: those it wrote are skipped then.
type catchUp struct {
	journal persistence.Journal
	store   persistence.Store
	shard   uint32

	// stored is the position up to which the store has everything.
	stored persistence.Position
	// next is the offset to go on from; -1: it follows from stored.
	next    int64
	applier *reapply.Applier // nil: nothing is known of the states
	// mailboxes is how many the next step writes. A step that failed is made
	// smaller, so that a store that is slow, or fails now and then, gets through.
	mailboxes int
}

// newCatchUp returns a catch-up above a position.
func (l *storeLane) newCatchUp(stored persistence.Position) *catchUp {
	return &catchUp{journal: l.Journal, store: l.Store, shard: l.Shard, stored: stored, next: -1, mailboxes: rereadMailboxes}
}

// step brings the next records to the store, none above limit, and returns what
// it wrote and how many records it read.
func (c *catchUp) step(ctx context.Context, limit persistence.Position) (persistence.Batch, int, error) {
	batch, records, err := c.write(ctx, limit)
	if err != nil {
		// The states are ahead of what is known to be stored.
		c.applier, c.next, c.mailboxes = nil, -1, max(c.mailboxes/4, 1)
	} else {
		c.mailboxes = min(c.mailboxes*2, rereadMailboxes)
	}
	return batch, records, err
}

func (c *catchUp) write(ctx context.Context, limit persistence.Position) (batch persistence.Batch, records int, err error) {
	if c.next < 0 {
		if err := c.begin(ctx, limit); err != nil {
			return batch, 0, err
		}
	}
	if c.next > limit.Offset {
		// The journal let go of it all: a step that seemed to fail was written,
		// and its checkpoint read back.
		c.stored = limit
		return persistence.Batch{Checkpoint: limit}, 0, nil
	}
	entries, err := c.read(ctx, limit)
	if err != nil {
		return batch, 0, err
	}
	if c.applier == nil {
		c.applier = reapply.New(c.store, c.shard)
	}
	applied, err := c.applier.Apply(ctx, entries, c.mailboxes)
	if err != nil {
		return batch, 0, err
	}
	batch = fold(applied)
	last := applied[len(applied)-1].Position
	if c.stored.Less(last) { // not so where an older generation is read again
		batch.Checkpoint = last
	}
	if err := c.journal.Sync(ctx); err != nil {
		return batch, 0, err
	}
	if err := writeBatch(ctx, c.store, c.shard, batch); err != nil {
		return batch, 0, err
	}
	if c.next = last.Offset + 1; c.stored.Less(last) {
		c.stored = last
	}
	return batch, len(applied), nil
}

// begin finds where to read from: a position of an older generation says nothing
// of the offsets of the newest one.
func (c *catchUp) begin(ctx context.Context, limit persistence.Position) error {
	bounds, err := c.journal.Bounds(ctx, c.shard)
	if err != nil {
		return err
	}
	c.next = bounds.First
	if c.stored.Generation == limit.Generation {
		c.next = max(c.next, c.stored.Offset+1)
	}
	return nil
}

// read returns entries up to limit, at least one.
func (c *catchUp) read(ctx context.Context, limit persistence.Position) ([]persistence.Entry, error) {
	entries, err := c.journal.Read(ctx, c.shard, c.next, rereadBytes)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if limit.Less(entries[i].Position) {
			entries = entries[:i]
			break
		}
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("the journal has no record at offset %d, and there was one at %d", c.next, limit.Offset)
	}
	return entries, nil
}

// fold returns the batch that brings the store what records did.
func fold(applied []reapply.Applied) (batch persistence.Batch) {
	var writes pending
	for i := range applied {
		if write := applied[i].Outcome.Write; write.State != nil {
			writes.put(write)
		}
	}
	batch.Mailboxes, _, batch.Highest = writes.take()
	return batch
}
