package connection

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/shard"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
)

// supersedeInterval is how often a device may take over from its own poll.
const supersedeInterval = time.Second

// minRefetch bounds how often a poll asks a shard that is not ready.
const minRefetch = 100 * time.Millisecond

var kind = &supervision.Kind{Name: "connection", Receive: "connection.(*connection).Receive"}

// connection is the actor of one device.
type connection struct {
	*Environment
	parent *actor.PID
	key    string

	poll *Start // nil when none is held
	// token names the newest fetch; answers to older ones are ignored.
	token      uint64
	subscribed *actor.PID // who was asked to hold
	deadline   *time.Timer
	renewal    *time.Timer
	superseded time.Time
	draining   bool
}

type (
	// due: the poll with this id has been held for as long as it asked.
	due struct{ id uint64 }
	// renew: the fetch with this token is to be made again.
	renew struct{ token uint64 }
)

func props(environment *Environment, parent *actor.PID, key string) *actor.Props {
	return actor.PropsFromProducer(func() actor.Actor {
		return &connection{Environment: environment, parent: parent, key: key}
	}, actor.WithDispatcher(environment.Dispatcher))
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
		if c.poll != nil && c.poll.ID == m.id {
			c.answer(ctx, talk.Page{Revision: c.poll.Poll.After, Reason: talk.Timeout}, nil)
		}
	case *renew:
		if c.poll != nil && c.token == m.token {
			c.fetch(ctx)
		}
	case *Drain:
		c.draining = true
		if c.poll != nil {
			c.answer(ctx, talk.Page{Revision: c.poll.Poll.After, Reason: talk.Draining}, nil)
		}
	case *retire:
		ctx.Send(c.parent, &retired{key: c.key, agreed: c.poll == nil})
	case *actor.Restarting, *actor.Stopping:
		if c.poll != nil {
			c.answer(ctx, talk.Page{}, refusal.After(refusal.NotReady, time.Second))
		}
	}
}

// start takes a poll, which ends the one that is held.
func (c *connection) start(ctx actor.Context, m *Start) {
	if c.draining {
		m.Poll.Answer(talk.Page{}, refusal.After(refusal.Stopping, time.Second))
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
	c.poll = m
	if m.Poll.Timeout > 0 {
		root, self, end := ctx.ActorSystem().Root, ctx.Self(), &due{m.ID}
		c.deadline = time.AfterFunc(m.Poll.Timeout, func() { root.Send(self, end) })
	}
	c.fetch(ctx)
}

// fetch asks the mailbox; when the poll may be held it is asked again every
// now and then, which renews the subscription.
func (c *connection) fetch(ctx actor.Context) {
	c.token++
	poll := &c.poll.Poll
	c.subscribed = c.Route(poll.Session.User)
	ctx.Send(c.subscribed, &shard.Fetch{
		Session:    poll.Session,
		After:      poll.After,
		Limit:      poll.Limit,
		Hold:       poll.Timeout > 0,
		Subscriber: ctx.Self(),
		Token:      c.token,
	})
	if poll.Timeout > shard.RenewSubscription {
		c.fetchAfter(ctx, shard.RenewSubscription)
	}
}

// fetchAfter has the poll fetched again after d.
func (c *connection) fetchAfter(ctx actor.Context, d time.Duration) {
	root, self, again := ctx.ActorSystem().Root, ctx.Self(), &renew{c.token}
	c.stop(c.renewal)
	c.renewal = time.AfterFunc(d, func() { root.Send(self, again) })
}

func (c *connection) fetched(ctx actor.Context, m *shard.Fetched) {
	switch {
	case c.poll == nil || m.Token != c.token:
	case m.Reread:
		c.fetch(ctx)
	case m.Refusal != nil && m.Refusal.Reason == refusal.NotReady && c.poll.Poll.Timeout > 0:
		// The shard opens somewhere; the poll stays open meanwhile.
		c.fetchAfter(ctx, max(m.Refusal.RetryAfter, minRefetch))
	case m.Refusal != nil:
		c.subscribed = nil
		c.answer(ctx, talk.Page{}, m.Refusal)
	default:
		c.subscribed = nil
		c.answer(ctx, m.Page, nil)
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
	c.stop(c.deadline)
	c.stop(c.renewal)
	c.deadline, c.renewal = nil, nil
	if c.subscribed != nil && c.poll.Poll.Timeout > 0 {
		ctx.Send(c.subscribed, &shard.Unsubscribe{Session: c.poll.Poll.Session, Token: c.token})
	}
	c.subscribed = nil
	c.poll = nil
}

func (c *connection) stop(timer *time.Timer) {
	if timer != nil {
		timer.Stop()
	}
}
