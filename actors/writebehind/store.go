package writebehind

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/persistence"
)

const (
	writeTimeout = 30 * time.Second
	// checkpointAge is how long a checkpoint waits for a batch to go with.
	checkpointAge = 500 * time.Millisecond
)

type (
	storeDue struct{ incarnation uint64 }
	stored   struct {
		incarnation uint64
		err         error
		took        time.Duration
	}
)

// storeLane writes to the store: everything, however long it takes.
type storeLane struct {
	*writer
	pending    pending
	checkpoint persistence.Position // wanted
	written    persistence.Position // in the store

	batch   persistence.Batch // in flight when writing
	taken   load              // of it
	writing bool
	armed   bool
	retry   time.Duration
}

func (l *storeLane) put(ctx actor.Context, write persistence.MailboxWrite) {
	l.pending.put(write)
	l.Lag.Store.set(l.pending.load, l.taken)
	if l.pending.records >= l.MaxRecords {
		l.flush(ctx)
	} else {
		l.arm(ctx, l.MaxAge)
	}
}

func (l *storeLane) advance(ctx actor.Context, checkpoint persistence.Position) {
	if l.checkpoint.Less(checkpoint) {
		l.checkpoint = checkpoint
		l.arm(ctx, max(l.MaxAge, checkpointAge))
	}
}

func (l *storeLane) due(ctx actor.Context) {
	l.armed = false
	l.flush(ctx)
}

// arm has the lane flush after d, unless it is to already.
func (l *storeLane) arm(ctx actor.Context, d time.Duration) {
	if l.armed || l.writing {
		return
	}
	l.armed = true
	after(ctx, d, &storeDue{l.incarnation})
}

// flush starts writing what waits, unless a batch is in flight: then it goes
// when that one is done.
func (l *storeLane) flush(ctx actor.Context) {
	if l.writing {
		return
	}
	if l.taken.records == 0 && l.batch.Checkpoint.IsZero() { // else the last batch failed, and is written again
		if l.pending.records == 0 && !l.written.Less(l.checkpoint) {
			return
		}
		l.batch = persistence.Batch{}
		l.batch.Mailboxes, l.taken, l.batch.Highest = l.pending.take()
		if l.written.Less(l.checkpoint) {
			l.batch.Checkpoint = l.checkpoint
		}
	}
	root, self, batch, incarnation := ctx.ActorSystem().Root, ctx.Self(), l.batch, l.incarnation
	l.writing = l.Workers.Submit(func(ctx context.Context) {
		began := time.Now()
		err := l.write(ctx, batch)
		root.Send(self, &stored{incarnation: incarnation, err: err, took: time.Since(began)})
	})
	if !l.writing {
		l.again(ctx)
	}
}

// write runs on a worker.
func (l *storeLane) write(ctx context.Context, batch persistence.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.Journal.Sync(ctx); err != nil {
		return err
	}
	return writeBatch(ctx, l.Store, l.Shard, batch)
}

func (l *storeLane) done(ctx actor.Context, m *stored) {
	l.writing = false
	if m.err != nil {
		if !errors.Is(m.err, persistence.ErrClosed) {
			if l.retry == 0 { // the first of a row
				l.Logger.Warn("write-behind fails; it is repeated until it succeeds", "shard", l.Shard, "records", l.taken.records, "error", m.err)
			}
			l.again(ctx)
		}
		return
	}
	l.retry = 0
	if l.Written != nil {
		l.Written(l.taken.records, m.took)
	}
	report := &Stored{Checkpoint: l.batch.Checkpoint, Through: make(map[string]persistence.Position, len(l.batch.Mailboxes))}
	for i := range l.batch.Mailboxes {
		report.Through[l.batch.Mailboxes[i].Mailbox] = l.batch.Mailboxes[i].Position
	}
	if l.written.Less(l.batch.Checkpoint) {
		l.written = l.batch.Checkpoint
	}
	l.batch, l.taken = persistence.Batch{}, load{}
	l.Lag.Store.set(l.pending.load, l.taken)
	ctx.Send(ctx.Parent(), report)
	switch {
	case l.pending.records >= l.MaxRecords:
		l.flush(ctx)
	case l.pending.records > 0:
		l.arm(ctx, l.MaxAge)
	case l.written.Less(l.checkpoint):
		l.arm(ctx, max(l.MaxAge, checkpointAge))
	}
}

// again repeats the batch after a back-off that doubles.
func (l *storeLane) again(ctx actor.Context) {
	l.retry = nextRetry(l.retry)
	l.armed = true
	after(ctx, l.retry, &storeDue{l.incarnation})
}
