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
	// slowWrite is how long a write may take, its repetitions included, before
	// the store counts as struggling.
	slowWrite = 2 * time.Second
)

type (
	storeDue struct{ incarnation uint64 }
	// storeSlow: the write with this number has had its time.
	storeSlow struct{ incarnation, number uint64 }
	stored    struct {
		incarnation uint64
		batch       persistence.Batch
		records     int
		err         error
		took        time.Duration
	}
)

// storeLane writes to the store: everything, however long it takes.
//
// What is dropped from memory meanwhile comes from the journal. From a drop on,
// until the store has all that was dropped, the lane writes nothing that was
// put: a state that is ahead of records which the store lacks would have the
// catch-up skip them. A batch that was taken before the drop is whole, and goes
// first.
type storeLane struct {
	*writer
	pending    pending
	checkpoint persistence.Position // wanted
	written    persistence.Position // in the store

	dropped persistence.Position // all that lies at or below it and is not stored is read again
	limit   persistence.Position // up to which it may be read now
	reread  *catchUp             // nil: nothing is to be read again
	since   time.Time            // when the oldest of what was dropped was put, or a little earlier

	batch   persistence.Batch // taken and not yet written, when it has records or a checkpoint
	taken   load              // of it
	writing bool
	armed   bool
	retry   time.Duration

	number     uint64 // of the write that is due, counted by those that succeeded
	timed      bool   // storeSlow is on its way
	struggling bool   // the shard was told
}

// opened has the lane know where the store is.
func (l *storeLane) opened(m *Opened) { l.written = m.Checkpoint }

func (l *storeLane) put(ctx actor.Context, write persistence.MailboxWrite) {
	l.pending.put(write)
	l.note()
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

// drop forgets what waits for the mailboxes that have nothing above a position.
// What goes above it stays whole.
func (l *storeLane) drop(ctx actor.Context, m *Drop) {
	oldest := l.oldest()
	l.pending.drop(m.Through)
	l.dropped, l.limit = m.Through, m.Limit
	stored := l.written
	if stored.Less(l.checkpoint) { // all is stored that far, though the store does not know yet
		stored = l.checkpoint
	}
	if l.reread == nil && stored.Less(m.Through) {
		l.reread, l.since = l.newCatchUp(stored), oldest
	}
	l.note()
	l.arm(ctx, l.MaxAge)
	ctx.Send(ctx.Parent(), &Dropped{m.Number})
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

// flush starts writing what waits, unless a write is in flight: then it goes
// when that one is done.
func (l *storeLane) flush(ctx actor.Context) {
	if l.writing {
		return
	}
	write := l.next()
	if write == nil {
		return
	}
	l.watch(ctx)
	root, self, incarnation := ctx.ActorSystem().Root, ctx.Self(), l.incarnation
	l.writing = l.Workers.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		began := time.Now()
		m := &stored{incarnation: incarnation}
		m.batch, m.records, m.err = write(ctx)
		m.took = time.Since(began)
		root.Send(self, m)
	})
	if !l.writing {
		l.again(ctx)
	}
}

// next returns what is to be written now, as a function for a worker; nil for
// nothing.
func (l *storeLane) next() func(context.Context) (persistence.Batch, int, error) {
	if ahead := writeWhileRereading && l.pending.records > 0; !l.holds() && l.reread != nil && !ahead {
		reread, limit := l.reread, l.limit
		if !reread.stored.Less(limit) {
			return nil // the shard will tell when it may go on
		}
		return func(ctx context.Context) (persistence.Batch, int, error) { return reread.step(ctx, limit) }
	}
	if !l.holds() { // else the last batch failed, and is written again
		if l.pending.records == 0 && !l.written.Less(l.checkpoint) {
			return nil
		}
		l.batch.Mailboxes, l.taken, l.batch.Highest = l.pending.take()
		if l.written.Less(l.checkpoint) {
			l.batch.Checkpoint = l.checkpoint
		}
	}
	batch, count := l.batch, l.taken.records
	return func(ctx context.Context) (persistence.Batch, int, error) { return batch, count, l.write(ctx, batch) }
}

// holds reports whether a batch was taken and is not yet written.
func (l *storeLane) holds() bool { return l.taken.records > 0 || !l.batch.Checkpoint.IsZero() }

// oldest returns when the first was put of what waits or was taken; zero for
// none.
func (l *storeLane) oldest() time.Time {
	if l.taken.records > 0 {
		return l.taken.since
	}
	return l.pending.since
}

// note tells the lag. What was dropped counts by its age alone: how much it is
// the shard knows.
func (l *storeLane) note() {
	taken := l.taken
	if l.reread != nil {
		taken.since = l.since
	}
	l.Lag.Store.set(l.pending.load, taken)
}

// write runs on a worker.
func (l *storeLane) write(ctx context.Context, batch persistence.Batch) error {
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
			l.struggle(ctx)
			l.again(ctx)
		}
		return
	}
	l.retry, l.struggling = 0, false
	l.number++
	if l.Written != nil {
		l.Written(m.records, m.took)
	}
	report := &Stored{Checkpoint: m.batch.Checkpoint, Through: make(map[string]persistence.Position, len(m.batch.Mailboxes))}
	for i := range m.batch.Mailboxes {
		report.Through[m.batch.Mailboxes[i].Mailbox] = m.batch.Mailboxes[i].Position
	}
	if l.written.Less(m.batch.Checkpoint) {
		l.written = m.batch.Checkpoint
	}
	l.batch, l.taken = persistence.Batch{}, load{}
	if l.reread != nil && !l.reread.stored.Less(l.dropped) {
		l.reread = nil
	}
	l.note()
	ctx.Send(ctx.Parent(), report)
	switch {
	case l.reread != nil || l.pending.records >= l.MaxRecords:
		l.flush(ctx)
	case l.pending.records > 0:
		l.arm(ctx, l.MaxAge)
	case l.written.Less(l.checkpoint):
		l.arm(ctx, max(l.MaxAge, checkpointAge))
	}
}

// again repeats the write after a back-off that doubles.
func (l *storeLane) again(ctx actor.Context) {
	l.retry = nextRetry(l.retry)
	l.armed = true
	after(ctx, l.retry, &storeDue{l.incarnation})
}

// watch has the lane look, when its time is over, whether the write that is due
// has succeeded.
func (l *storeLane) watch(ctx actor.Context) {
	if l.timed {
		return
	}
	l.timed = true
	after(ctx, slowWrite, &storeSlow{l.incarnation, l.number})
}

func (l *storeLane) slow(ctx actor.Context, m *storeSlow) {
	l.timed = false
	switch {
	case m.number == l.number:
		l.struggle(ctx)
	case l.writing || l.holds():
		l.watch(ctx)
	}
}

// struggle tells the shard, once until a write succeeds.
func (l *storeLane) struggle(ctx actor.Context) {
	if l.struggling {
		return
	}
	l.struggling = true
	ctx.Send(ctx.Parent(), &Struggling{})
}
