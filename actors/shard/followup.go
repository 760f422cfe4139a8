package shard

import (
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
)

// outbox holds the follow-ups for one target shard. One batch is in flight at
// a time: nothing is sent before what precedes it is confirmed, since a target
// ignores what is not above the last position that it took from a source.
type outbox struct {
	queue    []outgoing
	sent     int // how many of the queue are in flight
	sequence uint64
	resend   time.Time
}

type outgoing struct {
	from   *unstoredRecord
	record *record.Record
}

const (
	followUpBatch   = 256
	followUpBytes   = 1 << 20 // where a batch ends, though never before its first
	followUpTimeout = time.Second
)

// follow queues the follow-ups of a record. Those for one target go together.
func (s *shardActor) follow(ctx actor.Context, u *unstoredRecord, followUps []mailbox.FollowUp) {
	var one [1]uint32 // the room for most
	idle := one[:0]   // targets that nothing is in flight to
	for i := range followUps {
		target := s.ShardOf(followUps[i].Mailbox)
		box := s.outboxes[target]
		if box == nil {
			box = new(outbox)
			s.outboxes[target] = box
			idle = append(idle, target)
		}
		box.queue = append(box.queue, outgoing{from: u, record: followUps[i].Record})
	}
	s.followUps += len(followUps)
	for _, target := range idle {
		s.send(ctx, target, s.outboxes[target])
	}
}

// send puts the next batch of an outbox in flight.
func (s *shardActor) send(ctx actor.Context, target uint32, box *outbox) {
	box.sent = 0
	for size := 0; box.sent < min(len(box.queue), followUpBatch); box.sent++ {
		if size += proto.Size(box.queue[box.sent].record); box.sent > 0 && size > followUpBytes {
			break
		}
	}
	s.sequence++
	box.sequence = s.sequence
	s.transmit(ctx, target, box)
}

func (s *shardActor) transmit(ctx actor.Context, target uint32, box *outbox) {
	root, self, appended := ctx.ActorSystem().Root, ctx.Self(), &FollowUpsAppended{Shard: target, Sequence: box.sequence}
	batch := &FollowUps{
		Source:   self.GetId(),
		Sequence: box.sequence,
		Records:  make([]*record.Record, box.sent),
		Appended: func() { root.Send(self, appended) },
		Lost:     func() { root.Send(self, &Rerouted{}) },
	}
	for i := range batch.Records {
		batch.Records[i] = box.queue[i].record
	}
	box.resend = time.Now().Add(followUpTimeout)
	ctx.Send(s.Route(target), batch)
	s.arm(ctx)
}

// resendFollowUps repeats what was not confirmed in time: the target may have
// been restarted, or the batch or its confirmation lost.
func (s *shardActor) resendFollowUps(ctx actor.Context) {
	now := time.Now()
	for target, box := range s.outboxes {
		if box.sent > 0 && now.After(box.resend) {
			s.transmit(ctx, target, box)
		}
	}
}

// rerouted repeats what is on its way: the owner that it was sent to may not be
// the owner any more.
func (s *shardActor) rerouted(ctx actor.Context, m *Rerouted) {
	for target, box := range s.outboxes {
		if box.sent > 0 && (m.Shards == nil || slices.Contains(m.Shards, target)) {
			s.transmit(ctx, target, box)
		}
	}
}

// followUpsAppended takes a confirmation. An older one belongs to a batch that
// was sent twice.
func (s *shardActor) followUpsAppended(ctx actor.Context, m *FollowUpsAppended) {
	box := s.outboxes[m.Shard]
	if box == nil || box.sent == 0 || m.Sequence != box.sequence {
		return
	}
	done := box.queue[:box.sent]
	box.queue = box.queue[box.sent:]
	box.sent = 0
	s.followUps -= len(done)
	if len(box.queue) > 0 {
		s.send(ctx, m.Shard, box)
	} else {
		delete(s.outboxes, m.Shard)
	}
	for _, out := range done {
		s.followed(ctx, out.from)
	}
	s.drained(ctx)
}

// takeFollowUps queues another shard's follow-ups for the journal. Admission
// never refuses them: they are the rest of something that was accepted. While
// the shard opens they wait, the newest batch of each source: it holds what an
// older one did.
func (s *shardActor) takeFollowUps(ctx actor.Context, m *FollowUps) {
	switch s.phase {
	case halted:
		return // they are sent again
	case opening, replaying:
		s.early[m.Source] = m
		return
	case open:
	}
	if s.taken[m.Source] == m.Sequence {
		return // sent again while it waits for the journal
	}
	s.taken[m.Source] = m.Sequence
	now := time.Now()
	for i, r := range m.Records {
		s.status.heat.Write(r.GetMailbox(), now)
		item := appendable{record: r}
		if i == len(m.Records)-1 {
			item.batch = m
		}
		s.queue(item)
	}
	s.append(ctx)
}
