package persisttest

import (
	"slices"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// outbox holds the follow-ups for one shard. As many as were sent last are in
// flight.
type outbox struct {
	queue    []outgoing
	sent     int
	sequence int
}

type outgoing struct {
	from   *applied
	record *record.Record
}

// follow sends follow-ups of a shard to any owner of their target, or sends
// those in flight again.
func (o *owner) follow(shard uint32) {
	s := o.shards[shard]
	target := uint32(o.rng.IntN(modelShards))
	box := &s.outboxes[target]
	switch {
	case len(box.queue) == 0:
	case !o.keeps(FollowUpsInOrder):
		o.transmit(s, target, []outgoing{box.queue[o.rng.IntN(len(box.queue))]}, 0)
	case !o.keeps(FollowUpsConfirmed):
		o.transmit(s, target, box.queue, 0)
		o.confirmed(s, box.queue)
	case box.sent == 0:
		s.sequence++
		box.sequence = s.sequence
		box.sent = 1 + o.rng.IntN(len(box.queue))
		o.transmit(s, target, box.queue[:box.sent], box.sequence)
	case o.chance(200): // it took too long
		o.transmit(s, target, box.queue[:box.sent], box.sequence)
	}
}

// transmit puts a batch of follow-ups under way. The confirmation may be lost
// like anything else.
func (o *owner) transmit(s *ownedShard, target uint32, batch []outgoing, sequence int) {
	batch = slices.Clone(batch)
	life := o.life
	o.post(func() {
		records := make([]modelRecord, len(batch))
		for i, out := range batch {
			records[i].Record = out.record
		}
		o.owners[o.rng.IntN(modelOwners)].append(target, records)
		o.post(func() {
			if o.life == life && s.outboxes[target].sequence == sequence {
				s.outboxes[target].sent = 0
				s.outboxes[target].sequence = 0
				o.confirmed(s, batch)
			}
		})
	})
}

// confirmed counts follow-ups as durable.
func (o *owner) confirmed(s *ownedShard, batch []outgoing) {
	for _, out := range batch {
		delete(out.from.following, out.record)
	}
	for i := range s.outboxes {
		box := &s.outboxes[i]
		box.queue = slices.DeleteFunc(slices.Clone(box.queue), func(out outgoing) bool { return !out.from.following[out.record] })
	}
	o.answerAll(s)
	o.advance(s)
}

// writing is a batch of the write-behind between the sync of the journal and
// the write to the store.
type writing struct {
	batch persistence.Batch
	takes []*applied
	// through was the newest record applied at the sync.
	through int64
}

// write begins a batch, or writes the one that was begun: much may happen in
// between.
func (o *owner) write(shard uint32) {
	s := o.shards[shard]
	if s.writing == nil {
		s.writing = o.choose(s, s.next)
		if o.keeps(SyncBeforeStore) {
			o.check("sync journal", o.storage.Journal.Sync(background))
		}
		return
	}
	w := s.writing
	s.writing = nil
	if !o.keeps(SyncCoversFollowUps) {
		w = o.choose(s, w.through)
	}
	if len(w.takes) == 0 && w.batch.Checkpoint.IsZero() {
		return
	}
	o.addLate(&w.batch)
	if !o.check("write store", o.storage.Store.Write(background, shard, w.batch)) {
		return
	}
	for _, a := range w.takes {
		a.stored = true
	}
	o.advance(s)
}

// choose makes a batch of what may be stored: of each mailbox, or not, its
// oldest records, as many as it likes.
func (o *owner) choose(s *ownedShard, through int64) *writing {
	w := &writing{batch: persistence.Batch{Checkpoint: s.checkpoint}, through: through}
	for _, user := range modelUsers {
		if modelShardOf(user) != s.id || o.chance(300) {
			continue
		}
		var folded persistence.MailboxWrite
		for _, a := range s.unstored {
			if a.user != user || a.stored {
				continue
			}
			if !a.followed() && o.keeps(FollowUpsBeforeState) || a.position.Offset >= through || o.chance(100) {
				break
			}
			fold(&folded, a.outcome.Write)
			w.takes = append(w.takes, a)
		}
		if folded.State == nil {
			continue
		}
		w.batch.Mailboxes = append(w.batch.Mailboxes, folded)
		if w.batch.Highest.Less(folded.Position) {
			w.batch.Highest = folded.Position
		}
	}
	return w
}

// fold adds a later write of a mailbox to an earlier one.
func fold(write *persistence.MailboxWrite, next persistence.MailboxWrite) {
	write.Mailbox, write.Position, write.State = next.Mailbox, next.Position, next.State
	write.First = max(write.First, next.First)
	write.Rows = append(write.Rows, next.Rows...)
	write.Dedup = append(write.Dedup, next.Dedup...)
	write.Sources = append(write.Sources, next.Sources...)
	write.Parts = append(write.Parts, next.Parts...)
}

// addLate breaks the rules that rows and dedup entries are stored with their
// state, if they are to be: they go with the next one.
func (o *owner) addLate(batch *persistence.Batch) {
	for i := range batch.Mailboxes {
		write := &batch.Mailboxes[i]
		m := o.mailboxes[write.Mailbox]
		if m == nil {
			continue
		}
		if !o.keeps(RowsBeforeState) {
			write.Rows, m.late.Rows = m.late.Rows, write.Rows
		}
		if !o.keeps(DedupBeforeState) {
			write.Dedup, m.late.Dedup = m.late.Dedup, write.Dedup
		}
	}
}
