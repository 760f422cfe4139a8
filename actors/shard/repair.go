package shard

import (
	"context"
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/persistence"
)

// Repair runs a function while a mailbox is held: all its records that were
// dispatched are in the store, it is not in memory, and what comes for it waits.
// Then it is loaded again. Polls of the mailbox come again by themselves.
type Repair struct {
	Mailbox string
	// Deadline is when a mailbox that does not come to rest is left alone.
	Deadline time.Time
	// Do runs on a worker. through is the position up to which the records of the
	// mailbox are in the store.
	Do func(ctx context.Context, through persistence.Position) error
	// Done is called exactly once, from any goroutine, and must not block.
	Done func(error)
}

// Why a repair did not happen.
var (
	errNotOpen  = errors.New("the shard is not open, or stopping")
	errRepaired = errors.New("the mailbox is being repaired")
	errRestless = errors.New("the mailbox did not come to rest in time")
	errBehind   = errors.New("the store catches up with what was dropped from memory")
)

const (
	repairInterval = 20 * time.Millisecond
	repairTimeout  = time.Minute
)

// holding is a repair that is under way.
type holding struct {
	*Repair
	// shut: commands wait for the mailbox to be loaded again.
	shut bool
	// stuck: the mailbox does not load, so that its records wait for the repair.
	stuck   bool
	running bool
}

type (
	repairDue struct {
		incarnation uint64
		mailbox     string
	}
	repaired struct {
		incarnation uint64
		mailbox     string
	}
)

// repair begins to hold a mailbox.
func (s *shardActor) repair(ctx actor.Context, m *Repair) {
	if s.phase != open || len(s.draining) > 0 {
		m.Done(errNotOpen)
		return
	}
	e := s.mailboxes[m.Mailbox]
	if s.behind() && !(e != nil && e.unavailable()) {
		m.Done(errBehind)
		return
	}
	if e != nil && e.holding != nil {
		m.Done(errRepaired)
		return
	}
	if e != nil {
		e.holding = &holding{Repair: m}
		s.hold(ctx, e)
		return
	}
	left := s.gone[m.Mailbox]
	e = &entry{name: m.Mailbox, pid: &actor.PID{}, last: left.last, dropped: left.dropped, holding: &holding{Repair: m}}
	delete(s.gone, m.Mailbox)
	s.mailboxes[m.Mailbox] = e
	s.Loaded.Add(1)
	s.arm(ctx)
	e.shut()
	e.passivating = true
	s.runRepair(ctx, e)
}

// shut has commands wait as if the mailbox were loading.
func (e *entry) shut() { e.holding.shut, e.loaded, e.loading = true, false, true }

// quiet reports whether the store has all records of a mailbox.
func (e *entry) quiet() bool { return e.appending == 0 && len(e.unstored) == 0 }

// hold asks a mailbox to yield once it is quiet, and looks again until it has.
func (s *shardActor) hold(ctx actor.Context, e *entry) {
	h := e.holding
	if h == nil || h.running {
		return
	}
	if time.Now().After(h.Deadline) {
		s.letGo(ctx, e, errRestless)
		return
	}
	if s.behind() && !h.stuck && !e.unavailable() { // the catch-up may wait for one that does not load
		s.letGo(ctx, e, errBehind)
		return
	}
	s.later(ctx, repairInterval, &repairDue{s.incarnation, e.name})
	if e.passivating || e.loading && !h.shut {
		return // it answers soon
	}
	h.stuck = h.stuck || e.unavailable()
	e.shut()
	if e.quiet() || h.stuck {
		e.passivating = true
		ctx.Send(e.pid, &passivate{polled: true})
	}
}

// yielded goes on with a mailbox that answered whether it may be stopped.
func (s *shardActor) yielded(ctx actor.Context, e *entry, agreed bool) {
	switch {
	case !agreed:
		e.passivating = false
		e.deliver(ctx)
	case e.quiet() || e.holding.stuck:
		ctx.Stop(e.pid)
		e.shut()
		s.runRepair(ctx, e)
	default: // follow-ups came meanwhile
		ctx.Stop(e.pid)
		e.holding.shut, e.passivating = false, false
		s.spawn(ctx, e)
		e.deliver(ctx)
	}
}

// deliver sends what was held.
func (e *entry) deliver(ctx actor.Context) {
	held := e.held
	e.held = nil
	for _, message := range held {
		ctx.Send(e.pid, message)
	}
}

// runRepair has a worker repair what the stores have of a mailbox that is not in
// memory. Nothing is dropped from memory meanwhile: the catch-up remembers states,
// and is not to go on with one from before the repair.
func (s *shardActor) runRepair(ctx actor.Context, e *entry) {
	h, through := e.holding, s.checkpoint
	if !h.stuck && s.next > 0 {
		through = persistence.Position{Generation: s.status.generation.Load(), Offset: s.next - 1}
	}
	h.running = true
	s.repairing++
	root, self, end := ctx.ActorSystem().Root, ctx.Self(), &repaired{s.incarnation, e.name}
	if !s.Workers.Page.Submit(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, repairTimeout)
		defer cancel()
		err := h.Do(ctx, through)
		root.Send(self, end)
		h.Done(err)
	}) {
		h.Done(persistence.ErrBusy)
		s.repaired(ctx, e.name)
	}
}

// repaired loads a mailbox again.
func (s *shardActor) repaired(ctx actor.Context, name string) {
	e := s.mailboxes[name]
	if e == nil || e.holding == nil {
		return
	}
	s.repairing--
	e.holding, e.passivating = nil, false
	e.used = time.Now()
	s.spawn(ctx, e)
	e.deliver(ctx)
}

// letGo ends a repair that did not run.
func (s *shardActor) letGo(ctx actor.Context, e *entry, err error) {
	h := e.holding
	e.holding, e.passivating = nil, false
	h.Done(err)
	e.deliver(ctx)
	switch {
	case h.stuck:
		e.loading = false
		s.later(ctx, minLoadWait, &loadAgain{incarnation: s.incarnation, mailbox: e.name})
	case h.shut:
		s.ready(ctx, &ready{mailbox: e.name, exists: e.exists})
	}
}
