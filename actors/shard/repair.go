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
	// Do runs on a worker. Its context ends with the shard: the mailbox is then
	// opened again, here or by another owner. through is the position up to which the records of the
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
	errFailed   = errors.New("the mailbox failed before it came to rest")
	errBehind   = errors.New("the store catches up with what was dropped from memory")
)

const (
	repairInterval = 20 * time.Millisecond
	repairTimeout  = time.Minute
)

// holding is a repair that is under way.
type holding struct {
	*Repair
	// shut: what comes for the mailbox waits, records and commands alike. Those
	// up to through were let in before.
	shut    bool
	through persistence.Position
	// stuck: the mailbox does not load, so that its records wait for the repair.
	stuck   bool
	asked   bool // to be stopped
	running bool
	end     context.CancelFunc // of what runs
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
	if s.behind() && (e == nil || !e.unavailable()) {
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
	s.shut(e)
	s.runRepair(ctx, e)
}

// shut has all wait that comes for a mailbox from now on: commands as if it were
// loading, the rest as if it were being passivated. Nothing is dropped from memory
// until the repair is over: a catch-up remembers states, and is not to go on with
// one from before.
func (s *shardActor) shut(e *entry) {
	s.repairing++
	e.loaded, e.loading, e.passivating = false, true, true
	h := e.holding
	h.shut, h.through = true, s.checkpoint
	if s.next > 0 {
		h.through = persistence.Position{Generation: s.status.generation.Load(), Offset: s.next - 1}
	}
}

// quiet reports whether the store has all records that were let in.
func (e *entry) quiet() bool {
	return len(e.unstored) == 0 || e.holding.through.Less(e.unstored[0].position)
}

// yields reports whether the mailbox may be asked to be stopped: what it had put
// is in the store, and so are its other records that were let in, unless they wait
// for it to load.
func (e *entry) yields() bool {
	return e.quiet() || e.holding.stuck && e.released == 0
}

// storedOf returns the position up to which the store has the records of a
// mailbox that does not load.
func (s *shardActor) storedOf(e *entry) persistence.Position {
	switch {
	case s.checkpoint.Less(e.dropped.through):
		return s.checkpoint
	case e.quiet():
		return e.holding.through
	}
	before := e.unstored[0].position
	if before.Offset--; before.Offset < 0 || before.Less(s.checkpoint) {
		return s.checkpoint
	}
	return before
}

// hold shuts a mailbox, asks it to yield once it is quiet, and looks again until
// it has.
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
	if !h.shut {
		if e.passivating || e.loading {
			return // that ends soon
		}
		h.stuck = e.unavailable()
		s.shut(e)
	}
	if !h.asked && e.yields() {
		h.asked = true
		ctx.Send(e.pid, &passivate{polled: true})
	}
}

// yielded goes on with a mailbox that answered whether it may be stopped.
func (s *shardActor) yielded(ctx actor.Context, e *entry, agreed bool) {
	switch {
	case e.holding.asked && agreed:
		ctx.Stop(e.pid)
		s.runRepair(ctx, e)
	case e.holding.asked:
		e.holding.asked = false // it is asked again
	default: // it was asked before, for being idle
		e.passivating = false
		if agreed {
			ctx.Stop(e.pid)
			s.spawn(ctx, e)
		}
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
// memory.
func (s *shardActor) runRepair(ctx actor.Context, e *entry) {
	h := e.holding
	h.running = true
	if h.stuck {
		h.through = s.storedOf(e)
	}
	root, self, over := ctx.ActorSystem().Root, ctx.Self(), &repaired{s.incarnation, e.name}
	held, end := context.WithCancel(context.Background())
	h.end = end
	if !s.Workers.Page.Submit(func(ctx context.Context) {
		defer end()
		ctx, cancel := context.WithTimeout(ctx, repairTimeout)
		defer cancel()
		defer context.AfterFunc(held, cancel)()
		err := h.Do(ctx, h.through)
		root.Send(self, over)
		h.Done(err)
	}) {
		end()
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
	if h.shut {
		s.repairing--
	}
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
