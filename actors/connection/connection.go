package connection

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
)

// supersedeInterval is how often a device may take over from its own poll.
const supersedeInterval = time.Second

// A poll asks a shard that is not ready again after an eighth of the time for which
// it has not been, within these bounds: a shard that changes hands is ready in a
// moment, and behind one that is not for long thousands of polls may wait.
const (
	minRefetch = 100 * time.Millisecond
	maxRefetch = time.Second
)

var kind = &supervision.Kind{Name: "connection", Receive: "connection.(*connection).Receive"}

// connection is the actor of one device, or of one that reads a chat.
type connection struct {
	*Environment
	parent *actor.PID

	poll  *Start // nil when none is held
	asked bool   // somebody was asked for the poll
	// token names the poll to the owner that was asked; what others answer, or
	// to earlier polls, is ignored.
	token      uint64
	subscribed *actor.PID // who was asked, with the token
	deadline   time.Time  // of the poll
	timer      *time.Timer
	awaySince  time.Time // when the shard was first not ready; zero: it is
	superseded time.Time
	draining   bool
}

// due: the poll has been held for as long as it asked, or the fetch with this
// token is to be made again.
type due struct{ token uint64 }

// leave: the poll of an actor that is draining is to be answered.
type leave struct{}

// drained answers a poll because the process is to end.
func drained(after int64) talk.Page { return talk.Page{Revision: after, Reason: talk.Draining} }

// props are shared by the connection actors of a supervisor.
func props(environment *Environment, parent *actor.PID) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return &connection{Environment: environment, parent: parent}
	}, actor.WithDispatcher(environment.Dispatcher), actor.WithMailbox(actor.UnboundedLockfree()))
}

// Receive implements actor.Actor.
func (c *connection) Receive(ctx actor.Context) {
	defer c.Watchdog.Enter(kind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *Start:
		c.start(ctx, m)
	case *Cancel:
		if c.poll != nil && c.poll.ID == m.ID {
			c.release(ctx)
		}
	case *shard.Fetched:
		c.fetched(ctx, m)
	case *due:
		switch {
		case c.poll == nil || c.token != m.token:
		case time.Now().Before(c.deadline):
			c.fetch(ctx)
		default:
			c.answer(ctx, talk.Page{Revision: c.poll.Poll.After, Reason: talk.Timeout}, nil)
		}
	case *Drain:
		c.draining = true
		if c.poll != nil {
			c.drainAfter(ctx, m.Over)
		}
	case *leave:
		if c.poll != nil {
			c.answer(ctx, drained(c.poll.Poll.After), nil)
		}
	case *retire:
		ctx.Send(c.parent, &retired{key: m.key, agreed: c.poll == nil})
	case *actor.Restarting, *actor.Stopping:
		if c.poll != nil {
			c.answer(ctx, talk.Page{}, refusal.After(refusal.NotReady, time.Second))
		}
	}
}

// start takes a poll, which ends the one that is held.
func (c *connection) start(ctx actor.Context, m *Start) {
	if c.draining {
		m.Poll.Answer(drained(m.Poll.After), nil)
		return
	}
	if c.poll != nil {
		now := time.Now()
		if wait := supersedeInterval - now.Sub(c.superseded); wait > 0 {
			m.Poll.Answer(talk.Page{}, refusal.After(refusal.PollTooOften, wait))
			return
		}
		c.superseded = now
		c.answer(ctx, talk.Page{Revision: c.poll.Poll.After, Reason: talk.Superseded}, nil)
	}
	c.poll, c.asked, c.awaySince = m, false, time.Time{}
	c.deadline = time.Now().Add(m.Poll.Timeout)
	c.fetch(ctx)
}

// fetch asks the mailbox; when the poll may be held it is asked again every
// now and then, which renews the subscription.
func (c *connection) fetch(ctx actor.Context) {
	poll := &c.poll.Poll
	if owner := c.Route(cmp.Or(poll.Chat, poll.Session.User)); !owner.Equal(c.subscribed) {
		c.unsubscribe(ctx)
		c.subscribed = owner
		c.token = c.Tokens.Add(1)
	}
	ctx.Send(c.subscribed, &shard.Fetch{
		Session:    poll.Session,
		Chat:       poll.Chat,
		After:      poll.After,
		Limit:      poll.Limit,
		Hold:       poll.Timeout > 0,
		First:      !c.asked,
		Subscriber: ctx.Self(),
		Token:      c.token,
	})
	c.asked = true
	if poll.Timeout > 0 {
		c.dueAfter(ctx, shard.RenewSubscription)
	}
}

// dueAfter has the poll fetched again after d, or answered if its time is up
// before that.
func (c *connection) dueAfter(ctx actor.Context, d time.Duration) {
	root, self, again := ctx.ActorSystem().Root, ctx.Self(), &due{c.token}
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(max(min(d, time.Until(c.deadline)), 0), func() { root.Send(self, again) })
}

// drainAfter has the held poll answered at a random moment within over, unless
// something comes for it before: not all clients are to come back at once.
func (c *connection) drainAfter(ctx actor.Context, over time.Duration) {
	if over <= 0 {
		c.answer(ctx, drained(c.poll.Poll.After), nil)
		return
	}
	root, self := ctx.ActorSystem().Root, ctx.Self()
	time.AfterFunc(rand.N(over), func() { root.Send(self, &leave{}) }) //nolint:gosec // spreads load
}

func (c *connection) fetched(ctx actor.Context, m *shard.Fetched) {
	switch {
	case c.poll == nil || m.Token != c.token:
	case m.Reread:
		c.awaySince = time.Time{}
		c.lost()
		c.fetch(ctx)
	case m.Refusal != nil && m.Refusal.Reason == refusal.NotReady && c.poll.Poll.Timeout > 0:
		// The shard opens somewhere; the poll stays open meanwhile.
		c.lost()
		c.dueAfter(ctx, max(m.Refusal.RetryAfter, c.refetchAfter()))
	case m.Refusal != nil:
		c.subscribed = nil
		c.answer(ctx, talk.Page{}, m.Refusal)
	default:
		c.subscribed = nil
		c.answer(ctx, m.Page, nil)
	}
}

// refetchAfter returns how long to wait for a shard that is not ready. Not all
// that wait for it come back at once.
func (c *connection) refetchAfter() time.Duration {
	now := time.Now()
	if c.awaySince.IsZero() {
		c.awaySince = now
	}
	wait := min(max(now.Sub(c.awaySince)/8, minRefetch), maxRefetch)
	return wait + rand.N(wait/4) //nolint:gosec // spreads load
}

// lost says that the mailbox does not have the poll at the moment.
func (c *connection) lost() {
	if lost := c.poll.Poll.Lost; lost != nil {
		lost()
	}
}

// answer answers the held poll and lets it go.
func (c *connection) answer(ctx actor.Context, page talk.Page, refused *refusal.Refusal) {
	answer := c.poll.Poll.Answer
	c.release(ctx)
	if refused == nil {
		c.Answered(page.Reason)
	}
	answer(page, refused)
}

// release lets the held poll go, and its subscription.
func (c *connection) release(ctx actor.Context) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.unsubscribe(ctx)
	c.poll = nil
}

// unsubscribe tells whoever was asked, and did not answer, that nobody waits any
// more.
func (c *connection) unsubscribe(ctx actor.Context) {
	if c.subscribed != nil {
		ctx.Send(c.subscribed, &shard.Unsubscribe{Session: c.poll.Poll.Session, Chat: c.poll.Poll.Chat, Token: c.token})
	}
	c.subscribed = nil
}
