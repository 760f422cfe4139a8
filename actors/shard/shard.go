package shard

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/tegami-im/tegami/actors/heat"
	"github.com/tegami-im/tegami/actors/refusal"
	"github.com/tegami-im/tegami/actors/supervision"
	"github.com/tegami-im/tegami/actors/talk"
	"github.com/tegami-im/tegami/actors/writebehind"
	"github.com/tegami-im/tegami/persistence"
)

// Environment is what all shards of a node share.
type Environment struct {
	Journal persistence.Journal
	Store   persistence.Store
	// Cache is nil where there is none.
	Cache persistence.Cache
	// Publisher takes the events; nil where none are published.
	Publisher persistence.Publisher
	// Route returns the actor that owns a shard.
	Route func(shard uint32) *actor.PID
	// ShardOf returns the shard of a mailbox.
	ShardOf func(mailbox string) uint32
	// SessionEnded is called for each session that ends. It must not block.
	SessionEnded func(talk.Session)
	// Changed is called when a shard has opened or was halted, and Foreign when one
	// that has long been open has read a command that another owner appended: of the
	// owner before it there can be none any more. Nil for nobody. They must not
	// block.
	Changed, Foreign func(shard uint32)
	// Clock is told how far the journal's clock is from this node's, after each
	// append; nil for nobody. It must not block.
	Clock func(ahead time.Duration)
	// Unfit returns why the node takes no commands and appends nothing; nil when it
	// does. A nil Unfit: it always does.
	Unfit func() *refusal.Refusal

	Limits    Limits
	Retention Retention
	Workers   Workers
	// Loaded counts the mailboxes in memory.
	Loaded *atomic.Int64
	// Unstored counts the records in memory that are not yet in the store;
	// Dropped those that left memory before they were.
	Unstored, Dropped *atomic.Int64

	Dispatcher actor.Dispatcher
	Watchdog   *supervision.Watchdog
	Observe    Observer
	Logger     *slog.Logger

	// What fails while a server is away fails for every shard and mailbox.
	openFails, readFails, loadFails supervision.Seldom
}

// Workers run what blocks. Old pages have workers of their own: a reader that
// catches up never slows a live poll. So have loads that the cache answers, and
// writes to it: neither waits for a store that is slow.
type Workers struct {
	Journal, Load, Page, Write *supervision.Workers
	CacheLoad, Cache           *supervision.Workers // for nothing where there is no cache
}

// Limits bound a shard. Whatever would go beyond is refused as Busy.
type Limits struct {
	// CommandsPerShard and CommandsPerMailbox bound the commands that wait for
	// an answer.
	CommandsPerShard, CommandsPerMailbox int
	// FollowUps bounds those that wait to be confirmed: while there are more,
	// commands are refused.
	FollowUps int
	// Unstored bounds the records of a shard in memory that are not yet in the
	// store, those of commands under way included; follow-ups may go beyond.
	// When the store takes no writes, what would go beyond is dropped from
	// memory and read from the journal again.
	Unstored int
	// AppendRecords and AppendBytes bound one append.
	AppendRecords, AppendBytes int
	// MailboxesPerShard is how many mailboxes may stay in memory while they
	// are idle; Idle is for how long.
	MailboxesPerShard int
	Idle              time.Duration
	// TailOperations and TailBytes bound the operations that a mailbox keeps
	// in memory beyond those not yet stored.
	TailOperations, TailBytes int
	// WriteAge and WriteRecords end a write-behind batch.
	WriteAge     time.Duration
	WriteRecords int
	// Tick is how often a shard looks after what is late or idle.
	Tick time.Duration
}

// DefaultLimits suit a node of two cores.
func DefaultLimits() Limits {
	return Limits{
		CommandsPerShard:   4096,
		CommandsPerMailbox: 1024,
		FollowUps:          8192,
		Unstored:           4000,
		AppendRecords:      512,
		AppendBytes:        1 << 20,
		MailboxesPerShard:  64,
		Idle:               time.Minute,
		TailOperations:     64,
		TailBytes:          64 << 10,
		WriteAge:           200 * time.Millisecond,
		WriteRecords:       512,
		Tick:               time.Second,
	}
}

// A Stage is one step of a send.
type Stage uint8

// The stages, in order. Each is timed from the moment the command arrived.
const (
	Appended Stage = iota
	Applied
	Woken
	Answered
)

// Trace follows one command. It is used by one actor after the other, never by
// two at once.
type Trace interface {
	// Stage ends a stage, which began when the one before ended.
	Stage(stage Stage)
	// End ends the trace; refused is the reason of a refusal, else empty.
	End(refused string)
}

// Observer is told how long things took. All functions must be set, quick, and
// safe for concurrent use.
type Observer struct {
	Stage func(Stage, time.Duration)
	// Written is of batches for the store, Cached of those for the cache.
	Written, Cached func(records int, took time.Duration)
}

// phase is what a shard is doing.
type phase uint8

const (
	opening phase = iota
	replaying
	open
	halted // waits for an operator
)

var shardKind = &supervision.Kind{Name: "shard", Receive: "shard.(*shardActor).Receive"}

type shardActor struct {
	*Environment
	id          uint32
	status      *Status
	incarnation uint64

	phase phase
	// draining has whoever waits for the end of a drain. From its beginning on the
	// shard is closing: it takes no commands any more.
	draining []func()
	closing  bool
	// shared is until when another owner is to be reckoned with: see stale.
	openTime, shared time.Time
	asking           endReader
	next             int64  // offset of the next record to dispatch
	version          uint32 // of apply, of the newest Version record seen or queued
	self             *actor.PID
	writer           *actor.PID
	// mailboxProps are shared by all mailboxes.
	mailboxProps *actor.Props
	stopTail     func()
	reported     atomic.Int64 // where the newest append ended that this incarnation is told of
	ticking      bool

	log       appender
	unstored  window
	parked    parked
	mailboxes map[string]*entry
	instances uint64 // of mailbox actors so far
	// gone has the mailboxes that left memory while their newest record lies
	// above the checkpoint: see load.
	gone      map[string]departed
	outboxes  map[uint32]*outbox
	followUps int                   // in all outboxes
	early     map[string]*FollowUps // by source: those that came before the shard was open
	taken     map[string]uint64     // by source: the batch that waits for the journal
	// sequence numbers the batches of follow-ups. It starts anywhere, so that
	// no incarnation takes a confirmation of another's batch for its own.
	sequence uint64
	// copies finds, by message id, records whose follow-up is not confirmed:
	// the answer to a retry waits for it too.
	copies   map[[16]byte]*unstoredRecord
	commands int // not yet answered
	// undispatched are those of the commands that no record was dispatched for.
	undispatched int
	// checkpoint is the position below which all is stored, written the one
	// that the store knows of.
	checkpoint, written persistence.Position
	// front is the position up to which all records have left the window, stored
	// or dropped; dropped that of the newest dropped one.
	front, dropped persistence.Position
	limit          persistence.Position // up to which the dropped ones may be read again
	// put is the position up to which the window was put, told the one that the
	// cache's lane knows of.
	put, told    persistence.Position
	firstDropped int64  // offset of the oldest one, since all was stored
	lag          int64  // how many dropped records the store does not have
	struggling   bool   // the store takes no writes
	drops        uint64 // number of the newest drop
	dropping     bool   // the write-behind actor has not taken it yet
	repairing    int    // repairs that run
	swept        time.Time
}

// Status is what may be known of a shard from outside its actor.
type Status struct {
	open    atomic.Bool
	halted  atomic.Pointer[string]
	ended   atomic.Int64 // end of the log as last heard
	pending atomic.Bool  // a grown message is on its way
	written atomic.Pointer[persistence.Position]
	// generation is that of the log's end as last heard.
	generation atomic.Uint32
	lag        writebehind.Lag
	heat       heat.Counter
}

// Checkpoint returns the checkpoint that was last written to the store, not
// necessarily synced.
func (s *Status) Checkpoint() persistence.Position {
	if written := s.written.Load(); written != nil {
		return *written
	}
	return persistence.Position{}
}

// Lag returns how far the write-behind is behind.
func (s *Status) Lag() *writebehind.Lag { return &s.lag }

// Heat returns what counts how busy the shard is.
func (s *Status) Heat() *heat.Counter { return &s.heat }

// Open reports whether the shard takes commands.
func (s *Status) Open() bool { return s.open.Load() }

// Halted returns why the shard waits for an operator; empty when it does not.
func (s *Status) Halted() string {
	if reason := s.halted.Load(); reason != nil {
		return *reason
	}
	return ""
}

// Props returns the props of a shard actor and the status that it keeps up to
// date. The actor opens its shard when it starts, and again when it is
// restarted.
func Props(id uint32, environment *Environment) (*actor.Props, *Status) {
	status := new(Status)
	var incarnation uint64
	return actor.PropsFromProducer(func() actor.Actor {
		incarnation++
		return &shardActor{
			Environment: environment,
			id:          id,
			status:      status,
			incarnation: incarnation,
			mailboxes:   make(map[string]*entry),
			gone:        make(map[string]departed),
			outboxes:    make(map[uint32]*outbox),
			early:       make(map[string]*FollowUps),
			taken:       make(map[string]uint64),
			copies:      make(map[[16]byte]*unstoredRecord),
			sequence:    rand.Uint64() >> 1, //nolint:gosec // tells apart, guards nothing
			drops:       incarnation << 32,
		}
	}, actor.WithDispatcher(environment.Dispatcher)), status
}

// Receive implements actor.Actor.
func (s *shardActor) Receive(ctx actor.Context) {
	defer s.Watchdog.Enter(shardKind, ctx.Message()).Leave()
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.start(ctx)
	case *actor.Restarting, *actor.Stopping:
		s.stop(ctx)
	case *Command:
		s.command(ctx, m)
	case *FollowUps:
		s.takeFollowUps(ctx, m)
	case *FollowUpsAppended:
		s.followUpsAppended(ctx, m)
	case *applied:
		s.applied(ctx, m)
	case *stored:
		s.stored(ctx, m)
	case *writebehind.Struggling:
		s.struggle(ctx)
	case *writebehind.Dropped:
		s.tookDrop(ctx, m)
	case *Rerouted:
		s.rerouted(ctx, m)
	case *Drain:
		s.drain(ctx, m)
	case *Repair:
		s.repair(ctx, m)
	case addressed: // Fetch, Unsubscribe, Inspect, History
		s.forward(ctx, m)
	case *ready:
		s.ready(ctx, m)
	case *loadFailed:
		s.loadFailed(ctx, m)
	case *lookUpFailed:
		s.lookUpFailed(ctx, m)
	case *unconfirmed:
		s.ask(ctx, m.fetch)
	case *passivated:
		s.passivated(ctx, m)
	case *grown:
		s.status.pending.Store(false)
		s.catchUp(ctx)
	default:
		s.receiveOwn(ctx)
	}
}

// receiveOwn handles what an incarnation sent to itself.
func (s *shardActor) receiveOwn(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *opened:
		if m.incarnation == s.incarnation {
			s.opened(ctx, m)
		}
	case *appended:
		if m.incarnation == s.incarnation {
			s.appended(ctx, m)
		}
	case *logRead:
		if m.incarnation == s.incarnation {
			s.logRead(ctx, m)
		}
	case *endRead:
		if m.incarnation == s.incarnation {
			s.endRead(ctx, m)
		}
	case *tick:
		if m.incarnation == s.incarnation {
			s.tick(ctx)
		}
	case *appendAgain:
		if m.incarnation == s.incarnation {
			s.log.waitTill = time.Time{}
			s.append(ctx)
		}
	case *openAgain:
		if m.incarnation == s.incarnation {
			s.open(ctx)
		}
	case *loadAgain:
		if m.incarnation == s.incarnation {
			s.loadAgain(ctx, m.mailbox)
		}
	case *restartMailbox:
		if m.incarnation == s.incarnation {
			s.restartMailbox(ctx, m.mailbox)
		}
	case *repairDue:
		if e := s.mailboxes[m.mailbox]; m.incarnation == s.incarnation && e != nil {
			s.hold(ctx, e)
		}
	case *repaired:
		if m.incarnation == s.incarnation {
			s.repaired(ctx, m.mailbox)
		}
	}
}

func (s *shardActor) start(ctx actor.Context) {
	s.self = ctx.Self()
	s.mailboxProps = mailboxProps(s.Environment, s.id, s.status)
	s.writer = ctx.Spawn(writebehind.Props(writebehind.Options{
		Shard:      s.id,
		Journal:    s.Journal,
		Store:      s.Store,
		Workers:    s.Workers.Write,
		MaxAge:     s.Limits.WriteAge,
		MaxRecords: s.Limits.WriteRecords,
		Dispatcher: s.Dispatcher,
		Watchdog:   s.Watchdog,
		Logger:     s.Logger,
		Lag:        &s.status.lag,
		Written:    s.Observe.Written,

		Cache:        s.Cache,
		CacheWorkers: s.Workers.Cache,
		Cached:       s.Observe.Cached,

		Publisher: s.Publisher,
	}))
	root, self, status, reported := ctx.ActorSystem().Root, ctx.Self(), s.status, &s.reported
	s.stopTail = s.Journal.Tail(s.id, func(next int64) {
		// The hint costs a message only when none is on its way: neither another
		// hint nor the report of this owner's own append.
		status.ended.Store(next)
		if next > reported.Load() && status.pending.CompareAndSwap(false, true) {
			root.Send(self, &grown{})
		}
	})
	s.open(ctx)
}

// stop answers whoever waits: the records may be in the journal or get there.
func (s *shardActor) stop(ctx actor.Context) {
	s.status.open.Store(false)
	s.stopAsking(ctx)
	if s.stopTail != nil {
		s.stopTail()
	}
	unknown := refusal.After(refusal.OutcomeUnknown, time.Second)
	s.log.each(func(c *Command) { c.refuse(unknown) })
	for _, u := range slices.Concat(s.parked.records, s.unstored.records) {
		if u.command != nil {
			u.command.refuse(unknown)
			u.command = nil
		}
		for _, c := range u.retries {
			c.command.refuse(unknown)
		}
	}
	for _, e := range s.mailboxes {
		for _, c := range e.waiting {
			c.refuse(unknown)
		}
		switch h := e.holding; {
		case h == nil:
		case h.running:
			h.end()
		default:
			h.Done(errNotOpen)
		}
	}
	s.Loaded.Add(-int64(len(s.mailboxes)))
	s.Unstored.Add(-int64(s.unstored.len() + len(s.parked.at)))
	s.Dropped.Add(-s.lag)
	for _, done := range s.draining {
		done()
	}
}

// arm has the shard tick while there is something to look after.
func (s *shardActor) arm(ctx actor.Context) {
	if s.ticking {
		return
	}
	s.ticking = true
	s.later(ctx, s.Limits.Tick, &tick{s.incarnation})
}

// later sends the shard a message after d.
func (s *shardActor) later(ctx actor.Context, d time.Duration, message any) {
	root, self := ctx.ActorSystem().Root, ctx.Self()
	time.AfterFunc(d, func() { root.Send(self, message) })
}

func (s *shardActor) tick(ctx actor.Context) {
	s.ticking = false
	s.append(ctx)
	s.catchUp(ctx)
	s.resendFollowUps(ctx)
	s.sweep(ctx)
	s.dispatched(ctx)
	if len(s.mailboxes) > 0 || s.followUps > 0 || !s.log.idle() {
		s.arm(ctx)
	}
}

// drain finishes once nothing is in flight and all is stored.
func (s *shardActor) drain(ctx actor.Context, m *Drain) {
	s.closing = true
	s.draining = append(s.draining, m.Done)
	s.drained(ctx)
}

func (s *shardActor) drained(ctx actor.Context) {
	if len(s.draining) == 0 {
		return
	}
	if s.phase != halted && (s.phase != open || !s.log.idle() || s.unstored.len() > 0 || s.parked.first() != nil || s.behind() || s.written.Less(s.checkpoint)) {
		ctx.Send(s.writer, &writebehind.Flush{})
		return
	}
	for _, done := range s.draining {
		done()
	}
	s.draining = nil
}
