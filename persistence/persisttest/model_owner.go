package persisttest

import (
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/persistence"
)

// owner is one live owner of all shards: the shard, mailbox and write-behind
// actors of a node, without the actors.
type owner struct {
	*world
	id        int
	life      int // raised when it is killed: what it sent before is another's
	shards    [modelShards]*ownedShard
	mailboxes map[string]*ownedMailbox
}

type ownedShard struct {
	id       uint32
	next     int64      // offset of the next record to apply
	unstored []*applied // in log order
	outboxes [modelShards]outbox
	sequence int
	// checkpoint: all at or below it is stored.
	checkpoint persistence.Position
	writing    *writing
	calls      map[string]*call // by record id: commands that were appended
}

type ownedMailbox struct {
	state *mailbox.State // nil: to be loaded
	// last is the position of the newest record that was applied here.
	last persistence.Position
	// late is what a broken rule kept back from the store.
	late persistence.MailboxWrite
}

// applied is a record on its way to the store.
type applied struct {
	position persistence.Position
	user     string
	outcome  mailbox.Outcome
	// following are its follow-ups that are not durable yet.
	following map[*record.Record]bool
	stored    bool
	call      *call
}

func (a *applied) followed() bool { return len(a.following) == 0 }

// open forgets everything and starts from the store's checkpoint.
func (o *owner) open() {
	o.life++
	o.mailboxes = map[string]*ownedMailbox{}
	for id := range uint32(modelShards) {
		marks, err := o.storage.Store.Marks(background, id)
		if !o.check("read marks", err) {
			return
		}
		bounds, err := o.storage.Journal.Bounds(background, id)
		if !o.check("journal bounds", err) {
			return
		}
		if marks.Highest.Offset >= bounds.Next && !marks.Highest.IsZero() {
			o.violate("the store holds offset %d of shard %d, whose journal ends below %d", marks.Highest.Offset, id, bounds.Next)
		}
		s := &ownedShard{id: id, next: bounds.First, checkpoint: marks.Checkpoint, calls: map[string]*call{}}
		if !marks.Checkpoint.IsZero() {
			s.next = marks.Checkpoint.Offset + 1
		}
		if s.next < bounds.First {
			o.violate("the journal of shard %d starts at %d, beyond the checkpoint %d", id, bounds.First, marks.Checkpoint.Offset)
		}
		o.shards[id] = s
	}
}

// append adds records to a shard's log and waits until they are durable.
func (o *owner) append(shard uint32, records []modelRecord) {
	data := make([][]byte, len(records))
	for i, r := range records {
		encoded, err := proto.Marshal(r.Record)
		if !o.check("encode record", err) {
			return
		}
		data[i] = encoded
		if r.call != nil {
			o.shards[shard].calls[string(r.Id)] = r.call
		}
	}
	done := make(chan error, 1)
	o.storage.Journal.Append(shard, data, func(_ persistence.Appended, err error) { done <- err })
	o.check("append", <-done)
}

// apply applies the next record of a shard, whoever appended it.
func (o *owner) apply(shard uint32) {
	s := o.shards[shard]
	entries, err := o.storage.Journal.Read(background, shard, s.next, 1)
	if errors.Is(err, persistence.ErrTruncated) {
		o.open() // far behind: the store has what the journal let go of
		return
	}
	if !o.check("read journal", err) || len(entries) == 0 {
		return
	}
	entry := entries[0]
	r, err := decodeRecord(entry.Data)
	if !o.check("decode record", err) {
		return
	}
	s.next = entry.Position.Offset + 1
	m := o.mailbox(shard, r.Mailbox)
	if m == nil {
		return
	}
	m.last = entry.Position
	a := &applied{
		position: entry.Position, user: r.Mailbox, outcome: o.applyTo(m.state, entry, r), call: s.calls[string(r.Id)],
		following: map[*record.Record]bool{},
	}
	delete(s.calls, string(r.Id))
	s.unstored = append(s.unstored, a)
	a.stored = a.outcome.Write.State == nil
	for _, f := range a.outcome.FollowUps {
		a.following[f.Record] = true
		box := &s.outboxes[modelShardOf(f.Mailbox)]
		box.queue = append(box.queue, outgoing{a, f.Record})
	}
	for _, op := range a.outcome.Operations {
		o.show(r.Mailbox, op)
	}
	o.answerAll(s)
	o.advance(s)
}

// applyTo applies a record to a state, with the dedup entry that it asks for.
func (o *owner) applyTo(s *mailbox.State, entry persistence.Entry, r *record.Record) mailbox.Outcome {
	in := mailbox.Input{Position: entry.Position, Time: entry.Time, Record: r}
	if notBefore, needed := s.LookUp(r, entry.Time); needed {
		found, ok, err := o.storage.Store.Dedup(background, modelShardOf(s.User()), s.User(), [persistence.DedupKeySize]byte(r.DedupKey), notBefore)
		if o.check("look up", err) && ok {
			in.Dedup = &found
		}
		o.tally.LookedUp++
	}
	out := s.Apply(in)
	if out.Skipped {
		o.tally.Skipped++
	}
	return out
}

// show has a reader see an operation, which must never be another.
func (o *owner) show(user string, op *record.Operation) {
	at := revision{user, op.Revision}
	before, seen := o.shown[at]
	if seen && before != identity(op) {
		o.violate("revision %d of %s changed: %s, before %s", op.Revision, user, identity(op), before)
	}
	o.shown[at] = identity(op)
}

// mailbox returns a mailbox with its state loaded; nil when it does not load.
func (o *owner) mailbox(shard uint32, user string) *ownedMailbox {
	m := o.mailboxes[user]
	if m == nil {
		m = &ownedMailbox{}
		o.mailboxes[user] = m
	}
	if m.state == nil {
		m.state = o.load(shard, user)
		if m.state != nil && o.keeps(BringForward) {
			o.bringForward(shard, m)
		}
	}
	if m.state == nil {
		return nil
	}
	return m
}

// load loads a state, sometimes with all dedup entries, sometimes with none.
func (o *owner) load(shard uint32, user string) *mailbox.State {
	loaded, err := o.storage.Store.Load(background, shard, user, []int{0, 2, 100}[o.rng.IntN(3)])
	s := mailbox.New(user)
	if !errors.Is(err, persistence.ErrNotFound) {
		if !o.check("load mailbox", err) {
			return nil
		}
		if s, err = mailbox.Decode(user, loaded); !o.check("decode mailbox", err) {
			return nil
		}
	}
	o.markOwner(s)
	return s
}

// bringForward applies again what was applied to the mailbox beyond what was
// stored.
func (o *owner) bringForward(shard uint32, m *ownedMailbox) {
	if !m.state.Position().Less(m.last) {
		return
	}
	bounds, err := o.storage.Journal.Bounds(background, shard)
	if !o.check("journal bounds", err) {
		return
	}
	from := bounds.First
	if p := m.state.Position(); !p.IsZero() {
		from = max(from, p.Offset+1)
	}
	entries, err := o.storage.Journal.Read(background, shard, from, 1<<20)
	if !o.check("read journal", err) {
		return
	}
	for _, entry := range entries {
		r, err := decodeRecord(entry.Data)
		if !o.check("decode record", err) || m.last.Less(entry.Position) {
			return
		}
		if r.Mailbox == m.state.User() {
			o.applyTo(m.state, entry, r)
		}
	}
}

// answerAll answers the calls whose records are applied and followed. That of
// a duplicate waits for the follow-up of the first, which precedes it.
func (o *owner) answerAll(s *ownedShard) {
	for i, a := range s.unstored {
		if a.call == nil {
			continue
		}
		waits := slices.ContainsFunc(s.unstored[:i+1], func(first *applied) bool {
			return !first.followed() && first.outcome.Answer.MessageID == a.outcome.Answer.MessageID
		})
		if waits && o.keeps(AnswerAfterCopy) {
			continue
		}
		c := a.call
		a.call = nil
		o.answered(c, a.outcome.Answer)
	}
}

// advance moves the checkpoint up.
func (o *owner) advance(s *ownedShard) {
	for len(s.unstored) > 0 && s.unstored[0].stored && s.unstored[0].call == nil {
		s.checkpoint = s.unstored[0].position
		s.unstored = s.unstored[1:]
	}
}

// passivate lets go of a mailbox.
func (o *owner) passivate() {
	user := modelUsers[o.rng.IntN(len(modelUsers))]
	busy := slices.ContainsFunc(o.shards[modelShardOf(user)].unstored, func(a *applied) bool { return a.user == user && !a.stored })
	if !busy || !o.keeps(PassivateStored) {
		delete(o.mailboxes, user)
	}
}

// failMailbox has a mailbox fail: its state is gone, but not what the shard
// knows of it.
func (o *owner) failMailbox() {
	if m := o.mailboxes[modelUsers[o.rng.IntN(len(modelUsers))]]; m != nil {
		m.state = nil
	}
}

// truncate frees the space of what is stored.
func (o *owner) truncate(shard uint32) {
	o.mirror()
	checkpoint := o.shards[shard].checkpoint
	if o.keeps(TruncateBelowSynced) {
		marks, err := o.storage.Store.Marks(background, shard)
		if !o.check("read marks", err) {
			return
		}
		checkpoint = marks.Checkpoint
	}
	if !checkpoint.IsZero() {
		o.check("truncate", o.storage.Journal.Truncate(background, shard, checkpoint.Offset+1))
	}
}

// atRest reports whether all that there is was applied, followed and stored.
func (o *owner) atRest() bool {
	for id, s := range o.shards {
		bounds, err := o.storage.Journal.Bounds(background, uint32(id))
		if !o.check("journal bounds", err) || s.next < bounds.Next || len(s.unstored) > 0 || s.writing != nil {
			return false
		}
		for i := range s.outboxes {
			if len(s.outboxes[i].queue) > 0 {
				return false
			}
		}
	}
	return true
}
