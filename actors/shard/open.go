package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
)

const (
	journalTimeout = 10 * time.Second
	readBytes      = 1 << 20
	retryOpen      = 500 * time.Millisecond
)

// open reads where the store and the journal are.
func (s *shardActor) open(ctx actor.Context) {
	root, self, id, incarnation := ctx.ActorSystem().Root, ctx.Self(), s.id, s.incarnation
	journal, store := s.Journal, s.Store
	if !s.Workers.Journal.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, journalTimeout)
		defer cancel()
		m := &opened{incarnation: incarnation}
		m.marks, m.bounds, m.err = readEnds(ctx, journal, store, id)
		root.Send(self, m)
	}) {
		s.later(ctx, retryOpen, &openAgain{incarnation})
	}
}

// readEnds reads the store's marks and the journal's bounds. Another owner may move
// all of them meanwhile: the start is that of before the marks were read, which are
// never below it, and the end that of afterwards, which they are never beyond.
func readEnds(ctx context.Context, journal persistence.Journal, store persistence.Store, shard uint32) (persistence.Marks, persistence.Bounds, error) {
	before, err := journal.Bounds(ctx, shard)
	if err != nil {
		return persistence.Marks{}, before, err
	}
	marks, err := store.Marks(ctx, shard)
	if err != nil {
		return marks, before, err
	}
	bounds, err := journal.Bounds(ctx, shard)
	if bounds.Generation == before.Generation {
		bounds.First = before.First
	}
	return marks, bounds, err
}

// opened starts the replay from the store's checkpoint.
func (s *shardActor) opened(ctx actor.Context, m *opened) {
	if m.err != nil {
		if errors.Is(m.err, persistence.ErrClosed) {
			return
		}
		if passed, due := s.openFails.Due(time.Now()); due {
			s.Logger.Warn("shard does not open; it is tried again", "shard", s.id, "others", passed, "error", m.err)
		}
		s.later(ctx, retryOpen, &openAgain{s.incarnation})
		return
	}
	checkpoint, bounds := m.marks.Checkpoint, m.bounds
	if m.marks.Ahead(bounds) {
		s.halt(fmt.Sprintf("the journal went back: the store holds records up to offset %d, the journal ends below %d; restore the journal, or start a new generation (tegami generation)", m.marks.Newest().Offset, bounds.Next))
		return
	}
	s.status.generation.Store(bounds.Generation)
	s.checkpoint, s.written, s.front = checkpoint, checkpoint, checkpoint
	ctx.Send(s.writer, &writebehind.Opened{
		Checkpoint: checkpoint, End: persistence.Position{Generation: bounds.Generation, Offset: bounds.Next},
	})
	// A checkpoint of an earlier generation says nothing of the offsets of this
	// one: all that the journal has is replayed.
	s.next = bounds.First
	if checkpoint.Generation == bounds.Generation && !checkpoint.IsZero() {
		if checkpoint.Offset+1 < bounds.First {
			s.halt(fmt.Sprintf("the journal starts at offset %d, beyond the store's checkpoint %d", bounds.First, checkpoint.Offset))
			return
		}
		s.next = checkpoint.Offset + 1
	}
	s.unstored.base = s.next
	s.log.end = bounds.Next
	s.phase = replaying
	s.replayed(ctx)
	s.catchUp(ctx)
}

// replayed opens the shard once the log was dispatched as far as it went when
// the shard was opened.
func (s *shardActor) replayed(ctx actor.Context) {
	if s.phase != replaying || s.next < s.log.end {
		return
	}
	s.phase = open
	s.status.open.Store(true)
	s.openTime = time.Now()
	s.shared = s.openTime.Add(sharing)
	s.changed()
	for source, batch := range s.early {
		delete(s.early, source)
		s.takeFollowUps(ctx, batch)
	}
	s.append(ctx)
	s.drained(ctx)
}

// halt stops the shard until an operator acts and it is restarted.
func (s *shardActor) halt(reason string) {
	s.phase = halted
	s.status.open.Store(false)
	s.status.halted.Store(&reason)
	s.changed()
	s.Logger.Error("shard is stopped", "shard", s.id, "reason", reason)
	stopped := refusal.Of(refusal.ShardStopped)
	s.log.each(func(c *Command) { c.refuse(stopped) })
	s.log.drop()
}

func (s *shardActor) changed() {
	if s.Changed != nil {
		s.Changed(s.id)
	}
}

// catchUp reads the log when it goes beyond what was dispatched.
func (s *shardActor) catchUp(ctx actor.Context) {
	s.log.end = max(s.log.end, s.status.ended.Load())
	if s.phase != replaying && s.phase != open || s.log.reading || s.next >= s.log.end || s.log.mine(s.next) {
		return
	}
	if s.makeRoom(ctx); s.unstored.len() >= s.Limits.Unstored || s.overfull(s.log.full) {
		s.arm(ctx) // go on when some are stored
		return
	}
	root, self, id, incarnation, journal, from := ctx.ActorSystem().Root, ctx.Self(), s.id, s.incarnation, s.Journal, s.next
	s.log.reading = s.Workers.Journal.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, journalTimeout)
		defer cancel()
		entries, err := journal.Read(ctx, id, from, readBytes)
		root.Send(self, &logRead{incarnation: incarnation, entries: entries, err: err})
	})
	s.arm(ctx) // the pool may have been full
}

func (s *shardActor) logRead(ctx actor.Context, m *logRead) {
	s.log.reading, s.log.full = false, ""
	switch {
	case errors.Is(m.err, persistence.ErrTruncated):
		// What was truncated is in the store, below its checkpoint: open again
		// from there.
		s.fail(ctx, fmt.Sprintf("offset %d was truncated while it was read", s.next))
		return
	case m.err != nil:
		if passed, due := s.readFails.Due(time.Now()); due {
			s.Logger.Warn("journal does not read; it is tried again", "shard", s.id, "others", passed, "error", m.err)
		}
		s.arm(ctx)
		return
	}
	for _, e := range m.entries {
		if s.phase == halted {
			return
		}
		if e.Position.Offset != s.next {
			continue // dispatched from memory meanwhile
		}
		r, err := mailbox.DecodeRecord(e.Data)
		if err != nil {
			s.halt(fmt.Sprintf("record at offset %d: %v", e.Position.Offset, err))
			return
		}
		if mailbox.IsCommand(r) && s.overfull(r.GetMailbox()) {
			s.log.full = r.GetMailbox()
			break
		}
		command := s.log.take(r.GetId())
		if s.phase == open && command == nil && mailbox.IsCommand(r) {
			s.foreign()
		}
		s.dispatch(ctx, e.Position, e.Time, r, command, true)
	}
	s.replayed(ctx)
	s.append(ctx)
	s.catchUp(ctx)
	s.dispatched(ctx)
}

// fail has the shard restarted.
func (s *shardActor) fail(ctx actor.Context, reason string) {
	if supervisor, ok := ctx.(actor.Supervisor); ok {
		supervisor.EscalateFailure(reason, ctx.Message())
	}
}
