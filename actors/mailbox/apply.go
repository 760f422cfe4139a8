package mailbox

import (
	"bytes"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/persistence"
)

// decision is what a record comes to, while none of it is done yet: what goes
// wrong on the way leaves the state as it was.
type decision struct {
	core // as it will be
	user string
	in   Input
	// parts are the state's: read here, and changed by what is in changes.
	parts   *parts
	changes []change
	few     [2]change // the room for most

	answer Answer
	// remembered: the answer is kept under the record's dedup key.
	remembered bool
	operation  *record.Operation
	row        persistence.Row // of the operation
	followUps  []FollowUp
	ended      []talk.Session
	// taken is the source position of the follow-up, unless its mailbox is
	// empty.
	taken persistence.Source
	// accountChanged: account, devices or next epoch are not those of
	// accountPart.
	accountChanged bool
	accountPart    []byte
	trimmed        bool
	fault          string
}

// panicOn, unless nil, is called with each record that is decided. Tests plant
// a panic with it.
var panicOn func(*record.Record)

// Apply changes the state by the next record of its mailbox and returns what
// comes of it. It never panics.
func (s *State) Apply(in Input) Outcome {
	if !s.position.Less(in.Position) {
		return Outcome{Skipped: true, Answer: s.recall(in)}
	}
	now := s.logTime(in.Time)
	s.dedup.expire(windowStart(now))
	d := decisions.Get().(*decision)
	*d = s.undecided(in, now)
	s.decide(d, in, now)
	out := s.commit(d)
	*d = decision{} // it leads to what is the mailbox's
	decisions.Put(d)
	return out
}

// decisions are kept for the next record: what decides a record is called
// through its kind, so that each would be an allocation.
var decisions = sync.Pool{New: func() any { return new(decision) }}

// decide decides a record at the mailbox's log time now. What panics is
// refused.
func (s *State) decide(d *decision, in Input, now int64) {
	defer func() {
		if cause := recover(); cause != nil {
			remembered := d.remembered
			*d = s.undecided(in, now)
			if s.skipsPanics() {
				return
			}
			d.remembered = remembered
			d.fail(fmt.Sprintf("%v\n%s", cause, debug.Stack()))
		}
	}()
	k := kindOf(in.Record)
	if key, isCommand := k.commandKey(in.Record); isCommand {
		if stale(in.Record, now) {
			d.answer.Reason = refusal.Stale
			return
		}
		if answer, known := s.answered(in, key, now); known && !dedupOff {
			d.answer = answer
			return
		}
		d.remembered = true
	}
	if panicOn != nil {
		panicOn(in.Record)
	}
	d.run(k, s.sources)
	d.encode()
}

// repeats reports whether the record came to nothing because what it asks for is
// so already.
func (d *decision) repeats() bool {
	return kindOf(d.in.Record).follows && d.answer.Reason == refusal.None && d.operation == nil && len(d.followUps) == 0
}

func (s *State) undecided(in Input, now int64) decision {
	d := decision{core: s.core, user: s.user, in: in, parts: &s.parts, accountPart: s.accountPart}
	d.time = now
	d.version = max(d.version, in.Record.GetApplyVersion())
	return d
}

// run does what the record asks for.
func (d *decision) run(k *kind, sources map[string]persistence.Position) {
	r := d.in.Record
	if d.account == nil && !k.creates {
		d.refuse(k.withoutAccount)
		return
	}
	if k.chat != IsChat(d.user) && !k.anywhere {
		d.fail(fmt.Sprintf("misplaced record: %T", r.GetKind()))
		return
	}
	if k.isMalformed(r) {
		d.fail(fmt.Sprintf("malformed record: %T", r.GetKind()))
		return
	}
	d.answer.Time = d.time
	if k.source != nil {
		d.taken = k.source(r)
		if !sources[d.taken.Mailbox].Less(d.taken.Position) {
			d.taken = persistence.Source{} // taken before
			return
		}
	}
	k.decide(d, r)
}

// refuse makes the record come to nothing but the refusal, when nothing else
// was decided yet.
func (d *decision) refuse(reason refusal.Reason) {
	d.answer = Answer{Reason: reason, Time: d.time}
}

// fail refuses the record for a mistake that is the server's own.
func (d *decision) fail(fault string) {
	d.refuse(refusal.Internal)
	d.taken = persistence.Source{}
	d.changes, d.followUps = nil, nil
	d.fault = fault
}

// operate makes an operation the mailbox's next, or fails.
func (d *decision) operate(operation *record.Operation) bool {
	if d.head == maxRevision {
		d.fail("the mailbox is out of revisions")
		return false
	}
	d.head++
	d.answer.Revision = d.head
	d.row = persistence.Row{Revision: d.head}
	d.operation = operation
	operation.Revision, operation.Time = d.head, d.time
	return true
}

// follow has a record appended for another mailbox, which the caller leaves
// without an id, mailbox and source, unless the decision has failed.
func (d *decision) follow(mailbox string, r *record.Record) {
	if d.fault != "" {
		return
	}
	r.Id = followUpID(d.user+"\x00"+mailbox, d.in.Position)
	r.Mailbox = mailbox
	r.Source = &record.Source{Mailbox: d.user, Generation: d.in.Position.Generation, Offset: d.in.Position.Offset}
	r.ApplyVersion = d.version
	d.followUps = append(d.followUps, FollowUp{Mailbox: mailbox, Record: r})
}

// commit makes the state what was decided. A mailbox without an account is
// left as it is, apart from the position: strangers cannot create one.
func (s *State) commit(d *decision) Outcome {
	s.position = d.in.Position
	out := Outcome{
		Answer:    d.answer,
		FollowUps: d.followUps,
		Repeats:   d.repeats(),
		Ended:     d.ended,
		Write:     persistence.MailboxWrite{Mailbox: s.user, Position: s.position},
		Fault:     d.fault,
	}
	if d.account == nil {
		return out
	}
	s.core, s.accountPart = d.core, d.accountPart
	out.Write.State = s.encode()
	if d.operation != nil {
		out.Operations = []*record.Operation{d.operation}
		out.Write.Rows = []persistence.Row{d.row}
	}
	if d.remembered {
		entry := d.entry()
		s.dedup.add(pack(&entry))
		out.Write.Dedup = []persistence.DedupEntry{entry}
	}
	if d.taken.Mailbox != "" {
		if s.sources == nil {
			s.sources = make(map[string]persistence.Position)
		}
		s.sources[d.taken.Mailbox] = d.taken.Position
		out.Write.Sources = []persistence.Source{d.taken}
	}
	if d.trimmed {
		out.Write.First = s.first
	}
	out.Write.Parts = s.setParts(d.changes)
	return out
}

// entry returns the dedup entry that remembers the answer. The epoch of a
// session takes the message id's place.
func (d *decision) entry() persistence.DedupEntry {
	entry := persistence.DedupEntry{
		Key:       dedupKey(d.in.Record.DedupKey),
		BodyHash:  [persistence.BodyHashSize]byte(d.in.Record.BodyHash),
		MessageID: d.answer.MessageID,
		Time:      d.time,
		Revision:  d.answer.Revision,
		Reason:    uint8(d.answer.Reason),
		Position:  d.in.Position,
	}
	if epoch := d.answer.Session.Epoch; epoch != 0 {
		entry.MessageID = epochID(epoch)
	}
	return entry
}

// answered returns the answer to an earlier command with the record's key.
func (s *State) answered(in Input, key dedupKey, now int64) (Answer, bool) {
	entry, known := s.dedup.find(key)
	if e := in.Dedup; !known && e != nil && e.Key == key && e.Time >= windowStart(now) && e.Position.Less(in.Position) {
		entry, known = pack(e), true
	}
	if !known {
		return Answer{}, false
	}
	return s.answerOf(entry, in.Record), true
}

// recall returns the answer to a record that the state is past already: that
// to an earlier command with its key, or its own. A younger entry, which the
// key got when the first had expired, says nothing about the record.
func (s *State) recall(in Input) Answer {
	key, isCommand := kindOf(in.Record).commandKey(in.Record)
	if !isCommand {
		return Answer{}
	}
	entry, known := s.dedup.find(key)
	if !known && in.Dedup != nil && in.Dedup.Key == key {
		entry, known = pack(in.Dedup), true
	}
	if !known || entry.time() > in.Time {
		return Answer{Reason: refusal.OutcomeUnknown}
	}
	return s.answerOf(entry, in.Record)
}

// answerOf returns the answer that an entry remembers, to a record with its
// key.
func (s *State) answerOf(entry packed, r *record.Record) Answer {
	if !bytes.Equal(entry.bodyHash(), r.GetBodyHash()) {
		return Answer{Reason: refusal.DifferentBody}
	}
	answer := Answer{Reason: entry.reason(), Time: entry.time(), Revision: entry.revision()}
	if session := kindOf(r).session; session == nil {
		answer.MessageID = entry.messageID()
	} else if answer.Reason == refusal.None {
		answer.Session = talk.Session{User: s.user, Device: session(r), Epoch: epochOf(entry.messageID())}
	}
	return answer
}
