package connection

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
)

// Environment is what all connection actors of a node share.
type Environment struct {
	// Route returns the actor that owns the shard of a mailbox.
	Route func(mailbox string) *actor.PID
	// Tokens names polls, each differently from all others of the process.
	Tokens *atomic.Uint64
	// Idle is how long a connection actor stays without a poll.
	Idle time.Duration
	// Answered is told of each poll that was answered with a page. It must be
	// quick and safe for concurrent use.
	Answered   func(talk.Reason)
	Dispatcher actor.Dispatcher
	Watchdog   *supervision.Watchdog
	Logger     *slog.Logger
}

// Messages to a Supervisor.
type (
	// Start hands a poll over. ID tells polls apart, for Cancel.
	Start struct {
		ID   uint64
		Poll talk.Poll
	}
	// Cancel forgets a poll: nobody waits for its answer.
	Cancel struct {
		ID                 uint64
		User, Device, Chat string
	}
	// Drain answers every held poll with Draining, at a random moment within
	// Over, and any that comes at once.
	Drain struct{ Over time.Duration }
)

type (
	sweep struct{ incarnation uint64 }
	// retire asks a connection actor to agree to be stopped.
	retire struct{ key string }
	// retired answers it.
	retired struct {
		key    string
		agreed bool
	}
)

var supervisorKind = &supervision.Kind{Name: "connection.supervisor", Receive: "connection.(*supervisor).Receive"}

// supervisor owns a part of the node's connection actors. It is the only one
// that sends them polls, so that none is lost when one is stopped.
type supervisor struct {
	*Environment
	incarnation uint64
	props       *actor.Props
	children    map[string]*child
	draining    bool
	sweeping    bool
}

type child struct {
	pid      *actor.PID
	used     time.Time
	retiring bool
	held     []any
}

// SupervisorProps returns the props of a supervisor of connection actors. A
// connection actor that fails is restarted at once; the poll that it held ends
// with its client's patience, and the next one finds it whole.
func SupervisorProps(environment *Environment) *actor.Props {
	var incarnation uint64
	return actor.PropsFromProducer(func() actor.Actor {
		incarnation++
		return &supervisor{Environment: environment, incarnation: incarnation, children: make(map[string]*child)}
	}, actor.WithSupervisor(actor.NewRestartingStrategy()), actor.WithDispatcher(environment.Dispatcher))
}

// Receive implements actor.Actor.
func (s *supervisor) Receive(ctx actor.Context) {
	defer s.Watchdog.Enter(supervisorKind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.props = props(s.Environment, ctx.Self())
	case *Start:
		s.start(ctx, m)
	case *Cancel:
		if c := s.children[key(m.User, m.Device, m.Chat)]; c != nil {
			s.tell(ctx, c, m)
		}
	case *Drain:
		s.draining = true
		for _, c := range s.children {
			s.tell(ctx, c, m)
		}
	case *sweep:
		if m.incarnation == s.incarnation {
			s.sweep(ctx)
		}
	case *retired:
		s.retired(ctx, m)
	}
}

// key names what holds one poll at a time: a device, and a chat where one is
// read.
func key(user, device, chat string) string { return user + "/" + device + "/" + chat }

func (s *supervisor) start(ctx actor.Context, m *Start) {
	if s.draining {
		m.Poll.Answer(drained(m.Poll.After), nil)
		return
	}
	name := key(m.Poll.Session.User, m.Poll.Session.Device, m.Poll.Chat)
	c := s.children[name]
	if c == nil {
		c = &child{pid: ctx.Spawn(s.props)}
		s.children[name] = c
	}
	c.used = time.Now()
	s.tell(ctx, c, m)
	s.arm(ctx)
}

func (s *supervisor) tell(ctx actor.Context, c *child, message any) {
	if c.retiring {
		c.held = append(c.held, message)
		return
	}
	ctx.Send(c.pid, message)
}

func (s *supervisor) arm(ctx actor.Context) {
	if s.sweeping {
		return
	}
	s.sweeping = true
	root, self, due := ctx.ActorSystem().Root, ctx.Self(), &sweep{s.incarnation}
	time.AfterFunc(s.Idle/2, func() { root.Send(self, due) })
}

// sweep asks the connection actors that had no poll for a while to retire.
func (s *supervisor) sweep(ctx actor.Context) {
	s.sweeping = false
	now := time.Now()
	for key, c := range s.children {
		if !c.retiring && now.Sub(c.used) >= s.Idle {
			ctx.Send(c.pid, &retire{key})
			c.retiring = true
		}
	}
	if len(s.children) > 0 {
		s.arm(ctx)
	}
}

func (s *supervisor) retired(ctx actor.Context, m *retired) {
	c := s.children[m.key]
	if c == nil || !c.retiring {
		return
	}
	c.retiring = false
	held := c.held
	c.held = nil
	if m.agreed {
		ctx.Stop(c.pid)
		if len(held) == 0 {
			delete(s.children, m.key)
			return
		}
		c.pid = ctx.Spawn(s.props)
	} else {
		c.used = time.Now()
	}
	for _, message := range held {
		ctx.Send(c.pid, message)
	}
}
