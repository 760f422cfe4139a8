package shard

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/record"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// appender is the end of the shard's log as its owner sees it: what waits to
// be appended, what is in flight, how far the log goes.
type appender struct {
	queue    []appendable
	flight   []appendable
	waitTill time.Time // no append before: the last one failed
	reading  bool      // a read of the log is in flight
	full     string    // the mailbox whose next record waits for others to be stored
	end      int64     // offset of the next append, as far as known
	// unsettled are commands whose append landed elsewhere than expected, or
	// whose outcome is unknown, by record id: the log will tell.
	unsettled map[string]*Command
}

// appendable is a record that waits for the journal, with whoever waits for
// it: a client's command or another shard's batch of follow-ups.
type appendable struct {
	record  *record.Record
	data    []byte
	command *Command
	batch   *FollowUps // set on the last record of a batch: confirm it
}

func (a *appender) inFlight() bool { return len(a.flight) > 0 }
func (a *appender) idle() bool     { return len(a.flight) == 0 && len(a.queue) == 0 && !a.reading }

// each calls f for every command that waits for the journal.
func (a *appender) each(f func(*Command)) {
	for _, list := range [][]appendable{a.queue, a.flight} {
		for _, item := range list {
			if item.command != nil {
				f(item.command)
			}
		}
	}
	for _, c := range a.unsettled {
		f(c)
	}
}

// drop forgets everything that waits.
func (a *appender) drop() { a.queue, a.flight, a.unsettled = nil, nil, nil }

// settleLater remembers a command by its record id.
func (a *appender) settleLater(c *Command) {
	if a.unsettled == nil {
		a.unsettled = make(map[string]*Command)
	}
	a.unsettled[string(c.Record.GetId())] = c
}

// take returns the command that waits for a record which was read from the
// log, if one does. The record may be read before its append is reported.
func (a *appender) take(id []byte) *Command {
	if c := a.unsettled[string(id)]; c != nil {
		delete(a.unsettled, string(id))
		return c
	}
	for i := range a.flight {
		if c := a.flight[i].command; c != nil && bytes.Equal(c.Record.GetId(), id) {
			a.flight[i].command = nil
			return c
		}
	}
	return nil
}

// mine reports whether all that the log has beyond next may be the append in
// flight, which is dispatched from memory when it lands.
func (a *appender) mine(next int64) bool {
	return len(a.unsettled) == 0 && len(a.flight) > 0 && a.end <= next+int64(len(a.flight))
}

// command admits a command and queues it for the journal, behind the loading
// of its mailbox.
func (s *shardActor) command(ctx actor.Context, c *Command) {
	s.status.heat.Write(c.Record.GetMailbox(), time.Now())
	if r := s.refuses(); r != nil {
		c.refuse(r)
		return
	}
	// Those admitted and not yet dispatched come to be unstored too.
	s.makeRoom(ctx)
	if s.commands >= s.Limits.CommandsPerShard || s.unstored.len()+s.undispatched >= s.Limits.Unstored || s.followUps >= s.Limits.FollowUps {
		c.refuse(refusal.After(refusal.Busy, 100*time.Millisecond))
		return
	}
	e := s.entry(ctx, c.Record.GetMailbox())
	if e.takesNone() {
		c.refuse(refusal.After(refusal.StoreUnavailable, time.Second))
		return
	}
	if e.commands >= s.Limits.CommandsPerMailbox || s.full(e) {
		c.refuse(refusal.After(refusal.Busy, 100*time.Millisecond))
		return
	}
	e.commands++
	s.commands++
	s.undispatched++
	if !e.loaded {
		e.waiting = append(e.waiting, c)
		return
	}
	s.admit(ctx, e, c)
}

// refuses returns why the shard takes no commands now, nil if it does.
func (s *shardActor) refuses() *refusal.Refusal {
	switch {
	case s.closing:
		return refusal.After(refusal.Stopping, time.Second)
	case s.phase == halted:
		return refusal.Of(refusal.ShardStopped)
	case s.phase != open:
		return refusal.After(refusal.NotReady, 200*time.Millisecond)
	default:
		return s.unfit()
	}
}

// unfit returns why the node is to append nothing.
func (s *shardActor) unfit() *refusal.Refusal {
	if s.Unfit == nil {
		return nil
	}
	return s.Unfit()
}

// admit queues a command whose mailbox is loaded. A recipient that does not
// exist is refused here, which leaves no trace; only an owner that has read
// its log to the end may say so, and none that has a record of the mailbox
// under way.
func (s *shardActor) admit(ctx actor.Context, e *entry, c *Command) {
	if s.unknown(e, c) {
		s.ask(ctx, c)
		return
	}
	e.appending++
	s.queue(appendable{record: c.Record, command: c})
	s.append(ctx)
}

// unknown reports whether the mailbox of a command does not exist, as far as this
// owner has read.
func (*shardActor) unknown(e *entry, c *Command) bool {
	creates, _ := mailbox.Creates(c.Record)
	return !creates && !e.exists && e.appending == 0 && len(e.unstored) == 0
}

// queue has a record go with the next append.
func (s *shardActor) queue(item appendable) {
	s.raise(item.record)
	data, err := proto.Marshal(item.record)
	if err != nil { // only invalid UTF-8 fails, which the API refuses
		s.Logger.Error("record does not encode", "shard", s.id, "error", err)
		if item.command != nil {
			s.settled(item.command)
			item.command.refuse(refusal.Of(refusal.Internal))
		}
		return
	}
	item.data = data
	s.log.queue = append(s.log.queue, item)
}

// finish takes a command that is being answered out of the counts.
func (s *shardActor) finish(e *entry) {
	e.commands--
	s.commands--
}

// abandon takes a command out of the counts that is refused before it is
// queued.
func (s *shardActor) abandon(e *entry) {
	s.undispatched--
	s.finish(e)
}

// settled takes a command out of the counts whose record is not dispatched.
func (s *shardActor) settled(c *Command) {
	if e := s.mailboxes[c.Record.GetMailbox()]; e != nil {
		e.appending--
		s.abandon(e)
	}
}

// append sends what waits to the journal, unless an append is in flight: then
// it waits for that one, and goes together.
func (s *shardActor) append(ctx actor.Context) {
	if s.phase != open || s.log.inFlight() || len(s.log.queue) == 0 {
		return
	}
	if s.unfit() != nil {
		s.arm(ctx) // perhaps it is not for long
		return
	}
	if time.Now().Before(s.log.waitTill) {
		return // appendAgain is on its way
	}
	n, size := 0, 0
	for n < len(s.log.queue) && n < s.Limits.AppendRecords && (n == 0 || size+len(s.log.queue[n].data) <= s.Limits.AppendBytes) {
		size += len(s.log.queue[n].data)
		n++
	}
	s.log.flight = s.log.queue[:n:n]
	s.log.queue = s.log.queue[n:]
	records := make([][]byte, n)
	for i := range records {
		records[i] = s.log.flight[i].data
	}
	root, self, incarnation, clock, sent, reported := ctx.ActorSystem().Root, ctx.Self(), s.incarnation, s.Clock, time.Now(), &s.reported
	s.Journal.Append(s.id, records, func(landed persistence.Appended, err error) {
		if err == nil {
			reported.Store(landed.First.Offset + int64(n))
		}
		if err == nil && clock != nil {
			clock(Ahead(landed.Time, sent, time.Now()))
		}
		root.Send(self, &appended{incarnation: incarnation, landed: landed, err: err})
	})
}

// Ahead returns how far the clock that stamped a record with a log time is ahead
// of this node's, given when the record was sent and reported: 0 when it may have
// been stamped in between, negative when it is behind.
func Ahead(logTime int64, sent, reported time.Time) time.Duration {
	stamped := time.UnixMilli(logTime)
	switch {
	case stamped.After(reported):
		return stamped.Sub(reported)
	case stamped.Before(sent.Truncate(time.Millisecond)):
		return stamped.Sub(sent)
	default:
		return 0
	}
}

const retryAppend = 50 * time.Millisecond

func (s *shardActor) appended(ctx actor.Context, m *appended) {
	flight := s.log.flight
	s.log.flight = nil
	switch {
	case m.err == nil:
		s.landed(ctx, flight, m.landed)
	case errors.Is(m.err, persistence.ErrUnknownOutcome) && takeUnknownForSuccess:
		s.landed(ctx, flight, persistence.Appended{
			First: persistence.Position{Generation: s.status.generation.Load(), Offset: s.next}, Time: time.Now().UnixMilli(),
		})
	case errors.Is(m.err, persistence.ErrUnknownOutcome):
		s.repeat(ctx, flight)
	default:
		s.failed(ctx, flight, m.err)
	}
	s.append(ctx)
	s.catchUp(ctx)
	s.dispatched(ctx)
	s.drained(ctx)
}

// landed dispatches an append that came to lie right behind what was
// dispatched. Anything else was written by another owner in between, and is
// read.
func (s *shardActor) landed(ctx actor.Context, flight []appendable, landed persistence.Appended) {
	contiguous := landed.First.Offset == s.next
	position := landed.First
	if s.wentBack(flight, position) {
		for _, item := range flight {
			if item.command != nil {
				item.command.refuse(refusal.After(refusal.OutcomeUnknown, time.Second))
			}
		}
		s.halt(fmt.Sprintf("the journal went back: records up to offset %d were read, and others lie at %d; restore the journal, or start a new generation (tegami generation)", s.next-1, position.Offset))
		return
	}
	for _, item := range flight {
		if item.batch != nil {
			delete(s.taken, item.batch.Source)
			item.batch.Appended()
		}
		if contiguous {
			s.status.generation.Store(position.Generation)
			s.dispatch(ctx, position, landed.Time, item.record, item.command, false)
		} else if item.command != nil {
			s.log.settleLater(item.command)
		}
		position.Offset++
	}
	s.log.end = max(s.log.end, position.Offset)
}

// wentBack reports whether an append landed where this owner has read other
// records. Those of its own that it has read before their append was reported
// have no command any more.
func (s *shardActor) wentBack(flight []appendable, position persistence.Position) bool {
	for _, item := range flight {
		if item.command != nil && position.Offset < s.next {
			return true
		}
		position.Offset++
	}
	return false
}

// repeat appends again with the same ids what may or may not be in the log. A
// second copy is a duplicate to apply. One that is given away does not: the next
// owner is to be asked.
func (s *shardActor) repeat(ctx actor.Context, flight []appendable) {
	again := make([]appendable, 0, len(flight)+len(s.log.queue))
	now := time.Now()
	for _, item := range flight {
		if item.command != nil && (s.closing || now.After(item.command.Deadline)) {
			s.settled(item.command)
			item.command.refuse(refusal.After(refusal.OutcomeUnknown, time.Second))
			continue
		}
		again = append(again, item)
	}
	s.log.queue = append(again, s.log.queue...)
	s.wait(ctx)
}

// failed answers the commands of an append that did not happen. Follow-ups are
// appended again: they were accepted with what they follow.
func (s *shardActor) failed(ctx actor.Context, flight []appendable, err error) {
	reason := refusal.After(refusal.OutcomeUnknown, time.Second)
	switch {
	case errors.Is(err, persistence.ErrFull):
		reason = refusal.After(refusal.DiskFull, time.Second)
	case errors.Is(err, persistence.ErrBusy):
		reason = refusal.After(refusal.Busy, 100*time.Millisecond)
	case errors.Is(err, persistence.ErrClosed):
		reason = refusal.After(refusal.Stopping, time.Second)
	default:
		s.Logger.Error("append failed", "shard", s.id, "error", err)
	}
	var again []appendable
	for _, item := range flight {
		if item.command == nil {
			again = append(again, item)
			continue
		}
		s.settled(item.command)
		item.command.refuse(reason)
	}
	if !errors.Is(err, persistence.ErrClosed) {
		s.log.queue = append(again, s.log.queue...)
	}
	s.wait(ctx)
}

func (s *shardActor) wait(ctx actor.Context) {
	s.log.waitTill = time.Now().Add(retryAppend)
	s.later(ctx, retryAppend, &appendAgain{s.incarnation})
}
