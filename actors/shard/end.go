package shard

import (
	"context"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/mailbox"
	"github.com/tegami-im/tegami/actors/refusal"
)

// sharing is for how long after its opening, and after a record of another owner,
// a shard reckons with another owner.
const sharing = 10 * time.Second

// foreign takes note of a command that another owner has appended. One of this
// owner whose outcome was unknown, and which nobody waits for any more, looks the
// same.
func (s *shardActor) foreign() {
	now := time.Now()
	s.shared = now.Add(sharing)
	if s.Foreign != nil && now.Sub(s.openTime) > sharing {
		s.Foreign(s.id)
	}
}

// stale reports whether what is asked may have another answer than this owner
// knows, because another owner answers too: the journal tells of its records a
// moment late. A Fetch is none: its answer is a beginning of the right one, or is
// confirmed by itself.
func (s *shardActor) stale(m addressed) bool {
	switch m.(type) {
	case *Inspect, *History:
		return time.Now().Before(s.shared)
	default:
		return false
	}
}

// endReader asks where the log ends, for many at a time: those that come while it
// asks wait for the next answer.
type endReader struct {
	round, next []any
	// behind are those that wait until the log was dispatched so far, in the order
	// of that.
	behind []waiting
}

type waiting struct {
	what  any
	end   int64
	until time.Time
}

// behindLimit is how long one waits for that.
const behindLimit = 2 * time.Second

// maxAsking bounds those that wait.
const maxAsking = 4096

// ask finds out where the log ends for something that must not be answered by an
// owner that is behind it: a *Command for a mailbox that does not exist, a *Fetch
// that knows more than the mailbox, an *Inspect or a *History.
func (s *shardActor) ask(ctx actor.Context, waits any) {
	if len(s.asking.next)+len(s.asking.behind) >= maxAsking {
		s.unasked(ctx, waits, refusal.After(refusal.Busy, time.Second))
		return
	}
	s.asking.next = append(s.asking.next, waits)
	s.readEnd(ctx)
}

func (s *shardActor) readEnd(ctx actor.Context) {
	if len(s.asking.round) > 0 || len(s.asking.next) == 0 {
		return
	}
	s.asking.round, s.asking.next = s.asking.next, nil
	root, self, id, incarnation, journal := ctx.ActorSystem().Root, ctx.Self(), s.id, s.incarnation, s.Journal
	if !s.Workers.Journal.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, journalTimeout)
		defer cancel()
		bounds, err := journal.Bounds(ctx, id)
		root.Send(self, &endRead{incarnation: incarnation, next: bounds.Next, err: err})
	}) {
		s.stopAsking(ctx)
	}
}

// unasked refuses what waited.
func (s *shardActor) unasked(ctx actor.Context, waits any, r *refusal.Refusal) {
	switch m := waits.(type) {
	case *Command:
		if e := s.mailboxes[m.Record.GetMailbox()]; e != nil {
			s.abandon(e)
		}
		m.refuse(r)
	case addressed:
		m.refuse(r, ctx)
	}
}

// stopAsking refuses all that waits.
func (s *shardActor) stopAsking(ctx actor.Context) {
	all := slices.Concat(s.asking.round, s.asking.next)
	for _, w := range s.asking.behind {
		all = append(all, w.what)
	}
	s.asking = endReader{}
	for _, what := range all {
		s.unasked(ctx, what, refusal.After(refusal.NotReady, time.Second))
	}
}

// endRead has what waited go on when the log was dispatched as far as it went.
func (s *shardActor) endRead(ctx actor.Context, m *endRead) {
	round := s.asking.round
	s.asking.round = nil
	until := time.Now().Add(behindLimit)
	for _, what := range round {
		if m.err != nil {
			s.unasked(ctx, what, refusal.After(refusal.NotReady, time.Second))
		} else {
			s.asking.behind = append(s.asking.behind, waiting{what, m.next, until})
		}
	}
	s.log.end = max(s.log.end, m.next)
	s.dispatched(ctx)
	s.catchUp(ctx)
	s.readEnd(ctx)
}

// dispatched has go on what waited for the log to be dispatched so far.
func (s *shardActor) dispatched(ctx actor.Context) {
	if len(s.asking.behind) == 0 {
		return
	}
	now, n := time.Now(), 0
	for _, w := range s.asking.behind {
		late := now.After(w.until)
		if w.end > s.next && !late {
			break
		}
		n++
		if late {
			s.unasked(ctx, w.what, refusal.After(refusal.NotReady, time.Second))
		} else {
			s.confirmed(ctx, w.what)
		}
	}
	if s.asking.behind = s.asking.behind[n:]; len(s.asking.behind) > 0 {
		s.arm(ctx)
	}
}

// confirmed goes on with what waited: this owner is not behind.
func (s *shardActor) confirmed(ctx actor.Context, waits any) {
	switch w := waits.(type) {
	case *Command:
		s.confirmedUnknown(ctx, w)
	case *Fetch:
		fetch := *w
		fetch.confirmed = true
		s.pass(ctx, &fetch)
	case addressed:
		s.pass(ctx, w)
	}
}

// confirmedUnknown refuses a command for a mailbox that does not exist, if nothing
// has come for the mailbox meanwhile.
func (s *shardActor) confirmedUnknown(ctx actor.Context, c *Command) {
	e := s.mailboxes[c.Record.GetMailbox()]
	switch {
	case e == nil || s.refuses() != nil || !e.loaded:
		s.unasked(ctx, c, refusal.After(refusal.NotReady, retryAppend))
	case s.unknown(e, c):
		_, reason := mailbox.Creates(c.Record)
		if !mailbox.IsChat(e.name) {
			reason = refusal.UnknownRecipient
		}
		s.unasked(ctx, c, refusal.Of(reason))
	default:
		s.admit(ctx, e, c)
	}
}
