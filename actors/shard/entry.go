package shard

import (
	"fmt"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/persistence"
)

// entry is a mailbox actor as its shard sees it.
type entry struct {
	name string
	pid  *actor.PID
	// incarnation numbers the instances of the actor. No other instance had the
	// number, whatever its mailbox and its shard's incarnation: an actor's address
	// comes again, and what was meant for one that is gone may still arrive.
	incarnation uint64
	failures    int
	failed      time.Time

	loading  bool // under way; neither that nor loaded: it failed
	loaded   bool
	exists   bool
	stuck    bool // what it needs of the store was not to be had: its records wait
	loadWait time.Duration
	waiting  []*Command // for the mailbox to be loaded

	commands  int // not yet answered
	appending int // admitted and not yet dispatched
	unstored  []*unstoredRecord
	released  int // how many of unstored went to the write-behind actor
	// unstoredCommands counts those of unstored that are remembered in dedup
	// entries.
	unstoredCommands int
	dropped          droppedRecords
	// last is the position of the newest record dispatched to the mailbox: a
	// state that is loaded below it is brought forward from the journal.
	last persistence.Position
	used time.Time
	// passivating: the mailbox was asked to agree to be stopped; what comes
	// for it meanwhile is held.
	passivating bool
	held        []any
	holding     *holding // nil: it is not being repaired
}

// busy reports whether the mailbox has to stay in memory.
func (e *entry) busy() bool {
	if passivateUnstored {
		return e.commands > 0
	}
	return e.commands > 0 || e.appending > 0 || len(e.unstored) > 0
}

// letGo takes the first n of the records out that are not stored.
func (e *entry) letGo(n int) {
	for i := range n {
		if e.unstored[i].isCommand {
			e.unstoredCommands--
		}
		e.unstored[i] = nil
	}
	e.unstored = e.unstored[n:]
	e.released -= n
}

// untold returns the oldest of the records whose outcome is not known; zero if
// there is none.
func (e *entry) untold() persistence.Position {
	for _, u := range e.unstored[e.released:] {
		if !u.applied {
			return u.position
		}
	}
	return persistence.Position{}
}

// unavailable reports whether the mailbox did not load and waits to be loaded
// again: nobody is to wait for that.
func (e *entry) unavailable() bool { return !e.loaded && !e.loading }

// takesNone reports whether commands would wait for a store that is away.
func (e *entry) takesNone() bool { return e.unavailable() || e.loaded && e.stuck }

// entry returns a mailbox's entry; the first call spawns its actor and has its
// state loaded.
func (s *shardActor) entry(ctx actor.Context, name string) *entry {
	e := s.mailboxes[name]
	if e == nil {
		left := s.gone[name]
		e = &entry{name: name, last: left.last, dropped: left.dropped}
		delete(s.gone, name)
		s.mailboxes[name] = e
		s.Loaded.Add(1)
		s.spawn(ctx, e)
		s.arm(ctx)
	}
	e.used = time.Now()
	return e
}

func (s *shardActor) spawn(ctx actor.Context, e *entry) {
	pid, err := ctx.SpawnNamed(s.mailboxProps, e.name)
	if err != nil {
		// The name is still taken: the actor before it is on its way out.
		pid, err = ctx.SpawnNamed(s.mailboxProps, ctx.ActorSystem().ProcessRegistry.NextID()+"/"+e.name)
	}
	if err != nil {
		s.fail(ctx, fmt.Sprintf("mailbox does not start: %v", err))
		return
	}
	e.pid = pid
	s.begin(ctx, e)
}

// begin has a new instance of a mailbox actor loaded.
func (s *shardActor) begin(ctx actor.Context, e *entry) {
	s.instances++
	e.incarnation = s.incarnation<<32 | s.instances
	e.loaded = false
	ctx.Send(e.pid, &begin{e.incarnation})
	s.load(ctx, e)
}

// tell sends a mailbox a message, or holds it while the mailbox is asked to
// passivate.
func (s *shardActor) tell(ctx actor.Context, e *entry, message any) {
	if e.passivating {
		e.held = append(e.held, message)
		return
	}
	ctx.Send(e.pid, message)
}

// forward passes a message on to the mailbox that it is for.
func (s *shardActor) forward(ctx actor.Context, m addressed) {
	s.status.heat.Read(m.mailbox(), time.Now())
	if s.phase == opening || s.phase == replaying {
		m.refuse(refusal.After(refusal.NotReady, 200*time.Millisecond), ctx)
		return
	}
	if _, ok := m.(*Unsubscribe); ok && s.mailboxes[m.mailbox()] == nil {
		return
	}
	if s.stale(m) {
		s.ask(ctx, m)
		return
	}
	s.pass(ctx, m)
}

// pass hands a message to its mailbox.
func (s *shardActor) pass(ctx actor.Context, m addressed) {
	e := s.entry(ctx, m.mailbox())
	if e.unavailable() {
		m.refuse(refusal.After(refusal.StoreUnavailable, time.Second), ctx)
		return
	}
	s.tell(ctx, e, m)
}

// ready lets the commands in that waited for the mailbox.
func (s *shardActor) ready(ctx actor.Context, m *ready) {
	e := s.mailboxes[m.mailbox]
	if e == nil {
		return
	}
	e.loading, e.loaded, e.stuck, e.exists, e.loadWait = false, true, false, m.exists, 0
	waiting := e.waiting
	e.waiting = nil
	for _, c := range waiting {
		if r := s.refuses(); r != nil {
			s.abandon(e)
			c.refuse(r)
			continue
		}
		s.admit(ctx, e, c)
	}
}

// loadFailed refuses the commands that waited, and loads again after a while,
// the records too that were dispatched to the mailbox.
func (s *shardActor) loadFailed(ctx actor.Context, m *loadFailed) {
	e := s.mailboxes[m.mailbox]
	if e == nil {
		return
	}
	if m.untold { // they are in the store, below its checkpoint: open again from there
		s.fail(ctx, "records were truncated before their mailbox was loaded")
		return
	}
	for _, c := range e.waiting {
		s.abandon(e)
		c.refuse(refusal.After(refusal.StoreUnavailable, time.Second))
	}
	e.waiting = nil
	e.loading, e.stuck = false, true
	s.makeRoom(ctx)
	e.loadWait = min(max(e.loadWait*2, minLoadWait), maxLoadWait)
	s.later(ctx, e.loadWait, &loadAgain{incarnation: s.incarnation, mailbox: e.name})
}

// lookUpFailed has commands refused until the records that wait are applied.
func (s *shardActor) lookUpFailed(ctx actor.Context, m *lookUpFailed) {
	if e := s.mailboxes[m.mailbox]; e != nil && len(e.unstored) > 0 {
		e.stuck = true
		s.makeRoom(ctx)
	}
}

// loadAgain loads a mailbox that records wait for. Any other leaves memory until
// it is asked for again.
func (s *shardActor) loadAgain(ctx actor.Context, name string) {
	e := s.mailboxes[name]
	switch {
	case e == nil || !e.unavailable() || e.holding != nil:
	case e.busy():
		s.load(ctx, e)
	default:
		ctx.Stop(e.pid)
		s.leave(e)
	}
}

// leave takes a mailbox out of memory.
func (s *shardActor) leave(e *entry) {
	delete(s.mailboxes, e.name)
	if s.checkpoint.Less(e.last) && !passivateUnstored {
		s.gone[e.name] = departed{last: e.last, dropped: e.dropped}
	}
	s.Loaded.Add(-1)
}

// sweep asks mailboxes that were not used for a while to agree to be stopped;
// when there are too many, those that were used longest ago.
func (s *shardActor) sweep(ctx actor.Context) {
	now := time.Now()
	over := len(s.mailboxes) - s.Limits.MailboxesPerShard
	if over <= 0 && now.Sub(s.swept) < s.Limits.Idle/4 {
		return
	}
	s.swept = now
	var idle []*entry
	for _, e := range s.mailboxes {
		if e.busy() || e.passivating || !e.loaded || (over <= 0 && now.Sub(e.used) < s.Limits.Idle) {
			continue
		}
		idle = append(idle, e)
	}
	if over > 0 && len(idle) > over {
		slices.SortFunc(idle, func(a, b *entry) int { return a.used.Compare(b.used) })
		fresh := idle[over:]
		idle = idle[:over]
		for _, e := range fresh {
			if now.Sub(e.used) >= s.Limits.Idle {
				idle = append(idle, e)
			}
		}
	}
	for _, e := range idle {
		ctx.Send(e.pid, &passivate{})
		e.passivating = true
	}
}

// passivated stops a mailbox that agreed, or goes on with one that did not.
// Nothing was sent to it since it was asked, so nothing can be lost with it.
func (s *shardActor) passivated(ctx actor.Context, m *passivated) {
	e := s.mailboxes[m.mailbox]
	if e == nil || !e.passivating {
		return
	}
	if e.holding != nil {
		s.yielded(ctx, e, m.agreed)
		return
	}
	e.passivating = false
	held := e.held
	e.held = nil
	if m.agreed {
		ctx.Stop(e.pid)
		if len(held) == 0 && len(e.waiting) == 0 && !e.busy() {
			s.leave(e)
			return
		}
		s.spawn(ctx, e)
	} else {
		e.used = time.Now()
	}
	for _, message := range held {
		ctx.Send(e.pid, message)
	}
}

// HandleFailure implements actor.SupervisorStrategy. A mailbox that fails
// outside of apply is restarted with back-off and loses nothing: its records
// are brought forward from the journal. Its queue waits meanwhile. Without its
// write-behind actor a shard cannot know what is stored: it fails itself, and
// opens again.
func (s *shardActor) HandleFailure(system *actor.ActorSystem, supervisor actor.Supervisor, child *actor.PID, _ *actor.RestartStatistics, reason, message any) {
	if child.Equal(s.writer) {
		supervisor.EscalateFailure(reason, message)
		return
	}
	for _, e := range s.mailboxes {
		if !e.pid.Equal(child) {
			continue
		}
		if time.Since(e.failed) > time.Minute {
			e.failures = 0
		}
		e.failed = time.Now()
		e.failures++
		s.Logger.Error("mailbox failed; it is restarted", "shard", s.id, "failures", e.failures, "reason", reason)
		wait := min(minLoadWait<<min(e.failures-1, 10), maxLoadWait)
		root, self, again := system.Root, s.self, &restartMailbox{incarnation: s.incarnation, mailbox: e.name}
		time.AfterFunc(wait, func() { root.Send(self, again) })
		return
	}
	supervisor.StopChildren(child)
}

func (s *shardActor) restartMailbox(ctx actor.Context, name string) {
	e := s.mailboxes[name]
	if e == nil || e.holding != nil && e.holding.running {
		return
	}
	if e.holding != nil && e.holding.shut { // it is loaded with what was to wait
		s.letGo(ctx, e, errFailed)
	}
	if supervisor, ok := ctx.(actor.Supervisor); ok {
		supervisor.RestartChildren(e.pid)
		s.begin(ctx, e)
	}
}
