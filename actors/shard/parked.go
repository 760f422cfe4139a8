package shard

import (
	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
)

// maxParked bounds the parked records of a shard: with more, its window stays
// full, and commands are refused.
const maxParked = 1 << 14

// parked holds records that left the window though they are not released: those
// of mailboxes that do not load, which would hold up all that lies behind them.
// They are applied, answered and stored as any other, when their mailbox loads;
// the checkpoint waits for them.
type parked struct {
	records []*unstoredRecord // in log order, some of them gone
	at      map[int64]*unstoredRecord
}

func (p *parked) add(u *unstoredRecord) {
	if p.at == nil {
		p.at = make(map[int64]*unstoredRecord)
	}
	u.parked = true
	p.records = append(p.records, u)
	p.at[u.position.Offset] = u
}

// remove takes a record out that was stored or dropped.
func (p *parked) remove(u *unstoredRecord) {
	delete(p.at, u.position.Offset)
	n := 0
	for n < len(p.records) && p.at[p.records[n].position.Offset] == nil {
		p.records[n] = nil
		n++
	}
	p.records = p.records[n:]
}

// first returns the oldest one; nil when there is none.
func (p *parked) first() *unstoredRecord {
	if len(p.records) == 0 {
		return nil
	}
	return p.records[0]
}

// find returns a record that is not stored or dropped; nil when it is.
func (s *shardActor) find(position persistence.Position) *unstoredRecord {
	if u := s.unstored.find(position); u != nil {
		return u
	}
	return s.parked.at[position.Offset]
}

// park takes the record at the front of the window out if its mailbox does not
// load, and reports whether it did.
func (s *shardActor) park() bool {
	if s.unstored.len() == 0 || len(s.parked.records) >= maxParked {
		return false
	}
	u := s.unstored.at(0)
	if u.applied || !u.entry.stuck {
		return false
	}
	u.before = s.front
	s.parked.add(u)
	s.unstored.take(1)
	if s.front.Less(u.position) {
		s.front = u.position
	}
	return true
}

// unpark is called for a record that was stored or dropped.
func (s *shardActor) unpark(u *unstoredRecord) {
	if u.parked {
		s.parked.remove(u)
		s.Unstored.Add(-1)
	}
}

// dropParked drops the parked records of a mailbox that were released while
// others, before them or behind them, are to be read from the journal again: it
// is their turn there.
func (s *shardActor) dropParked(ctx actor.Context, e *entry) {
	var last *unstoredRecord
	for s.behind() && e.released > 0 && e.unstored[0].parked {
		last = e.unstored[0]
		s.dropRecord(last)
	}
	if last == nil {
		return
	}
	if s.dropped.Less(last.position) {
		s.dropped = last.position
	}
	s.tellDropped(ctx)
	s.tell(ctx, e, &droppedThrough{position: last.position})
}

// dropRecord takes the first record of its mailbox out.
func (s *shardActor) dropRecord(u *unstoredRecord) {
	e := u.entry
	e.letGo(1)
	e.dropped.commands = s.notStored(e.dropped)
	if e.dropped.through = u.position; u.isCommand {
		e.dropped.commands++
	}
	s.unpark(u)
}

// tellDropped tells the write-behind actor what to read again: nothing from the
// first parked record on, which may not be applied, nor its follow-ups be
// durable.
func (s *shardActor) tellDropped(ctx actor.Context) {
	s.limit = s.floor(s.dropped)
	s.drops++
	s.dropping = true
	ctx.Send(s.writer, &writebehind.Drop{Number: s.drops, Through: s.dropped, Limit: s.limit})
	s.measureLag()
}

// floor returns a position, or the last one before the parked records.
func (s *shardActor) floor(position persistence.Position) persistence.Position {
	if first := s.parked.first(); first != nil && first.before.Less(position) {
		return first.before
	}
	return position
}
