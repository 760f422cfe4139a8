package shard

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
)

// dispatch hands the next record of the log to its mailbox. read says that it
// was read from the log, where it may have been decided and answered before.
func (s *shardActor) dispatch(ctx actor.Context, position persistence.Position, logTime int64, r *record.Record, command *Command, read bool) {
	s.next = position.Offset + 1
	u := &unstoredRecord{position: position, command: command, isCommand: mailbox.IsCommand(r)}
	s.unstored.push(u)
	s.Unstored.Add(1)
	if r.GetMailbox() == "" { // a record of the shard itself, which decode checked
		s.version = max(s.version, r.GetVersion().GetApplyVersion())
		u.applied, u.followed, u.released, u.stored = true, true, true, true
		s.through(ctx)
		s.forget(ctx)
		return
	}
	if command != nil {
		s.stage(command, Appended)
	}
	u.entry = s.entry(ctx, r.GetMailbox())
	if command != nil {
		u.entry.appending--
		s.undispatched--
	}
	u.entry.unstored = append(u.entry.unstored, u)
	if u.isCommand {
		u.entry.unstoredCommands++
	}
	u.entry.last = position
	if !u.entry.unavailable() { // else it is loaded with the mailbox
		s.tell(ctx, u.entry, &applyRecord{position: position, time: logTime, record: r, command: command, read: read})
	}
	s.makeRoom(ctx)
}

// stage reports that a command has come through a stage.
func (s *shardActor) stage(c *Command, stage Stage) {
	s.Observe.Stage(stage, time.Since(c.Accepted))
	if c.Trace != nil {
		c.Trace.Stage(stage)
	}
}

// applied takes what a record came to. A mailbox that was restarted applies
// again what it had applied before: that is known here, and ignored.
func (s *shardActor) applied(ctx actor.Context, m *applied) {
	u := s.find(m.position)
	if u == nil || u.applied {
		return
	}
	u.applied, u.entry.stuck = true, false
	u.result = m
	u.changes = m.outcome.Write.State != nil
	u.entry.exists = m.exists
	if m.outcome.Skipped && s.Cache != nil { // it is not put
		ctx.Send(s.writer, &writebehind.Skipped{Position: u.position})
	}
	if u.command != nil {
		s.stage(u.command, Applied)
	}
	u.following, u.repeats = len(m.outcome.FollowUps), m.outcome.Repeats
	u.followed = u.following == 0 || countUnconfirmedFollowUps
	if id := m.outcome.Answer.MessageID; !u.followed && id != [16]byte{} {
		u.messageID = id
		s.copies[u.messageID] = u
	}
	s.follow(ctx, u, m.outcome.FollowUps)
	s.answer(u)
	s.release(ctx, u.entry)
}

// answer answers whoever waits for a record, once its follow-ups are durable. A
// duplicate of a message waits for those of the first, and what only says that
// something is so already until it is released, behind all before it.
func (s *shardActor) answer(u *unstoredRecord) {
	if !u.followed || u.repeats && !u.released {
		return
	}
	for _, r := range u.retries {
		s.reply(r.command, r.answer, u.entry)
	}
	u.retries = nil
	if u.command == nil {
		return
	}
	command, answer := u.command, u.result.outcome.Answer
	u.command = nil
	if first := s.copies[answer.MessageID]; first != nil && first != u && answer.MessageID != [16]byte{} {
		first.retries = append(first.retries, retry{command: command, answer: answer})
		return
	}
	s.reply(command, answer, u.entry)
}

func (s *shardActor) reply(c *Command, a mailbox.Answer, e *entry) {
	s.finish(e)
	s.stage(c, Answered)
	c.answer(a)
}

// followed counts one of a record's follow-ups as durable.
func (s *shardActor) followed(ctx actor.Context, u *unstoredRecord) {
	if u.following--; u.following > 0 {
		return
	}
	u.followed = true
	delete(s.copies, u.messageID)
	s.answer(u)
	s.release(ctx, u.entry)
}

// release hands the writes of a mailbox to the write-behind actor, in order:
// each when it is applied and its follow-ups durable.
func (s *shardActor) release(ctx actor.Context, e *entry) {
	defer s.through(ctx)
	defer s.dropParked(ctx, e)
	for e.released < len(e.unstored) {
		u := e.unstored[e.released]
		if !u.applied || !u.followed {
			return
		}
		u.released = true
		e.released++
		s.answer(u) // where it waited for that
		result := u.result
		u.result = nil

		if !u.changes { // stored with what precedes it
			if e.released == 1 {
				s.markStored(e, u.position)
				s.through(ctx) // before it is forgotten
				s.forget(ctx)
			}
			continue
		}
		ctx.Send(s.writer, &writebehind.Put{Write: &result.outcome.Write, Events: result.events})
	}
}

// through counts how far everything was put, and tells the write-behind actor if
// it has a cache to keep.
func (s *shardActor) through(ctx actor.Context) {
	if last, moved := s.unstored.release(); moved {
		s.put = last
	}
	if s.Cache != nil && s.told.Less(s.put) && s.parked.first() == nil {
		s.told = s.put
		ctx.Send(s.writer, &writebehind.Through{Position: s.put})
	}
}

// stored takes the report of the write-behind actor.
func (s *shardActor) stored(ctx actor.Context, m *stored) {
	if s.written.Less(m.Checkpoint) {
		s.written = m.Checkpoint
		s.status.written.Store(&m.Checkpoint)
	}
	s.struggling = false
	for name, position := range m.Through {
		if e := s.mailboxes[name]; e != nil {
			s.markStored(e, position)
			s.tell(ctx, e, &storedThrough{position: position})
		}
	}
	s.through(ctx) // they may have been parked
	s.forget(ctx)
	s.reread(ctx, m.Checkpoint)
	s.catchUp(ctx)
	s.drained(ctx)
}

// markStored marks the records of a mailbox up to a position, and those right
// behind it that changed nothing.
func (s *shardActor) markStored(e *entry, position persistence.Position) {
	n := 0
	for n < e.released {
		u := e.unstored[n]
		if position.Less(u.position) && u.changes {
			break
		}
		u.stored = true
		s.unpark(u)
		n++
	}
	e.letGo(n)
}

// forget takes the stored records at the front out of the window and moves the
// checkpoint up.
func (s *shardActor) forget(ctx actor.Context) {
	if last, n := s.unstored.shrink(); n > 0 {
		s.Unstored.Add(-int64(n))
		if s.front.Less(last) { // not so where an older generation is replayed
			s.front = last
		}
	}
	if !s.behind() {
		s.advance(ctx, s.floor(s.front))
	} else if s.floor(s.dropped) != s.limit {
		s.tellDropped(ctx)
	}
}

// advance moves the checkpoint.
func (s *shardActor) advance(ctx actor.Context, checkpoint persistence.Position) {
	if !s.checkpoint.Less(checkpoint) {
		return
	}
	s.checkpoint = checkpoint
	for name, left := range s.gone {
		if !s.checkpoint.Less(left.last) {
			delete(s.gone, name)
		}
	}
	ctx.Send(s.writer, &writebehind.Advance{Checkpoint: s.checkpoint})
}
