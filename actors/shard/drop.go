package shard

import (
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
)

const (
	// maxUnstoredCommands bounds the commands of one mailbox that are not in the
	// store, whether in memory or dropped, those under way included: more are
	// refused. A state remembers the mailbox.MaxDedupInMemory newest, so that one
	// that it lets go of is in the store, where a retry is looked up. There is
	// some room for what is in the journal twice.
	maxUnstoredCommands = mailbox.MaxDedupInMemory - 96
	// maxGone bounds the mailboxes that left memory and are not stored: while
	// there are more, nothing is dropped.
	maxGone = 1 << 16
)

// droppedRecords counts, for one mailbox, what was dropped and is not known to
// be stored.
type droppedRecords struct {
	through  persistence.Position // the newest
	commands int
}

// departed is what the shard remembers of a mailbox that left memory.
type departed struct {
	last    persistence.Position // of its records
	dropped droppedRecords
}

// struggle: the store takes no writes for now.
func (s *shardActor) struggle(ctx actor.Context) {
	s.struggling = true
	s.makeRoom(ctx)
}

// makeRoom makes room in a window that is full. It drops records when the store
// is not about to make room: see waits. A store that is merely busy is better
// waited for than given its records by way of the journal.
func (s *shardActor) makeRoom(ctx actor.Context) {
	for s.unstored.len() >= s.Limits.Unstored && s.phase == open {
		switch {
		case s.unstored.released > 0 && len(s.gone) < maxGone && !s.dropping && s.repairing == 0 && s.waits():
			s.drop(ctx)
		case s.park():
			s.through(ctx)
			s.forget(ctx) // what lies behind it may be stored
		default:
			return
		}
	}
}

// waits reports whether the store will not have what is in the window before
// long: it takes no writes, has much to catch up with, or cannot catch up before
// a mailbox loads.
func (s *shardActor) waits() bool {
	return s.struggling || s.lag > int64(s.Limits.Unstored) || s.behind() && s.parked.first() != nil
}

// tookDrop: the write-behind actor has taken a drop. It may be one of an earlier
// incarnation.
func (s *shardActor) tookDrop(ctx actor.Context, m *writebehind.Dropped) {
	if m.Number != s.drops {
		return
	}
	s.dropping = false
	s.makeRoom(ctx)
}

// drop takes the records at the front of the window out that were released. The
// write-behind actor reads them from the journal again. Nothing else is left to
// do for them: they were applied, their follow-ups are durable, and whoever
// waited was answered.
func (s *shardActor) drop(ctx actor.Context) {
	if !s.behind() {
		s.firstDropped = s.unstored.base
	}
	concerned := make(map[*entry]struct{})
	for _, u := range slices.Clone(s.parked.records) {
		if u.released && s.parked.at[u.position.Offset] != nil {
			s.dropRecord(u)
			concerned[u.entry] = struct{}{}
		}
	}
	n := s.unstored.released
	for i := range n {
		if u := s.unstored.at(i); !u.stored {
			s.dropRecord(u)
			concerned[u.entry] = struct{}{}
		}
	}
	s.Unstored.Add(-int64(n))
	s.dropped = s.unstored.take(n)
	if s.front.Less(s.dropped) {
		s.front = s.dropped
	}
	s.tellDropped(ctx)
	for e := range concerned {
		s.tell(ctx, e, &droppedThrough{position: s.dropped})
	}
}

// behind reports whether dropped records are not in the store yet.
func (s *shardActor) behind() bool { return s.checkpoint.Less(s.dropped) }

// reread takes note of how far the store has caught up.
func (s *shardActor) reread(ctx actor.Context, checkpoint persistence.Position) {
	if !s.behind() {
		return
	}
	s.advance(ctx, checkpoint)
	if !s.behind() { // what left the window behind the dropped ones was stored
		s.advance(ctx, s.floor(s.front))
	}
	s.measureLag()
}

// measureLag counts the dropped records that the store does not have.
func (s *shardActor) measureLag() {
	var lag int64
	if s.behind() {
		from := s.firstDropped
		if s.checkpoint.Generation == s.dropped.Generation {
			from = max(from, s.checkpoint.Offset+1)
		}
		lag = max(s.dropped.Offset+1-from, 0)
	}
	s.Dropped.Add(lag - s.lag)
	s.lag = lag
}

// unstoredCommands counts a mailbox's commands that are dispatched and not in the
// store, those included that were dropped. It may count some that are stored by
// now, since it takes the dropped ones back all at once.
func (s *shardActor) unstoredCommands(name string) int {
	e := s.mailboxes[name]
	if e == nil {
		return s.notStored(s.gone[name].dropped)
	}
	return s.notStored(e.dropped) + e.unstoredCommands
}

func (s *shardActor) notStored(dropped droppedRecords) int {
	if s.checkpoint.Less(dropped.through) {
		return dropped.commands
	}
	return 0
}

// full reports whether a mailbox has as many commands under way to the store
// as may be admitted.
func (s *shardActor) full(e *entry) bool {
	return s.unstoredCommands(e.name)+e.appending+len(e.waiting) >= maxUnstoredCommands
}

// overfull reports whether one more command of a mailbox, though it is in the
// journal, has to wait until some are stored.
func (s *shardActor) overfull(name string) bool {
	return s.unstoredCommands(name) >= mailbox.MaxDedupInMemory-1
}
